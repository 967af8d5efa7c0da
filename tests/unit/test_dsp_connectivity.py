"""Phase measures: the published vectors, an independent implementation, and the columns through the line."""

from __future__ import annotations

import numpy as np
import pytest

from dsp import connectivity
from dsp.biomarkers import debiased_wpli, imaginary_coherence, plv, wpli
from dsp.pipeline import Pipeline
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import Chunk, Grade, StreamInfo

MODULES = {"plv": plv, "imaginary_coherence": imaginary_coherence, "wpli": wpli, "debiased_wpli": debiased_wpli}
MEASURES = {
    "plv": connectivity.phase_locking_value,
    "imaginary_coherence": connectivity.imaginary_coherence,
    "wpli": connectivity.weighted_phase_lag_index,
    "debiased_wpli": connectivity.debiased_wpli,
}


def measure(name: str, degrees: list[float]) -> float:
    cross = np.exp(1j * np.radians(degrees))[:, np.newaxis]
    ones = np.ones((len(degrees), 1))
    return float(MEASURES[name](cross, ones, ones)[0])


@pytest.mark.parametrize(
    ("name", "degrees", "expected"),
    [
        ("plv", [30, -30], 0.866025),
        ("wpli", [30, -30], 0.0),
        ("debiased_wpli", [30, -30], -1.0),
        ("wpli", [30, 30, -30], 1 / 3),
        ("debiased_wpli", [30, 30, -30], -1 / 3),
        ("plv", [30] * 5, 1.0),
        ("wpli", [30] * 5, 1.0),
        ("debiased_wpli", [30] * 5, 1.0),
        ("imaginary_coherence", [30] * 5, 0.5),
    ],
)
def test_vectors(name: str, degrees: list[float], expected: float) -> None:
    assert measure(name, degrees) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_over_nothing_is_nan(name: str) -> None:
    zeros = np.zeros((4, 1))
    assert np.isnan(MEASURES[name](zeros.astype(complex), zeros, zeros)[0])


@pytest.mark.parametrize("name", ["wpli", "debiased_wpli"])
def test_one_signal_in_two_channels_has_no_lag_whatever_rounding_says(name: str) -> None:
    """Two channels that hold one signal (bipolar O1-O2 and O2-O1, or one scaled and rounded to a recorder's 24 bits)."""
    x = recording(seconds=80)[:, 0]
    spectra = [np.fft.rfft(y.reshape(-1, 500), axis=1)[:, 16:26] for y in (x, -x / 3, (0.7 * x).astype(np.float32))]
    for b in spectra[1:]:
        cross = spectra[0] * b.conj()
        assert np.isnan(MEASURES[name](cross, np.abs(spectra[0]) ** 2, np.abs(b) ** 2)).all()


def recording(seed: int = 0, seconds: float = 100.0, rate: float = 250.0) -> np.ndarray:
    """F4 follows F3's 10 Hz by 25 ms; O1 and O2 share nothing."""
    rng = np.random.default_rng(seed)
    n = int(rate * seconds)
    t = np.arange(n) / rate
    wander = np.cumsum(rng.standard_normal(n)) * 0.03
    noise = 6 * rng.standard_normal((4, n))
    noise[0] += 10 * np.cos(2 * np.pi * 10 * t + wander)
    noise[1] += 10 * np.cos(2 * np.pi * 10 * (t - 0.025) + wander)
    return noise.T.astype(np.float32)


@pytest.mark.parametrize("kind", MODULES)
def test_columns_equal_mne_connectivity(kind: str) -> None:
    mne_connectivity = pytest.importorskip("mne_connectivity")
    x = recording()
    info = StreamInfo("t", "t", 250.0, ("F3", "F4", "O1", "O2"), ("eeg",) * 4)
    line = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None)
    pipeline = Pipeline(info, line, [(kind, MODULES[kind].Settings(pairs=(("F3", "F4"), ("O1", "O2"))))])
    row = pipeline.push(Chunk(x, 0, 0.0, 0.0))[-1]
    epochs = x[2500:].T.reshape(4, 45, 500).transpose(1, 0, 2).astype(np.float64)
    epochs = (epochs - epochs.mean(-1, keepdims=True)) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(500) / 500))
    method = {"plv": "plv", "imaginary_coherence": "imcoh", "wpli": "wpli", "debiased_wpli": "wpli2_debiased"}[kind]
    found = mne_connectivity.spectral_connectivity_epochs(
        epochs,
        method=method,
        mode="fourier",
        sfreq=250.0,
        fmin=7.9,
        fmax=12.6,
        faverage=False,
        indices=(np.array([0, 2]), np.array([1, 3])),
        verbose="error",
    )
    # mode="fourier" puts a Hann taper of its own on; compare with the measure on equally tapered epochs.
    own = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(500) + 1) / 501)
    bins = np.fft.rfft(epochs * own, axis=-1)[..., 16:26]
    a, b = bins[:, [0, 2]], bins[:, [1, 3]]
    ours = MEASURES[kind](a * b.conj(), np.abs(a) ** 2, np.abs(b) ** 2)
    np.testing.assert_allclose(np.abs(ours), np.abs(found.get_data()), atol=0.02)
    alpha = {c: row.values[row.find(f"{kind}.alpha", c)] for c in ("F3-F4", "O1-O2")}
    plain = np.fft.rfft(epochs, axis=-1)[..., 16:26]
    a, b = plain[:, [0, 2]], plain[:, [1, 3]]
    expected = MEASURES[kind](a * b.conj(), np.abs(a) ** 2, np.abs(b) ** 2).mean(-1)
    np.testing.assert_allclose([alpha["F3-F4"], alpha["O1-O2"]], expected, rtol=1e-6)


def test_too_few_epochs_give_no_value() -> None:
    info = StreamInfo("t", "t", 250.0, ("F3", "F4"), ("eeg",) * 2)
    pipeline = Pipeline(info, LineSettings(), [("wpli", wpli.Settings())])
    rows = pipeline.push(Chunk(recording(seconds=50)[:, :2], 0, 0.0, 0.0))
    assert (rows[-1].grades == Grade.INVALID).all()
    assert set(rows[-1].reasons) == {"too_few"}


def test_small_blinks_cost_theta_its_epochs_and_alpha_none() -> None:
    """What small blinks hold lies below 8 Hz: a pair in front of the head still has its alpha band."""
    labels = ("Fp1", "Fp2", "F3", "F4", "O1", "O2")
    info = StreamInfo("t", "t", 250.0, labels, ("eeg",) * 6)
    rng = np.random.default_rng(2)
    n = 250 * 75
    x = 3 * rng.standard_normal((n, 6)) + 6 * np.cos(2 * np.pi * 10 * np.arange(n) / 250)[:, np.newaxis]
    blink = 80 * np.hanning(75)
    for at in range(750, n - 100, 1000):
        x[at : at + 75] += blink[:, np.newaxis] * np.array([1.0, 1.0, 0.4, 0.4, 0.0, 0.0])
    row = Pipeline(info, LineSettings(), [("plv", plv.Settings(pairs=(("F3", "F4"),)))]).push(
        Chunk(x.astype(np.float32), 0, 0.0, 0.0)
    )[-1]
    assert row.grades[row.find("plv.alpha", "F3-F4")] == Grade.GOOD
    assert row.reasons[row.find("plv.theta", "F3-F4")] == "too_few"


def test_unknown_pairs_are_refused_with_what_there_is() -> None:
    info = StreamInfo("t", "t", 250.0, ("F3", "F4"), ("eeg",) * 2)
    with pytest.raises(ConfigError, match=r"wpli\.pairs: 'Q1' is no EEG channel of this stream; there are: F3, F4"):
        Pipeline(info, LineSettings(), [("wpli", wpli.Settings(pairs=(("F3", "Q1"),)))])
