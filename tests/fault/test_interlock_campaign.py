"""The fault campaign on the interlock: each fault 20 times, time to zero by the stimulator's own record, latched each time."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from eegloop.stop import stop
from interlock.log import check_chain, read_head
from tests.interlock_rig import SEAT, Daemon, DaemonProcess, Rig, boot_ns, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
TIMES = 20
A_DAY = 10  # sessions the ledger allows one seat


def table(name: str, times_s: list[float]) -> None:
    line = (
        f"{name:<44} n={len(times_s):<3} median {statistics.median(times_s) * 1000:6.1f} ms   worst {max(times_s) * 1000:6.1f} ms"
    )
    print(f"\nFAULT {line}")
    assert len(times_s) == TIMES and max(times_s) < 1.0


def still_latched(rig: Rig) -> None:
    daemon = Daemon(rig, "look")
    daemon.until(lambda: daemon.state)
    assert daemon.state["mode"] == "stopped"
    daemon.refuses_everything()
    daemon.close()


def kill(daemon: DaemonProcess, rig: Rig) -> int:
    return daemon.signal(signal.SIGKILL)


def freeze(daemon: DaemonProcess, rig: Rig) -> int:
    return daemon.signal(signal.SIGSTOP)


def miss(daemon: DaemonProcess, rig: Rig) -> int:
    return daemon.miss_deadlines()


def press(daemon: DaemonProcess, rig: Rig) -> int:
    now_ns = boot_ns()
    assert stop(rig.layout.stop_socket(SEAT), "campaign")["confirmed"] is True
    return now_ns


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("daemon killed (-KILL)", kill),
        ("daemon frozen (-STOP), then continued", freeze),
        ("loop missed its deadlines", miss),
        ("STOP pressed", press),
    ],
)
def test_daemon_fault(tmp_path: Path, name: str, fault: Callable[[DaemonProcess, Rig], int]) -> None:
    times_s = []
    for block in range(TIMES // A_DAY):
        with Rig(tmp_path / str(block)) as rig:
            for i in range(A_DAY):
                daemon = DaemonProcess(rig, session=f"s{i}", wait_ma=0.02)
                fault_ns = fault(daemon, rig)
                times_s.append(rig.after_s(fault_ns))
                if fault is freeze:
                    daemon.signal(signal.SIGCONT)
                if fault is not kill:
                    daemon.finish()
                still_latched(rig)
                assert rig.last_nonzero_ns() < fault_ns + 10**9
            path = rig.layout.seat(SEAT) / "interlock.log"
            head = read_head(path.with_name("interlock.log.head"))
            assert check_chain(path.read_bytes(), head) == ""
    table(name, times_s)


@pytest.mark.parametrize(
    ("name", "number"), [("interlock killed (-KILL)", signal.SIGKILL), ("interlock frozen (-STOP)", signal.SIGSTOP)]
)
def test_interlock_fault(tmp_path: Path, name: str, number: int) -> None:
    times_s = []
    for block in range(TIMES // A_DAY):
        with Rig(tmp_path / str(block)) as rig:
            for i in range(A_DAY):
                daemon = Daemon(rig, f"s{i}")
                daemon.run_at(1.0, 0.02)
                fault_ns = boot_ns()
                rig.interlock.send_signal(number)
                times_s.append(rig.after_s(fault_ns))
                if number == signal.SIGSTOP:
                    rig.interlock.send_signal(signal.SIGCONT)
                    daemon.stopped("")
                    daemon.close()
                else:
                    daemon.close()
                    rig.interlock.wait(5)
                    rig.interlock = rig.start_interlock()
                still_latched(rig)
    table(name, times_s)


def test_whole_tree_killed(tmp_path: Path) -> None:
    times_s = []
    for i in range(TIMES):
        with Rig(tmp_path / str(i)) as rig:
            daemon = DaemonProcess(rig, wait_ma=0.02)
            fault_ns = boot_ns()
            for process in (daemon.process, rig.interlock, rig.stimulator):
                process.kill()
            for process in (daemon.process, rig.interlock, rig.stimulator):
                process.wait(5)
            times_s.append(max(0.0, (rig.last_nonzero_ns() - fault_ns) / 1e9))
            rig.start_stimulator()
            rig.start_interlock()
            still_latched(rig)
    table("daemon, interlock, stimulator killed at once", times_s)


@pytest.mark.parametrize("fault", ["silent", "late", "garbled", "wrong_readback", "disarms", "unplugged"])
def test_device_fault(tmp_path: Path, fault: str) -> None:
    times_s = []
    for i in range(TIMES):
        with Rig(tmp_path / str(i), "--fault", fault, "--fault-after-s", "0.6") as rig:
            daemon = Daemon(rig)
            daemon.run_at(1.0, 0.01)
            first_ns = next(t for t, ma in rig.samples() if ma != 0.0)
            daemon.stopped("")
            times_s.append(rig.after_s(first_ns + 550_000_000))
            daemon.close()
    table(f"stimulator {fault}", times_s)


def test_full_disk(tmp_path: Path) -> None:
    import resource

    times_s = []
    for block in range(TIMES // A_DAY):
        with Rig(tmp_path / str(block)) as rig:
            for i in range(A_DAY):
                daemon = Daemon(rig, f"s{i}")
                daemon.run_at(1.0, 0.02)
                wait_for(lambda i=i: rig.event_names().count("set") == 2 * i + 1)  # type: ignore[misc]
                size = (rig.layout.seat(SEAT) / "interlock.log").stat().st_size
                _, most = resource.prlimit(rig.interlock.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(rig.interlock.pid, resource.RLIMIT_FSIZE, (size, most))
                fault_ns = boot_ns()
                daemon.send("set", amplitude_ma=0.9, block="stimulate")
                daemon.stopped("audit log cannot be written")
                times_s.append(rig.after_s(fault_ns))
                resource.prlimit(rig.interlock.pid, resource.RLIMIT_FSIZE, (most, most))
                wait_for(lambda i=i: rig.event_names().count("stopped") == i + 1)  # type: ignore[misc]
                back_ns = boot_ns()  # the writers try again every 0.2 s
                daemon.until(lambda n=back_ns, d=daemon: d.state["boot_ns"] > n + 500_000_000, heartbeat=False)  # type: ignore[misc]
                daemon.close()
    table("audit log's disk full", times_s)
