"""What mutants of the interlock showed to be unwatched: the exact words of each refusal, what is logged, and limits to the last digit."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from control.prescription import demo_prescription, parse_yaml
from eegloop.stim import PrescriptionError
from interlock.account import Account, from_book
from interlock.anchor import Anchor
from interlock.device import Device
from interlock.effects import Changed, Entry, Event
from interlock.judge import Judge
from interlock.ledger import Book, Session
from interlock.limits import rules
from interlock.log import read_head
from interlock.refusals import MS
from interlock.told import state_of
from interlock.wire import PacketError
from tests.interlock_bench import DEVICE, START_NS, WALL_S, Seat, make_prescription


def refusal(seat: Seat) -> tuple[Any, ...]:
    """Field, value, limit, who set it and why of the last refusal."""
    body = seat.replies[-1]
    assert body["type"] == "refused", body
    return tuple(body[key] for key in ("field", "value", "limit", "set_by", "reason"))


# ---- every refusal, word by word ---------------------------------------------------------------------------------------


def armed() -> Seat:
    seat = Seat()
    seat.arm()
    seat.pass_ms(50)
    return seat


ORDER: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("wave", {}, ("kind", "wave", "arm, heartbeat, set, pulse, fallback, end, stop", "interlock", "unknown command")),
    ("heartbeat", {"session": "s2"}, ("session", "s2", "s1", "interlock", "another session")),
    ("heartbeat", {"nonce": "x"}, ("nonce", "x", "this arming's", "interlock", "of another arming")),
    ("heartbeat", {"sequence": 1}, ("sequence", 1, 2, "interlock", "repeated or out of order")),
    ("heartbeat", {"sequence": 2}, ("sequence", 2, 2, "interlock", "repeated or out of order")),
    ("heartbeat", {"tick": 2}, ("tick", 2, 2, "interlock", "the loop's tick did not advance")),
]


@pytest.mark.parametrize(("kind", "spoil", "said"), ORDER)
def test_out_of_order_word_by_word(kind: str, spoil: dict[str, Any], said: tuple[Any, ...]) -> None:
    seat = armed()
    assert seat.judge.account.sequence == 2 and seat.judge.tick_number == 2
    seat.send(kind, **spoil)
    assert refusal(seat) == said and seat.mode == "armed"


def test_times_of_a_tick_word_by_word() -> None:
    seat = armed()
    last_ns, now_ns = seat.judge.tick_ns, seat.now_ns
    for tick_ns in (last_ns, now_ns + 1):
        seat.send("heartbeat", tick_ns=tick_ns)
        assert refusal(seat) == ("tick_ns", tick_ns, now_ns, "interlock", "not newer than the last, or in the future")
    seat.jump(360)
    seat.judge.lease_end_ns = seat.now_ns + 1  # as if a renewed lease: only the command's own age speaks
    seat.judge.device.report_ns = seat.now_ns
    for age_ns, refused in ((400 * MS, True), (400 * MS - 1, False)):
        seat.judge.tick_ns = seat.now_ns - 500 * MS
        seat.send("heartbeat", tick_ns=seat.now_ns - age_ns)
        if refused:
            limit = seat.now_ns - 400 * MS
            assert refusal(seat) == ("tick_ns", seat.now_ns - age_ns, limit, "interlock", "late: older than 400 ms")
    assert seat.judge.tick_ns == seat.now_ns - (400 * MS - 1)


def test_expiry_word_by_word() -> None:
    seat = armed()
    for expires_ns in (seat.now_ns, seat.now_ns + 2_000 * MS + 1):
        seat.send("set", expires_ns=expires_ns)
        assert refusal(seat) == ("expires_ns", expires_ns, seat.now_ns, "interlock", "late, or expires more than 2 s ahead")
    for expires_ns in (seat.now_ns + 1, seat.now_ns + 2_000 * MS):
        seat.jump(1)
        assert seat.send("set", expires_ns=expires_ns + 1 * MS) is None


def test_on_the_way_down_word_by_word() -> None:
    seat = Seat()
    seat.run_at(0.3)
    seat.send("end")
    seat.pass_ms(20)
    for kind in ("set", "end"):
        seat.send(kind)
        assert refusal(seat) == ("mode", "on the way down: session ended", "armed", "interlock", "already on the way down")
    assert seat.send("fallback") is None and seat.mode == "fallback"
    seat = armed()
    seat.send("set", block="rest")
    assert refusal(seat) == ("block", "rest", "sense, stimulate", "interlock", "unknown block")
    seat = Seat()
    seat.send("heartbeat")
    assert refusal(seat) == ("mode", "stopped", "armed", "interlock", "stopped until a person arms")


def test_above_a_limit_word_by_word() -> None:
    seat = armed()
    seat.send("set", amplitude_ma=1.6)
    reason = "amplitude_ma 1.6 is not from 0 to 1.5 mA (prescription)"
    assert refusal(seat) == ("amplitude_ma", 1.6, 1.5, "prescription", reason)
    assert seat.judge.reason == f"a command was above a limit: {reason}"
    seat = armed()
    seat.send("set", amplitude_ma=float("nan"))
    assert refusal(seat)[:2] == ("amplitude_ma", "nan")
    seat = armed()
    seat.send("set", block="sense", amplitude_ma=0.5)
    assert refusal(seat) == ("amplitude_ma", 0.5, 0.0, "interlock", "a sense block gives nothing")
    for frequency_hz, refused in ((1e-6, False), (1.1e-6, True)):
        seat = armed()
        seat.send("set", frequency_hz=frequency_hz)
        if refused:
            reason = "frequency_hz 1.1e-06 is not the signed 0.0 Hz"
            assert refusal(seat) == ("frequency_hz", 1.1e-6, 0.0, "prescription", reason)
        assert (seat.mode == "stopped") is refused


def arm_refusal(seat: Seat, **changes: Any) -> tuple[Any, ...]:
    seat.send("arm", **changes)
    assert seat.mode == "stopped"
    return refusal(seat)


def test_why_it_may_not_arm_word_by_word() -> None:
    seat = armed()
    seat.send("arm")
    assert refusal(seat) == ("mode", "armed", "stopped", "interlock", "only from `stopped`")
    seat = Seat()
    seat.judge.log_failed("full", seat.now_ns)
    assert arm_refusal(seat) == ("audit", "full", "writable", "interlock", "no audit trail, no stimulation")
    seat = Seat()
    for session in ("", "s" * 65):
        assert arm_refusal(seat, session=session) == (
            "session",
            session,
            "1-64 characters",
            "interlock",
            "a session must have a name",
        )
    seat.arm(session="s" * 64)
    seat = armed()
    seat.judge.stop("test", seat.now_ns)
    seat.pass_ms(20)
    assert arm_refusal(seat, sequence=2) == ("sequence", 2, 2, "interlock", "repeated or out of order")
    assert arm_refusal(seat, halts=0) == ("halts", 0, 1, "interlock", "stopped since; a person must re-arm")
    assert arm_refusal(seat, halts=2) == ("halts", 2, 1, "interlock", "stopped since; a person must re-arm")


@pytest.mark.parametrize(("offset_s", "refused"), [(-1001, True), (-1000, False), (1_000_000, False), (1_000_001, True)])
def test_the_days_a_prescription_is_valid(offset_s: int, refused: bool) -> None:
    seat = Seat()
    seat.wall_ns = (WALL_S + offset_s) * 10**9
    seat.judge.book.highest_wall_s = 0.0
    seat.jump(10)
    seat.wall_ns -= 10 * MS
    seat.tick_and_report()
    seat.send("arm")
    assert (seat.mode == "stopped") is refused
    if refused:
        until_s = WALL_S + 1_000_000
        said = ("prescription.valid_until_s", WALL_S + offset_s, until_s, "prescription", "have it signed anew")
        assert refusal(seat) == said


def test_what_the_device_must_have_said_word_by_word() -> None:
    seat = Seat(device_serial="7")
    reason = "another stimulator than the signed one"
    assert arm_refusal(seat) == ("prescription.device_serial", "", "7", "prescription", reason)
    seat = Seat()
    seat.jump(300)
    seat.judge._advance(seat.now_ns)
    assert seat.judge.device.fresh(seat.now_ns) and not seat.judge.device.fresh(seat.now_ns + 1)
    seat.jump(1)
    said = ("device", "silent", "a report", "device", "the stimulator does not answer; switch it on")
    assert arm_refusal(seat) == said
    seat = Seat()
    seat.jump(1)
    seat.report(fault="hot")
    assert arm_refusal(seat) == ("device", "hot", "no fault", "device", "the stimulator reports a fault")
    assert Event("device", {"fault": "hot"}) in seat.events
    seat.jump(1)
    seat.report()
    assert Event("device", {"fault": ""}) in seat.events
    seat = Seat()
    seat.jump(1)
    seat.report(output_ma=0.3)
    reason = "the stimulator has not confirmed zero and disarmed"
    assert arm_refusal(seat) == ("output_ma", 0.3, 0.0, "device", reason)


def test_a_sessions_budget_word_by_word() -> None:
    seat = Seat(session_ms=5_000)
    seat.run_at(0.1)
    while seat.mode == "armed":
        seat.pass_ms(10)
    first_ns = seat.judge.account.first_ns
    assert first_ns is not None
    seat.pass_ms(5_000 - (seat.now_ns - first_ns) // MS)
    assert seat.now_ns == first_ns + 5_000 * MS
    said = ("prescription.session_ms", 5_000, 5_000, "prescription", "this session's time is used")
    assert arm_refusal(seat) == said
    seat = armed()
    seat.judge.stop("test", seat.now_ns)
    seat.pass_ms(20)
    seat.judge.account.charge_uc = 1_000_000.0
    said = ("prescription.session_uc", 1_000_000, 1_000_000, "prescription", "this session's charge is used")
    assert arm_refusal(seat, halts=1) == said


# ---- what is told and logged -----------------------------------------------------------------------------------------


def test_every_stop_is_told_also_when_it_was_stopped_already() -> None:
    seat = Seat()
    assert Changed() in seat.judge.stop("again", seat.now_ns)
    assert state_of(seat.judge, seat.now_ns).halts == 1


def test_the_same_amplitude_again_is_no_news() -> None:
    seat = armed()
    seat.send("set", amplitude_ma=0.5, reason="first")
    seat.send("set", amplitude_ma=0.5, reason="second")
    sets = [event.data for event in seat.events if event.event == "set"]
    assert sets == [{"sequence": 3, "tick": 3, "block": "stimulate", "amplitude_ma": 0.5, "reason": "first"}]


def test_the_state_says_what_is_granted_told_and_confirmed() -> None:
    seat = Seat()
    seat.run_at(0.4)
    seat.report(output_ma=0.38, t_ns=seat.now_ns)
    seat.jump(10)
    seat.report(output_ma=0.38)
    state = asdict(state_of(seat.judge, seat.now_ns))
    account = seat.judge.account
    assert state == {
        "boot_ns": seat.now_ns, "mode": "armed", "reason": "armed", "session": "s1", "granted_ma": 0.4, "commanded_ma": 0.4,
        "confirmed_ma": 0.38, "confirmed_ns": seat.now_ns, "zero_since_ns": 0, "frequency_hz": 0.0, "ceiling_ma": 1.5,
        "lease_left_ms": (seat.judge.lease_end_ns - seat.now_ns) // MS, "sequence": account.sequence, "refused": 0, "refusal": "",
        "delivered_uc": account.uc, "delivered_ms": account.ms, "device": "simulated", "readback": "measured", "halts": 0,
    }  # fmt: skip
    later_ns = seat.now_ns + 300 * MS
    assert state_of(seat.judge, later_ns).confirmed_ma == 0.38
    assert state_of(seat.judge, later_ns + 1).confirmed_ma is None
    assert state_of(seat.judge, later_ns + 200 * MS).lease_left_ms == 0
    seat.judge.stop("test", seat.now_ns)
    seat.pass_ms(20)
    state_after = state_of(seat.judge, seat.now_ns)
    assert (state_after.lease_left_ms, state_after.mode) == (0, "stopped") and state_after.zero_since_ns > 0
    assert state_of(Seat().judge, START_NS).sequence == 0


def test_a_debit_that_reaches_the_disk_after_the_close_pays_for_nothing() -> None:
    seat = Seat()
    seat.run_at(0.3)
    seat.disk_works = False
    while not seat.judge.unwritten:
        seat.pass_ms(10)
    seat.judge.stop("test", seat.now_ns)
    seat.pass_ms(20)
    account = seat.judge.account
    assert seat.entries[-1].event == "close" and not seat.judge.unwritten
    assert (account.paid_uc, account.paid_ms) == (float(account.uc), float(account.ms))
    seat.sync()
    assert (account.paid_uc, account.paid_ms) == (float(account.uc), float(account.ms))


# ---- an account, to the last digit -----------------------------------------------------------------------------------


RULES = rules(make_prescription(session_ms=10_000, session_uc=8_000, ramp_ua_per_s=100), None, DEVICE)


def test_an_account_begins_with_what_the_ledger_has() -> None:
    book = Book("boot-1", True)
    assert vars_of(from_book(book, "s1", RULES, START_NS, WALL_S)) == (0.0, 0, None, 0.0, 0.0, -1, 0)
    book.sessions["s1"] = session = Session("course", 0.0)
    session.uc, session.ms = 1_500.0, 2_000.25
    assert vars_of(from_book(book, "s1", RULES, START_NS, WALL_S)) == (1_500.0, 2_001 * MS, START_NS, 1_500.0, 2_001.0, -1, 0)


def vars_of(account: Account) -> tuple[Any, ...]:
    names = ("charge_uc", "on_ns", "first_ns", "paid_uc", "paid_ms", "sequence", "trains")
    return tuple(getattr(account, name) for name in names)


def test_dose_is_counted_and_rounded_up() -> None:
    account = Account()
    account.give(2.0, False, 100 * MS, START_NS)
    assert account.charge_uc == pytest.approx(200.0) and account.on_ns == 100 * MS and account.first_ns == START_NS - 100 * MS
    account.give(2.0, True, 1_000 * MS, START_NS + 1)
    assert account.charge_uc == pytest.approx(200.0 + 800.0 * 0.5**0.5) and account.on_ns == 500 * MS
    assert account.first_ns == START_NS - 100 * MS
    assert (account.uc, account.ms) == (766, 500)
    account.on_ns += 1
    assert account.ms == 501


def test_what_is_paid_for_to_the_last_digit() -> None:
    account = Account(1_000.0, 1_000 * MS, START_NS)
    account.paid_uc, account.paid_ms = 3_000.0, 3_000.0
    assert account.paid_for(RULES, 1.0, 2_000.0)
    assert not account.paid_for(RULES, 1.0, 2_000.5) and not account.paid_for(RULES, 1.0005, 2_000.0)
    account.paid_ms = 10_000.0
    assert account.paid_for(RULES, 0.5, 4_000.0) and not account.paid_for(RULES, 1.0, 4_000.0)
    account.paid_uc = 8_000.0
    assert account.paid_for(RULES, 2.0, 9_999.0)
    account.paid_ms = 9_999.0
    assert not account.paid_for(RULES, 2.0, 9_999.0)
    assert account.within_paid()
    for field, value in (("charge_uc", 8_000.5), ("on_ns", 9_999 * MS + 1)):
        account = Account(8_000.0, 9_999 * MS, START_NS)
        assert account.within_paid()
        setattr(account, field, value)
        assert not account.within_paid()


def test_the_next_slice_is_eight_seconds_and_no_more_than_is_signed() -> None:
    account = Account(100.0, 500 * MS, START_NS)
    assert account.next_slice(RULES, 0.5) == (4_100.0, 8_500.0)
    assert account.next_slice(RULES, 2.0) == (8_000.0, 8_500.0)
    account.on_ns = 3_000 * MS
    assert account.next_slice(RULES, 0.5) == (4_100.0, 10_000.0)
    account.paid_uc, account.paid_ms = 5_000.0, 10_001.0
    assert account.next_slice(RULES, 0.5) == (5_000.0, 10_001.0)


@pytest.mark.parametrize(
    ("charge_uc", "at_ms", "level_ma", "said"),
    [
        (0.0, 10_000, 0.0, "session time used"),
        (0.0, 10_001, 0.0, "over"),
        (8_000.0, 0, 0.0, "session charge used"),
        (8_000.5, 0, 0.0, "over"),
        (0.0, 9_949, 0.0, ""),
        (0.0, 9_950, 0.0, "session time used"),
        (0.0, 4_949, 0.5, ""),
        (0.0, 4_950, 0.5, "session time used"),
        (6_724.0, 0, 0.5, ""),  # a ramp down from 0.5 mA takes 5 s and 1,250 µC, one step 25 µC
        (6_725.0, 0, 0.5, "session charge used"),
    ],
)
def test_when_a_session_ends_by_itself(charge_uc: float, at_ms: int, level_ma: float, said: str) -> None:
    account = Account(charge_uc, 0, START_NS)
    assert account.end(RULES, level_ma, START_NS + at_ms * MS) == said
    assert Account(charge_uc).end(RULES, level_ma, START_NS + at_ms * MS) == ""


# ---- the device, to the last digit -----------------------------------------------------------------------------------


def report(**changes: Any) -> Any:
    from eegloop.stim import DeviceReport

    return DeviceReport(**{"output_ma": 0.0, "t_ns": START_NS, "connected": True, "armed": False, **changes})


def test_what_is_believed_of_a_device() -> None:
    device = Device("measured")
    assert not device.at_rest
    for spoilt in (
        {"output_ma": None},
        {"output_ma": float("nan")},
        {"output_ma": float("inf")},
        {"t_ns": START_NS + 1},
        {"t_ns": 0},
    ):
        assert not device.believe(report(**spoilt), START_NS) and device.report_ns == 0
    assert device.believe(report(output_ma=-0.005), START_NS)
    assert (device.report_ns, device.output_ma, device.zero_since_ns) == (START_NS, -0.005, START_NS) and device.at_rest
    assert not device.believe(report(), START_NS + 5), "the same report again says nothing"
    assert device.believe(report(t_ns=START_NS + 1, armed=True), START_NS + 1)
    assert device.zero_since_ns == START_NS and not device.at_rest
    assert device.believe(report(t_ns=START_NS + 2, output_ma=-0.00501), START_NS + 2)
    assert device.zero_since_ns == 0 and not device.armed and not device.at_rest
    device.fault = "hot"
    device.forget()
    assert (device.output_ma, device.armed, device.zero_since_ns, device.fault) == (None, False, 0, "")


def objection(output_ma: float, level_ma: float, readback: str = "measured", most_ma: float = 1.5) -> tuple[str, int]:
    device = Device(readback)
    device.believe(report(output_ma=output_ma), START_NS)
    return device.objection(level_ma, most_ma), device.mismatch_since_ns


@pytest.mark.parametrize(
    ("output_ma", "level_ma", "mismatch"),
    [(1.0, 1.0, False), (0.951, 1.0, False), (0.949, 1.0, True), (0.05, 0.0, False), (0.051, 0.0, True), (-0.05, 0.0, False)],
)
def test_readback_may_be_off_by_a_twentieth_of_a_milliampere(output_ma: float, level_ma: float, mismatch: bool) -> None:
    assert objection(output_ma, level_ma) == ("", START_NS if mismatch else 0)


def test_readback_may_be_off_by_a_twentieth_of_a_larger_current() -> None:
    """At the greatest current that is allowed on a person this is the specification's 0.1 mA."""
    assert objection(1.901, 2.0, most_ma=9.0) == ("", 0)
    assert objection(1.899, 2.0, most_ma=9.0) == ("", START_NS)
    assert objection(1.424, 1.5, most_ma=9.0) == ("", START_NS), "more than 5 %, though less than 0.1 mA"


def test_more_than_every_limit_is_an_objection_at_once() -> None:
    assert objection(1.575, 1.5)[0] == ""
    assert objection(-1.576, 1.5)[0] == "the stimulator delivers -1.576 mA, above every limit"
    assert objection(9.0, 0.0, readback="none") == ("", 0)
    assert Device("measured").objection(1.0, 1.5) == ""


def test_off_for_half_a_second_is_an_objection() -> None:
    device = Device("measured")
    said = []
    for ms in (0, 499, 500):
        device.believe(report(output_ma=0.2, t_ns=START_NS + ms * MS), START_NS + ms * MS)
        said.append(device.objection(0.5, 1.5))
    assert said == ["", "", "the stimulator delivers 0.200 mA instead of 0.500 mA"]
    device.believe(report(output_ma=0.45, t_ns=START_NS + 501 * MS), START_NS + 501 * MS)
    assert device.objection(0.5, 1.5) == "" and device.mismatch_since_ns == 0


# ---- the ledger, the anchor, limits ----------------------------------------------------------------------------------


def test_lockout_runs_from_the_latest_of_several_sessions() -> None:
    book = Book("boot-1", True)
    limits = rules(make_prescription(lockout_ms=3_600_000), None, DEVICE)
    for name, at_s in (("a", 0), ("b", 3_000)):
        entry = {"session": name, "course": limits.course, "uc": 1.0, "ms": 1.0, "boot_id": "boot-1", "synchronized": True}
        book.apply("close", entry, START_NS + at_s * 10**9, WALL_S + at_s)
    at = [book.refusal(limits, "c", START_NS + s * 10**9, WALL_S + s) for s in (3_700, 6_599, 6_600)]
    assert [r and (r.field, r.value, r.limit) for r in at] == [
        ("prescription.lockout_ms", 700_000, 3_600_000),
        ("prescription.lockout_ms", 3_599_000, 3_600_000),
        None,
    ]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_an_anchor_leaves_no_descriptor_open(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path / "state", "virtual", tmp_path / "ledger.log", "course")
    open_before = open_files()
    for n in range(5):
        anchor.move(n, f"{n}")
    assert open_files() == open_before
    anchor.close()
    assert open_files() == open_before - 1
    assert read_head(tmp_path / "none") is None


def test_without_a_prescription_every_number_is_nothing() -> None:
    none = asdict(rules(None, None, DEVICE))
    refused, amplitude = none.pop("refusal"), none.pop("amplitude")
    assert refused["field"] == "prescription" and [limit["value"] for limit in amplitude] == [0.0, 2.0]
    assert none == {
        "ceiling_ma": 0.0, "lower_only": True, "frequency_hz": 0.0, "ramp_ma_per_s": float("inf"), "fallback_s": 0.001,
        "session_ms": 0, "session_uc": 0, "serial": "", "valid_from_s": 0, "valid_until_s": 0, "course": "", "worn": True,
        "start_code": True, "day_sessions": 0, "week_sessions": 0, "course_sessions": 0, "lockout_ms": 0, "pulses": None,
        "amplitude_ma": 0.0,
    }  # fmt: skip


def test_the_demos_prescription_is_exactly_this() -> None:
    now_s = time.time()
    demo = asdict(demo_prescription("somebody", now_s))
    since_s, until_s, settings = (demo.pop(key) for key in ("valid_from_s", "valid_until_s", "settings"))
    assert (since_s, until_s) == (int(now_s) - 60, int(now_s) + 604_800)
    assert settings == {
        "biomarker": "faa", "channel": "F3-F4", "unit": "milli", "low_milli": 200, "high_milli": 600, "more_moves": "up",
        "average_n": 15, "dwell_n": 5, "step_ua": 100, "refractory_ms": 20_000,
    }  # fmt: skip
    assert demo == {
        "format": "eegloop-prescription-1", "id": "demo", "patient": "somebody", "profile": "clinic", "device": "simulated",
        "device_serial": "*", "modality": "tdcs", "montage": "F3 anode, F4 cathode", "authority": "within_bounds",
        "controller": "dual_threshold", "amplitude_ua": 1000, "start_ua": 400, "frequency_millihz": 0, "ramp_ua_per_s": 100,
        "fallback_ms": 2_000, "session_ms": 1_200_000, "session_uc": 1_200_000, "day_sessions": 10, "week_sessions": 50,
        "course_sessions": 200, "lockout_ms": 0, "pad_mm2": 3_500, "baseline_ms": 15_000, "sense_ms": 14_000,
        "stimulate_ms": 20_000, "stale_ms": 10_000, "artifact_ms": 60_000, "supervision_ms": 15_000, "signers": ("demo",),
        "pulses": None,
    }  # fmt: skip


def test_a_missing_field_is_named_with_what_is_allowed() -> None:
    with pytest.raises(PrescriptionError, match=r"prescription\.\w+: missing; allowed: .* nothing could be delivered"):
        parse_yaml("id: x\n")


# ---- the judge's small print -----------------------------------------------------------------------------------------


def test_a_fallback_is_no_faster_than_signed_after_a_planned_step_down() -> None:
    seat = Seat(fallback_ms=1000)
    seat.run_at(0.2)
    seat.send("set", amplitude_ma=0.05)
    seat.pass_ms(2_000)
    assert seat.judge.level_ma == 0.05
    seat.send("fallback")
    seat.pass_ms(500)
    assert seat.judge.level_ma == pytest.approx(0.025, abs=0.001) and seat.mode == "fallback"


def test_of_a_device_that_is_gone_nothing_is_known() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.jump(10)
    seat.report(connected=False)
    device = seat.judge.device
    assert (device.connected, device.output_ma, device.armed, device.zero_since_ns) == (False, None, False, 0)
    assert state_of(seat.judge, seat.now_ns).zero_since_ns == 0 and not device.at_rest


def test_an_old_zero_is_not_told_as_one() -> None:
    seat = Seat()
    assert state_of(seat.judge, seat.now_ns + 300 * MS).zero_since_ns > 0
    assert state_of(seat.judge, seat.now_ns + 300 * MS + 1).zero_since_ns == 0


def test_a_trip_is_one_halt() -> None:
    seat = Seat()
    seat.run_at(0.2)
    seat.judge.trip("test", seat.now_ns)
    assert seat.judge.halts == 1
    seat.judge.trip("again", seat.now_ns)
    assert seat.judge.halts == 1, "what is stopped trips no more"


def test_the_first_entry_has_the_time_of_the_opening() -> None:
    judge = Judge(rules(make_prescription(), None, DEVICE), "simulated", "measured", Book("boot-1", True), START_NS)
    (entry,) = judge.open(START_NS + 5 * MS, WALL_S * 10**9)
    assert isinstance(entry, Entry) and entry.boot_ns == START_NS + 5 * MS and entry.wall_s == float(WALL_S)


def test_what_is_no_command_is_answered_under_number_zero() -> None:
    seat = Seat()
    seat.give(PacketError("packet", "x", "not JSON"))
    assert seat.replies[-1]["sequence"] == 0


def test_a_used_time_is_rounded_up() -> None:
    seat = armed()
    seat.judge.stop("test", seat.now_ns)
    seat.pass_ms(20)
    seat.judge.account.first_ns = seat.now_ns - 600_000 * MS - 1
    assert arm_refusal(seat, halts=1)[:3] == ("prescription.session_ms", 600_001, 600_000)


def test_the_tenth_refusal_at_the_end_of_the_minute_still_stops() -> None:
    for last_ns, mode in ((60_000 * MS, "stopped"), (60_000 * MS + 1, "armed")):
        seat = armed()
        seat.judge.refusals_ns.extend([seat.now_ns - last_ns] * 9)
        seat.send("heartbeat", nonce="x")
        assert seat.mode == mode


def test_what_was_lost_counts_for_a_week() -> None:
    book = Book("boot-1", True)
    limits = rules(make_prescription(device="pulse_pal", device_serial="7"), None, DEVICE)
    book.apply("opened", {"lost": True, "boot_id": "boot-1", "synchronized": True}, START_NS, WALL_S)
    for day_s, field in ((0, "prescription.week_sessions"), (604_799, "prescription.week_sessions"), (604_800, "")):
        refused = book.refusal(limits, "a", START_NS + day_s * 10**9, WALL_S + day_s)
        assert (refused.field if refused else "") == field
