"""A raw sample that jumps off alone: its windows are not good at any rate, and it is no muscle. Real muscle and sharp waves are no jumps."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dsp.biomarkers import band_power
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

MONTAGE = ("Fz", "Cz", "P3", "P4")
LASTS_S = 22.0
JUMPS_S = (12.0, 15.03, 18.0975)
BANDS = ("delta", "theta", "alpha", "beta", "gamma")


@cache
def head(rate: float, mains_uv: float = 0.0) -> np.ndarray:
    """(n, 4) µV: 1/f, some alpha, noise of the amplifier, mains."""
    rng = np.random.default_rng(7)
    n = round(LASTS_S * rate)
    frequency = np.fft.rfftfreq(n, 1 / rate)
    weights = np.where(frequency < 60, np.maximum(frequency, 0.8) ** -0.6, 0.0)
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, len(MONTAGE))), axis=0) * weights[:, np.newaxis], n, axis=0)
    t = np.arange(n)[:, np.newaxis] / rate
    x = 5 * x / x.std(0) + 5 * np.sin(2 * np.pi * 10 * t) + 0.5 * rng.standard_normal(x.shape)
    return np.asarray(x + mains_uv * np.sin(2 * np.pi * 50 * t + np.arange(len(MONTAGE))))


def run(x: np.ndarray, rate: float, quality: QualitySettings | None = None, chunk: int = 50) -> list[Biomarkers]:
    info = StreamInfo("t", "t", rate, MONTAGE, ("eeg",) * len(MONTAGE), 187_500.0)
    pipeline = Pipeline(info, LineSettings(quality=quality or QualitySettings()), [("band_power", band_power.Settings())])
    rows: list[Biomarkers] = []
    for start in range(0, len(x), chunk):
        rows += pipeline.push(Chunk(x[start : start + chunk].astype(np.float32), start, start / rate, start / rate))
    return rows


def reasons(rows: list[Biomarkers], channel: str = "Cz") -> set[str]:
    """What any window that is not good says, once nothing settles any more."""
    columns = [i for i, column in enumerate(rows[0].columns) if column.channel == channel]
    return {row.reasons[i] for row in rows[100:] for i in columns} - {""}


@pytest.mark.parametrize("mains_uv", [0.0, 30.0])
@pytest.mark.parametrize("rate", [125.0, 128.0, 250.0, 500.0, 2000.0])
@pytest.mark.parametrize("height", [0.3, 1.0])
def test_no_value_leans_on_a_sample_that_jumps_off_alone(rate: float, height: float, mains_uv: float) -> None:
    """`height` µV times the rate: 75 and 250 µV at 250 Hz. Windows that it changes by a tenth or more are refused, for its reason."""
    x = head(rate, mains_uv)
    jumped = x.copy()
    for at_s, sign in zip(JUMPS_S, (1, -1, 1), strict=True):
        jumped[round(at_s * rate), 1] += sign * height * rate
    calm, rows = run(x, rate), run(jumped, rate)
    changed = good = 0
    for band in BANDS:
        column = rows[0].find(f"band_power.{band}", "Cz")
        for before, row in zip(calm[100:], rows[100:], strict=True):
            if abs(row.values[column] / before.values[column] - 1) > 0.1:
                changed += 1
                good += row.grades[column] == Grade.GOOD
    assert changed > 100
    assert good <= changed / 100, "what the high pass drags behind a jump, when the jump itself has left the window"
    assert reasons(rows) <= {"gradient", "step", "amplitude", "movement"}
    assert "gradient" in reasons(rows)
    assert not reasons(rows, "P4"), "no other electrode's windows"


def test_a_step_of_the_raw_level_is_seen_though_the_low_pass_flattens_it() -> None:
    x = head(250.0).copy()
    x[round(14 * 250.0) :, 1] += 60.0
    assert reasons(run(x, 250.0)) <= {"gradient", "movement", "step"}
    assert "gradient" in reasons(run(x, 250.0))


def test_muscle_sharp_waves_and_alpha_are_no_jumps() -> None:
    """60 µV above 20 Hz; sharp waves of 70 ms and 80 µV; alpha that waxes to five times its height."""
    rng = np.random.default_rng(3)
    x = head(250.0).copy()
    n, t = len(x), np.arange(len(x)) / 250.0
    bins = np.fft.rfft(rng.standard_normal(n))
    bins[np.fft.rfftfreq(n, 1 / 250.0) < 20.0] = 0.0
    burst = np.fft.irfft(bins, n)
    x[:, 0] += 60 * burst / burst.std() * ((t > 12) & (t < 13))
    for at_s in JUMPS_S:
        x[:, 2] += 80 * np.maximum(0.0, 1 - np.abs(t - at_s) / 0.035)
    x[:, 3] += 25 * np.sin(2 * np.pi * 10 * t) * (np.abs(t - 16) < 1)
    rows = run(x, 250.0)
    for channel in MONTAGE:
        assert "gradient" not in reasons(rows, channel)
    assert "neck_muscle" in reasons(rows, "Fz") or "jaw_muscle" in reasons(rows, "Fz")


def test_off_is_off_and_cuts_change_nothing() -> None:
    x = head(128.0).copy()
    x[round(12.8 * 128.0) - 1, 1] += 80.0
    assert "gradient" not in reasons(run(x, 128.0, QualitySettings(gradient_uv=None)))
    one, other = run(x, 128.0), run(x, 128.0, chunk=7)
    assert "gradient" in reasons(one)
    for a, b in zip(one, other, strict=True):
        assert a.reasons == b.reasons


def test_muscle_in_the_block_behind_a_jump_is_no_brain() -> None:
    """A tug at the cable, and the person tenses: what the jump leaves behind is not named muscle, but nothing leans on that block."""
    rate, at = 250.0, 12 * 250
    x = head(rate).copy()
    x[at - 15, 1] += 150.0
    t = np.arange(25) / rate
    x[at : at + 25, 1] += 60 * np.hanning(25) * np.sin(2 * np.pi * 35 * t)
    rows = run(x, rate)
    column = rows[0].find("band_power.beta", "Cz")
    windows = round(2 * rate)
    newest = [row.grades[column] for row in rows if row.end_sample - windows == at]
    assert len(newest) == 1 and newest[0] != Grade.GOOD
