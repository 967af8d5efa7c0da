"""Whether a process may take real-time priority without being able to hold a processor for good. Standard library only: the interlock imports it."""

from __future__ import annotations

from pathlib import Path

KERNEL = Path("/proc/sys/kernel")


def share_is_bounded(settings: Path = KERNEL) -> bool:
    """True if the kernel takes the processor away from real-time processes now and then, and leaves them at least half of it.

    Read from `sched_rt_runtime_us` and `sched_rt_period_us` (Linux, Documentation/scheduler/sched-rt-group): -1, or as much as the
    period, is no bound: such a process in an endless loop would shut everybody else out of its processor. With a small share it
    would itself be kept waiting, for up to a period. What cannot be read is taken for no bound.
    """
    try:
        runtime_us, period_us = (int((settings / f"sched_rt_{name}_us").read_text()) for name in ("runtime", "period"))
    except (OSError, ValueError):
        return False
    return period_us <= 2 * runtime_us < 2 * period_us
