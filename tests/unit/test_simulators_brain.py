"""The virtual brain left alone: seeds, spectra, rhythms, artifacts, and its hidden states against what the electrodes show."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.signal import butter, hilbert, sosfiltfilt, welch

from simulators.brain import Brain, BrainSettings
from simulators.head import load_head

RATE = 250


def spectrum(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hz, uV^2/Hz of the columns of x."""
    return welch(np.asarray(x, dtype=float), RATE, "hann", 4 * RATE, axis=0)


def test_same_seed_same_samples() -> None:
    one, same, other = (Brain(BrainSettings(seed=seed)).advance(2500) for seed in (7, 7, 8))
    assert one.dtype == np.float32 and one.shape == (2500, 8)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_next_stretch_is_new_noise() -> None:
    samples = Brain(BrainSettings(seed=7)).advance(12_000).astype(float)
    first, second = samples[0:4000], samples[4000:8000]
    assert abs(np.corrcoef(np.diff(first[:, 4]), np.diff(second[:, 4]))[0, 1]) < 0.2


@pytest.mark.parametrize("alpha_hz", [8.5, 10.0, 11.5])
def test_the_alpha_peak_stands_where_the_setting_says(alpha_hz: float) -> None:
    brain = Brain(BrainSettings(individual_alpha_hz=alpha_hz, eyes="closed"))
    f_hz, density = spectrum(brain.advance(60 * RATE))
    inside = (f_hz >= 6) & (f_hz <= 14)
    peak_hz = f_hz[inside][density[inside][:, brain.settings.montage.index("O1")].argmax()]
    assert peak_hz == pytest.approx(alpha_hz, abs=0.5)


def test_amplitudes_are_those_of_a_person_at_rest() -> None:
    def alpha_power(eyes: str) -> np.ndarray:
        f_hz, density = spectrum(Brain(BrainSettings(eyes=eyes)).advance(60 * RATE))
        return density[(f_hz >= 8) & (f_hz < 13)].sum(axis=0) * f_hz[1]

    closed, opened = alpha_power("closed"), alpha_power("open")
    o1, f3 = 6, 2
    assert 20 < closed[o1] < 250
    assert 2 < closed[o1] / opened[o1] < 6
    assert closed[o1] > 2 * closed[f3]


@pytest.mark.parametrize("exponent", [0.8, 1.2, 1.8])
def test_the_background_falls_as_set(exponent: float) -> None:
    settings = BrainSettings(aperiodic_exponent=exponent, alpha_nam=0, delta_nam=0, theta_nam=0, beta_nam=0)
    brain = Brain(settings)
    brain.advance(120 * RATE)
    f_hz, density = spectrum(brain.truth().brain_uv)
    inside = (f_hz >= 2) & (f_hz <= 40)
    slope = np.polyfit(np.log10(f_hz[inside]), np.log10(density[inside].mean(axis=1)), 1)[0]
    assert -slope == pytest.approx(exponent, abs=0.1)


def test_the_hidden_alpha_phase_is_the_one_at_the_electrode() -> None:
    brain = Brain(BrainSettings(eyes="closed", seed=3))
    brain.advance(60 * RATE)
    truth = brain.truth()
    column = brain.settings.montage.index("O1")
    mixing = load_head().mixing(brain.settings.montage, brain.settings.reference)[:, column]
    hidden = (truth.alpha_nam * np.exp(1j * truth.alpha_phase_rad)) @ mixing
    seen = hilbert(sosfiltfilt(butter(2, (8, 12), "bandpass", fs=RATE, output="sos"), truth.clean_uv[:, column]))
    strong = np.abs(hidden) > np.median(np.abs(hidden))
    strong[:RATE] = strong[-RATE:] = False
    apart = np.exp(1j * np.angle(seen[strong] * np.conj(hidden[strong])))
    assert abs(np.degrees(np.angle(apart.mean()))) < 5
    assert np.degrees(np.sqrt(-2 * np.log(np.abs(apart.mean())))) < 25


def test_regions_know_their_own_phase() -> None:
    """A region's phase advances at about the individual alpha frequency and never runs backwards for long."""
    brain = Brain(BrainSettings(individual_alpha_hz=9.0))
    brain.advance(40 * RATE)
    phase = np.unwrap(brain.truth().alpha_phase_rad, axis=0)
    hz = (phase[-1] - phase[0]) / (2 * np.pi * 40)
    np.testing.assert_allclose(hz, 9.0, atol=0.4)


def test_blinks_are_seen_when_the_truth_says() -> None:
    brain = Brain(BrainSettings(seed=11, blinks_per_min=20, clenches_per_min=0, saccades_per_min=0, pops_per_min=0))
    brain.advance(60 * RATE)
    truth = brain.truth()
    blinks = [event for event in truth.events if event.kind == "blink"]
    assert 12 <= len(blinks) <= 30
    frontal = truth.clean_uv[:, :2].mean(axis=1) - truth.brain_uv[:, :2].mean(axis=1)
    for blink in blinks:
        assert 0.2 <= blink.duration_s <= 0.4
        rows = slice(int(blink.t_s * RATE), int((blink.t_s + blink.duration_s) * RATE) + 1)
        if rows.stop >= len(frontal):
            continue
        peak = rows.start + frontal[rows].argmax()
        assert peak / RATE == pytest.approx(blink.peak_s, abs=0.03)
        assert np.ptp(frontal[rows]) == pytest.approx(blink.size, rel=0.25)


def test_closed_eyes_do_not_blink_and_alternate_on_time() -> None:
    brain = Brain(BrainSettings(eyes="alternating", eyes_period_s=15, blinks_per_min=30))
    brain.advance(60 * RATE)
    blinks = [event.t_s for event in brain.truth().events if event.kind == "blink"]
    assert blinks and all(15 <= t_s % 30 <= 30 for t_s in blinks)


def test_a_clench_is_broadband_and_temporal() -> None:
    brain = Brain(BrainSettings(montage=("T7", "T8", "Cz"), clenches_per_min=6, seed=2))
    brain.advance(60 * RATE)
    truth = brain.truth()
    clenches = [event for event in truth.events if event.kind == "clench"]
    assert clenches
    fast = sosfiltfilt(butter(4, (30, 45), "bandpass", fs=RATE, output="sos"), truth.clean_uv, axis=0)
    t_s = np.arange(len(fast)) / RATE
    during = np.any([(t_s > c.t_s + 0.1) & (t_s < c.t_s + c.duration_s - 0.1) for c in clenches], axis=0)
    ratio = fast[during].std(axis=0) / fast[~during].std(axis=0)
    assert ratio[0] > 3 and ratio[1] > 3 and ratio[2] < 0.5 * ratio[0]


def test_mains_stand_at_the_set_frequency() -> None:
    f_hz, density = spectrum(Brain(BrainSettings(line_hz=60, line_uv=20)).advance(20 * RATE))
    high = f_hz > 45
    assert f_hz[high][density[high].sum(axis=1).argmax()] == 60.0


def test_a_bad_contact_is_the_named_channel() -> None:
    samples = Brain(BrainSettings(noisy_electrodes=("P3",), pops_per_min=0, eyes="closed")).advance(120 * RATE)
    each_s = np.diff(samples, axis=0)[: 119 * RATE].reshape(119, RATE, 8).std(axis=1)
    assert each_s.mean(axis=0).argmax() == 4 and each_s[:, 4].mean() > 1.5 * np.median(each_s)
    assert each_s[:, 4].max() > 3 * each_s[:, 4].min(), "a bad contact comes and goes"


def test_the_drowsy_lose_alpha_and_gain_theta() -> None:
    brain = Brain(BrainSettings(eyes="closed", drowsy_from_s=0, drowsy_period_s=80))
    brain.advance(80 * RATE)
    truth = brain.truth()
    awake, asleep = truth.vigilance > 0.8, truth.vigilance < 0.3
    assert truth.alpha_nam[asleep].mean() < 0.5 * truth.alpha_nam[awake].mean()
    assert truth.bands_nam[asleep, 1].std() > 1.4 * truth.bands_nam[awake, 1].std()


def test_the_rail_holds() -> None:
    samples = Brain(BrainSettings(rail_uv=100, offset_mv=5)).advance(RATE)
    assert np.abs(samples).max() <= 100


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"montage": ("Fp1", "XX")}, "XX"),
        ({"montage": ("Fp1", "Fp1")}, "once"),
        ({"cathode": "F3"}, "no current"),
        ({"alpha_hz": 10}, "alpha_hz"),
        ({"individual_alpha_hz": 30}, "individual_alpha_hz"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BrainSettings(**wrong)  # type: ignore[arg-type]


def test_nothing_to_advance_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Brain().advance(0)
    with pytest.raises(RuntimeError, match="nothing was advanced"):
        Brain().truth()


def test_a_hundred_times_real_time() -> None:
    """8 channels at 250 Hz in 20 ms chunks, on one core's processor time, best of three."""
    best_s = np.inf
    for _ in range(3):
        brain = Brain()
        begin_s = time.process_time()
        for _ in range(1000):
            brain.advance(5)
        best_s = min(best_s, time.process_time() - begin_s)
    assert 20.0 / best_s >= 100
