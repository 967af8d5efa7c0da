"""The loop, one turn at a time, with the clock standing still: when it does what, exactly."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock import loop as loop_module
from interlock.effects import Order
from interlock.loop import (
    ALONE_NS,
    CONFIRM_WITHIN_NS,
    FIRST_DAEMON_NS,
    INTERNAL_ERROR,
    OVERDUE_NS,
    QUIET_NS,
    RECONNECT_NS,
    REST_TICK_NS,
    SPIN_NS,
    TICK_NS,
    _listen,
)
from interlock.refusals import MS, SILENT_NS
from interlock.triggers import Triggers
from tests.interlock_bench import START_NS, make_program, make_pulses
from tests.still_loop import OFF, Still, packets


@pytest.fixture
def still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Still]:
    made = Still(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def pulsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Still]:
    made = Still(tmp_path, monkeypatch, make_pulses())
    yield made
    made.close()


# ---- the start -------------------------------------------------------------------------------------------------------


def test_it_begins_with_nobody_there(still: Still) -> None:
    loop = still.loop
    assert (loop.client, loop.stoppers, loop.device_fd, loop.terminate, loop.changed, loop.errors) == (
        None,
        [],
        -1,
        False,
        False,
        0,
    )
    assert loop.next_tick_ns == loop.next_state_ns == loop.next_connect_ns == 0
    assert loop.alone_since_ns == START_NS + FIRST_DAEMON_NS - ALONE_NS and loop.unreachable_since_ns == START_NS
    own = (loop.stop_listener, loop.control_listener, loop.waker)
    assert {key.fileobj for key in loop.selector.get_map().values()} == set(own)
    assert not any(end.getblocking() for end in (*own, loop.wake))
    assert loop.limits == still.driver.limits


def test_sockets_are_the_owners_alone_and_take_the_place_of_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("left by a crash")
    before = os.umask(0)
    try:
        with _listen(path, socket.SOCK_STREAM) as listener:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(0) == 0, "what else is made has the mode it had"
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
                end.connect(str(path))
                listener.accept()[0].close()
    finally:
        os.umask(before)


def test_a_path_that_cannot_be_bound_leaves_the_mask_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with pytest.raises(OSError):
            _listen(tmp_path / "none" / "x.sock", socket.SOCK_STREAM)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_the_first_lines_are_given_a_moment_and_no_more(still: Still) -> None:
    still.log.wrong = "nothing is written yet"
    still.loop.open(0.01)
    assert still.now_ns - START_NS == 10 * MS and still.slept_s == [0.002] * 5
    assert [line[0] for line in still.ledger.lines] == ["opened"]
    still.log.wrong, still.ledger.wrong, still.slept_s[:] = "", "not yet", []
    still.on_sleep = lambda: setattr(still.ledger, "wrong", "" if len(still.slept_s) == 3 else "not yet")
    still.loop.open(1.0)
    assert len(still.slept_s) == 3
    still.ledger.wrong, still.slept_s[:], still.on_sleep = "never", [], lambda: None
    still.judge.book.fault = "damaged"
    still.loop.open(1.0)
    assert still.slept_s == [], "a ledger that may not go on is not waited for"


# ---- run -------------------------------------------------------------------------------------------------------------


class Signals:
    """What a process asks of the system's signals."""

    SIGTERM = signal.SIGTERM

    def __init__(self) -> None:
        self.wakeup: list[tuple[int, bool]] = []
        self.handlers: dict[int, Any] = {}

    def set_wakeup_fd(self, fd: int, *, warn_on_full_buffer: bool = True) -> None:
        self.wakeup.append((fd, warn_on_full_buffer))

    def signal(self, number: int, handler: Any) -> None:
        self.handlers[number] = handler


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Signals:
    made = Signals()
    monkeypatch.setattr(loop_module, "signal", made)
    return made


def test_it_turns_until_it_may_leave_and_says_why(still: Still, signals: Signals) -> None:
    turns: list[int] = []

    def turn() -> None:
        turns.append(still.now_ns)
        if len(turns) == 3:
            signals.handlers[signal.SIGTERM](signal.SIGTERM, None)
            still.now_ns += CONFIRM_WITHIN_NS + 1

    still.loop._turn = turn  # type: ignore[method-assign]
    assert still.loop.run() == 0
    assert len(turns) == 3 and signals.wakeup == [(still.loop.wake.fileno(), False)]
    assert still.log.of("left") == [{"why": "terminated"}] and still.loop.errors == 0


def test_alone_for_long_enough_it_says_no_daemon(still: Still, signals: Signals) -> None:
    still.now_ns = still.loop.alone_since_ns + ALONE_NS + 1
    assert still.loop.run() == 0
    assert still.log.of("left") == [{"why": "no daemon"}] and signals.wakeup


def test_each_internal_error_is_zero_and_the_fifth_is_the_last(still: Still, signals: Signals) -> None:
    still.armed()
    still.driver.told.clear()

    def turn() -> None:
        assert len(still.driver.told) == before[-1]
        raise RuntimeError("broken")

    before = [0]
    trip, judge = still.judge.trip, still.judge

    def heard(reason: str, now_ns: int) -> Any:
        assert still.driver.told[before[-1]] == "zero", "before anything else"
        effects = trip(reason, now_ns)
        before.append(len(still.driver.told) + sum(isinstance(effect, Order) for effect in effects))
        return effects

    judge.trip = heard  # type: ignore[method-assign]
    still.loop._turn = turn  # type: ignore[method-assign]
    assert still.loop.run() == INTERNAL_ERROR and still.loop.errors == 5
    assert judge.reason == "internal error: RuntimeError: broken" and len(before) == 6
    assert still.log.of("left") == [{"why": "internal errors"}] and signals.handlers


# ---- a turn ----------------------------------------------------------------------------------------------------------


def test_it_waits_until_the_next_thing_is_due(still: Still) -> None:
    loop = still.loop
    loop.next_tick_ns, loop.next_state_ns = START_NS + 10 * MS, START_NS + 5 * MS
    loop._turn()
    assert still.selected.waits_s == [0.01], "nobody is there to be told the state"
    still.daemon()
    loop.changed = False
    loop._turn()
    loop.next_tick_ns, loop.next_state_ns = START_NS - 1, START_NS + 5 * MS
    loop._turn()
    assert still.selected.waits_s[1:] == [0.005, 0.0]


def test_a_pulse_is_waited_for_in_quiet(pulsing: Still) -> None:
    triggers = Triggers(make_program(), 0, 0, 10)
    pulsing.judge.triggers = triggers
    loop = pulsing.loop
    for fire_ns, tick_ns, wait_ns in (
        (QUIET_NS + 1, 100 * MS, 1),
        (QUIET_NS + 20 * MS, 5 * MS, 5 * MS),
        (QUIET_NS, 1 * MS, QUIET_NS - SPIN_NS),
        (SPIN_NS + 1, 1 * MS, 1),
    ):
        triggers.waiting = None
        triggers.take(1, START_NS + fire_ns)
        loop.next_tick_ns = START_NS + tick_ns
        loop._turn()
        assert pulsing.selected.waits_s.pop() == wait_ns / 1e9
        assert triggers.waiting is not None


def test_a_tick_long_overdue_is_made_also_near_a_pulse(pulsing: Still) -> None:
    """Pulses that follow each other within the quiet and are all skipped must not keep the log's fault or the clocks unseen."""
    triggers = Triggers(make_program(), 0, 0, 10)
    pulsing.judge.triggers = triggers
    loop = pulsing.loop
    triggers.take(1, pulsing.now_ns + QUIET_NS)
    due_ns = loop.next_tick_ns = pulsing.now_ns - OVERDUE_NS + 1
    loop._turn()
    assert loop.next_tick_ns == due_ns and triggers.waiting is not None
    loop.next_tick_ns = pulsing.now_ns - OVERDUE_NS
    loop._turn()
    assert loop.next_tick_ns > pulsing.now_ns and triggers.waiting is not None


def test_near_a_pulse_is_from_exactly_the_quiet_on_and_spun_for_at_the_end(pulsing: Still) -> None:
    pulsing.armed()
    pulsing.judge.triggers = triggers = Triggers(make_program(), 0, 0, 10)
    assert pulsing.loop._fire_on_time() is False
    triggers.paid = 10
    pulsing.driver.told.clear()
    start_ns = pulsing.now_ns
    triggers.take(1, start_ns + QUIET_NS + 1)
    assert pulsing.loop._fire_on_time() is False
    pulsing.now_ns += 1
    assert pulsing.loop._fire_on_time() is True and pulsing.driver.told == []
    pulsing.now_ns = start_ns + QUIET_NS - SPIN_NS
    assert pulsing.loop._fire_on_time() is True and pulsing.driver.told == []
    pulsing.now_ns += 1
    pulsing.look_ns = 1000
    assert pulsing.loop._fire_on_time() is True
    pulsing.look_ns = 0
    assert pulsing.driver.told == ["fire"] and triggers.fired == 1
    assert START_NS < start_ns + QUIET_NS + 1 <= pulsing.now_ns <= start_ns + QUIET_NS + 10_000
    assert pulsing.log.of("pulse")[0]["outcome"] == "fired"


@pytest.mark.parametrize(("busy_ns", "late"), [(1, False), (MS - 1000, False), (MS + 1000, True), (9 * MS, True)])
def test_a_pulse_waits_for_the_wire_and_is_skipped_when_that_makes_it_late(pulsing: Still, busy_ns: int, late: bool) -> None:
    """A question of the driver is still on the wire: what waits behind it counts, and the wait for it has an end."""
    pulsing.armed()
    pulsing.judge.triggers = triggers = Triggers(make_program(), 0, 0, 10)
    triggers.paid = 10
    pulsing.driver.told.clear()
    fire_ns = pulsing.now_ns + SPIN_NS
    triggers.take(1, fire_ns)
    pulsing.driver.free_ns = fire_ns + busy_ns
    pulsing.look_ns = 100
    assert pulsing.loop._fire_on_time() is True
    pulsing.look_ns = 0
    (said,) = pulsing.log.of("pulse")
    if late:
        assert pulsing.driver.told == [] and (said["outcome"], triggers.skipped) == ("skipped", 1)
        assert pulsing.now_ns <= fire_ns + SPIN_NS + 1000
    else:
        assert pulsing.driver.told == ["fire"] and triggers.fired == 1
        assert busy_ns // 1000 <= said["error_us"] <= busy_ns // 1000 + 1


def test_a_pulse_ordered_behind_other_bytes_is_counted_from_when_they_are_through(pulsing: Still) -> None:
    pulsing.armed()
    pulsing.judge.triggers = triggers = Triggers(make_program(), 0, 0, 10)
    triggers.paid = 10
    triggers.take(1, pulsing.now_ns)
    pulsing.driver.free_ns = pulsing.now_ns + 3 * MS
    pulsing.loop._do(pulsing.judge.shoot(pulsing.now_ns))
    (said,) = pulsing.log.of("pulse")
    assert said == {"sequence": 1, "outcome": "late", "error_us": 3_000}


def test_only_what_is_ready_is_heard(still: Still) -> None:
    still.device()
    still.loop.next_tick_ns = still.now_ns + 1
    polls = still.driver.polls
    still.loop._turn()
    assert still.driver.polls == polls and still.judge.stops == 0
    still.driver.far.send(b"x")
    still.loop._turn()
    assert still.driver.polls == polls + 1
    still.driver.line.recv(10)
    still.now_ns += 1
    still.driver.say(t_ns=still.now_ns)
    still.loop._turn()
    assert still.driver.polls == polls + 2 and still.loop.next_tick_ns == still.now_ns + REST_TICK_NS, "a tick asks, too"


def test_a_signal_is_a_stop_and_is_heard_once(still: Still) -> None:
    still.loop.next_tick_ns = still.now_ns + 1000 * MS
    still.loop.wake.send(b"\x0f\x0f")
    still.loop._turn()
    still.loop._turn()
    assert still.judge.stops == 1 and still.log.of("stop_again")[0]["reason"] == "SIGTERM"


def test_a_daemon_is_taken_heard_and_told_in_a_turn(still: Still) -> None:
    still.loop.next_tick_ns = still.now_ns + 1000 * MS
    end = still.connect()
    still.loop._turn()
    assert still.loop.client is not None
    end.send(b"x")
    still.loop._turn()
    assert [packet["type"] for packet in packets(end)] == ["state", "refused"]


# ---- a tick ----------------------------------------------------------------------------------------------------------


def test_a_tick_looks_for_the_device_now_and_then(still: Still) -> None:
    still.driver.why_not = OFF
    still.loop.next_connect_ns = still.now_ns + 1
    still.loop._tick(still.now_ns)
    assert still.driver.told == []
    still.loop._tick(still.now_ns + 1)
    assert still.driver.told == ["connect"] and still.loop.next_connect_ns == still.now_ns + 1 + RECONNECT_NS
    assert still.loop.device_fd == -1 and still.driver.polls == 0
    still.driver.why_not = OSError("no such device")
    still.loop._tick(still.loop.next_connect_ns)
    assert still.loop.device_fd == -1
    still.driver.why_not = None
    still.driver.say(t_ns=still.now_ns)
    still.loop._tick(still.loop.next_connect_ns)
    assert still.loop.device_fd == still.driver.line.fileno() and still.driver.polls == 1
    assert still.driver.line.fileno() in still.loop.selector.get_map()
    still.loop._tick(still.loop.next_connect_ns)
    assert still.driver.told.count("connect") == 3, "it is there"


def test_a_tick_is_quick_while_armed(still: Still) -> None:
    still.loop._tick(still.now_ns)
    assert still.loop.next_tick_ns == still.now_ns + REST_TICK_NS
    still.armed()
    still.driver.say(t_ns=still.now_ns + 1, armed=True)
    still.loop._tick(still.now_ns)
    assert still.loop.next_tick_ns == still.now_ns + TICK_NS


def test_a_tick_hears_what_is_on_the_disk_and_what_is_wrong_with_it(still: Still) -> None:
    still.armed()
    still.loop._do(still.judge.command(still.make("set"), "", still.now_ns))
    still.driver.say(t_ns=still.now_ns + 1, armed=True)
    still.loop._tick(still.now_ns)
    assert still.judge.unwritten and still.judge.account.paid_uc == 0.0
    still.ledger.written = still.judge.entries
    still.loop._tick(still.now_ns)
    assert not still.judge.unwritten and still.judge.account.paid_uc > 0.0
    still.ledger.wrong = "no room"
    still.loop._tick(still.now_ns)
    assert still.judge.log_fault == "dose ledger: no room" and still.judge.mode == "stopped"
    still.log.wrong = "none at all"
    still.loop._tick(still.now_ns)
    assert still.judge.log_fault == "none at all"
    still.log.wrong = still.ledger.wrong = ""
    still.loop._tick(still.now_ns)
    assert still.judge.log_fault == ""
    still.ledger.wrong, still.judge.book.fault = "never written", "damaged"
    still.loop._tick(still.now_ns)
    assert still.judge.log_fault == "", "a ledger that may not go on refuses by itself"


# ---- leaving ---------------------------------------------------------------------------------------------------------


def test_who_may_leave(still: Still) -> None:
    loop = still.loop
    still.device()
    at_ns = still.judge.device.report_ns
    loop.terminate = True
    assert loop._may_leave(at_ns + SILENT_NS) and not loop._may_leave(at_ns + SILENT_NS + 1)
    loop.device_fd = -1
    assert not loop._may_leave(at_ns), "not there, and not long enough"
    loop.device_fd = 0
    assert loop._may_leave(at_ns), "a descriptor may be number 0"
    still.hear(armed=True)
    assert not loop._may_leave(still.now_ns), "armed"
    still.hear()
    at_ns = still.judge.device.report_ns
    loop.terminate = False
    loop.alone_since_ns = at_ns - ALONE_NS
    assert not loop._may_leave(at_ns) and loop._may_leave(at_ns + 1)
    end = still.daemon()
    assert not loop._may_leave(at_ns + 1), "a daemon is there"
    end.close()
    loop._hear_daemon()
    loop.alone_since_ns = at_ns - ALONE_NS
    assert loop._may_leave(at_ns + 1)
    still.press()
    loop._accept_stops()
    assert not loop._may_leave(at_ns + 1), "somebody waits for an answer"


def test_armed_it_does_not_leave(still: Still) -> None:
    still.armed()
    still.loop.terminate = True
    still.judge.device.armed = False
    assert not still.loop._may_leave(still.now_ns)


def test_out_of_reach_for_more_than_a_second_it_may_leave(still: Still) -> None:
    still.loop.terminate = True
    since_ns = still.loop.unreachable_since_ns
    assert not still.loop._may_leave(since_ns + CONFIRM_WITHIN_NS)
    assert still.loop._may_leave(since_ns + CONFIRM_WITHIN_NS + 1)
    still.loop.device_fd = 0
    assert not still.loop._may_leave(since_ns + CONFIRM_WITHIN_NS + 1)


def test_leaving_is_zero_first_and_takes_the_sockets_along(still: Still) -> None:
    still.loop._leave("test")
    assert still.driver.told == ["zero", "disarm", "close"]
    assert still.log.of("left") == [{"why": "test"}] and still.log.closed_s == still.ledger.closed_s == [0.5]
    assert not any(path.exists() for path in still.paths)
    still.loop._leave("again")
