"""The speed table's reference is honest work, and our powers are the same numbers."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import run
from benchmarks.reference import CHUNK_S, Reference, stream


def test_reference_equals_the_shared_floor() -> None:
    named = os.environ.get("EEGLOOP_DATA")
    shared = Path(named).parent if named else Path(__file__).resolve().parents[3] / "shared"
    if not (shared / "bench" / "work.py").exists():
        pytest.skip(f"the shared bench is not here ({shared})")
    spec = importlib.util.spec_from_file_location("work", shared / "bench" / "work.py")
    assert spec is not None and spec.loader is not None
    work = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(work)
    step, result = work.scipy_floor(8, 250)
    reference = Reference(8, 250, taper=np.hanning(250), from_rest=True)
    compared = 0
    for chunk in work.stream(8, 250, 6):
        step(chunk)
        powers = reference.step(chunk)
        if powers is not None:
            assert powers[2, 0] == pytest.approx(float(result()), rel=1e-9)
            compared += 1
    assert compared == 60


@pytest.mark.parametrize(("n_channels", "rate_hz"), run.SIZES)
def test_every_hop_has_the_references_powers(n_channels: int, rate_hz: int) -> None:
    assert run.equal_powers(n_channels, rate_hz, seconds=9.0) <= 1e-6


def test_a_row_says_what_it_measured() -> None:
    row = run.band_power_row(2, 250, seconds=4.0, turns=1)
    assert row["ours"] > 0 and row["reference"] > 0 and row["ratio"] > 0
    assert row["goal"] == 0.87
    assert set(row) == {"name", "ours", "reference", "ratio", "goal", "ok"}


def test_a_difference_would_be_seen() -> None:
    """The comparison itself: powers of a reference with another taper are not within 1e-6."""
    x, k = stream(4, 250, 8.0), int(CHUNK_S * 250)
    one, other = Reference(4, 250), Reference(4, 250, taper=np.hanning(250))
    last = [
        (a, b)
        for i in range(0, len(x), k)
        if (a := one.step(x[i : i + k])) is not None and (b := other.step(x[i : i + k])) is not None
    ]
    assert np.max(np.abs(last[-1][0] / last[-1][1] - 1)) > 1e-6


def test_memory_is_flat() -> None:
    row = run.memory_row(minutes=2.0)
    assert row["ok"], row
