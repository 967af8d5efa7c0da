"""What a blinded session is told of the interlock: the program's level where it runs, the truth where it is stopped, in both arms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from control.would_be import (
    END,
    FALLBACK,
    NOT_AT_ZERO,
    STOP_ON_THE_WAY_DOWN,
    WouldBe,
    advance,
    begin,
    go_down,
    halt,
    hear,
    take_level,
)
from eegloop.signal import Grade
from eegloop.stim import StimState
from tests.unit.test_control_seat import Seat, demo_prescription, state_of

S = 1_000_000_000
SIGNED = demo_prescription("p1", 0.0)  # 0.4 mA to begin with, 0.1 mA a second


def heard(would: WouldBe, at_s: float, mode: str = "armed", **changes: Any) -> tuple[WouldBe, StimState]:
    said = {"boot_ns": round(at_s * S), "mode": mode, "reason": mode, "zero_since_ns": 1, "confirmed_ma": 0.0, **changes}
    return hear(would, state_of(**said))


def running(delivers: bool, to_ma: float = 0.4, **changes: Any) -> WouldBe:
    """Armed at 10 s, told to go to a level at once."""
    would, _ = heard(begin(replace(SIGNED, **changes), delivers), 10.0)
    return take_level(would, "stimulate", to_ma, 10 * S)


def test_nothing_is_changed_before_anything_runs_but_what_would_tell_the_arms_apart() -> None:
    _, told = heard(begin(SIGNED, False), 5.0, "stopped", ceiling_ma=0.0, sequence=7, lease_left_ms=9, delivered_uc=3)
    assert told == state_of(
        boot_ns=5 * S, reason="stopped", zero_since_ns=1, ceiling_ma=SIGNED.amplitude_ma, sequence=0, lease_left_ms=0
    )


def test_a_sham_arm_is_told_the_programs_ramp_and_charge() -> None:
    would, told = heard(running(False), 12.0)
    assert told.mode == "armed" and told.granted_ma == 0.4 and told.commanded_ma == pytest.approx(0.2)
    assert told.zero_since_ns == 0 and told.confirmed_ma is None  # the true ones say zero
    would, told = heard(would, 14.0)
    assert told.commanded_ma == 0.4
    would, told = heard(would, 24.0)
    assert told.delivered_uc == math.ceil(200 * 2 + 400 * 2 + 400 * 10) and told.delivered_ms == 14_000
    would = take_level(would, "sense", 0.0, 24 * S)
    _, told = heard(would, 28.0)
    assert told.commanded_ma == 0.0 and told.confirmed_ma == 0.0 and told.zero_since_ns == 28 * S  # not since always


def test_a_refusal_is_told_but_of_a_command_that_crossed_a_stop() -> None:
    for said, told in (
        ("mode: stopped until a person arms", ""),
        ("lockout: 12 h between sessions", "lockout: 12 h between sessions"),
    ):
        for delivers in (False, True):
            _, state = heard(begin(SIGNED, delivers), 5.0, "stopped", refused=3, refusal=said)
            assert (state.refused, state.refusal) == (0, told)


def test_an_alternating_current_gives_less_charge() -> None:
    still, _ = heard(running(False), 30.0)
    wave, _ = heard(running(False, frequency_millihz=10_000), 30.0)
    assert wave.charge_uc == pytest.approx(still.charge_uc * math.sqrt(0.5))


def test_zero_is_told_only_where_the_device_confirms_it_too() -> None:
    for delivers in (False, True):
        would, _ = heard(begin(SIGNED, delivers), 10.0)
        _, told = heard(would, 11.0)
        assert told.confirmed_ma == 0.0 and told.zero_since_ns == 1
        for changes in ({"zero_since_ns": 0}, {"confirmed_ma": None}, {"confirmed_ma": 0.3}):
            _, told = heard(would, 11.0, **changes)
            assert told.confirmed_ma is None


def test_the_active_arm_is_told_what_the_interlock_grants_and_of_no_level_that_the_device_says() -> None:
    would = running(True)
    _, told = heard(would, 12.0, granted_ma=0.4, commanded_ma=0.19, confirmed_ma=0.19, zero_since_ns=0)
    assert told.commanded_ma == pytest.approx(0.2) and told.granted_ma == 0.4 and told.confirmed_ma is None
    _, told = heard(would, 12.0, granted_ma=0.0, commanded_ma=0.1, confirmed_ma=0.1, zero_since_ns=0, reason="on the way down: x")
    assert told.granted_ma == 0.0 and told.commanded_ma == 0.1 and told.reason == "on the way down: x"  # it ends by itself


@pytest.mark.parametrize(("how", "mode", "down_s"), [(END, "armed", 4.0), (FALLBACK, "fallback", 3.0)])
def test_a_sham_arms_way_down_is_told_as_long_as_the_program_takes(how: str, mode: str, down_s: float) -> None:
    would, _ = heard(running(False, fallback_ms=3_000), 20.0)
    would = go_down(would, how, 20 * S)
    would, told = heard(would, 20.0 + down_s / 2, "stopped", reason="over")
    assert told.mode == mode and told.reason == "on the way down: over"
    assert told.commanded_ma == pytest.approx(0.2) and told.granted_ma == 0.0 and told.zero_since_ns == 0
    would, told = heard(would, 20.1 + down_s, "stopped", reason="over")
    assert told.mode == "stopped" and told.reason == "over" and told.confirmed_ma == 0.0
    assert told.zero_since_ns == round((20.1 + down_s) * S)
    assert go_down(would, END, 30 * S).ending == ""  # nothing runs


def test_a_fallback_on_the_way_down_is_never_slower_than_what_it_replaces() -> None:
    would, _ = heard(running(False, fallback_ms=5_000), 20.0)
    would = go_down(go_down(would, END, 20 * S), FALLBACK, 23 * S)
    assert would.down_ma_per_s == 0.1
    assert go_down(replace(would, ending=""), FALLBACK, 23 * S).down_ma_per_s == pytest.approx(0.1 / 5)


@pytest.mark.parametrize("delivers", [False, True])
def test_stopped_is_told_at_once_whatever_the_program_wanted(delivers: bool) -> None:
    would, _ = heard(running(delivers), 20.0)
    said = {"reason": "STOP: x", "zero_since_ns": 20 * S + 5 if delivers else 1}
    would, told = heard(would, 20.1, "stopped", halts=1, **said)
    assert told.mode == "stopped" and told.reason == "STOP: x" and told.commanded_ma == 0.0 and told.confirmed_ma == 0.0
    assert told.zero_since_ns > 20 * S  # a sham arm's device was at zero all the time
    _, told = heard(would, 21.0, "stopped", halts=1, confirmed_ma=0.7, zero_since_ns=0)
    assert told.confirmed_ma == 0.7 and told.zero_since_ns == 0


def test_stop_on_the_way_down_reads_the_same_in_both_arms_and_a_trip_tells_its_reason() -> None:
    for delivers, reason, says in (
        (False, "session ended", STOP_ON_THE_WAY_DOWN),
        (True, "STOP: page", STOP_ON_THE_WAY_DOWN),
        (True, "the stimulator delivers 1 mA", "the stimulator delivers 1 mA"),
    ):
        would, _ = heard(running(delivers), 20.0)
        would, told = heard(go_down(would, END, 20 * S), 21.0, "stopped", reason=reason, halts=1)
        assert told.mode == "stopped" and told.reason == says
        _, told = heard(would, 22.0, "stopped", reason="started; nobody has armed yet", session="")
        assert told.reason == "started; nobody has armed yet"  # another interlock process has its own words
        would, told = heard(would, 23.0, reason="armed")
        assert told.reason == "armed"


def test_an_interlock_that_was_started_anew_on_the_way_down_is_told_at_once() -> None:
    would, _ = heard(running(False), 20.0)
    _, told = heard(go_down(would, END, 20 * S), 21.0, "stopped", reason="started; nobody has armed yet", session="")
    assert told.mode == "stopped" and told.reason == "started; nobody has armed yet"


def test_charge_goes_on_in_the_same_session_and_begins_anew_in_another() -> None:
    would, _ = heard(running(False), 20.0)
    given_uc = would.charge_uc
    would, _ = heard(would, 20.0, "stopped", halts=1)
    again, _ = heard(would, 30.0)
    other, _ = heard(would, 30.0, session="t")
    assert given_uc > 0.0 and again.charge_uc == given_uc and (other.charge_uc, other.on_ns) == (0.0, 0)


def test_lower_only_keeps_the_lowest_level_of_the_course() -> None:
    lower = replace(SIGNED, authority="lower_only")
    assert begin(lower, False).ceiling_ma == 0.4 and begin(SIGNED, False).ceiling_ma == SIGNED.amplitude_ma
    would = begin(lower, False, 0.3)
    assert would.ceiling_ma == 0.3
    assert take_level(would, "sense", 0.0, S).ceiling_ma == 0.3
    assert take_level(would, "stimulate", 0.2, S).ceiling_ma == 0.2
    assert take_level(take_level(would, "stimulate", 0.2, S), "stimulate", 0.3, S).ceiling_ma == 0.2
    assert take_level(begin(SIGNED, False), "stimulate", 0.2, S).ceiling_ma == SIGNED.amplitude_ma


def test_time_that_runs_backwards_changes_nothing() -> None:
    would, _ = heard(running(False), 20.0)
    assert advance(would, 5 * S) == would


# ---- what the session says of it


def blinded(**changes: Any) -> Seat:
    seat = Seat(replace(SIGNED, **changes), demo=True)
    seat.inputs_changes = {"blinded": True}
    return seat


def test_a_blinded_session_speaks_of_the_program_only() -> None:
    seat = blinded(baseline_ms=1_000, sense_ms=8_000, stimulate_ms=4_000, session_ms=60_000).until("post")
    said = " ".join(seat.sentences)
    for word in ("Stimulating", "Ramping", "Taking the output"):
        assert word not in said
    for words in ("the program rises to 0.40 mA", "the program's level is", "the program goes to zero", "the program goes down"):
        assert f"Blinded study, what is delivered is not shown: {words}" in said


@pytest.mark.parametrize(("is_blinded", "says"), [(True, "the program was above zero"), (False, "stimulation")])
def test_a_window_that_the_program_reaches_is_not_called_stimulated(is_blinded: bool, says: str) -> None:
    seat = Seat(replace(SIGNED, sense_ms=1_000), demo=True).sense()
    seat.inputs_changes = {"blinded": is_blinded}
    seat.reason, seat.grade = "stimulation", lambda t_s: Grade.INVALID
    seat.run(2)
    assert seat.effects.sentence == f"No clean window yet ({says}), so the output stays off."


def test_a_blinded_sessions_charge_is_the_programs() -> None:
    assert "the program's charge is used up" in " ".join(blinded(baseline_ms=1_000, session_uc=10_000).until("post").sentences)
    unblinded = Seat(replace(SIGNED, baseline_ms=1_000, session_uc=10_000), demo=True).until("post")
    assert "The prescribed charge is given." in " ".join(unblinded.sentences)


@pytest.mark.parametrize("is_blinded", [False, True])
def test_a_ceiling_that_the_interlock_remembers_is_begun_below(is_blinded: bool) -> None:
    """After a restart of the service only the interlock's ledger knows how far the course was lowered: more would be refused and trip."""
    seat = Seat(replace(SIGNED, authority="lower_only"), demo=True)
    seat.inputs_changes = {"blinded": is_blinded}
    seat.stim = state_of(ceiling_ma=0.2)
    seat.until("on")
    sets = [effects for _, effects in seat.commands if effects.command == "set"]
    assert sets[0].amplitude_ma == 0.2 == seat.state.ceiling_ma == seat.state.block_ma
    assert any("0.20 mA" in sentence for sentence in seat.sentences)


@pytest.mark.parametrize("how", [END, FALLBACK])
@pytest.mark.parametrize("said_ma", [1.0, 0.06, -0.4, math.nan, None])
def test_a_stimulator_that_delivers_or_is_gone_is_never_hidden_behind_a_sham_arms_way_down(
    how: str, said_ma: float | None
) -> None:
    would, _ = heard(running(False), 15.0)
    would = go_down(would, how, 15 * S)
    would, told = heard(would, 15.1, "stopped", reason="session ended")
    assert told.mode != "stopped" and told.confirmed_ma is None  # at zero, and nobody is told so
    would, told = heard(would, 15.2, "stopped", reason="session ended", zero_since_ns=0, confirmed_ma=said_ma)
    assert told.mode == "stopped" and told.reason == NOT_AT_ZERO and told.zero_since_ns == 0
    assert told.confirmed_ma is said_ma or told.confirmed_ma == said_ma
    assert told.halts == 1  # an active arm's would have tripped: that is latched here, too
    _, told = heard(would, 15.3, "stopped", reason="session ended", zero_since_ns=0, confirmed_ma=said_ma)
    assert told.halts == 1  # once


def test_a_readback_as_far_beside_as_any_may_be_ends_no_way_down() -> None:
    would = go_down(heard(running(False), 15.0)[0], END, 15 * S)
    _, told = heard(would, 15.2, "stopped", reason="session ended", zero_since_ns=0, confirmed_ma=0.05)
    assert told.mode == "armed" and told.halts == 0


def test_an_active_arm_whose_levels_were_lost_asks_for_no_more_than_the_interlock_knows() -> None:
    """A level above the course's ceiling would trip, at every start."""
    _, told = heard(begin(replace(SIGNED, authority="lower_only"), True), 10.0, ceiling_ma=0.2)
    assert told.ceiling_ma == 0.2
    _, told = heard(begin(replace(SIGNED, authority="lower_only"), False), 10.0, ceiling_ma=0.0)
    assert told.ceiling_ma == SIGNED.start_ua / 1000  # a sham arm's interlock knows none


def test_on_the_way_down_the_program_takes_no_other_level() -> None:
    """A level taken then would never come to zero, and a sham arm's stopped interlock would be called armed for ever."""
    would = go_down(heard(running(False), 15.0)[0], END, 15 * S)
    would = take_level(would, "stimulate", 0.4, round(15.5 * S))
    _, told = heard(would, 20.0, "stopped", reason="session ended")
    assert told.mode == "stopped" and told.reason == "session ended"


@pytest.mark.parametrize("how", [END, FALLBACK])
def test_a_stop_that_the_session_orders_on_the_way_down_is_told_in_both_arms(how: str) -> None:
    """A sham arm's interlock is stopped already: nothing that it says from then on would tell."""
    for delivers, reason in ((False, "session ended"), (True, "STOP: Ann")):
        would = halt(go_down(heard(running(delivers), 15.0)[0], how, 15 * S))
        _, told = heard(would, 15.1, "stopped", reason=reason)
        assert (told.mode, told.reason, told.halts) == ("stopped", STOP_ON_THE_WAY_DOWN, 0)
    would = halt(heard(running(False), 15.0)[0])  # at its level: the interlock's own words
    assert heard(would, 15.1, "stopped", reason="STOP: Ann")[1].reason == "STOP: Ann"
