"""On/off, proportional-integral, schedule, shadow and sham: what each does that the others do not."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from eegloop.plugins import find
from eegloop.ports import Snapshot
from eegloop.signal import Grade
from eegloop.stim import PrescriptionError, StimRequest
from tests.unit.test_control_seat import Seat, demo_prescription, rows

ALPHA: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3"}


class Run:
    """Estimates one second apart; the requested amplitude becomes the present one."""

    def __init__(self, kind: str, settings: dict[str, int | str], present_ma: float = 0.4, **changes: Any) -> None:
        self.controller = find("controller", kind).build(find("controller", kind).Settings())
        prescription = dataclasses.replace(demo_prescription("v", 0.0), controller=kind, settings=settings, **changes)
        self.state: Any = self.controller.start(prescription)
        self.t_s, self.hop = 10.0, 0
        self.snapshot = Snapshot(0.0, rows(0.0, 1, 0.0), present_ma, 0.0, 1.0, 0.0, None, 0.2, 0.01)

    def see(self, value: float, grade: Grade = Grade.GOOD, wait_s: float = 1.0, **changes: Any) -> StimRequest:
        self.t_s, self.hop = self.t_s + wait_s, self.hop + 1
        row = rows(value + 1e-6 * self.hop, self.hop, self.t_s, grade, reason="blink" if grade else "")
        self.snapshot = dataclasses.replace(self.snapshot, **{"t_s": self.t_s, "biomarkers": row, **changes})
        self.state, request = self.controller.decide(self.state, self.snapshot)
        if not request.hold:
            self.snapshot = dataclasses.replace(self.snapshot, present_ma=request.amplitude_ma)
        return request

    def moves(self, *values: float, **changes: Any) -> list[float]:
        requests = [self.see(v, **changes) for v in values]
        return [round(r.amplitude_ma, 6) for r in requests if not r.hold]


# --- on/off


def test_on_above_and_off_below_when_stimulation_lowers_the_biomarker() -> None:
    run = Run("on_off", {**ALPHA, "on_ua": 800, "more_moves": "down", "refractory_ms": 0})
    assert run.moves(0.3, 0.3) == [] and run.moves(0.3) == [0.6] and run.moves(0.3, 0.3, 0.3) == [0.8]
    last = run.see(0.3)
    assert last.hold and "0.80 mA is right" in last.reason
    assert run.moves(0.2, 0.2, 0.2, 0.2) == [], "between the thresholds it stays on"
    assert run.moves(*[0.1] * 8) == [0.6, 0.4, 0.2, 0.0]
    assert run.moves(0.1, 0.1) == []


def test_on_below_when_stimulation_raises_the_biomarker_and_pauses_between_changes() -> None:
    run = Run("on_off", {**ALPHA, "on_ua": 800, "more_moves": "up", "refractory_ms": 20_000})
    times = []
    for _ in range(60):
        if not run.see(0.1).hold:
            times.append(run.t_s)
    assert len(times) == 2 and times[1] - times[0] >= 20.0
    assert "which means on" in run.see(0.1).reason
    assert run.moves(0.3, 0.3, 0.3) == [0.6]
    assert "may come in" in run.see(0.3).reason and "of 3 estimates" in run.see(0.1).reason


# --- proportional-integral

PI: dict[str, int | str] = {**ALPHA, "kp_ua": 100, "ki_ua_per_min": 60, "refractory_ms": 60_000}


def test_pi_steps_by_its_formula() -> None:
    run = Run("proportional_integral", PI)
    # band 0.195..0.205, size 0.01: 0.165 is 3 units under; 100 * 3 + 60 * 3 * 1 min = 480, cut to 200
    assert run.moves(0.165, 0.165) == [] and run.moves(0.165) == [0.6]
    assert "2 of" not in run.see(0.165).reason and "next change" in run.see(0.165).reason
    run = Run("proportional_integral", PI)
    assert run.moves(0.19, 0.19, 0.19) == pytest.approx([0.48], abs=2e-3), "100 * 0.5 + 60 * 0.5 = 80"
    assert run.moves(0.19, wait_s=60.0) == pytest.approx([0.51], abs=2e-3), "100 * 0 + 60 * 0.5 * 1 = 30"
    assert run.moves(0.20) == [] and "target band" in run.see(0.2).reason


def test_pi_does_not_wind_up() -> None:
    run = Run("proportional_integral", {**PI, "refractory_ms": 0, "give_up_n": 3_600})
    for _ in range(200):
        run.see(0.1, wait_s=10.0)
    assert run.snapshot.present_ma == 1.0
    assert "as much as is allowed" in run.see(0.1).reason
    # An hour at the ceiling is forgotten at once when the biomarker comes out on the other side.
    assert run.moves(0.3, 0.3, 0.3, wait_s=10.0) == [0.8]


def test_pi_follows_what_was_granted_not_what_it_asked() -> None:
    run = Run("proportional_integral", {**PI, "refractory_ms": 0})
    for _ in range(20):
        request = run.see(0.165, present_ma=0.4)
    assert request.amplitude_ma <= 0.6


def test_pi_never_steps_against_the_side_it_is_on() -> None:
    run = Run("proportional_integral", {**PI, "ki_ua_per_min": 0, "refractory_ms": 0})
    assert run.moves(0.165, 0.165, 0.165) == [0.6]
    assert run.moves(0.19, 0.19, 0.19) == [], "a shrinking error takes nothing back"
    down = Run("proportional_integral", {**PI, "more_moves": "down"})
    assert down.moves(0.165, 0.165, 0.165) == [0.2]
    assert down.see(0.165, Grade.SUSPECT).reason == "Held at 0.20 mA: blink."


def test_pi_has_no_unit_without_a_spread() -> None:
    assert "no baseline" in Run("proportional_integral", PI).see(0.1, baseline_sd=0.0).reason


# --- schedule


def test_schedule_follows_its_times_in_steps() -> None:
    run = Run("schedule", {"levels": "0:400 30:900 60:0", "step_ua": 200})
    moved = [(run.t_s - 11.0, r.amplitude_ma) for r in (run.see(math.nan, Grade.INVALID) for _ in range(70)) if not r.hold]
    assert [round(t) for t, _ in moved] == [30, 31, 32, 60, 61, 62, 63, 64]
    assert [round(ma, 3) for _, ma in moved] == [0.6, 0.8, 0.9, 0.7, 0.5, 0.3, 0.1, 0.0]
    assert "The schedule has 0.00 mA from 60 s on, but 0.00 mA is right" in run.see(0.2).reason
    assert run.see(0.2, t_s=math.nan).hold


@pytest.mark.parametrize(
    "levels", ["", "5:400", "0:400 0:500", "0:400 60:1 30:2", "0:x", "0:400  5:1", " ".join(f"{i}:1" for i in range(51))]
)
def test_schedules_that_are_none(levels: str) -> None:
    with pytest.raises(PrescriptionError, match="levels"):
        Run("schedule", {"levels": levels})


def test_a_schedule_runs_a_whole_session_without_a_biomarker() -> None:
    prescription = demo_prescription("v", 0.0)
    seat = Seat(dataclasses.replace(prescription, controller="schedule", settings={"levels": "0:500"}), demo=True)
    seat.grade = lambda t_s: Grade.INVALID
    seat.run(120)
    assert seat.state.phase == "on" and seat.state.present_ma == 0.5 and seat.state.baseline is None


# --- shadow and sham

SHADOW: dict[str, int | str] = {"of": "dual_threshold", **ALPHA, "refractory_ms": 0}


def test_shadow_decides_on_its_own_amplitude_and_moves_nothing() -> None:
    run = Run("shadow", SHADOW)
    requests = [run.see(0.1) for _ in range(9)]
    assert all(r.hold and r.amplitude_ma == 0.4 for r in requests)
    assert run.state.imagined_ma == pytest.approx(0.55)
    assert requests[2].reason.startswith("In the shadow only, at 0.45 mA: ")
    assert "0.05 mA more (not delivered)" in requests[2].reason
    assert run.controller.target(run.state, run.snapshot)["low"] == pytest.approx(0.18)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "of"),
        ({"of": "sham"}, "of"),
        ({"of": "shadow"}, "of"),
        ({"of": "magic"}, "of"),
        ({"of": "dual_threshold"}, "biomarker"),
    ],
)
def test_what_cannot_be_shadowed(settings: dict[str, int | str], says: str) -> None:
    with pytest.raises(PrescriptionError, match=says):
        Run("shadow", settings)


def test_sham_delivers_nothing_whatever_the_biomarker_does_and_says_nothing() -> None:
    run = Run("sham", SHADOW, present_ma=0.0, amplitude_ua=0, start_ua=0)
    requests = [run.see(v) for v in itertools.chain([0.1] * 9, [0.3] * 9)]
    assert all(r.hold and r.amplitude_ma == 0.0 for r in requests)
    assert len({r.reason for r in requests}) == 1
    assert run.controller.target(run.state, run.snapshot)["value"] is not None
    for field in ("amplitude_ua", "start_ua"):
        with pytest.raises(PrescriptionError, match="must be 0"):
            Run("sham", SHADOW, **{"amplitude_ua": 0, "start_ua": 0, field: 1})


def test_a_sham_session_looks_like_one_and_delivers_nothing() -> None:
    prescription = dataclasses.replace(
        demo_prescription("v", 0.0), controller="sham", settings=SHADOW, amplitude_ua=0, start_ua=0
    )
    seat = Seat(prescription, demo=True)
    seat.value = lambda t_s: 0.1 + 0.001 * math.sin(7 * t_s)
    seat.run(200)
    assert seat.state.phase == "on" and len(seat.verdicts) > 10
    assert all(ma == 0.0 for _, ma in seat.delivered)


@pytest.mark.parametrize("kind", ["on_off", "dual_threshold", "proportional_integral"])
def test_who_does_not_respond_to_all_that_is_allowed_is_led_down_and_left_alone(kind: str) -> None:
    settings = {**ALPHA, "refractory_ms": 0, "give_up_n": 10, "step_ua": 200, "safe_ua": 100}
    settings |= {"on_ua": 1_000, "more_moves": "up"} if kind == "on_off" else {"more_moves": "up"}
    run = Run(kind, settings)
    seen = [run.see(0.1) for _ in range(90)]
    assert max(r.amplitude_ma for r in seen) == pytest.approx(1.0), "it explored all that is allowed"
    assert run.snapshot.present_ma == pytest.approx(0.1), "and ended at the safe amplitude"
    assert "did not come into its target band" in seen[-1].reason
    assert run.moves(*[0.1] * 30) == [] and run.moves(*[0.3] * 30) == [], "for good"


def test_what_was_never_raised_is_not_given_up() -> None:
    run = Run("dual_threshold", {**ALPHA, "refractory_ms": 0, "give_up_n": 10}, present_ma=0.4)
    for _ in range(40):
        run.see(0.1, ceiling_ma=0.4)
    assert run.snapshot.present_ma == 0.4 and "as much as is allowed" in run.see(0.1, ceiling_ma=0.4).reason


def test_on_off_gives_up_at_its_own_top() -> None:
    run = Run("on_off", {**ALPHA, "refractory_ms": 0, "give_up_n": 10, "on_ua": 800, "more_moves": "up"})
    seen = [run.see(0.1) for _ in range(40)]
    assert max(r.amplitude_ma for r in seen) == pytest.approx(0.8) and run.snapshot.present_ma == 0.0
