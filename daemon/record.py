"""One seat's recording beside the loop: the loop enqueues, the writer's threads (daemon/record_writer.py) write.

Nothing here runs long on the loop's thread, the first proof that the disk can be written included. Nothing is dropped: when the writer is
more than 1 s behind, or the disk is full or cannot be written, `status` says "failed", the loop stops the stimulation, and
recording starts again by itself, in a new run of the same session, as soon as it can.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from daemon.record_writer import RecordWriter
from eegloop.errors import RecordingError
from eegloop.layout import Layout
from eegloop.ports import Clock
from eegloop.signal import BiomarkerColumn, Biomarkers, Chunk, SideChunk, StreamInfo
from eegloop.stim import StimState
from records import bids, tables
from records.append import AppendFile, replace_file
from records.recording import Recording, RecordingPlan
from records.tables import DecisionRow

BEHIND_S = 1.0
RETRY_S = 5.0
SPACE_S = 1.0
DURATION_S = 30.0
RESERVE_BYTES = 32 << 20
QUEUE_ITEMS = 60_000
"""About ten minutes of one seat (chunks at 50 Hz, states at 20 Hz, hops at 10 Hz); beyond it, memory goes before the record."""
EARLY_ITEMS = 2_000

_WRITE: dict[str, Callable[..., None]] = {
    "chunk": Recording.chunk,
    "biomarkers": Recording.biomarkers,
    "decision": Recording.decision,
    "stim": Recording.stim,
    "event": Recording.event,
    "idle": Recording.idle,
    "side": Recording.side,
}
_BEFORE_SAMPLES = ("stim", "event", "idle")


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """Whether what happens is being recorded.

    Attributes
    ----------
    status : str
        "ok", "failed" or "off" (closed, or the disk not yet written): no stimulation but with "ok" (S6).
    message : str
        One line for a person; with "failed" it says what to do.
    seconds : float
        Recorded so far, gaps included.
    session : str
        The run's `.vhdr`, relative to the recordings; "" before the first sample.
    """

    status: str
    message: str
    seconds: float
    session: str


class AuditSink(Protocol):
    """Where openings and closings are chained (daemon/audit.py)."""

    def append(self, event: str, data: Mapping[str, Any]) -> None: ...


class SessionRecorder:
    """One seat's recording. Its methods are for the loop's thread: they enqueue and return in microseconds.

    Parameters
    ----------
    writer : RecordWriter
        The thread that writes for all seats.
    person, task : str
        BIDS labels (letters and digits); a person stands in files under a code only.
    software_filters : mapping
        Filters that worked on the samples before eegloop had them; empty = none.
    started_wall_s : float
        Unix time at which the stream was opened; the first sample's own time is taken from `clock`.
    setup : mapping
        Settings behind biomarkers and decisions, JSON-ready, for replay (`*_setup.json`).
    audit : AuditSink or None
        Where opening, closing (with the manifest's hash) and failing are chained.
    reserve_bytes : int
        Free space below which recording stops before the disk is full, so that it can be closed properly.

    Raises
    ------
    RecordingError
        If `person` or `task` is no BIDS label, or the stream says nothing recordable. A disk that cannot be written raises
        nothing: `status` says so and it is tried again.
    """

    def __init__(
        self,
        writer: RecordWriter,
        layout: Layout,
        seat: str,
        person: str,
        task: str,
        info: StreamInfo,
        columns: Sequence[BiomarkerColumn],
        line_frequency_hz: float,
        software_filters: Mapping[str, Any],
        started_wall_s: float,
        clock: Clock,
        *,
        setup: Mapping[str, Any] | None = None,
        audit: AuditSink | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        if len(info.kinds) != info.n_channels or not info.n_channels or not info.sample_rate_hz > 0:
            what = f"{info.n_channels} channels ({len(info.kinds)} kinds) at {info.sample_rate_hz} Hz"
            raise RecordingError(f"{seat}: a stream of {what} cannot be recorded")
        self.seat = seat
        self._root = layout.recordings
        self._person = bids.label(person, f"seat {seat}, person")
        self._task = bids.label(task, f"seat {seat}, recording.task")
        self._info = info
        self._columns = tuple(columns)
        self._line_frequency_hz = line_frequency_hz
        self._software_filters = dict(software_filters)
        self._setup = {"seat": seat, "started_wall_s": started_wall_s, **(setup or {})}
        self._clock = clock
        self._audit = audit
        self._reserve_bytes = reserve_bytes
        self._writer = writer

        # The loop's side.
        self._queue: deque[tuple[Any, ...]] = deque()
        self._wall_due_s = -1e300
        self._overflow = 0
        # The writer's side; the loop only reads these (each is replaced whole).
        self._drained_s = time.monotonic()
        self._failure = ""
        self._session = ""
        self._seconds = 0.0
        self._before_s = 0.0
        self._closing = False
        self.closed = threading.Event()
        self.open_files: tuple[AppendFile, ...] = ()
        self._aside_error: OSError | None = None
        self.busy = False
        # The writer's side alone.
        self._recording: Recording | None = None
        self._session_label = ""
        self._run = 0
        self._early: deque[tuple[Any, ...]] = deque(maxlen=EARLY_ITEMS)
        self._retry_s = 0.0
        self._space_due_s = 0.0
        self._duration_due_s = 0.0
        self._run_due = False
        self._proven = False  # the disk has been written since the start
        writer.add(self)
        writer.wake()

    # ---- the loop's side

    def chunk(self, tick: int, chunk: Chunk) -> None:
        wall_s = None
        if chunk.arrival_s >= self._wall_due_s:
            self._wall_due_s = chunk.arrival_s + 1.0
            wall_s = self._clock.wall_s() - (self._clock.lsl_s() - chunk.arrival_s)
        self._put(("chunk", tick, chunk, wall_s))

    def side(self, chunk: SideChunk) -> None:
        """Samples beside the EEG; those before its first sample are not kept."""
        self._put(("side", chunk))

    def biomarkers(self, row: Biomarkers) -> None:
        self._put(("biomarkers", row))

    def decision(self, row: DecisionRow) -> None:
        self._put(("decision", row))

    def stim(self, tick: int, state: StimState) -> None:
        """Every state of the interlock, on the tick that saw it."""
        self._put(("stim", tick, state))

    def event(self, tick: int, t_s: float, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """An operator's command, news from the source, a change of phase: whatever else the loop was told or did."""
        self._put(("event", tick, t_s, kind, text, tables.json_cell(data)))

    def idle(self, tick: int, t_s: float) -> None:
        """A tick on which nothing arrived but time passed (staleness is decided on such ticks)."""
        self._put(("idle", tick, t_s))

    def _put(self, item: tuple[Any, ...]) -> None:
        if len(self._queue) >= QUEUE_ITEMS:
            self._overflow += 1
            return
        self._queue.append(item)

    @property
    def ok(self) -> bool:
        """True while everything is being recorded; False means no stimulation."""
        return self._proven and not (self._failure or self._closing) and time.monotonic() - self._drained_s <= BEHIND_S

    @property
    def status(self) -> RecordingStatus:
        if self.closed.is_set():
            return RecordingStatus("off", "recording closed", self._seconds, self._session)
        behind_s = time.monotonic() - self._drained_s
        if self._failure:
            return RecordingStatus("failed", self._failure, self._seconds, self._session)
        if behind_s > BEHIND_S:
            message = f"recording is {behind_s:.1f} s behind: the disk of {self._root} is too slow or busy; nothing is lost yet"
            return RecordingStatus("failed", message, self._seconds, self._session)
        if not self._proven:
            return RecordingStatus("off", "waiting for the disk", self._seconds, self._session)
        message = "recording" if self._session else "waiting for the first sample"
        return RecordingStatus("ok", message, self._seconds, self._session)

    def close(self, timeout_s: float = 1.0) -> bool:
        """Write what is left, close with a manifest; False if that took longer than `timeout_s` (it goes on in the thread)."""
        self.begin_close()
        if not self._writer.running:
            self.drain()
        return self.closed.wait(timeout_s)

    def begin_close(self) -> None:
        """Ask for closing without waiting."""
        self._closing = True
        self._writer.wake()

    # ---- the writer's side

    def touches_names(self) -> bool:
        """True if the next `drain` may make, rename or remove files, which is not for the thread that all seats share."""
        return self._closing or self._run_due or self._recording is None or bool(self._failure)

    def duration_due(self) -> bool:
        """True each time the sidecar should say anew how long the recording is."""
        recording, now_s = self._recording, time.monotonic()
        if recording is None or not recording.visible or now_s < self._duration_due_s:
            return False
        self._duration_due_s = now_s + DURATION_S
        return True

    def write_duration(self) -> None:
        """For the thread that touches names; samples are written meanwhile."""
        recording = self._recording
        if recording is None:
            return
        try:
            recording.write_duration()
        except OSError as error:
            self._aside_error = error

    def drain(self, names: bool = True) -> None:
        """Write everything enqueued so far; for one of the writer's threads at a time.

        `names`: this thread may also open and close runs; where it may not, what needs that stays enqueued.
        """
        started_s = time.monotonic()
        closing = self._closing and names
        items = [self._queue.popleft() for _ in range(len(self._queue))]
        left: list[tuple[Any, ...]] = []
        try:
            if names and self._failure:
                self._finish_failed()
            if self._aside_error is not None:
                error, self._aside_error = self._aside_error, None
                raise error
            if started_s >= self._retry_s:
                left = self._write(items, started_s, names)
            if closing and not self.closed.is_set():
                self._finish_run("closed")
        except (OSError, RecordingError) as error:
            self._fail(error, started_s)
            if closing:
                self._finish_failed()
        self._queue.extendleft(reversed(left))
        self._run_due = bool(left)
        if not left:
            self._drained_s = started_s
        if closing:
            self.closed.set()

    def _write(self, items: list[tuple[Any, ...]], now_s: float, names: bool) -> list[tuple[Any, ...]]:
        """What could not be written without opening a run, which needs `names`, is given back."""
        if now_s >= self._space_due_s or self._failure or not self._proven:
            self._space_due_s = now_s + SPACE_S
            if self._failure or not self._proven:
                self._prove_writable()
                self._proven = True
            else:
                self._check_space()
            if self._recording is not None and self._recording.removed:
                raise OSError(errno.ENOENT, "the recording was deleted while it was being written", self._session)
        left: list[tuple[Any, ...]] = []
        for i, item in enumerate(items):
            if item[0] == "chunk":
                recording = self._recording
                if recording is None or not recording.fits(item[2]):
                    if not names:
                        left = items[i:]
                        break
                    recording = self._open_run(item[1], item[2], item[3])
                recording.chunk(item[1], item[2], item[3])
            elif self._recording is not None:
                _WRITE[item[0]](self._recording, *item[1:])
            elif item[0] in _BEFORE_SAMPLES:
                self._early.append(item)
        if self._recording is None:
            self._failure = ""
            return left
        if self._overflow:
            overflow, self._overflow = self._overflow, 0
            text = f"{overflow} entries did not fit into memory while the disk hung"
            self._recording.event(0, self._clock.lsl_s(), "not_recorded", text, tables.json_cell({"entries": overflow}))
        new = not self._recording.visible
        self._recording.flush()
        files = tuple(self._recording.files())
        if new or len(files) != len(self.open_files):  # a side stream's file begins with its first samples
            self.open_files = files
            self._writer.sync_folders(self, self._recording.folders)
        if new:
            self._chain("recording_opened", {"path": self._session})
        self._seconds = self._before_s + self._recording.seconds
        self._failure = ""
        return left

    def _open_run(self, tick: int, chunk: Chunk, wall_s: float | None) -> Recording:
        self._finish_run("a gap too long to write as missing samples")
        if not self._session_label:
            bids.write_dataset(self._root, self._person)
            self._session_label = bids.take_session(self._root, self._person)
        self._run += 1
        entities = bids.Entities(self._person, self._session_label, self._task, self._run)
        plan = RecordingPlan(
            self._root, entities, self._info, self._columns, self._line_frequency_hz, self._software_filters, self._setup
        )
        if wall_s is None:
            wall_s = self._clock.wall_s() - (self._clock.lsl_s() - chunk.arrival_s)
        # A source whose times are not of this machine's clock (a file played fast) began when it arrived.
        delay_s = chunk.arrival_s - chunk.t0_s
        recording = Recording(plan, chunk.t0_s, wall_s - (delay_s if 0.0 <= delay_s <= 60.0 else 0.0))
        self._duration_due_s = time.monotonic() + DURATION_S
        self._recording = recording
        self._session = str(recording.header_path.relative_to(self._root))
        for item in self._early:
            _WRITE[item[0]](recording, *item[1:])
        self._early.clear()
        if self._run > 1:
            text = f"recording resumed after: {self._failure}" if self._failure else "recording continues after a long gap"
            recording.event(tick, chunk.t0_s, "recording_resumed", text, "{}")
        return recording

    def _finish_run(self, reason: str) -> None:
        recording, self._recording = self._recording, None
        if recording is None:
            return
        self.open_files = ()
        try:
            manifest = recording.close()
        finally:
            self._before_s += recording.seconds
            self._seconds = self._before_s
        if manifest is not None:
            self._writer.sync_folders(self, recording.folders)
            self._chain("recording_closed", {"path": self._session, "reason": reason, "manifest": manifest})

    def _prove_writable(self) -> None:
        bids.write_dataset(self._root, self._person)
        self._check_space()
        probe = self._root / f".probe-{self.seat}"
        replace_file(probe, b"eegloop writes here\n")
        probe.unlink()

    def _check_space(self) -> None:
        free = os.statvfs(self._root)
        needed = self._reserve_bytes * (2 if self._failure else 1)  # hysteresis: no flapping at the edge
        if free.f_bavail * free.f_frsize < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._root))

    def _fail(self, error: OSError | RecordingError, now_s: float) -> None:
        first = not self._failure
        self._failure = self._describe(error)
        self._retry_s = now_s + RETRY_S
        if first:
            self._chain("recording_failed", {"path": self._session, "message": self._failure})

    def _finish_failed(self) -> None:
        try:
            self._finish_run(self._failure)
        except (OSError, RecordingError):
            pass  # the disk is full: closed as far as it goes, readable without the manifest

    def _describe(self, error: OSError | RecordingError) -> str:
        if isinstance(error, RecordingError):
            return str(error)
        with_what = f"recording failed: {error.strerror or error} ({error.filename or self._root})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            with contextlib.suppress(OSError):
                free = os.statvfs(self._root)
                free_mb, reserve_mb = free.f_bavail * free.f_frsize / 1e6, self._reserve_bytes / 1e6
                with_what += f", {free_mb:.0f} MB free, {reserve_mb:.0f} MB are kept in reserve"
            return f"{with_what}; free some space, recording then starts again by itself"
        return f"{with_what}; make it writable, recording then starts again by itself"

    def _chain(self, event: str, data: Mapping[str, Any]) -> None:
        if self._audit is not None:
            self._audit.append(event, {"seat": self.seat, **data})

    def give_up(self, error: Exception) -> None:
        """An error nobody foresaw: this recorder ends, the other seats' go on."""
        self._failure = (
            f"recording failed by an internal error ({type(error).__name__}: {error}); please report it, then restart eegloop"
        )
        self._retry_s = math.inf
        recording, self._recording = self._recording, None
        self.open_files = ()
        if recording is not None:
            recording.abandon()
        self._chain("recording_failed", {"path": self._session, "message": self._failure})

    def sync_failed(self, error: OSError) -> None:
        """The sync thread could not bring the files to the disk."""
        self._aside_error = error
