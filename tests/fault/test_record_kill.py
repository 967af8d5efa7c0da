"""kill -9 at a random moment: at most a second is lost, and everything opens without repair."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from records.session import ChunkTick, RecordedSession
from tests.record_stream import grid_uv

ROOT = Path(__file__).parents[2]
RATE_HZ = 250.0


def _kill_one(data: Path, seed: int) -> float:
    """Start a recorder, kill it at a random moment, check all it left; return the seconds that were lost."""
    run_s = random.Random(seed).uniform(0.8, 2.5)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.record_stream", str(data), str(seed)], cwd=ROOT, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    sent = b""
    until = None
    try:
        while until is None or time.monotonic() < until:
            left = 30.0 if until is None else until - time.monotonic()
            if select.select([process.stdout], [], [], max(0.0, left))[0]:
                sent += os.read(process.stdout.fileno(), 65536)
                if until is None:
                    until = time.monotonic() + run_s
            else:
                assert until is not None, "the recorder did not start within 30 s"
    finally:
        process.kill()
        killed_s = time.monotonic()
        sent += process.stdout.read()
        process.wait()
    lines = [json.loads(line) for line in sent.splitlines() if line.endswith(b"}")]
    # A sample counts as sent when it was announced and the moment of the kill had not come.
    sent_samples = max(line["end"] for line in lines if line["t"] <= killed_s)

    [header] = (data / "recordings").glob("sub-*/ses-*/eeg/*_eeg.vhdr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = mne.io.read_raw_brainvision(header, preload=True, verbose="error")
    n = raw.n_times
    got_uv = (raw.get_data() * 1e6).T.astype(np.float32)
    session = RecordedSession(header)
    ticks = [t for t in session.ticks() if isinstance(t, ChunkTick)]
    origin = ticks[0].chunk.first_sample
    expected = grid_uv(origin, n, 8)
    whole = ~np.isnan(got_uv).any(axis=1)
    np.testing.assert_allclose(got_uv[whole], expected[whole], rtol=1e-6)

    for entry in ticks:
        chunk = entry.chunk
        np.testing.assert_array_equal(chunk.data_uv, grid_uv(chunk.first_sample, chunk.n_samples, 8))
    replayed = ticks[-1].chunk.end_sample
    assert (sent_samples - replayed) / RATE_HZ <= 1.0
    hops = session.hops()
    assert len(hops) and (sent_samples - hops["end_sample"][-1]) / RATE_HZ <= 1.0
    stem = header.name.removesuffix("_eeg.vhdr")
    assert len(np.load(next((data / "recordings" / "derivatives").rglob("*_biomarkers.npy")))) <= len(hops)
    for table in (data / "recordings").rglob(f"{stem}_*.tsv"):
        pd.read_csv(table, sep="\t", na_values="n/a")
    assert list(session.decisions())
    gaps = [a for a in raw.annotations if a["description"].endswith("BAD_gap")]
    assert round(sum(a["duration"] for a in gaps) * RATE_HZ) == np.count_nonzero(~whole)
    return (sent_samples - origin - n) / RATE_HZ


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_loses_at_most_a_second(tmp_path: Path, seed: int) -> None:
    assert _kill_one(tmp_path, seed) <= 1.0


@pytest.mark.faults
def test_kill_9_twenty_times(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    lost_s = sorted(_kill_one(tmp_path / str(seed), seed) for seed in range(100, 120))
    record_property("lost_s", lost_s)
    print(f"kill -9, 20 times: lost {lost_s[10] * 1e3:.0f} ms in the median, {lost_s[-1] * 1e3:.0f} ms in the worst case")
    assert lost_s[-1] <= 1.0
