"""The biomarker-level plant against the sample-level brain it was measured from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulators.biomarker_plant import BiomarkerPlant, Profile, asymmetry, measure, stationary
from simulators.brain import Brain, Stimulation
from simulators.faults import Packet, parse
from simulators.patients import PATIENTS, Patient

MONTAGE = ("F3", "F4", "P3", "O1")
RESPONDER = PATIENTS["responder"]


@pytest.fixture(scope="module")
def profile() -> Profile:
    return measure(RESPONDER.settings(montage=MONTAGE), seconds=900)


def plant(profile: Profile, patient: str = "responder", seed: int = 1, **options: float) -> BiomarkerPlant:
    return BiomarkerPlant(PATIENTS[patient], profile, seed=seed, **options)  # type: ignore[arg-type]


def sample_level_asymmetry(amplitude_ma: float, seed: int) -> np.ndarray:
    """ln F4 - ln F3 in 2 s windows each second of five minutes under a long-standing current that leaves no contamination."""
    brain = Brain(RESPONDER.settings(montage=MONTAGE, seed=seed, contamination=0.0, onset_s=4.0))
    brain.advance(20 * 250, Stimulation(amplitude_ma))
    samples = brain.advance(300 * 250, Stimulation(amplitude_ma)).astype(float)
    f_hz = np.fft.rfftfreq(500, 1 / 250)
    inside = (f_hz >= 8) & (f_hz < 13)
    out = []
    for start in range(0, len(samples) - 499, 250):
        window = samples[start : start + 500]
        spectrum = np.fft.rfft((window - window.mean(axis=0)) * np.hanning(501)[:-1, None], axis=0)[inside]
        power = (np.abs(spectrum) ** 2).sum(axis=0)
        out.append(np.log(power[1] / power[0]))
    return np.array(out)


def plant_asymmetry(profile: Profile, amplitude_ma: float) -> np.ndarray:
    """The same of the plant: the effect built up, then seen without current before it washes out."""
    patient = PATIENTS["responder"]
    slow = type(patient)(patient.about, type(patient.brain)({"washout_s": 36_000.0, "onset_s": 4.0}))
    session = BiomarkerPlant(slow, profile, seed=3, rows=900)
    for _ in range(30):
        session.step(amplitude_ma)
    readings = [session.step(0.0) for _ in range(840)]
    values = np.array([asymmetry(reading, 0, 1) for reading in readings])
    return values[~np.isnan(values)]


def test_level_response_and_scatter_are_those_of_the_sample_level(profile: Profile) -> None:
    sample = {ma: np.concatenate([sample_level_asymmetry(ma, seed) for seed in (11, 12)]) for ma in (0.0, 1.5)}
    fast = {ma: plant_asymmetry(profile, ma) for ma in (0.0, 1.5)}
    shift, expected = (float(np.mean(x[1.5]) - np.mean(x[0.0])) for x in (fast, sample))
    assert expected > 0.3
    assert shift == pytest.approx(expected, rel=0.15)
    assert np.std(fast[0.0]) == pytest.approx(np.std(sample[0.0]), rel=0.1)
    neighbors = (float(np.corrcoef(x[0.0][:-1], x[0.0][1:])[0, 1]) for x in (fast, sample))
    assert np.diff(list(neighbors))[0] == pytest.approx(0.0, abs=0.1), "the noise keeps its memory"


def test_the_sign_is_the_patients(profile: Profile) -> None:
    def left_alpha(patient: str) -> float:
        session = plant(profile, patient, seed=5)
        for _ in range(120):
            session.step(1.5)
        return float(np.nanmean([session.step(0.0).ln_alpha[0] for _ in range(30)]))

    responder, none, inverted = map(left_alpha, ("responder", "non_responder", "inverted"))
    assert responder < none - 0.1 < none + 0.1 < inverted


def test_the_effect_builds_up_and_washes_out(profile: Profile) -> None:
    settings = RESPONDER.settings()
    session = plant(profile)
    for _ in range(round(settings.onset_s)):
        reading = session.step(1.0)
    assert reading.effect_ma == pytest.approx(1 - math.exp(-1), abs=1e-6)
    for _ in range(round(settings.washout_s)):
        reading = session.step(0.0)
    assert reading.effect_ma == pytest.approx((1 - math.exp(-1)) * math.exp(-1), abs=1e-6)


def test_nothing_is_good_that_current_could_have_touched(profile: Profile) -> None:
    session = plant(profile, settle_s=3.0)
    assert session.step(0.0).good == (True,) * 4
    stimulated = [session.step(1.0) for _ in range(5)]
    after = [session.step(0.0) for _ in range(8)]
    assert not any(any(reading.good) for reading in stimulated)
    assert [all(reading.good) for reading in after] == [False] * 4 + [True] * 4
    assert all(math.isnan(reading.ln_alpha[0]) != reading.good[0] for reading in stimulated + after)


def lost_rows(profile: Profile, *faults: str) -> list[float]:
    session = BiomarkerPlant(Patient("a headset", faults=faults), profile, seed=1, settle_s=1.0)
    return [reading.t_s for reading in (session.step(0.0) for _ in range(90)) if not any(reading.good)]


def test_a_lost_link_loses_its_windows(profile: Profile) -> None:
    # gone from 20 to 24 s and from 65 to 69 s; a window reaches 2 s back, and begins at least 1 s after
    assert lost_rows(profile, "gone:at_s=20,for_s=4,every_s=45") == [*range(21, 27), *range(66, 72)]


def test_a_lost_packet_loses_the_windows_and_the_settling_around_it(profile: Profile) -> None:
    """Those packets that the headset's own fault loses on the sample level, no others."""
    fault, nothing = parse("loss:share=0.02"), np.empty((0, 0), dtype=np.float32)
    gone = [0.1 * i for i in range(36_000) if not fault.deliver(Packet(0.1 * i, nothing, 0.0, 0.0, ()))]
    expected = [t for t in range(1, 91) if any(t - 3.0 - 1e-6 <= at_s < t - 1e-6 for at_s in gone)]
    assert 10 < len(expected) < 80
    assert lost_rows(profile, "loss:share=0.02") == expected
    assert lost_rows(profile) == []


def test_what_is_measured_does_not_depend_on_which_windows_were_kept() -> None:
    """The expected power stands on a few hundred windows, whose own mean is off by chance: the noise makes up for it."""
    settings = RESPONDER.settings(montage=MONTAGE)
    few = measure(settings, seconds=600)
    half = replace(few, sources=few.sources[::2], rest=few.rest[::2])
    rest = np.ones((1, few.mixing.shape[0]))
    mean = (few.ln_alpha(rest)[0] + few.residual.mean(axis=0))[:2]
    brain = Brain(stationary(settings))
    samples = brain.advance(600 * 250).astype(float)
    f_hz = np.fft.rfftfreq(500, 1 / 250)
    taper = np.hanning(501)[:-1]
    windows = np.stack([samples[i : i + 500] for i in range(0, len(samples) - 499, 250)])
    spectra = np.fft.rfft((windows - windows.mean(axis=1, keepdims=True)) * taper[:, None], axis=1)
    power = 2.0 / (500 * (taper**2).sum()) * (np.abs(spectra[:, (f_hz >= 8) & (f_hz < 13)]) ** 2).sum(axis=1)
    assert mean == pytest.approx(np.log(power).mean(axis=0)[:2], abs=0.01)
    assert half.ln_alpha(rest)[0, :2] != pytest.approx(few.ln_alpha(rest)[0, :2], abs=0.001), "they do differ by chance"


def test_noisy_electrodes_lose_windows_of_their_own() -> None:
    noisy = measure(PATIENTS["noisy_electrodes"].settings(montage=MONTAGE), seconds=300)
    lost = noisy.bad.mean(axis=0)
    assert 0.1 < lost[1] < 0.7 and 0.1 < lost[2] < 0.7, "F4 and P3 come and go"
    assert lost[0] < 0.1 and lost[3] < 0.1
    assert noisy.residual[:, 1].std() > 0 and np.isfinite(noisy.residual).all()


def test_same_seed_same_session_and_profiles_can_be_kept(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "profile.npz")
    again = Profile.load(tmp_path / "profile.npz")
    one, same, other = plant(profile, seed=1), plant(again, seed=1), plant(profile, seed=2)
    rows = [[session.step(0.0).ln_alpha for _ in range(50)] for session in (one, same, other)]
    assert rows[0] == rows[1] != rows[2]


def test_alternating_current_raises_alpha_by_itself_and_with_direct(profile: Profile) -> None:
    def after(*program: tuple[float, float]) -> float:
        session = plant(profile, seed=4, rows=400)
        for amplitude_ma, frequency_hz in program:
            for _ in range(100):
                session.step(amplitude_ma, frequency_hz)
        return float(np.nanmean([session.step(0.0).ln_alpha[0] for _ in range(25)]))

    nothing, alternating, both = after((0, 0), (0, 0)), after((0, 0), (1.5, 10.0)), after((1.5, 0.0), (1.5, 10.0))
    assert alternating > nothing + 0.1
    assert both < alternating


def test_a_session_ends_where_it_was_made_to(profile: Profile) -> None:
    session = plant(profile, rows=5)
    for _ in range(5):
        session.step(0.0)
    with pytest.raises(IndexError, match="5 decisions"):
        session.step(0.0)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="alternate"):
        measure(RESPONDER.settings(eyes="alternating"))
    with pytest.raises(ValueError, match="too few"):
        measure(RESPONDER.settings(), seconds=10)
