"""The dose ledger (S5): counting, lockout, clocks, crashes between any two steps, lost writes, damage."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegloop.launch import interlock_argv
from interlock import __main__ as process
from interlock.ledger import DAY_S, Book, load
from interlock.limits import rules
from interlock.log import Chain
from interlock.refusals import MS
from tests.interlock_bench import DEVICE, START_NS, WALL_S, Seat, make_prescription, refuses_arm

COURSE = rules(make_prescription(), None, DEVICE).course


def entry(book: Book, name: str, at_s: float, course: str = COURSE, **changes: Any) -> None:
    """A session's debit `at_s` seconds after the start, in this boot unless `changes` say so."""
    data = {"session": name, "course": course, "uc": 100.0, "ms": 1000.0, "boot_id": book.boot_id, "synchronized": True}
    wall_s = changes.pop("wall_s", WALL_S + at_s)
    book.apply("debit", {**data, **changes}, round(START_NS + at_s * 1e9), wall_s)


def refusal(book: Book, at_s: float, name: str = "new", wall_s: float | None = None, **changes: Any) -> str:
    limits = rules(make_prescription(**changes), None, DEVICE)
    if changes.get("device") is None and all(s.course == COURSE for s in book.sessions.values()):
        limits = replace(limits, course=COURSE)
    found = book.refusal(limits, name, round(START_NS + at_s * 1e9), WALL_S + at_s if wall_s is None else wall_s)
    return found.field if found is not None else ""


def test_an_empty_book_refuses_nothing() -> None:
    assert refusal(Book("b", True), 0.0) == ""


def test_sessions_a_day_are_counted_over_rolling_24_hours() -> None:
    book = Book("b", True)
    entry(book, "a", 0.0)
    entry(book, "b", 3600.0)
    limit = {"day_sessions": 2}
    assert refusal(book, 7200.0, **limit) == "prescription.day_sessions"
    assert refusal(book, DAY_S - 1, **limit) == "prescription.day_sessions"
    assert refusal(book, DAY_S, **limit) == ""
    assert refusal(book, 7200.0, day_sessions=3) == ""


def test_sessions_a_week_and_a_course() -> None:
    book = Book("b", True)
    for day in range(5):
        entry(book, f"s{day}", day * DAY_S)
    assert refusal(book, 5 * DAY_S, week_sessions=5) == "prescription.week_sessions"
    assert refusal(book, 7 * DAY_S, week_sessions=5) == ""
    changed = {"course_sessions": 5}
    course = rules(make_prescription(**changed), None, DEVICE).course
    for session in book.sessions.values():
        session.course = course
    assert refusal(book, 30 * DAY_S, **changed) == "prescription.course_sessions"
    book.sessions["s0"].course = "another"
    assert refusal(book, 30 * DAY_S, **changed) == ""


def test_another_prescription_does_not_free_the_day() -> None:
    book = Book("b", True)
    entry(book, "a", 0.0, course="an older prescription")
    assert refusal(book, 10.0, day_sessions=1, device="p24") == "prescription.day_sessions"
    assert refusal(book, 10.0, lockout_ms=43_200_000, device="p24") == "prescription.lockout_ms"
    assert refusal(book, 10.0, day_sessions=1, lockout_ms=43_200_000) == "", "nobody wears the simulated stimulator"


def test_lockout_runs_from_the_last_debit() -> None:
    book = Book("b", True)
    entry(book, "a", 0.0)
    entry(book, "a", 600.0)
    assert refusal(book, 600.0 + 43_199, lockout_ms=43_200_000) == "prescription.lockout_ms"
    assert refusal(book, 600.0 + 43_200, lockout_ms=43_200_000) == ""
    same = {"name": "a", "lockout_ms": 43_200_000, "day_sessions": 1, "session_ms": 1_800_000}
    assert refusal(book, 610.0, **same) == "", "the same session may go on"


def test_a_session_goes_on_until_its_time_is_over_and_no_longer() -> None:
    """One that was stopped before any output still has its whole budget: a day later it would be a second session without lockout."""
    book = Book("b", True)
    entry(book, "a", 0.0, uc=0.0, ms=0.0)
    once = {"name": "a", "lockout_ms": 43_200_000, "day_sessions": 1, "session_ms": 600_000}
    assert refusal(book, 599.9, **once) == ""
    assert refusal(book, 600.0, **once) == "prescription.session_ms"
    limits = replace(rules(make_prescription(session_ms=600_000), None, DEVICE), course=COURSE)
    told = book.refusal(limits, "a", START_NS + 601_500_000_000, WALL_S + 601.5)
    assert told is not None and (told.value, told.limit) == (601_500, 600_000), "how long ago it began, in ms"
    entry(book, "later", 1_000.0, uc=0.0, ms=0.0)
    told = book.refusal(limits, "later", START_NS + 1_700_500_000_000, WALL_S + 1_700.5)
    assert told is not None and told.value == 700_500, "since this session began, not since the first one"
    entry(book, "b", DAY_S + 10.0)
    assert refusal(book, DAY_S + 30.0, **once) == "prescription.session_ms"


@pytest.mark.parametrize("course", ["an older prescription", "lost"])
def test_a_session_goes_on_under_its_own_prescription_only(course: str) -> None:
    """Under another one, or by the name of what is lost, it would pass by day, week, lockout and start code."""
    book = Book("b", True)
    entry(book, "a", 0.0, course=course)
    assert refusal(book, 10.0, name="a", device="p24") == "session"


def test_no_session_can_be_named_like_the_dose_that_is_lost() -> None:
    book = Book("b", True)
    book.apply("opened", {"lost": True, "boot_id": "b", "synchronized": True}, START_NS, WALL_S)
    (name,) = book.sessions
    assert refusal(book, 10.0, name=name, device="p24", day_sessions=10) == "session"


def test_an_arm_by_a_name_from_another_prescription_needs_a_name_of_its_own() -> None:
    book = Book("boot-1", True)
    entry(book, "s1", -60.0, course="an older prescription")
    refuses_arm(Seat(book=book), "session")


def test_a_clock_set_back_is_refused() -> None:
    book = Book("b", True)
    entry(book, "a", 0.0)
    assert refusal(book, 2 * DAY_S, wall_s=WALL_S - 2.0) == "clock"
    assert refusal(book, 2 * DAY_S, wall_s=WALL_S - 0.5) == ""


def test_a_clock_set_forward_frees_nothing() -> None:
    book = Book("b", True)
    entry(book, "a", 0.0)
    assert refusal(book, 60.0, wall_s=WALL_S + 30 * DAY_S, day_sessions=1) == "prescription.day_sessions"


@pytest.mark.parametrize(
    ("then", "now", "uptime_s", "free"),
    [(True, True, 60, True), (False, True, 60, False), (True, False, 60, False), (False, False, 86_400, True)],
)
def test_over_a_reboot_only_vouched_time_or_uptime_counts(then: bool, now: bool, uptime_s: int, free: bool) -> None:
    book = Book("boot-2", now)
    entry(book, "a", 0.0, boot_id="boot-1", synchronized=then)
    limits = replace(rules(make_prescription(day_sessions=1), None, DEVICE), course=COURSE)
    found = book.refusal(limits, "b", uptime_s * 10**9, WALL_S + 2 * DAY_S)
    assert (found is None) is free


@pytest.mark.parametrize("behind_days", [1, 7, 365, 20_000])
def test_a_clock_set_back_before_a_reboot_frees_nothing(behind_days: int) -> None:
    """S5: the last line was written with the clock a week back; put right and vouched for after the reboot, no week has passed."""
    book = Book("boot-2", True)
    entry(book, "a", 0.0, boot_id="boot-1")
    entry(book, "a", 1.0, boot_id="boot-1", wall_s=WALL_S - behind_days * DAY_S)
    limits = replace(rules(make_prescription(day_sessions=1), None, DEVICE), course=COURSE)
    assert book.counted_s(60 * 10**9, WALL_S + 3600.0) <= 3600.0 + 1.0
    found = book.refusal(limits, "b", 60 * 10**9, WALL_S + 3600.0)
    assert found is not None and found.field == "prescription.day_sessions"
    assert book.refusal(limits, "b", 60 * 10**9, WALL_S + DAY_S + 1.0) is None


@pytest.mark.parametrize(("mark", "kernel"), [(True, False), (False, True), (False, False), (True, True)])
def test_a_mark_of_synchronization_alone_vouches_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: bool, kernel: bool
) -> None:
    """S5: timesyncd's mark outlives switching it off; then the clock is set forward by hand, and no day may have passed."""
    monkeypatch.setattr(process, "SYNCHRONIZED", tmp_path / "synchronized")
    if mark:
        process.SYNCHRONIZED.touch()
    chain = Chain(tmp_path / "ledger.log")
    debit = {"session": "a", "course": COURSE, "uc": 1.0, "ms": 1.0, "boot_id": "an earlier one", "synchronized": True}
    chain.append("debit", debit, START_NS, WALL_S)
    chain.close()
    book = process._book(tmp_path, kernel)
    limits = replace(rules(make_prescription(day_sessions=1), None, DEVICE), course=COURSE)
    found = book.refusal(limits, "b", 60 * 10**9, WALL_S + 30 * DAY_S)
    assert (found is None) is (mark and kernel)
    argv = interlock_argv(tmp_path, "seat1", "p", tmp_path / "x", clock_vouched=kernel)
    assert process._arguments(argv[argv.index("--data") :]).clock_vouched is kernel


def test_time_in_a_boot_never_runs_backwards() -> None:
    book = Book("b", True)
    entry(book, "a", 100.0)
    assert book.counted_s(START_NS, WALL_S) == 0.0


# ---- through the judge ----------------------------------------------------------------------------------------------


def test_nothing_is_given_before_its_debit_is_on_the_disk() -> None:
    seat = Seat()
    seat.arm()
    seat.disk_works = False
    seat.pass_ms(50)
    seat.send("set", amplitude_ma=1.0)
    seat.pass_ms(1000)
    assert all(ma == 0.0 for _, ma, _, _ in seat.outputs) and seat.entries[-1].event == "debit"
    seat.disk_works = True
    seat.pass_ms(1000)
    assert seat.outputs[-1][1] > 0.0


def test_output_that_could_not_be_paid_for_trips() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.disk_works = False
    seat.pass_ms(12_000)
    assert seat.mode == "stopped" and "dose ledger" in seat.judge.reason
    assert seat.judge.account.charge_uc <= seat.judge.account.paid_uc + 0.5 * 10


def test_debits_are_at_most_ten_seconds_ahead_and_closed_at_the_end() -> None:
    seat = Seat()
    seat.run_at(0.5)
    for _ in range(200):
        seat.pass_ms(100)
        given_ms = seat.judge.account.on_ns / MS
        assert given_ms <= seat.judge.account.paid_ms <= given_ms + 10_000
        assert seat.judge.account.charge_uc <= seat.judge.account.paid_uc <= seat.judge.account.charge_uc + 0.5 * 10_000
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(100)
    last = seat.entries[-1]
    assert last.event == "close" and last.data["uc"] == math.ceil(seat.judge.account.charge_uc)
    seat.pass_ms(1000)
    assert seat.entries[-1] is last


def test_output_seen_while_stopped_is_entered_too() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(100)
    closed = seat.entries[-1].data["uc"]
    seat.obeys = False
    seat.device_ma = 0.5
    seat.pass_ms(1000)
    seat.device_ma = 0.0
    seat.pass_ms(100)
    assert seat.entries[-1].event == "close" and seat.entries[-1].data["uc"] >= closed + 490


def test_output_seen_before_any_session_belongs_to_none() -> None:
    seat = Seat()
    seat.obeys = False
    seat.device_ma = 0.5
    seat.pass_ms(500)
    seat.device_ma = 0.0
    seat.pass_ms(100)
    assert [e.event for e in seat.entries] == ["opened"] and "output_while_stopped" in [e.event for e in seat.events]


def test_arming_at_once_after_zero_closes_the_old_slice_first() -> None:
    seat = Seat()
    seat.run_at(0.5)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.jump(1)
    seat.report()
    seat.arm(session="s2")
    assert [e.event for e in seat.entries[-1:]] == ["close"] and seat.entries[-1].data["session"] == "s1"


def test_the_ledger_refuses_at_the_arm() -> None:
    seat = Seat(day_sessions=1)
    seat.run_at(0.1)
    seat.perform(seat.judge.stop("person", seat.now_ns))
    seat.pass_ms(100)
    answer = seat.send("arm", session="s2")
    assert answer is not None and (answer["field"], answer["value"], answer["limit"]) == ("prescription.day_sessions", 1, 1)
    seat.arm(session="s1")


def test_a_damaged_ledger_refuses_at_the_arm() -> None:
    book = Book("boot-1", True)
    book.fault = "line 3 does not follow the line before"
    seat = Seat(book=book)
    answer = seat.send("arm")
    assert answer is not None and answer["field"] == "ledger" and seat.mode == "stopped"


def reread(seat: Seat, synced_only: bool) -> Book:
    """The book a new process would read: all entries, or only those that reached the disk before the power went."""
    book = Book("boot-1", True)
    for e in seat.entries[: seat.on_disk] if synced_only else seat.entries:
        book.apply(e.event, e.data, e.boot_ns, e.wall_s)
    return book


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.floats(0.0, 1.5), st.integers(1, 150), st.booleans(), st.integers(0, 9)), min_size=1, max_size=12))
def test_a_crash_at_any_moment_forgets_no_dose(steps: list[tuple[float, int, bool, int]]) -> None:
    """Power loss after any tick with any unsynced write dropped: what the disk says is never less than what flowed."""
    seat = Seat()
    read, disk = -1, None
    for amplitude_ma, ticks, disk_works, what in steps:
        seat.disk_works = disk_works
        seat.jump(1)
        if seat.mode == "stopped":
            seat.send("arm")
        elif what == 0:
            seat.perform(seat.judge.stop("person", seat.now_ns))
        else:
            seat.send("set", amplitude_ma=amplitude_ma)
        for _ in range(ticks):
            seat.jump(20)
            if seat.mode != "stopped":
                seat.send("heartbeat")
            seat.tick_and_report()
            given_uc, given_ms = seat.judge.account.charge_uc, seat.judge.account.on_ns / MS
            if seat.on_disk != read:
                read, disk = seat.on_disk, reread(seat, synced_only=True).sessions.get("s1")
            slack_uc, slack_ms = 1.5 * 20, 20  # the tick in which it is found out, before the trip's zero
            if given_uc > 0.0:
                assert disk is not None and disk.uc >= given_uc - slack_uc and disk.ms >= given_ms - slack_ms


def test_a_new_process_goes_on_with_the_session_and_counts_the_open_slice_as_given() -> None:
    seat = Seat()
    seat.run_at(1.0)
    given_uc = seat.judge.account.charge_uc
    again = Seat(book=reread(seat, synced_only=True))
    again.now_ns = again.monotonic_ns = seat.now_ns
    again.wall_ns = seat.wall_ns
    again.jump(1000)
    again.tick_and_report()
    again.arm()
    assert given_uc <= again.judge.account.charge_uc <= given_uc + 10_000
    assert again.judge.account.first_ns == pytest.approx(seat.judge.account.first_ns, abs=1e9)


def test_lower_only_ceiling_survives_a_restart_and_belongs_to_its_prescription() -> None:
    seat = Seat(authority="lower_only")
    seat.run_at(0.4)
    book = reread(seat, synced_only=True)
    assert Seat(book=book, authority="lower_only").judge.ceiling_ma == 0.4
    assert Seat(book=book, authority="lower_only", id="signed anew").judge.ceiling_ma == 1.0


# ---- on the disk ----------------------------------------------------------------------------------------------------


def write(path: Path, entries: int = 3) -> None:
    chain = Chain(path)
    for i in range(entries):
        data = {"session": f"s{i}", "course": "c", "uc": 5.0, "ms": 7.0, "boot_id": "b", "synchronized": True}
        chain.append("debit", data, i * 10**9, float(i))
    chain.close()


def test_load_reads_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "ledger.log")
    book = load(tmp_path / "ledger.log", "b", True)
    assert book.fault == "" and set(book.sessions) == {"s0", "s1", "s2"} and book.highest_wall_s == 2.0


def test_load_of_nothing_is_an_empty_book(tmp_path: Path) -> None:
    book = load(tmp_path / "ledger.log", "b", True)
    assert book.fault == "" and book.sessions == {}


def test_load_after_a_torn_write(tmp_path: Path) -> None:
    write(tmp_path / "ledger.log")
    with (tmp_path / "ledger.log").open("ab") as file:
        file.write(b'{"boot')
    book = load(tmp_path / "ledger.log", "b", True)
    assert book.fault == "" and len(book.sessions) == 3
    chain = Chain(tmp_path / "ledger.log")
    chain.append("torn_tail", {"removed": "6 bytes"}, 9, 9.0)
    chain.close()
    assert load(tmp_path / "ledger.log", "b", True).fault == ""


def spoil_middle(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"uc":5.0', b'"uc":0.0', 1))


def drop_middle(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])


def cut_tail(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def foreign_entry(path: Path) -> None:
    chain = Chain(path)
    chain.append("debit", {"session": "x"}, 1, 1.0)
    chain.close()


@pytest.mark.parametrize(
    "damage", [spoil_middle, drop_middle, cut_tail, foreign_entry, lambda p: p.unlink(), lambda p: (p.unlink(), p.mkdir())]
)
def test_a_damaged_ledger_is_found(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "ledger.log"
    write(path)
    damage(path)
    book = load(path, "b", True)
    assert book.fault != ""
    assert refusal(book, 0.0) == "ledger"
