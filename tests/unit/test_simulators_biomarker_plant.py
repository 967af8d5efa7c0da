"""The biomarker-level plant against the sample-level brain it was measured from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from simulators.biomarker_plant import BiomarkerPlant, Profile, asymmetry, measure
from simulators.brain import Brain, Stimulation
from simulators.patients import PATIENTS

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


def test_a_lost_link_loses_its_windows(profile: Profile) -> None:
    session = plant(profile, "dropouts", settle_s=1.0)
    lost = [reading.t_s for reading in (session.step(0.0) for _ in range(90)) if not any(reading.good)]
    # gone from 20 to 24 s and from 65 to 69 s; a window reaches 2 s back, and begins at least 1 s after
    assert lost == [*range(21, 28), *range(66, 72)] or lost == [*range(21, 27), *range(66, 72)]


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
