"""Streams beside the EEG reach the disk exactly, with their gaps, under the recording's manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from eegloop.layout import Layout
from eegloop.signal import Chunk, SideChunk
from tests.record_stream import COLUMNS, SystemClock, grid_uv, stream


def test_side_streams_are_recorded_beside_the_eeg(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    layout.create()
    with RecordWriter(flush_s=0.02, sync_s=0.05) as writer:
        recorder = SessionRecorder(writer, layout, "seat1", "virtual", "rest", stream(), COLUMNS, 50.0, {}, 1.7e9, SystemClock())
        for k in range(20):
            recorder.chunk(k, Chunk(grid_uv(5 * k, 5, 8), 5 * k, 50.0 + 0.02 * k, 100.0 + 0.02 * k))
            lost = 3 if k == 10 else 0
            first = k + (3 if k >= 10 else 0)
            data = np.array([[first, np.nan if k == 4 else 0.1 * first]], np.float32)
            recorder.side(SideChunk("auxiliary", ("accel1", "accel2"), 52.0, data, first, 60.0 + first / 52.0, 100.0, lost))
        assert recorder.close(10.0)
    [table] = layout.recordings.glob("derivatives/eegloop/sub-virtual/ses-*/eeg/*_side-auxiliary.tsv")
    rows = pd.read_csv(table, sep="\t")
    assert list(rows.columns) == ["sample", "t_s", "accel1", "accel2"]
    assert rows["sample"].tolist() == [*range(10), *range(13, 23)]  # the three lost ones are a hole in the numbers
    assert np.array_equal(rows["accel1"], rows["sample"]) and np.isnan(rows["accel2"][4])
    assert np.allclose(rows["t_s"], 60.0 + rows["sample"] / 52.0, atol=1e-6)
    assert json.loads(table.with_suffix(".json").read_text())["SamplingFrequency"] == 52.0
    [manifest] = layout.recordings.glob("derivatives/eegloop/sub-virtual/ses-*/eeg/*_manifest.json")
    assert any(name.endswith("_side-auxiliary.tsv") for name in json.loads(manifest.read_text())["files"])
