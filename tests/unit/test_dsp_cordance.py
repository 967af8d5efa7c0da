"""Theta cordance: the published vector, its neighbors, its refusals, and the columns against a plain calculation."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import theta_cordance
from dsp.biomarkers.theta_cordance import cordance, neighbors
from dsp.electrodes import direction
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

CAP = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz", "P4", "T6", "O1", "O2")


def test_vector_without_re_attribution() -> None:
    value = cordance(np.array([4.0, 8, 12, 16]), np.array([40.0, 40, 40, 80]))
    np.testing.assert_allclose(value, [-2.75585, -0.44721, 1.86143, 1.34164], atol=1e-5)


def test_neighbors_of_the_ten_twenty_cap() -> None:
    directions = np.array([direction(label) for label in CAP])
    pairs = {frozenset((CAP[i], CAP[j])) for i, j in neighbors(directions)}
    for near in (("F3", "Fz"), ("C3", "Cz"), ("Fp1", "Fp2"), ("O1", "O2"), ("Fz", "Cz"), ("P3", "Pz")):
        assert frozenset(near) in pairs
    for far in (("F3", "F4"), ("Fz", "Pz"), ("O1", "F3"), ("T3", "T4")):
        assert frozenset(far) not in pairs
    assert all(any(label in pair for pair in pairs) for label in CAP)


def recording(seconds: float = 45.0) -> np.ndarray:
    rng = np.random.default_rng(4)
    n = int(250 * seconds)
    x = 6 * rng.standard_normal((n, len(CAP)))
    x[:, 4] += 10 * np.sin(2 * np.pi * 6 * np.arange(n) / 250)
    return x.astype(np.float32)


def run(x: np.ndarray, channels: tuple[str, ...] = CAP, **settings: object) -> list[Biomarkers]:
    info = StreamInfo("t", "t", 250.0, channels, ("eeg",) * len(channels))
    line = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None)
    pipeline = Pipeline(info, line, [("theta_cordance", theta_cordance.Settings(**settings))])
    return pipeline.push(Chunk(x, 0, 0.0, 0.0))


def test_columns_equal_a_plain_calculation() -> None:
    x = recording().astype(np.float64)
    row = run(recording())[-1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(500) / 500)
    ends = [len(x) - 250 * k for k in range(29)]
    bins = []
    for end in ends:
        segment = x[end - 500 : end]
        bins.append(np.fft.rfft((segment - segment.mean(0)) * window[:, np.newaxis], axis=0))
    directions = np.array([direction(label) for label in CAP])
    bands = [(1, 4), (4, 8), (8, 12), (12, 20)]
    sums, counts = np.zeros((len(CAP), 4)), np.zeros(len(CAP))
    for i, j in neighbors(directions):
        power = np.mean([np.abs(b[:, i] - b[:, j]) ** 2 for b in bins], axis=0)
        for site in (i, j):
            sums[site] += [power[2 * low : 2 * high].sum() for low, high in bands]
            counts[site] += 1
    attributed = sums / counts[:, np.newaxis]
    expected = cordance(attributed[:, 1], attributed.sum(1))
    found = [row.values[row.find("theta_cordance", label)] for label in CAP]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert sum(found) == pytest.approx(0.0, abs=1e-9)
    assert row.values[row.find("theta_cordance.prefrontal")] == pytest.approx(np.mean([found[0], found[1], found[4]]))
    assert np.argmax(found) == 4


def test_fewer_than_16_electrodes_are_refused() -> None:
    row = run(recording()[:, :15], CAP[:15])[-1]
    assert (row.grades == Grade.INVALID).all()
    assert "at least 16" in row.reasons[0]


def test_a_bad_electrode_is_left_out_and_too_many_end_it() -> None:
    x = recording()
    x[:, 12] = np.nan
    row = run(x)[-1]
    assert np.isnan(row.values[row.find("theta_cordance", "T5")])
    assert row.grades[row.find("theta_cordance", "Fz")] == Grade.GOOD
    x[:, 13:17] = np.nan
    row = run(x)[-1]
    assert (row.grades == Grade.INVALID).all()
