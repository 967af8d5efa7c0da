"""A disk that really is full: the recording says so, ends clean and starts again when there is room."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mne
import numpy as np
import pytest

from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from eegloop.layout import Layout
from eegloop.signal import Chunk
from records.session import ChunkTick, RecordedSession
from tests.record_stream import COLUMNS, SystemClock, grid_uv, hop, state, stream

ROOT = Path(__file__).parents[2]


def _until(true: Callable[[], object], deadline_s: float = 15.0) -> None:
    until = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < until, f"waited {deadline_s} s in vain"
        time.sleep(0.005)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(disk)], capture_output=True, timeout=10
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("mounting a tmpfs needs root; RLIMIT_FSIZE and injected errors test the same without")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True, timeout=10)


def test_a_full_disk_ends_the_run_clean_and_room_begins_the_next(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.record.RETRY_S", 0.05)
    layout = Layout(small_disk / "data")
    layout.recordings.mkdir(parents=True)
    with RecordWriter(flush_s=0.005) as writer:
        recorder = SessionRecorder(
            writer, layout, "seat1", "virtual", "rest", stream(), COLUMNS, 50.0, {}, 0.0, SystemClock(), reserve_bytes=0
        )
        sample = 0

        def feed() -> None:
            nonlocal sample
            recorder.chunk(sample // 125, Chunk(grid_uv(sample, 125, 8), sample, sample / 250, sample / 250))
            recorder.biomarkers(hop(sample // 125 + 1, sample + 125, sample / 250))
            recorder.stim(sample // 125, state(3))
            sample += 125

        _until(lambda: recorder.ok)
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 600_000)
        _until(lambda: feed() or not recorder.ok)
        status = recorder.status
        assert status.status == "failed" and "No space left on device" in status.message and "free some space" in status.message
        first = next(layout.recordings.glob("sub-*/ses-*/eeg/*_task-rest_eeg.vhdr"))
        ballast.unlink()
        _until(lambda: feed() or recorder.ok)
        _until(lambda: feed() or recorder.status.session.endswith("_run-02_eeg.vhdr"))
        assert recorder.close(5)

    raw = mne.io.read_raw_brainvision(first, preload=True, verbose="error")
    np.testing.assert_allclose(raw.get_data().T * 1e6, grid_uv(0, raw.n_times, 8), rtol=1e-6)
    assert (first.with_suffix(".eeg")).stat().st_size % 32 == 0, "no half frame was left"
    chunks = [t.chunk for t in RecordedSession(first).ticks() if isinstance(t, ChunkTick)]
    assert chunks and chunks[-1].end_sample <= raw.n_times
    second = RecordedSession(layout.recordings / recorder.status.session)
    start = next(t for t in second.ticks() if isinstance(t, ChunkTick)).chunk.first_sample
    np.testing.assert_array_equal(second.samples(), grid_uv(start, len(second.samples()), 8))


_LIMITED = """
import resource, sys, time
from pathlib import Path
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from eegloop.layout import Layout
from eegloop.signal import Chunk
from tests.record_stream import COLUMNS, SystemClock, grid_uv, stream
layout = Layout(Path(sys.argv[1])); layout.recordings.mkdir(parents=True)
with RecordWriter(flush_s=0.01) as writer:
    recorder = SessionRecorder(
        writer, layout, "seat1", "virtual", "rest", stream(), COLUMNS, 50.0, {}, 0.0, SystemClock(), reserve_bytes=0)
    while not recorder.ok:  # until it has shown that the disk can be written
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    i, until = 0, time.monotonic() + 15
    while recorder.ok and time.monotonic() < until:
        recorder.chunk(i, Chunk(grid_uv(50 * i, 50, 8), 50 * i, i / 5, i / 5)); i += 1
        time.sleep(0.001)
    print(recorder.status.message)
"""


def test_a_file_that_may_not_grow_further_is_the_same_alarm(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "data")], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    assert "File too large" in run.stdout and "free some space" in run.stdout
    header = next((tmp_path / "data").rglob("*_task-rest_eeg.vhdr"))
    raw = mne.io.read_raw_brainvision(header, preload=True, verbose="error")
    assert raw.n_times * 32 == header.with_suffix(".eeg").stat().st_size <= 100_000
    np.testing.assert_allclose(raw.get_data().T * 1e6, grid_uv(0, raw.n_times, 8), rtol=1e-6)
