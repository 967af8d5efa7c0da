"""lsl_markers: what lab software hears over LSL, and that the interlock never arms a stimulator that confirms nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.stimulators.lsl_markers import LslMarkers, Settings, bridge
from eegloop.launch import interlock_argv
from tests.home_rig import home_prescription
from tests.interlock_bench import Signer, write_signed
from tests.interlock_rig import SEAT, Daemon, Rig, wait_for


class Lab:
    """The bridge, and lab software with an inlet on its stream."""

    def __init__(self, folder: Path) -> None:
        import pylsl

        self.socket = folder / "markers"
        name = f"markers-{os.getpid()}-{folder.name}"
        self.process = subprocess.Popen(bridge(Settings(name=name), str(self.socket)))
        (found,) = pylsl.resolve_byprop("name", name, 1, 20.0)
        self.inlet = pylsl.StreamInlet(found, recover=False)
        self.inlet.open_stream(10.0)
        self.markers: list[dict[str, Any]] = []

    def heard(self) -> list[dict[str, Any]]:
        while (sample := self.inlet.pull_sample(0.0)[0]) is not None:
            self.markers.append(json.loads(sample[0]))
        return self.markers

    def until(self, kind: str, n: int = 1) -> dict[str, Any]:
        wait_for(lambda: sum(m["kind"] == kind for m in self.heard()) >= n, 5.0, f"{n} {kind}: {self.markers}")
        return [m for m in self.markers if m["kind"] == kind][n - 1]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self.inlet.close_stream()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def test_what_lab_software_hears(lab: Lab) -> None:
    driver = LslMarkers(str(lab.socket))
    driver.connect()
    driver.arm()
    wait_for(lambda: driver.output(0.5, 0.0, 400) or any(m["kind"] == "output" for m in lab.heard()), 5.0)
    first = lab.until("output")
    assert (first["device"], first["amplitude_ma"], first["reason"]) == ("lsl_markers", 0.5, "")
    lapsed = lab.until("zero", 2)
    assert lapsed["reason"] == "not renewed within its lease" and lapsed["amplitude_ma"] == 0.0
    assert 0.0 < (lapsed["requested_boot_ns"] - first["requested_boot_ns"]) / 1e9 <= 0.6
    wait_for(lambda: driver.output(0.4, 0.0, 400) or len([m for m in lab.heard() if m["amplitude_ma"] == 0.4]) == 1, 5.0)
    report = driver.poll()
    assert report.connected and report.output_ma is None and not report.armed
    driver.close()
    assert lab.until("zero", 3)["reason"] == "the interlock is gone"


def test_the_interlock_never_arms_it(lab: Lab, tmp_path: Path) -> None:
    signed = home_prescription(device="lsl_markers", device_serial="lab", authority="observe")
    with Rig(tmp_path, prescription=signed, start=False) as rig:
        path = write_signed(tmp_path, signed, [Signer(scope="any")], rig.layout.keys / "trusted.json")
        driver = {"socket": str(lab.socket)}
        process = rig.spawn(
            interlock_argv(rig.layout.data, SEAT, "virtual", path, stimulator="lsl_markers", settings=driver, state=rig.state)
        )
        assert process.stdout is not None and json.loads(process.stdout.readline())["type"] == "ready"
        daemon = Daemon(rig)
        daemon.until(lambda: any(e["event"] == "device" for e in rig.events()), heartbeat=False)
        daemon.send("arm")
        daemon.until(lambda: daemon.answers, heartbeat=False)
        assert daemon.answers[-1]["type"] == "refused" and "does not answer" in daemon.answers[-1]["reason"]
        assert daemon.state["mode"] == "stopped" and daemon.state["readback"] == "none"
        assert daemon.state["confirmed_ma"] is None and daemon.state["zero_since_ns"] == 0, "NOT CONFIRMED"
        daemon.close()
    assert {m["kind"] for m in lab.heard()} <= {"zero", "disarm"}
