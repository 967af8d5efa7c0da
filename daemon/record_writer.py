"""The threads that write every seat's recording, beside the loop.

One writes for all seats. One makes, renames and removes files (a busy file system can hold that up for seconds, and nobody's
session may suffer because another one begins, or because a sidecar says anew how long it is). One syncs to the disk.

How much a crash can cost: the writer hands everything to the kernel every 0.25 s (a kill -9 loses no more than that and the write
in progress), the sync thread brings it to the disk every 2 s (a power failure loses about that; more on a disk that is slower than its
seats); from fifty seats on (`MANY`) every 0.5 s and 4 s.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from eegloop.many import MANY
from records.append import AppendFile

if TYPE_CHECKING:
    from daemon.record import SessionRecorder

FLUSH_S = 0.25
SYNC_S = 2.0
_NOT_OURS = (errno.EBADF, errno.EINVAL, errno.EROFS, errno.ENOENT)


class RecordWriter:
    """The threads that write for all seats. `with RecordWriter() as writer:`."""

    def __init__(self, flush_s: float = FLUSH_S, sync_s: float = SYNC_S) -> None:
        self._flush_s = flush_s
        self._sync_s = sync_s
        self._recorders: tuple[SessionRecorder, ...] = ()
        self._folders: deque[tuple[SessionRecorder, tuple[Path, ...]]] = deque()
        self._with_names: SimpleQueue[tuple[SessionRecorder, bool] | None] = (
            SimpleQueue()
        )  # the whole of it, or its duration only
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        # Daemon threads: a disk that hangs must not keep the process from ending.
        self._threads = (
            threading.Thread(target=self._write_all, name="record-write", daemon=True),
            threading.Thread(target=self._touch_names, name="record-files", daemon=True),
            threading.Thread(target=self._sync_all, name="record-sync", daemon=True),
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Close every recorder that is still open and end the threads, within about `timeout_s`."""
        until_s = time.monotonic() + timeout_s
        recorders = self._recorders
        for recorder in recorders:
            recorder.begin_close()
        for recorder in recorders:
            recorder.close(max(0.0, until_s - time.monotonic()))
        self._stop.set()
        self._wake.set()
        self._with_names.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def __enter__(self) -> RecordWriter:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._threads[0].is_alive()

    @property
    def _slower(self) -> int:
        """Many recorders are written and synced half as often: either costs more than what is in it."""
        return 1 if len(self._recorders) < MANY else 2

    def add(self, recorder: SessionRecorder) -> None:
        with self._lock:
            self._recorders = (*self._recorders, recorder)

    def wake(self) -> None:
        """Write now instead of at the next turn."""
        self._wake.set()

    def _write_all(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._flush_s * self._slower)
            self._wake.clear()
            for recorder in self._recorders:
                if recorder.closed.is_set() or recorder.busy:
                    continue
                if recorder.touches_names():
                    recorder.busy = True
                    self._with_names.put((recorder, True))
                else:
                    self._guard(recorder, partial(recorder.drain, False))
                    if recorder.duration_due():
                        self._with_names.put((recorder, False))
            with self._lock:
                self._recorders = tuple(r for r in self._recorders if not r.closed.is_set())

    def _touch_names(self) -> None:
        while (job := self._with_names.get()) is not None:
            recorder, whole = job
            self._guard(recorder, recorder.drain if whole else recorder.write_duration)
            if whole:
                recorder.busy = False

    def _guard(self, recorder: SessionRecorder, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # these threads supervise every seat's record: one seat's fault stays its own
            recorder.give_up(error)

    def sync_folders(self, recorder: SessionRecorder, folders: Sequence[Path]) -> None:
        """Have everything in these folders, and the folders themselves, brought to the disk."""
        self._folders.append((recorder, tuple(folders)))

    def _sync_all(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(self._sync_s * self._slower)
            while self._folders:
                recorder, folders = self._folders.popleft()
                for folder in folders:
                    _sync(recorder, _open_whole(folder), close=True)
            for recorder in self._recorders:
                _sync(recorder, _grown(recorder.open_files))


def _grown(files: Iterable[AppendFile]) -> Iterator[int]:
    """Descriptors of what was written to since its last sync; a file counts as synced only once the one asking comes back for the next."""
    for file in files:
        writes, fd = file.writes, file.fd
        if fd >= 0 and writes != file.synced:  # one that was closed meanwhile was synced then
            yield fd
            file.synced = writes


def _open_whole(folder: Path) -> Iterator[int]:
    """Descriptors of what stands in a folder, and of the folder itself (its names are on the disk only then)."""
    for path in [*folder.iterdir(), folder]:
        yield os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _sync(recorder: SessionRecorder, fds: Iterable[int], *, close: bool = False) -> None:
    """Bring files to the disk; a failure is the recorder's."""
    try:
        for fd in fds:
            try:
                os.fdatasync(fd)
            finally:
                if close:
                    os.close(fd)
    except OSError as error:
        # A descriptor closed or a file renamed meanwhile, or a file system without sync, is no failure of the record.
        if error.errno not in _NOT_OURS:
            recorder.sync_failed(error)
