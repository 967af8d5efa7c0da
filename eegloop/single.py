"""One process at a time: a lock on a file that names its holder. Standard library only: the interlock imports it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path


def only_one(path: Path, take_over_s: float) -> int:
    """The exclusive lock as an open file, -1 if another process holds it; the file names the holder.

    Parameters
    ----------
    take_over_s : float
        How long to wait for the holder, which is told once to end (SIGTERM), s; 0 = it is left alone.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until_s, asked = time.monotonic() + take_over_s, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).strip()
            if time.monotonic() >= until_s:
                os.close(lock)
                return -1
            if holder.isdigit() and not asked and _has_open(int(holder), lock):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(holder), signal.SIGTERM)
                asked = True
            time.sleep(0.02)
            continue
        os.ftruncate(lock, os.pwrite(lock, f"{os.getpid()}\n".encode(), 0))
        return lock


def _has_open(pid: int, lock: int) -> bool:
    """The process has the lock's file open: a number left by one that is gone, or given to another since, has not."""
    try:
        return any(os.path.samestat(entry.stat(), os.fstat(lock)) for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False
