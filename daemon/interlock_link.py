"""The daemon's end of one interlock's control socket: sends commands, keeps the newest StimState."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

from control.exposure import PULSE_GRACE_S
from control.pulse_plan import PulseNews
from eegloop.errors import InterlockError
from eegloop.ports import Clock
from eegloop.stim import StimCommand, StimState

MAX_PACKET_BYTES = 16 * 1024
SILENT_AFTER_S = 0.3  # no StimState for this long: the output is unknown (issue 4 of safety: "switch the stimulator off")
EXPIRES_AFTER_NS = 300_000_000
PULSE_GRACE_NS = round(PULSE_GRACE_S * 1e9)


class InterlockLink:
    """One connection to one interlock.

    Sequence numbers, session and nonce are filled in here, so that what decides (`daemon/loop.py`) stays free of
    them and replays exactly. Nothing here blocks: a full socket means the interlock is not reading, and then the
    lease lapses by itself, which is the right outcome.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._session = ""
        self._nonce = ""
        self._fresh: list[StimState] = []
        self._refusals: list[dict[str, Any]] = []
        self._deadlines_ns: dict[int, int] = {}  # of pulses asked for and not answered yet, by sequence
        self._pulses_ns: list[int] = []
        self._pulses: list[PulseNews] = []
        self.state: StimState | None = None
        self.state_at_s = float("-inf")

    async def connect(self, timeout_s: float) -> None:
        """Connect and wait for the first state.

        Raises
        ------
        InterlockError
            If the interlock does not answer within `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        end_s = self._clock.lsl_s() + timeout_s
        while self._socket is None:
            candidate = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            candidate.setblocking(False)
            try:
                candidate.connect(str(self._path))
                self._socket = candidate
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                candidate.close()
                if self._clock.lsl_s() > end_s:
                    raise InterlockError(
                        f"the interlock does not answer at {self._path}; its log is in the seat's folder"
                    ) from None
                await asyncio.sleep(0.01)
        loop.add_reader(self._socket.fileno(), self._read)
        while self.state is None:
            if self._clock.lsl_s() > end_s or self._socket is None:
                raise InterlockError(f"the interlock at {self._path} says nothing; is another daemon connected to it?")
            await asyncio.sleep(0.005)

    @property
    def sequence(self) -> int:
        """Number of the last command sent."""
        return self._sequence

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def silent(self) -> bool:
        """True when the output must be called unknown."""
        return self._clock.lsl_s() - self.state_at_s > SILENT_AFTER_S

    @property
    def armed_session(self) -> str:
        """The session whose nonce we hold, "" when not armed."""
        return self._session if self._nonce else ""

    def take(self) -> tuple[StimState, ...]:
        """States since the last call, oldest first."""
        if self._socket is not None:
            self._read()  # after a stall the newest may still wait in the socket
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def take_refusals(self) -> tuple[dict[str, Any], ...]:
        refusals, self._refusals = tuple(self._refusals), []
        return refusals

    def take_pulse_times(self) -> tuple[int, ...]:
        """When magnetic pulses (or bursts) begin that the interlock may give or has given, CLOCK_BOOTTIME ns, since the last call.

        Told when asked for, before the samples around it are there, and again if it came at another time than that.
        """
        pulses, self._pulses_ns = tuple(self._pulses_ns), []
        return pulses

    def pulse(self, deadline_ns: int) -> bool:
        """Ask for one pulse (or burst) at a CLOCK_BOOTTIME instant; its strength and the train around it are the signed ones."""
        if not self._nonce or not self._send("pulse", expires_ns=deadline_ns + PULSE_GRACE_NS, deadline_ns=deadline_ns):
            return False
        self._deadlines_ns[self._sequence] = deadline_ns
        self._pulses_ns.append(deadline_ns)
        return True

    def arm(self, session: str, halts: int) -> bool:
        """`halts`: the STOPs and trips the session knows of; the interlock refuses if there was another since."""
        self._session, self._nonce = session, ""
        self._deadlines_ns.clear()
        return self._send("arm", halts=halts)

    def heartbeat(self, tick: int, tick_ns: int) -> bool:
        return bool(self._nonce) and self._send("heartbeat", tick=tick, tick_ns=tick_ns)

    def set(self, tick: int, tick_ns: int, block: str, amplitude_ma: float, frequency_hz: float) -> bool:
        return bool(self._nonce) and self._send(
            "set", tick=tick, tick_ns=tick_ns, block=block, amplitude_ma=amplitude_ma, frequency_hz=frequency_hz
        )

    def take_pulses(self) -> tuple[PulseNews, ...]:
        """What became of pulses since the last call, oldest first."""
        news, self._pulses = tuple(self._pulses), []
        return news

    def fallback(self, reason: str) -> bool:
        return self._send("fallback", reason=reason)

    def end(self) -> bool:
        return self._send("end")

    def stop(self, reason: str) -> bool:
        return self._send("stop", reason=reason)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _send(self, kind: str, **fields: Any) -> bool:
        if self._socket is None:
            return False
        self._sequence += 1
        command = StimCommand(
            kind,
            sequence=self._sequence,
            session=self._session,
            nonce=self._nonce,
            **{"expires_ns": self._clock.boot_ns() + EXPIRES_AFTER_NS, **fields},
        )
        try:
            self._socket.send(command.to_json())
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _read(self) -> None:
        assert self._socket is not None
        while True:
            try:
                packet = self._socket.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self.close()
                return
            self._accept(json.loads(packet))
            if self._socket is None:
                return

    def _accept(self, packet: dict[str, Any]) -> None:
        match packet.get("type"):
            case "state":
                self.state = StimState.from_json({k: v for k, v in packet.items() if k != "type"})
                self.state_at_s = self._clock.lsl_s()
                self._fresh.append(self.state)
                del self._fresh[:-100]
                if self.state.mode == "stopped":
                    self._nonce = ""
            case "armed" if packet.get("session") == self._session:
                self._nonce = str(packet["nonce"])
            case "pulse":
                deadline_ns = self._deadlines_ns.pop(int(packet["sequence"]), None)
                if deadline_ns is not None and packet["outcome"] == "late":
                    self._pulses_ns.append(deadline_ns + int(packet["error_us"]) * 1000)
                self._pulses.append(PulseNews(int(packet["sequence"]), str(packet["outcome"]), int(packet["error_us"])))
                del self._pulses[:-100]
            case "refused":
                self._deadlines_ns.pop(int(packet.get("sequence", 0)), None)
                self._refusals.append(packet)
                del self._refusals[:-100]
