"""The machine's three clocks."""

from __future__ import annotations

import ctypes
import time

TIME_ERROR = 5  # adjtimex: the clock is not synchronized


class MachineClock:
    """Implements `eegloop.ports.Clock` on Linux.

    liblsl's `local_clock` is CLOCK_MONOTONIC there, which `time.monotonic` reads without a call into the library
    (tested against liblsl in tests/integration). CLOCK_BOOTTIME goes on in suspend, CLOCK_MONOTONIC does not: the
    two parting is how suspend is noticed.
    """

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


def synchronized() -> bool:
    """What the kernel says of the wall clock (adjtimex, read only); setting it by hand takes that back at once."""

    class Timex(ctypes.Structure):  # only `modes` = 0 (read) matters; the rest is room for the kernel's answer
        _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_long * 40))

    return bool(0 <= ctypes.CDLL(None).adjtimex(ctypes.byref(Timex())) < TIME_ERROR)
