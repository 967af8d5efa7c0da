"""The machine's three clocks."""

from __future__ import annotations

import time


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
