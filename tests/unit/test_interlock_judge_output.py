"""The judge in virtual time: the ways up and down, ramps and their rates, dose and budgets."""

from __future__ import annotations

import math

import pytest

from interlock.refusals import MS
from interlock.told import state_of
from tests.interlock_bench import Seat, refuses_arm, stopped

# ---- ramps -----------------------------------------------------------------------------------------------------------


def test_ramp_up_is_never_faster_than_signed_and_ends_exactly() -> None:
    seat = Seat()
    seat.run_at(1.0)
    for (t0, a, _, _), (t1, b, _, _) in zip(seat.outputs, seat.outputs[1:], strict=False):
        assert b - a <= 0.1 * (t1 - t0) / 1e9 + 1e-12
    assert seat.outputs[-1][1] == 1.0


def test_a_stalled_loop_does_not_jump_up_the_ramp() -> None:
    seat = Seat()
    seat.run_at(0.2)  # on its way already: nothing but the clock holds the ramp back
    seat.send("set", amplitude_ma=1.0)
    before = seat.judge.level_ma
    seat.jump(250)
    seat.tick_and_report()
    assert 0.0 < seat.judge.level_ma - before <= 0.1 * 0.05 + 1e-12


def test_every_output_carries_the_rest_of_the_lease() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.send("heartbeat")
    beat_ns = seat.now_ns
    seat.outputs.clear()
    seat.pass_ms(390, heartbeats=False)
    assert len(seat.outputs) == 39
    for t_ns, _, _, lease_ms in seat.outputs:
        assert lease_ms == (beat_ns + 400 * MS - t_ns) // MS


def test_end_is_the_signed_ramp() -> None:
    seat = Seat()
    seat.run_at(0.5)
    start_ns = seat.now_ns
    assert seat.send("end") is None
    assert seat.mode == "armed" and "session ended" in seat.judge.reason
    while seat.mode == "armed":
        seat.pass_ms(100)
    assert 4.9 <= (seat.now_ns - start_ns) / 1e9 <= 5.2
    stopped(seat, "session ended")


def test_end_at_zero_is_immediate() -> None:
    seat = Seat()
    seat.arm()
    seat.send("end")
    stopped(seat, "session ended")


def test_fallback_takes_the_signed_time_and_never_goes_up() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.outputs.clear()
    start_ns = seat.now_ns
    assert seat.send("fallback", reason="stale") is None
    assert seat.mode == "fallback"
    while seat.mode == "fallback":
        seat.pass_ms(100)
    levels = [o[1] for o in seat.outputs]
    assert levels == sorted(levels, reverse=True) and max(levels) <= 0.5
    assert 0.9e9 <= seat.outputs[-1][0] - start_ns <= 1.05e9
    stopped(seat, "fallback: stale")


def test_fallback_while_ramping_up_turns_round_at_once() -> None:
    seat = Seat()
    seat.arm()
    seat.pass_ms(50)
    seat.send("set", amplitude_ma=1.0)
    seat.pass_ms(1000)
    level = seat.judge.level_ma
    seat.outputs.clear()
    seat.send("fallback")
    seat.pass_ms(500)
    assert all(o[1] <= level for o in seat.outputs)


def test_fallback_during_end_is_not_slower() -> None:
    seat = Seat(fallback_ms=5000, ramp_ua_per_s=100)
    seat.run_at(0.3)
    seat.send("end")
    seat.pass_ms(2000)
    rate = seat.judge.down_ma_per_s
    seat.send("fallback")
    assert seat.judge.down_ma_per_s >= rate and seat.mode == "fallback"
    answer = seat.send("end")
    assert answer is not None and answer["field"] == "mode"


def test_nothing_is_set_on_the_way_down() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.send("end")
    answer = seat.send("set", amplitude_ma=0.5)
    assert answer is not None and answer["field"] == "mode" and seat.judge.target_ma == 0.0
    assert seat.send("end")["field"] == "mode"  # type: ignore[index]


def test_a_lower_set_goes_down_at_the_signed_ramp() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.send("set", amplitude_ma=0.2)
    seat.pass_ms(1000)
    assert seat.judge.level_ma == pytest.approx(0.4, abs=0.002)
    seat.pass_ms(2500)
    assert seat.judge.level_ma == 0.2


def test_alternating_current_keeps_its_signed_frequency() -> None:
    seat = Seat(modality="tacs", frequency_millihz=10_000, amplitude_ua=1000)
    seat.run_at(0.3)
    assert {o[2] for o in seat.outputs} == {10.0}


# ---- dose ------------------------------------------------------------------------------------------------------------


def test_charge_and_time_are_counted() -> None:
    seat = Seat()
    seat.run_at(1.0)
    charge_uc, on_ns = seat.judge.account.charge_uc, seat.judge.account.on_ns
    assert charge_uc == pytest.approx(5100, rel=0.01) and on_ns == pytest.approx(10.1e9, rel=0.01)
    seat.pass_ms(10_000)
    assert seat.judge.account.charge_uc - charge_uc == pytest.approx(10_000, rel=1e-6)
    state = state_of(seat.judge, seat.now_ns)
    assert state.delivered_uc == math.ceil(seat.judge.account.charge_uc) and state.delivered_ms == seat.judge.account.on_ns / MS


def test_more_confirmed_than_told_counts() -> None:
    seat = Seat()
    seat.run_at(1.0)
    seat.obeys = False
    seat.device_ma = 1.09
    seat.pass_ms(100)
    charge_uc = seat.judge.account.charge_uc
    seat.pass_ms(10_000)
    assert seat.judge.account.charge_uc - charge_uc == pytest.approx(10_900, rel=1e-6)


def test_alternating_current_counts_its_root_mean_square() -> None:
    seat = Seat(modality="tacs", frequency_millihz=10_000, amplitude_ua=1000)
    seat.run_at(0.5)
    charge_uc = seat.judge.account.charge_uc
    seat.pass_ms(10_000)
    assert seat.judge.account.charge_uc - charge_uc == pytest.approx(5000 * math.sqrt(0.5), rel=1e-6)


def test_a_frozen_interlock_counts_no_more_than_the_device_lease() -> None:
    seat = Seat()
    seat.run_at(1.0)
    charge_uc = seat.judge.account.charge_uc
    seat.jump(3_600_000)
    seat.tick_and_report()
    assert seat.judge.account.charge_uc - charge_uc == pytest.approx(400, rel=0.01)


def test_session_time_ends_with_the_planned_ramp_inside_it() -> None:
    seat = Seat(session_ms=20_000)
    seat.run_at(0.5)
    first_ns = seat.judge.account.first_ns
    while seat.mode == "armed":
        seat.pass_ms(100)
    last_ns = max(t for t, ma, _, _ in seat.outputs if ma > 0)
    assert 19.5e9 < last_ns - first_ns <= 20e9
    stopped(seat, "session time used")
    refuses_arm(seat, "prescription.session_ms")
    seat.arm(session="s2")


def test_session_charge_ends_with_the_planned_ramp_inside_it() -> None:
    seat = Seat(session_uc=6000)
    seat.run_at(0.5)
    while seat.mode == "armed":
        seat.pass_ms(100)
    assert 5800 < seat.judge.account.charge_uc <= 6000
    stopped(seat, "session charge used")


def test_an_exhausted_charge_refuses_the_arm() -> None:
    seat = Seat(session_uc=6000)
    seat.run_at(0.5)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(50)
    seat.judge.account.charge_uc = 6000.0
    refuses_arm(seat, "prescription.session_uc")


def test_arming_again_in_a_session_goes_on_with_its_budget() -> None:
    seat = Seat(session_uc=3000)
    seat.run_at(0.5)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(50)
    charge_uc = seat.judge.account.charge_uc
    assert charge_uc > 1000
    seat.arm()
    assert seat.judge.account.charge_uc == charge_uc
    seat.pass_ms(50)
    seat.send("set", amplitude_ma=0.5)
    while seat.mode == "armed":
        seat.pass_ms(100)
    assert charge_uc < seat.judge.account.charge_uc <= 3000


def test_a_budget_that_is_overrun_trips() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.judge.account.charge_uc = 1_000_000.5
    seat.pass_ms(10)
    stopped(seat, "used up")
