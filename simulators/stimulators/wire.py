"""The wire under every serial emulator: pseudo-terminal, byte timing, faults and the record of the output.

An emulator is an `EmulatedDevice`: pure, fed one byte at a time, told the time in CLOCK_BOOTTIME ns. `Wire`
delays its bytes as the line would and spoils them when a fault is on; `serve` puts a `Wire` on a pseudo-terminal.

The record (`--record FILE`) is one JSON object per line, in time order: `boot_ns` (when the output changed, by
the device's own schedule), `what` (`pulse`, `level`, `armed`, `disarmed`, `said`, ...) and the fields of that kind.
It is written by the output stage, after every fault: it is what the coil or electrode got, whatever was reported.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MS = 1_000_000
S = 1_000_000_000
FAULTS = (
    "no_answer",
    "late",
    "garbled",
    "wrong_crc",
    "half_frame",
    "refuses_arm",
    "disarms",
    "coil_hot",
    "unplugged",
    "lies",
)
LATE_NS = 1_500 * MS
UNPLUGGED_NS = 200 * MS
LONGEST_WAIT_NS = 50 * MS
MOST_READ = 4096
USB_BYTE_NS = 1_000  # full-speed USB carries about 1 byte/us
_IN_CLOSE, _IN_OPEN = 0x18, 0x20
_EVENT = struct.Struct("iIII")


def byte_ns(baud: int, stop_bits: int = 1) -> int:
    """How long one byte with a start bit and 8 data bits takes, ns."""
    return (9 + stop_bits) * S // baud


def spoilt(frame: bytes, fault: str, wrong_check: Callable[[bytes], bytes]) -> bytes:
    """A frame as the fault leaves it; `wrong_check` makes one whose check value does not fit."""
    if fault == "garbled":
        return bytes((b * 7 + 0x5B) & 0xFF for b in reversed(frame))
    if fault == "wrong_crc":
        return wrong_check(frame)
    return frame[: len(frame) // 2] if fault == "half_frame" else frame


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class EmulatedDevice:
    """What every emulator shares: an outbox, a record, a fault. Subclasses know the protocol.

    Attributes
    ----------
    fault : str
        The fault now on, "" = none; `refuses_arm`, `disarms`, `coil_hot` and `lies` are the device's own business.
    byte_ns : int
        Time of one byte on the line, ns.
    """

    faults: tuple[str, ...] = FAULTS

    def __init__(self, byte_ns: int = USB_BYTE_NS) -> None:
        self.byte_ns = byte_ns
        self.fault = ""
        self.outbox: deque[bytes] = deque()
        self.events: list[dict[str, Any]] = []

    def receive(self, byte: int, now_ns: int) -> None:
        """One byte has arrived from the host."""
        raise NotImplementedError

    def pass_time(self, now_ns: int) -> None:
        """Do everything that was due by now."""
        raise NotImplementedError

    def next_ns(self) -> int | None:
        """When `pass_time` has something to do next, None = nothing planned."""
        raise NotImplementedError

    def host(self, present: bool, now_ns: int) -> None:
        """Somebody opened or closed the port; RS-232 devices cannot tell, USB ones can."""

    def spoil(self, frame: bytes) -> bytes:
        """The frame with a wrong check value."""
        return frame[:-1] + bytes([frame[-1] ^ 0xA5]) if frame else frame

    @property
    def output_on(self) -> bool:
        """True while the output stage could give something (armed, enabled, running)."""
        raise NotImplementedError

    def say(self, frame: bytes) -> None:
        self.outbox.append(frame)

    def record(self, at_ns: int, what: str, **fields: Any) -> None:
        self.events.append({"boot_ns": at_ns, "what": what, **fields})


class Wire:
    """Bytes in flight between a host and a device. Pure: time comes in."""

    def __init__(self, device: EmulatedDevice, fault: str = "", fault_after_ns: int = 0) -> None:
        self.device = device
        self.fault = fault
        self.fault_after_ns = fault_after_ns
        self.unplugged = False
        self._fault_at_ns: int | None = None
        self._in: deque[tuple[int, int]] = deque()
        self._out: deque[tuple[int, bytes]] = deque()
        self._in_free_ns = self._out_free_ns = 0

    def begin_fault(self, now_ns: int) -> None:
        """What goes wrong does so now; without a fault named, the cable is pulled."""
        self.fault = self.fault or "unplugged"
        self._fault_at_ns = now_ns

    def host_sent(self, data: bytes, now_ns: int) -> None:
        """Bytes the host wrote; each reaches the device when its stop bit has passed."""
        if self._fault_at_ns is None and self.fault:
            self._fault_at_ns = now_ns + (self.fault_after_ns or (UNPLUGGED_NS if self.fault == "unplugged" else 0))
        for byte in data:
            self._in_free_ns = max(self._in_free_ns, now_ns) + self.device.byte_ns
            self._in.append((self._in_free_ns, byte))

    def turn(self, now_ns: int) -> bytes:
        """Let everything happen up to now, in order of time; returns what has reached the host."""
        while (at_ns := self._soonest_ns()) is not None and at_ns <= now_ns:
            self._step(at_ns)
        self._speak(now_ns)
        arrived = bytearray()
        while self._out and self._out[0][0] <= now_ns:
            arrived += self._out.popleft()[1]
        return bytes(arrived) if not self.unplugged else b""

    def next_ns(self) -> int | None:
        """When `turn` has something to do."""
        due = [at_ns for at_ns in (self._soonest_ns(), self._out[0][0] if self._out else None) if at_ns is not None]
        return min(due) if due else None

    def _soonest_ns(self) -> int | None:
        due = [self._in[0][0]] if self._in else []
        planned = self.device.next_ns()
        if planned is not None:
            due.append(planned)
        if self._fault_at_ns is not None and not self.device.fault:
            due.append(self._fault_at_ns)
        return min(due) if due else None

    def _step(self, at_ns: int) -> None:
        if self._fault_at_ns is not None and at_ns >= self._fault_at_ns and not self.device.fault:
            self.device.fault = self.fault
            self.device.record(at_ns, "fault", fault=self.fault)
            if self.fault == "unplugged":
                self.unplugged = True
                self._in.clear()
                self.device.host(False, at_ns)
        self.device.pass_time(at_ns)
        if self._in and self._in[0][0] <= at_ns:
            self.device.receive(self._in.popleft()[1], at_ns)
        self._speak(at_ns)

    def _speak(self, at_ns: int) -> None:
        while self.device.outbox:
            self._send(self.device.outbox.popleft(), at_ns)

    def _send(self, frame: bytes, now_ns: int) -> None:
        fault = self.device.fault
        if fault == "no_answer" or self.unplugged:
            return
        frame = spoilt(frame, fault, self.device.spoil)
        if fault == "late":
            now_ns += LATE_NS
        for i in range(len(frame)):
            self._out_free_ns = max(self._out_free_ns, now_ns) + self.device.byte_ns
            self._out.append((self._out_free_ns, frame[i : i + 1]))


class _Doorbell:
    """Tells when a process opens or closes a path (Linux inotify); the device's own descriptor does not count."""

    def __init__(self, path: str) -> None:
        self.present = 0
        library = ctypes.CDLL(None, use_errno=True)
        self._fd = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0 or library.inotify_add_watch(self._fd, path.encode(), _IN_OPEN | _IN_CLOSE) < 0:
            raise OSError(ctypes.get_errno(), "inotify", path)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def heard(self) -> Iterator[bool]:
        """True at the first opening, False at the last closing."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            _watch, mask, _cookie, name_length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + name_length
            if mask & _IN_OPEN:
                self.present += 1
                if self.present == 1:
                    yield True
            elif mask & _IN_CLOSE and self.present:
                self.present -= 1
                if self.present == 0:
                    yield False


class _Terminal:
    """A raw pseudo-terminal around a wire. The device's end stays open, so that it stays raw between two hosts."""

    def __init__(self, wire: Wire, record: int) -> None:
        self.wire = wire
        self.record = record
        self.leaving = False
        self._unsent = bytearray()
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave, termios.TCSANOW)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.bell = _Doorbell(self.path)

    def run(self, waker: int) -> None:
        """Until told to leave, or unplugged: then the terminal is gone, and the device goes on by itself."""
        while not self.leaving:
            now_ns = boot_ns()
            due_ns = self.wire.next_ns()
            wait_ns = min(LONGEST_WAIT_NS, max(0, due_ns - now_ns)) if due_ns is not None else LONGEST_WAIT_NS
            readable: list[Any] = [waker, self.bell] + ([self.master] if self.master >= 0 else [])
            ready, _, _ = select.select(readable, [], [], wait_ns / 1e9)
            if waker in ready:
                os.read(waker, 64)
            if self.master in ready:
                with contextlib.suppress(BlockingIOError, OSError):
                    self.wire.host_sent(os.read(self.master, MOST_READ), boot_ns())
            if self.bell in ready:
                self._presence()
            self._turn(boot_ns())

    def close(self) -> None:
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self.slave = -1

    def _presence(self) -> None:
        for present in self.bell.heard():
            if not present and self.slave >= 0:
                self._unsent.clear()
                termios.tcflush(self.slave, termios.TCIFLUSH)
            if not self.wire.unplugged:
                self.wire.device.host(present, boot_ns())

    def _turn(self, now_ns: int) -> None:
        arrived = self.wire.turn(now_ns)
        if self.bell.present:
            self._unsent += arrived
        if self._unsent and self.master >= 0:
            with contextlib.suppress(BlockingIOError, OSError):
                del self._unsent[: os.write(self.master, self._unsent)]
        events, self.wire.device.events = self.wire.device.events, []
        if events and self.record >= 0:
            os.write(self.record, "".join(json.dumps(event) + "\n" for event in events).encode())
        if self.wire.unplugged and self.master >= 0:
            self.close()


def serve(
    parser: argparse.ArgumentParser,
    build: Callable[[argparse.Namespace], EmulatedDevice],
    faults: tuple[str, ...],
    argv: list[str] | None,
) -> int:
    """Run an emulator until SIGTERM or SIGINT; its first line of output is the pseudo-terminal's path."""
    parser.add_argument("--fault", choices=faults, default="", help="what goes wrong; at once on SIGUSR1 (default: unplugged)")
    parser.add_argument(
        "--fault-after-s", type=float, default=0.0, help="s after the host's first byte until it does (default 0)"
    )
    parser.add_argument("--record", type=Path, default=None, help="file for the output, one JSON object a line")
    arguments = parser.parse_args(argv)
    try:
        device = build(arguments)
    except ValueError as error:
        parser.error(str(error))
    record = -1
    if arguments.record is not None:
        try:
            record = os.open(arguments.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            parser.error(f"--record {arguments.record}: {error.strerror}; name a file in a directory that exists")
    terminal = _Terminal(Wire(device, arguments.fault, round(arguments.fault_after_s * 1e9)), record)
    waker, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def leave(_number: int, _frame: object) -> None:
        terminal.leaving = True

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGUSR1, lambda *_: terminal.wire.begin_fault(boot_ns()))
    print(terminal.path, flush=True)
    try:
        terminal.run(waker)
    finally:
        terminal.close()
    return 0


if __name__ == "__main__":
    sys.exit("wire is a part of the emulators, not one of them; name a kind, e.g. magstim")
