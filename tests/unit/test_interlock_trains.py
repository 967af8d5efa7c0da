"""Magnetic pulses as trains: how many, how far apart, over arming again, and written down ahead (S11)."""

from __future__ import annotations

import itertools

import pytest

from interlock.effects import Order
from interlock.judge import Judge
from interlock.ledger import DAY_S, Book
from interlock.refusals import MS
from tests.coil_bench import Coil, listed

WORN_IN_SIMULATION = {"day_sessions": 1}


def test_a_train_is_as_long_as_signed_and_the_next_one_waits() -> None:
    coil = Coil({"train_pulses": 5}).ready()
    assert coil.train(5) == ["fired"] * 5
    assert coil.judge.triggers is not None and coil.judge.triggers.last_ns is not None
    answer = coil.ask(coil.judge.triggers.last_ns + 100 * MS)
    assert answer is not None and "the train is over" in coil.judge.reason and coil.mode == "stopped"


def test_the_pause_is_the_signed_one() -> None:
    coil = Coil({"train_pulses": 2}).ready()
    coil.train(2)
    triggers = coil.judge.triggers
    assert triggers is not None and triggers.last_ns is not None
    last_ns = triggers.last_ns
    coil.pass_ms(4_500)
    assert triggers.beyond(last_ns + 5_000 * MS - 1) is not None
    assert coil.at(last_ns + 5_000 * MS)["outcome"] == "fired" and triggers.trains == 2 and triggers.in_train == 1


def test_the_pause_runs_from_when_a_late_pulse_was_given() -> None:
    """A write that was held up for 700 ms: the pulses of the next train come no sooner after it than signed."""
    coil = Coil({"train_pulses": 2}).ready()
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    coil.write_takes_ns = 700 * MS
    assert coil.at(start_ns + 100 * MS)["outcome"] == "late"
    coil.write_takes_ns = 0
    given_ns = start_ns + 800 * MS
    coil.pass_ms(4_500)
    triggers = coil.judge.triggers
    assert triggers is not None and triggers.beyond(given_ns + 4_999 * MS) is None, "the count of it is kept"
    for too_soon_ns in (start_ns + 5_100 * MS, given_ns + 5_000 * MS - 1):
        refused = triggers.untimely(too_soon_ns, coil.now_ns + 1_000 * MS)
        assert refused is not None and refused.limit == given_ns + 5_000 * MS and "pause first" in refused.reason
    coil.pass_ms(700)
    assert coil.at(given_ns + 5_000 * MS)["outcome"] == "fired" and triggers.trains == 2
    assert triggers.untimely(given_ns + 5_100 * MS, coil.now_ns) is None, "within the train its rate is what counts"
    assert triggers.untimely(given_ns + 10_000 * MS, given_ns + 9_000 * MS) is None, "and one on time begins its pause itself"


def test_arming_again_the_pause_runs_from_when_a_late_pulse_was_given() -> None:
    coil = Coil({"train_pulses": 2}).ready()
    at_ns = coil.now_ns + 10 * MS
    coil.write_takes_ns = 700 * MS
    assert coil.at(at_ns)["outcome"] == "late"
    coil.write_takes_ns = 0
    coil.rearm_after(4_000)
    given_ns = at_ns + 700 * MS
    coil.pass_ms(500)
    answer = coil.ask(given_ns + 5_000 * MS - 1)
    assert answer is not None and answer["limit"] == given_ns + 5_000 * MS and "pause first" in answer["reason"]
    assert coil.ask(given_ns + 5_000 * MS) is None and coil.mode == "armed"


def test_a_pulse_that_was_ordered_when_stop_came_counts_for_the_pause_although_nobody_told_of_it() -> None:
    coil = Coil({"train_pulses": 2}).ready()
    at_ns = coil.now_ns + 10 * MS
    assert coil.ask(at_ns) is None
    coil.now_ns, coil.wall_ns, coil.monotonic_ns = (t + 10 * MS for t in (coil.now_ns, coil.wall_ns, coil.monotonic_ns))
    assert Order("fire") in coil.judge.shoot(coil.now_ns)
    coil.rearm_after(1_000)
    answer = coil.ask(at_ns + 5_000 * MS - 1)
    assert answer is not None and answer["limit"] == at_ns + 5_000 * MS and "pause first" in answer["reason"]


@pytest.mark.parametrize(("write_takes_us", "later_us"), [(-200, 0), (0, 0), (900, 900), (3_000, 3_000)])
def test_a_pulse_counts_from_when_it_was_given_and_never_from_before_its_time(write_takes_us: int, later_us: int) -> None:
    coil = Coil().ready()
    coil.write_takes_ns = write_takes_us * 1000
    deadline_ns = coil.now_ns + 10 * MS
    coil.at(deadline_ns)
    assert coil.judge.last_pulse_ns == deadline_ns + later_us * 1000


def test_a_slow_train_is_no_longer_than_its_time() -> None:
    coil = Coil({"train_pulses": 20}).ready()  # 2 s
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    coil.at(start_ns + 1_900 * MS)
    assert coil.mode == "armed"
    triggers = coil.judge.triggers
    assert triggers is not None
    refusal = triggers.beyond(start_ns + 2_000 * MS)
    assert refusal is not None and refusal.field == "train_ms"


def test_as_many_trains_as_signed() -> None:
    coil = Coil({"train_pulses": 1, "trains": 2}).ready()
    for _ in range(2):
        coil.train(1)
        coil.pass_ms(5_000)
    answer = coil.ask(coil.now_ns + 10 * MS)
    assert answer is not None and "as many trains" in coil.judge.reason and coil.mode == "stopped"


def test_as_many_pulses_as_signed_also_over_arming_again() -> None:
    coil = Coil({"session_pulses": 3}).ready()
    coil.train(2)
    coil.rearm_after(5_000)
    coil.train(1)
    coil.ask(coil.now_ns + 100 * MS)
    assert coil.mode == "stopped" and "as many pulses" in coil.judge.reason and len(coil.fires_ns) == 3
    coil.pass_ms(100)
    answer = coil.send("arm")
    assert answer is not None and answer["field"] == "prescription.pulses.session_pulses"


@pytest.mark.parametrize("session", ["s1", "s2"])
def test_arming_again_waits_for_the_pause_also_in_another_session(session: str) -> None:
    coil = Coil({"train_pulses": 3}).ready()
    coil.train(3)
    last_ns = coil.fires_ns[-1]
    coil.rearm_after(500, session)
    answer = coil.ask(coil.now_ns + 100 * MS)
    assert answer is not None and "pause first" in answer["reason"] and coil.mode == "armed" and len(coil.fires_ns) == 3
    while coil.now_ns < last_ns + 4_500 * MS:
        coil.pass_ms(50)
    answer = coil.ask(last_ns + 5_000 * MS - 1)
    assert answer is not None and "pause first" in answer["reason"]
    assert coil.ask(last_ns + 5_000 * MS) is None


def test_arming_again_does_not_begin_the_count_of_trains_anew() -> None:
    coil = Coil({"train_pulses": 1, "trains": 2}).ready()
    for _ in range(2):
        assert coil.train(1) == ["fired"]
        coil.rearm_after(5_000)
    answer = coil.ask(coil.now_ns + 10 * MS)
    assert answer is not None and "as many trains" in coil.judge.reason and len(coil.fires_ns) == 2


def test_a_new_process_waits_for_the_pause_and_goes_on_with_the_trains() -> None:
    first = Coil({"train_pulses": 2}).ready()
    first.train(2)
    first.perform(first.judge.stop("person", first.now_ns))
    judge = Judge(first.judge.rules, "simulated", "measured", first.judge.book, first.now_ns)
    assert judge.last_pulse_ns == first.now_ns and judge.account_of("s1").trains == 1
    fresh = Judge(first.judge.rules, "simulated", "measured", Book("b", True), first.now_ns)
    assert fresh.last_pulse_ns is None


def test_the_sessions_time_runs_from_its_first_pulse_and_ends_it() -> None:
    coil = Coil(session_ms=3_000).ready()
    coil.pass_ms(1_000)
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    while coil.mode == "armed" and coil.now_ns < start_ns + 10_000 * MS:
        coil.pass_ms(10)
    assert "session time used" in coil.judge.reason and start_ns + 2_900 * MS < coil.now_ns <= start_ns + 3_000 * MS
    coil.jump(5_000)
    coil.tick_and_report()
    answer = coil.send("arm")
    assert answer is not None and answer["field"] == "prescription.session_ms"


def test_who_may_only_observe_gives_no_pulse() -> None:
    coil = Coil(authority="observe").ready()
    answer = coil.ask(coil.now_ns + 20 * MS)
    assert answer is not None and "only to observe" in answer["reason"] and coil.mode == "stopped" and coil.fires_ns == []


@pytest.mark.parametrize("authority", ["lower_only", "within_bounds"])
@pytest.mark.parametrize(
    "change", [{"amplitude_ma": 0.5}, {"amplitude_ma": -0.5}, {"amplitude_ma": float("nan")}, {"frequency_hz": 20.0}]
)
def test_a_pulse_is_as_signed_or_not_at_all(authority: str, change: dict[str, float]) -> None:
    coil = Coil(authority=authority).ready()
    answer = coil.ask(coil.now_ns + 20 * MS, **change)
    assert answer is not None and "the signed ones" in answer["reason"] and coil.mode == "stopped"
    coil.pass_ms(100)
    assert coil.fires_ns == []


def test_armed_and_stopped_without_a_pulse_is_no_session() -> None:
    coil = Coil(**WORN_IN_SIMULATION).ready()
    assert "s1" in coil.judge.book.sessions, "until it ends it may have had what was written ahead"
    coil.perform(coil.judge.stop("person", coil.now_ns))
    coil.pass_ms(50)
    assert coil.judge.book.sessions == {}
    coil.rearm_after(100, "s2")
    assert coil.train(1) == ["fired"]
    coil.rearm_after(6_000, "s2")
    coil.perform(coil.judge.stop("person", coil.now_ns))
    assert coil.judge.book.sessions["s2"].pulses == 1
    coil.jump(6_000)
    coil.tick_and_report()
    answer = coil.send("arm", session="s3")
    assert answer is not None and answer["field"] == "prescription.day_sessions"


@pytest.mark.parametrize(
    ("limit", "later_s", "free"),
    [("day_pulses", DAY_S - 60, False), ("day_pulses", DAY_S + 60, True), ("week_pulses", 6 * DAY_S, False), ("week_pulses", 8 * DAY_S, True), ("course_pulses", 9 * DAY_S, False)],
)  # fmt: skip
def test_pulses_a_day_a_week_and_a_course(limit: str, later_s: float, free: bool) -> None:
    coil = Coil({limit: 2}).ready()
    coil.train(2)
    coil.perform(coil.judge.stop("person", coil.now_ns))
    coil.jump(int(later_s * 1000))
    coil.tick_and_report()
    answer = coil.send("arm", session="s2")
    assert answer is not None
    assert answer["type"] == "armed" if free else answer["field"] == f"prescription.pulses.{limit}"


def test_nothing_is_fired_before_the_ledger_has_it() -> None:
    coil = Coil()
    coil.arm()
    coil.disk_works = False
    coil.pass_ms(50)
    assert coil.at(coil.now_ns + 20 * MS)["outcome"] == "skipped" and coil.fires_ns == []
    assert coil.entries[-1].event == "pulses"


def test_what_was_written_ahead_and_not_given_is_free_again_and_a_crash_has_given_it() -> None:
    coil = Coil().ready()
    coil.train(2)
    ahead = next(e.data["n"] for e in reversed(coil.entries) if e.event == "pulses")
    assert 2 < ahead <= 2 + 81
    coil.perform(coil.judge.stop("person", coil.now_ns))
    assert coil.entries[-1].event == "pulses" and coil.entries[-1].data["n"] == 2
    assert coil.judge.book.sessions["s1"].pulses == 2


def test_the_ledger_is_ahead_of_every_pulse_of_a_long_train() -> None:
    coil = Coil({"train_millihz": 1_000, "train_pulses": 200, "session_pulses": 200, "day_pulses": 200}).ready()
    outcomes = coil.train(60, period_ms=1000)
    assert outcomes == ["fired"] * 60
    entries = [e.data["n"] for e in coil.entries if e.event == "pulses"]
    assert len(entries) > 5 and all(b > a for a, b in itertools.pairwise(entries)) and entries[-1] <= 60 + 10


def test_bursts_are_fired_together_and_counted_one_by_one() -> None:
    coil = Coil(listed("itbs")).ready()
    assert coil.train(10, period_ms=200) == ["fired"] * 10
    assert coil.judge.triggers is not None and coil.judge.triggers.given == 30
