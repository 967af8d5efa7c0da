"""The interlock's audit log: an append-only chain of JSON lines, each holding the hash of the one before.

A line is canonical JSON (sorted keys, no spaces, ASCII) of
`{"n","boot_ns","wall_s","event","data","prev","hash"}`; `hash` is the SHA-256 (hex) of that line without `hash`,
`prev` the hash of the line before (64 zeros for the first). Beside it `<name>.head` holds the newest `n` and `hash`,
so that a cut tail is found. Writing happens in a thread: a slow disk never delays a STOP.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eegloop.kept import sync_folder

FIRST_PREV = "0" * 64
STALLED_NS = 1_000_000_000
LOOK_S = 0.2  # how often it looks whether its file is still there, and tries again what failed
_TAIL_BYTES = 65_536


def seal(n: int, boot_ns: int, wall_s: float, event: str, data: dict[str, Any], prev: str) -> tuple[str, bytes]:
    """One line and its hash."""
    body: dict[str, Any] = {"n": n, "boot_ns": boot_ns, "wall_s": wall_s, "event": event, "data": data, "prev": prev}
    digest = hashlib.sha256(_canonical(body)).hexdigest()
    return digest, _canonical({**body, "hash": digest}) + b"\n"


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def check_line(line: bytes) -> tuple[int, str, str, dict[str, Any]]:
    """`(n, prev, hash, line's content)` of a line that is whole; ValueError if it is not exactly what `seal` writes."""
    body = json.loads(line)
    if not isinstance(body, dict) or set(body) != {"n", "boot_ns", "wall_s", "event", "data", "prev", "hash"}:
        raise ValueError("not a line of the log")
    digest, again = seal(*(body[key] for key in ("n", "boot_ns", "wall_s", "event", "data", "prev")))
    if again.rstrip(b"\n") != line or digest != body["hash"]:
        raise ValueError("changed after it was written")
    return body["n"], body["prev"], digest, body


def lines(data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(hash, content)` of each whole line, in order; ValueError at the first that was changed or does not follow the one before."""
    prev, n = FIRST_PREV, -1
    for line in data.split(b"\n")[:-1]:
        number, before, digest, body = check_line(line)
        if (number, before) != (n + 1, prev):
            raise ValueError(f"line {n + 2} does not follow the line before")
        n, prev = number, digest
        yield digest, body


class Chain:
    """The log file, open for appending; not thread-safe.

    Raises
    ------
    OSError
        If it cannot be opened or written.
    ValueError
        If its tail is not what was written last: move log and head away together and ask what happened.
    """

    def __init__(self, path: Path) -> None:
        self._head = path.with_name(path.name + ".head")
        self.torn = ""
        self.written = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            sync_folder(path.parent)  # else a power loss may take the file's name, and its history with it
            self._n, self._prev, self._size = self._resume()
        except BaseException:
            os.close(self._file)
            raise

    def _resume(self) -> tuple[int, str, int]:
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):  # a crash tore the last line; it never counted as written
            self.torn = f"{len(tail) - whole} bytes, sha256 {hashlib.sha256(tail[whole:]).hexdigest()}"
            size -= len(tail) - whole
            os.ftruncate(self._file, size)
        head = read_head(self._head)
        if whole == 0:
            if head is not None:
                raise ValueError("the audit log is empty, but its head says it was not")
            return -1, FIRST_PREV, size
        n, _, digest, _ = check_line(tail[:whole].rstrip(b"\n").rpartition(b"\n")[2])
        if head is None and n > 0:
            raise ValueError("the audit log's head is missing")
        if head is not None and (head[0] > n or (head[0] == n and head[1] != digest)):
            raise ValueError("the audit log's tail was cut or changed")
        return n, digest, size

    @property
    def head(self) -> tuple[int, str]:
        """The newest line's number and hash; -1 and zeros before the first."""
        return self._n, self._prev

    def append(self, event: str, data: dict[str, Any], boot_ns: int, wall_s: float) -> None:
        """Write one line, to the disk itself. On failure nothing of it stays and it may be tried again."""
        digest, line = seal(self._n + 1, boot_ns, wall_s, event, data, self._prev)
        try:
            if os.write(self._file, line) != len(line):
                raise OSError("the disk took only part of a line")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._n, self._prev, self._size = self._n + 1, digest, self._size + len(line)
        write_head(self._head, self._n, digest)
        self.written = True

    def look(self) -> None:
        """OSError if the file was removed, another put in its place, or its length changed: what follows would be no chain under its name."""
        if os.fstat(self._file).st_nlink == 0 or os.fstat(self._file).st_size != self._size:
            raise OSError(errno.ENOENT, "it was removed or changed while it was being written")

    def close(self) -> None:
        os.close(self._file)


def read_head(path: Path) -> tuple[int, str] | None:
    """The newest line's number and hash; None if there is no head (or a crash left half of one)."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    number, _, digest = text.strip().partition(" ")
    return (int(number), digest) if number.isdecimal() and len(digest) == 64 else None


def write_head(path: Path, n: int, digest: str) -> None:
    """Fixed width and one write, so that a reader never sees half of it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, f"{n:020d} {digest}\n".encode(), 0)
    finally:
        os.close(descriptor)


class LogWriter:
    """Appends in a thread. `put` never waits; `fault` says what is wrong ("" = every line so far is on the disk in time).

    Until the first line is on the disk that is a fault too: a log is writable once it has been written. `after` is called with
    each line's number and hash once it is on the disk (interlock/anchor.py); the line counts as written when that is done.
    """

    def __init__(self, path: Path, after: Callable[[int, str], None] | None = None) -> None:
        self._path = path
        self._after = after
        self._waiting: deque[tuple[str, dict[str, Any], int, float]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self.written = 0
        self._error = "nothing is written yet"
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._thread.start()

    def put(self, event: str, data: dict[str, Any], boot_ns: int, wall_s: float) -> None:
        self._waiting.append((event, data, boot_ns, wall_s))
        self._wake.set()

    def fault(self, now_ns: int) -> str:
        """What is wrong now: the last error, or that a line has waited for more than a second."""
        if self._error:
            return self._error
        try:
            oldest_ns = self._waiting[0][2]
        except IndexError:
            return ""
        return "the disk has not taken a line for 1 s" if now_ns - oldest_ns > STALLED_NS else ""

    def close(self, timeout_s: float) -> None:
        """Let the thread write what waits, for at most `timeout_s`."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        chain: Chain | None = None
        appended = False
        while True:
            try:
                if chain is None:
                    chain = Chain(self._path)
                    if chain.torn:
                        wall_s = time.time()
                        chain.append("torn_tail", {"removed": chain.torn}, time.clock_gettime_ns(time.CLOCK_BOOTTIME), wall_s)
                chain.look()
                while self._waiting:
                    if not appended:
                        chain.append(*self._waiting[0])
                        appended = True
                    if self._after is not None:
                        self._after(*chain.head)
                    appended = False
                    self._waiting.popleft()
                    self.written += 1
                if chain.written:
                    self._error = ""
            except (OSError, ValueError) as error:
                self._error = str(error) or type(error).__name__
            if self._closing:
                return
            self._wake.wait(LOOK_S)
            self._wake.clear()
