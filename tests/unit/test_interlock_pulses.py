"""Magnetic pulses one by one: on time or skipped, as the stimulator is set, under a lease (S11; safety.md section 2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interlock.refusals import MS
from tests.coil_bench import WORN, Coil
from tests.interlock_bench import Seat, make_program


def test_a_pulse_is_written_at_its_deadline() -> None:
    coil = Coil().ready()
    deadline_ns = coil.now_ns + 123 * MS
    assert coil.at(deadline_ns)["outcome"] == "fired" and coil.replies[-1]["error_us"] == 0
    assert coil.fires_ns == [deadline_ns] and coil.judge.triggers is not None and coil.judge.triggers.given == 1


SHOT = make_program().shot
OTHER = {"burst_pulses": 3, "burst_millihz": 20_000, "waveform": "monophasic", "current": "reverse"}


@pytest.mark.parametrize("field", OTHER)
def test_a_stimulator_that_is_set_otherwise_is_not_armed_and_while_armed_it_trips(field: str) -> None:
    """The judge's own comparison, whatever the driver makes of it."""
    coil = Coil()
    coil.shot = replace(SHOT, **{field: OTHER[field]})
    coil.report()
    refused = coil.send("arm")
    assert refused is not None and refused["type"] == "refused" and refused["field"] == f"prescription.pulses.{field}"
    assert (refused["value"], refused["limit"]) == (OTHER[field], getattr(SHOT, field)) and f"{field} {OTHER[field]}" in refused[
        "reason"
    ]
    coil.shot = SHOT
    coil.report()
    coil.ready()
    assert coil.ask(coil.now_ns + 30 * MS) is None
    coil.shot = replace(SHOT, **{field: OTHER[field]})
    coil.report()
    assert coil.mode == "stopped" and coil.judge.reason.startswith(
        f"prescription.pulses.{field}: the stimulator is set to {field}"
    )
    coil.pass_ms(100, heartbeats=False)
    assert coil.fires_ns == []


def test_of_a_real_stimulator_nothing_is_fired_that_it_has_not_told() -> None:
    """Nor is it armed; while armed it is read again, and a pulse meanwhile is skipped. The simulated one is worn by nobody."""
    coil = Coil(**WORN)
    refused = coil.send("arm")
    assert refused is not None and refused["field"] == "prescription.pulses.burst_pulses" and "has not said" in refused["reason"]
    assert (refused["value"], refused["limit"], refused["set_by"]) == (None, 1, "device")
    coil.shot = SHOT
    coil.report()
    coil.ready()
    assert coil.at(coil.now_ns + 120 * MS)["outcome"] == "fired"
    coil.shot = None
    coil.report()
    assert coil.at(coil.now_ns + 120 * MS)["outcome"] == "skipped" and coil.mode == "armed"
    coil.shot = SHOT
    coil.report()
    coil.report(connected=False)
    assert coil.judge.device.shot is None


def test_what_a_stimulator_of_current_says_of_shots_concerns_nobody() -> None:
    seat = Seat()
    seat.shot = SHOT
    seat.run_at(1.0)
    assert seat.mode == "armed"


def test_wire_time_counts() -> None:
    coil = Coil(wire_ms=3.125).ready()
    deadline_ns = coil.now_ns + 40 * MS
    assert coil.at(deadline_ns)["outcome"] == "fired"
    assert coil.fires_ns == [deadline_ns - 3_125_000]


def test_a_line_too_slow_for_the_rate_is_refused() -> None:
    answer = Coil(wire_ms=100.0).send("arm")
    assert answer is not None and answer["field"] == "wire_ms" and "TTL" in answer["reason"]


@pytest.mark.parametrize(
    ("error_us", "outcome"), [(0, "fired"), (999, "fired"), (1_000, "fired"), (1_001, "skipped"), (400_000, "skipped")]
)
def test_within_a_millisecond_or_skipped_and_counted(error_us: int, outcome: str) -> None:
    coil = Coil().ready()
    answer = coil.at(coil.now_ns + 20 * MS, error_us * 1000)
    triggers = coil.judge.triggers
    if error_us < 400_000:
        assert answer["outcome"] == outcome and answer["error_us"] == error_us
        assert triggers is not None and (triggers.fired, triggers.skipped) == ((1, 0) if outcome == "fired" else (0, 1))
        assert triggers.given == len(coil.fires_ns) == triggers.fired
    else:
        assert coil.mode == "stopped" and coil.fires_ns == [], "the lease was over before"


def test_one_that_arrives_after_its_time_is_skipped() -> None:
    coil = Coil(wire_ms=3.0).ready()
    coil.ask(coil.now_ns + 1 * MS)
    assert coil.replies[-1]["outcome"] == "skipped" and coil.fires_ns == [] and coil.mode == "armed"


def test_timed_again_after_the_write_a_late_one_is_marked_and_three_end_it() -> None:
    coil = Coil().ready()
    coil.write_takes_ns = 2 * MS
    start_ns = coil.now_ns + 10 * MS
    for i in range(3):
        assert coil.at(start_ns + i * 103 * MS)["outcome"] == "late"
    assert [e.event for e in coil.events].count("phase_locking_ended") == 1
    answer = coil.at(start_ns + 500 * MS)
    assert answer["type"] == "refused" and "late" in answer["reason"] and coil.mode == "armed" and len(coil.fires_ns) == 3


def test_one_on_time_in_between_starts_the_count_anew() -> None:
    coil = Coil().ready()
    start_ns = coil.now_ns + 10 * MS
    for i, late in enumerate((True, True, False, True, True)):
        coil.write_takes_ns = 2 * MS if late else 1 * MS
        assert coil.at(start_ns + i * 103 * MS)["outcome"] == ("late" if late else "fired")
    assert coil.judge.triggers is not None and coil.judge.triggers.late == 4


def test_after_a_late_one_the_next_comes_no_sooner_than_signed() -> None:
    coil = Coil().ready()
    coil.write_takes_ns = 5 * MS
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    answer = coil.at(start_ns + 104 * MS)
    assert answer["type"] == "refused" and coil.mode == "armed"
    assert coil.at(start_ns + 105 * MS)["type"] == "pulse"


def test_sooner_than_the_rate_is_a_trip() -> None:
    coil = Coil().ready()
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    answer = coil.ask(start_ns + 100 * MS - 1)
    assert answer is not None and coil.mode == "stopped" and len(coil.fires_ns) == 1
    assert "sooner after the last pulse" in coil.judge.reason


def test_two_at_once_are_one() -> None:
    coil = Coil().ready()
    coil.ask(coil.now_ns + 50 * MS)
    answer = coil.ask(coil.now_ns + 150 * MS)
    assert answer is not None and answer["reason"] == "another pulse waits" and coil.mode == "armed"


def test_far_ahead_is_refused() -> None:
    coil = Coil().ready()
    answer = coil.ask(coil.now_ns + 2_000 * MS + 1)
    assert answer is not None and answer["field"] == "deadline_ns"
    assert coil.ask(coil.now_ns + 2_000 * MS) is None


def test_stop_forgets_the_pulse_that_waits() -> None:
    coil = Coil().ready()
    coil.ask(coil.now_ns + 50 * MS)
    coil.perform(coil.judge.stop("person", coil.now_ns))
    assert coil.judge.write_at_ns() is None and coil.replies[-1]["outcome"] == "skipped"
    coil.pass_ms(200)
    assert coil.fires_ns == [] and coil.mode == "stopped"


def test_on_the_way_down_and_without_an_arming_nothing_is_fired() -> None:
    coil = Coil().ready()
    coil.send("fallback")
    assert coil.mode == "stopped"
    answer = coil.ask(coil.now_ns + 10 * MS)
    assert answer is not None and answer["field"] == "mode"


def test_a_disarmed_device_is_not_told_to_fire() -> None:
    coil = Coil()
    coil.arm()
    coil.obeys = False
    coil.device_armed = False
    coil.sync()
    coil.ask(coil.now_ns + 20 * MS)
    coil.jump(20)
    coil.perform(coil.judge.shoot(coil.now_ns))
    assert coil.fires_ns == [] and coil.replies[-1]["outcome"] == "skipped"


def test_out_of_order_pulses_are_refused_without_a_trip() -> None:
    coil = Coil().ready()
    soon_ns = coil.now_ns + 50 * MS
    for changes, field in (
        ({"session": "x"}, "session"),
        ({"nonce": "x"}, "nonce"),
        ({"sequence": 0}, "sequence"),
    ):
        answer = coil.ask(soon_ns, **changes)
        assert answer is not None and answer["field"] == field and coil.mode == "armed"
    answer = coil.send("pulse", deadline_ns=soon_ns, expires_ns=coil.now_ns)
    assert answer is not None and answer["field"] == "expires_ns" and coil.fires_ns == []


def test_a_pulse_under_a_current_prescription_trips() -> None:
    seat = Seat()
    seat.run_at(0.1)
    answer = seat.send("pulse", deadline_ns=seat.now_ns + 10 * MS)
    assert answer is not None and seat.mode == "stopped" and "no pulses are signed" in seat.judge.reason


def test_current_under_a_pulse_prescription_trips() -> None:
    coil = Coil().ready()
    coil.send("set", amplitude_ma=0.1)
    assert coil.mode == "stopped" and all(ma == 0.0 for _, ma, _, _ in coil.outputs)


def test_a_pulse_does_not_renew_the_lease() -> None:
    coil = Coil().ready()
    coil.send("heartbeat")
    coil.jump(390)
    coil.ask(coil.now_ns + 50 * MS)
    coil.jump(20)
    coil.tick_and_report()
    assert coil.mode == "stopped" and coil.fires_ns == []


def test_what_was_not_fired_is_not_counted_as_fired() -> None:
    coil = Coil().ready()
    before = len(coil.replies)
    coil.perform(coil.judge.fired(coil.now_ns))
    Seat().judge.fired(coil.now_ns)
    assert len(coil.replies) == before and coil.judge.triggers is not None and coil.judge.triggers.fired == 0
