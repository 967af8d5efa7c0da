"""The eLORETA filter equals MNE's own, ignores the reference, scales as power, and finds a source put into the region."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from dsp import inverse
from dsp.biomarkers import source_theta
from dsp.biomarkers.source_theta import region_share
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Chunk, Grade, StreamInfo

CAP = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2")


@pytest.fixture(scope="module")
def forms() -> tuple[np.ndarray, np.ndarray, int]:
    return inverse.power_forms(CAP, inverse.Roi())


def test_power_equals_mnes_apply_inverse_raw(forms: tuple[np.ndarray, np.ndarray, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((19, 200)) * 1e-5
    operator, info = inverse.inverse_operator(CAP)
    raw = mne.io.RawArray(x, info, verbose="error")
    estimate = mne.minimum_norm.apply_inverse_raw(
        raw, operator, lambda2=inverse.LAMBDA2, method="eLORETA", pick_ori="vector", prepared=True, verbose="error"
    )
    power = np.mean(np.sum(estimate.data**2, axis=(1, 2)))
    assert np.sum(forms[1] * (x @ x.T)) == pytest.approx(power, rel=1e-9)
    assert forms[2] == 16, "sources in the region, as published with the recipe"


def test_the_reference_does_not_matter_and_power_is_quadratic(forms: tuple[np.ndarray, np.ndarray, int]) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((19, 300))
    moved = x + rng.standard_normal(300) * 5
    for form in forms[:2]:
        assert np.sum(form * (x @ x.T)) == pytest.approx(np.sum(form * (moved @ moved.T)), rel=1e-9)
        assert np.sum(form * (2 * x @ (2 * x).T)) == pytest.approx(4 * np.sum(form * (x @ x.T)), rel=1e-12)
    assert region_share(*forms[:2], x @ x.T) == pytest.approx(region_share(*forms[:2], 9 * x @ x.T))
    assert np.isnan(region_share(*forms[:2], np.zeros((19, 19))))


def test_column_rises_with_frontal_midline_theta_and_holds_on_blinks() -> None:
    rng = np.random.default_rng(2)
    n = 250 * 40
    quiet = 5 * rng.standard_normal((n, 19))
    theta = quiet.copy()
    theta[:, 4] += 12 * np.sin(2 * np.pi * 6 * np.arange(n) / 250)
    info = StreamInfo("t", "t", 250.0, CAP, ("eeg",) * 19)

    def last(x: np.ndarray):
        pipeline = Pipeline(info, LineSettings(), [("source_theta", source_theta.Settings())])
        return pipeline.push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))[-1]

    one, other = last(quiet), last(theta)
    assert (one.grades == Grade.GOOD).all() and (other.grades == Grade.GOOD).all()
    assert other.values[0] > one.values[0] + 0.1
    blinks = quiet.copy()
    for start in range(0, n, 500):
        blinks[start : start + 60, :2] += 400 * np.hanning(60)[:, np.newaxis]
    row = last(blinks)
    assert row.grades[0] == Grade.INVALID
    assert row.reasons[0] == "too_few"


def test_fewer_than_19_electrodes_are_refused() -> None:
    info = StreamInfo("t", "t", 250.0, CAP[:18], ("eeg",) * 18)
    pipeline = Pipeline(info, LineSettings(), [("source_theta", source_theta.Settings())])
    row = pipeline.push(Chunk(np.zeros((500, 18), np.float32), 0, 0.0, 0.0))[-1]
    assert row.grades[0] == Grade.INVALID
    assert "at least 19" in row.reasons[0]
