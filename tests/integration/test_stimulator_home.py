"""The home unit over a real broker: who is killed, and how long the current goes on by the unit's own record."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.home_rig import HomeRig, needs_broker
from tests.interlock_rig import Daemon, DaemonProcess, boot_ns

pytestmark = needs_broker


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[HomeRig]:
    with HomeRig(tmp_path) as rig:
        yield rig


def test_arm_ramp_adjust_stop(rig: HomeRig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(0.2, 0.15)
    daemon.send("set", amplitude_ma=0.1)
    daemon.until(lambda: daemon.state["commanded_ma"] <= 0.1 and abs((daemon.state["confirmed_ma"] or 0.0) - 0.1) < 0.01)
    daemon.send("stop")
    at_ns = boot_ns()
    daemon.until(lambda: daemon.state["mode"] == "stopped" and daemon.state["zero_since_ns"] > 0)
    assert rig.after_s(at_ns) <= 0.3
    assert max(ma for _, ma in rig.samples()) <= 0.2 + 1e-9
    daemon.close()


@pytest.mark.parametrize("attempt", range(2))
@pytest.mark.parametrize(
    "victim", ["daemon", "interlock", "bridge", "broker", "interlock frozen", "bridge frozen", "broker frozen"]
)
def test_time_to_zero_when_one_of_them_is_gone(rig: HomeRig, victim: str, attempt: int) -> None:
    daemon = DaemonProcess(rig, amplitude_ma=0.2, wait_ma=0.05)
    name, _, frozen = victim.partition(" ")
    pid = {"daemon": daemon.pid, "interlock": rig.interlock.pid, "bridge": rig.bridge.pid, "broker": rig.broker.process.pid}[name]
    at_ns = boot_ns()
    os.kill(pid, signal.SIGSTOP if frozen else signal.SIGKILL)
    assert rig.after_s(at_ns) <= 1.0
