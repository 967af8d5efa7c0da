"""The loop, one step at a time, with the clock standing still: when it does what, exactly."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eegloop.stim import Limit, StimCommand
from interlock import loop as loop_module
from interlock.effects import Changed, Entry, Event, Order, Reply
from interlock.loop import (
    ALONE_NS,
    CONFIRM_WITHIN_NS,
    FIRST_DAEMON_NS,
    INTERNAL_ERROR,
    OVERDUE_NS,
    PACKETS_A_TURN,
    QUIET_NS,
    RECONNECT_NS,
    REST_TICK_NS,
    SPIN_NS,
    STATE_NS,
    STOPPERS,
    TICK_NS,
    _heard,
    _listen,
    _read,
    _send,
)
from interlock.refusals import MS, SILENT_NS
from interlock.triggers import Triggers
from interlock.wire import MOST_BYTES, PacketError
from tests.interlock_bench import START_NS, WALL_S, make_program, make_pulses
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


# ---- STOP ------------------------------------------------------------------------------------------------------------


def test_a_stop_is_zero_before_it_is_read(still: Still, monkeypatch: pytest.MonkeyPatch) -> None:
    still.armed()
    still.driver.told.clear()
    told: list[list[Any]] = []
    heard = loop_module._heard

    def watched(connection: socket.socket) -> str:
        told.append(list(still.driver.told))
        assert connection.gettimeout() == loop_module.REASON_WITHIN_S
        return heard(connection)

    monkeypatch.setattr(loop_module, "_heard", watched)
    end = still.press(b"  the person \nmore")
    still.loop._accept_stops()
    assert told == [["zero"]] and still.judge.mode == "stopped" and still.judge.reason == "STOP: the person"
    assert packets(end) == [{"type": "stopping", "boot_ns": still.now_ns}]
    stopper = still.loop.stoppers[0]
    assert stopper.named and stopper.at_ns == still.now_ns and not stopper.connection.getblocking()


def test_a_stop_without_words_is_one(still: Still) -> None:
    still.press()
    still.loop._accept_stops()
    assert not still.loop.stoppers[0].named and still.log.of("stop_again")[0]["reason"] == "STOP"


def test_as_many_stops_as_a_turn_takes(still: Still) -> None:
    for _ in range(PACKETS_A_TURN + 1):
        still.press(b"x")
    still.loop._accept_stops()
    assert still.judge.stops == len(still.loop.stoppers) == PACKETS_A_TURN
    still.loop._accept_stops()
    assert still.judge.stops == PACKETS_A_TURN + 1


def test_as_many_wait_as_may_and_the_oldest_makes_way(still: Still) -> None:
    first, second = still.press(b"x"), still.press(b"x")
    for _ in range(STOPPERS - 2):
        still.press(b"x")
    while len(still.loop.stoppers) < STOPPERS:
        still.loop._accept_stops()
    assert len(packets(first)) == 1
    still.press(b"x")
    still.loop._accept_stops()
    assert len(still.loop.stoppers) == STOPPERS and packets(first) == [{}] and len(packets(second)) == 1


def test_a_stop_is_confirmed_by_a_report_from_after_it(still: Still) -> None:
    still.device()
    still.now_ns = still.judge.device.report_ns
    end = still.press(b"me")
    still.loop._accept_stops()
    still.loop._answer_stoppers(still.now_ns)
    assert [packet["type"] for packet in packets(end)] == ["stopping"], "that report is as old as the STOP"
    still.now_ns += 3 * MS
    still.hear(output_ma=0.5)
    still.loop._answer_stoppers(still.now_ns)
    assert packets(end) == []
    still.hear(output_ma=0.004)
    still.loop._answer_stoppers(still.now_ns + 2 * MS)
    assert packets(end) == [{"type": "stopped", "confirmed": True, "output_ma": 0.004, "after_ms": 5}, {}]
    assert still.loop.stoppers == [] and still.log.of("stop_reason") == still.log.of("stop_not_confirmed") == []


def test_a_stop_that_is_not_confirmed_is_said_after_a_second_with_what_the_device_says(still: Still) -> None:
    still.device()
    at_ns = still.now_ns
    end, other = still.press(), still.press(b"named")
    still.loop._accept_stops()
    still.loop._answer_stoppers(at_ns + CONFIRM_WITHIN_NS - 1)
    packets(other)
    assert len(still.loop.stoppers) == 2 and len(packets(end)) == 1
    end.send(b"it hurts\n")
    other.send(b"again")
    still.loop._answer_stoppers(at_ns + CONFIRM_WITHIN_NS)
    answer = packets(end)
    assert answer == [
        {"type": "stopped", "confirmed": False, "output_ma": None, "after_ms": 1000, "advice": loop_module.ADVICE},
        {},
    ]
    assert still.log.of("stop_reason") == [{"reason": "it hurts"}], "who said why at once is not asked again"
    still.press(b"x")
    still.loop._accept_stops()
    still.hear(output_ma=0.7)
    still.loop._answer_stoppers(at_ns + 2 * CONFIRM_WITHIN_NS)
    assert still.log.of("stop_not_confirmed") == [{"output_ma": None}, {"output_ma": None}, {"output_ma": 0.7}]


# ---- the device ------------------------------------------------------------------------------------------------------


def test_who_the_device_is_and_what_it_may_give_is_asked_for_when_it_changes(still: Still) -> None:
    still.device()
    assert still.asked == [], "an empty serial number is the one that was known"
    still.driver.serial = "8"
    still.hear()
    assert still.asked == ["rules"] and still.judge.device.serial == "8" and still.log.of("device")[-1] == {"serial": "8"}
    still.hear()
    assert still.asked == ["rules"]
    still.driver.limits = (Limit("amplitude_ma", 1.6, "mA", "device"),)
    still.hear()
    assert still.asked == ["rules", "rules"] and still.loop.limits == still.driver.limits
    assert still.judge.rules.amplitude[1].value == 1.6


def test_a_device_that_is_gone_is_forgotten(still: Still) -> None:
    still.device()
    fd = still.loop.device_fd
    still.now_ns += 5
    still.hear(connected=False)
    assert still.loop.device_fd == -1 and fd not in still.loop.selector.get_map()
    assert still.loop.unreachable_since_ns == still.now_ns and not still.judge.device.connected
    assert still.asked == []


def test_each_order_is_that_one_thing(still: Still) -> None:
    still.device()
    still.driver.told.clear()
    for order in (Order("output", 0.5, 10.0, 300), Order("arm"), Order("disarm"), Order("zero"), Order("fire")):
        still.loop._order(order)
    assert still.driver.told == [("output", 0.5, 10.0, 300), "arm", "disarm", "zero", "fire"]
    assert still.driver.polls == 1, "nobody is asked whether it is still there"


def test_a_device_that_breaks_at_an_order_is_lost_at_once(still: Still) -> None:
    still.armed()
    still.driver.breaks_at = "output"
    still.loop._order(Order("output", 0.5, 10.0, 300))
    assert still.loop.device_fd == -1 and still.judge.mode == "stopped" and "unplugged" in still.judge.reason
    polls = still.driver.polls
    still.loop._order(Order("output", 0.5, 10.0, 300))
    assert still.driver.polls == polls, "it is known to be gone"


def test_a_device_whose_descriptor_is_number_zero_is_there(still: Still) -> None:
    still.device()
    still.loop.device_fd, still.driver.fd = 0, -1
    still.driver.say(connected=False)
    still.loop._order(Order("zero"))
    assert still.loop.device_fd == -1
    still.loop.device_fd, still.driver.fd = 5, 0
    polls = still.driver.polls
    still.loop._order(Order("zero"))
    assert still.loop.device_fd == 5 and still.driver.polls == polls
    still.loop.device_fd = 0
    still.driver.say(t_ns=still.now_ns)
    still.loop._tick(still.now_ns)
    assert still.driver.polls == polls + 1 and still.driver.told.count("connect") == 1


# ---- the daemon ------------------------------------------------------------------------------------------------------


def test_one_daemon_is_taken_and_a_second_one_sent_away(still: Still) -> None:
    first = still.daemon()
    assert still.loop.client is not None and not still.loop.client.getblocking() and still.loop.changed
    assert still.loop.client in {key.fileobj for key in still.loop.selector.get_map().values()}
    assert still.log.of("daemon") == [{"connected": True}]
    client = still.loop.client
    second = still.daemon()
    assert still.loop.client is client and packets(first) == []
    refusal = {"type": "refused", "sequence": 0, "field": "connection", "value": None, "limit": 1, "set_by": "interlock"}
    assert packets(second) == [{**refusal, "reason": "another daemon is connected"}, {}]
    assert still.log.of("second_daemon") == [{}] and still.log.of("daemon") == [{"connected": True}]


def test_a_daemon_that_goes_is_a_trip(still: Still) -> None:
    still.armed()
    end = still.daemon()
    client = still.loop.client
    end.close()
    still.now_ns += 5
    still.loop._hear_daemon()
    assert still.loop.client is None and client is not None and client.fileno() == -1
    assert still.loop.alone_since_ns == still.now_ns and still.judge.mode == "stopped"
    assert still.judge.reason == "the daemon's connection closed"
    assert still.log.of("daemon")[-1] == {"connected": False, "reason": "the daemon's connection closed"}
    assert all(key.fileobj is not client for key in still.loop.selector.get_map().values())
    lines = len(still.log.lines)
    still.loop._hear_daemon()
    still.loop._lose_daemon("nobody")
    assert len(still.log.lines) == lines, "nobody is there to go"


def test_an_arm_reads_the_rules_again_and_nothing_else_does(still: Still) -> None:
    still.device()
    still.loop._do(still.judge.tick(still.now_ns, still.wall_ns(), still.now_ns))
    end = still.daemon()
    end.send(still.make("heartbeat").to_json())
    still.loop._hear_daemon()
    assert still.asked == []
    end.send(still.make("arm").to_json())
    still.loop._hear_daemon()
    armed = packets(end)[-1]
    assert still.asked == ["rules"] and armed["type"] == "armed" and len(armed["nonce"]) == 32
    end.send(still.make("arm").to_json())
    still.loop._hear_daemon()
    assert still.asked == ["rules"], "armed already"
    still.loop._do(still.judge.stop("test", still.now_ns))
    still.hear()
    end.send(still.make("arm").to_json())
    still.loop._hear_daemon()
    again = [packet for packet in packets(end) if packet["type"] == "armed"]
    assert len(again) == 1 and again[0]["nonce"] != armed["nonce"]


def test_the_start_code_is_read_where_one_is_needed(still: Still) -> None:
    end = still.daemon()
    made = still.rules()
    still.loop.rules_for = lambda _own: replace(made, start_code=len(still.codes) > 0)
    still.codes = [(1, 0)]
    end.send(still.make("arm").to_json())
    still.loop._hear_daemon()
    assert still.judge.start_code == (1, 0) and still.asked == ["code"]
    end.send(still.make("arm").to_json())
    still.loop._hear_daemon()
    assert still.asked == ["code"]


def test_the_state_is_told_when_it_changed_and_twenty_times_a_second(still: Still) -> None:
    still.loop._tell_daemon(still.now_ns)
    end = still.daemon()
    still.loop.next_state_ns = still.now_ns + 1
    still.loop._tell_daemon(still.now_ns)
    assert [packet["type"] for packet in packets(end)] == ["state"] and not still.loop.changed
    assert still.loop.next_state_ns == still.now_ns + STATE_NS
    still.loop._tell_daemon(still.now_ns + STATE_NS - 1)
    assert packets(end) == []
    still.loop._tell_daemon(still.now_ns + STATE_NS)
    told = packets(end)
    assert len(told) == 1 and told[0]["boot_ns"] == still.now_ns + STATE_NS
    end.close()
    still.loop._tell_daemon(still.now_ns + 10 * STATE_NS)


# ---- what the judge wants --------------------------------------------------------------------------------------------


def test_each_effect_goes_where_it_belongs(still: Still) -> None:
    still.device()
    still.driver.told.clear()
    still.loop.changed = False
    still.loop._do([Reply({"type": "x"}), Event("e", {"a": 1}), Entry(1, "f", {"b": 2}, 3, 4.0)])
    wall_s = (still.now_ns - START_NS) / 1e9 + WALL_S
    assert still.log.lines[-1] == ("e", {"a": 1}, still.now_ns, wall_s) and still.ledger.lines == [("f", {"b": 2}, 3, 4.0)]
    assert not still.loop.changed and still.driver.told == []
    still.loop._do([Changed(), Order("zero")])
    assert still.loop.changed and still.driver.told == ["zero"]
    end = still.daemon()
    still.loop._do([Reply({"type": "x"}), Changed()])
    assert packets(end) == [{"type": "x"}] and still.loop.client is not None


def test_a_daemon_that_cannot_be_answered_is_let_go(still: Still) -> None:
    end = still.daemon()
    end.close()
    still.loop._do([Changed()])
    assert still.loop.client is not None
    still.loop._do([Reply({"type": "x"}), Reply({"type": "y"})])
    assert still.loop.client is None
    assert still.log.of("daemon")[-1]["reason"] == "the daemon does not read its answers"


# ---- words and packets -----------------------------------------------------------------------------------------------


def test_what_is_sent_is_one_object_and_only_numbers_that_are_some() -> None:
    ours, theirs = socket.socketpair()
    assert _send(ours, {"a": 1}, b"\n") is True and theirs.recv(100) == b'{"a": 1}\n'
    assert _send(ours, {}) is True and theirs.recv(100) == b"{}"
    with pytest.raises(ValueError):
        _send(ours, {"a": float("nan")})
    theirs.close()
    assert _send(ours, {}) is False
    ours.close()


def test_a_reason_is_its_first_line_and_not_too_long() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    assert _heard(ours) == ""
    theirs.send(b" a b \n c\n")
    assert _heard(ours) == "a b"
    theirs.send(b"x" * 201)
    assert _heard(ours) == "x" * 200
    assert _heard(ours) == "x"
    theirs.send(b"\xffy")
    assert _heard(ours) == "\ufffdy"
    ours.close()
    theirs.close()


def test_a_packet_of_exactly_the_greatest_size_is_read() -> None:
    text = b'{"kind":"heartbeat"}'
    assert _read(text.ljust(MOST_BYTES)) == StimCommand("heartbeat")
    long = _read(text.ljust(MOST_BYTES + 1))
    assert isinstance(long, PacketError) and (long.field, long.value, str(long)) == ("packet", f"{MOST_BYTES}+ bytes", "too long")
    stop = _read(b'{"kind":"stop"}'.ljust(MOST_BYTES + 1))
    assert isinstance(stop, StimCommand) and stop.kind == "stop"
    assert isinstance(_read(b"x"), PacketError)


def test_this_machines_clock_goes_on_in_suspend() -> None:
    import time

    from interlock import loop

    before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before_ns <= loop.boot_ns() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
