"""Interlock and stimulator as real processes: every fault ends at zero within 1 s by the stimulator's own record, latched."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eegloop.stop import ADVICE, stop
from tests.interlock_rig import SEAT, WITHIN_S, Daemon, DaemonProcess, Rig, boot_ns, latched, log_is_whole, wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as running:
        yield running


# ---- the daemon's faults (S3, S10) -------------------------------------------------------------------------------------


def test_daemon_killed_twice(rig: Rig) -> None:
    for session in ("s1", "s3"):
        daemon = DaemonProcess(rig, session=session)
        fault_ns = daemon.signal(signal.SIGKILL)
        assert rig.after_s(fault_ns) < WITHIN_S
        latched(rig, "connection closed")
    log_is_whole(rig)


def test_daemon_frozen_then_continued_with_a_full_socket_twice(rig: Rig) -> None:
    for session in ("s1", "s3"):
        daemon = DaemonProcess(rig, session=session)
        fault_ns = daemon.signal(signal.SIGSTOP)
        assert rig.after_s(fault_ns) < WITHIN_S
        wait_for(lambda: "trip" in rig.event_names())
        daemon.signal(signal.SIGCONT)
        report = daemon.finish()
        assert report["state"]["mode"] in ("armed", "stopped")
        latched(rig, "lease over")
        assert rig.last_nonzero_ns() < fault_ns + 10**9


def test_commands_that_waited_in_the_socket_do_not_revive(rig: Rig) -> None:
    """The other full socket: the interlock itself is frozen while a living daemon goes on sending."""
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    fault_ns = boot_ns()
    rig.interlock.send_signal(signal.SIGSTOP)
    daemon.socket.setblocking(False)
    for _ in range(300):
        try:
            daemon.send("set", amplitude_ma=1.0)
        except BlockingIOError:
            break
    assert rig.after_s(fault_ns) < WITHIN_S, "the stimulator's own lease"
    daemon.socket.settimeout(2.0)
    rig.interlock.send_signal(signal.SIGCONT)
    daemon.stopped("")
    assert rig.after_s(fault_ns) < WITHIN_S and rig.interlock.poll() is None
    daemon.close()


def test_deadline_missed_twice(rig: Rig) -> None:
    for session in ("s1", "s3"):
        daemon = DaemonProcess(rig, session=session)
        fault_ns = daemon.miss_deadlines()
        assert rig.after_s(fault_ns) < WITHIN_S
        assert "lease over" in daemon.finish()["state"]["reason"]
        latched(rig, "lease over")


def test_heartbeats_whose_tick_stands_still_do_not_renew(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    tick, tick_ns, fault_ns = daemon.tick, boot_ns(), boot_ns()
    while daemon.state["mode"] == "armed":
        daemon.send("heartbeat", tick=tick, tick_ns=tick_ns)
        daemon.receive()
    assert "lease over" in daemon.state["reason"] or "ten commands" in daemon.state["reason"]
    assert rig.after_s(fault_ns) < WITHIN_S
    daemon.close()


def test_arming_again_after_a_trip_works_and_goes_on_with_the_budget(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.05)
    stop(rig.layout.stop_socket(SEAT), "pause")
    daemon.stopped("STOP: pause")
    daemon.answers.clear()
    daemon.until(lambda: daemon.state["zero_since_ns"])  # what flowed until then counts, too
    given = daemon.state["delivered_uc"]
    assert given > 0
    stopped_s = time.monotonic()
    daemon.arm("not confirmed zero and disarmed")  # the report that it is disarmed may be one later than that it is at zero
    assert time.monotonic() - stopped_s < 3.0
    assert daemon.state["delivered_uc"] == given
    daemon.close()


# ---- the interlock's own faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_interlock_killed_or_frozen(rig: Rig, number: int) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    fault_ns = boot_ns()
    rig.interlock.send_signal(number)
    assert rig.after_s(fault_ns) < WITHIN_S
    daemon.close()


def test_restarted_interlock_is_stopped(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    rig.interlock.kill()
    rig.interlock.wait(5)
    daemon.close()
    rig.start_interlock()
    latched(rig, "nobody has armed yet")
    log_is_whole(rig)


def test_sigint_and_sighup_are_ignored_and_sigterm_is_stop(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        rig.interlock.send_signal(number)
    commanded = daemon.state["commanded_ma"]
    daemon.until(lambda: daemon.state["commanded_ma"] > commanded)
    assert daemon.state["mode"] == "armed"
    fault_ns = boot_ns()
    rig.interlock.send_signal(signal.SIGTERM)
    daemon.stopped("SIGTERM")
    assert rig.after_s(fault_ns) < 0.3
    assert rig.interlock.poll() is None, "while a daemon is there it stays"
    daemon.close()
    assert rig.interlock.wait(2) == 0
    assert not rig.layout.stop_socket(SEAT).exists() and rig.event_names()[-1] == "left"
    log_is_whole(rig)


@pytest.mark.long
def test_leaves_when_alone_at_zero(rig: Rig) -> None:
    assert rig.interlock.poll() is None
    daemon = Daemon(rig)
    daemon.until(lambda: daemon.state)
    daemon.close()
    started = time.monotonic()
    assert rig.interlock.wait(15) == 0
    assert 8.0 < time.monotonic() - started < 13.0


# ---- STOP (S2) -------------------------------------------------------------------------------------------------------------


def test_stop_socket_is_fast_and_says_what_the_device_confirmed(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    pressed_ns = boot_ns()
    answer = stop(rig.layout.stop_socket(SEAT), "big red button\nsecond line")
    assert answer["confirmed"] is True and answer["output_ma"] == 0.0 and answer["advice"] == "" and answer["error"] == ""
    assert answer["after_ms"] < 300
    assert rig.after_s(pressed_ns) < 0.1
    daemon.stopped("STOP: big red button second line")
    daemon.refuses_everything()
    daemon.close()


def test_stop_is_acknowledged_within_50_ms(rig: Rig) -> None:
    delays = []
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as connection:
            started = time.monotonic()
            connection.connect(str(rig.layout.stop_socket(SEAT)))
            with contextlib.suppress(BrokenPipeError):  # answered and closed already: connecting was enough
                connection.sendall(b"x\n")
            assert json.loads(connection.recv(4096).split(b"\n")[0])["type"] == "stopping"
            delays.append(time.monotonic() - started)
    assert sorted(delays)[len(delays) // 2] < 0.05 and max(delays) < 0.3, delays


def test_a_connection_that_says_nothing_stops(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(rig.layout.stop_socket(SEAT)))
    daemon.stopped("STOP")
    daemon.close()


def test_stop_from_the_daemon_needs_nothing(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    daemon.socket.send(b'{"kind":"stop","sequence":"broken"}')
    daemon.stopped("STOP from the daemon")
    daemon.close()


def test_a_hundred_stops_at_once_are_all_obeyed(rig: Rig) -> None:
    connections = []
    for _ in range(100):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(rig.layout.stop_socket(SEAT)))
        connections.append(connection)
    answer = stop(rig.layout.stop_socket(SEAT), "the hundred and first")
    assert answer["confirmed"] is True
    for connection in connections:
        connection.close()


def test_stop_without_an_interlock_says_unknown(tmp_path: Path) -> None:
    answer = stop(tmp_path / "nobody.stop", "x")
    assert answer["confirmed"] is None and answer["advice"] == ADVICE and "nobody.stop" in answer["error"]


def test_sockets_are_for_this_user_only(rig: Rig) -> None:
    for path in (rig.layout.stop_socket(SEAT), rig.layout.control_socket(SEAT), rig.layout.stimulator_socket(SEAT)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.layout.run.stat().st_mode) == 0o700
    assert stat.S_IMODE((rig.layout.seat(SEAT) / "interlock.log").stat().st_mode) == 0o600
