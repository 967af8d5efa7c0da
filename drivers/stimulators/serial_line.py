"""A serial line that never waits, and how long what is written takes on it: what the stimulator drivers read and write through. Not a plug-in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

import serial

from eegloop.errors import DeviceError

MOST_READ = 4096
MOST_UNSENT = 4096
THINKS_NS = 5_000_000  # a device may take so long to answer


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Line(Protocol):
    """What a driver needs of its line; tests put an emulator in virtual time here."""

    def open(self) -> None: ...
    def fileno(self) -> int: ...
    def read(self) -> bytes | None:
        """What has arrived, b"" = nothing yet, None = the line is gone."""

    def write(self, data: bytes) -> bool:
        """Queue and send what fits; False = the line is gone or takes nothing any more."""

    def unsent(self) -> int:
        """Bytes written that have not left this machine, as far as it tells."""

    def close(self) -> None: ...


class SerialLine:
    """One serial port; pyserial opens and sets it, reads and writes go to the descriptor and never wait.

    Parameters
    ----------
    path : str
        e.g. /dev/ttyUSB0.
    baud, stop_bits : int
    advice : str
        What to do when it cannot be opened.
    """

    def __init__(self, path: str, baud: int, advice: str, stop_bits: int = 1) -> None:
        self.path = path
        self._baud, self._stop_bits, self._advice = baud, stop_bits, advice
        self._port: serial.Serial | None = None
        self._unsent = bytearray()

    def open(self) -> None:
        """Open with RTS and DTR low where the port has them (RTS is a trigger line on some TMS cables).

        Raises
        ------
        DeviceError
            Naming the port and what to do.
        """
        self.close()
        port = serial.Serial()
        port.port, port.baudrate, port.stopbits = self.path, self._baud, self._stop_bits
        port.timeout = port.write_timeout = 0
        port.rts = False
        try:
            port.exclusive = True
            port.open()
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise DeviceError(f"{self.path}: cannot be opened ({error}); {self._advice}") from None
        self._port = port

    def fileno(self) -> int:
        return int(self._port.fileno()) if self._port is not None else -1

    def read(self) -> bytes | None:
        if self._port is None or not self._flush():
            return None
        try:
            data = os.read(self._port.fileno(), MOST_READ)
        except BlockingIOError:
            return b""
        except OSError:
            self.close()
            return None
        # A raw port gives nothing (VMIN = VTIME = 0) when it is silent and when its other end is gone.
        return data if data or self._alive() else None

    def write(self, data: bytes) -> bool:
        if self._port is None or len(self._unsent) + len(data) > MOST_UNSENT:
            return False
        self._unsent += data
        return self._flush()

    def unsent(self) -> int:
        """Here, and in the system's own queue; a pseudo-terminal has none and an adapter's own cannot be asked."""
        try:
            return len(self._unsent) + (self._port.out_waiting if self._port is not None else 0)
        except OSError:
            return len(self._unsent)

    def close(self) -> None:
        """Never raises."""
        self._unsent.clear()
        if self._port is not None:
            port, self._port = self._port, None
            try:
                port.close()
            except OSError:
                pass  # unplugged: nothing left to close

    def _flush(self) -> bool:
        if self._unsent and self._port is not None:
            try:
                del self._unsent[: os.write(self._port.fileno(), self._unsent)]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
        return self._port is not None

    def _alive(self) -> bool:
        if self._port is not None:
            try:
                _ = self._port.in_waiting
            except OSError:
                self.close()
        return self._port is not None


class TimedLine:
    """A line that knows until when what was written is on the wire, and keeps it free for a shot.

    The system takes bytes at once and sends them one by one: a shot behind a question leaves late, though it was written in time.

    Parameters
    ----------
    line : Line
    baud : int
        Bytes are of ten bits: a start bit, eight, a stop bit.
    clock : callable
        CLOCK_BOOTTIME, ns.

    Attributes
    ----------
    shot_at_ns : callable
        When the next shot is to be written, ns; None = none waits.
    """

    def __init__(self, line: Line, baud: int, clock: Callable[[], int]) -> None:
        self.shot_at_ns: Callable[[], int | None] = lambda: None
        self.open, self.fileno, self.read, self.close = line.open, line.fileno, line.read, line.close
        self._line, self._clock, self._byte_ns = line, clock, 10 * 1_000_000_000 // baud
        self._free_ns = 0

    @property
    def free_ns(self) -> int:
        """Until when what was written before is on the wire: what is written now begins then. In the past = at once."""
        unsent = self._line.unsent()
        return max(self._free_ns, self._clock() + unsent * self._byte_ns) if unsent else self._free_ns

    @property
    def behind_ns(self) -> int:
        """How late what is written now would leave."""
        return max(0, self.free_ns - self._clock())

    def write(self, data: bytes) -> bool:
        taken = self._line.write(data)
        if taken:
            self._free_ns = max(self._free_ns, self._clock()) + len(data) * self._byte_ns
        return taken

    def unsent(self) -> int:
        return self._line.unsent()

    def clear_for(self, n_bytes: int) -> bool:
        """Whether a question and its answer, so many bytes together, are over before the next shot is to be written."""
        at_ns = self.shot_at_ns()
        return at_ns is None or self._clock() + self.behind_ns + n_bytes * self._byte_ns + THINKS_NS <= at_ns
