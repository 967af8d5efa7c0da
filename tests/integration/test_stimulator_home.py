"""The home unit over a real broker: who is killed or frozen, and how long the current goes on by the unit's own record."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eegloop.stop import stop
from tests.broker import Authority, needs_broker
from tests.home_rig import HomeRig
from tests.interlock_rig import SEAT, Daemon, DaemonProcess, boot_ns, wait_for

pytestmark = needs_broker


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[HomeRig]:
    with HomeRig(tmp_path) as rig:
        yield rig


def lose(rig: HomeRig, victim: str) -> float:
    """Stimulate, then kill or freeze one of them; seconds to the last output in the unit's record."""
    daemon = DaemonProcess(rig, amplitude_ma=0.2, wait_ma=0.05)
    name, _, frozen = victim.partition(" ")
    pid = {"daemon": daemon.pid, "interlock": rig.interlock.pid, "bridge": rig.bridge.pid, "broker": rig.broker.process.pid}[name]
    at_ns = boot_ns()
    os.kill(pid, signal.SIGSTOP if frozen else signal.SIGKILL)
    return rig.after_s(at_ns)


@pytest.mark.parametrize("victim", ["interlock", "broker"])
def test_time_to_zero(rig: HomeRig, victim: str) -> None:
    assert lose(rig, victim) <= 1.0


def test_the_bridge_over_tls_with_its_own_certificate(tmp_path: Path) -> None:
    """Arm, give, STOP, with the bridge's half of the way encrypted and signed in at the broker."""
    with HomeRig(tmp_path, authority=Authority(tmp_path / "authority")) as rig:
        assert rig.settings.broker.startswith("mqtts://")
        daemon = Daemon(rig)
        daemon.run_at(0.1, 0.05)
        assert stop(rig.layout.stop_socket(SEAT), "test", 2.0)["confirmed"] is True
        daemon.close()


@pytest.mark.faults
@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize(
    "victim", ["daemon", "interlock", "bridge", "broker", "daemon frozen", "interlock frozen", "bridge frozen", "broker frozen"]
)
def test_time_to_zero_twice_each(rig: HomeRig, victim: str, attempt: int, record_property: Callable[[str, object], None]) -> None:
    after_s = lose(rig, victim)
    record_property("victim", victim)
    record_property("after_s", round(after_s, 3))
    assert after_s <= 1.0


@pytest.mark.faults
def test_a_broker_that_comes_back_brings_the_unit_back_and_nothing_flows(rig: HomeRig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(0.1, 0.05)
    rig.broker.process.kill()
    rig.broker.process.wait(5)
    daemon.stopped("unplugged")
    rig.broker.start()
    at_ns = boot_ns()
    daemon.until(lambda: daemon.state["zero_since_ns"] > at_ns, 15.0, heartbeat=False)
    daemon.refuses_everything()
    wait_for(lambda: not rig.flows(), 2.0)
    daemon.close()


@pytest.mark.faults
def test_a_bridge_told_to_leave_stays_as_long_as_its_interlock(rig: HomeRig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(0.1, 0.05)
    rig.bridge.send_signal(signal.SIGTERM)
    at_ns = boot_ns()
    daemon.until(lambda: daemon.state["confirmed_ns"] > at_ns + 500_000_000)
    assert rig.bridge.poll() is None and daemon.state["mode"] == "armed"
    rig.interlock.send_signal(signal.SIGTERM)
    daemon.close()
    assert rig.interlock.wait(5) == 0 and rig.bridge.wait(5) == 0
    assert not rig.flows()


@pytest.mark.faults
def test_a_new_bridge_takes_over_from_an_orphan(rig: HomeRig) -> None:
    rig.interlock.kill()
    rig.interlock.wait(5)
    orphan, rig.bridge = rig.bridge, rig.start_bridge()
    assert orphan.wait(5) == 0
    rig.interlock = rig.start_interlock()
    daemon = Daemon(rig)
    daemon.arm()
    daemon.close()
