"""Flat, rail, amplitude and line noise: each named on its channel, at its time, and felt by the values."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.artifacts import Finding
from dsp.biomarkers import band_power
from dsp.codes import Code
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0


def run(x: np.ndarray, line: LineSettings | None = None, full_scale_uv: float = 10_000.0) -> list[Biomarkers]:
    info = StreamInfo(
        "t", "t", RATE, tuple(f"E{i}" for i in range(x.shape[1])), ("eeg",) * x.shape[1], full_scale_uv=full_scale_uv
    )
    pipeline = Pipeline(info, line or LineSettings(window_s=1.0), [("band_power", band_power.Settings())])
    return pipeline.push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def eeg(seconds: float = 12, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    return 8 * rng.standard_normal((n, channels)) + 15 * np.sin(2 * np.pi * 10 * np.arange(n) / RATE)[:, np.newaxis]


def reasons(rows: list[Biomarkers], channel: int) -> dict[int, tuple[str, ...]]:
    return {row.end_sample: row.quality.reasons[channel] for row in rows}


def test_clean_signal_is_good() -> None:
    last = run(eeg())[-1].quality
    assert last.good.all()
    assert last.reasons == ((), (), ())
    assert last.clean_fraction == 1.0
    assert (last.line_ratio < 0.1).all()


@pytest.mark.parametrize("start", [2000, 2005, 2012, 2024])
def test_flat_for_200_ms_wherever_it_begins(start: int) -> None:
    x = eeg()
    x[start : start + 52, 1] = 3.0
    rows = run(x)
    named = [end for end, r in reasons(rows, 1).items() if "flat" in r]
    assert named, "not noticed"
    assert start + 50 <= named[-1] <= start + 52 + 50
    assert not any("flat" in r for r in reasons(rows, 0).values())


def test_100_ms_of_stillness_is_not_flat() -> None:
    x = eeg()
    x[2000:2030, 1] = 3.0
    assert not any("flat" in r for r in reasons(run(x), 1).values())


def test_a_flat_electrode_is_suspect_for_good() -> None:
    x = eeg()
    x[1500:, 1] = 3.0
    rows = run(x)
    assert all("flat" in r for end, r in reasons(rows, 1).items() if end > 1600)
    last = rows[-1]
    for i, column in enumerate(last.columns):
        assert last.grades[i] == (Grade.SUSPECT if column.channel == "E1" else Grade.GOOD)
    assert last.quality.clean_fraction == pytest.approx(2 / 3)


def test_rail_within_one_percent_of_full_scale() -> None:
    x = eeg()
    x[2000:2010, 2] = 9_950.0
    rows = run(x)
    assert "rail" in reasons(rows, 2)[2025]
    assert not any("rail" in r for r in reasons(run(x, full_scale_uv=0.0), 2).values())
    x[2000:2010, 2] = -9_800.0
    assert not any("rail" in r for r in reasons(run(x), 2).values())


def test_amplitude_spoils_every_window_that_holds_it_and_no_other() -> None:
    x = eeg()
    x[2005:2015, 0] += 400.0
    rows = run(x)
    named = [end for end, r in reasons(rows, 0).items() if "amplitude" in r]
    assert named[0] == 2025
    for row in rows:
        if row.end_sample > 1300:
            hit = any(row.end_sample - 250 < end <= row.end_sample for end in named)
            grade = row.grades[row.find("band_power.alpha", "E0")]
            assert grade == (Grade.SUSPECT if hit else Grade.GOOD), row.end_sample
            assert row.reasons[row.find("band_power.alpha", "E0")] == ("amplitude" if hit else "")
            assert np.isfinite(row.values).all()
            assert row.grades[row.find("band_power.alpha", "E1")] == Grade.GOOD


def test_amplitude_without_a_high_pass_ignores_the_offset() -> None:
    line = LineSettings(window_s=1.0, high_pass_hz=None, low_pass_hz=None, notch_hz=None)
    x = eeg() + 4_000
    assert run(x, line)[-1].quality.good.all()
    x[2900:2910, 0] += 500
    assert run(x, line)[-1].grades[0] == Grade.SUSPECT


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_line_noise_is_measured_before_the_notch(mains: float) -> None:
    """20 µV of mains on one channel: its power, 200 µV², over the 1-45 Hz power, found at 50 and at 60 Hz alike."""
    x = eeg()
    x[:, 1] += 20 * np.sin(2 * np.pi * mains * np.arange(len(x)) / RATE)
    rows = run(x, LineSettings(window_s=1.0, notch_hz=int(mains)))
    last = rows[-1]
    total = sum(last.values[last.find(f"band_power.{band}", "E1")] for band in band_power.DEFAULT_BANDS)
    assert last.quality.line_ratio[1] == pytest.approx(200 / total, rel=0.2)
    assert last.quality.reasons == ((), ("line_noise",), ())
    assert last.quality.good.tolist() == [True, False, True]
    assert (last.grades == Grade.GOOD).all(), "the notch takes it out, the values stand"


def test_line_noise_that_stays_makes_values_suspect() -> None:
    x = eeg()
    x[:, 1] += 60 * np.sin(2 * np.pi * 50 * np.arange(len(x)) / RATE)
    last = run(x, LineSettings(window_s=1.0, notch_hz=None, low_pass_hz=None))[-1]
    for i, column in enumerate(last.columns):
        assert last.grades[i] == (Grade.SUSPECT if column.channel == "E1" else Grade.GOOD)


def test_drift_and_offset_do_not_look_like_line_noise() -> None:
    x = eeg() + np.linspace(0, 5_000, 3000)[:, np.newaxis] + np.array([60_000, -60_000, 0])
    assert (run(x, full_scale_uv=0)[-1].quality.line_ratio < 0.1).all()


def test_thresholds_are_the_settings() -> None:
    x = eeg()
    x[2005:2015, 0] += 400.0
    loose = LineSettings(window_s=1.0, quality=QualitySettings(amplitude_uv=1000))
    assert not any("amplitude" in r for r in reasons(run(x, loose), 0).values())


def test_muscle_that_is_told_late_does_not_hide_a_newer_one() -> None:
    info = StreamInfo("t", "t", RATE, ("E0", "E1"), ("eeg",) * 2)
    pipeline = Pipeline(info, LineSettings(window_s=1.0), [("band_power", band_power.Settings())])
    row = pipeline.push(Chunk(eeg(12, 2).astype(np.float32), 0, 0.0, 0.0))[-1]
    quality, newest, both = pipeline._quality, 120, np.ones(2, dtype=np.bool_)
    for block in (newest, newest - 8):
        quality.found([Finding(Code.JAW_MUSCLE, block, block, both, False, "fast")])
    end = row.end_sample + 5 * 25
    assert (quality.codes(250, newest + 5, end, 13.0, 30.0) == Code.JAW_MUSCLE).all()


def test_what_is_too_large_stays_so_when_it_was_corrected() -> None:
    """Else the channel would be taken into the reference of all others."""
    info = StreamInfo("t", "t", RATE, ("E0", "E1"), ("eeg",) * 2)
    pipeline = Pipeline(info, LineSettings(window_s=1.0), [("band_power", band_power.Settings())])
    x = eeg(12, 2)
    x[-25:, 0] += 400 * np.hanning(25)
    pipeline.push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))
    quality = pipeline._quality
    assert quality.loud().tolist() == [True, False]
    quality.corrected(120, np.ones(2, dtype=np.bool_))
    assert quality.loud().tolist() == [True, False]
    assert quality.codes(500, 120, 3000).tolist() == [Code.AMPLITUDE, Code.CORRECTED]
