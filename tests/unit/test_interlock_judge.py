"""The judge in virtual time: what it refuses, what trips it, the three ways down, dose and budgets, STOP."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from eegloop.stim import Limit, StimState
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import rules
from interlock.refusals import MS
from interlock.told import state_of
from interlock.wire import PacketError
from tests.interlock_bench import DEVICE, START_NS, WALL_S, Seat


def stopped(seat: Seat, because: str) -> None:
    assert seat.mode == "stopped" and because in seat.judge.reason, (seat.mode, seat.judge.reason)
    assert seat.judge.level_ma == seat.judge.target_ma == 0.0
    assert [do for _, do in seat.orders][-2:] == ["zero", "disarm"]
    n = len(seat.outputs)
    seat.pass_ms(1000, heartbeats=False)
    assert len(seat.outputs) == n, "an output order after the latch"
    for kind in ("heartbeat", "set", "fallback", "end"):
        answer = seat.send(kind)
        assert answer is not None and answer["type"] == "refused" and answer["field"] == "mode"
    assert seat.mode == "stopped"


# ---- start and arming ------------------------------------------------------------------------------------------------


def test_starts_stopped_at_zero() -> None:
    seat = Seat()
    assert seat.mode == "stopped" and seat.outputs == []
    state = state_of(seat.judge, seat.now_ns)
    assert state.granted_ma == state.commanded_ma == 0.0 and state.zero_since_ns > 0
    assert StimState.from_json(json.loads(state.to_json())) == state


def test_arms_and_gives_a_nonce_of_its_own() -> None:
    seat = Seat()
    seat.arm()
    assert seat.nonce == "nonce1" and seat.mode == "armed" and ("arm" in [do for _, do in seat.orders])


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        ({"session": ""}, "session"),
        ({"session": "x" * 65}, "session"),
        ({"expires_ns": START_NS}, "expires_ns"),
        ({"expires_ns": START_NS + 2001 * MS}, "expires_ns"),
    ],
)
def test_arm_is_refused_for(spoil: dict[str, Any], field: str) -> None:
    seat = Seat()
    answer = seat.send("arm", **spoil)
    assert answer is not None and answer["type"] == "refused" and answer["field"] == field and seat.mode == "stopped"


def refuses_arm(seat: Seat, field: str) -> None:
    answer = seat.send("arm")
    assert answer is not None and answer["type"] == "refused" and answer["field"] == field, answer
    assert seat.mode == "stopped"


def test_arm_only_from_stopped() -> None:
    seat = Seat()
    seat.arm()
    answer = seat.send("arm")
    assert answer is not None and answer["field"] == "mode" and seat.mode == "armed"


def test_arm_twice_with_one_packet_is_refused() -> None:
    seat = Seat()
    packet = seat.make("arm")
    assert seat.give(packet)["type"] == "armed"  # type: ignore[index]
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.jump(1)
    seat.tick_and_report()
    answer = seat.give(packet)
    assert answer is not None and answer["field"] == "sequence"


def test_a_stop_before_anything_was_armed_refuses_the_next_arm() -> None:
    """S2: STOP latches in `stopped` too; only who knows of it may arm."""
    seat = Seat()
    packet = seat.make("arm")
    seat.perform(seat.judge.stop("person", seat.now_ns))
    answer = seat.give(packet)
    assert answer is not None and answer["type"] == "refused" and answer["field"] == "halts"
    assert state_of(seat.judge, seat.now_ns).halts == 1
    seat.arm()


def test_arm_needs_a_prescription() -> None:
    seat = Seat()
    seat.judge.rules = rules(None, None, DEVICE)
    refuses_arm(seat, "prescription")


def test_arm_needs_a_prescription_inside_the_limits_of_this_very_device() -> None:
    seat = Seat()
    seat.judge.identify("SIM-1", rules(seat.prescription, None, (Limit("amplitude_ma", 1.0, "mA", "device"),)))
    refuses_arm(seat, "prescription.amplitude_ua")


def test_arm_needs_the_signed_stimulator() -> None:
    seat = Seat(device_serial="SIM-7")
    refuses_arm(seat, "prescription.device_serial")
    seat.judge.identify("SIM-7", seat.judge.rules)
    seat.arm()


@pytest.mark.parametrize("jump_s", [-2000, 2_000_000])
def test_arm_needs_a_valid_day(jump_s: int) -> None:
    seat = Seat()
    seat.wall_ns += jump_s * 10**9
    seat.tick_and_report()
    refuses_arm(seat, "prescription.valid_until_s")


def test_arm_needs_the_audit_log() -> None:
    seat = Seat()
    assert seat.judge.log_failed("disk full", seat.now_ns) == []
    refuses_arm(seat, "audit")
    seat.judge.log_failed("", seat.now_ns)
    seat.arm()


def test_arm_needs_a_stimulator_that_answers() -> None:
    seat = Seat()
    seat.pass_ms(310, reports=False)
    refuses_arm(seat, "device")
    seat.report()
    seat.report(connected=False)
    refuses_arm(seat, "device")


def test_arm_needs_confirmed_zero_and_disarmed() -> None:
    seat = Seat()
    seat.obeys = False
    seat.jump(1)
    seat.device_ma = 0.2
    seat.tick_and_report()
    refuses_arm(seat, "output_ma")
    seat.jump(1)
    seat.device_ma, seat.device_armed = 0.0, True
    seat.tick_and_report()
    refuses_arm(seat, "output_ma")


def test_arm_needs_no_device_fault() -> None:
    seat = Seat()
    seat.jump(1)
    seat.report(fault="hot")
    refuses_arm(seat, "device")


def test_a_device_that_does_not_arm_trips() -> None:
    seat = Seat()
    seat.obeys = False
    seat.arm()
    seat.pass_ms(500)
    assert seat.mode == "armed" and seat.outputs == []
    seat.pass_ms(20)
    stopped(seat, "did not arm")


def test_a_report_from_before_the_arming_does_not_count_as_armed() -> None:
    seat = Seat()
    seat.obeys = False
    seat.jump(10)
    seat.arm()
    seat.report(t_ns=seat.now_ns, armed=True)
    assert not seat.judge.device_armed
    seat.jump(1)
    seat.report(armed=True)
    assert seat.judge.device_armed


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


# ---- commands out of order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spoil", "field"),
    [
        ("heartbeat", {"session": "s2"}, "session"),
        ("heartbeat", {"nonce": "nonce0"}, "nonce"),
        ("heartbeat", {"sequence": 1}, "sequence"),
        ("heartbeat", {"tick": 0}, "tick"),
        ("heartbeat", {"tick_ns": 0}, "tick_ns"),
        ("heartbeat", {"tick_ns": 2**62}, "tick_ns"),
        ("raise", {}, "kind"),
        ("set", {"expires_ns": START_NS}, "expires_ns"),
        ("set", {"expires_ns": 2**62}, "expires_ns"),
        ("set", {"block": "pause"}, "block"),
        ("end", {"nonce": "nonce0"}, "nonce"),
        ("fallback", {"session": "other"}, "session"),
        ("fallback", {"sequence": 2}, "sequence"),
    ],
)
def test_out_of_order_is_refused_without_a_trip(kind: str, spoil: dict[str, Any], field: str) -> None:
    seat = Seat()
    seat.run_at(0.1)
    lease_end_ns, sequence = seat.judge.lease_end_ns, seat.judge.account.sequence
    seat.jump(1)
    answer = seat.send(kind, **spoil)
    assert answer is not None and answer["type"] == "refused" and answer["field"] == field
    assert seat.mode == "armed" and seat.judge.target_ma == 0.1
    assert seat.judge.lease_end_ns == lease_end_ns and seat.judge.account.sequence == sequence
    assert state_of(seat.judge, seat.now_ns).refusal.startswith(field)


def test_a_tick_from_before_the_arming_is_late() -> None:
    seat = Seat()
    seat.arm()
    seat.jump(1)
    answer = seat.send("heartbeat", tick_ns=seat.now_ns - 400 * MS)
    assert answer is not None and answer["field"] == "tick_ns" and "late" in answer["reason"] and seat.mode == "armed"
    assert seat.send("heartbeat", tick_ns=seat.now_ns - 400 * MS + 1) is None
    seat.jump(1)
    seat.tick_and_report()
    stopped(seat, "lease over")


def test_a_broken_packet_is_refused_without_a_trip() -> None:
    seat = Seat()
    seat.run_at(0.1)
    answer = seat.give(PacketError("packet", "{", "not JSON"))
    assert answer is not None and answer["field"] == "packet" and seat.mode == "armed"


def test_ten_refusals_within_a_minute_stop() -> None:
    seat = Seat()
    seat.run_at(0.1)
    for i in range(9):
        seat.send("heartbeat", nonce="wrong")
        assert seat.mode == "armed", i
    seat.send("heartbeat", nonce="wrong")
    stopped(seat, "ten commands were refused")


def test_refusals_further_apart_do_not_stop() -> None:
    seat = Seat()
    seat.run_at(0.1)
    for _ in range(25):
        seat.send("heartbeat", nonce="wrong")
        seat.pass_ms(6_700)
    assert seat.mode == "armed" and seat.judge.refused == 25


def test_a_flood_of_refusals_does_not_flood_the_log() -> None:
    seat = Seat()
    for _ in range(500):
        seat.send("heartbeat")
    assert len(seat.replies) == 500 and sum(e.event == "refused" for e in seat.events) == 10


# ---- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amplitude_ma", [1.5000001, 2.1, 1e9, -0.0001, -1.0, math.nan, math.inf, -math.inf])
def test_a_set_above_a_limit_is_refused_and_trips(amplitude_ma: float) -> None:
    seat = Seat()
    seat.run_at(0.3)
    answer = seat.send("set", amplitude_ma=amplitude_ma)
    assert answer is not None and (answer["field"], answer["limit"], answer["set_by"]) == ("amplitude_ma", 1.5, "prescription")
    stopped(seat, "a command was above a limit")


@pytest.mark.parametrize(
    ("changes", "device_ma", "limit", "set_by"),
    [
        ({"amplitude_ua": 1200}, 2.0, 1.2, "prescription"),
        ({"amplitude_ua": 2000}, 1.1, 1.1, "device"),
        ({"authority": "lower_only"}, 2.0, 1.0, "authority"),
        ({"authority": "observe"}, 2.0, 0.0, "authority"),
        ({"modality": "tacs", "frequency_millihz": 9000, "amplitude_ua": 3000}, 2.9, 1.0, "interlock"),
    ],
)
def test_the_tightest_limit_is_named(changes: dict[str, Any], device_ma: float, limit: float, set_by: str) -> None:
    seat = Seat((Limit("amplitude_ma", device_ma, "mA", "device"),), **changes)
    seat.judge.identify("", replace(seat.judge.rules, refusal=None))
    seat.arm()
    seat.pass_ms(50)
    assert state_of(seat.judge, seat.now_ns).ceiling_ma == limit
    assert seat.send("set", amplitude_ma=limit) is None
    seat.jump(1)
    answer = seat.send("set", amplitude_ma=limit + 1e-6)
    assert answer is not None and (answer["limit"], answer["set_by"]) == (limit, set_by)
    stopped(seat, "a command was above a limit")


@pytest.mark.parametrize("frequency_hz", [0.0, 9.99, 10.01, math.nan, math.inf, -10.0])
def test_another_frequency_trips(frequency_hz: float) -> None:
    seat = Seat(modality="tacs", frequency_millihz=10_000, amplitude_ua=1000)
    seat.run_at(0.1)
    answer = seat.send("set", amplitude_ma=0.1, frequency_hz=frequency_hz)
    assert answer is not None and (answer["field"], answer["set_by"]) == ("frequency_hz", "prescription")
    stopped(seat, "a command was above a limit")


def test_sense_is_zero_and_leaves_the_ceiling_alone() -> None:
    seat = Seat(authority="lower_only")
    seat.run_at(0.5)
    assert seat.judge.ceiling_ma == 0.5
    assert seat.send("set", block="sense", amplitude_ma=0.0, frequency_hz=3.0) is None
    seat.pass_ms(6000)
    assert seat.judge.level_ma == 0.0 and seat.judge.ceiling_ma == 0.5
    assert seat.send("set", amplitude_ma=0.5) is None
    seat.pass_ms(6000)
    assert seat.judge.level_ma == 0.5
    assert seat.send("set", block="sense", amplitude_ma=0.1)["limit"] == 0.0  # type: ignore[index]
    stopped(seat, "sense")


def test_lower_only_ceiling_only_falls_also_over_arming_again() -> None:
    seat = Seat(authority="lower_only")
    seat.run_at(0.5)
    seat.send("set", amplitude_ma=0.2)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(100)
    seat.arm(session="s2")
    seat.pass_ms(50)
    answer = seat.send("set", session="s2", amplitude_ma=0.21)
    assert answer is not None and (answer["limit"], answer["set_by"]) == (0.2, "authority")
    stopped(seat, "above a limit")


# ---- lapses and trips ------------------------------------------------------------------------------------------------


def test_the_lease_ends_400_ms_after_the_newest_tick() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.send("heartbeat", tick_ns=seat.now_ns - 100 * MS + 5 * MS)
    seat.pass_ms(300, heartbeats=False)
    assert seat.mode == "armed"
    seat.pass_ms(10, heartbeats=False)
    stopped(seat, "lease over")


def test_a_full_socket_after_the_lapse_does_not_bring_it_back() -> None:
    seat = Seat()
    seat.run_at(0.2)
    late = []
    for _ in range(20):
        seat.jump(100)
        late.append(seat.make("set", amplitude_ma=0.2))
    for command in late:
        seat.give(command)
    stopped(seat, "lease over")


def test_also_the_first_thing_heard_after_a_freeze_may_be_a_fresh_heartbeat() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.jump(401)
    answer = seat.send("heartbeat")
    assert answer is not None and answer["field"] == "mode"
    stopped(seat, "lease over")


@pytest.mark.parametrize("way", ["fallback", "end"])
def test_a_lapse_on_the_way_down_is_zero_at_once(way: str) -> None:
    seat = Seat(fallback_ms=5000)
    seat.run_at(0.5)
    seat.send(way)
    seat.pass_ms(450, heartbeats=False)
    stopped(seat, "lease over")


def test_silence_trips() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.pass_ms(300, reports=False)
    assert seat.mode == "armed"
    seat.pass_ms(10, reports=False)
    stopped(seat, "silent")
    assert state_of(seat.judge, seat.now_ns + 10**9).confirmed_ma is None


@pytest.mark.parametrize("spoil", [{"output_ma": None}, {"output_ma": math.nan}, {"t_ns": 2**62}, {"t_ns": 0}])
def test_reports_without_content_count_as_silence(spoil: dict[str, Any]) -> None:
    seat = Seat()
    seat.run_at(0.2)
    for _ in range(32):
        seat.jump(10)
        seat.send("heartbeat")
        seat.report(**spoil)
    stopped(seat, "silent")


def test_late_reports_trip() -> None:
    seat = Seat()
    seat.run_at(0.2)
    for _ in range(40):
        seat.jump(10)
        seat.send("heartbeat")
        seat.report(t_ns=seat.now_ns - 320 * MS)
    stopped(seat, "silent")


def test_unplugged_trips() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.report(connected=False)
    assert seat.mode == "stopped" and "unplugged" in seat.judge.reason
    state = state_of(seat.judge, seat.now_ns)
    assert state.confirmed_ma is None and state.zero_since_ns == 0
    seat.report(connected=False)
    assert [e.data for e in seat.events if e.event == "device"][-1] == {"connected": False}


def test_device_fault_trips() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.report(fault="too hot")
    stopped(seat, "too hot")


def test_device_that_disarms_itself_trips() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.device_armed, seat.device_ma, seat.obeys = False, 0.0, False
    seat.pass_ms(20)
    stopped(seat, "disarmed itself")


def test_wrong_readback_trips_after_half_a_second() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.obeys = False
    seat.device_ma = 0.605
    seat.pass_ms(500)
    assert seat.mode == "armed"
    seat.pass_ms(30)
    stopped(seat, "instead of")


def test_short_or_small_deviation_does_not_trip() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.obeys = False
    for _ in range(5):
        seat.device_ma = 0.65
        seat.pass_ms(400)
        seat.device_ma = 0.59
        seat.pass_ms(400)
    assert seat.mode == "armed", seat.judge.reason


@pytest.mark.parametrize("delivered_ma", [1.61, -1.7])
def test_delivery_above_every_limit_trips_at_once(delivered_ma: float) -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.jump(10)
    seat.report(output_ma=delivered_ma)
    assert seat.mode == "stopped" and "above every limit" in seat.judge.reason


def test_without_readback_nothing_is_compared() -> None:
    seat = Seat(readback="none")
    seat.run_at(0.5)
    seat.obeys = False
    seat.device_ma = 0.0
    seat.pass_ms(2000)
    assert seat.mode == "armed"


@pytest.mark.parametrize("jump_s", [1.1, -1.1, 3600.0, -3600.0])
def test_clocks_parting_trip(jump_s: float) -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.wall_ns += round(jump_s * 1e9)
    seat.pass_ms(10)
    stopped(seat, "part by more than 1 s")


def test_suspend_trips_even_a_short_one() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.monotonic_ns -= 60 * MS
    seat.pass_ms(10)
    stopped(seat, "suspended")


def test_small_clock_corrections_do_not_trip() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.wall_ns += 900 * MS
    seat.pass_ms(500)
    assert seat.mode == "armed"


def test_boot_clock_backwards_trips() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.perform(seat.judge.tick(seat.now_ns - 1, seat.wall_ns, seat.monotonic_ns))
    stopped(seat, "backwards")


def test_log_failure_and_outside_trips() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.perform(seat.judge.log_failed("No space left", seat.now_ns))
    assert "audit log cannot be written: No space left" in seat.judge.reason and seat.mode == "stopped"
    seat.perform(seat.judge.log_failed("", seat.now_ns))
    seat.pass_ms(50)
    seat.run_at(0.1)
    seat.perform(seat.judge.trip("the daemon's connection closed", seat.now_ns))
    stopped(seat, "connection closed")


def test_output_while_stopped_is_zeroed_again_and_logged() -> None:
    seat = Seat()
    seat.pass_ms(100)
    seat.obeys = False
    seat.device_ma = 0.4
    seat.orders.clear()
    seat.pass_ms(30)
    assert [do for _, do in seat.orders].count("zero") >= 2
    assert [e.data for e in seat.events if e.event == "output_while_stopped"] == [{"output_ma": 0.4}]
    assert state_of(seat.judge, seat.now_ns).zero_since_ns == 0


def test_at_rest_nothing_is_sent() -> None:
    seat = Seat()
    seat.pass_ms(100)
    seat.orders.clear()
    seat.pass_ms(1000)
    assert seat.orders == []


# ---- STOP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", ["socket", "daemon", "daemon, nothing else right"])
def test_stop_is_zero_at_once_and_latches(road: str) -> None:
    seat = Seat()
    seat.run_at(0.5)
    if road == "socket":
        seat.perform(seat.judge.stop("person", seat.now_ns))
    elif road == "daemon":
        assert seat.send("stop", reason="person") is None
    else:
        assert seat.send("stop", sequence=0, session="", nonce="", expires_ns=0, tick=0, tick_ns=0) is None
    stopped(seat, "STOP")


def test_stop_again_sends_zero_again_and_keeps_the_first_reason() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.perform(seat.judge.trip("broken", seat.now_ns))
    for _ in range(1500):
        seat.orders.clear()
        seat.perform(seat.judge.stop("person", seat.now_ns))
        assert [do for _, do in seat.orders] == ["zero", "disarm"]
    assert seat.judge.reason == "broken" and seat.judge.stops == 1500
    assert sum(e.event == "stop_again" for e in seat.events) == 101


def test_stop_after_the_clock_ran_backwards() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.perform(seat.judge.stop("person", seat.now_ns - 5))
    assert seat.mode == "stopped"


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


def test_unknown_kind_is_refused_when_armed() -> None:
    seat = Seat()
    seat.arm()
    answer = seat.send("boost")
    assert answer is not None and answer["field"] == "kind"


def test_judge_is_told_its_readback() -> None:
    judge = Judge(rules(None, None, DEVICE), "simulated", "none", Book("b", False), START_NS)
    assert state_of(judge, START_NS).readback == "none" and state_of(judge, START_NS).device == "simulated"
    assert WALL_S > 0
