"""Slow drift that lasts: delta is not called good on it, however regular it is; slow waves of the brain are no drift."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import band_power, theta_beta_ratio
from dsp.drift import Drift
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
MONTAGE = ("Fz", "F8", "C3", "C4", "P3", "P4", "O1", "O2")
LASTS_S = 52.0
# In step, the hindmost upside down: were all alike, they would be a fault of the reference.
ROCKED = np.linspace(1.0, -0.6, len(MONTAGE))


def colored(
    rng: np.random.Generator, exponent: float, columns: int, rms_uv: float, low_hz: float = 0.1, high_hz: float = 60.0
) -> np.ndarray:
    """(n, columns) µV of noise with a 1/f^exponent spectrum between two frequencies."""
    n = round(LASTS_S * RATE)
    frequency = np.fft.rfftfreq(n, 1 / RATE)
    inside = (frequency >= low_hz) & (frequency <= high_hz)
    weights = np.where(inside, np.maximum(frequency, low_hz) ** (-exponent / 2), 0.0)
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, columns)), axis=0) * weights[:, np.newaxis], n, axis=0)
    return np.asarray(rms_uv * x / x.std(0))


def head(seed: int = 1, exponent: float = 1.2, rms_uv: float = 7.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c = len(MONTAGE)
    near = np.exp(-0.5 * ((np.arange(c)[:, np.newaxis] - np.arange(c)) / 1.5) ** 2)
    x = colored(rng, exponent, c, 1.0) @ near
    return np.asarray(rms_uv * x / x.std(0) + rng.standard_normal(x.shape))


def run(x: np.ndarray, cuts: tuple[int, ...] = ()) -> list[Biomarkers]:
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * len(MONTAGE), 187_500.0)
    marks = [("band_power", band_power.Settings()), ("theta_beta_ratio", theta_beta_ratio.Settings())]
    pipeline = Pipeline(info, LineSettings(), marks)
    rows: list[Biomarkers] = []
    edges = [*(cuts or range(0, len(x), 50)), len(x)]
    for start, stop in zip([0, *edges], edges, strict=False):
        if stop > start:
            rows += pipeline.push(Chunk(x[start:stop].astype(np.float32), start, start / RATE, start / RATE))
    return rows


def good(rows: list[Biomarkers], name: str, channel: str, from_s: float, to_s: float = np.inf) -> float:
    """Share of the hops between two times at which this value is good."""
    column = rows[0].find(name, channel)
    return float(np.mean([row.grades[column] == Grade.GOOD for row in rows if from_s < row.end_sample / RATE < to_s]))


def drifting(rows: list[Biomarkers]) -> int:
    return sum("drift" in row.reasons for row in rows)


@pytest.mark.parametrize(("frequency_hz", "height_uv"), [(0.5, 70.0), (0.9, 40.0), (1.6, 30.0)])
def test_delta_does_not_lean_on_a_rocking_head_however_regular(frequency_hz: float, height_uv: float) -> None:
    """It lasts from the beginning: no wave of it stands out, and delta is many times too large."""
    x = head()
    t = np.arange(len(x)) / RATE
    rocked = x + height_uv * np.sin(2 * np.pi * frequency_hz * t)[:, np.newaxis] * ROCKED
    rows = run(rocked)
    calm = run(x)
    column = rows[0].find("band_power.delta", "C3")
    assert np.median([a.values[column] / b.values[column] for a, b in zip(rows[100:], calm[100:], strict=True)]) > 2
    assert good(rows, "band_power.delta", "C3", 31) == 0.0
    assert next(row for row in rows if row.end_sample / RATE > 40).reasons[column] == "drift"
    for name, channel in (("band_power.theta", "C3"), ("band_power.alpha", "C3")):
        assert good(rows, name, channel, 31) == 1.0
    assert good(rows, "theta_beta_ratio", "Fz", 31) > 0.75, "without an electrode on the forehead a wave in front may be a blink"
    assert not any("drift" in reasons for row in rows for reasons in row.quality.reasons), "it is no fault of an electrode"


def test_sweat_of_one_electrode_takes_its_delta_only_and_gives_it_back() -> None:
    rng = np.random.default_rng(5)
    x = head()
    sweat = colored(rng, 0.0, 1, 60.0, 0.3, 0.6)[:, 0]
    x[:, 2] += sweat * (np.arange(len(x)) / RATE < 30)
    rows = run(x)
    assert good(rows, "band_power.delta", "C3", 27.5, 30) == 0.0
    assert good(rows, "band_power.delta", "C4", 27.5, 30) == 1.0
    assert good(rows, "band_power.delta", "C3", 30 + 20) == 1.0


@pytest.mark.parametrize("seed", range(2))
def test_delta_and_theta_do_not_lean_on_electrodes_that_wander(seed: int) -> None:
    """Random walks of 30 µV in a second, each electrode its own: 1/f², which the high pass does not take out of delta."""
    rng = np.random.default_rng(seed)
    x = natural(rng, 1.1)
    walk = 30 * np.cumsum(rng.standard_normal(x.shape), axis=0) / np.sqrt(RATE)
    calm, rows = run(x), run(x + walk)
    kept = [good(rows, f"band_power.{band}", channel, LASTS_S - 12) for band in ("delta", "theta") for channel in MONTAGE]
    assert np.mean(kept) < 0.2, kept
    column = rows[0].find("band_power.theta", "C3")
    assert np.median([b.values[column] / a.values[column] for a, b in zip(calm[100:], rows[100:], strict=True)]) > 1.5
    assert drifting(rows)
    assert not drifting(calm)


def test_an_electrode_that_is_dead_does_not_hide_what_all_others_do() -> None:
    rng = np.random.default_rng(0)
    x = natural(rng, 1.1)
    x += 30 * np.cumsum(rng.standard_normal(x.shape), axis=0) / np.sqrt(RATE)
    x[:, 1] = 0.0
    rows = run(x)
    kept = [good(rows, "band_power.delta", channel, LASTS_S - 12) for i, channel in enumerate(MONTAGE) if i != 1]
    assert np.mean(kept) < 0.2, kept


def natural(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """A head whose spectrum grows no more than 1/f below 0.8 Hz."""
    n, c = round(LASTS_S * RATE), len(MONTAGE)
    f = np.fft.rfftfreq(n, 1 / RATE)
    low = np.maximum(np.minimum(f, 0.8), 0.05) / 0.8
    weights = np.where((f > 0) & (f < 60), np.maximum(f, 0.8) ** (-exponent / 2) * low**-0.5, 0.0)
    near = np.exp(-0.5 * ((np.arange(c)[:, np.newaxis] - np.arange(c)) / 1.5) ** 2)
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, c)), axis=0) * weights[:, np.newaxis], n, axis=0) @ near
    return np.asarray(7 * x / x.std(0) + 0.5 * rng.standard_normal(x.shape))


def test_drift_is_told_from_the_first_spectrum_on_and_the_last_minute_outlives_a_gap() -> None:
    t = np.arange(round(LASTS_S * RATE)) / RATE
    rows = run(head() + 70 * np.sin(np.pi * t)[:, np.newaxis] * ROCKED)
    assert good(rows, "band_power.delta", "C3", 15.2) == 0.0
    drift = Drift(np.ones(2, dtype=np.bool_), np.ones(71))
    stretches = np.random.default_rng(1).standard_normal((8, 2, 312)) + 20 * np.sin(np.pi * np.arange(8 * 312) / 125).reshape(
        8, 1, 312
    )
    for stretch in stretches[:4]:
        drift.take(stretch)
    assert drift.on.all()
    drift.restart()
    for stretch in stretches[4:]:
        drift.take(stretch)
        assert drift.on.all()


def test_alpha_of_eight_hertz_is_no_rocking() -> None:
    """Slow alpha, in step everywhere, as narrow as a tone: means over 100 ms turned it into a wave of 2 Hz."""
    t = np.arange(round(LASTS_S * RATE)) / RATE
    assert not drifting(run(head() + 20 * np.sin(2 * np.pi * 8.1 * t)[:, np.newaxis] * np.abs(ROCKED)))


@pytest.mark.parametrize("seed", range(3))
def test_slow_waves_of_a_brain_are_no_drift(seed: int) -> None:
    """Steep spectra, broad delta that all electrodes share, and one slow wave after the other that takes 0.15 s over the head."""
    rng = np.random.default_rng(seed)
    assert not drifting(run(head(seed, exponent=2.5, rms_uv=12.0)))
    assert not drifting(run(natural(rng, 1.5)))
    waves = colored(rng, 0.0, 2, 1.0, 0.6, 3.0)
    shared = 30 * waves[:, :1] * np.linspace(1.0, 0.5, len(MONTAGE)) + 12 * waves[:, 1:] * np.linspace(-1.0, 1.0, len(MONTAGE))
    assert not drifting(run(head(seed) + shared))
    t = np.arange(round(LASTS_S * RATE))[:, np.newaxis] / RATE - 0.15 * np.linspace(0, 1, len(MONTAGE))
    assert not drifting(run(head(seed) + 30 * np.sin(2 * np.pi * 1.0 * t)))


def test_cuts_change_nothing() -> None:
    x = head()
    x += 50 * np.sin(2 * np.pi * 0.8 * np.arange(len(x)) / RATE)[:, np.newaxis] * ROCKED
    rng = np.random.default_rng(2)
    one, other = run(x), run(x, tuple(sorted(rng.integers(1, len(x), 150).tolist())))
    assert drifting(one) > 100
    for a, b in zip(one, other, strict=True):
        assert a.reasons == b.reasons
        np.testing.assert_array_equal(a.grades, b.grades)


@pytest.mark.parametrize("n", [125, 312, 325])
def test_stretches_of_any_number_of_samples(n: int) -> None:
    """0.5 Hz that reaches ten times more into delta than there is of it; silence is no drift."""
    drift = Drift(np.array([True, True, False]), np.ones(71))
    rng = np.random.default_rng(0)
    for number in range(16):
        t = (number * n + np.arange(n)) * 2.5 / n
        samples = 0.5 * rng.standard_normal((3, n))
        samples[0] = 0.0
        samples[1:] += 20 * np.sin(np.pi * t)
        drift.take(samples)
    assert drift.on.tolist() == [False, True, False]
    drift.restart()
    assert drift.any
