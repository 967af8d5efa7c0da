"""The recorder: sample-exact, gaps explicit, honest about what it could not do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from daemon.record import BEHIND_S, SessionRecorder
from daemon.record_writer import RecordWriter, _grown
from eegloop.errors import RecordingError
from eegloop.layout import Layout
from eegloop.signal import Chunk
from records import append, bids, tables
from records.recording import Recording, RecordingPlan
from records.session import ChunkTick, EventTick, IdleTick, RecordedSession, StimTick
from tests.record_stream import COLUMNS, SystemClock, decision, grid_uv, hop, state, stream

RATE_HZ = 250.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.recordings.mkdir(parents=True)
    return layout


@pytest.fixture
def writer() -> Iterator[RecordWriter]:
    with RecordWriter(flush_s=0.02, sync_s=0.05) as writer:
        yield writer


def _recorder(
    writer: RecordWriter,
    layout: Layout,
    *,
    seat: str = "seat1",
    person: str = "virtual",
    proven: bool = True,
    **more: object,
) -> SessionRecorder:
    recorder = SessionRecorder(
        writer, layout, seat, person, "rest", stream(), COLUMNS, 50.0, {}, 1_700_000_000.0, SystemClock(), reserve_bytes=0, **more
    )  # type: ignore[arg-type]
    if proven and writer.running:
        _until(lambda: recorder.ok)
    return recorder


def _chunk(first: int, count: int = 5, lost: int = 0, segment: int = 0, arrival_s: float = 100.0) -> Chunk:
    return Chunk(grid_uv(first, count, 8), first, 50.0 + first / RATE_HZ, arrival_s + first / RATE_HZ, lost, segment)


def _until(true: Callable[[], object], deadline_s: float = 10.0) -> None:
    until = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < until, "waited 10 s in vain"
        time.sleep(0.005)


def _session(layout: Layout, recorder: SessionRecorder) -> RecordedSession:
    return RecordedSession(layout.recordings / recorder.status.session)


def test_what_comes_back_is_what_was_sent_gaps_and_segments_included(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    sent = [_chunk(1000), _chunk(1005, 7), _chunk(1012 + 30, 5, 30), _chunk(1047, 1), _chunk(5, 4, 0, 1), _chunk(9 + 2, 3, 2, 1)]
    for tick, chunk in enumerate(sent):
        recorder.chunk(tick, chunk)
    assert recorder.close(5)
    session = _session(layout, recorder)
    got = [t for t in session.ticks() if isinstance(t, ChunkTick)]
    assert [t.tick for t in got] == list(range(6))
    for back, chunk in zip(got, sent, strict=True):
        np.testing.assert_array_equal(back.chunk.data_uv, chunk.data_uv)
        for name in ("first_sample", "t0_s", "arrival_s", "lost_samples", "segment"):
            assert getattr(back.chunk, name) == getattr(chunk, name)
    wall_s = time.time() - time.monotonic() + 104.0
    assert got[0].wall_s is not None and abs(got[0].wall_s - wall_s) < 1
    samples = session.samples()
    assert samples.shape == (12 + 30 + 6 + 4 + 2 + 3, 8)
    assert np.isnan(samples[12:42]).all() and np.isnan(samples[52:54]).all()
    assert not np.isnan(samples[:12]).any() and not np.isnan(samples[42:52]).any()
    raw = mne.io.read_raw_brainvision(session.header, preload=True, verbose="error")
    np.testing.assert_allclose(raw.get_data().T * 1e6, samples, rtol=1e-6)
    bad = [(a["onset"], a["duration"]) for a in raw.annotations if a["description"] == "Bad Interval/BAD_gap"]
    assert bad == [(12 / RATE_HZ, 30 / RATE_HZ), (52 / RATE_HZ, 2 / RATE_HZ)]
    assert [a["onset"] for a in raw.annotations if a["description"] == "New Segment/"] == [48 / RATE_HZ]
    assert raw.get_data(reject_by_annotation="omit").shape[1] == 57 - 32
    events = pd.read_csv(session.header.with_name("sub-virtual_ses-01_task-rest_events.tsv"), sep="\t")
    assert list(events.trial_type) == ["BAD_gap", "new_segment", "BAD_gap"]
    assert list(events["sample"]) == [12, 48, 52]


def test_all_inputs_of_the_loop_come_back_in_their_order(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    recorder.event(0, 49.9, "connected", "virtual", {"battery": 0.5})
    recorder.stim(0, state(0))
    recorder.chunk(1, _chunk(0))
    recorder.stim(1, state(1))
    recorder.idle(2, 50.02)
    recorder.chunk(3, _chunk(105, 5, 100))
    recorder.event(3, 50.44, "operator", "start", {"by": "anna", "bad": float("nan")})
    recorder.stim(4, state(2))
    recorder.biomarkers(hop(1, 110, 50.44))
    recorder.decision(decision(4, 50.44, 110))
    assert recorder.close(5)
    session = _session(layout, recorder)
    ticks = list(session.ticks())
    assert [(t.tick, type(t)) for t in ticks] == [
        (0, EventTick), (0, StimTick), (1, ChunkTick), (1, StimTick),
        (2, IdleTick), (3, ChunkTick), (3, EventTick), (4, StimTick),
    ]  # fmt: skip
    assert ticks[0] == EventTick(0, 49.9, "connected", "virtual", {"battery": 0.5})
    assert [t.state for t in ticks if isinstance(t, StimTick)] == [state(0), state(1), state(2)]
    assert ticks[4] == IdleTick(2, 50.02)
    assert ticks[6] == EventTick(3, 50.44, "operator", "start", {"by": "anna", "bad": None})
    [row] = session.decisions()
    assert row["sentence"] == "Alpha is 'high' at 7.3 µV², so the current rises to 1.0 mA."
    assert row["limits"] == [{"field": "amplitude_ma", "value": 1.0, "unit": "mA", "set_by": "prescription"}]
    assert row["inputs"] == {"band_power.alpha@F3": 7.25, "faa@F3-F4": None}
    assert (row["proposed_ma"], row["granted_ma"], row["confirmed_ma"], row["onset"]) == (1.25, 1.0, None, 110 / RATE_HZ)
    [first] = session.hops()
    assert first["hop"] == 1 and first["tick"] == 3 and first["onset_s"] == 110 / RATE_HZ and np.isnan(first["values"][3])
    assert session.columns == COLUMNS and session.info == stream()


def test_one_row_of_biomarkers_a_second(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    for i in range(250):
        recorder.chunk(i, _chunk(1000 + 5 * i))
        if i % 5 == 4:
            end = 1000 + 5 * (i + 1)
            recorder.biomarkers(hop(i // 5 + 1, end, 50.0 + end / RATE_HZ))
    assert recorder.close(5)
    table = pd.read_csv(next(layout.recordings.rglob("*_biomarkers.tsv")), sep="\t")
    assert sorted(table.onset.unique()) == [1, 2, 3, 4, 5]
    assert len(table) == 5 * len(COLUMNS)
    assert list(table.value[:2]) == [10.0, 20.0]


def test_two_seats_share_the_writer_and_nothing_else(writer: RecordWriter, layout: Layout) -> None:
    recorders = [_recorder(writer, layout, seat=f"s{i}", person=f"p{i % 2}") for i in range(3)]
    for i in range(20):
        for number, recorder in enumerate(recorders):
            recorder.chunk(i, _chunk(1000 * number + 5 * i))
    assert all(r.close(5) for r in recorders)
    sessions = [_session(layout, r) for r in recorders]
    assert {s.entities.stem for s in sessions} == {
        "sub-p0_ses-01_task-rest",
        "sub-p1_ses-01_task-rest",
        "sub-p0_ses-02_task-rest",
    }
    for number, session in enumerate(sessions):
        np.testing.assert_array_equal(session.samples(), grid_uv(1000 * number, 100, 8))


def test_status_says_what_is_so(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    assert recorder.status.status == "ok" and recorder.status.message == "waiting for the first sample"
    recorder.chunk(0, _chunk(0, 250))
    _until(lambda: recorder.status.seconds)
    assert recorder.status.seconds == 1.0 and recorder.status.session.endswith("ses-01/eeg/sub-virtual_ses-01_task-rest_eeg.vhdr")
    assert recorder.close(5)
    assert recorder.status.status == "off" and not recorder.ok


def test_a_writer_that_falls_behind_fails_and_loses_nothing(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = _recorder(writer, layout)
    recorder.chunk(0, _chunk(0))
    _until(lambda: recorder.status.seconds)
    held, real = threading.Event(), append.write_all

    def slow(fd: int, data: bytes) -> None:
        held.wait(30)
        real(fd, data)

    monkeypatch.setattr(append, "write_all", slow)
    recorder.chunk(1, _chunk(5))
    stuck_s = time.monotonic()
    _until(lambda: not recorder.ok)
    assert time.monotonic() - stuck_s < 1.5
    assert recorder.status.status == "failed" and "behind" in recorder.status.message
    for i in range(2, 50):
        recorder.chunk(i, _chunk(5 * i))
    assert not recorder.close(0.2), "close is bounded while the disk hangs"
    held.set()
    assert recorder.closed.wait(10)
    np.testing.assert_array_equal(_session(layout, recorder).samples(), grid_uv(0, 250, 8))


def test_a_sidecar_that_hangs_holds_up_no_samples_of_any_seat(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 30 s each recording says anew how long it is, under a name of its own: a busy file system may take seconds for that."""
    monkeypatch.setattr("daemon.record.DURATION_S", 0.0)
    seats = [_recorder(writer, layout, seat=name, person=name) for name in ("left", "right")]
    for seat in seats:
        seat.chunk(0, _chunk(0))
    _until(lambda: all(seat.status.seconds for seat in seats))
    held, hangs, real = threading.Event(), threading.Event(), append.replace_file

    def busy(path: Path, data: bytes) -> None:
        hangs.set()
        assert held.wait(30)
        real(path, data)

    monkeypatch.setattr("records.recording.replace_file", busy)
    _until(hangs.is_set)
    began_s, n = time.monotonic(), 1
    while time.monotonic() - began_s < BEHIND_S + 0.5:
        for seat in seats:
            seat.chunk(n, _chunk(5 * n))
            assert seat.ok, seat.status.message
            _until(lambda seat=seat, n=n: seat.status.seconds == 5 * (n + 1) / RATE_HZ)
        n += 1
    held.set()
    assert [seat.close(5) for seat in seats] == [True, True]
    for seat in seats:
        np.testing.assert_array_equal(_session(layout, seat).samples(), grid_uv(0, 5 * n, 8))


def test_a_new_run_after_a_long_gap_is_opened_where_it_holds_up_no_other_seat(writer: RecordWriter, layout: Layout) -> None:
    recorder, threads = _recorder(writer, layout), set[str]()
    recorder.chunk(0, _chunk(0))
    _until(lambda: recorder.status.seconds)
    real = recorder._open_run

    def watched(*arguments: object) -> Recording:
        threads.add(threading.current_thread().name)
        return real(*arguments)  # type: ignore[arg-type]

    recorder._open_run = watched  # type: ignore[method-assign]
    hour = int(3600 * RATE_HZ)
    recorder.chunk(1, Chunk(grid_uv(0, 5, 8), 5 + hour, 3650.0, 3700.0, hour))
    _until(lambda: recorder.status.session.endswith("_run-02_eeg.vhdr") and recorder.status.seconds == 10 / RATE_HZ)
    assert threads == {"record-files"} and recorder.ok
    assert recorder.close(5)


def test_a_full_disk_is_an_alarm_and_recording_starts_again_in_a_new_run(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.record.RETRY_S", 0.05)
    recorder = _recorder(writer, layout)
    recorder.chunk(0, _chunk(0))
    _until(lambda: recorder.status.seconds)

    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(append, "write_all", full)
        for i in range(1, 5):
            recorder.chunk(i, _chunk(5 * i))
        _until(lambda: not recorder.ok)
        assert recorder.status.status == "failed"
        assert "No space left" in recorder.status.message and "free some space" in recorder.status.message
    tick = 5

    def again() -> bool:
        nonlocal tick
        recorder.chunk(tick, _chunk(5 * tick))
        tick += 1
        return recorder.ok

    _until(again)
    assert recorder.close(5)
    headers = sorted(p.name for p in layout.recordings.rglob("*.vhdr"))
    assert headers == ["sub-virtual_ses-01_task-rest_eeg.vhdr", "sub-virtual_ses-01_task-rest_run-02_eeg.vhdr"]
    second = _session(layout, recorder)
    first_back = next(t for t in second.ticks() if isinstance(t, ChunkTick)).chunk
    np.testing.assert_array_equal(second.samples(), grid_uv(first_back.first_sample, 5 * tick - first_back.first_sample, 8))
    resumed = [t for t in second.ticks() if isinstance(t, EventTick)]
    assert resumed[0].kind == "recording_resumed" and "No space left" in resumed[0].text


def test_an_unwritable_directory_is_an_alarm_from_the_start(writer: RecordWriter, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    layout.data.mkdir()
    layout.recordings.write_text("a file stands where the recordings should go")
    recorder = _recorder(writer, layout, proven=False)
    assert not recorder.ok
    _until(lambda: recorder.status.status == "failed")
    assert not recorder.ok and str(layout.recordings) in recorder.status.message
    recorder.chunk(0, _chunk(0))
    assert recorder.close(5)


def test_that_the_disk_can_be_written_is_proven_beside_the_loop_and_nothing_is_recorded_before(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S6: a disk that hangs at the start holds up nobody, and until it has been written nobody may count on it."""
    lets, threads = threading.Event(), []
    real = append.replace_file

    def hangs(path: Path, data: bytes) -> None:
        threads.append(threading.current_thread().name)
        assert lets.wait(10)
        real(path, data)

    monkeypatch.setattr("daemon.record.replace_file", hangs)
    before_s = time.monotonic()
    recorder = _recorder(writer, layout, proven=False)
    took_s = time.monotonic() - before_s
    _until(lambda: threads)
    assert took_s < 0.5 and threads == ["record-files"]
    assert not recorder.ok and (recorder.status.status, recorder.status.message) == ("off", "waiting for the disk")
    recorder.chunk(0, _chunk(0))
    _until(lambda: recorder.status.status == "failed")
    assert "too slow or busy" in recorder.status.message and not recorder.ok
    lets.set()
    _until(lambda: recorder.ok and recorder.status.seconds == 5 / RATE_HZ)
    assert recorder.close(5)


def test_space_below_the_reserve_closes_the_run_while_it_still_can(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.record.SPACE_S", 0.0)
    recorder = _recorder(writer, layout)
    recorder.chunk(0, _chunk(0))
    _until(lambda: recorder.status.seconds)
    recorder._reserve_bytes = 1 << 60
    recorder.chunk(1, _chunk(5))
    _until(lambda: not recorder.ok)
    assert "kept in reserve" in recorder.status.message
    _until(lambda: list(layout.recordings.rglob("*_manifest.json")))


def test_a_failing_sync_is_a_failing_record(writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = _recorder(writer, layout)

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("daemon.record_writer.os.fdatasync", broken)
    recorder.chunk(0, _chunk(0))
    _until(lambda: not recorder.ok)
    assert "Input/output error" in recorder.status.message


def test_only_what_was_written_to_is_synced_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    dtype = np.dtype([("x", "<f8")])
    lines, rows = append.AppendFile(tmp_path / "lines.tsv", b"head\n"), append.RowFile(tmp_path / "rows.npy", dtype)
    both = lines, rows
    assert list(_grown(both)) == [lines.fd, rows.fd]
    assert list(_grown(both)) == []
    rows.append_rows(np.zeros(1, dtype))
    assert list(_grown(both)) == [rows.fd]
    lines.append(b"1\n")
    rows.append_rows(np.zeros(2, dtype))
    failing = _grown(both)
    assert next(failing) == lines.fd  # its sync fails: nobody asks for the next
    failing.close()
    assert list(_grown(both)) == [lines.fd, rows.fd]
    syncing = _grown(both)
    lines.append(b"2\n")
    assert next(syncing) == lines.fd
    lines.append(b"3\n")  # while it is synced
    assert list(syncing) == []
    assert list(_grown(both)) == [lines.fd]
    lines.append(b"4\n")
    for file in both:
        file.close()
    assert list(_grown(both)) == [], "what is closed has no descriptor to sync"


def test_a_fault_of_one_seat_leaves_the_others_recording(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, well = _recorder(writer, layout, seat="sick", person="a"), _recorder(writer, layout, seat="well", person="b")
    sick.chunk(0, Chunk(np.zeros((5, 3), np.float32), 0, 0.0, 0.0))
    _until(lambda: not sick.ok)
    assert "3" in sick.status.message and "8 channels" in sick.status.message
    sick.biomarkers("no biomarkers at all")  # type: ignore[arg-type]
    for i in range(10):
        well.chunk(i, _chunk(5 * i))
    assert well.close(5) and well.status.seconds == 0.2
    assert sick.close(5)


def test_a_gap_of_an_hour_begins_a_new_run_instead_of_an_hour_of_nan(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    recorder.chunk(0, _chunk(0))
    hour = int(3600 * RATE_HZ)
    recorder.chunk(1, Chunk(grid_uv(0, 5, 8), 5 + hour, 3650.0, 3700.0, hour))
    assert recorder.close(5)
    assert recorder.status.session.endswith("_run-02_eeg.vhdr")
    assert len(_session(layout, recorder).samples()) == 5
    assert recorder.status.seconds == 10 / RATE_HZ


def test_no_samples_no_session(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    recorder.stim(0, state(0))
    assert recorder.close(5)
    assert not list(layout.recordings.glob("sub-*"))


def test_a_name_is_no_code(writer: RecordWriter, layout: Layout) -> None:
    with pytest.raises(RecordingError, match=r"seat1, person: 'Anna Schmidt'"):
        _recorder(writer, layout, person="Anna Schmidt")


def test_enqueueing_costs_microseconds(layout: Layout) -> None:
    recorder = _recorder(RecordWriter(), layout)
    chunks = [_chunk(5 * i, arrival_s=0.0) for i in range(2000)]
    best = min(_timed(recorder, chunks[i : i + 100]) for i in range(0, 2000, 100))
    assert best / 100 < 15e-6
    assert recorder.close(5)


def _timed(recorder: SessionRecorder, chunks: list[Chunk]) -> float:
    start = time.perf_counter()
    for tick, chunk in enumerate(chunks):
        recorder.chunk(tick, chunk)
    return time.perf_counter() - start


def test_files_are_for_their_owner_alone(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    recorder.chunk(0, _chunk(0))
    assert recorder.close(5)
    for path in layout.recordings.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_session_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no session of eegloop"):
        RecordedSession(tmp_path / "recording.vhdr")
    path = tmp_path / "sub-a" / "ses-01" / "eeg" / "sub-a_ses-01_task-rest_eeg.vhdr"
    with pytest.raises(RecordingError, match="replay needs the derivatives"):
        RecordedSession(path)
    assert not RecordedSession.is_session(path)
    assert tables.NA == "n/a"


def test_a_recording_deleted_under_the_writer_is_an_alarm(
    writer: RecordWriter, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.record.SPACE_S", 0.0)
    monkeypatch.setattr("daemon.record.RETRY_S", 0.02)
    recorder = _recorder(writer, layout)
    recorder.chunk(0, _chunk(0))
    _until(lambda: recorder.status.seconds)
    shutil.rmtree(layout.recordings)
    recorder.chunk(1, _chunk(5))
    _until(lambda: not recorder.ok)
    assert "deleted" in recorder.status.message
    tick = 2

    def again() -> bool:
        nonlocal tick
        recorder.chunk(tick, _chunk(5 * tick))
        tick += 1
        return recorder.ok

    _until(again)
    assert recorder.close(5)
    assert len(_session(layout, recorder).samples()) > 0


def test_a_clock_far_off_does_not_cost_the_recording(writer: RecordWriter, layout: Layout) -> None:
    recorder = _recorder(writer, layout)
    recorder.chunk(0, Chunk(grid_uv(0, 5, 8), 0, -1e12, 1e12))
    assert recorder.close(5)
    assert len(_session(layout, recorder).samples()) == 5
    raw = mne.io.read_raw_brainvision(layout.recordings / recorder.status.session, verbose="error")
    assert raw.info["meas_date"] is not None


def test_the_last_seconds_are_closed_for_every_seat_when_the_service_ends(layout: Layout) -> None:
    writer = RecordWriter()
    writer.start()
    recorders = [_recorder(writer, layout, seat=f"s{i}", person=f"p{i}") for i in range(20)]
    for i in range(50):
        for recorder in recorders:
            recorder.chunk(i, _chunk(5 * i))
    start_s = time.monotonic()
    writer.stop(1.0)
    assert time.monotonic() - start_s < 1.5
    assert all(r.status.status == "off" and r.status.seconds == 1.0 for r in recorders)
    assert len(list(layout.recordings.rglob("*_manifest.json"))) == 20


def test_a_run_that_never_had_a_sample_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = append.write_all
    plan = RecordingPlan(tmp_path, bids.Entities("a", "01", "rest"), stream(), COLUMNS, 50.0, {}, {})
    bids.write_dataset(tmp_path, "a")
    for allowed in range(100):
        left = allowed

        def full(fd: int, data: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(fd, data)

        recording = None
        try:
            with monkeypatch.context() as patch:
                patch.setattr(append, "write_all", full)
                recording = Recording(plan, 0.0, 0.0)
                recording.chunk(0, _chunk(0), None)
                recording.flush()
            break
        except OSError:
            if recording is not None:
                with contextlib.suppress(OSError):
                    recording.close()
                if recording.visible:
                    break
        assert not list((tmp_path / "sub-a").rglob("*eeg*")), f"after {allowed} writes"
        assert not list((tmp_path / "derivatives" / "eegloop" / "sub-a").rglob("*.*")), f"after {allowed} writes"
    assert allowed > 10


def test_a_recording_that_is_there_is_never_touched(tmp_path: Path) -> None:
    plan = RecordingPlan(tmp_path, bids.Entities("a", "01", "rest"), stream(), COLUMNS, 50.0, {}, {})
    recording = Recording(plan, 0.0, 0.0)
    recording.chunk(0, _chunk(0), None)
    recording.close()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(FileExistsError, match="already"):
        Recording(plan, 0.0, 0.0)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
