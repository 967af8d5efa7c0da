"""Where a bridge process meets the interlock: one local socket, one bridge at a time. Not a plug-in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

TAKE_OVER_S = 3.0


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """The socket, open to its owner only, without waiting; gone at the end."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.setblocking(False)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(1)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def only_one(path: Path) -> int:
    """The lock of this socket's bridge, -1 if another will not end: an orphan is told to, as two would push each other out."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s, asked = time.monotonic() + TAKE_OVER_S, False
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
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock


def _has_open(pid: int, lock: int) -> bool:
    """The process has the lock's file open: a number left by one that is gone, or given to another since, has not."""
    try:
        return any(os.path.samestat(entry.stat(), os.fstat(lock)) for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False
