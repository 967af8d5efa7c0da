"""The heart in the EEG is told from 10 s on where it changes what is measured, and nothing else is called one."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import band_power, iaf
from dsp.heartbeat import Heartbeat
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
MONTAGE = ("TP9", "AF7", "AF8", "TP10")
LASTS_S = 40.0
T = np.arange(round(LASTS_S * RATE)) / RATE


def head(seed: int, alpha_uv: float = 8.0, muscle_uv: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = len(T)
    frequency = np.fft.rfftfreq(n, 1 / RATE)
    weights = np.where(frequency < 60, np.maximum(frequency, 0.8) ** -0.6, 0.0)
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, len(MONTAGE))), axis=0) * weights[:, np.newaxis], n, axis=0)
    bins = np.fft.rfft(rng.standard_normal((n, len(MONTAGE))), axis=0) * (frequency > 20)[:, np.newaxis]
    muscle = np.fft.irfft(bins, n, axis=0)
    alpha = alpha_uv * np.sin(2 * np.pi * 10 * T + rng.uniform(0, 6)) * (1 + 0.5 * np.sin(2 * np.pi * 0.21 * T))
    return np.asarray(7 * x / x.std(0) + alpha[:, np.newaxis] + muscle_uv * muscle / muscle.std(0))


def heart(beats_per_minute: float, seed: int) -> np.ndarray:
    """QRST of height 1 in R, every beat 4 % earlier or later."""
    rng = np.random.default_rng(seed)
    x = np.zeros(len(T))
    at_s = 0.4
    while at_s < LASTS_S:
        for later_s, width_s, height in ((-0.03, 0.009, -0.12), (0, 0.0105, 1.0), (0.028, 0.01, -0.22), (0.27, 0.05, 0.28)):
            x += height * np.exp(-0.5 * ((T - at_s - later_s) / width_s) ** 2)
        at_s += 60 / beats_per_minute * (1 + 0.04 * rng.standard_normal())
    return x


def run(x: np.ndarray) -> list[Biomarkers]:
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * len(MONTAGE), 187_500.0)
    pipeline = Pipeline(info, LineSettings(), [("band_power", band_power.Settings()), ("iaf", iaf.Settings())])
    return pipeline.push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def good(rows: list[Biomarkers], name: str, channel: str) -> float:
    column = rows[0].find(name, channel)
    return float(np.mean([row.grades[column] == Grade.GOOD for row in rows if row.end_sample / RATE > 18]))


@pytest.mark.parametrize(("beats_per_minute", "sign"), [(55, 1), (75, -1), (110, 1)])
def test_beta_and_theta_do_not_lean_on_a_heart(beats_per_minute: float, sign: int) -> None:
    x = head(1)
    beat = 50 * sign * heart(beats_per_minute, 2)[:, np.newaxis] * np.array([1.0, 0.8, 0.9, 0.7])
    calm, rows = run(x), run(x + beat)
    for channel in MONTAGE:
        for band in ("theta", "beta"):
            column = rows[0].find(f"band_power.{band}", channel)
            assert np.median([b.values[column] / a.values[column] for a, b in zip(calm[180:], rows[180:], strict=True)]) > 1.5
            assert good(rows, f"band_power.{band}", channel) == 0.0
            assert rows[-1].reasons[column] == "heartbeat"
            assert good(calm, f"band_power.{band}", channel) == 1.0
    assert not any("contact" in reasons for row in rows for reasons in row.quality.reasons)
    assert rows[-1].quality.good.all(), "it is no fault of an electrode"


def test_a_weak_one_costs_nothing_and_one_that_ends_is_forgiven() -> None:
    x = head(3)
    assert good(run(x + 8 * heart(70, 4)[:, np.newaxis]), "band_power.beta", "TP9") == 1.0
    rows = run(x + 60 * (heart(70, 4) * (T < 16))[:, np.newaxis])
    column = rows[0].find("band_power.beta", "TP9")
    assert any(row.reasons[column] == "heartbeat" for row in rows)
    assert rows[-1].grades[column] == Grade.GOOD


@pytest.mark.parametrize("seed", range(2))
def test_no_brain_and_no_muscle_is_a_heart(seed: int) -> None:
    """Strong alpha that waxes and wanes, lasting muscle, blinks every second, and spikes as sharp as R waves but not as regular."""
    rng = np.random.default_rng(seed)
    blinks = sum(np.exp(-0.5 * ((T - at) / 0.06) ** 2) for at in np.arange(1, 39, 1.0))
    spikes = sum(np.exp(-0.5 * ((T - at) / 0.0105) ** 2) for at in rng.uniform(0, LASTS_S, 40))
    for x in (
        head(seed, alpha_uv=30.0),
        head(seed, muscle_uv=8.0),
        head(seed) + 120 * blinks[:, np.newaxis] * np.array([0.1, 1.0, 1.0, 0.1]),
        head(seed) + 30 * spikes[:, np.newaxis],
    ):
        assert not any("heartbeat" in row.reasons for row in run(x))


def test_restart_and_channels_that_are_no_eeg() -> None:
    heartbeat = Heartbeat(np.array([True, True, False]), 125.0)
    beat = 40 * heart(70, 1)[::2]
    noise = np.random.default_rng(0).standard_normal((3, len(beat)))
    stretches = [slice(start, start + 312) for start in range(0, 312 * 8, 312)]
    for stretch in stretches[:3]:
        heartbeat.take(noise[:, stretch] + beat[stretch])
    heartbeat.restart()
    for stretch in stretches[3:6]:
        heartbeat.take(noise[:, stretch] + beat[stretch])
    assert not heartbeat.any, "ten seconds in a row are needed"
    heartbeat.take(noise[:, stretches[6]] + beat[stretches[6]])
    assert heartbeat.on.tolist() == [True, True, False]
