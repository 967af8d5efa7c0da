"""What is built for a blinded person: the same line and names in both arms, another signed file for the interlock."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from control.prescription import signed_prescription
from daemon import build
from daemon.allocation import Levels
from daemon.blinded_link import BlindedLink
from daemon.check_command import _prescription
from daemon.findings import MEND, OK
from daemon.interlock_link import InterlockLink
from eegloop.config import Seat, load, parse
from eegloop.errors import ConfigError, SetupError
from eegloop.stim import Limit
from interlock.signed import read_prescription
from tests.blinded_trial import PERSON, TRIAL, Trial, pair

ROOT = Path(__file__).parents[2]


def seat(person: str = PERSON) -> Seat:
    return replace(load(ROOT / "config.yaml").seats[0], person=person, trial=TRIAL)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def test_both_arms_are_built_alike_and_the_interlock_gets_its_own(trial: Trial) -> None:
    seen: dict[str, build.Signed] = {}
    while len(seen) < 2:
        person = f"p{len(trial.lines()):03}"
        trial.allocate(person)
        signed = build.prescription(seat(person), trial.layout, False, time.time())
        assert signed.prescription == signed_prescription((trial.folder / f"active-{person}.json").read_bytes())
        own = read_prescription(signed.path, trial.layout.keys, person, "simulated", time.time())
        assert own.amplitude_ua == (signed.prescription.amplitude_ua if trial.arm(person) == "active" else 0)
        assert signed.delivers is (trial.arm(person) == "active")
        seen[trial.arm(person)] = signed
    active, sham = seen["active"], seen["sham"]
    assert active.path == sham.path and active.trial == sham.trial == TRIAL
    assert active.prescription.controller == sham.prescription.controller != "sham"


def test_a_program_above_the_stimulators_own_limit_is_refused_in_both_arms(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interlock would refuse to arm the active one only, and everybody would see who that is."""
    weak = (Limit("amplitude_ma", 0.3, "mA", "device"), *build.device_limits(seat())[1:])
    monkeypatch.setattr(seat().stimulator.module, "LIMITS", weak)
    arms: set[str] = set()
    while len(arms) < 2:
        person = f"p{len(trial.lines()):03}"
        trial.allocate(person)
        arms.add(trial.arm(person))
        with pytest.raises(SetupError, match=r"amplitude_ua: \d+, but 300"):
            build.prescription(seat(person), trial.layout, False, time.time())


def test_a_person_who_is_not_allocated_or_whose_program_another_controller_runs_is_refused(trial: Trial) -> None:
    with pytest.raises(SetupError, match="not allocated yet"):
        build.prescription(seat(), trial.layout, False, time.time())
    trial.allocate()
    other = replace(seat(), controller=replace(seat().controller, kind="schedule"))
    with pytest.raises(SetupError, match=r"controller\.kind: found 'schedule'"):
        build.prescription(other, trial.layout, False, time.time())
    with pytest.raises(SetupError, match=f"trial {TRIAL}: active: .*valid_until_s"):  # the same words in both arms
        build.prescription(seat(), trial.layout, False, time.time() + 10 * 365 * 86_400 - 90_000)


def test_the_link_is_blinded_only_in_a_trial(trial: Trial) -> None:
    trial.allocate()
    signed = build.prescription(seat(), trial.layout, False, time.time())
    assert type(build.link(seat(), trial.layout, signed, trial.clock)) is BlindedLink
    assert type(build.link(seat(), trial.layout, replace(signed, trial=""), trial.clock)) is InterlockLink


def test_the_programs_lowest_level_outlives_the_service_until_another_prescription(trial: Trial) -> None:
    trial.allocate()
    active, _ = pair()
    levels = Levels(trial.layout, TRIAL, PERSON, active, trial.clock)
    assert levels.lowest_ma == float("inf")
    levels.lowered(0.3)
    levels.lowered(0.2)
    levels.close()
    levels = Levels(trial.layout, TRIAL, PERSON, active, trial.clock)
    levels.close()
    assert levels.lowest_ma == 0.2
    levels = Levels(trial.layout, TRIAL, PERSON, replace(active, id="next"), trial.clock)
    levels.close()
    assert levels.lowest_ma == float("inf")


def test_the_doctor_looks_at_both_prescriptions_and_names_no_arm(trial: Trial) -> None:
    (finding,) = _prescription(seat(), trial.layout)
    assert finding.level == MEND and "not allocated yet" in finding.text
    trial.allocate()
    (finding,) = _prescription(seat(), trial.layout)
    assert finding.level == OK and f"blinded trial {TRIAL}; both prescriptions hold" in finding.text


def test_a_trial_beside_a_prescription_is_refused_by_line() -> None:
    text = (ROOT / "config.yaml").read_text()
    both = text.replace("prescription: null  ", "prescription: a.json").replace("trial: null  ", "trial: alpha1")
    with pytest.raises(ConfigError, match=r"trial: found 'alpha1' beside a prescription"):
        parse(both, ROOT / "config.yaml")
    assert parse(text.replace("trial: null  ", "trial: alpha1"), ROOT / "config.yaml").seats[0].trial == "alpha1"
    with pytest.raises(ConfigError, match="the blinded trial"):
        parse(text.replace("trial: null  ", "trial: Big/One"), ROOT / "config.yaml")
