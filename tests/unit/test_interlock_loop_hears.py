"""The loop with the clock standing still: what it does with each STOP, report, packet and effect, exactly."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from eegloop.stim import Limit, StimCommand
from interlock import loop as loop_module
from interlock.effects import Changed, Entry, Event, Order, Reply
from interlock.loop import (
    CONFIRM_WITHIN_NS,
    NO_STOP,
    PACKETS_A_TURN,
    STATE_NS,
    STOPPERS,
    _heard,
    _read,
    _send,
)
from interlock.refusals import MS
from interlock.wire import MOST_BYTES, PacketError
from tests.interlock_bench import START_NS, WALL_S
from tests.still_loop import Still, packets
from tests.unit.test_interlock_loop_turns import still

__all__ = ["still"]


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
    refusal = {"type": "refused", "sequence": 0, "field": "connection", "value": 2, "limit": 1, "set_by": "interlock"}
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


@pytest.mark.parametrize("other", [False, True])
def test_without_the_socket_that_stop_comes_through_nothing_flows(still: Still, other: bool) -> None:
    """S13: no way to stop, no stimulation; one that somebody else put in its place is none."""
    still.armed()
    still.loop._tick(still.now_ns)
    assert still.judge.mode == "armed"
    if other:
        still.paths[1].with_name("other").touch()
        still.paths[1].with_name("other").replace(still.paths[1])
    else:
        still.paths[1].unlink()
    still.loop._tick(still.now_ns)
    assert still.judge.mode == "stopped" and still.judge.reason == NO_STOP
    still.hear(armed=False)
    still.loop._do(still.judge.command(still.make("arm"), "again", still.now_ns))
    still.loop._tick(still.now_ns)
    assert still.judge.mode == "stopped" and still.judge.reason == NO_STOP, "not by arming again either"
