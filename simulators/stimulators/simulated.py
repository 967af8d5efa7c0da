"""The simulated stimulator: a process of its own with its own lease, maximum and record of every output sample.

Speaks docs/contracts.md sections 4 and 5. It judges the interlock from the outside, so it shares no code with it.
`python -m simulators.stimulators.simulated --data DIR --seat ID`
"""

from __future__ import annotations

import argparse
import json
import math
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eegloop.layout import Layout

MS = 1_000_000
LONGEST_LEASE_MS = 400
SAMPLE_NS = 5 * MS
REST_SAMPLE_NS = 100 * MS
REPORT_NS = 20 * MS
REST_FIELD_NS = 200 * MS
LATE_NS = 600 * MS
FAULTS = ("silent", "late", "garbled", "wrong_readback", "refuses_arm", "disarms", "unplugged", "stuck")
SAMPLE = struct.Struct("<qd")
PULSE = struct.Struct("<q")


class Device:
    """The stimulator itself: what it is told and what current flows. Pure; time comes in as CLOCK_BOOTTIME ns."""

    def __init__(self, max_ma: float) -> None:
        self.max_ma = max_ma
        self.armed = False
        self.amplitude_ma = 0.0
        self.frequency_hz = 0.0
        self.fault = ""
        self.stuck = False
        self.refuses_arm = False
        self.lease_end_ns = 0
        self.pulses_ns: list[int] = []  # fired and not told yet
        self._phase_rad = 0.0
        self._phase_ns = 0

    def command(self, body: dict[str, Any], now_ns: int) -> None:
        """Do what a packet says; what it does not understand or may not do leaves it at zero."""
        match body:
            case {"cmd": "arm"}:
                self.arm(now_ns)
            case {"cmd": "disarm"}:
                self.disarm(now_ns)
            case {"cmd": "zero"}:
                self.set(0.0, self.frequency_hz, now_ns)
            case {"cmd": "fire"}:
                if self.armed:
                    self.pulses_ns.append(now_ns)
            case {"cmd": "output", "amplitude_ma": amplitude, "frequency_hz": frequency, "lease_ms": lease}:
                self.output(amplitude, frequency, lease, now_ns)
            case {"cmd": "identify"}:
                pass
            case _:
                self.fault = "unknown command"
                self.disarm(now_ns)

    def arm(self, now_ns: int) -> None:
        if not self.refuses_arm and not self.fault:
            self.armed = True
            self.lease_end_ns = now_ns + LONGEST_LEASE_MS * MS

    def disarm(self, now_ns: int) -> None:
        self.set(0.0, self.frequency_hz, now_ns)
        if not self.stuck:
            self.armed = False

    def output(self, amplitude_ma: object, frequency_hz: object, lease_ms: object, now_ns: int) -> None:
        """A new amplitude at once (the interlock ramps); above the device's own maximum is a fault."""
        if not self.armed:
            return
        numbers = [v for v in (amplitude_ma, frequency_hz, lease_ms) if isinstance(v, (int, float)) and math.isfinite(v)]
        if len(numbers) != 3 or not 0.0 <= numbers[0] <= self.max_ma or not 0.0 <= numbers[1] <= 45.0:
            self.fault = "output command outside the device's range"
            self.disarm(now_ns)
            return
        self.lease_end_ns = now_ns + round(min(max(numbers[2], 0.0), LONGEST_LEASE_MS) * MS)
        self.set(float(numbers[0]), float(numbers[1]), now_ns)

    def set(self, amplitude_ma: float, frequency_hz: float, now_ns: int) -> None:
        """Change the current; the phase of a sine runs on without a jump."""
        if self.stuck:
            return
        if frequency_hz != self.frequency_hz:
            self._phase_rad = self.phase_rad(now_ns)
            self._phase_ns = now_ns
            self.frequency_hz = frequency_hz
        self.amplitude_ma = amplitude_ma

    def pass_time(self, now_ns: int) -> None:
        """The device's own lease."""
        if self.armed and now_ns >= self.lease_end_ns:
            self.disarm(now_ns)

    def phase_rad(self, now_ns: int) -> float:
        cycles = (now_ns - self._phase_ns) * 1e-9 * self.frequency_hz
        return (self._phase_rad + 2.0 * math.pi * math.fmod(cycles, 1.0)) % (2.0 * math.pi)

    def output_ma(self, now_ns: int) -> float:
        """The instantaneous current."""
        if self.frequency_hz == 0.0:
            return self.amplitude_ma
        return self.amplitude_ma * math.sin(self.phase_rad(now_ns))


class Process:
    """Sockets, record and time around one `Device`."""

    def __init__(self, layout: Layout, seat: str, max_ma: float, fault: str, fault_after_s: float, alone_s: float) -> None:
        self.device = Device(max_ma)
        self.fault = fault
        self.fault_after_ns = round(fault_after_s * 1e9)
        self.fault_on = False
        self.alone_ns = round(alone_s * 1e9)
        self.path = layout.stimulator_socket(seat)
        self.field_path = str(layout.field_socket(seat))
        folder = layout.seat(seat) / "stimulator"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.record = os.open(folder / "output.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.pulse_record = os.open(folder / "pulses.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.selector = selectors.DefaultSelector()
        self.listener: socket.socket | None = _listen(self.path)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.field = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.field.setblocking(False)
        self.client: socket.socket | None = None
        self.held: deque[tuple[int, bytes]] = deque()
        self.armed_since_ns = 0
        self.alone_since_ns = boot_ns()
        self.next_sample_ns = self.next_report_ns = self.next_field_ns = 0
        self.last_ma = 0.0
        self.leaving = False
        if fault and self.fault_after_ns == 0:
            self._switch_fault_on(boot_ns())

    def run(self) -> None:
        """Until SIGTERM or SIGINT, or alone for too long."""
        while not self.leaving:
            now_ns = boot_ns()
            for key, _ in self.selector.select(max(0.0, (self._next_ns(now_ns) - now_ns) / 1e9)):
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj is self.client:
                    self._receive()
            self._pass_time(boot_ns())
        self._drop_client()
        self._sample(boot_ns())

    def _next_ns(self, now_ns: int) -> int:
        due = [self.next_sample_ns, self.next_field_ns]
        if self.client is not None:
            due.append(self.next_report_ns)
        if self.device.armed:
            due.append(self.device.lease_end_ns)
        if self.held:
            due.append(self.held[0][0])
        return min(due)

    def _pass_time(self, now_ns: int) -> None:
        device = self.device
        self._change(lambda: device.pass_time(now_ns), now_ns)
        self.armed_since_ns = (self.armed_since_ns or now_ns) if device.armed else 0
        if self.fault and not self.fault_on and self.armed_since_ns and now_ns - self.armed_since_ns >= self.fault_after_ns:
            self._switch_fault_on(now_ns)
        if now_ns >= self.next_sample_ns:
            self._sample(now_ns)
            self.next_sample_ns = now_ns + (SAMPLE_NS if device.armed or device.amplitude_ma else REST_SAMPLE_NS)
        if now_ns >= self.next_report_ns and self.client is not None:
            self._report(now_ns)
        if now_ns >= self.next_field_ns:
            self._tell_brain(now_ns)
        while self.held and now_ns >= self.held[0][0]:
            self._send(self.held.popleft()[1])
        if self.client is not None:
            self.alone_since_ns = now_ns
        elif self.alone_ns and now_ns - self.alone_since_ns >= self.alone_ns:
            self.leaving = True

    def _change(self, action: Callable[[], None], now_ns: int) -> None:
        """Run `action`; if it steps the current, record both sides of the step."""
        before_ma, amplitude_ma = self.device.output_ma(now_ns), self.device.amplitude_ma
        armed = self.device.armed
        action()
        if self.device.amplitude_ma != amplitude_ma:
            self._write(now_ns, before_ma)
            self._sample(now_ns)
            self._tell_brain(now_ns)
        if self.device.armed != armed:
            self.next_sample_ns = now_ns

    def _sample(self, now_ns: int) -> None:
        self._write(now_ns, self.device.output_ma(now_ns))

    def _write(self, now_ns: int, current_ma: float) -> None:
        os.write(self.record, SAMPLE.pack(now_ns, current_ma))

    def _tell_brain(self, now_ns: int) -> None:
        device = self.device
        flowing = device.amplitude_ma != 0.0
        self.next_field_ns = now_ns + (REPORT_NS if flowing else REST_FIELD_NS)
        field: dict[str, Any] = {"boot_ns": now_ns, "amplitude_ma": device.amplitude_ma, "frequency_hz": device.frequency_hz}
        field |= {"phase_rad": device.phase_rad(now_ns), "pulses": device.pulses_ns}
        device.pulses_ns = []
        try:
            self.field.sendto(json.dumps(field).encode(), self.field_path)
        except OSError:
            pass  # no virtual brain listens, or it is busy: the current flows all the same

    def _accept(self) -> None:
        if self.listener is None:
            return
        connection, _ = self.listener.accept()
        connection.setblocking(False)
        if self.client is not None:
            connection.close()
            return
        self.client = connection
        self.selector.register(connection, selectors.EVENT_READ)

    def _receive(self) -> None:
        for _ in range(32):
            if self.client is None:
                return
            try:
                packet = self.client.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._drop_client()
                return
            self._obey(packet)

    def _obey(self, packet: bytes) -> None:
        now_ns = boot_ns()
        try:
            body = json.loads(packet)
        except (ValueError, RecursionError):
            body = None
        command = body if isinstance(body, dict) else {}
        self._change(lambda: self.device.pass_time(now_ns), now_ns)
        self._change(lambda: self.device.command(command, now_ns), now_ns)
        if self.device.pulses_ns:
            os.write(self.pulse_record, PULSE.pack(now_ns))
            self._tell_brain(now_ns)
        if command.get("cmd") == "identify":
            identity = {"type": "identity", "model": "eegloop simulated stimulator", "serial": "SIM-1"}
            self._emit({**identity, "max_ma": self.device.max_ma, "modalities": ["tdcs", "tacs", "tms"]}, now_ns)
        if command.get("cmd") != "output":
            self._report(now_ns)

    def _report(self, now_ns: int) -> None:
        device = self.device
        self.next_report_ns = now_ns + REPORT_NS
        amplitude_ma, output_ma = device.amplitude_ma, device.output_ma(now_ns)
        if self.fault_on and self.fault == "wrong_readback" and amplitude_ma > 0.0:
            amplitude_ma, output_ma = 1.5 * amplitude_ma + 0.15, 1.5 * output_ma + 0.15
        report = {"type": "report", "boot_ns": now_ns, "output_ma": output_ma, "amplitude_ma": amplitude_ma}
        self._emit({**report, "frequency_hz": device.frequency_hz, "armed": device.armed, "fault": device.fault}, now_ns)

    def _emit(self, body: dict[str, Any], now_ns: int) -> None:
        packet = json.dumps(body).encode()
        if self.fault_on and self.fault == "silent":
            return
        if self.fault_on and self.fault == "garbled":
            packet = b"\xff\x00{" + packet[::-1]
        if self.fault_on and self.fault == "late":
            self.held.append((now_ns + LATE_NS, packet))
            return
        self._send(packet)

    def _send(self, packet: bytes) -> None:
        if self.client is None:
            return
        try:
            self.client.send(packet)
        except BlockingIOError:
            pass
        except OSError:
            self._drop_client()

    def _drop_client(self) -> None:
        """The connection is gone: zero and disarmed."""
        now_ns = boot_ns()
        self._change(lambda: self.device.disarm(now_ns), now_ns)
        self.device.fault = ""
        self.held.clear()
        if self.client is not None:
            self.selector.unregister(self.client)
            self.client.close()
            self.client = None

    def _switch_fault_on(self, now_ns: int) -> None:
        self.fault_on = True
        if self.fault == "refuses_arm":
            self.device.refuses_arm = True
        elif self.fault == "stuck":
            self.device.stuck = True
        elif self.fault == "disarms":
            self._change(lambda: self.device.disarm(now_ns), now_ns)
        elif self.fault == "unplugged":
            self._drop_client()
            if self.listener is not None:
                self.selector.unregister(self.listener)
                self.listener.close()
                self.listener = None
                self.path.unlink(missing_ok=True)


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.setblocking(False)
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(4)
    return listener


def main(argv: list[str] | None = None) -> int:
    """Run the simulated stimulator; its first line of output is its socket's path."""
    parser = argparse.ArgumentParser(prog="simulated", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--seat", required=True, help="the seat it belongs to")
    parser.add_argument("--max-ma", type=float, default=2.0, help="the device's own maximum, mA, 0-4 (default 2)")
    parser.add_argument("--fault", choices=FAULTS, default="", help="what goes wrong")
    parser.add_argument("--fault-after-s", type=float, default=0.0, help="s after arming until it does; 0 = from the start")
    parser.add_argument("--exit-alone-s", type=float, default=0.0, help="leave when no interlock is there for so long; 0 = never")
    arguments = parser.parse_args(argv)
    if not 0.0 <= arguments.max_ma <= 4.0:
        parser.error(f"--max-ma {arguments.max_ma}: must be from 0 to 4 mA")
    layout = Layout(arguments.data)
    layout.create()
    process = Process(layout, arguments.seat, arguments.max_ma, arguments.fault, arguments.fault_after_s, arguments.exit_alone_s)
    waker, wake = socket.socketpair()
    waker.setblocking(False)
    wake.setblocking(False)
    process.selector.register(waker, selectors.EVENT_READ)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def leave(_number: int, _frame: object) -> None:
        process.leaving = True

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    print(process.path, flush=True)
    process.run()
    process.path.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
