"""What a study compares: arms (a prescription each) on kinds of virtual persons; plant, target and schedule are set here (docs/study.md).

How they were chosen, once, on seeds 100,000 and up: first the persons (responses 0.4 to 2.5 times the kind's) and the target range of
their true mean asymmetry, 0 to 0.5; then the schedule, the constant amplitude that kept responders there longest
(`python -m benchmarks.study_schedule`: 83.3 % at 1000 µA); then the controllers' numbers. Studies run on seeds below 100,000.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from control.prescription import demo_prescription
from eegloop.errors import SetupError
from eegloop.stim import Authority, Prescription
from simulators.patients import PATIENTS

WALL_S = 1_750_000_000.0
MONTAGE = ("F3", "F4")
TARGET = {"low_milli": 0, "high_milli": 500}
SCHEDULE_UA = 1_000
SESSION_S = 1_200
TUNING_SEED = 100_000

_FAA: dict[str, int | str] = {
    "biomarker": "faa",
    "channel": "F3-F4",
    "unit": "milli",
    "more_moves": "up",
    "low_milli": 50,
    "high_milli": 250,
}
_PACE: dict[str, int | str] = {"average_n": 30, "dwell_n": 10, "refractory_ms": 55_000, "give_up_n": 40}
# No more than it takes: the deadband lies low in the target, and estimates are averaged over as long as one amplitude lasts.
_SPARING = {**_FAA, **_PACE, "low_milli": 0, "high_milli": 200, "average_n": 60, "kp_ua": 200, "ki_ua_per_min": 200}
_SHORT = {"low_milli": 50, "high_milli": 250, "average_n": 30}


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to treat: a controller with its numbers under an authority."""

    name: str
    about: str
    prescription: Prescription


def signed(controller: str, settings: dict[str, int | str], **changes: Any) -> Prescription:
    """The study's prescription: bifrontal tDCS on the simulated stimulator, 20 minutes, looks of 20 s after blocks of 40 s."""
    return replace(
        demo_prescription("virtual", WALL_S),
        controller=controller,
        settings=settings,
        amplitude_ua=1_500,
        session_ms=SESSION_S * 1000,
        session_uc=1_800_000,
        baseline_ms=15_000,
        sense_ms=20_000,
        stimulate_ms=40_000,
        **changes,
    )


def schedule(level_ua: int) -> Prescription:
    """A constant amplitude, whatever the brain does."""
    return signed("schedule", {"levels": f"0:{level_ua}"}, start_ua=level_ua)


ARMS = {
    arm.name: arm
    for arm in (
        Arm("none", "no stimulation", signed("schedule", {"levels": "0:0"}, start_ua=0, authority=Authority.OBSERVE.value)),
        Arm("schedule", f"constant {SCHEDULE_UA} µA", schedule(SCHEDULE_UA)),
        Arm(
            "dual_threshold",
            "dual threshold, within bounds",
            signed("dual_threshold", {**_FAA, **_PACE, "step_ua": 150}, start_ua=600),
        ),
        Arm("proportional_integral", "proportional-integral, within bounds", signed("proportional_integral", _SPARING, start_ua=500)),
        Arm(
            "proportional_integral_short",
            "the same in stimulate blocks of 20 s instead of 40",
            replace(signed("proportional_integral", {**_SPARING, **_SHORT}, start_ua=600), stimulate_ms=20_000),
        ),
        Arm("on_off", "on/off, within bounds", signed("on_off", {**_FAA, **_PACE, "on_ua": SCHEDULE_UA}, start_ua=500)),
        Arm(
            "dual_threshold_lower",
            "dual threshold, lower only",
            signed(
                "dual_threshold", {**_FAA, **_PACE, "step_ua": 200}, start_ua=SCHEDULE_UA, authority=Authority.LOWER_ONLY.value
            ),
        ),
        Arm(
            "proportional_integral_lower",
            "proportional-integral, lower only",
            signed(
                "proportional_integral",
                {**_FAA, **_PACE, "kp_ua": 300, "ki_ua_per_min": 300},
                start_ua=SCHEDULE_UA,
                authority=Authority.LOWER_ONLY.value,
            ),
        ),
        Arm(
            "safe_bayes",
            "safe Bayesian optimization",
            signed(
                "safe_bayes",
                {
                    **_FAA, "high_ua": 1_200, "floor_milli": -1000, "prior_milli": 50, "length_ua": 800, "spread_milli": 300,
                    "noise_milli": 250, "trial_n": 20, "refractory_ms": 40_000, "most_n": 12,
                },
                start_ua=300,
            ),
        ),
        Arm("sham", "dual threshold decides for the log, nothing is delivered",
            signed("sham", {**_FAA, **_PACE, "of": "dual_threshold"}, start_ua=0)),
    )
}  # fmt: skip
ARMS["sham"] = replace(ARMS["sham"], prescription=replace(ARMS["sham"].prescription, amplitude_ua=0))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Persons × arms × seeds at biomarker level, and some of these cells at sample level too; sessions of `session_s`."""

    name: str
    about: str
    session_s: int
    persons: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: int
    sample_cells: tuple[tuple[str, str], ...]
    sample_seeds: int


_EVERYBODY = tuple(PATIENTS)
WITHIN_BOUNDS = ("on_off", "dual_threshold", "proportional_integral", "proportional_integral_short", "safe_bayes")
"""Arms that may raise, and give up where that is in vain."""
_SAME = (("responder", "schedule"), ("responder", "dual_threshold"), ("inverted", "dual_threshold_lower"))
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("quick", "a look: three kinds, four arms, 20 minutes", 1_200, ("responder", "non_responder", "inverted"),
                 ("none", "schedule", "dual_threshold", "dual_threshold_lower"), 4, (("responder", "dual_threshold"),), 1),
        Scenario("cohort", "how well: every kind, every arm, 20 minutes", 1_200, _EVERYBODY, tuple(ARMS), 20, (), 0),
        Scenario("safety", "10,080 sessions of 5 minutes and 100 at sample level under the oracle", 300, _EVERYBODY, tuple(arm for arm in ARMS if arm != "proportional_integral_short"), 140,
                 (*_SAME, ("mover", "proportional_integral"), ("dropouts", "on_off")), 20),
        Scenario("levels", "the two levels on the same persons, where they lay furthest apart, 5 minutes", 300, ("responder",),
                 ("dual_threshold",), 80, (("responder", "dual_threshold"),), TUNING_SEED),
        Scenario("giving_up", "who is given up, and when: every kind, the arms within bounds, 30 minutes", 1_800, _EVERYBODY,
                 WITHIN_BOUNDS, 20, (), 0),
    )
}  # fmt: skip


def lasting(prescription: Prescription, session_s: int) -> Prescription:
    """The same prescription for a session of so many seconds."""
    return replace(prescription, session_ms=session_s * 1000)


def find_scenario(name: str) -> Scenario:
    """The scenario of that name; SetupError naming all if there is none."""
    if name not in SCENARIOS:
        raise SetupError(f"scenario {name!r}: there are {', '.join(f'{s.name} ({s.about})' for s in SCENARIOS.values())}")
    return SCENARIOS[name]
