"""Tells lab software over LSL what it should give, one JSON marker an event; a bridge process holds the outlet.

Nothing comes back: `readback` is "none", the output is never known, the page shows NOT CONFIRMED. So the interlock, which arms
only what has confirmed zero, never arms it: it is no real session's actuator, in a service it runs beside `observe`. If the
bridge dies too, the lab software gets no more markers and may go on for ever: not covered by the safety case.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from drivers.stimulators.packet_socket import PacketSocket
from eegloop.stim import DeviceReport, Limit

READBACK = "none"
STOPS_ALONE_S = float("inf")
LIMITS = (Limit("amplitude_ma", 2.0, "mA", "device"), Limit("frequency_hz", 45.0, "Hz", "device"))
MARK_NS = 50_000_000
LONGEST_LEASE_MS = 400


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Settings:
    """`name`: of the LSL stream (type Markers); `socket`: path of the bridge's socket, "" = the seat's own."""

    name: str = "eegloop-stimulation"
    socket: str = ""


class LslMarkers:
    """One outlet's driver; see `eegloop.ports.Stimulator` and the module's text."""

    def __init__(self, path: str, clock: Callable[[], int] = boot_ns) -> None:
        self.readback, self.stops_alone_s, self.limits = READBACK, STOPS_ALONE_S, LIMITS
        self.serial = ""
        self._line = PacketSocket(path, "lsl_markers", "its bridge is not there; the service starts it")
        self._clock = clock
        self._told: tuple[str, float, float] = ("", 0.0, 0.0)
        self._told_ns = 0

    def connect(self) -> None:
        """Connect to the bridge; raises DeviceError if there is none."""
        self._line.connect()
        self._mark("zero")

    def fileno(self) -> int:
        return self._line.fileno()

    def arm(self) -> None:
        self._mark("arm")

    def disarm(self) -> None:
        self._mark("disarm")

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """A marker when the amplitude has changed, at most every 50 ms; repeated so that the bridge's own lease holds."""
        now_ns = self._clock()
        if lease_ms > 0 and 0.0 <= amplitude_ma <= LIMITS[0].value and now_ns - self._told_ns >= MARK_NS:
            self._mark("output", amplitude_ma, frequency_hz, min(lease_ms, LONGEST_LEASE_MS))

    def zero(self) -> None:
        if self._told[0] not in ("zero", "disarm"):
            self._mark("zero")

    def poll(self) -> DeviceReport:
        """Connected or not; what is given is never known."""
        self._line.receive()
        return DeviceReport(None, 0, connected=self._line.connected, armed=False)

    def close(self) -> None:
        self._line.close()

    def _mark(self, kind: str, amplitude_ma: float = 0.0, frequency_hz: float = 0.0, lease_ms: int = 0) -> None:
        if not self._line.connected:
            return
        self._told, self._told_ns = (kind, amplitude_ma, frequency_hz), self._clock()
        body = {"kind": kind, "amplitude_ma": amplitude_ma, "frequency_hz": frequency_hz, "lease_ms": lease_ms}
        self._line.send(json.dumps({**body, "boot_ns": self._told_ns}).encode())


def bridge(settings: Settings, default_endpoint: str) -> list[str]:
    """The command line of the process that holds the outlet; it must run beside the interlock."""
    argv = [sys.executable, "-m", "drivers.stimulators.lsl_markers_bridge", f"--name={settings.name}"]
    return [*argv, f"--socket={settings.socket or default_endpoint}"]


def build(settings: Settings, default_endpoint: str) -> LslMarkers:
    """The driver; `default_endpoint` is the seat's stimulator socket, where the bridge listens."""
    return LslMarkers(settings.socket or default_endpoint)
