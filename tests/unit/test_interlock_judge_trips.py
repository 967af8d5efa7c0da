"""The judge in virtual time: what ends the output at once and latches: lapses, the stimulator, clocks, STOP."""

from __future__ import annotations

import math
from typing import Any

import pytest

from interlock.refusals import MS
from interlock.told import state_of
from tests.interlock_bench import Seat, stopped

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
    seat.device_ma = 0.555
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
        seat.device_ma = 0.54
        seat.pass_ms(400)
    assert seat.mode == "armed", seat.judge.reason


def test_reports_a_moment_old_do_not_cut_a_quick_way_down_short() -> None:
    """What is compared is 90 ms old, in which a fallback of 1.5 mA in a second goes 0.135 mA; 0.2 s late is something else."""
    for late_ms, reason in ((90, "fallback: test"), (200, "instead of")):
        seat = Seat(fallback_ms=1000, authority="within_bounds")
        seat.run_at(1.5)
        seat.send("fallback", reason="test")
        told: list[float] = []
        while seat.mode != "stopped":
            seat.jump(10)
            seat.send("heartbeat")
            seat.tick_and_report(reports=False)
            told.append(seat.judge.level_ma)
            seat.report(output_ma=told[max(0, len(told) - 1 - late_ms // 10)])
        assert reason in seat.judge.reason, late_ms


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
