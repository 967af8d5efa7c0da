"""pypulsepal and pulse-pal, unmodified, against the Pulse Pal emulator on its pseudo-terminal; and our driver."""

from __future__ import annotations

import time
from pathlib import Path

from stimulator_rig import client, emulator, poll_until

from drivers.stimulators.pulse_pal import PulsePal

PYPULSEPAL = """
import json, sys, time
from pypulsepal import PulsePal
out = {}
p = PulsePal(serial_port=sys.argv[1])
out["version"] = p.firmware_version
out["one"] = p.program_one_param(channel=0, param_name="phase1Voltage", param_value=2.5)
out["duration"] = p.program_one_param(channel=0, param_name="pulseTrainDuration", param_value=0.05)
out["sync"] = p.sync_all_params()
out["custom"] = p.upload_custom_pulse_train(1, [0, 0.2, 0.5], [8, 4, -3.5])
out["hold"] = p.set_fixed_voltage(3, 5)
out["loop"] = p.set_continuous(2, 1)
time.sleep(0.05)
out["unloop"] = p.set_continuous(2, 0)
p.trigger_selected_channels(channel_1=True)
time.sleep(0.2)
p.stop_all_outputs()
p.save_to_sd("a.pps")
out["card"] = p.read_sd_params() is not None
p.close()
print(json.dumps(out))
"""
PULSE_PAL = """
import json, sys, time
from pulse_pal.pulse_pal import PulsePalObject
p = PulsePalObject()
p.connect(sys.argv[1])
p.programOutputChannelParam("phase1Voltage", 1, 3)
p.programOutputChannelParam("pulseTrainDuration", 1, 0.02)
p.sendCustomPulseTrain(1, [0, 1, 2], [8, 4, -3.5])  # its times: whole seconds only
p.setFixedVoltage(2, 1)
p.triggerOutputChannels(1, 0, 0, 0)
time.sleep(0.1)
p.abortPulseTrains()
p.setDisplay("one", "two")
p.disconnect()
print(json.dumps({"version": p.firmwareVersion}))
"""


def test_pypulsepal(tmp_path: Path) -> None:
    with emulator(tmp_path, "pulse_pal") as device:
        said = client("pypulsepal", PYPULSEPAL, device.path)
        assert said.pop("version") == 21 and set(said.values()) == {True}, said
        device.wait(lambda: device.record("level")[-1]["volts"] == 0.0)
        by_channel = {n: [e["volts"] for e in device.record("level") if e["channel"] == n] for n in (1, 3, 4)}
        assert max(by_channel[1]) > 2.4 and len(by_channel[3]) >= 2 and by_channel[3][-1] == 0.0
        assert max(by_channel[4]) > 4.9 and by_channel[4][-1] == 0.0


def test_pulse_pal(tmp_path: Path) -> None:
    with emulator(tmp_path, "pulse_pal") as device:
        assert client("pulse_pal", PULSE_PAL, device.path) == {"version": 21}
        device.wait(lambda: bool(device.record("level")) and device.record("level")[-1]["volts"] == 0.0)
        assert round(max(e["volts"] for e in device.record("level") if e["channel"] == 1), 2) == 3.0


def test_our_driver_on_the_real_terminal_and_how_long_its_slices_outlast_it(tmp_path: Path) -> None:
    with emulator(tmp_path, "pulse_pal") as device:
        driver = PulsePal(device.path)
        driver.connect()
        poll_until(driver, lambda: driver.poll().output_ma == 0.0)
        driver.arm()
        poll_until(driver, lambda: len(device.record("level")) > 4, each=lambda: driver.output(1.0, 0.0, 400))
        left_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # frozen from here: not one more call
        device.wait(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) - left_ns > 1_200_000_000)
        last = device.record("level")[-1]
        assert last["volts"] == 0.0 and (last["boot_ns"] - left_ns) / 1e9 <= driver.slice_s
        driver.close()
