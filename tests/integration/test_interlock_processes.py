"""Interlock and stimulator as real processes: every fault ends at zero within 1 s by the stimulator's own record, latched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from eegloop.launch import interlock_argv
from eegloop.stim import Limit
from eegloop.stop import ADVICE, stop
from interlock.log import read_head
from tests.interlock_bench import Signer, check_chain, valid_now, write_signed
from tests.interlock_rig import ROOT, SEAT, Daemon, DaemonProcess, Rig, boot_ns, wait_for

WITHIN_S = 1.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as running:
        yield running


def log_is_whole(rig: Rig) -> None:
    path = rig.layout.seat(SEAT) / "interlock.log"
    head = read_head(path.with_name("interlock.log.head"))  # first: the interlock may be writing
    assert check_chain(path.read_bytes(), head) == ""


def latched(rig: Rig, because: str) -> None:
    """A new daemon finds it stopped for this reason; only an arm gets through."""
    daemon = Daemon(rig, "s2")
    daemon.until(lambda: daemon.state)
    assert daemon.state["mode"] == "stopped" and because in daemon.state["reason"], daemon.state["reason"]
    assert daemon.state["granted_ma"] == daemon.state["commanded_ma"] == 0.0
    daemon.refuses_everything()
    assert not rig.flows()
    daemon.close()


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
    daemon.arm("not confirmed zero")  # a report that it is disarmed may be on its way
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


# ---- one daemon, one interlock -----------------------------------------------------------------------------------------


def test_a_second_daemon_is_refused_and_the_first_does_not_notice(rig: Rig) -> None:
    first = Daemon(rig)
    first.run_at(1.0, 0.03)
    second = Daemon(rig, "s9")
    answer = second.receive()
    assert answer["type"] == "refused" and answer["field"] == "connection"
    assert second.socket.recv(100) == b""
    commanded = first.state["commanded_ma"]
    first.until(lambda: first.state["commanded_ma"] > commanded)
    first.close()
    second.close()


def test_a_second_interlock_is_refused_and_the_first_does_not_notice(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    second = rig.spawn(rig.interlock_argv())
    daemon.until(lambda: second.poll() is not None)
    assert second.returncode == 3 and second.stderr is not None and "already has one" in second.stderr.read()
    assert daemon.state["mode"] == "armed"
    daemon.close()


def test_an_orphan_is_taken_over(rig: Rig) -> None:
    second = rig.start_interlock(take_over=True)
    assert rig.interlock.wait(2) == 0 and second.poll() is None
    latched(rig, "nobody has armed yet")


@pytest.mark.parametrize("argument", ["../seat", "", "Seat", "x" * 33])
def test_a_seat_that_is_a_path_is_refused(tmp_path: Path, argument: str) -> None:
    argv = interlock_argv(tmp_path, argument, "p", tmp_path / "x")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "--seat" in done.stderr and not list(tmp_path.iterdir())


def test_an_unknown_driver_is_refused(tmp_path: Path) -> None:
    argv = interlock_argv(tmp_path, SEAT, "p", tmp_path / "x", stimulator="os")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "--stimulator" in done.stderr


# ---- prescriptions -------------------------------------------------------------------------------------------------------


def refused_to_arm(rig: Rig, field: str) -> None:
    daemon = Daemon(rig)
    daemon.until(lambda: daemon.state.get("zero_since_ns"))
    daemon.send("arm")
    daemon.until(lambda: daemon.answers)
    assert daemon.answers[0]["type"] == "refused" and daemon.answers[0]["field"] == field, daemon.answers
    assert daemon.state["mode"] == "stopped"
    daemon.close()


def test_an_altered_prescription_cannot_be_armed_but_stop_works(tmp_path: Path) -> None:
    with Rig(tmp_path, start=False) as rig:
        body = json.loads(rig.signed.read_text())
        body["signatures"][0]["signature"] = "00" * 64
        rig.signed.write_text(json.dumps(body))
        rig.start_stimulator()
        rig.start_interlock()
        refused_to_arm(rig, "signed.signatures[0].signature")
        assert stop(rig.layout.stop_socket(SEAT), "x")["confirmed"] is True


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amplitude_ua": 2001}, "prescription.amplitude_ua"),
        ({"patient": "other"}, "prescription.patient"),
        ({"device": "p24", "device_serial": "7"}, "prescription.device"),
        ({"pad_mm2": 1000}, "prescription.pad_mm2"),
    ],
)
def test_a_prescription_that_is_not_for_this_cannot_be_armed(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with Rig(tmp_path, prescription=valid_now(**changes), start=False) as rig:
        write_signed(tmp_path, rig.prescription, [Signer(scope="any")], rig.layout.keys / "trusted.json")
        rig.start_stimulator()
        rig.start_interlock()
        refused_to_arm(rig, field)


def test_the_devices_own_maximum_counts(tmp_path: Path) -> None:
    with Rig(tmp_path, "--max-ma", "1.0") as rig:
        refused_to_arm(rig, "prescription.amplitude_ua")


# ---- limits through the wire ---------------------------------------------------------------------------------------------


def test_a_set_above_the_limit_trips_through_the_wire(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    fault_ns = boot_ns()
    daemon.send("set", amplitude_ma=1.6)
    daemon.stopped("above a limit")
    assert [a["set_by"] for a in daemon.answers if a["field"] == "amplitude_ma"] == ["prescription"]
    assert rig.after_s(fault_ns) < 0.3
    daemon.close()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN"])
def test_numbers_that_are_none_trip_or_are_refused(rig: Rig, number: str) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    packet = daemon.command("set", amplitude_ma=0.123456).to_json().replace(b"0.123456", number.encode())
    daemon.socket.send(packet)
    daemon.stopped("above a limit")
    daemon.close()


def test_garbage_on_the_control_socket_is_refused_and_ten_of_it_stop(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    garbage = [b"\x00", b"{", b"[]", b"null", b'{"kind":7}', b'{"kind":"set","amplitude_ma":"1"}', b"x" * 16_000]
    for packet in [*garbage, b"{}", b'{"kind":"heartbeat","sequence":1.5}']:
        daemon.socket.send(packet)
        daemon.until(lambda: daemon.answers)
        assert daemon.answers.pop()["type"] == "refused"
        assert daemon.state["mode"] == "armed"
    daemon.socket.send(b"x" * 20_000)
    daemon.stopped("ten commands were refused")
    daemon.close()


def test_alternating_current_flows_with_its_frequency(tmp_path: Path) -> None:
    p = valid_now(modality="tacs", frequency_millihz=5_000, amplitude_ua=1000, start_ua=1000)
    with Rig(tmp_path, prescription=p) as rig:
        daemon = Daemon(rig)
        daemon.arm()
        daemon.send("set", amplitude_ma=0.1, frequency_hz=5.0)
        daemon.until(lambda: daemon.state["confirmed_ma"] == 0.1)
        since_ns = boot_ns()
        daemon.until(lambda: boot_ns() > since_ns + 1_000_000_000)
        daemon.send("end")
        daemon.stopped("session ended")
        values = [ma for t, ma in rig.samples() if since_ns <= t <= since_ns + 1_000_000_000]
        assert max(values) == pytest.approx(0.1, abs=0.002) and min(values) == pytest.approx(-0.1, abs=0.002)
        crossings = sum(a < 0 <= b for a, b in pairwise(values))
        assert 4 <= crossings <= 6
        assert max(abs(ma) for _, ma in rig.samples()) <= 0.1
        daemon.close()


# ---- the device's faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "because"),
    [
        ("silent", "silent"),
        ("late", "silent"),
        ("garbled", "silent"),
        ("wrong_readback", "instead of"),
        ("disarms", "disarmed itself"),
        ("unplugged", "unplugged"),
    ],
)
def test_device_fault_while_stimulating(tmp_path: Path, fault: str, because: str) -> None:
    with Rig(tmp_path, "--fault", fault, "--fault-after-s", "0.8") as rig:
        daemon = Daemon(rig)
        daemon.run_at(1.0, 0.03)
        armed_ns = next(t for t, ma in rig.samples() if ma != 0.0)
        daemon.stopped(because)
        assert rig.after_s(armed_ns + 800_000_000) < WITHIN_S
        answer = stop(rig.layout.stop_socket(SEAT), "and now")
        assert answer["confirmed"] is (fault in ("wrong_readback", "disarms", "late")), answer
        daemon.close()


def test_device_that_refuses_to_arm(tmp_path: Path) -> None:
    with Rig(tmp_path, "--fault", "refuses_arm") as rig:
        daemon = Daemon(rig)
        daemon.arm()
        daemon.send("set", amplitude_ma=1.0)
        daemon.stopped("did not arm")
        assert rig.last_nonzero_ns() == 0
        daemon.close()


def test_stuck_device_is_reported_as_not_confirmed(tmp_path: Path) -> None:
    with Rig(tmp_path, "--fault", "stuck", "--fault-after-s", "0.8") as rig:
        daemon = Daemon(rig)
        daemon.run_at(1.0, 0.07)
        daemon.until(lambda: (daemon.state["confirmed_ma"] or 1.0) < daemon.state["commanded_ma"] - 0.01, 8.0)
        answer = stop(rig.layout.stop_socket(SEAT), "help")
        assert answer["confirmed"] is False and answer["output_ma"] > 0.05 and answer["advice"] == ADVICE
        daemon.stopped("STOP")
        assert daemon.state["zero_since_ns"] == 0 and daemon.state["confirmed_ma"] > 0.05
        wait_for(lambda: "stop_not_confirmed" in rig.event_names())
        daemon.close()


def test_device_that_comes_later_or_again(tmp_path: Path) -> None:
    with Rig(tmp_path, start=False) as rig:
        rig.start_interlock()
        daemon = Daemon(rig)
        daemon.send("arm")
        daemon.until(lambda: daemon.answers)
        assert daemon.answers.pop()["field"] == "device" and daemon.state["confirmed_ma"] is None
        first = rig.start_stimulator()
        daemon.run_at(1.0, 0.03)
        fault_ns = boot_ns()
        first.kill()
        daemon.stopped("unplugged")
        assert daemon.state["confirmed_ma"] is None and daemon.state["zero_since_ns"] == 0
        assert rig.last_nonzero_ns() < fault_ns + 10**9
        rig.start_stimulator()
        daemon.until(lambda: daemon.state["zero_since_ns"])
        assert daemon.state["mode"] == "stopped"
        daemon.close()


# ---- the audit log (S6) --------------------------------------------------------------------------------------------------


def test_the_log_tells_the_session_and_is_whole(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(0.05, 0.05)
    daemon.send("end")
    daemon.stopped("session ended")
    daemon.close()
    rig.interlock.terminate()
    assert rig.interlock.wait(3) == 0
    names = rig.event_names()
    assert [n for n in names if n in ("started", "armed", "set", "going_down", "stopped", "left")] == [
        "started",
        "armed",
        "set",
        "going_down",
        "stopped",
        "left",
    ]
    log_is_whole(rig)


def test_an_unwritable_audit_log_stops(tmp_path: Path) -> None:
    """/dev/full takes nothing: as a full disk, also for root."""
    with Rig(tmp_path, start=False) as rig:
        folder = rig.layout.seat(SEAT)
        folder.mkdir(parents=True, mode=0o700)
        (folder / "interlock.log").symlink_to("/dev/full")
        rig.start_stimulator()
        rig.start_interlock()
        refused_to_arm(rig, "audit")
        assert stop(rig.layout.stop_socket(SEAT), "works all the same")["confirmed"] is True


def test_a_log_that_becomes_unwritable_stops_a_running_session(tmp_path: Path) -> None:
    """A file size limit set on the running process is its full disk."""
    import resource

    with Rig(tmp_path) as rig:
        daemon = Daemon(rig)
        daemon.run_at(1.0, 0.03)
        wait_for(lambda: "set" in rig.event_names())
        size = (rig.layout.seat(SEAT) / "interlock.log").stat().st_size
        _, most = resource.prlimit(rig.interlock.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(rig.interlock.pid, resource.RLIMIT_FSIZE, (size, most))
        fault_ns = boot_ns()
        daemon.send("set", amplitude_ma=0.9)
        daemon.stopped("audit log cannot be written")
        assert rig.after_s(fault_ns) < WITHIN_S
        answer = stop(rig.layout.stop_socket(SEAT), "unlogged")
        assert answer["confirmed"] is True
        log_is_whole(rig)
        resource.prlimit(rig.interlock.pid, resource.RLIMIT_FSIZE, (most, most))
        wait_for(lambda: "stop_again" in rig.event_names(), 3.0, "what waited is written when the disk is back")
        log_is_whole(rig)
        daemon.close()


def test_a_cut_log_allows_no_stimulation(rig: Rig) -> None:
    wait_for(lambda: len(rig.events()) >= 2)
    rig.interlock.terminate()
    rig.interlock.wait(3)
    path = rig.layout.seat(SEAT) / "interlock.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    rig.start_interlock()
    refused_to_arm(rig, "audit")


def test_a_torn_last_line_is_cut_off_and_named(rig: Rig) -> None:
    wait_for(lambda: len(rig.events()) >= 2)
    rig.interlock.kill()
    rig.interlock.wait(3)
    path = rig.layout.seat(SEAT) / "interlock.log"
    with path.open("ab") as file:
        file.write(b'{"boot_ns":12,"da')
    rig.start_interlock()
    wait_for(lambda: "torn_tail" in rig.event_names())
    log_is_whole(rig)
    daemon = Daemon(rig)
    daemon.arm()
    daemon.close()


# ---- the dose ledger (S5) ------------------------------------------------------------------------------------------------


def test_a_killed_interlock_has_already_written_down_the_dose(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.05)
    given_uc = daemon.state["delivered_uc"]
    rig.interlock.kill()
    rig.interlock.wait(5)
    daemon.close()
    rig.start_interlock()
    again = Daemon(rig)
    again.arm()
    assert given_uc <= again.state["delivered_uc"] <= given_uc + 10_000
    again.close()


def test_a_seat_whose_ledger_is_gone_gives_nothing(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.01)
    daemon.close()
    rig.interlock.terminate()
    assert rig.interlock.wait(3) == 0
    for name in ("ledger.log", "ledger.log.head"):
        (rig.layout.seat(SEAT) / name).unlink()
    for _ in range(2):  # the first start must not make it whole for the second
        interlock = rig.start_interlock()
        refused_to_arm(rig, "ledger")
        interlock.terminate()
        assert interlock.wait(3) == 0


# ---- the process itself ----------------------------------------------------------------------------------------------------

ALLOWED_OWN = {
    "drivers",
    "drivers.stimulators",
    "drivers.stimulators.packet_socket",
    "drivers.stimulators.simulated",
    "eegloop",
    "eegloop.errors",
    "eegloop.kept",
    "eegloop.layout",
    "eegloop.real_time",
    "eegloop.single",
    "eegloop.stim",
    "interlock",
    "interlock.__main__",
    "interlock.account",
    "interlock.anchor",
    "interlock.device",
    "interlock.ed25519",
    "interlock.effects",
    "interlock.judge",
    "interlock.keys",
    "interlock.launch",
    "interlock.ledger",
    "interlock.limits",
    "interlock.log",
    "interlock.loop",
    "interlock.pulses",
    "interlock.refusals",
    "interlock.signed",
    "interlock.strict",
    "interlock.told",
    "interlock.triggers",
    "interlock.wire",
}
NETWORK = {
    "asyncio",
    "ctypes",
    "ftplib",
    "http",
    "imaplib",
    "multiprocessing",
    "poplib",
    "smtplib",
    "ssl",
    "subprocess",
    "xmlrpc",
}


def test_import_closure_is_the_allow_list() -> None:
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); import interlock.launch, interlock.__main__, drivers.stimulators.simulated;"
        "print(' '.join(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=20)
    modules = set(done.stdout.split())
    own = {m for m in modules if m.split(".")[0] not in sys.stdlib_module_names and m != "__main__"}
    assert own == ALLOWED_OWN
    assert not {m.split(".")[0] for m in modules} & NETWORK and "urllib.request" not in modules


def test_starts_from_anywhere_with_a_hostile_environment(tmp_path: Path) -> None:
    """-I: neither the current directory nor PYTHONPATH can put a module before ours."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("json.py", "eegloop.py", "interlock.py", "sitecustomize.py"):
        (evil / name).write_text("raise SystemExit('evil')")
    with Rig(tmp_path, start=False) as rig:
        rig.start_stimulator()
        process = subprocess.Popen(
            rig.interlock_argv(), stdout=subprocess.PIPE, text=True, cwd=evil, env={**os.environ, "PYTHONPATH": str(evil)}
        )
        rig.processes.append(process)
        assert process.stdout is not None and json.loads(process.stdout.readline())["type"] == "ready"
        latched(rig, "nobody has armed yet")


def test_runs_in_a_session_of_its_own(rig: Rig) -> None:
    assert os.getsid(rig.interlock.pid) == rig.interlock.pid


def cpu_s(pid: int) -> float:
    """User and system time of a process so far: what its start costs, however busy the machine is."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_both_start_in_less_than_300_ms_of_work(rig: Rig) -> None:
    assert cpu_s(rig.stimulator.pid) < 0.3 and cpu_s(rig.interlock.pid) < 0.3


def test_device_limit_of_the_driver_is_the_simulators() -> None:
    from drivers.stimulators.simulated import LIMITS

    assert LIMITS[0] == Limit("amplitude_ma", 2.0, "mA", "device")
