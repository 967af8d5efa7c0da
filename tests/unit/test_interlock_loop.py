"""The loop around the judge, turned inside the test's own process, on real sockets and the simulated stimulator."""

from __future__ import annotations

import gc
import json
import os
import select
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eegloop.stim import Limit
from eegloop.stop import stop
from interlock import loop
from interlock.effects import Refusal
from interlock.limits import rules
from interlock.loop import ALONE_NS, INTERNAL_ERROR, PACKETS_A_TURN, REASON_WITHIN_S, STOPPERS, boot_ns
from interlock.refusals import MS
from interlock.triggers import Triggers
from tests.interlock_bench import make_program, make_pulses, valid_now, wait_until
from tests.interlock_rig import SEAT
from tests.loop_bench import Bench, Client


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, valid_now())
    yield made
    made.close()


@pytest.fixture
def quiet_signals() -> Iterator[None]:
    """What the process does to signals and priority is undone."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    policy, priority, interval_s = os.sched_getscheduler(0), os.sched_getparam(0), sys.getswitchinterval()
    yield
    os.sched_setscheduler(0, policy, priority)
    sys.setswitchinterval(interval_s)
    gc.unfreeze()
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


# ---- a session --------------------------------------------------------------------------------------------------------


def test_a_session_runs_and_a_stop_is_answered_with_what_the_device_confirmed(bench: Bench) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    assert bench.judge.level_ma > 0.0
    presser = bench.stops()
    presser.sendall(b"the person\n")
    bench.turn(lambda: not bench.loop.stoppers and bench.judge.mode == "stopped")
    answers = [json.loads(line) for line in presser.recv(4096).splitlines()]
    assert [a["type"] for a in answers] == ["stopping", "stopped"]
    assert answers[1]["confirmed"] is True and answers[1]["output_ma"] == 0.0 and answers[1]["after_ms"] < 1000
    assert "STOP: the person" in bench.judge.reason
    client.refuses_everything()
    client.close()


def test_a_stop_whose_reason_comes_later_is_logged_with_it(bench: Bench) -> None:
    bench.at_rest()
    bench.end_stimulator()  # so that nothing is confirmed before the words come
    presser = bench.stops()
    bench.turn(lambda: bench.loop.stoppers)
    presser.sendall(b"late words\n")
    bench.loop.stoppers[0].at_ns -= 1_000 * MS
    bench.turn(lambda: not bench.loop.stoppers)
    wait_until(lambda: "stop_reason" in bench.events())


def test_a_stop_that_the_device_does_not_confirm_says_so(bench: Bench) -> None:
    bench.at_rest()
    bench.end_stimulator()
    presser = bench.stops()
    bench.turn(lambda: bench.loop.stoppers)
    bench.loop.stoppers[0].at_ns -= 1_000 * MS
    bench.turn(lambda: not bench.loop.stoppers)
    last = json.loads(presser.recv(4096).splitlines()[-1])
    assert last["confirmed"] is False and last["output_ma"] is None and "switch the stimulator off" in last["advice"]
    wait_until(lambda: "stop_not_confirmed" in bench.events())


def test_many_stops_are_all_obeyed_and_the_oldest_waiter_makes_way(bench: Bench) -> None:
    bench.at_rest()
    bench.end_stimulator()
    pressers = [bench.stops() for _ in range(STOPPERS + 3)]
    bench.turn(lambda: bench.judge.stops == STOPPERS + 3)
    assert len(bench.loop.stoppers) == STOPPERS
    for presser in pressers:
        presser.close()
    for stopper in bench.loop.stoppers:
        stopper.at_ns -= 1_000 * MS
    bench.turn(lambda: not bench.loop.stoppers)


def test_who_has_had_their_answer_is_hung_up_on_whoever_else_holds_the_connection(bench: Bench) -> None:
    bench.at_rest()
    bench.end_stimulator()  # so that the answer waits
    presser = bench.stops()
    bench.turn(lambda: bench.loop.stoppers)
    held = list(bench.loop.stoppers)
    held[0].at_ns -= 1_000 * MS
    bench.turn(lambda: not bench.loop.stoppers)
    presser.settimeout(2.0)
    while presser.recv(4096):  # up to the end: nobody waits for more
        pass
    assert held[0].connection.fileno() == -1


def test_a_second_daemon_is_hung_up_on_whoever_else_holds_the_connection(bench: Bench) -> None:
    class Holds:
        def __init__(self, listener: socket.socket) -> None:
            self.listener, self.held = listener, list[socket.socket]()

        def accept(self) -> tuple[socket.socket, Any]:
            taken = self.listener.accept()
            self.held.append(taken[0])
            return taken

    first = Client(bench)
    bench.turn(lambda: bench.loop.client is not None)
    holds = Holds(bench.loop.control_listener)
    bench.loop.control_listener = holds  # type: ignore[assignment]
    second = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    second.settimeout(2.0)
    second.connect(str(bench.loop.paths[1]))
    bench.loop._accept_daemon()
    assert json.loads(second.recv(4096))["type"] == "refused" and second.recv(4096) == b""
    assert holds.held[0].fileno() == -1
    bench.loop.control_listener = holds.listener
    first.close()


def test_a_crowd_that_says_nothing_keeps_nobody_from_their_answer(bench: Bench) -> None:
    """S2: each connection is a STOP; if each were waited for, whoever presses behind a thousand of them would hear nothing for two seconds."""
    bench.at_rest()
    crowd = [bench.stops() for _ in range(PACKETS_A_TURN)]
    for presser in crowd:
        presser.settimeout(2.0)
    waited: list[float] = []
    real = bench.loop.stop_listener

    class Watched:
        def accept(self) -> tuple[Any, Any]:
            connection, address = real.accept()
            return SimpleNamespace(
                settimeout=lambda s: (waited.append(s), connection.settimeout(s)), recv=connection.recv, send=connection.send,
                setblocking=connection.setblocking, close=connection.close,
            ), address  # fmt: skip

    bench.loop.stop_listener = Watched()  # type: ignore[assignment]
    bench.loop._accept_stops()
    bench.loop.stop_listener = real
    assert waited == [REASON_WITHIN_S] + [0.0] * (PACKETS_A_TURN - 1)
    assert all(json.loads(presser.recv(4096).splitlines()[0])["type"] == "stopping" for presser in crowd)


def test_a_lost_device_trips_and_is_found_again(bench: Bench) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    bench.end_stimulator()
    client.stopped("unplugged")
    assert bench.loop.device_fd == -1
    bench.start_stimulator()
    bench.turn(lambda: bench.loop.device_fd >= 0)
    bench.at_rest()
    client.close()


def test_a_device_that_is_lost_while_it_is_told_something_is_noticed_at_once(bench: Bench) -> None:
    bench.at_rest()
    bench.loop.driver.close()
    bench.loop._order(bench.judge.stop("test", boot_ns())[1])  # type: ignore[arg-type]
    assert bench.loop.device_fd == -1 and not bench.judge.device.connected


def test_a_closed_daemon_trips_and_a_second_one_is_refused(bench: Bench) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    second = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    second.connect(str(bench.layout.control_socket(SEAT)))
    client.until(lambda: select.select([second], [], [], 0)[0])
    assert json.loads(second.recv(4096))["reason"] == "another daemon is connected" and second.recv(10) == b""
    second.close()
    client.close()
    bench.turn(lambda: bench.judge.mode == "stopped")
    assert "connection closed" in bench.judge.reason and bench.loop.client is None
    bench.loop._lose_daemon("again")
    assert "connection closed" in bench.judge.reason


def test_a_daemon_that_does_not_read_its_answers_is_let_go(bench: Bench) -> None:
    client = Client(bench)
    bench.turn(lambda: bench.loop.client is not None)
    assert bench.loop.client is not None
    bench.loop.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for _ in range(400):
        if bench.loop.client is None:
            break
        client.send("set")
        bench.loop._hear_daemon()
    bench.turn(lambda: bench.loop.client is None)
    wait_until(lambda: "does not read" in (bench.folder / "interlock.log").read_text())


def test_packets_that_are_none_are_refused(bench: Bench) -> None:
    client = Client(bench)
    for packet, said in (
        (b"x" * 20_000, "too long"),
        (b"{", "each field once"),
        (b'{"tick":' + b"9" * 5000 + b"}", "each field once"),
    ):
        client.answers.clear()
        client.socket.send(packet)
        client.until(lambda: client.answers, heartbeat=False)
        assert client.answers[0]["reason"].endswith(said)
    client.close()


@pytest.mark.parametrize("packet", [b'{"kind":"stop","tick":' + b"9" * 5000 + b"}", b'{"kind":"stop"' + b" " * 20_000 + b"}"])
def test_a_stop_that_cannot_be_read_whole_is_one(bench: Bench, packet: bytes) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    client.socket.send(packet)
    client.stopped("STOP: stop in a")
    assert bench.loop.errors == 0
    client.close()


def test_the_rules_are_read_again_at_each_arm(bench: Bench) -> None:
    client = Client(bench)
    client.until(lambda: client.state.get("zero_since_ns") and not bench.judge.log_fault, heartbeat=False)
    before = bench.loop.rules_for
    bench.loop.rules_for = lambda own: rules(None, Refusal("key", None, None, "prescription", "is revoked"), own)
    bench.codes = ["none is needed to be told so"]
    client.send("arm")
    client.until(lambda: client.answers, heartbeat=False)
    assert client.answers.pop()["reason"] == "is revoked" and bench.judge.mode == "stopped"
    bench.loop.rules_for = before
    client.arm()
    client.close()


def test_limits_that_the_device_lowers_later_count(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.at_rest()
    bench.turn(lambda: bench.judge.device.serial)  # what it says of itself brings limits too: those must be in before
    serial = bench.judge.device.serial
    monkeypatch.setattr(bench.loop.driver, "limits", (Limit("amplitude_ma", 0.3, "mA", "device"),))
    bench.turn(lambda: bench.judge.rules.amplitude_ma == 0.3)
    assert bench.judge.device.serial == serial and bench.judge.rules.refusal is not None


def test_a_start_code_is_read_at_each_arm_that_needs_one(bench: Bench) -> None:
    client = Client(bench)
    client.until(lambda: client.state.get("zero_since_ns") and not bench.judge.log_fault, heartbeat=False)
    bench.loop.rules_for = lambda own: replace(rules(bench.prescription, None, own), start_code=True)
    bench.codes = ["no code is here", (1, 0)]
    client.send("arm")
    client.until(lambda: client.answers, heartbeat=False)
    assert client.answers.pop()["value"] == "no code is here"
    client.arm()
    assert bench.codes == []
    client.close()


def test_a_log_that_fails_stops_and_a_ledger_that_fails_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    says = {"log": "", "ledger": "no room"}
    monkeypatch.setattr(bench.log, "fault", lambda _now_ns: says["log"])
    monkeypatch.setattr(bench.ledger, "fault", lambda _now_ns: says["ledger"])
    client.stopped("dose ledger: no room")
    says["ledger"] = ""
    bench.turn(lambda: bench.judge.log_fault == "")
    says["log"] = "no room"
    bench.turn(lambda: bench.judge.log_fault == "no room")
    client.close()


@contextmanager
def paid_for(folder: Path) -> Iterator[tuple[Bench, Client, Triggers]]:
    """An armed pulse program whose first pulses the ledger has on the disk."""
    now = valid_now()
    bench = Bench(folder, make_pulses(make_program(), valid_from_s=now.valid_from_s, valid_until_s=now.valid_until_s))
    try:
        client = Client(bench)
        client.arm()
        triggers = bench.judge.triggers
        assert triggers is not None
        client.until(lambda: triggers.paid > 0)
        yield bench, client, triggers
        client.close()
    finally:
        bench.close()


def test_pulses_are_written_at_their_time(tmp_path: Path) -> None:
    with paid_for(tmp_path) as (bench, client, triggers):
        for _ in range(5):
            client.answers.clear()
            deadline_ns = max(boot_ns() + 30 * MS, (triggers.last_ns or 0) + 100 * MS, triggers.free_ns)
            client.send("pulse", deadline_ns=deadline_ns)
            client.until(lambda: client.answers)
        assert triggers.fired + triggers.skipped == 5 or client.answers[0]["type"] == "refused"
        record = bench.folder / "stimulator" / "pulses.bin"
        wait_until(lambda: record.stat().st_size == 8 * triggers.fired)


def test_near_a_pulse_everybody_is_heard_and_nothing_else_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with paid_for(tmp_path) as (bench, client, triggers):
        client.send("pulse", deadline_ns=boot_ns() + 300 * MS)
        bench.turn(lambda: triggers.waiting)
        monkeypatch.setattr(loop, "QUIET_NS", 1_000 * MS)
        monkeypatch.setattr(loop, "OVERDUE_NS", 10**20)  # a tick that is long overdue is made all the same
        bench.loop.next_tick_ns = bench.loop.next_state_ns = 0
        heard, spoken = bench.judge.tick_number, bench.loop.next_state_ns
        client.send("heartbeat")
        bench.turn(lambda: bench.judge.tick_number > heard)
        assert triggers.waiting and (bench.loop.next_tick_ns, bench.loop.next_state_ns) == (0, spoken)
        presser = bench.stops()
        bench.turn(lambda: not bench.loop.stoppers and bench.judge.mode == "stopped")
        assert triggers.fired == 0 and b"stopping" in presser.recv(4096)
        assert bench.loop.next_tick_ns > 0 and bench.loop.next_state_ns > 0


# ---- how it ends ------------------------------------------------------------------------------------------------------


def test_it_stays_while_anybody_is_there_and_leaves_when_alone_at_zero(bench: Bench) -> None:
    client = Client(bench)
    client.until(lambda: client.state.get("zero_since_ns"), heartbeat=False)
    bench.loop.terminate = True
    assert not bench.loop._may_leave(boot_ns()), "a daemon is there"
    client.close()
    bench.turn(lambda: bench.loop.client is None)
    bench.at_rest()
    assert bench.loop._may_leave(boot_ns())
    bench.loop.terminate = False
    assert not bench.loop._may_leave(boot_ns())
    assert bench.loop._may_leave(bench.loop.alone_since_ns + ALONE_NS + 1) is False, "old news of the device is none"
    bench.loop.alone_since_ns = boot_ns() - ALONE_NS - 1
    bench.at_rest()
    assert bench.loop._may_leave(boot_ns())
    bench.judge.device.zero_since_ns = 0
    assert not bench.loop._may_leave(boot_ns()), "not at zero"


def test_with_the_device_out_of_reach_it_leaves_after_its_lease(bench: Bench) -> None:
    bench.at_rest()
    bench.end_stimulator()
    bench.turn(lambda: bench.loop.device_fd < 0)
    bench.loop.terminate = True
    since_ns = bench.loop.unreachable_since_ns
    assert not bench.loop._may_leave(since_ns + 1_000 * MS) and bench.loop._may_leave(since_ns + 1_000 * MS + 1)


def test_it_runs_until_sigterm_which_stops_and_leaves(bench: Bench, quiet_signals: None) -> None:
    def press() -> None:
        wait_until(lambda: bench.judge.device.zero_since_ns != 0)
        assert stop(bench.layout.stop_socket(SEAT), "thread")["confirmed"] is True
        os.kill(os.getpid(), signal.SIGTERM)

    presser = threading.Thread(target=press)
    presser.start()
    assert bench.loop.run() == 0
    presser.join()
    assert bench.judge.stops >= 1 and not bench.layout.stop_socket(SEAT).exists()
    assert bench.events()[-1] == "left"


def test_alone_for_ten_seconds_it_leaves(bench: Bench, quiet_signals: None) -> None:
    bench.loop.alone_since_ns = boot_ns() - ALONE_NS
    assert bench.loop.run() == 0


def test_internal_errors_are_zero_and_the_fifth_ends_it(bench: Bench, quiet_signals: None) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    bench.loop.rules_for = None  # type: ignore[assignment]
    bench.judge.device.serial = "another"
    assert bench.loop.run() == INTERNAL_ERROR
    assert bench.judge.mode == "stopped" and "internal error: TypeError" in bench.judge.reason and bench.loop.errors == 5
    client.close()


def test_a_daemons_socket_that_breaks_is_a_daemon_that_is_gone(bench: Bench) -> None:
    client = Client(bench)
    client.run_at(0.5, 0.01)
    taken, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.close()
    taken.setblocking(False)
    bench.loop.selector.unregister(bench.loop.client)
    bench.loop.client, before = socket.socket(socket.AF_INET, socket.SOCK_STREAM), bench.loop.client
    bench.loop.selector.register(bench.loop.client, selectors.EVENT_READ)
    bench.loop._hear_daemon()  # reading from what is not connected is an error
    assert bench.loop.client is None and "connection closed" in bench.judge.reason
    taken.close()
    assert before is not None
    before.close()
    client.close()


def test_as_many_packets_as_a_turn_takes_and_the_rest_in_the_next(bench: Bench) -> None:
    client = Client(bench)
    client.run_at(0.3, 0.01)
    refused = bench.judge.refused
    for _ in range(PACKETS_A_TURN + 3):
        client.socket.send(b"x")
    bench.loop._hear_daemon()
    assert bench.judge.refused - refused == PACKETS_A_TURN and bench.judge.mode == "stopped"
    bench.loop._hear_daemon()
    assert bench.judge.refused - refused == PACKETS_A_TURN + 3
    client.close()


def test_a_device_that_is_forgotten_twice_stays_forgotten(bench: Bench) -> None:
    bench.at_rest()
    bench.loop._lose_device()
    bench.loop._lose_device()
    assert bench.loop.device_fd == -1
