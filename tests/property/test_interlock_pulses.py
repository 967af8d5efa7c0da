"""Arbitrary triggers, delays, late writes, stops, lapses and re-arms: what was fired stays inside the signed program (S11)."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegloop.stim import PulseProgram
from interlock.limits import rules
from interlock.refusals import MS
from tests.interlock_bench import PULSES, Seat, make_program, make_pulses

PROGRAM = {"train_millihz": 10_000, "train_pulses": 4, "trains": 6, "interval_ms": 5_000, "session_pulses": 12, "day_pulses": 20}
STEP = st.tuples(
    st.sampled_from(["pulse", "pulse", "pulse", "train", "wait", "stop", "arm", "lapse", "broken", "deaf", "next session"]),
    st.one_of(st.integers(-50, 400), st.integers(4_500, 6_000), st.sampled_from([99, 100, 101, 4_999, 5_000])),
    st.sampled_from([0, 0, 0, 400, 1_500, 20_000]),
)


def check(fires_ns: list[int], program: PulseProgram) -> None:
    """An oracle of one arming, written from the program and not from the judge: 1 ms of grace each way for two shots."""
    period_ns = 1_000_000 * MS // program.train_millihz
    train: list[int] = []
    trains = 0
    for t_ns in fires_ns:
        if train and t_ns - train[-1] < program.interval_ms * MS - 2 * MS:
            assert t_ns - train[-1] >= period_ns - 2 * MS, "too close"
            train.append(t_ns)
        else:
            train, trains = [t_ns], trains + 1
        assert len(train) <= program.train_pulses and train[-1] - train[0] <= program.train_pulses * period_ns + 2 * MS
    assert trains <= program.trains


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, min_size=3, max_size=30))
def test_whatever_is_asked_for_what_is_fired_is_signed(steps: list[tuple[str, int, int]]) -> None:
    program = make_program(**PROGRAM)
    seat = Seat()
    seat.prescription = make_pulses(program)
    seat.judge.identify("7", rules(seat.prescription, None, PULSES))
    session, number = "s1", 1
    armings: list[list[int]] = []
    given_in: dict[str, int] = {}

    def move(ns: int) -> None:
        seat.now_ns, seat.wall_ns, seat.monotonic_ns = seat.now_ns + ns, seat.wall_ns + ns, seat.monotonic_ns + ns

    def account() -> None:
        new = len(seat.fires_ns) - sum(map(len, armings))
        if new:
            armings[-1] += seat.fires_ns[-new:]
            given_in[session] = given_in.get(session, 0) + new
        assert given_in.get(session, 0) <= program.session_pulses and sum(given_in.values()) <= program.day_pulses

    def wait(ms: int) -> None:
        """As the loop does: heartbeats, ticks every 10 ms, and a look at the moment a pulse is due."""
        until_ns = seat.now_ns + ms * MS
        while seat.now_ns < until_ns:
            at_ns = seat.judge.write_at_ns()
            step_ns = min(10 * MS, until_ns - seat.now_ns)
            if at_ns is not None and seat.now_ns <= at_ns < seat.now_ns + step_ns:
                move(at_ns - seat.now_ns)
                seat.perform(seat.judge.shoot(seat.now_ns))
                account()
                continue
            move(step_ns)
            if seat.mode != "stopped":
                seat.send("heartbeat", session=session)
            seat.tick_and_report()
            account()

    for what, number_ms, late_us in steps:
        seat.write_takes_ns = late_us * 1000
        if what == "arm" or (what in ("pulse", "train") and seat.mode == "stopped"):
            answer = seat.send("arm", session=session)
            if answer is not None and answer["type"] == "armed":
                armings.append([])
            wait(60)
        if what == "pulse":
            seat.send("pulse", session=session, deadline_ns=max(0, seat.now_ns + number_ms * MS))
            wait(max(0, number_ms) + 5)
        elif what == "train":
            for _ in range(6):
                seat.send("pulse", session=session, deadline_ns=seat.now_ns + 95 * MS)
                wait(100)
        elif what == "wait":
            wait(abs(number_ms))
        elif what == "stop":
            seat.perform(seat.judge.stop("person", seat.now_ns))
            wait(50)
        elif what == "lapse":
            move(450 * MS)
            seat.tick_and_report()
        elif what == "broken":
            seat.disk_works = not seat.disk_works
        elif what == "deaf":
            seat.send("pulse", session="another", deadline_ns=seat.now_ns + 20 * MS)
        elif what == "next session" and seat.mode == "stopped":
            number += 1
            session = f"s{number}"
            seat.sequence = 0
        account()
        stopped_at = len(seat.fires_ns)
        if seat.mode == "stopped":
            seat.tick_and_report()
            assert len(seat.fires_ns) == stopped_at and seat.judge.write_at_ns() is None
    for fires_ns in armings:
        check(fires_ns, program)
    disk = {s: session_.pulses for s, session_ in seat.judge.book.sessions.items()}
    assert all(disk.get(name, 0) >= given for name, given in given_in.items()), "fired without being written down"
