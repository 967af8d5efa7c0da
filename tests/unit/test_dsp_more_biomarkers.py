"""Alpha bursts, vigilance and the frontal theta-alpha components: made signals with known answers, refusals, plain recalculation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dsp.biomarkers import alpha_bursts, frontal_theta_alpha, vigilance
from dsp.biomarkers.alpha_bursts import count_bursts, envelope_taps
from dsp.biomarkers.frontal_theta_alpha import alpha_change
from dsp.electrodes import POSITIONS
from dsp.pipeline import Pipeline
from eegloop.closed import Closed
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
CAP = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2")


def run(
    x: np.ndarray, channels: tuple[str, ...], kind: str, settings: Closed, line: LineSettings | None = None, rate: float = RATE
) -> list[Biomarkers]:
    info = StreamInfo("t", "t", rate, channels, ("eeg",) * len(channels))
    return Pipeline(info, line or LineSettings(), [(kind, settings)]).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def pink(seconds: float, n_channels: int, seed: int = 0, rate: float = RATE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal((n, n_channels)), axis=0)
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / rate), 0.5))[:, np.newaxis]
    x = np.fft.irfft(spectrum, n, axis=0)
    return 6 * x / x.std()


# -- alpha bursts ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [125.0, 250.0, 1000.0])
def test_the_envelope_of_a_wave_is_its_amplitude_and_half_of_it_beside(rate: float) -> None:
    taps = envelope_taps(rate, 10.0, 2.0)
    t = np.arange(len(taps)) / rate
    for hz, gain in ((10.0, 1.0), (12.0, 0.5), (8.0, 0.5), (14.0, 0.0)):
        sizes = [np.hypot(*(7 * np.cos(2 * np.pi * hz * t + p) @ taps)) for p in np.linspace(0, 6, 20)]
        assert np.mean(sizes) == pytest.approx(7 * gain, abs=0.35)


def test_bursts_are_counted_once_and_only_when_long_enough() -> None:
    envelope = np.array([1, 3, 3, 3, 1, 3, 3, 1, np.nan, 3, 3, np.nan, 3, 3, 3, 3])
    assert count_bursts(envelope, 2.0, 3) == 2
    assert count_bursts(envelope, 2.0, 2) == 4
    assert count_bursts(envelope, 5.0, 1) == 0
    assert count_bursts(np.array([3.0, 3.0]), 2.0, 2) == 1


@pytest.mark.parametrize("rate", [128.0, 250.0, 500.0])
def test_made_bursts_are_found(rate: float) -> None:
    """A steady 4 µV alpha that rises to 20 µV for a second every five seconds: twelve a minute, at each rate."""
    n = int(140 * rate)
    t = np.arange(n) / rate
    rise = np.hanning(round(0.1 * rate))  # a wave that jumps within a sample is no alpha
    size = np.convolve(np.where((t % 5.0) < 1.0, 20.0, 4.0), rise / rise.sum(), "same")
    x = np.column_stack([size * np.cos(2 * np.pi * 10 * t), 4 * np.cos(2 * np.pi * 10 * t)]) + 0.2 * pink(140, 2, rate=rate)
    row = run(x, ("Oz", "Pz"), "alpha_bursts", alpha_bursts.Settings(), rate=rate)[-1]
    assert row.columns[row.find("alpha_bursts", "Oz")].unit == "1/min"
    assert row.values[row.find("alpha_bursts", "Oz")] == pytest.approx(12, abs=0.6)
    assert row.values[row.find("alpha_bursts", "Pz")] == 0.0


def test_bad_stretches_are_not_counted_but_taken_out_of_the_time() -> None:
    n = int(140 * RATE)
    t = np.arange(n) / RATE
    x = (np.where((t % 5.0) < 1.0, 20.0, 4.0) * np.cos(2 * np.pi * 10 * t))[:, np.newaxis] + 0.2 * pink(140, 1)
    x[int(60 * RATE) : int(90 * RATE) : 20] += 900
    row = run(x, ("Oz",), "alpha_bursts", alpha_bursts.Settings(), LineSettings(glitch_uv=None))[-1]
    assert row.grades[0] == Grade.GOOD
    assert row.values[0] == pytest.approx(12, abs=1.5)
    x[int(30 * RATE) : int(110 * RATE) : 20] += 900
    row = run(x, ("Oz",), "alpha_bursts", alpha_bursts.Settings(), LineSettings(glitch_uv=None))[-1]
    assert row.grades[0] == Grade.INVALID and row.reasons[0] == "too_few"


def test_bursts_do_not_depend_on_amplitude_or_sign() -> None:
    n = int(100 * RATE)
    t = np.arange(n) / RATE
    x = (np.where((t % 4.0) < 0.8, 15.0, 5.0) * np.cos(2 * np.pi * 10 * t))[:, np.newaxis] + 0.5 * pink(100, 1)
    settings = alpha_bursts.Settings(window_s=60)
    values = [run(x * k, ("Oz",), "alpha_bursts", settings)[-1].values[0] for k in (1.0, 0.5, -1.0)]
    assert values[0] > 5
    assert values[1] == values[0] and values[2] == values[0]


# -- vigilance ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "slow", "stage"),
    [
        ([9.0, 5.0, 2.0], [3.0, 3.0, 3.0], 6),
        ([4.0, 6.0, 2.0], [3.0, 3.0, 3.0], 5),
        ([1.0, 2.0, 4.0], [3.0, 3.0, 3.0], 4),
        ([1.0, 1.0, 1.0], [3.0, 3.0, 3.0], 3),
        ([1.0, 1.0, 1.0], [9.0, 7.0, 8.0], 2),
        ([1.0, 1.0, 1.0], [5.0, 6.0, 7.0], 3),
    ],
)
def test_stage_of_a_second(alpha: list[float], slow: list[float], stage: int) -> None:
    assert vigilance.score(np.array(alpha), np.array(slow), 3.0, 2.0) == stage


def drifting(seconds: float = 150.0) -> np.ndarray:
    """Occipital alpha for 60 s, then parietal, then frontal alpha for 20 s each, then slow waves for 50 s."""
    places = np.array([POSITIONS[label] for label in CAP])
    near = np.exp(-(np.linalg.norm(places[:, np.newaxis] - places, axis=2) ** 2) / 0.5)  # a head smears: neighbors agree
    x = 0.5 * pink(seconds, len(CAP), seed=3) @ (near / np.linalg.norm(near, axis=0))
    t = np.arange(len(x)) / RATE
    alpha = 12 * np.cos(2 * np.pi * 10 * t)
    # Not in step: one wave on every electrode would be a reference that fell off.
    slow = 25 * np.cos(2 * np.pi * 4 * t[:, np.newaxis] + 0.7 * np.arange(len(CAP)))
    for labels, start, stop in ((("O1", "O2"), 0, 60), (("P3", "P4", "Pz"), 60, 80), (("F3", "F4", "Fz"), 80, 100)):
        for label in labels:
            inside = (t >= start) & (t < stop)
            x[inside, CAP.index(label)] += alpha[inside]
    x[t >= 100] += slow[t >= 100]
    return x


def test_stages_follow_a_made_course_into_drowsiness() -> None:
    rows = run(drifting(), CAP, "vigilance", vigilance.Settings())
    by_time = {row.end_sample / RATE: row for row in rows}
    for t_s, stage in ((50.0, 6), (75.0, 5), (95.0, 4), (110.0, 2), (140.0, 2)):
        assert by_time[t_s].values[0] == stage, t_s
    assert by_time[60.0].values[1] == 0.0
    assert by_time[115.0].values[1] == pytest.approx(0.5, abs=0.07)
    assert by_time[140.0].values[1] == 1.0


def test_a_headset_has_drowsiness_but_no_stage() -> None:
    x = drifting()[:, [CAP.index(label) for label in ("P3", "F3", "F4", "P4")]]
    row = run(x, ("TP9", "AF7", "AF8", "TP10"), "vigilance", vigilance.Settings())[-1]
    assert row.grades.tolist() == [Grade.INVALID, Grade.GOOD]
    assert "at least 19 electrodes" in row.reasons[0]
    assert row.values[1] == 1.0


def test_nothing_is_said_before_the_own_median_is_known() -> None:
    rows = run(drifting(29), CAP, "vigilance", vigilance.Settings())
    assert all((row.grades == Grade.INVALID).all() for row in rows)


# -- frontal theta-alpha -----------------------------------------------------------------------


def test_components_equal_a_plain_calculation_on_the_ear_derivations() -> None:
    x = pink(70, 4, seed=8)
    t = np.arange(len(x)) / RATE
    x[:, 0] += 9 * np.cos(2 * np.pi * 10 * t) + 7 * np.cos(2 * np.pi * 6 * t)
    unfiltered = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None)
    x = x.astype(np.float32)
    row = run(x, ("Fpz", "A1", "A2", "Oz"), "frontal_theta_alpha", frontal_theta_alpha.Settings(), unfiltered)[-1]
    epochs = x[int(10 * RATE) :].astype(np.float64).reshape(30, 500, 4)
    for ear in (1, 2):
        site = epochs[:, :, 0] - epochs[:, :, ear]
        site -= site.mean(1, keepdims=True)
        power = (np.abs(np.fft.rfft(site, axis=1)) ** 2).mean(0) * 2 / 500**2
        f = np.fft.rfftfreq(500, 1 / RATE)
        bands = {name: power[(f >= low) & (f < high)].sum() for name, (low, high) in frontal_theta_alpha.BANDS_HZ.items()}
        label = f"Fpz-A{ear}"
        assert row.values[row.find("frontal_theta_alpha.relative", label)] == pytest.approx(
            bands["wide"] / bands["total"], rel=1e-6
        )
        for part in ("alpha1", "alpha2"):
            assert row.values[row.find(f"frontal_theta_alpha.{part}", label)] == pytest.approx(bands[part], rel=1e-6)
    assert row.columns[row.find("frontal_theta_alpha.alpha1", "Fpz-A1")].unit == "uV2"


def test_the_reference_does_not_matter_where_there_are_ears_and_power_is_quadratic() -> None:
    x = pink(40, 3, seed=9)
    settings = frontal_theta_alpha.Settings(window_s=20)
    moved = x + 2 * pink(40, 1, seed=10)
    line = LineSettings(quality=QualitySettings(blink_uv=None, eye_uv=None))  # twice the noise may look like a blink
    a, b, c = (run(y, ("Fp1", "Fp2", "M2"), "frontal_theta_alpha", settings, line)[-1] for y in (x, moved, 2 * x))
    np.testing.assert_allclose(a.values, b.values, rtol=1e-4)
    np.testing.assert_allclose(c.values[:2], a.values[:2], rtol=1e-5)
    np.testing.assert_allclose(c.values[2:], 4 * a.values[2:], rtol=1e-5)


def test_refused_without_a_prefrontal_site_and_never_called_by_the_indexs_name() -> None:
    row = run(pink(10, 2), ("O1", "O2"), "frontal_theta_alpha", frontal_theta_alpha.Settings())[-1]
    assert (row.grades == Grade.INVALID).all()
    assert "needs Fpz" in row.reasons[0]
    row = run(pink(70, 2), ("Fp1", "Fp2"), "frontal_theta_alpha", frontal_theta_alpha.Settings())[-1]
    assert {c.channel for c in row.columns} == {"Fp1", "Fp2"}
    assert (row.grades == Grade.GOOD).all()
    assert not any("atr" in c.name.split(".")[0].lower() for c in row.columns)


def test_change_between_sessions() -> None:
    assert alpha_change(10.0, 7.5) == 2.5
    assert math.isnan(alpha_change(math.nan, 1.0))
    assert math.isnan(alpha_change(1.0, -1.0))
