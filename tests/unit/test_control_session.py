"""The session's state machine, path by path, in virtual time."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from control import session
from control.phases import BASELINE_N
from control.sentences import SWITCH_OFF, alarms
from control.session import OperatorEvent
from control.transitions import ALLOWED, TRANSITIONS, markdown
from eegloop.signal import Grade
from eegloop.stim import Phase, StimRequest, Verdict
from tests.unit.test_control_seat import Seat, demo_prescription, state_of

ROOT = Path(__file__).parents[2]


def signed(**changes: Any):
    return dataclasses.replace(demo_prescription("virtual", 0.0), **changes)


def told(seat: Seat, *words: str) -> bool:
    return all(word in seat.effects.sentence for word in words)


def test_the_documents_table_is_the_codes() -> None:
    text = (ROOT / "docs" / "session.md").read_text(encoding="utf-8")
    assert markdown() in text, "docs/session.md is stale: paste control.transitions.markdown() into it"


def test_a_demo_runs_from_start_to_the_first_decision_within_two_minutes() -> None:
    seat = Seat(demo=True)
    seat.value = lambda t_s: (0.2 if t_s < 125 else 0.1) + 0.001 * math.sin(7 * t_s)
    seat.run(120)
    assert [b for _, b in seat.changes] == ["screen", "contact", "baseline", "ramp_up", "on"]
    assert any(not v.request.hold for _, v in seat.verdicts)
    assert seat.state.present_ma > 0.4
    assert seat.state.baseline == pytest.approx(0.2, abs=0.002)
    assert seat.state.started_by == "demo"


def test_a_session_ends_itself_within_its_time_and_is_over() -> None:
    seat = Seat(signed(session_ms=90_000), demo=True).until("post")
    nonzero = [t_s for t_s, ma in seat.delivered if ma > 0]
    assert nonzero[-1] - nonzero[0] <= 90.0
    assert ("on", "ramp_down") in seat.changes
    assert told(seat, "prescribed time is over", "decisions")
    seat.tick(OperatorEvent("start", "Ann"))
    assert seat.state.phase == "screen" and seat.state.used_s == 0.0 and seat.state.started_by == "Ann"


def test_a_session_ends_before_its_charge_is_spent() -> None:
    seat = Seat(signed(session_uc=12_000), demo=True).until("post")
    assert 9_000 < seat.stim.delivered_uc <= 12_000
    assert told(seat, "charge is given")


def test_after_a_start_only_a_person_rearms() -> None:
    seat = Seat().run(30)
    assert seat.state.phase == "stopped" and seat.state.latched_by == "restart"
    seat.tick(OperatorEvent("rearm", ""))
    assert seat.state.phase == "stopped"
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "off" and told(seat, "No session")
    seat.run(5)
    assert seat.state.phase == "off"
    seat.tick(OperatorEvent("start", "Ann"))
    seat.run(5)
    assert seat.state.phase == "screen" and told(seat, "screening")
    seat.tick(OperatorEvent("screened", "Ann"))
    assert seat.state.phase == "contact"


def test_a_stop_of_the_interlocks_own_road_latches_once_and_a_person_starts_again() -> None:
    """The STOP counts until a person re-arms, and is not heard again when the next session begins."""
    seat = Seat(demo=True).until("on")
    seat.stim = dataclasses.replace(seat.stim, halts=seat.stim.halts + 1)
    seat.tick()
    assert seat.state.phase == "stopped" and seat.state.latched_by in ("interlock", "person")
    seat.run(2)
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "off"
    seat.tick(OperatorEvent("start", "Ann"))
    seat.run(1)
    assert seat.state.phase in ("screen", "contact"), seat.state.reason
    seat.until("on")


def test_a_demo_on_a_real_stimulator_does_not_arm_itself() -> None:
    seat = Seat(signed(device="magstim", settings={"biomarker": "relative_power.alpha", "channel": "F3"}), demo=True).run(30)
    assert seat.state.phase == "stopped"


def test_a_demo_waits_for_a_page_before_it_stimulates() -> None:
    seat = Seat(demo=True)
    seat.inputs_changes = {"supervised_age_s": math.inf}
    seat.run(60)
    assert seat.state.phase == "baseline" and seat.state.baseline_done
    assert told(seat, "no page is watching") and seat.effects.left_s == 0.0
    seat.inputs_changes = {}
    seat.until("ramp_up", within_s=1)


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_a_person_ends_before_stimulation(phases: int) -> None:
    seat = Seat()
    for kind in ("rearm", "start", "screened")[: phases + 1]:
        seat.tick(OperatorEvent(kind, "Ann"))
    if phases == 3:
        seat.until("baseline")
    seat.tick(OperatorEvent("end", "Ann"))
    assert seat.state.phase == "off" and not seat.commands


def test_end_while_on_ramps_down_then_post_then_off() -> None:
    seat = Seat(demo=True).until("on")
    seat.tick(OperatorEvent("end", "Ann"))
    assert seat.state.phase == "ramp_down" and seat.effects.command == "end" and told(seat, "Ended by Ann", "Ramping down")
    seat.until("post", within_s=10)
    assert seat.state.armed is False and not seat.effects.heartbeat
    seat.run(20)
    assert seat.state.phase == "post"
    seat.tick(OperatorEvent("end", "Ann"))
    assert seat.state.phase == "off"


def test_end_while_ramping_up() -> None:
    seat = Seat(demo=True).until("ramp_up").run(1)
    seat.tick(OperatorEvent("end", "Ann"))
    assert seat.effects.command == "end"
    seat.until("post", within_s=10)


def test_end_while_arming_stops_what_may_be_under_way() -> None:
    seat = Seat(demo=True).until("ramp_up")
    seat.obeys = False
    seat.stim = state_of()
    seat.tick(OperatorEvent("end", "Ann"))
    assert seat.effects.command == "stop" and seat.state.phase == "ramp_down"


def test_stop_is_taken_in_every_phase_and_needs_no_name() -> None:
    for phase in ("screen", "contact", "baseline", "ramp_up", "on"):
        seat = Seat(demo=True).until(phase)
        seat.tick(OperatorEvent("stop", ""))
        assert seat.state.phase == "stopped" and seat.state.latched_by == "person" and seat.effects.command == "stop"
        seat.tick(OperatorEvent("stop", "Ann", "it tingles"))
        assert seat.effects.command == "stop" and told(seat, "Ann", "it tingles", "re-arm")
        seat.run(30)
        assert seat.state.phase == "stopped", "the demo must not undo a person's STOP"


def test_stop_is_asked_again_of_an_interlock_that_stays_armed() -> None:
    seat = Seat(demo=True).until("on")
    seat.obeys = False
    seat.tick(OperatorEvent("stop", "Ann"))
    seat.run(3)
    assert len([1 for _, e in seat.commands if e.command == "stop"]) == pytest.approx(7, abs=1)
    assert any(a.id == "zero_unconfirmed" for a in seat.effects.alarms)
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "stopped" and told(seat, "Cannot re-arm", "zero")


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase != "stopped"])
@pytest.mark.parametrize("said_ma", [0.2, -1.0, math.nan])
def test_output_that_nobody_ordered_is_an_alarm_in_every_phase(phase: Phase, said_ma: float) -> None:
    """The pads are on the head before a session and after it, too."""
    seat = Seat()
    seat.tick()
    state, inputs = dataclasses.replace(seat.state, phase=phase), seat.inputs(())
    stim = dataclasses.replace(seat.stim, confirmed_ma=said_ma, zero_since_ns=0)
    found = [a for a in alarms(state, inputs, seat.prescription, stim) if a.id == "output_while_stopped"]
    assert [(a.priority, a.advice) for a in found] == [("high", SWITCH_OFF)] and "delivers" in found[0].text
    for at_rest_ma in (0.05, -0.05, None):  # as far beside zero as a readback may be
        stim = dataclasses.replace(seat.stim, confirmed_ma=at_rest_ma)
        assert not [a for a in alarms(state, inputs, seat.prescription, stim) if a.priority == "high"]


def test_rearm_continues_the_sessions_time() -> None:
    seat = Seat(demo=True).until("on").run(10)
    seat.tick(OperatorEvent("stop", "Ann"))
    used_s = seat.state.used_s
    assert used_s > 13
    seat.begin().until("on")
    assert seat.state.used_s == used_s


def test_a_session_whose_time_ran_out_after_a_stop_is_not_gone_on_with() -> None:
    """The interlock counts the session's time from its first output on: under its old name it would refuse for ever."""
    seat = Seat(demo=True).until("on").run(10)
    begun_s = seat.state.begun_s
    seat.tick(OperatorEvent("stop", "Ann"))
    assert begun_s is not None and seat.state.begun_s == begun_s
    seat.run(math.ceil(begun_s + seat.prescription.session_ms / 1000 - seat.state.t_s))
    seat.begin()
    assert seat.state.used_s == 0.0 and seat.state.begun_s is None
    seat.until("on")
    assert seat.state.begun_s is not None and seat.state.begun_s > begun_s


def test_a_session_that_a_person_stopped_goes_on_with_its_dose() -> None:
    seat = Seat(demo=True).until("on").run(5)
    seat.tick(OperatorEvent("stop", "Ann"))
    seat.run(1).begin()
    assert seat.state.phase == "contact" and seat.state.used_s > 5.0 and seat.state.begun_s is not None


def test_contact_says_which_channel_and_waits() -> None:
    seat = Seat(demo=True)
    seat.good = (True, False)
    seat.until("contact").run(20)
    assert seat.state.phase == "contact" and told(seat, "F4") and seat.effects.left_s is None
    seat.inputs_changes = {"channels": ()}
    seat.tick()
    assert told(seat, "2")
    seat.inputs_changes = {"biomarkers": None}
    seat.tick()
    assert told(seat, "Waiting for the headset")
    seat.inputs_changes, seat.good = {}, (True, True)
    seat.run(4)
    assert seat.state.phase == "contact" and told(seat, "more to be sure")
    seat.until("baseline", within_s=2)


def test_contact_after_a_fallback_waits_for_what_is_missing() -> None:
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"supervised_age_s": 20.0}
    seat.until("fallback").run(5)
    seat.inputs_changes = {}
    seat.tick(OperatorEvent("rearm", "Ann"))
    seat.inputs_changes = {"recording_ok": False}
    seat.run(10)
    assert seat.state.phase == "contact" and told(seat, "waiting", "recorded")


def test_no_channel_is_no_contact() -> None:
    seat = Seat(demo=True)
    seat.good = ()
    seat.until("contact").run(10)
    assert seat.state.phase == "contact"


def test_a_baseline_takes_clean_values_only_and_starts_anew_when_the_headset_goes_silent() -> None:
    seat = Seat(demo=True).until("baseline")
    seat.grade = lambda t_s: Grade.SUSPECT
    seat.run(20)
    assert seat.state.baseline_values == () and told(seat, "waiting")
    seat.grade = lambda t_s: Grade.GOOD
    seat.run(5)
    assert 4 <= len(seat.state.baseline_values) <= 5
    seat.inputs_changes = {"sample_age_s": 11.0}
    seat.tick()
    assert seat.state.phase == "contact"
    seat.inputs_changes = {}
    seat.until("baseline")
    assert seat.state.baseline_values == ()


def test_a_long_baseline_stays_bounded() -> None:
    assert BASELINE_N >= 600, "the format allows 600 s"


def test_observe_decides_and_sends_nothing() -> None:
    seat = Seat(signed(authority="observe"), demo=True)
    seat.value = lambda t_s: (0.2 if t_s < 122 else 0.1) + 0.001 * math.sin(7 * t_s)
    seat.run(120)
    assert not seat.commands and not seat.effects.heartbeat
    assert seat.state.present_ma > 0.4, "the shadow's own amplitude"
    assert all(v.amplitude_ma == 0.0 for _, v in seat.verdicts)
    assert any("nothing is delivered" in s for s in seat.sentences)
    seat.stim = state_of(mode="armed")
    seat.tick()
    assert seat.effects.command == "stop"


def test_observe_ends_and_falls_back_without_a_command() -> None:
    seat = Seat(signed(authority="observe"), demo=True).until("on")
    seat.tick(OperatorEvent("end", "Ann"))
    seat.until("post", within_s=1)
    seat = Seat(signed(authority="observe"), demo=True).until("on")
    seat.inputs_changes = {"supervised_age_s": 20.0}
    seat.tick()
    assert seat.state.phase == "fallback" and seat.effects.command == ""
    seat = Seat(signed(authority="observe", session_ms=40_000), demo=True).until("post")
    assert not seat.commands


def test_lower_only_never_rises_again() -> None:
    seat = Seat(signed(authority="lower_only"), demo=True)
    seat.value = lambda t_s: (0.2 if t_s < 125 else 0.3 if t_s < 200 else 0.1) + 0.001 * math.sin(7 * t_s)
    seat.run(300)
    granted = [v.amplitude_ma for _, v in seat.verdicts]
    assert granted == sorted(granted, reverse=True) and granted[-1] < 0.4
    assert seat.state.ceiling_ma == granted[-1]


def test_the_interlocks_ceiling_counts() -> None:
    seat = Seat(demo=True).sense()
    seat.stim = dataclasses.replace(seat.stim, ceiling_ma=0.3)
    seat.run(15)
    assert seat.state.present_ma == 0.3
    seat = Seat(demo=True).sense()
    seat.stim = dataclasses.replace(seat.stim, ceiling_ma=math.nan)
    seat.run(15)
    assert seat.state.present_ma == 0.0


def test_a_clock_that_runs_backwards_stops_and_stays_stopped() -> None:
    for bad in (50.0, math.nan):
        seat = Seat(demo=True).until("on")
        seat.inputs_changes = {"t_s": bad}
        seat.tick()
        assert seat.state.phase == "stopped" and seat.state.latched_by == "clock" and seat.effects.command == "stop"
        seat.inputs_changes = {}
        seat.run(5)
        assert seat.state.phase == "stopped"


def test_decisions_use_only_windows_inside_the_confirmed_zero() -> None:
    seat = Seat(demo=True).run(200)
    output = dict(seat.delivered)
    assert len(seat.verdicts) > 10
    for t_s, _ in seat.verdicts:
        touched = [s for s in output if t_s - 2.0 <= s <= t_s and output[s] > 0.0]
        assert not touched
    times = [t_s for t_s, _ in seat.verdicts]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.99


def verdict(ma: float, hold: bool = False) -> Verdict:
    return Verdict(StimRequest(ma, 0.0, hold, "test"), ma, 0.0, (), "test")


def test_permit_holds_outside_sense_and_on_unusable_values_and_bounds_any_verdict() -> None:
    seat = Seat(demo=True).until("on")
    inputs = seat.inputs()
    held = session.permit(seat.state, verdict(0.1), inputs, seat.prescription)
    assert held.present_ma == 0.4 and held.holds == 1 and held.decisions == 0
    seat.sense()
    for asked, hold, becomes in [
        (0.3, False, 0.3),
        (5.0, False, 1.0),
        (math.nan, False, 0.0),
        (-1.0, False, 0.0),
        (0.3, True, 0.3),
        (0.5, True, 0.4),
    ]:
        new = session.permit(seat.state, verdict(asked, hold), seat.inputs(), seat.prescription)
        assert (new.present_ma, new.decisions) == (becomes, seat.state.decisions + 1), asked
    seat.grade = lambda t_s: Grade.SUSPECT
    seat.tick()
    for asked in (0.1, 0.9):
        assert session.permit(seat.state, verdict(asked), seat.inputs(), seat.prescription).present_ma == 0.4


def test_a_snapshot_needs_biomarkers() -> None:
    seat = Seat(demo=True).sense()
    seat.inputs_changes = {"biomarkers": None}
    with pytest.raises(ValueError, match="no biomarkers"):
        session.snapshot(seat.state, seat.inputs(), seat.prescription)


def test_no_way_is_made_that_the_table_does_not_have() -> None:
    from control.phases import _go

    with pytest.raises(ValueError, match="no way"):
        _go(session.initial(0.0), Phase.ON, "no")
    assert len(ALLOWED) == len({(a, b) for a, b, _ in TRANSITIONS})


def test_an_unknown_target_never_starts_a_ramp() -> None:
    seat = Seat(signed(settings={**demo_prescription("v", 0.0).settings, "channel": "Oz"}), demo=True).run(60)
    assert seat.state.phase == "baseline" and told(seat, "no biomarker relative_power.alpha@Oz")


def test_kinds_of_events_nobody_knows_change_nothing() -> None:
    seat = Seat()
    seat.tick(OperatorEvent("dance", "Ann"))
    assert seat.state.phase == "stopped"


def test_a_stop_heard_while_stopped_is_taken_in_and_names_a_person_after_a_start_only() -> None:
    """`latched_by` of a stop with another cause stays."""
    fresh = Seat().run(1)
    fresh.stim = dataclasses.replace(fresh.stim, halts=fresh.stim.halts + 1)
    fresh.tick()
    assert fresh.state.phase == "stopped" and fresh.state.latched_by == "person"
    other = Seat(demo=True).until("on")
    other.inputs_changes = {"recording_ok": False}
    other.tick()
    assert other.state.latched_by == "record"
    other.stim = dataclasses.replace(other.stim, halts=other.stim.halts + 1)
    other.tick()
    assert other.state.latched_by == "record" and other.state.halts_seen == other.stim.halts
