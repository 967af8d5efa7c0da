"""The judge and what it rests on, exactly at the point where it changes its mind: what mutants showed to be unwatched."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eegloop.stim import DeviceReport, Limit
from interlock.account import from_book
from interlock.anchor import Anchor
from interlock.device import Device
from interlock.ed25519 import verify
from interlock.effects import Changed
from interlock.judge import CLOCKS_PART_NS, SUSPEND_NS
from interlock.keys import _go_on_from
from interlock.ledger import Book, load
from interlock.limits import rules
from interlock.log import Chain
from interlock.refusals import MS
from interlock.triggers import Triggers
from tests.interlock_bench import DEVICE, PULSES, START_NS, WALL_S, Seat, make_prescription, make_program

S = 1_000_000_000
DATA = {"boot_id": "b", "synchronized": True, "course": "c"}


def pulses(**changes: object) -> Seat:
    tms = {"modality": "tms", "profile": "clinic", "amplitude_ua": 0, "start_ua": 0, "pulses": make_program()}
    return Seat(device=PULSES, **{**tms, **changes})


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ---- ledger, account and anchor --------------------------------------------------------------------------------------


def test_a_session_of_an_earlier_process_began_when_the_ledger_says() -> None:
    book = Book("b", True)
    book.apply("debit", {**DATA, "session": "s", "uc": 5.0, "ms": 7.0}, 10 * S, 1e9)
    account = from_book(book, "s", Seat().judge.rules, 3_610 * S, 1e9 + 3_600)
    assert account.first_ns == 10 * S and (account.charge_uc, account.on_ns) == (5.0, 7 * MS)


def test_what_is_wrong_with_a_ledger_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ledger.log"
    chain = Chain(path)
    chain.append("close", {**DATA, "session": "s", "uc": 1.0}, 0, 0.0)
    chain.close()
    assert load(path, "b", False).fault == "'ms'"


def test_an_anchor_that_cannot_be_had_leaves_nothing_open(tmp_path: Path) -> None:
    kept = Anchor(tmp_path, "person", tmp_path / "ledger.log", "c")
    before = open_files()
    with pytest.raises(ValueError, match="another interlock"):
        Anchor(tmp_path, "person", tmp_path / "ledger.log", "c")
    kept.move(0, "0" * 64)
    kept.close()
    next(tmp_path.glob("*.json")).write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        Anchor(tmp_path, "person", tmp_path / "ledger.log", "c")
    assert open_files() == before - 1


def test_a_prescription_from_the_second_of_the_lost_ledgers_last_line_on_opens_another(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path, "person", tmp_path / "ledger.log", "old")
    anchor.begin([])
    anchor.move(0, "0" * 64)
    anchor.close()
    wall_s = json.loads(next(tmp_path.glob("*.json")).read_text())["wall_s"]
    again = Anchor(tmp_path, "person", tmp_path / "ledger.log", "new")
    assert again.known and again.objection([], False, wall_s) == ""
    assert "older than the ledger that is gone" in again.objection([], False, wall_s - 1)
    again.close()


def test_an_anchors_files_are_named_after_nobody_and_the_owners_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        anchor = Anchor(tmp_path / "a" / "b", "person", tmp_path / "ledger.log", "c")
        anchor.move(0, "0" * 64)
        anchor.close()
    finally:
        os.umask(mask)
    names = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert [len(name.partition(".")[0]) for name in names] == [32, 32] and "person" not in "".join(names)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()} == {0o600}
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


# ---- the judge -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "said"), [("it hurts", "STOP: it hurts"), ("", "STOP: STOP from the daemon")])
def test_a_stop_of_the_daemon_has_its_words(words: str, said: str) -> None:
    seat = Seat()
    seat.arm()
    seat.send("stop", reason=words)
    assert seat.judge.reason == said


def test_a_device_that_was_never_heard_is_nothing() -> None:
    device = Device("measured")
    assert not (device.connected or device.armed or device.at_rest or device.fresh(0))
    assert (device.output_ma, device.report_ns, device.zero_since_ns, device.mismatch_since_ns) == (None, 0, 0, 0)
    assert device.objection(1.0, 2.0) == "" and (device.serial, device.fault) == ("", "")


@pytest.mark.parametrize(("wall_ns", "suspended_ns", "trips"), [
    (CLOCKS_PART_NS, 0, False), (-CLOCKS_PART_NS, 0, False), (CLOCKS_PART_NS + 1, 0, True), (-CLOCKS_PART_NS - 1, 0, True),
    (0, SUSPEND_NS, False), (0, SUSPEND_NS + 1, True), (0, -SUSPEND_NS - 1, True),
])  # fmt: skip
def test_clocks_may_part_by_so_much_and_no_more(wall_ns: int, suspended_ns: int, trips: bool) -> None:
    """By what they were at the arming: this machine's had parted by 7 s before."""
    seat = Seat()
    seat.wall_ns += 7 * S
    seat.monotonic_ns -= 3 * S
    seat.tick_and_report()
    seat.arm()
    seat.wall_ns += wall_ns
    seat.monotonic_ns -= suspended_ns
    seat.tick_and_report()
    assert (seat.mode == "stopped") == trips, seat.judge.reason


def test_a_wire_that_takes_as_long_as_a_pulse_apart_is_too_slow() -> None:
    for wire_ns, answer in ((100 * MS, "refused"), (100 * MS - 1, "armed")):
        seat = pulses()
        seat.judge.wire_ns = wire_ns
        said = seat.send("arm")
        assert said is not None and said["type"] == answer
        if answer == "refused":
            assert (said["field"], said["value"], said["limit"]) == ("wire_ms", 100, 100)


def test_a_pulse_where_none_is_signed_says_so() -> None:
    seat = Seat()
    seat.arm()
    said = seat.send("pulse", deadline_ns=seat.now_ns + 100 * MS)
    assert said is not None and (said["field"], said["value"], said["limit"]) == ("pulses", 1, 0)
    assert seat.judge.reason == "a pulse was above a limit: no pulses are signed, or only to observe"


def test_before_anything_happens_the_judge_has_granted_nothing() -> None:
    judge = Seat().judge
    assert (judge.refused, judge.refusal, judge.stops, judge.halts, judge.session, judge.nonce) == (0, "", 0, 0, "", "")
    assert (judge.level_ma, judge.target_ma, judge.frequency_hz, judge.down_ma_per_s, judge.ending) == (0.0, 0.0, 0.0, 0.0, "")
    assert (judge.tick_number, judge.tick_ns, judge.device_armed, judge.unclosed, judge.log_fault) == (-1, -1, False, False, "")
    assert judge.entries == 1 and judge.triggers is None and judge.last_pulse_ns is None and judge.wire_ns == 0
    assert Seat(device=(Limit("amplitude_ma", 1.0, "mA", "device"), *DEVICE)).judge.rules.amplitude_ma == 1.0
    assert judge.now_ns == START_NS and judge.wall_s() == WALL_S


def test_a_ledger_that_may_not_go_on_gets_no_line() -> None:
    book = Book("b", True)
    book.fault = "damaged"
    assert Seat(book=book).entries == []


def test_a_flood_of_stops_is_logged_now_and_then() -> None:
    seat = Seat()
    for _ in range(2001):
        seat.perform(seat.judge.stop("again", seat.now_ns))
    assert [event.data["stops"] for event in seat.events if event.event == "stop_again"] == [*range(1, 101), 1000, 2000]


@pytest.mark.parametrize(("ahead_ms", "answer"), [(2_000, "armed"), (2_001, "refused"), (0, "refused")])
def test_a_command_may_hold_for_two_seconds(ahead_ms: int, answer: str) -> None:
    seat = Seat()
    said = seat.send("arm", expires_ns=seat.now_ns + ahead_ms * MS)
    assert said is not None and said["type"] == answer


def test_dose_so_far_is_rounded_up_session_by_session() -> None:
    book = Book("b", True)
    for name, uc in (("s", 5.5), ("t", 1.0), ("u", 0.25)):
        book.apply("close", {**DATA, "session": name, "uc": uc, "ms": 1.0}, 0, 0.0)
    assert book.given("c") == (3, 6 + 1 + 1) and book.given("d") == (0, 0)


@pytest.mark.parametrize(("days", "refused"), [(5.0, True), (10.9, True), (11.0, False)])
def test_a_lost_ledger_counts_for_a_week_from_when_it_was_found_lost(days: float, refused: bool) -> None:
    book = Book("b", True)
    book.apply("opened", {**DATA, "lost": False}, 0, 0.0)
    book.apply("opened", {**DATA, "lost": True}, 4 * 86_400 * S, 0.0)
    worn = rules(make_prescription(device="pulse_pal", device_serial="7"), None, DEVICE)
    refusal = book.refusal(worn, "new", round(days * 86_400) * S, 0.0)
    assert (refusal is not None and refusal.field == "prescription.week_sessions") == refused


def test_keys_and_signatures_have_one_length() -> None:
    private = Ed25519PrivateKey.generate()
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"words")
    assert verify(key, b"words", signature)
    for wrong in ((key + b"\0", signature), (key[:-1], signature), (key, signature + b"\0"), (key, signature[:-1]), (b"", b"")):
        assert not verify(wrong[0], b"words", wrong[1])


def test_the_number_of_a_site_is_the_owners_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        _go_on_from(tmp_path, b"site", 1)
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_the_daemon_hears_at_once_when_zero_comes_and_goes_and_not_in_between() -> None:
    seat = Seat()
    told = []
    for output_ma in (0.0, 0.0, 0.3, 0.4, 0.0, 0.001):
        seat.jump(10)
        report = DeviceReport(output_ma=output_ma, t_ns=seat.now_ns, connected=True, armed=False, fault="")
        told.append(any(isinstance(effect, Changed) for effect in seat.judge.report(report, seat.now_ns)))
    assert told == [False, False, True, False, True, False]


def test_a_pulse_that_waits_at_a_stop_is_told_as_skipped_and_the_time_runs_from_the_first() -> None:
    seat = pulses()
    seat.arm()
    seat.pass_ms(100)
    firsts = []
    for _ in range(3):
        deadline_ns = seat.now_ns + 100 * MS
        assert seat.send("pulse", deadline_ns=deadline_ns) is None
        seat.pass_ms(90)
        seat.now_ns = deadline_ns
        seat.perform(seat.judge.shoot(seat.now_ns))
        firsts.append(seat.judge.account.first_ns)
    assert len(seat.fires_ns) == 3 and firsts == [seat.fires_ns[0]] * 3
    seat.send("pulse", deadline_ns=seat.now_ns + 150 * MS)
    seat.replies.clear()
    seat.perform(seat.judge.stop("enough", seat.now_ns))
    assert seat.replies == [{"type": "pulse", "sequence": seat.sequence, "outcome": "skipped", "error_us": 0}]
    assert [entry.data["n"] for entry in seat.entries if entry.event == "pulses"][-1] == 3


def test_triggers_begin_with_nothing_given() -> None:
    triggers = Triggers(make_program(), 7, 3, 10)
    assert (triggers.given, triggers.paid, triggers.most, triggers.trains, triggers.free_ns) == (3, 3, 13, 0, 0)
    assert (triggers.train_ns, triggers.in_train, triggers.last_ns, triggers.waiting, triggers.written) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert triggers.fired == triggers.skipped == triggers.late == triggers.late_in_a_row == 0 and triggers.wire_ns == 7


@pytest.mark.parametrize("worn", [True, False])
def test_pulses_under_another_prescription_count_where_a_person_wears_it(worn: bool) -> None:
    book = Book("b", True)
    book.apply("opened", DATA, 0, 0.0)
    for name in ("one", "two"):
        book.apply("pulses", {**DATA, "course": "another", "session": name, "n": 100}, 1_000 * S, 0.0)
    made = replace(
        rules(make_prescription(device="pulse_pal" if worn else "simulated", device_serial="7"), None, DEVICE), course="c"
    )
    program = make_program(session_pulses=600, day_pulses=700, week_pulses=650, course_pulses=20_000)
    assert book.pulses_left(program, made, "new", 1_000 * S, 0.0) == (
        (0, 450, "week_pulses") if worn else (0, 600, "session_pulses")
    )
    day_s, week_s = 1_000 + 86_400, 1_000 + 7 * 86_400
    assert book.pulses_left(program, made, "new", week_s * S - S, 0.0)[1] == (450 if worn else 600)
    assert book.pulses_left(program, made, "new", week_s * S, 0.0)[1] == 600
    tight = make_program(session_pulses=600, day_pulses=650, week_pulses=20_000, course_pulses=20_000)
    assert book.pulses_left(tight, made, "new", day_s * S - S, 0.0)[1] == (450 if worn else 600)
    assert book.pulses_left(tight, made, "new", day_s * S, 0.0)[1] == 600


@pytest.mark.parametrize("kind", ["heartbeat", "fallback", "end"])
def test_only_what_sets_or_fires_has_an_expiry_and_a_strength(kind: str) -> None:
    seat = Seat()
    seat.run_at(0.3)
    assert seat.send(kind, expires_ns=0, amplitude_ma=99.0) is None
    assert seat.judge.refused == 0 and "above a limit" not in seat.judge.reason


def test_what_an_arming_drew_is_over_with_it() -> None:
    seat = Seat()
    seat.arm()
    assert seat.judge.nonce != ""
    seat.perform(seat.judge.stop("enough", seat.now_ns))
    assert seat.judge.nonce == "" and seat.judge.ending == "" and (seat.judge.level_ma, seat.judge.target_ma) == (0.0, 0.0)


def test_a_mismatch_of_an_earlier_arming_does_not_count_in_the_next() -> None:
    seat = Seat()
    seat.arm()
    seat.pass_ms(20)
    seat.report(output_ma=0.5)
    seat.perform(seat.judge.stop("enough", seat.now_ns))
    seat.pass_ms(400)
    seat.arm()
    for _ in range(49):
        seat.jump(10)
        seat.report(output_ma=0.5)
        assert seat.mode == "armed", seat.judge.reason
        seat.send("heartbeat")
