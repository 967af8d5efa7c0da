"""The interlock's loop with a clock that stands still, a stimulator on paper and a log in memory: each turn is the test's."""

from __future__ import annotations

import json
import select
import selectors
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit, Prescription, StimCommand
from interlock import loop as loop_module
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import Rules, rules
from interlock.loop import Loop
from interlock.refusals import MS
from tests.interlock_bench import DEVICE, PULSES, START_NS, WALL_S, make_prescription


class Paper:
    """A stimulator's driver that writes down what it is told, and says what the test wants."""

    def __init__(self) -> None:
        self.serial = ""
        self.free_ns = 0
        self.limits: tuple[Limit, ...] = (*DEVICE, *PULSES)
        self.told: list[Any] = []
        self.said = DeviceReport(output_ma=0.0, t_ns=0, connected=True, armed=False, fault="")
        self.line, self.far = socket.socketpair()
        self.line.setblocking(False)
        self.fd = -1
        self.why_not: Exception | None = None
        self.breaks_at = ""
        self.polls = 0

    def _tell(self, what: Any) -> None:
        self.told.append(what)
        if self.breaks_at and self.breaks_at in (what, what[0]):
            self.fd = -1
            self.say(connected=False)

    def connect(self) -> None:
        self._tell("connect")
        if self.why_not is not None:
            raise self.why_not
        self.fd = self.line.fileno()

    def fileno(self) -> int:
        return self.fd

    def arm(self) -> None:
        self._tell("arm")

    def disarm(self) -> None:
        self._tell("disarm")

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        self._tell(("output", amplitude_ma, frequency_hz, lease_ms))

    def fire(self) -> None:
        self._tell("fire")

    def zero(self) -> None:
        self._tell("zero")

    def close(self) -> None:
        self._tell("close")

    def poll(self) -> DeviceReport:
        self.polls += 1
        return self.said

    def say(self, **changes: Any) -> None:
        fields = {"output_ma": 0.0, "t_ns": 0, "connected": True, "armed": False, "fault": ""}
        self.said = DeviceReport(**{**fields, **changes})


class Paperlog:
    """A log in memory: `fault` is what the test says, `written` too."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any], int, float]] = []
        self.wrong = ""
        self.written = 0
        self.closed_s: list[float] = []

    def put(self, event: str, data: dict[str, Any], boot_ns: int, wall_s: float) -> None:
        self.lines.append((event, data, boot_ns, wall_s))

    def fault(self, _now_ns: int) -> str:
        return self.wrong

    def close(self, timeout_s: float) -> None:
        self.closed_s.append(timeout_s)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [data for name, data, _, _ in self.lines if name == event]


class Selected:
    """A selector that does not wait: it notes for how long it would have, and says what is ready now."""

    def __init__(self, real: selectors.DefaultSelector) -> None:
        self.real = real
        self.waits_s: list[float] = []

    def select(self, timeout_s: float) -> Any:
        self.waits_s.append(timeout_s)
        return self.real.select(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Still:
    """A loop at `now_ns`, with nobody there; `pass_ns` lets time go on, each look at the clock `look_ns` of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, prescription: Prescription | None = None) -> None:
        self.now_ns = START_NS
        self.look_ns = 0
        self.patched = monkeypatch
        self.slept_s: list[float] = []
        self.on_sleep: Any = lambda: None
        monkeypatch.setattr(loop_module, "boot_ns", self.look)
        clocks = {"time_ns": self.wall_ns, "time": lambda: self.wall_ns() / 1e9, "monotonic_ns": lambda: self.now_ns}
        clocks |= {"monotonic": lambda: self.now_ns / 1e9, "sleep": self.sleep}
        monkeypatch.setattr(loop_module, "time", SimpleNamespace(**clocks))
        self.prescription = prescription or make_prescription()
        self.driver = Paper()
        self.log, self.ledger = Paperlog(), Paperlog()
        self.judge = Judge(self.rules(self.driver.limits), "simulated", "measured", Book("boot", True), START_NS)
        self.asked: list[str] = []
        self.codes: list[tuple[int, int] | str] = []
        self.objection = ""
        self.paths = folder / "control.sock", folder / "stop.sock"
        self.loop = Loop(
            self.judge,
            self.driver,
            self.log,
            self.ledger,
            *self.paths,
            self.rules_for,
            self.start_code,
            self.withdrawn,  # type: ignore[arg-type]
        )
        self.selected = Selected(self.loop.selector)  # type: ignore[arg-type]
        self.loop.selector = self.selected  # type: ignore[assignment]
        self.ends: list[socket.socket] = []
        self.sequence = 0

    def look(self) -> int:
        self.now_ns += self.look_ns
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns - START_NS + WALL_S * 10**9

    def sleep(self, s: float) -> None:
        self.slept_s.append(s)
        self.now_ns += round(s * 1e9)
        self.on_sleep()

    def rules(self, device: tuple[Limit, ...] = DEVICE) -> Rules:
        return rules(self.prescription, None, device)

    def rules_for(self, device: tuple[Limit, ...]) -> Rules:
        self.asked.append("rules")
        return self.rules(device)

    def start_code(self) -> tuple[int, int] | str:
        self.asked.append("code")
        return self.codes.pop(0) if self.codes else "none"

    def withdrawn(self, armed_ns: int, now_ns: int) -> str:
        assert armed_ns <= now_ns
        return self.objection

    # ---- who is there ----

    def connect(self, kind: socket.SocketKind = socket.SOCK_SEQPACKET) -> socket.socket:
        """Somebody connects: a daemon, or (SOCK_STREAM) who presses STOP."""
        end = socket.socket(socket.AF_UNIX, kind)
        end.connect(str(self.paths[kind == socket.SOCK_STREAM]))
        end.setblocking(False)
        self.ends.append(end)
        return end

    def press(self, words: bytes = b"") -> socket.socket:
        end = self.connect(socket.SOCK_STREAM)
        if words:
            end.send(words)
        return end

    def daemon(self) -> socket.socket:
        end = self.connect()
        self.loop._accept_daemon()
        return end

    def device(self) -> None:
        """The stimulator is there, at rest, and has been heard."""
        if self.loop.device_fd < 0:
            self.loop._connect_device(self.now_ns)
        self.hear()

    def hear(self, **changes: Any) -> None:
        self.now_ns += 1
        self.driver.say(**{"t_ns": self.now_ns, **changes})
        self.loop._hear_device()

    def make(self, kind: str, **changes: Any) -> StimCommand:
        self.sequence += 1
        fields: dict[str, Any] = {"kind": kind, "sequence": self.sequence, "session": "s1", "nonce": self.judge.nonce}
        fields |= {"expires_ns": self.now_ns + 1000 * MS, "halts": self.judge.halts}
        if kind in ("heartbeat", "set"):
            fields |= {"tick": self.sequence, "tick_ns": self.now_ns}
        if kind == "set":
            fields |= {"block": "stimulate", "amplitude_ma": 1.0, "frequency_hz": self.prescription.frequency_hz}
        return StimCommand(**{**fields, **changes})

    def armed(self) -> None:
        """A session is armed, and the stimulator has said that it is."""
        self.device()
        self.loop._do(self.judge.tick(self.now_ns, self.wall_ns(), self.now_ns))
        self.loop._do(self.judge.command(self.make("arm"), "nonce", self.now_ns))
        assert self.judge.mode == "armed", self.judge.refusal
        self.hear(armed=True)
        assert self.judge.device_armed

    def close(self) -> None:
        for end in (*self.ends, *(stopper.connection for stopper in self.loop.stoppers), self.driver.line, self.driver.far):
            end.close()
        for own in (self.loop.stop_listener, self.loop.control_listener, self.loop.waker, self.loop.wake, self.loop.client):
            if own is not None:
                own.close()
        self.selected.real.close()


def packets(end: socket.socket) -> list[dict[str, Any]]:
    """Everything that has come to this end; a last `{}` says that it was closed."""
    found: list[dict[str, Any]] = []
    while select.select([end], [], [], 0)[0]:
        packet = end.recv(65_536)
        if not packet:
            return [*found, {}]
        found += [json.loads(line) for line in packet.splitlines()]
    return found


OFF = DeviceError("it is switched off")
