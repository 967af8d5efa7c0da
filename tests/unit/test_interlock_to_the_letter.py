"""What the judge writes down and when it looks at the clock: small things of which nothing else in the tests takes notice."""

from __future__ import annotations

import hashlib
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from interlock.account import from_book
from interlock.anchor import Anchor
from interlock.ledger import Book
from interlock.limits import rules
from interlock.log import Chain, lines
from interlock.refusals import MS
from tests.coil_bench import Coil, listed
from tests.interlock_bench import DEVICE, START_NS, WALL_S, Seat, make_prescription


def named(seat: Seat, event: str) -> list[dict[str, Any]]:
    return [one.data for one in seat.events if one.event == event]


def entries(seat: Seat, event: str) -> int:
    return sum(entry.event == event for entry in seat.entries)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_a_report_brings_the_time_and_with_it_the_end_of_the_lease() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.send("heartbeat")
    for _ in range(4):
        seat.jump(100)
        seat.report()
    assert seat.mode == "stopped" and "lease over" in seat.judge.reason, "no tick came between"


def test_what_flowed_until_a_stop_counts() -> None:
    seat = Seat()
    seat.run_at(1.0)
    before_uc, before_ns = seat.judge.account.charge_uc, seat.judge.account.on_ns
    seat.jump(40)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    assert seat.judge.account.charge_uc == pytest.approx(before_uc + 40.0, abs=1e-9)
    assert seat.judge.account.on_ns == before_ns + 40 * MS


def test_a_step_down_counts_as_what_it_began_with() -> None:
    """The device's own word, which is larger still, is left out: it says zero for the moment."""
    seat = Seat()
    seat.run_at(1.0)
    seat.obeys, seat.device_ma = False, 0.0
    seat.jump(10)
    seat.tick_and_report()
    assert seat.judge.device.zero_since_ns != 0
    seat.send("end")
    before_uc = seat.judge.account.charge_uc
    seat.jump(40)
    seat.perform(seat.judge.tick(seat.now_ns, seat.wall_ns, seat.monotonic_ns))
    assert seat.judge.level_ma < 1.0
    assert seat.judge.account.charge_uc == pytest.approx(before_uc + 40.0, abs=1e-9)


@pytest.mark.parametrize(("paid_ms", "rises"), [(1_999.0, False), (2_000.0, True)])
def test_the_first_step_up_waits_for_two_seconds_that_are_paid_for(paid_ms: float, rises: bool) -> None:
    seat = Seat()
    seat.arm()
    seat.pass_ms(50)
    seat.disk_works = False
    seat.send("set", amplitude_ma=1.0)
    seat.judge.account.paid_ms, seat.judge.account.paid_uc = paid_ms, 1e6
    seat.jump(10)
    seat.tick_and_report()
    assert (seat.judge.level_ma > 0.0) is rises


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_a_debit_is_closed_once_zero_is_confirmed_and_not_before() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.report(connected=False)
    seat.pass_ms(500, reports=False)
    assert entries(seat, "close") == 0 and seat.judge.unclosed, "unplugged: what it gives is not known"
    seat.device_ma, seat.device_armed = 0.0, False
    seat.report()
    seat.pass_ms(50)
    assert entries(seat, "close") == 1 and not seat.judge.unclosed
    seat.arm()
    assert entries(seat, "close") == 1, "closed already"


def test_a_debit_of_which_nothing_was_given_is_closed_too() -> None:
    seat = Seat()
    seat.arm()
    seat.pass_ms(50)
    seat.disk_works = False
    seat.send("set", amplitude_ma=1.0)
    seat.pass_ms(50)
    assert entries(seat, "debit") == 1 and seat.judge.level_ma == 0.0
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(50)
    assert entries(seat, "close") == 1 and seat.judge.book.sessions["s1"].uc == 0.0


def test_a_ceiling_is_written_down_when_it_falls_and_not_again() -> None:
    seat = Seat(authority="lower_only")
    seat.run_at(1.0)
    assert entries(seat, "ceiling") == 0, "the start is as signed"
    for amplitude_ma, fallen in ((0.8, 1), (0.8, 1), (0.7, 2)):
        seat.pass_ms(20)
        assert seat.send("set", amplitude_ma=amplitude_ma) is None
        assert entries(seat, "ceiling") == fallen


def test_a_session_that_another_process_began_goes_on_with_its_time() -> None:
    book = Book("boot", True)
    book.apply("opened", {"course": "c", "lost": False, "boot_id": "boot", "synchronized": True}, START_NS, float(WALL_S))
    began_ns = START_NS + 100 * 10**9
    debit = {"session": "s1", "course": "c", "uc": 5.0, "ms": 7.0, "boot_id": "boot", "synchronized": True}
    book.apply("debit", debit, began_ns, WALL_S + 100.0)
    now_ns = began_ns + 60 * 10**9
    account = from_book(book, "s1", rules(make_prescription(), None, DEVICE), now_ns, WALL_S + 160.0)
    assert account.first_ns == began_ns and (account.uc, account.ms) == (5, 7)


def test_a_line_that_finds_no_room_leaves_every_line_before_it(tmp_path: Path) -> None:
    """A file that may not grow further is a full disk: part of the line goes in, is taken out again, and no more than that."""
    chain = Chain(tmp_path / "x.log")
    for n in range(3):
        chain.append("event", {"n": n}, n, float(n))
    whole = (tmp_path / "x.log").read_bytes()
    soft, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, most))
    try:
        with pytest.raises(OSError, match="part of a line"):
            chain.append("event", {"n": 3}, 3, 3.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, most))
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "x.log").read_bytes() == whole
    chain.append("event", {"n": 3}, 3, 3.0)
    chain.close()
    assert [body["data"]["n"] for _, body in lines((tmp_path / "x.log").read_bytes())] == [0, 1, 2, 3]


def test_what_a_lost_ledger_was_opened_for_stays_over_however_often_it_starts(tmp_path: Path) -> None:
    def start(course: str, digests: list[str], valid_from_s: int = 0) -> str:
        anchor = Anchor(tmp_path, "p1", tmp_path / "ledger.log", course)
        objection = anchor.objection(digests, False, valid_from_s)
        if not objection:
            anchor.begin(digests)
            anchor.move(len(digests), f"line {len(digests)}")
        anchor.close()
        return objection

    assert start("old", []) == ""
    assert start("new", [], 2**40) == "", "the ledger is gone; signed anew it opens"
    for n in range(1, 4):
        assert start("new", [f"line {i}" for i in range(n)]) == "", "restarted, with the line that was counted last"
        assert "is gone" in start("old", [f"line {i}" for i in range(n + 1)], 2**40)


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_what_stopped_it_and_from_where_is_in_the_log() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    assert named(seat, "stop") == [{"reason": "person", "from_ma": seat.outputs[-1][1]}] and named(seat, "trip") == []
    assert seat.judge.ending == ""
    other = Seat()
    other.run_at(0.5)
    other.perform(other.judge.trip("broken", other.now_ns))
    assert named(other, "trip") == [{"reason": "broken", "from_ma": other.outputs[-1][1]}] and named(other, "stop") == []


def test_a_set_that_changes_nothing_is_not_logged_again() -> None:
    seat = Seat()
    seat.run_at(0.5)
    for amplitude_ma, logged in ((0.5, 1), (0.4, 2), (0.4, 2)):
        seat.pass_ms(20)
        assert seat.send("set", amplitude_ma=amplitude_ma) is None
        assert len(named(seat, "set")) == logged


@pytest.mark.parametrize("way", ["end", "fallback"])
def test_at_the_end_nothing_is_on_its_way_down_any_more(way: str) -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.send(way)
    assert seat.judge.ending != ""
    seat.pass_ms(3_000)
    assert seat.mode == "stopped" and seat.judge.ending == ""


# ---- arming ----------------------------------------------------------------------------------------------------------


def test_a_name_of_one_letter_is_one() -> None:
    seat = Seat()
    seat.arm(session="x")
    refused = Seat().send("arm", session="")
    assert refused is not None and refused["field"] == "session"


def test_half_a_second_of_something_else_begins_anew_with_an_arming() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.obeys, seat.device_ma = False, 0.2
    seat.pass_ms(300)
    assert seat.mode == "armed" and seat.judge.device.mismatch_since_ns > 0
    seat.obeys = True
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(500)
    seat.arm()
    seat.obeys, seat.device_ma = False, 0.2
    seat.pass_ms(100)
    assert seat.mode == "armed", seat.judge.reason


def test_a_course_is_named_by_half_of_its_digest() -> None:
    prescription = make_prescription()
    assert rules(prescription, None, DEVICE).course == hashlib.sha256(prescription.to_bytes()).hexdigest()[:32]


# ---- pulses ----------------------------------------------------------------------------------------------------------


def test_a_skipped_pulse_says_how_late_it_would_have_been() -> None:
    coil = Coil(wire_ms=3.0).ready()
    answer = coil.at(coil.now_ns + 50 * MS, 2 * MS)
    assert (answer["outcome"], answer["error_us"]) == ("skipped", 2_000)


def test_pulses_that_are_left_but_make_no_burst_are_refused_by_what_was_given() -> None:
    coil = Coil(listed("itbs")).ready()
    coil.perform(coil.judge.stop("person", coil.now_ns))
    coil.pass_ms(50)
    coil.judge.book.apply(
        "pulses",
        {"session": "s1", "course": coil.judge.rules.course, "n": 598, "boot_id": "boot-1", "synchronized": True},
        coil.now_ns,
        coil.judge.wall_s(),
    )
    answer = coil.send("arm")
    assert answer is not None and (answer["value"], answer["limit"]) == (598, 600)


@pytest.mark.parametrize(("millihz", "wire_ms", "limit"), [(10_000, 100.00005, 100), (9_901, 101.0, 100), (10_000, 99.9, None)])
def test_a_line_is_too_slow_from_exactly_the_period_on(millihz: int, wire_ms: float, limit: int | None) -> None:
    answer = Coil({"train_millihz": millihz, "train_pulses": 10}, wire_ms=wire_ms).send("arm")
    assert answer is not None
    assert answer["type"] == "armed" if limit is None else (answer["field"], answer["limit"]) == ("wire_ms", limit)


def test_a_pulses_own_strength_is_refused_against_none() -> None:
    coil = Coil().ready()
    answer = coil.ask(coil.now_ns + 20 * MS, amplitude_ma=0.5)
    assert answer is not None and (answer["field"], answer["value"], answer["limit"]) == ("amplitude_ma", 0.5, 0.0)
