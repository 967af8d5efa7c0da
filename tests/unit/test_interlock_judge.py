"""The judge in virtual time: who may arm, which commands it refuses, and which limits hold."""

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
from tests.interlock_bench import DEVICE, START_NS, WALL_S, Seat, refuses_arm, stopped

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


def test_unknown_kind_is_refused_when_armed() -> None:
    seat = Seat()
    seat.arm()
    answer = seat.send("boost")
    assert answer is not None and answer["field"] == "kind"


def test_judge_is_told_its_readback() -> None:
    judge = Judge(rules(None, None, DEVICE), "simulated", "none", Book("b", False), START_NS)
    assert state_of(judge, START_NS).readback == "none" and state_of(judge, START_NS).device == "simulated"
    assert WALL_S > 0
