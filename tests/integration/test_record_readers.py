"""The readers of the world on a recording of ours: MNE-Python while it is written, MNE-BIDS, pandas, the BIDS validator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pandas as pd
import pytest

from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from eegloop.layout import Layout
from eegloop.signal import Chunk
from records.derivatives import ReplayDerivatives
from records.session import RecordedSession
from tests.record_stream import COLUMNS, SystemClock, decision, grid_uv, hop, state, stream


def _record(
    layout: Layout, *, seat: str = "seat1", person: str = "virtual", seconds: int = 4, close: bool = True
) -> SessionRecorder:
    writer = RecordWriter()
    recorder = SessionRecorder(
        writer, layout, seat, person, "rest", stream(), COLUMNS, 50.0, {}, 0.0, SystemClock(), setup={"line": {"hop_s": 0.1}}
    )
    recorder.event(0, 0.0, "connected", "virtual headset, µ-law", {})
    sample = 0
    for i in range(50 * seconds):
        lost = 25 if i == 60 else 0
        sample += lost
        t_s = sample / 250
        recorder.chunk(i, Chunk(grid_uv(sample, 5, 8), sample, t_s, t_s, lost, int(i > 120)))
        sample += 5
        if i % 5 == 4:
            recorder.biomarkers(hop(i // 5 + 1, sample, t_s))
            recorder.stim(i, state(i))
        if i % 50 == 49:
            recorder.decision(decision(i, t_s, sample))
            recorder.event(i, t_s, "operator", 'presses "start", twice', {"by": "anna"})
            recorder.drain()
    if close:
        assert recorder.close(5)
    return recorder


def _validate(dataset: Path) -> list[dict[str, str]]:
    """Errors of the real validator, every row of every table checked; it needs no network."""
    validator = shutil.which("bids-validator-deno", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert validator, "bids-validator-deno is a development dependency: run `make setup`"
    run = subprocess.run(
        [validator, "--format", "json", "--max-rows", "-1", str(dataset)], capture_output=True, text=True, timeout=60
    )
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert issues, "the validator always has a recommendation; none means it did not run"
    return [i for i in issues if i["severity"] == "error"]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("recorded") / "data")
    layout.create()
    _record(layout)
    _record(layout)
    _record(layout, seat="seat2", person="p2")
    return layout


def test_the_validator_finds_no_error(layout: Layout) -> None:
    assert _validate(layout.recordings) == []


def test_the_validator_finds_no_error_in_the_derivatives(layout: Layout) -> None:
    assert _validate(layout.recordings / "derivatives" / "eegloop") == []


def test_the_validator_would_find_an_error(layout: Layout, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(layout.recordings, tmp_path / "copy"))
    next(copy.rglob("*_channels.tsv")).write_text("nonsense\n")
    assert _validate(copy)


def test_the_validator_finds_no_error_in_a_session_cut_short(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    layout.create()
    _record(layout, close=False)
    assert _validate(layout.recordings) == []
    assert _validate(layout.recordings / "derivatives" / "eegloop") == []


def test_mne_bids_reads_it_with_channel_types_events_and_positions(layout: Layout) -> None:
    path = mne_bids.BIDSPath(subject="virtual", session="02", task="rest", datatype="eeg", root=layout.recordings)
    raw = mne_bids.read_raw_bids(path, verbose="error")
    assert raw.info["sfreq"] == 250 and raw.info["line_freq"] == 50
    assert raw.get_channel_types() == ["eeg"] * 7 + ["eog"]
    descriptions = list(raw.annotations.description)
    assert descriptions.count("BAD_gap") == 1 and descriptions.count("operator") == 4 and "new_segment" in descriptions
    positions = raw.get_montage().get_positions()
    assert np.allclose(positions["ch_pos"]["F3"], (-0.05181, 0.08669, 0.07871)) and positions["nasion"] is not None


def test_pandas_and_numpy_read_every_table(layout: Layout) -> None:
    tables = {p.name.rsplit("_", 1)[1]: pd.read_csv(p, sep="\t", na_values="n/a") for p in layout.recordings.rglob("sub-p2*.tsv")}
    assert set(tables) == {
        "channels.tsv", "electrodes.tsv", "events.tsv", "biomarkers.tsv", "decisions.tsv", "stim.tsv", "ticks.tsv",
    }  # fmt: skip
    assert tables["biomarkers.tsv"].groupby("onset").size().eq(len(COLUMNS)).all()
    assert json.loads(tables["decisions.tsv"].limits[0])[0]["field"] == "amplitude_ma"
    hops = np.load(next(layout.recordings.rglob("sub-p2*_biomarkers.npy")))
    columns = json.loads(next(layout.recordings.rglob("sub-p2*_biomarkers.json")).read_text())["Hops"]["Columns"]
    assert hops["values"].shape == (40, len(columns)) and columns[4]["channel"] == "F3-F4"


def test_mne_reads_it_at_any_moment_while_it_is_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    layout.create()
    done = threading.Event()
    with RecordWriter(flush_s=0.001) as writer:
        recorder = SessionRecorder(writer, layout, "seat1", "virtual", "rest", stream(), COLUMNS, 50.0, {}, 0.0, SystemClock())

        def feed() -> None:
            sample = tick = 0
            while not done.is_set():
                lost = 3 if tick % 20 == 19 else 0
                sample += lost
                recorder.chunk(tick, Chunk(grid_uv(sample, 5, 8), sample, sample / 250, sample / 250, lost))
                sample += 5
                recorder.biomarkers(hop(tick + 1, sample, sample / 250))
                tick += 1
                done.wait(0.001)

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            until_s = time.monotonic() + 20
            reads, lengths = 0, set()
            while reads < 60:
                assert time.monotonic() < until_s, f"only {reads} reads in 20 s"
                headers = list(layout.recordings.glob("sub-*/ses-*/eeg/*.vhdr"))
                if not headers:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    # A marker may have been written after the reader looked at the samples: MNE-Python says so and drops it.
                    warnings.filterwarnings("ignore", message=".*outside.*data range.*")
                    raw = mne.io.read_raw_brainvision(headers[0], preload=True, verbose="error")
                samples = (raw.get_data().T * 1e6).astype(np.float32)
                whole = ~np.isnan(samples).any(axis=1)
                np.testing.assert_allclose(samples[whole], grid_uv(0, raw.n_times, 8)[whole], rtol=1e-6)
                np.load(next(layout.recordings.rglob("*_biomarkers.npy")))
                list(RecordedSession(headers[0]).ticks())
                reads += 1
                lengths.add(raw.n_times)
            assert len(lengths) > 10
        finally:
            done.set()
            feeder.join()
        assert recorder.close(5)


def test_replay_writes_the_same_derivatives(layout: Layout, tmp_path: Path) -> None:
    [header] = (layout.recordings / "sub-p2").rglob("*.vhdr")
    session = RecordedSession(header)
    out = ReplayDerivatives(tmp_path / "out", header, session.info, session.columns, session.setup)
    hops = session.hops()
    row = 0
    for entry in session.ticks():
        match type(entry).__name__:
            case "ChunkTick":
                out.chunk(entry.tick, entry.chunk)  # type: ignore[union-attr]
                end = entry.chunk.end_sample  # type: ignore[union-attr]
                while row < len(hops) and hops["end_sample"][row] <= end:
                    out.biomarkers(hop(int(hops["hop"][row]), int(hops["end_sample"][row]), float(hops["t_s"][row])))
                    row += 1
            case "StimTick":
                out.stim(entry.tick, entry.state)  # type: ignore[union-attr]
    out.close()
    live = layout.recordings / "derivatives" / "eegloop" / "sub-p2" / "ses-01" / "eeg"
    made = tmp_path / "out" / "derivatives" / "eegloop" / "sub-p2" / "ses-01" / "eeg"
    why = pd.read_csv(made / "sub-p2_ses-01_task-rest_reasons.tsv", sep="\t", keep_default_na=False)
    assert list(why.columns) == ["onset", "biomarker", "channel", "quality", "reason"]
    assert why["quality"].tolist() == ["good", "good", "suspect", "invalid", "good"], (
        "the first hop's, and nothing changed after it"
    )
    assert why["reason"].tolist() == ["n/a", "n/a", "eye blink", "gap", "n/a"]
    for suffix in ("biomarkers.tsv", "biomarkers.npy", "stim.tsv"):
        name = f"sub-p2_ses-01_task-rest_{suffix}"
        assert (made / name).read_bytes() == (live / name).read_bytes(), suffix


def test_replay_never_writes_over_the_session_it_replays(layout: Layout) -> None:
    [header] = (layout.recordings / "sub-p2").rglob("*.vhdr")
    session = RecordedSession(header)
    before = next(layout.recordings.rglob("sub-p2*_decisions.tsv")).read_bytes()
    with pytest.raises(Exception, match="choose another --out"):
        ReplayDerivatives(layout.recordings, header, session.info, session.columns, {})
    assert next(layout.recordings.rglob("sub-p2*_decisions.tsv")).read_bytes() == before


def test_replay_of_any_file_finds_a_name_and_may_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        out = ReplayDerivatives(tmp_path, Path("cyton eyes (1).txt"), stream(), COLUMNS, {})
        out.chunk(0, Chunk(grid_uv(0, 5, 8), 0, 0.0, 0.0))
        out.close()
    assert out.folder.name == "eeg" and len(list(tmp_path.rglob("sub-cytoneyes1_ses-01_task-replay_ticks.tsv"))) == 1
