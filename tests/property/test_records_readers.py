"""Whatever the chunks and wherever the files end, what is read is what was written, as far as it goes."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegloop.signal import Chunk
from records import bids
from records.append import read_rows
from records.recording import Recording, RecordingPlan
from records.session import ChunkTick, EventTick, RecordedSession, StimTick, Tick
from records.timeline import Timeline
from tests.record_stream import COLUMNS, decision, grid_uv, hop, state, stream

_CHUNK = st.tuples(
    st.integers(1, 40),
    st.one_of(st.just(0), st.integers(0, 60)),
    st.sampled_from((False, False, False, True)),
    st.floats(0, 1e6, allow_nan=False),
)


def _plan(root: Path) -> RecordingPlan:
    return RecordingPlan(root, bids.Entities("a", "01", "rest"), stream(), COLUMNS, 50.0, {}, {})


def _chunks(shapes: list[tuple[int, int, bool, float]], first: int) -> list[Chunk]:
    out: list[Chunk] = []
    sample, segment = first, 0
    for count, lost, restart, t_s in shapes:
        segment += restart
        sample = sample + lost if not restart else 7 * segment
        out.append(Chunk(grid_uv(sample, count, 8), sample, t_s, t_s + 0.02, lost, segment))
        sample += count
    return out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes=st.lists(_CHUNK, min_size=1, max_size=25), first=st.integers(0, 5000), flush=st.integers(1, 6))
def test_any_chunks_come_back_exactly(shapes: list[tuple[int, int, bool, float]], first: int, flush: int) -> None:
    chunks = _chunks(shapes, first)
    with TemporaryDirectory() as folder:
        recording = Recording(_plan(Path(folder)), chunks[0].t0_s, 1.7e9)
        expected: list[Tick] = []
        for tick, chunk in enumerate(chunks):
            recording.chunk(tick, chunk, None)
            recording.stim(tick, state(tick))
            recording.event(tick, chunk.t0_s, "operator", f"press {tick}", f'{{"tick":{tick}}}')
            expected += [
                ChunkTick(tick, chunk, None),
                StimTick(tick, state(tick)),
                EventTick(tick, chunk.t0_s, "operator", f"press {tick}", {"tick": tick}),
            ]
            if tick % flush == 0:
                recording.flush()
        recording.close()
        session = RecordedSession(recording.header_path)
        got = list(session.ticks())
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            if isinstance(a, ChunkTick) and isinstance(b, ChunkTick):
                np.testing.assert_array_equal(a.chunk.data_uv, b.chunk.data_uv)
                assert (a.tick, a.chunk.first_sample, a.chunk.t0_s, a.chunk.arrival_s, a.chunk.lost_samples, a.chunk.segment) == (
                    b.tick, b.chunk.first_sample, b.chunk.t0_s, b.chunk.arrival_s, b.chunk.lost_samples, b.chunk.segment,
                )  # fmt: skip
            else:
                assert a == b
        samples = session.samples()
        lost = sum(c.lost_samples for c in chunks[1:])
        assert len(samples) == lost + sum(c.n_samples for c in chunks)
        assert np.isnan(samples).all(axis=1).sum() == lost and np.isnan(samples).any(axis=1).sum() == lost


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    recording = Recording(_plan(root), 0.0, 1.7e9)
    for i in range(60):
        first = 5 * i + (20 if i > 30 else 0)
        recording.chunk(i, Chunk(grid_uv(first, 5, 8), first, i / 50, i / 50, 20 if i == 31 else 0), None)
        recording.stim(i, state(i))
        recording.biomarkers(hop(i + 1, first + 5, i / 50))
        recording.decision(decision(i, i / 50, first + 5))
        recording.event(i, i / 50, "operator", f"µ{i}", "{}")
    recording.close()
    return root


_SUFFIXES = ("eeg.eeg", "events.tsv", "stim.tsv", "ticks.tsv", "decisions.tsv", "biomarkers.npy")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.dictionaries(st.sampled_from(_SUFFIXES), st.floats(0.0, 1.0), min_size=1))
def test_files_cut_anywhere_give_a_shorter_session_never_a_wrong_one(recorded: Path, cuts: dict[str, float]) -> None:
    header = next(recorded.rglob("*.vhdr"))
    whole = list(RecordedSession(header).ticks())
    with TemporaryDirectory() as folder:
        root = Path(shutil.copytree(recorded, Path(folder) / "copy"))
        for suffix, share in cuts.items():
            path = next(root.rglob(f"*_{suffix}"))
            content = path.read_bytes()
            keep = int(share * len(content))
            path.write_bytes(content[: max(keep, 512) if suffix.endswith("npy") else keep])
        session = RecordedSession(next(root.rglob("*.vhdr")))
        got = list(session.ticks())
        assert len(got) <= len(whole)
        for a, b in zip(got, whole, strict=False):
            if isinstance(a, ChunkTick) and isinstance(b, ChunkTick):
                np.testing.assert_array_equal(a.chunk.data_uv, b.chunk.data_uv)
            else:
                assert a == b
        rows = list(session.decisions())
        assert [r["tick"] for r in rows] == list(range(len(rows)))
        hops = read_rows(next(root.rglob("*_biomarkers.npy")))
        assert list(hops["hop"]) == list(range(1, len(hops) + 1))
        if set(cuts) == {"eeg.eeg"}:
            n = len(session.samples())
            chunks = [t.chunk for t in got if isinstance(t, ChunkTick)]
            assert (
                sum(c.n_samples + c.lost_samples for c in chunks)
                <= n
                < sum(c.n_samples + c.lost_samples for c in chunks) + 25 + 5
            )


@settings(max_examples=200, deadline=None)
@given(shapes=st.lists(_CHUNK, min_size=1, max_size=30), first=st.integers(0, 10**9))
def test_the_timeline_never_goes_back_and_onsets_follow_the_file(shapes: list[tuple[int, int, bool, float]], first: int) -> None:
    timeline = Timeline(250.0)
    before = 0
    for chunk in _chunks(shapes, first % 5000):
        place = timeline.place(chunk)
        assert place.file_sample >= before and place.missing >= 0 and place.off_grid == 0
        timeline.add(chunk, place)
        assert timeline.onset_of_sample(chunk.end_sample) == timeline.newest_onset_s == timeline.n_samples / 250.0
        before = timeline.n_samples
