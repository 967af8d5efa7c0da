"""The audit trail: append-only JSON lines, each holding the hash of the one before, and a head that anchors the end.

A line is {"n","boot_ns","wall_s","event","data","prev","hash"}: `n` counts from 0, `prev` is the previous line's hash
(64 zeros for the first), `hash` the SHA-256 of the line's canonical JSON (sorted keys, no spaces, ASCII) without `hash`.
The head file beside it holds {"count","hash"} of the newest durable line, so a cut tail shows; the counts and hashes of
other chains are written into this one (`anchor`) and of this one into others, so that replacing a chain together with
its head shows too. The interlock keeps its own chain in the same format, with its own code.

What this cannot show: somebody who rewrites every chain of the machine and their heads at once. Copies of an anchor
kept elsewhere can.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from eegloop.errors import RecordingError
from eegloop.ports import Clock
from records.append import make_folder, write_all
from records.tables import json_cell

GENESIS = "0" * 64
HEAD_BYTES = 256
BEHIND_S = 1.0
RETRY_S = 1.0
QUEUE_LINES = 100_000
_Item = tuple[int, float, str, dict[str, Any], float]
_KEYS = {"n", "boot_ns", "wall_s", "event", "data", "prev", "hash"}


@dataclass(frozen=True, slots=True)
class Head:
    """How many lines a chain has, and the hash of the last."""

    count: int
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What verification has to say about one place; `level` is "error" (changed, cut, missing) or "notice"."""

    level: str
    path: str
    line: int | None
    text: str

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        return f"{self.level}: {where}: {self.text}"


def canonical(body: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def chain_line(n: int, boot_ns: int, wall_s: float, event: str, data: Mapping[str, Any], prev: str) -> tuple[bytes, str]:
    """One line with its newline, and its hash."""
    body: dict[str, Any] = {"n": n, "boot_ns": boot_ns, "wall_s": wall_s, "event": event, "data": data, "prev": prev}
    digest = hashlib.sha256(canonical(body)).hexdigest()
    return canonical({**body, "hash": digest}) + b"\n", digest


def head_path(chain: Path) -> Path:
    """The head beside a chain: `daemon.head` of `daemon.jsonl`, `interlock.log.head` of `interlock.log`."""
    return chain.with_suffix(".head") if chain.suffix == ".jsonl" else chain.with_name(chain.name + ".head")


def read_head(chain: Path) -> Head | None:
    """The chain's head, None if there is none or it cannot be understood.

    The interlock writes its own with its own code: the newest line's number from 0, a space, its hash.
    """
    try:
        text = head_path(chain).read_text(encoding="ascii")
        if text.startswith("{"):
            body = json.loads(text)
            return Head(int(body["count"]), str(body["hash"]))
        number, digest = text.split()
        return Head(int(number) + 1, digest)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class AuditTrail:
    """One chain, written by a thread of its own: `append` costs microseconds and what it was given is durable soon after.

    Parameters
    ----------
    moved : callable, optional
        Told each new head once its line is durable, in the trail's thread; while it raises OSError, the trail is not ok.

    Raises
    ------
    RecordingError
        If the existing chain is damaged, was cut, or is being written by somebody else: no audit trail, no stimulation.
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, clock: Clock, moved: Callable[[Head], None] | None = None) -> None:
        self.path = path
        self._clock = clock
        self._moved = moved
        self._told: Head | None = None
        self._queue: deque[_Item] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._busy = False
        self._failure = ""
        self._refused = 0
        self._oldest_s = math.inf
        make_folder(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._head_fd = -1
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RecordingError(f"{path}: another eegloop is writing this audit trail; stop it first") from None
            self._head_fd = os.open(head_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            torn = self._resume()
        except BaseException:
            self._close_files()
            raise
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        if self._head.count == 0:
            self.append("created", {"chain": path.stem, "id": secrets.token_hex(16)})
        if torn:
            self.append("torn_line_removed", {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()})

    def _resume(self) -> bytes:
        """Find the end of the chain; return the bytes of a last line that was never finished (they are cut off)."""
        size = os.fstat(self._fd).st_size
        tail = b""
        at = size
        while at > 0 and tail.count(b"\n") < 3:
            step = min(65536, at)
            at -= step
            tail = os.pread(self._fd, step, at) + tail
        whole, _, torn = tail.rpartition(b"\n")
        head = read_head(self.path)
        if not whole:
            if head is not None and head.count:
                raise RecordingError(self._refusal(f"it is empty, but its head counts {head.count} lines"))
            self._head = Head(0, GENESIS)
            self._write_head(self._head)  # before the first line: a chain without a head is never its own fault
        else:
            last = whole.rpartition(b"\n")[2]
            body = _decode(last)
            if body is None:
                raise RecordingError(self._refusal("its last line is damaged"))
            self._head = Head(body["n"] + 1, body["hash"])
            if head is None or head.count > self._head.count or (head.count == self._head.count and head.hash != self._head.hash):
                raise RecordingError(self._refusal("its end does not fit its head: lines were cut off or changed"))
        self._size = size - len(torn)
        if torn:
            os.ftruncate(self._fd, self._size)
        os.lseek(self._fd, self._size, os.SEEK_SET)
        return torn

    def _refusal(self, what: str) -> str:
        return (
            f"{self.path}: {what}. `eegloop verify {self.path}` says where; without a sound audit trail there is no stimulation. "
            "Keep the file as evidence, move it and its .head away, and start again"
        )

    # ---- for the loop

    def append(self, event: str, data: Mapping[str, Any]) -> None:
        """Take one event; it is written and synced by the thread, in order."""
        if len(self._queue) >= QUEUE_LINES:
            self._refused += 1
            return
        self._queue.append((self._clock.boot_ns(), self._clock.wall_s(), event, json.loads(json_cell(data)), time.monotonic()))
        self._wake.set()

    def anchor(self, chain: Path) -> None:
        """Write another chain's head into this one."""
        head = read_head(chain)
        if head is not None:
            self.append("anchor", {"chain": chain.stem, "path": str(chain), "count": head.count, "hash": head.hash})

    @property
    def head(self) -> Head:
        """The newest durable line."""
        return self._head

    @property
    def ok(self) -> bool:
        """False means no stimulation."""
        return not self.message

    @property
    def message(self) -> str:
        """ "" while the trail is sound; else what is wrong and what to do."""
        if self._failure:
            return self._failure
        # Of what is being written, else of what waits first; an empty trail is never behind.
        behind_s = time.monotonic() - min(self._oldest_s, self._first_waiting_s())
        if behind_s > BEHIND_S:
            return f"the audit trail is {behind_s:.1f} s behind: the disk of {self.path} is too slow or busy"
        return ""

    def _first_waiting_s(self) -> float:
        try:
            return self._queue[0][4] if self._queue else math.inf  # another thread may empty it between the two
        except IndexError:
            return math.inf

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until everything taken so far is durable; blocks, so not for the loop's thread."""
        self._wake.set()
        with self._idle:
            return self._idle.wait_for(lambda: not self._queue and not self._busy, timeout_s)

    def close(self, timeout_s: float = 1.0) -> bool:
        """Flush and close; False if not everything could be written in time."""
        done = self.flush(timeout_s)
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._close_files()
        return done

    # ---- the thread

    def _run(self) -> None:
        waiting: list[_Item] = []
        while not (self._stop.is_set() and not self._queue):
            if not waiting and not self._queue:
                self._wake.wait(RETRY_S)
                self._wake.clear()
            self._busy = True
            if self._refused:
                refused, self._refused = self._refused, 0
                self._queue.append(
                    (self._clock.boot_ns(), self._clock.wall_s(), "events_refused", {"count": refused}, time.monotonic())
                )
            waiting += [self._queue.popleft() for _ in range(len(self._queue))]
            self._oldest_s = waiting[0][4] if waiting else math.inf
            try:
                self._look()
                if waiting:
                    self._write(waiting)
                waiting = []
                self._oldest_s = math.inf
                if self._moved is not None and self._told != self._head:
                    self._moved(self._head)
                    self._told = self._head
                self._failure = ""
            except OSError as error:
                self._failure = (
                    f"the audit trail cannot be written: {error.strerror} ({error.filename or self.path}); "
                    "free some space or make it writable"
                )
                if self._stop.wait(RETRY_S):
                    return
            finally:
                with self._idle:
                    self._busy = bool(waiting) or (self._moved is not None and self._told != self._head)
                    self._idle.notify_all()

    def _look(self) -> None:
        """OSError if what is written next would be no line of this chain under this name."""
        status = os.fstat(self._fd)
        if status.st_nlink == 0:
            raise OSError(errno.ENOENT, "it was removed while it was being written", str(self.path))
        if status.st_size != self._size:
            what = "its length was changed while it was being written, and `eegloop verify` says where"
            raise OSError(errno.ENOENT, what, str(self.path))

    def _write(self, items: Sequence[_Item]) -> None:
        """Append the lines with one write and one sync, then move the head; all or nothing."""
        head = self._head
        lines: list[bytes] = []
        for boot_ns, wall_s, event, data, _ in items:
            line, digest = chain_line(head.count, boot_ns, wall_s, event, data, head.hash)
            lines.append(line)
            head = Head(head.count + 1, digest)
        block = b"".join(lines)
        try:
            write_all(self._fd, block)
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise
        self._size += len(block)
        self._head = head
        # Behind the lines, never ahead of them: after a crash the chain may be longer than its head, never shorter.
        self._write_head(head)

    def _write_head(self, head: Head) -> None:
        text = canonical({"count": head.count, "hash": head.hash}).ljust(HEAD_BYTES - 1) + b"\n"
        os.pwrite(self._head_fd, text, 0)
        os.fdatasync(self._head_fd)

    def _close_files(self) -> None:
        for fd in (self._fd, self._head_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._head_fd = -1


def _decode(line: bytes) -> dict[str, Any] | None:
    """A line whose hash is right, or None."""
    try:
        body = json.loads(line)
        if not isinstance(body, dict) or set(body) != _KEYS or not isinstance(body["n"], int):
            return None
        digest = body.pop("hash")
        if hashlib.sha256(canonical(body)).hexdigest() != digest:
            return None
        # The bytes themselves, too: a change that JSON does not mind (spaces, order) is still a change.
        return {**body, "hash": digest} if canonical({**body, "hash": digest}) == line else None
    except (ValueError, TypeError, RecursionError):
        return None


def read_chain(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a chain as far as they are sound and can be read; `verify_chain` says what is wrong with the rest."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        for raw in file:
            body = _decode(raw[:-1]) if raw.endswith(b"\n") else None
            if body is None:
                return
            yield body


def lines_of(path: Path, *events: str) -> Iterator[dict[str, Any]]:
    """The sound lines of these events, in order; years of others are only passed over."""
    marks = [f'"event":"{event}"'.encode() for event in events]
    with path.open("rb") as file:
        for raw in file:
            if (
                any(mark in raw for mark in marks)
                and (body := _decode(raw.rstrip(b"\n"))) is not None
                and body["event"] in events
            ):
                yield body


def hash_at(path: Path, number: int) -> str:
    """The hash of one line, counted from 0; "" where it is missing or not sound. Years of lines before it are only passed over."""
    with path.open("rb") as file:
        body = _decode(next(islice(file, number, None), b"")[:-1])
    return str(body["hash"]) if body is not None else ""


def sound_lines(path: Path) -> list[dict[str, Any]]:
    """Every line that fits its own hash, also after one that does not; `verify_chain` says whether they are all, and in order."""
    with path.open("rb") as file:
        return [body for raw in file if raw.endswith(b"\n") and (body := _decode(raw[:-1])) is not None]


def verify_chain(path: Path) -> list[Finding]:
    """A flipped byte, a removed, doubled or moved line, a cut tail, a swapped file of one chain."""
    findings: list[Finding] = []

    def error(line: int | None, text: str) -> None:
        findings.append(Finding("error", str(path), line, text))

    head = read_head(path)
    previous = GENESIS
    n = 0
    reached = head is None or head.count == 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.endswith(b"\n"):
                    level = "notice" if reached else "error"
                    findings.append(Finding(level, str(path), number, "the last line was never finished (crash while writing)"))
                    break
                body = _decode(raw[:-1])
                if body is None:
                    error(number, "the line does not fit its own hash: it was changed")
                    break
                if number == 1:
                    n = body["n"]
                    if n not in (0, 1):
                        error(1, f"the chain begins with line {n}: its beginning was cut off")
                    if body["event"] == "created" and body["data"].get("chain", path.stem) != path.stem:
                        error(1, f"this is the chain {body['data']['chain']!r}, put here under another name")
                if body["n"] != n or body["prev"] != previous:
                    error(number, "the line does not follow the one before: lines were removed, doubled or moved")
                    break
                previous = body["hash"]
                n += 1
                if head is not None and number == head.count:
                    reached = True
                    if head.hash != previous:
                        error(number, "the line is not the one the head names: the chain was swapped or rewritten")
    except OSError as problem:
        error(None, f"cannot be read: {problem.strerror}")
        return findings
    if head is None:
        error(None, f"its head {head_path(path).name} is missing or damaged, so a cut tail would not show")
    elif not reached and not findings:
        error(None, f"lines were cut off: the head counts {head.count}")
    return findings


def verify(*paths: Path) -> list[Finding]:
    """Every chain by itself, and against the anchors that the others hold of it."""
    findings: list[Finding] = []
    lines = {path.resolve(): list(read_chain(path)) for path in paths}
    for path in paths:
        findings += verify_chain(path)
    for holder, bodies in lines.items():
        for number, body in enumerate(bodies, start=1):
            if body["event"] != "anchor":
                continue
            data = body["data"]
            for target in lines:
                if not _same_chain(target, data):
                    continue
                other = lines[target]
                count = data.get("count", 0)
                if len(other) < count:
                    text = f"{len(other)} sound lines, but {holder.name} line {number} saw {count}: cut off or swapped"
                    findings.append(Finding("error", str(target), None, text))
                elif count and other[count - 1]["hash"] != data.get("hash"):
                    text = f"not the line that {holder.name} line {number} saw: swapped or rewritten"
                    findings.append(Finding("error", str(target), count, text))
    return findings


def _same_chain(target: Path, data: Mapping[str, Any]) -> bool:
    """Anchors name a chain by its path; a data directory that was moved keeps the last three parts."""
    parts = Path(str(data.get("path", ""))).parts[-3:]
    return bool(parts) and target.parts[-len(parts) :] == parts
