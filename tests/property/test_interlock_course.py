"""A course of sessions over crashes, reboots and clocks set forward and back: no session begins before it may, by the time that truly passed (S5).

The oracle knows the true time and every order that reached the stimulator; the judge and its ledger know their clocks only. Commands carry
whatever finite numbers a float or 63 bits hold.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegloop.stim import DeviceReport, Prescription, Shot, StimCommand
from interlock.effects import Entry, Order, Reply
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import Rules, rules
from interlock.refusals import MS
from tests.interlock_bench import DEVICE, PULSES, WALL_S, make_prescription, make_program, make_pulses

S = 1_000_000_000
HOUR_S, DAY_S = 3_600.0, 86_400.0
LOCKOUT_S = 12 * HOUR_S
DAY, WEEK, COURSE = 2, 3, 6
LIVES_ON_NS = 400 * MS  # what an interlock that was killed leaves behind: the stimulator's own lease
INTERVAL_MS = 5_000
PROGRAM = make_program(
    train_millihz=10_000, train_pulses=4, trains=6, interval_ms=INTERVAL_MS, session_pulses=8, day_pulses=12, week_pulses=20, course_pulses=40
)  # fmt: skip

SHOT = Shot(1, 0, "biphasic", "normal")

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([5e-324, -5e-324, -0.0, 1.7976931348623157e308, 1.0000000000000002, 1e-9, 0.9999999999999999]),
    st.floats(min_value=0.0, max_value=1.2),
)
WHOLES = st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([0, 1, 2**53, 2**63 - 1]))
AWAY_S = st.one_of(
    st.sampled_from(
        [1.0, 60.0, HOUR_S, LOCKOUT_S - 5.0, LOCKOUT_S + 60.0, DAY_S - 60.0, DAY_S + 60.0, 3 * DAY_S, 7 * DAY_S + 60.0]
    ),
    st.floats(min_value=0.0, max_value=9 * DAY_S),
)
SET_S = st.one_of(
    st.sampled_from([-0.5, 0.5, 1.5, -1.5, HOUR_S, -HOUR_S, DAY_S, -DAY_S, 8 * DAY_S, -8 * DAY_S, 400 * DAY_S]),
    st.floats(min_value=-30 * DAY_S, max_value=30 * DAY_S),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("session"), st.sampled_from(["end", "stop", "kill", "lapse"]), NUMBERS),
        st.tuples(st.just("session"), st.sampled_from(["end", "stop", "kill", "lapse"]), st.just(0.8)),
        st.tuples(st.just("again"), st.sampled_from(["end", "kill"]), st.just(0.8)),
        st.tuples(st.just("odd"), WHOLES, NUMBERS),
        st.tuples(st.just("away"), st.booleans(), AWAY_S),
        st.tuples(st.just("reboot"), st.booleans(), AWAY_S),
        st.tuples(st.just("clock set"), st.booleans(), SET_S),
        st.tuples(st.just("synchronized"), st.booleans(), st.just(0.0)),
        st.tuples(st.just("restart"), st.booleans(), st.just(0.0)),
        st.tuples(st.just("signed anew"), st.booleans(), st.just(0.0)),
    ),
    min_size=2,
    max_size=24,
)


class Course:
    """A machine with a true time, a wall clock that may be wrong, a disk that drops what was not synced, and a stimulator that obeys."""

    def __init__(self, modality: str, authority: str) -> None:
        self.modality, self.authority = modality, authority
        self.true_ns = 0
        self.wrong_ns = 0  # how far the wall clock is off
        self.synchronizes, self.marked = True, True
        self.boots = 1
        self.boot_began_ns = -1_000 * S
        self.disk: list[tuple[str, dict[str, Any], int, float]] = []
        self.prescriptions = 0
        self.output_ma = 0.0
        self.device_armed = False
        self.given_ns: dict[tuple[int, str], list[int]] = {}  # (course, session) -> true times of output or pulses
        self.charge_uc: dict[str, float] = {}
        self.began: list[tuple[int, str]] = []
        self.sessions = self.armings = self.fired_in = 0
        self.session = ""
        self.number = self.tick = self.nonces = 0
        self.sign_anew()
        self.start()

    # ---- clocks ----

    @property
    def boot_ns(self) -> int:
        return self.true_ns - self.boot_began_ns

    @property
    def wall_ns(self) -> int:
        return WALL_S * S + self.true_ns + self.wrong_ns

    def pass_ns(self, ns: int) -> None:
        if self.output_ma > 0.0:
            self.charge_uc[self.session] = self.charge_uc.get(self.session, 0.0) + self.output_ma * self.effective * ns / 1e6
            self.given_ns.setdefault((self.prescriptions, self.session), []).extend((self.true_ns, self.true_ns + ns))
        self.true_ns += ns
        if self.synchronizes:
            self.wrong_ns = 0

    @property
    def effective(self) -> float:
        return math.sqrt(0.5) if self.modality == "tacs" else 1.0

    # ---- the interlock's process ----

    def sign_anew(self) -> None:
        self.prescriptions += 1
        name = {"id": f"course-{self.prescriptions}", "authority": self.authority}
        self.prescription: Prescription = {
            "tdcs": lambda: make_prescription(**name, amplitude_ua=1_000, start_ua=1_000),
            "tacs": lambda: make_prescription(
                **name, modality="tacs", frequency_millihz=10_000, amplitude_ua=1_000, start_ua=1_000
            ),
            "tms": lambda: make_pulses(PROGRAM, **name),
        }[self.modality]()
        signed = rules(self.prescription, None, PULSES if self.modality == "tms" else DEVICE)
        assert signed.refusal is None, signed.refusal
        self.rules: Rules = replace(
            signed, worn=True, serial="*", day_sessions=DAY, week_sessions=WEEK, course_sessions=COURSE, lockout_ms=int(LOCKOUT_S * 1000),
            session_ms=4_000 if self.modality != "tms" else 60_000, session_uc=2_000 if self.modality != "tms" else signed.session_uc,
            ramp_ma_per_s=4.0, valid_from_s=0, valid_until_s=2**50,
        )  # fmt: skip

    def start(self) -> None:
        """A new process reads what the disk has."""
        vouched = self.synchronizes and self.marked
        book = Book(f"boot-{self.boots}", vouched)
        for event, data, boot_ns, wall_s in self.disk:
            book.apply(event, data, boot_ns, wall_s)
        self.waiting: list[Entry] = []
        self.judge = Judge(self.rules, "simulated", "measured", book, self.boot_ns)
        self.nonce = ""
        self.device_armed, self.output_ma = False, 0.0
        self.perform(self.judge.open(self.boot_ns, self.wall_ns))
        self.turn()

    def perform(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Entry():
                    self.waiting.append(effect)
                case Order(do="output", amplitude_ma=ma, frequency_hz=hz):
                    assert math.isfinite(ma) and 0.0 <= ma <= 1.0 and hz == self.rules.frequency_hz
                    self.output_ma = ma if self.device_armed else 0.0
                case Order(do="arm"):
                    self.device_armed = True
                case Order(do="fire"):
                    times = self.given_ns.setdefault((self.prescriptions, self.session), [])
                    every = sorted(at for given in self.given_ns.values() for at in given)
                    since_ns = self.true_ns - every[-1] if every else 10**18
                    pause_ms = INTERVAL_MS - 2 if self.fired_in != self.armings else 98
                    assert since_ns >= pause_ms * MS, "pulses too close; after arming anew a train begins, so the pause is kept"
                    self.fired_in = self.armings
                    times.append(self.true_ns)
                    self.perform(self.judge.fired(self.boot_ns))
                case Order(do=do):
                    self.output_ma = 0.0
                    self.device_armed = self.device_armed and do == "zero"
                case Reply(body=body) if body["type"] == "armed":
                    self.nonce = body["nonce"]
                    self.armings += 1

    def turn(self, synced: bool = True) -> None:
        if synced:
            for entry in self.waiting:
                self.disk.append((entry.event, entry.data, entry.boot_ns, entry.wall_s))
                self.judge.written(entry.number)
            self.waiting = []
        self.perform(self.judge.tick(self.boot_ns, self.wall_ns, self.boot_ns))
        report = DeviceReport(self.output_ma, self.boot_ns, connected=True, armed=self.device_armed, shot=SHOT)
        self.perform(self.judge.report(report, self.boot_ns))

    def kill(self) -> None:
        """What was not synced is lost; the stimulator goes on for its own lease."""
        self.pass_ns(LIVES_ON_NS)
        self.output_ma = 0.0
        self.waiting = []

    # ---- what happens ----

    def send(self, kind: str, **changes: Any) -> None:
        self.number += 1
        self.tick += 1
        fields: dict[str, Any] = {
            "kind": kind, "sequence": self.number, "session": self.session, "nonce": self.nonce, "expires_ns": self.boot_ns + S,
            "tick": self.tick, "tick_ns": self.boot_ns, "frequency_hz": self.rules.frequency_hz if kind == "set" else 0.0,
        }  # fmt: skip
        if kind == "arm":
            fields |= {"tick": 0, "tick_ns": 0, "halts": self.judge.halts}
        self.nonces += 1
        self.perform(self.judge.command(StimCommand(**{**fields, **changes}), f"nonce{self.nonces}", self.boot_ns))

    def go(self, steps: int, beats: bool = True) -> None:
        for i in range(steps):
            at_ns = self.judge.write_at_ns()
            step_ns = 20 * MS
            if at_ns is not None and self.boot_ns <= at_ns < self.boot_ns + step_ns:
                self.pass_ns(at_ns - self.boot_ns)
                self.perform(self.judge.shoot(self.boot_ns))
                step_ns -= 1
            self.pass_ns(step_ns)
            if beats and i % 5 == 0 and self.judge.mode != "stopped":
                self.send("heartbeat")
            self.turn()

    def run(self, how: str, amplitude_ma: float, again: bool) -> None:
        """Ask for a session, or for the last one again, let it give something, and end it this way."""
        if not again or not self.session:
            self.sessions += 1
            self.session = f"s{self.sessions}"
        self.send("arm")
        if self.judge.mode == "stopped":
            return
        known = self.session in self.began_names()
        if not known:
            self.may_begin()
        self.go(3)
        if self.modality == "tms":
            for _ in range(3):  # of a session that goes on these are refused until the pause is over
                self.send("pulse", deadline_ns=self.boot_ns + 95 * MS)
                self.go(5)
            if again and self.judge.mode != "stopped":
                self.send("pulse", deadline_ns=self.boot_ns + 1_990 * MS)
                self.go(100)
        else:
            self.send("set", block="stimulate", amplitude_ma=amplitude_ma)
            self.go(15)
        if how == "kill":
            self.kill()
            self.start()
        elif how == "lapse":
            self.pass_ns(450 * MS)
            self.output_ma = 0.0  # its own lease is over
            self.turn()
        else:
            self.send(how)
            self.go(20)
        self.bounded()

    def began_names(self) -> set[str]:
        return {name for _, name in self.given_ns}

    # ---- the oracle: by true time ----

    def may_begin(self) -> None:
        """Of sessions that truly gave something, whatever they were signed by."""
        first_s = [min(times) / S for times in self.given_ns.values()]
        last_s = [max(times) / S for times in self.given_ns.values()]
        now_s = self.true_ns / S
        assert sum(now_s - at_s < DAY_S for at_s in first_s) < DAY, "too many in a day"
        assert sum(now_s - at_s < 7 * DAY_S for at_s in first_s) < WEEK, "too many in a week"
        assert sum(course == self.prescriptions for course, _ in self.given_ns) < COURSE, "too many in the course"
        assert not last_s or now_s - max(last_s) >= LOCKOUT_S, "inside the lockout"

    def bounded(self) -> None:
        for name, uc in self.charge_uc.items():
            assert uc <= self.rules.session_uc + 1.0 * LIVES_ON_NS / 1e6, (name, uc)
        if self.modality == "tms":
            now_ns = self.true_ns
            for (_, _), times in self.given_ns.items():
                assert len(times) <= PROGRAM.session_pulses
            assert sum(now_ns - at < DAY_S * S for times in self.given_ns.values() for at in times) <= PROGRAM.day_pulses
            assert sum(now_ns - at < 7 * DAY_S * S for times in self.given_ns.values() for at in times) <= PROGRAM.week_pulses
        else:
            for times in self.given_ns.values():
                assert max(times) - min(times) <= self.rules.session_ms * MS + LIVES_ON_NS

    def step(self, what: str, how: Any, number: float) -> None:
        match what:
            case "session" | "again":
                self.run(how, number, what == "again")
            case "odd":
                self.send("arm", sequence=how)
                self.send("set", block="stimulate", amplitude_ma=number, frequency_hz=number, tick=how, tick_ns=how)
                self.send("pulse", deadline_ns=how, amplitude_ma=number)
                self.send("stop")
                self.turn()
            case "away":
                self.pass_ns(round(number * S))
                self.turn()
            case "reboot":
                if how:
                    self.kill()
                self.pass_ns(round(number * S))
                self.boots += 1
                self.boot_began_ns = self.true_ns - min(20 * S, round(number * S))  # no longer ago than it was off
                self.marked = self.synchronizes  # synchronized once more, where that is on
                self.start()
            case "clock set":
                self.synchronizes = False
                self.wrong_ns += round(number * S)
                self.turn()
                if how:
                    self.start()
            case "synchronized":
                self.synchronizes = how
                self.marked = self.marked or how
                if how:
                    self.wrong_ns = 0
                self.turn()
            case "restart":
                if how:
                    self.kill()
                self.start()
            case "signed anew":
                self.sign_anew()
                self.start()


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["tdcs", "tacs", "tms"]), st.sampled_from(["lower_only", "within_bounds"]), STEPS)
def test_no_session_begins_before_it_may_whatever_the_clocks_say(
    modality: str, authority: str, steps: list[tuple[str, Any, float]]
) -> None:
    course = Course(modality, authority)
    for step in steps:
        course.step(*step)


def test_the_oracle_sees_sessions_and_lets_good_ones_begin() -> None:
    """It is no proof of anything if nothing is ever given."""
    for modality in ("tdcs", "tacs", "tms"):
        course = Course(modality, "within_bounds")
        for _ in range(4):
            course.step("session", "end", 0.8)
            course.step("session", "end", 0.8)  # refused: inside the lockout
            course.step("away", False, 3 * DAY_S)
        assert len(course.given_ns) >= 3, modality
        assert all(course.given_ns.values())
