"""Where a bridge process meets the interlock: one local socket. Not a plug-in."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

TAKE_OVER_S = 3.0  # for an orphaned bridge, which is told to end: two would push each other out


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
