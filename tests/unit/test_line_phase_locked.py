"""Phase-locked pulses through the whole line in virtual time: virtual brain, the live line, the interlock's own judge, a device.

The phase of each pulse is the brain's own hidden state at the time the device gave it, not an estimate of ours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from control import session
from control.prescription import demo_prescription
from control.pulse_plan import Pulses, objection
from control.state import SessionState
from eegloop.stim import Prescription, PulseProgram, StimRequest, Verdict
from simulators.settings import BrainSettings
from tests.virtual_loop import VirtualLoop

PROGRAM = PulseProgram(
    protocol="table", threshold="rmt", intensity_percent=90, motor_threshold_percent=50, burst_pulses=1, burst_millihz=0,
    train_millihz=500, train_pulses=100, trains=2, interval_ms=5_000, session_pulses=10, day_pulses=10, week_pulses=1_000,
    course_pulses=1_000,
    waveform="biphasic", current="normal",
)  # fmt: skip
SETTINGS: dict[str, int | str] = {
    "biomarker": "relative_power.alpha", "channel": "O1", "phase_channel": "O1", "unit": "milli", "low_milli": 1, "high_milli": 999,
    "phase_deg": 180, "lead_ms": 60, "interval_ms": 2_100, "amplitude_nv": 8_000, "snr_millidb": 3_000, "sd_deg": 35, "jitter_deg": 80,
    "refractory_ms": 20_000,
}  # fmt: skip
# Alpha that stands out and keeps its pace, with the coil where it acts on nothing we look at.
BRAIN = BrainSettings(eyes="closed", alpha_spread_hz=0.2, coil="Fp1", seed=3)


def loop(
    program: PulseProgram | None = PROGRAM, authority: str = "lower_only", write_takes_ns: int = 100_000, **settings: Any
) -> VirtualLoop:
    signed: Prescription = replace(
        demo_prescription("virtual", 1_749_999_000.0), modality="tms", amplitude_ua=0, start_ua=0, authority=authority,
        controller="phase_locked", baseline_ms=1_000, pulses=program, session_uc=1, settings={**SETTINGS, **settings},
    )  # fmt: skip
    return VirtualLoop(signed, BRAIN, kinds=("relative_power", "phase"), write_takes_ns=write_takes_ns)


def sentences(made: VirtualLoop) -> str:
    return "\n".join(f"{d.verdict.request.reason} {d.verdict.sentence}" for d in made.decisions)


def refused(made: VirtualLoop) -> list[object]:
    """What the judge refused, but for heartbeats that crossed the session's end."""
    return [body for body in made.refusals if body["field"] != "mode"]


def test_pulses_come_at_the_signed_phase_as_many_and_as_far_apart_as_signed() -> None:
    made = loop()
    while made.line.session.phase != "post" and made.t_s < 90:
        made.run(2)
    assert made.line.session.phase == "post" and "As many pulses as signed" in made.line.session.reason
    pulses = made.line.session.pulses
    assert len(made.pulses_s) == pulses.fired == 10 and pulses.skipped == pulses.late == 0 and refused(made) == []
    assert np.diff(made.pulses_s).min() >= 2.0
    mean = np.exp(1j * (np.array(made.true_rad) - np.pi)).mean()
    assert abs(np.degrees(np.angle(mean))) < 30 and abs(mean) > 0.75, np.degrees(made.true_rad)


def test_what_a_pulse_touches_is_never_looked_at() -> None:
    """From just before each pulse until the amplifier has recovered no row is usable, so no decision leans on it."""
    made = loop()
    made.run(30)
    assert made.pulses_s
    for decision in made.decisions:
        asked = decision.verdict.request.trigger_s
        if asked is not None:
            row_s = decision.snapshot.biomarkers.t_s
            assert not any(row_s - 1.0 < at_s < row_s for at_s in made.pulses_s), "a window with a pulse in it"


def test_a_stimulator_whose_jitter_makes_phase_meaningless_gives_none() -> None:
    """Signed as jittery, or shown to be: then power control holds the session, and no pulse comes of it."""
    signed = loop(fire_jitter_us=50_000)
    signed.run(40)
    assert signed.pulses_s == [] and "by power" in sentences(signed)


def test_three_late_pulses_end_phase_locking_until_a_person_rearms() -> None:
    made = loop(write_takes_ns=4_000_000)
    made.run(40)
    assert len(made.pulses_s) == 3 and made.line.session.pulses.over
    assert made.line.session.phase == "on" and "phase-locking has ended" in sentences(made)
    assert refused(made) == [], "nothing more was asked of the interlock"


def test_who_may_only_observe_fires_nothing_and_says_so() -> None:
    made = loop(authority="observe")
    made.run(30)
    assert made.pulses_s == [] and "Would trigger" in sentences(made) and "Asks for a pulse" not in sentences(made)


def test_trains_and_pauses_are_those_signed() -> None:
    """A train is as long as signed, then comes the signed pause, and no train more than signed; the interlock refuses none of them."""
    made = loop(replace(PROGRAM, train_pulses=8, trains=2, interval_ms=10_000, session_pulses=100, day_pulses=100))
    made.run(80)
    times = np.array(made.pulses_s)
    pauses = np.flatnonzero(np.diff(times) >= 10.0)
    assert len(pauses) == 1 and len(times) >= 5 and refused(made) == []
    for train in np.split(times, pauses + 1):
        assert train[-1] - train[0] <= 16.0 - 2.0
    assert "as many trains as signed" in sentences(made)
    assert objection(made.line.session.pulses, made.t_s + 100.0, PROGRAM) != ""


def test_a_pulse_that_cannot_be_is_left_out_and_the_verdict_says_why() -> None:
    signed = loop().prescription
    armed = SessionState(phase="on", block="sense", armed=True, quiet_since_s=5.0)
    asked = Verdict(StimRequest(0.0, 0.0, True, "now", trigger_s=10.0), 0.0, 0.0, (), "")
    assert session.trigger(armed, asked, 9.9, signed)[1] == 10.0
    for state, t_s, why in (
        (replace(armed, armed=False), 9.9, "not armed"),
        (replace(armed, block="stimulate"), 9.9, "not armed"),
        (replace(armed, quiet_since_s=None), 9.9, "not armed"),
        (armed, 9.998, "its time had come"),
        (replace(armed, pulses=Pulses(sent=1, last_s=9.0, train_s=9.0, in_train=1, trains=1)), 9.9, "signed spacing"),
    ):
        after, at_s, verdict = session.trigger(state, asked, t_s, signed)
        assert at_s is None and after == state and why in verdict.sentence and verdict.limits[-1].field == "pulse"
    assert session.trigger(armed, asked, 9.9, replace(signed, authority="observe"))[1:] == (None, asked)
