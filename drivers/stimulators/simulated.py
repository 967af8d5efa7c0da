"""Driver of the simulated stimulator (simulators/stimulators/simulated.py): JSON packets over a socket."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from drivers.stimulators.packet_socket import PacketSocket
from eegloop.stim import DeviceReport, Limit

READBACK = "measured"
STOPS_ALONE_S = 0.4
LIMITS = (
    Limit("amplitude_ma", 2.0, "mA", "device"),
    Limit("frequency_hz", 45.0, "Hz", "device"),
    Limit("intensity_percent", 100.0, "%", "device"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """`socket`: path of the simulator's socket; "" = the seat's own."""

    socket: str = ""


class SimulatedStimulator:
    """One connection to the simulator; see `eegloop.ports.Stimulator` and docs/contracts.md section 4."""

    def __init__(self, path: str) -> None:
        self.readback = READBACK
        self.stops_alone_s = STOPS_ALONE_S
        self.limits: tuple[Limit, ...] = LIMITS
        self.serial = ""
        self.free_ns = 0  # a socket: nothing waits on a wire
        self._line = PacketSocket(path, "simulated stimulator", "start it with `eegloop simulate stimulator simulated`")
        self._report = DeviceReport(None, 0, connected=False, armed=False)

    def connect(self) -> None:
        """Connect and ask who is there.

        Raises
        ------
        DeviceError
            If nothing listens.
        """
        self.close()
        self._line.connect()
        self._report = DeviceReport(None, 0, connected=True, armed=False)
        self._send({"cmd": "identify"})

    def fileno(self) -> int:
        return self._line.fileno()

    def arm(self) -> None:
        self._send({"cmd": "arm"})

    def disarm(self) -> None:
        self._send({"cmd": "disarm"})

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        self._send({"cmd": "output", "amplitude_ma": amplitude_ma, "frequency_hz": frequency_hz, "lease_ms": lease_ms})

    def fire(self) -> None:
        """One pulse or burst, now."""
        self._send({"cmd": "fire"})

    def zero(self) -> None:
        self._send({"cmd": "zero"})

    def poll(self) -> DeviceReport:
        """The newest report; what cannot be understood is dropped, so that garbage counts as silence."""
        packets = self._line.receive()
        if not self._line.connected:
            self.close()
            return self._report
        for packet in packets if not self.serial else packets[:0]:
            self._identify(packet)
        for packet in reversed(packets) if self.serial else ():  # until it has said its maximum, nothing it says lets anybody arm
            report = _read_report(packet)
            if report is not None:
                self._report = report
                break
        return self._report

    def close(self) -> None:
        self._line.close()
        self.serial = ""
        self._report = DeviceReport(None, self._report.t_ns, connected=False, armed=False)

    def _identify(self, packet: bytes) -> None:
        body = _read(packet)
        most_ma, serial = _number(body.get("max_ma")), body.get("serial")
        if body.get("type") == "identity" and most_ma is not None and isinstance(serial, str):
            own = min(LIMITS[0].value, most_ma) if most_ma >= 0.0 else 0.0
            self.limits = (Limit("amplitude_ma", own, "mA", "device"), *LIMITS[1:])
            self.serial = serial

    def _send(self, body: dict[str, Any]) -> None:
        """Never waits. A full socket drops the packet: the device's own lease then ends its output."""
        if self._line.connected:
            self._line.send(json.dumps(body, separators=(",", ":")).encode())
            if not self._line.connected:
                self.close()


def _read(packet: bytes) -> dict[str, Any]:
    try:
        body = json.loads(packet)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _read_report(packet: bytes) -> DeviceReport | None:
    match _read(packet):
        case {"type": "report", "amplitude_ma": value, "boot_ns": int(boot_ns), "armed": bool(armed), "fault": str(fault)}:
            amplitude_ma = _number(value)
            if amplitude_ma is not None:
                return DeviceReport(amplitude_ma, boot_ns, connected=True, armed=armed, fault=fault[:200])
    return None


def _number(value: object) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def build(settings: Settings, default_endpoint: str) -> SimulatedStimulator:
    """The driver; `default_endpoint` is the seat's stimulator socket."""
    return SimulatedStimulator(settings.socket or default_endpoint)
