"""The interlock as a program: its log and ledger on the disk, what it imports, one per seat, how it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eegloop.launch import interlock_argv
from eegloop.stim import Limit
from eegloop.stop import stop
from tests.integration.test_interlock_processes import rig
from tests.interlock_rig import ROOT, SEAT, WITHIN_S, Daemon, Rig, boot_ns, latched, log_is_whole, refused_to_arm, wait_for

__all__ = ["rig"]


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
    "interlock.vouched",
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
