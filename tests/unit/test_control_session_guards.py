"""What takes a session down or holds it: the interlock, records, supervision, the headset, fallbacks; in virtual time."""

from __future__ import annotations

import dataclasses
import math

import pytest

from control.session import OperatorEvent
from eegloop.signal import Grade
from tests.unit.test_control_seat import Seat, rows, state_of
from tests.unit.test_control_session import told


def test_an_interlock_that_trips_stops_the_session() -> None:
    seat = Seat(demo=True).until("on")
    seat.stim = state_of(reason="device silent")
    seat.target_ma = 0.0
    seat.tick()
    assert seat.state.phase == "stopped" and seat.state.latched_by == "interlock" and told(seat, "device silent")
    assert seat.effects.command == "stop"
    assert [a.id for a in seat.effects.alarms] == ["stopped"]
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "off"


def test_an_interlock_that_falls_back_takes_the_session_along() -> None:
    seat = Seat(demo=True).until("on")
    seat.stim = dataclasses.replace(seat.stim, mode="fallback", reason="told to")
    seat.tick()
    assert seat.state.phase == "fallback" and told(seat, "told to")


@pytest.mark.parametrize("mode", ["fallback", "stopped"])
def test_a_signature_that_no_longer_counts_is_named_and_a_person_must_start_anew(mode: str) -> None:
    """From zero, in a sense block, the interlock has fallen at once."""
    reason = "the signature no longer counts (signed.signatures[0].key (Dr A): is revoked)"
    seat = Seat(demo=True).until("on")
    falls = f"fallback: {reason}" if mode == "stopped" else f"on the way down: fallback: {reason}"
    seat.stim = dataclasses.replace(seat.stim, mode=mode, reason=falls, granted_ma=0.0)
    seat.tick()
    assert seat.state.phase == "fallback" and seat.state.reason == f"The interlock ramps to zero: {reason}."
    seat.stim = state_of(mode="stopped", reason=f"fallback: {reason}")
    seat.run(20)
    assert seat.state.phase == "fallback" and not seat.state.armed


def test_an_interlock_that_trips_while_ramping_down_stops_the_session() -> None:
    seat = Seat(demo=True).until("on")
    seat.tick(OperatorEvent("end", "Ann"))
    seat.stim = state_of(reason="stop button")
    seat.tick()
    assert seat.state.phase == "stopped"


@pytest.mark.parametrize(
    "reason", ["session time used", "session charge used", "the prescription ends at 2027-01-15 08:00:30 UTC"]
)
def test_an_interlock_that_ends_the_session_itself_is_followed(reason: str) -> None:
    seat = Seat(demo=True).until("on")
    seat.target_ma = 0.0
    seat.stim = dataclasses.replace(seat.stim, reason=f"on the way down: {reason}", granted_ma=0.0)
    seat.tick()
    assert seat.state.phase == "ramp_down" and seat.effects.command == "" and reason in seat.state.reason
    seat.stim = state_of(reason=reason)
    seat.until("post", within_s=1)


def test_a_silent_interlock_stops_the_session_and_the_output_is_unknown() -> None:
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"stim_age_s": 0.6}
    seat.run(2)
    assert seat.state.phase == "on" and "output_unknown" in [a.id for a in seat.effects.alarms]
    seat.inputs_changes = {"stim_age_s": 1.1}
    seat.tick()
    assert seat.state.phase == "stopped" and "output_unknown" in [a.id for a in seat.effects.alarms]


def test_an_interlock_armed_outside_a_session_is_stopped() -> None:
    seat = Seat(demo=True).until("contact")
    seat.stim = state_of(mode="armed")
    seat.tick()
    assert seat.effects.command == "stop" and seat.state.phase == "stopped"


def test_an_interlock_that_does_not_arm() -> None:
    seat = Seat(demo=True)
    seat.refuses_to_arm = True
    seat.until("ramp_up").until("stopped", within_s=6)
    assert told(seat, "did not arm", "lockout")
    assert len([1 for _, e in seat.commands if e.command == "arm"]) == 3
    seat = Seat(demo=True).until("ramp_up")
    seat.obeys = False
    seat.stim = state_of()
    seat.inputs_changes = {"stim": None}
    seat.until("stopped", within_s=6)
    assert told(seat, "no answer")


def test_a_set_that_was_not_taken_is_sent_again() -> None:
    seat = Seat(demo=True).until("on")
    n = len(seat.commands)
    seat.stim = dataclasses.replace(seat.stim, granted_ma=0.1)
    seat.run(1)
    assert len(seat.commands) == n + 1 and seat.commands[-1][1].amplitude_ma == 0.4


def test_an_output_that_does_not_rise_falls_back() -> None:
    seat = Seat(demo=True).until("ramp_up").run(0.5)
    seat.obeys = False
    seat.target_ma = 0.1
    seat.until("fallback", within_s=16)
    assert told(seat, "did not reach")


def test_zero_that_is_not_confirmed_in_sense_falls_back() -> None:
    seat = Seat(demo=True).until("on")
    while seat.state.block == "stimulate":
        seat.tick()
    assert told(seat, "to zero, to look")
    seat.obeys = False
    seat.target_ma = 0.4
    seat.stim = dataclasses.replace(seat.stim, granted_ma=0.4)
    seat.until("fallback", within_s=10)
    assert told(seat, "not confirmed")


def test_ramp_down_without_zero_stops() -> None:
    seat = Seat(demo=True).until("on")
    seat.obeys = False
    seat.tick(OperatorEvent("end", "Ann"))
    seat.until("stopped", within_s=10)
    assert seat.state.latched_by == "output"
    assert len([1 for _, e in seat.commands if e.command == "end"]) > 10, "end is asked for again"


def test_fallback_without_zero_stops() -> None:
    seat = Seat(demo=True).until("on")
    seat.obeys = False
    seat.inputs_changes = {"supervised_age_s": 16.0}
    seat.until("fallback").until("stopped", within_s=8)
    assert seat.state.latched_by == "output"
    assert len([1 for _, e in seat.commands if e.command == "fallback"]) > 5


@pytest.mark.parametrize("what", ["recording_ok", "audit_ok"])
def test_no_record_no_stimulation(what: str) -> None:
    seat = Seat(demo=True)
    seat.inputs_changes = {what: False}
    seat.run(60)
    assert seat.state.phase == "baseline" and not [1 for _, e in seat.commands if e.command == "arm"]
    seat.inputs_changes = {}
    seat.until("on")
    seat.inputs_changes = {what: False}
    seat.tick()
    assert seat.effects.command == "stop" and seat.state.latched_by == "record"
    assert {"recording_ok": "recording", "audit_ok": "audit"}[what] in [a.id for a in seat.effects.alarms]
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "stopped" and told(seat, "Cannot re-arm")


@pytest.mark.parametrize("age_s", [15.1, math.inf, math.nan, -1.0])
def test_without_supervision_it_falls_back(age_s: float) -> None:
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"supervised_age_s": age_s}
    seat.tick()
    assert seat.state.phase == "fallback" and seat.effects.command == "fallback" and told(seat, "No page")
    assert seat.effects.heartbeat, "the ramp to zero lives by the lease"


def test_supervision_alarms_before_it_falls_back() -> None:
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"supervised_age_s": 8.0}
    seat.tick()
    assert seat.state.phase == "on" and [a.id for a in seat.effects.alarms] == ["supervision"]


def test_fallback_before_the_arm_is_confirmed_stops_outright() -> None:
    seat = Seat(demo=True).until("ramp_up")
    seat.stim = state_of()
    seat.inputs_changes = {"supervised_age_s": 16.0}
    seat.tick()
    assert seat.state.phase == "fallback" and seat.effects.command == "stop"


@pytest.mark.parametrize("age_s", [10.1, math.inf, math.nan])
def test_a_silent_headset_holds_then_falls_back(age_s: float) -> None:
    seat = Seat(demo=True).sense()
    seat.inputs_changes = {"sample_age_s": 5.0, "stream": "delayed"}
    n = len(seat.verdicts)
    seat.run(8)
    assert seat.state.phase == "on" and len(seat.verdicts) == n, "delayed samples decide nothing"
    seat.inputs_changes = {"sample_age_s": age_s, "stream": "lost"}
    seat.tick()
    assert seat.state.phase == "fallback" and "stream" in [a.id for a in seat.effects.alarms]


def test_rows_that_stop_coming_fall_back_after_the_stale_time() -> None:
    seat = Seat(demo=True).sense().run(5)
    seat.inputs_changes = {"biomarkers": rows(0.2, seat.hop, seat.t_s)}
    begun_s, n = seat.t_s, len(seat.verdicts)
    seat.until("fallback", within_s=11)
    assert seat.t_s - begun_s == pytest.approx(10.0, abs=0.2) and told(seat, "stale")
    assert len(seat.verdicts) - n <= 1, "an old row decides at most once"


@pytest.mark.parametrize("t_s", [1e9, math.nan])
def test_rows_from_a_broken_clock_decide_nothing(t_s: float) -> None:
    seat = Seat(demo=True).sense()
    n = len(seat.verdicts)
    while seat.state.phase == "on":
        seat.inputs_changes = {"biomarkers": rows(0.1, 10_000 + seat.hop, t_s)}
        seat.tick()
        assert seat.state.block != "stimulate"
    assert seat.state.phase == "fallback" and len(seat.verdicts) == n


def test_artifacts_hold_the_dose_without_output_then_fall_back() -> None:
    seat = Seat(demo=True).sense()
    seat.grade = lambda t_s: Grade.INVALID
    begun_s = seat.t_s
    seat.run(30)
    assert seat.state.block == "sense" and seat.state.present_ma == 0.4, "no return to stimulation without one clean window"
    assert told(seat, "No clean window") and all(v.request.hold for _, v in seat.verdicts)
    seat.until("fallback", within_s=40)
    assert seat.t_s - begun_s == pytest.approx(60.0, abs=0.5) and told(seat, "No clean biomarker")


def test_a_fallback_needs_a_cleared_cause_contact_and_a_person_and_two_end_the_session() -> None:
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"supervised_age_s": 20.0}
    seat.until("fallback").run(5)
    assert seat.stim.mode == "stopped" and not seat.effects.heartbeat
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "fallback" and told(seat, "Cannot re-arm", "no page")
    seat.inputs_changes = {}
    seat.run(20)
    assert seat.state.phase == "fallback"
    seat.tick(OperatorEvent("rearm", ""))
    assert seat.state.phase == "fallback"
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "contact"
    begun_s = seat.t_s
    seat.until("ramp_up")
    assert seat.t_s - begun_s >= 5.0, "contact is checked anew, the baseline is kept"
    assert ("contact", "ramp_up") in seat.changes
    seat.until("on")
    seat.inputs_changes = {"supervised_age_s": 20.0}
    seat.until("fallback").until("stopped", within_s=5)
    assert seat.state.latched_by == "fallbacks" and told(seat, "Two fallbacks")
    seat.inputs_changes = {}
    seat.until("stopped").run(1).begin()
    assert seat.state.phase == "contact" and (seat.state.used_s, seat.state.begun_s) == (0.0, None), (
        "another session begins, not this one"
    )
