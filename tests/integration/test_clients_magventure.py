"""magicpy, unmodified, against the MagVenture emulator on its pseudo-terminal; and our driver on the same wire."""

from __future__ import annotations

from pathlib import Path

import pytest
from stimulator_rig import client, emulator, poll_until

from drivers.stimulators.magventure import MagVenture

SCRIPT = """
import json, sys, time
from magicpy import MagVenture
m = MagVenture(portid=sys.argv[1], wait_s=0.5, wait_l=0.5)
m.connect()
out = {}
status, error = m.get_status()
out["status"] = error
out["model"], out["temperature"] = status["Model"], status["Temperature"]
out["arm"] = m.arm(get_response=True)[1]
out["amplitude"] = m.set_amplitude(50, get_response=True)[1]
answer, out["fire"] = m.fire(use_ttl=False, get_response=True)
out["status2"] = m.get_status2()[1]
for command in (lambda: m.set_page("Train"), lambda: m.set_train(10, 5, 1, 1), m.send_train):
    command()
    time.sleep(0.5)  # its next command throws away what the line has not yet taken
out["disarm"] = m.disarm(get_response=True)[1]
m.set_waveform("BiphasicBurst", current_dir="normal", n_pulses_per_burst=3, ipi=20, baratio=1)
time.sleep(0.5)
out["ipi"] = m.get_ipi()[0]
out["waveform"] = m.get_waveform()[0]
out["burst"] = m.get_burst()[0]
m.disconnect()
print(json.dumps(out))
"""


@pytest.mark.parametrize(("model", "named"), [("x100+option", "X100+Option"), pytest.param("r30", "R30", marks=pytest.mark.long)])
def test_magicpy(tmp_path: Path, model: str, named: str) -> None:
    with emulator(tmp_path, "magventure", "--model", model) as device:
        said = client("magicpy", SCRIPT, device.path)
        arm = 0 if model.startswith("x100") else 1  # it expects the X100's three frames of every model
        assert said["model"] == named and said["temperature"] == 21 and said["arm"] == arm
        assert [said[key] for key in ("status", "amplitude", "fire", "status2", "disarm")] == [0] * 5, said
        assert (float(said["ipi"]), said["waveform"], int(said["burst"])) == (20.0, "Biphasic Burst", 3)
        assert [pulse["amplitude_percent"] for pulse in device.record("pulse")] == [50] * 6


def test_our_driver_on_the_real_terminal_and_that_nothing_fires_without_it(tmp_path: Path) -> None:
    with emulator(tmp_path, "magventure") as device:
        driver = MagVenture(device.path)
        driver.connect()
        poll_until(driver, lambda: driver.poll().output_ma == 0.0)
        driver.set_amplitude(30)
        driver.arm()
        poll_until(driver, lambda: driver.ready, each=lambda: driver.hold(400))
        driver.fire()
        poll_until(driver, lambda: driver.didt_a_per_us == 30, each=lambda: driver.hold(400))
        poll_until(driver, lambda: driver.poll().output_ma == 0.0)  # nobody holds it any more
        assert device.record("disarmed")[-1]["boot_ns"] - device.record("pulse")[-1]["boot_ns"] < 600_000_000
        driver.close()
