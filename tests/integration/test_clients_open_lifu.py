"""openlifu-sdk against the open-LIFU emulator on its pseudo-terminals (its port finder is pointed there); and our driver."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from stimulator_rig import client, emulator, poll_until

from drivers.stimulators.open_lifu import OpenLifu, Sequence

SCRIPT = """
import json, sys, time
from openlifu_sdk.io.uart import OWUart
OWUart._find_port = lambda self: sys.argv[1]
from openlifu_sdk.io.LIFUTXDevice import TxDevice
from openlifu_sdk.io.LIFUHVController import HVController
out = {}
tx = TxDevice()
assert tx.connect()
tx.uart.start()
out["ping"] = tx.ping()
out["version"] = tx.get_version()
out["temperature"] = tx.get_temperature()
out["modules"] = tx.get_module_count()
told = tx.set_trigger(pulse_interval=0.02, pulse_count=10, pulse_width=100, pulse_train_count=1)
out["start"] = tx.start_trigger()
out["running"] = tx.get_trigger_json()["TriggerStatus"]
time.sleep(0.5)
out["after"] = tx.get_trigger_json()["TriggerStatus"]
out["stop"] = tx.stop_trigger()
tx.close()
hv = HVController()
assert hv.connect()
hv.uart.start()
out["set"] = hv.set_voltage(12.5)
out["on"] = hv.turn_hv_on()
out["is_on"] = hv.get_hv_status()
out["settled"] = hv.wait_for_settle()
out["volts"] = hv.get_voltage()
out["off"] = hv.turn_hv_off()
hv.close()
print(json.dumps(out))
"""


@pytest.mark.long
def test_openlifu_sdk(tmp_path: Path) -> None:
    with emulator(tmp_path, "open_lifu") as device:
        said = client("openlifu_sdk", SCRIPT, device.path)
        assert (said.pop("temperature"), said.pop("volts"), said.pop("modules")) == (31.5, 12.5, 1)
        assert (said.pop("running"), said.pop("after")) == ("RUNNING", "STOPPED")
        assert said.pop("version") and set(said.values()) == {True}, said
        assert len(device.record("pulse")) == 10


def test_our_driver_on_two_real_terminals_and_how_long_it_goes_on_alone(tmp_path: Path) -> None:
    with (
        emulator(tmp_path, "open_lifu", "--model", "transmitter") as transmitter,
        emulator(tmp_path, "open_lifu", "--model", "console") as console,
    ):
        driver = OpenLifu(transmitter.path, console.path)
        driver.connect()
        poll_until(driver, lambda: driver.poll().output_ma == 0.0 and bool(driver.serial))
        driver.set_voltage(20.0)
        driver.set_sequence(Sequence(100, 40, 200))
        poll_until(driver, lambda: not driver._queue and not driver._asked)
        driver.arm()
        poll_until(driver, lambda: driver.ready, each=lambda: driver.hold(400))
        driver.fire()
        left_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # frozen from here: not one more call
        transmitter.wait(lambda: len(transmitter.record("pulse")) == 40)
        assert (transmitter.record("pulse")[-1]["boot_ns"] - left_ns) / 1e9 <= driver.slice_s
        driver.close()
        console.wait(lambda: console.record("level")[-1]["high_voltage"] == 0.0)
