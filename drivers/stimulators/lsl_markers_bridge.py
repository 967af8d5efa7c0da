"""The LSL outlet of `lsl_markers`, in a process of its own: the interlock has no network. Not a plug-in.

`python -m drivers.stimulators.lsl_markers_bridge --socket PATH --name NAME`
One string a marker, a JSON object: `kind` (arm, output, zero, disarm), `device`, `amplitude_ma` (peak), `frequency_hz`,
`requested_boot_ns`, `reason`. An `output` that is not renewed within its lease (at most 400 ms), or whose interlock is gone,
is followed by `zero` with the reason.
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pylsl

from drivers.stimulators.local_socket import TAKE_OVER_S, listening
from eegloop.single import only_one

HELD = 3
DEVICE = "lsl_markers"
TURN_S = 0.02
ALONE_S = 60.0
LONGEST = 1024
LONGEST_LEASE_MS = 400


class Bridge:
    """One outlet and the interlock that speaks through it."""

    def __init__(self, name: str) -> None:
        info = pylsl.StreamInfo(name, "Markers", 1, pylsl.IRREGULAR_RATE, "string", f"eegloop-{name}")
        self.outlet = pylsl.StreamOutlet(info)
        self.last: tuple[str, float, float] = ("", 0.0, 0.0)
        self.lease_end_s = 0.0
        self.leaving = False

    def hear(self, packet: bytes) -> None:
        """One packet of the driver; what is none says zero."""
        try:
            body = json.loads(packet)
            kind, amplitude, frequency = str(body["kind"]), float(body["amplitude_ma"]), float(body["frequency_hz"])
            lease_ms, requested = int(body["lease_ms"]), int(body["boot_ns"])
        except (ValueError, KeyError, TypeError):
            self.zero("a broken packet")
            return
        self.lease_end_s = time.monotonic() + min(lease_ms, LONGEST_LEASE_MS) / 1000 if amplitude > 0.0 else 0.0
        if (kind, amplitude, frequency) != self.last:
            self.say(kind, amplitude, frequency, requested, "")

    def pass_time(self) -> None:
        if self.lease_end_s and time.monotonic() >= self.lease_end_s:
            self.zero("not renewed within its lease")

    def zero(self, reason: str) -> None:
        self.lease_end_s = 0.0
        if self.last[0] != "zero":
            self.say("zero", 0.0, 0.0, time.clock_gettime_ns(time.CLOCK_BOOTTIME), reason)

    def say(self, kind: str, amplitude_ma: float, frequency_hz: float, requested: int, reason: str) -> None:
        self.last = (kind, amplitude_ma, frequency_hz)
        body: dict[str, Any] = {"kind": kind, "device": DEVICE, "amplitude_ma": amplitude_ma, "frequency_hz": frequency_hz}
        self.outlet.push_sample([json.dumps({**body, "requested_boot_ns": requested, "reason": reason})])

    def serve(self, listener: socket.socket) -> None:
        """Until told to leave, or without an interlock for a minute."""
        connection: socket.socket | None = None
        alone_since_s = time.monotonic()
        while connection is not None or not (self.leaving or time.monotonic() - alone_since_s > ALONE_S):
            ready, _, _ = select.select([connection or listener], [], [], TURN_S)
            if ready and connection is None:
                connection, _ = listener.accept()
            elif ready and connection is not None:
                try:
                    packet = connection.recv(LONGEST)
                except OSError:
                    packet = b""
                if packet:
                    self.hear(packet)
                else:
                    connection.close()
                    connection, alone_since_s = None, time.monotonic()
                    self.zero("the interlock is gone")
            self.pass_time()


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="lsl_markers_bridge", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--socket", type=Path, required=True, help="where the interlock connects")
    parser.add_argument("--name", default="eegloop-stimulation", help="of the LSL stream")
    arguments = parser.parse_args(argv)
    lock = only_one(Path(f"{arguments.socket}.lock"), TAKE_OVER_S)
    if lock < 0:
        print(f"lsl_markers_bridge: another one still serves {arguments.socket}; end it first", file=sys.stderr)
        return HELD
    bridge = Bridge(arguments.name)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # like the interlock: the last to go, by SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: setattr(bridge, "leaving", True))
    with listening(arguments.socket) as listener:
        bridge.serve(listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
