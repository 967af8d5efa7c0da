"""An OpenBCI Cyton on a pseudo-terminal: its serial protocol byte for byte, over the virtual brain.

    python -m simulators.cyton [--seed N] [--lose FIRST:COUNT]

The first line of output is the terminal's path. A real Cyton's dongle is an FTDI chip; a pseudo-terminal has no latency timer.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import signal
import sys
import time
import tty

import numpy as np

from simulators.brain import NO_CURRENT, Brain
from simulators.settings import BrainSettings

RATE_HZ = 250.0
MONTAGE = ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2")
UV_PER_COUNT = 4.5 / 24 / (2**23 - 1) * 1e6
BANNER = b"OpenBCI V3 8-16 channel\nOn Board ADS1299 Device ID: 0x3E\nLIS3DH Device ID: 0x33\nFirmware: v3.1.1\n$$$"
CHUNK = 5


def packet(number: int, row_uv: np.ndarray, motion: tuple[int, int, int] = (0, 0, 8192)) -> bytes:
    """One sample: 0xA0, counter, eight 24-bit and three 16-bit big-endian numbers, 0xC0."""
    counts = np.clip(np.rint(row_uv / UV_PER_COUNT), -(2**23), 2**23 - 1).astype(int)
    body = b"".join(int(c).to_bytes(3, "big", signed=True) for c in counts)
    return bytes((0xA0, number % 256)) + body + b"".join(m.to_bytes(2, "big", signed=True) for m in motion) + b"\xc0"


class Cyton:
    """The board's side of the wire: commands in, packets out while it streams."""

    def __init__(self, descriptor: int, seed: int, lose: tuple[int, int]) -> None:
        self._descriptor = descriptor
        self._brain = Brain(BrainSettings(sample_rate_hz=RATE_HZ, montage=MONTAGE, seed=seed))
        self._lose = range(lose[0], lose[0] + lose[1])
        self._streaming = False
        self._start_s = 0.0
        self._sent = 0

    def command(self, byte: bytes) -> None:
        """One character from the host."""
        if byte == b"b":
            self._streaming, self._start_s, self._sent = True, time.monotonic(), 0
        elif byte in (b"s", b"v"):
            self._streaming = False
        if byte == b"v":
            self._write(BANNER)
        elif not self._streaming and byte not in (b"s", b"\n"):
            self._write(b"$$$")

    def run(self) -> None:
        """Until the terminal is gone or a signal comes."""
        while True:
            readable, _, _ = select.select([self._descriptor], [], [], 0.01)
            if readable:
                for byte in os.read(self._descriptor, 256):
                    self.command(bytes((byte,)))
            if self._streaming:
                self._stream()

    def _stream(self) -> None:
        due = int((time.monotonic() - self._start_s) * RATE_HZ)
        while due - self._sent >= CHUNK:
            rows = self._brain.advance(CHUNK, NO_CURRENT)
            numbers = range(self._sent, self._sent + CHUNK)
            self._write(b"".join(packet(n, row) for n, row in zip(numbers, rows, strict=True) if n not in self._lose))
            self._sent += CHUNK

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._descriptor, data)
        except BlockingIOError:
            pass  # nobody reads: what a radio cannot hand over is gone


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="simulators.cyton", description="An OpenBCI Cyton on a pseudo-terminal. Research use only."
    )
    parser.add_argument("--seed", type=int, default=1, help="same seed, same samples (default: 1)")
    parser.add_argument("--lose", default="0:0", metavar="FIRST:COUNT", help="samples that get lost in the air")
    arguments = parser.parse_args(argv)
    first, _, count = arguments.lose.partition(":")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    cyton = Cyton(master, arguments.seed, (int(first), int(count)))
    print(os.ttyname(slave), flush=True)
    cyton.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
