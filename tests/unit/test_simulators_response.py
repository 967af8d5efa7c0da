"""The virtual brain under stimulation: slow shift, entrainment, phase reset, and what the current does to the recording."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from simulators.brain import Brain, BrainSettings, Stimulation

RATE = 250
QUIET = {"pops_per_min": 0, "clenches_per_min": 0, "eyes": "closed"}
DIRECT = Stimulation(amplitude_ma=1.0)


def column(brain: Brain, region: str) -> int:
    return brain.regions.index(region)


def alpha_change(region: str, current: Stimulation, **settings: object) -> float:
    """Alpha amplitude of a region after five time constants of current over the same brain's without it."""
    moved, alone = (Brain(BrainSettings(**{**QUIET, "onset_s": 4, **settings})) for _ in range(2))
    for brain, stimulation in ((moved, current), (alone, Stimulation())):
        brain.advance(18 * RATE, stimulation)
        brain.advance(2 * RATE, stimulation)
    k = column(moved, region)
    ratio = moved.truth().alpha_nam[:, k] / alone.truth().alpha_nam[:, k]
    return float(ratio.mean())


def test_anodal_current_excites_below_the_anode_and_calms_below_the_cathode() -> None:
    brain = Brain(BrainSettings(**QUIET))
    brain.advance(60 * RATE, DIRECT)
    end = brain.truth().excitability[-1]
    assert end[column(brain, "frontal_left")] > 0.3
    assert end[column(brain, "frontal_right")] < -0.3
    assert abs(end[column(brain, "occipital_left")]) < 0.1


def test_the_sign_of_the_response_is_the_patients() -> None:
    left = {gain: alpha_change("frontal_left", DIRECT, response_gain=gain) for gain in (1.0, 0.0, -1.0)}
    assert left[1.0] < 0.9 and left[0.0] == 1.0 and left[-1.0] > 1.1
    assert alpha_change("frontal_right", DIRECT) > 1.1
    assert alpha_change("frontal_left", DIRECT, anode="F4", cathode="F3") > 1.1, "the montage decides which side is excited"


def test_asymmetry_at_the_electrodes_follows_a_responder() -> None:
    def asymmetry(stimulation: Stimulation) -> float:
        brain = Brain(BrainSettings(seed=4, contamination=0, **QUIET))
        brain.advance(60 * RATE, stimulation)
        brain.advance(60 * RATE, stimulation)
        alpha = sosfiltfilt(butter(4, (8, 13), "bandpass", fs=RATE, output="sos"), brain.truth().clean_uv, axis=0)
        power = (alpha**2).mean(axis=0)
        return float(np.log(power[3] / power[2]))

    assert asymmetry(DIRECT) - asymmetry(Stimulation()) > 0.2


def test_onset_and_washout_have_their_own_time_constants() -> None:
    brain = Brain(BrainSettings(onset_s=4, washout_s=10, **QUIET))
    brain.advance(4 * RATE, DIRECT)
    assert brain.truth().effect_ma[-1] == pytest.approx(1 - np.exp(-1), abs=0.005)
    brain.advance(30 * RATE, DIRECT)
    full = brain.truth().effect_ma[-1]
    brain.advance(10 * RATE)
    assert brain.truth().effect_ma[-1] == pytest.approx(full * np.exp(-1), abs=0.005)
    assert np.all(brain.truth().current_ma == 0)


def test_the_effect_saturates() -> None:
    small, large, huge = (1 - alpha_change("frontal_left", Stimulation(amplitude_ma=ma)) for ma in (0.5, 2.0, 4.0))
    assert small < large < huge < 0.35
    assert (huge - large) / 2.0 < 0.25 * small / 0.5


def plv(frequency_hz: float, amplitude_ma: float = 1.0, region: str = "frontal_left") -> float:
    """Phase locking of a region's alpha to a current, over 40 s."""
    brain = Brain(BrainSettings(seed=9, **QUIET))
    stimulation = Stimulation(amplitude_ma, frequency_hz, phase_rad=0.4)
    brain.advance(10 * RATE, stimulation)
    brain.advance(40 * RATE, stimulation)
    t_s = (10 * RATE + np.arange(40 * RATE)) / RATE
    phase = brain.truth().alpha_phase_rad[:, column(brain, region)]
    return float(np.abs(np.exp(1j * (phase - 2 * np.pi * frequency_hz * t_s)).mean()))


def test_alternating_current_entrains_inside_its_arnold_tongue_only() -> None:
    assert plv(10.4) > 0.85
    assert plv(10.4, amplitude_ma=0.0) < 0.3
    assert plv(14.0) < 0.3
    assert plv(10.4, region="occipital_left") < 0.5, "the field hardly reaches there"
    # the tongue widens with the amplitude
    assert plv(11.5, amplitude_ma=0.5) < 0.6 < 0.8 < plv(11.5, amplitude_ma=3.0)


def test_alternating_current_leaves_larger_alpha_of_either_polarity() -> None:
    at_peak = Stimulation(1.0, 10.0)
    assert alpha_change("frontal_left", at_peak) > 1.05
    assert alpha_change("frontal_right", at_peak) > 1.05
    assert alpha_change("frontal_left", Stimulation(1.0, 20.0)) == pytest.approx(1.0, abs=0.01)


def test_a_pulse_resets_phase_and_evokes_a_response() -> None:
    brain = Brain(BrainSettings(seed=5, pulse_artifact_uv=0, **QUIET))
    pulses = tuple(range(2 * RATE, 80 * RATE, 2 * RATE + 37))
    brain.advance(82 * RATE, Stimulation(pulses=pulses))
    truth = brain.truth()
    phase = truth.alpha_phase_rad[:, column(brain, "frontal_left")]
    before, after = (np.abs(np.exp(1j * phase[np.array(pulses) + shift]).mean()) for shift in (-2, 2))
    assert before < 0.4 and after > 0.9
    f3 = brain.settings.montage.index("F3")
    epochs = np.array([truth.clean_uv[p - 25 : p + 75, f3] - truth.clean_uv[p - 25 : p, f3].mean() for p in pulses])
    evoked = epochs.mean(axis=0)
    assert np.abs(evoked[25 + 20 : 25 + 30]).max() > 4, "a deflection of several microvolts near 100 ms"
    assert evoked[25 + 20 : 25 + 30].min() < 0


def test_without_current_there_is_no_contamination() -> None:
    brain = Brain(BrainSettings(**QUIET))
    samples = brain.advance(10 * RATE)
    assert not brain.truth().artifact_uv.any()
    np.testing.assert_array_equal(samples, brain.truth().clean_uv.astype(np.float32))


def test_direct_current_offsets_saturates_and_decays() -> None:
    brain = Brain(BrainSettings(**QUIET))
    brain.advance(RATE)
    brain.advance(2 * RATE, Stimulation(amplitude_ma=0.2))
    offset = np.abs(brain.truth().artifact_uv[-1])
    assert offset[2] > 10_000 and offset[6] < offset[2] / 20, "tens of millivolt beside the pad, little at the back of the head"
    beating = brain.truth().artifact_uv[-RATE:, 2]
    assert np.ptp(beating) > 20, "heart and breath move the offset"
    samples = brain.advance(RATE, Stimulation(amplitude_ma=2.0))
    assert samples[-1, 2] == np.float32(187_500.0) and samples[-1, 3] == np.float32(-187_500.0)
    brain.advance(2 * RATE)
    decay = np.abs(brain.truth().artifact_uv[:, 2])
    assert 100 < decay[0] < 2000 and decay[-1] < 0.05 * decay[0]


def test_alternating_current_leaves_millivolts_at_its_frequency() -> None:
    brain = Brain(BrainSettings(**QUIET))
    samples = brain.advance(4 * RATE, Stimulation(0.2, 10.0)).astype(float)
    spectrum = np.abs(np.fft.rfft((samples - samples.mean(axis=0)) * np.hanning(len(samples))[:, None], axis=0))
    assert np.all(spectrum.argmax(axis=0) == 40)
    assert np.ptp(samples[:, 2]) > 5000


def test_a_pulse_rails_the_amplifier_and_recovers() -> None:
    brain = Brain(BrainSettings(coil="F3", **QUIET))
    samples = brain.advance(RATE, Stimulation(pulses=(100,)))
    assert samples[100, 2] == np.float32(187_500.0)
    artifact = np.abs(brain.truth().artifact_uv[:, 2])
    assert artifact[99] == 0 and artifact[103] > 100 and artifact[160] < 1


def test_contamination_does_not_touch_the_clean_signal() -> None:
    dirty, clean = (Brain(BrainSettings(contamination=factor, **QUIET)) for factor in (1.0, 0.0))
    for brain in (dirty, clean):
        brain.advance(5 * RATE, DIRECT)
    np.testing.assert_array_equal(dirty.truth().clean_uv, clean.truth().clean_uv)
    assert dirty.truth().artifact_uv.any() and not clean.truth().artifact_uv.any()


def test_a_brain_left_alone_long_enough_is_itself_again() -> None:
    settings = BrainSettings(washout_s=0.5, polarization_s=0.1, **QUIET)
    moved, alone = Brain(settings), Brain(settings)
    moved.advance(2 * RATE, DIRECT)
    moved.advance(38 * RATE)
    alone.advance(40 * RATE)
    assert np.array_equal(moved.advance(RATE), alone.advance(RATE))


@pytest.mark.parametrize(
    "wrong", [{"amplitude_ma": float("nan")}, {"frequency_hz": -1.0}, {"phase_rad": float("inf")}, {"amplitude_ma": 1e9}]
)
def test_a_current_that_is_no_number_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Stimulation(**wrong)
