"""MagPy_TMS, unmodified, against the Magstim emulator on its pseudo-terminal; and our driver on the same wire."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from stimulator_rig import client, emulator, poll_until

from drivers.stimulators.magstim import Magstim
from drivers.stimulators.magstim_trains import most_train_hz

# A pseudo-terminal has no RTS line: setRTS is emptied in the child (fork), as the reference says. Nothing else is touched.
HEAD = """
import json, multiprocessing, sys, time
multiprocessing.set_start_method("fork", force=True)
import serial
serial.Serial.setRTS = lambda self, v=True: None
from magpy import magstim
out = {}
def ready(m, within=5):
    until = time.monotonic() + within
    while not m.isReadyToFire() and time.monotonic() < until:
        time.sleep(0.05)
"""
SINGLE = """
m = magstim.Magstim(sys.argv[1])
m.connect()
out["power"] = m.setPower(50, receipt=True)[0]
out["parameters"] = m.getParameters()[1]["magstimParam"]["power"]
out["warm"] = m.getTemperature()[1]["magstimTemp"]["coil1Temp"]
out["early"] = m.fire(receipt=True)[0]
out["arm"] = m.arm(receipt=True)[0]
ready(m)
m.poke()
time.sleep(2.5)
out["control"] = m.isUnderControl()
out["fire"] = m.fire(receipt=True)[0]
out["disarm"] = m.disarm(receipt=True)[0]
m.disconnect()
print(json.dumps(out))
"""
PAIR = """
m = magstim.BiStim(sys.argv[1])
m.connect()
out["high"] = m.highResolutionMode(True, receipt=True)[0]
out["low"] = m.highResolutionMode(False, receipt=True)[0]
out["a"], out["b"] = m.setPowerA(40, receipt=True)[0], m.setPowerB(60, receipt=True)[0]
out["interval"] = m.setPulseInterval(20, receipt=True)[0]
out["parameters"] = m.getParameters()[1]["bistimParam"]
m.arm(receipt=True)
ready(m)
out["fire"] = m.fire(receipt=True)[0]
time.sleep(0.1)
m.disconnect()
print(json.dumps(out))
"""
TRAIN = """
m = magstim.Rapid(sys.argv[1], superRapid=1, unlockCode=UNLOCK, voltage=240)
m.connect()
out["version"] = m._version
out["mode"] = m.rTMSMode(True, receipt=True)[0]
# Rapid.setPower needs the unlock code's status command: without a code it fails in itself (KeyError 'rapid').
out["power"] = (m.setPower if UNLOCK else lambda p, receipt: magstim.Magstim.setPower(m, p, receipt))(40, receipt=True)[0]
out["rate"] = m.setFrequency(10, receipt=True)[0]
out["pulses"] = m.setDuration(0.5, receipt=True)[0]  # setNPulses sends whole seconds where tenths belong
out["error_code"] = m.getErrorCode()[0]
if m._version >= (9,):
    out["system"] = m.getSystemStatus()[0]
    out["delay"] = m.setChargeDelay(500, receipt=True)[0]
if m._version >= (10,):
    out["read_delay"] = m.getChargeDelay()[0]
m.ignoreCoilSafetySwitch(receipt=True)
m.arm(receipt=True)
ready(m)
out["valid"] = m.validateSequence()[0]  # last: asking for the state without a code makes it invalid again
out["fire"] = m.fire(receipt=True)[0]
time.sleep(0.8)
m.disarm(receipt=True)
time.sleep(0.6)
out["parameters"] = m.getParameters()[1]["rapidParam"]
out["single"] = m.rTMSMode(False, receipt=True)[0]
out["enhanced"] = m.enhancedPowerMode(True, receipt=True)[0]
out["off"] = m.enhancedPowerMode(False, receipt=True)[0]
m.disconnect()
print(json.dumps(out))
"""
TABLE = """
import magpy.magstim, json
print(json.dumps({f"{v} {k}": [magpy.magstim.Rapid.MAX_FREQUENCY[v][k][p] for p in range(101)] for v in (240, 115) for k in (0, 1, 2)}))
"""


def test_magpy_drives_a_200(tmp_path: Path) -> None:
    with emulator(tmp_path, "magstim") as device:
        said = client("magpy", HEAD + SINGLE, device.path)
        assert said == {"power": 0, "parameters": 50, "warm": 24.0, "early": 5, "arm": 0, "control": True, "fire": 0, "disarm": 0}
        (pulse,) = device.record("pulse")
        assert pulse["power_percent"] == 50 and device.record("disarmed")[-1]["boot_ns"] > pulse["boot_ns"]


def test_magpy_drives_a_bistim(tmp_path: Path) -> None:
    with emulator(tmp_path, "magstim", "--model", "bistim") as device:
        said = client("magpy", HEAD + PAIR, device.path)
        assert said.pop("parameters") == {"powerA": 40, "powerB": 60, "ppOffset": 20} and set(said.values()) == {0}
        first, second = device.record("pulse")
        assert second["boot_ns"] - first["boot_ns"] == 20_000_000


@pytest.mark.parametrize(
    ("software", "unlock"),
    [
        ("9.0.0", ""),
        pytest.param("7.1.0", "", marks=pytest.mark.long),
        pytest.param("10.0.0", "1234-12345678-9a", marks=pytest.mark.long),
    ],
)
def test_magpy_drives_a_rapid(tmp_path: Path, software: str, unlock: str) -> None:
    arguments = ["--model", "rapid", "--software", software, "--type", "1", *(["--unlock", unlock] if unlock else [])]
    with emulator(tmp_path, "magstim", *arguments) as device:
        said = client("magpy", HEAD + TRAIN.replace("UNLOCK", repr(unlock)), device.path)
        assert said.pop("version") == [int(part) for part in software.split(".")]
        parameters = said.pop("parameters")
        assert (parameters["power"], parameters["frequency"], parameters["nPulses"]) == (40, 10.0, 5)
        assert set(said.values()) == {0}, said
        assert len(device.record("pulse")) == 5


def test_our_power_table_is_never_above_magpy_s(tmp_path: Path) -> None:
    for key, rates in client("magpy", TABLE, "").items():
        mains_v, kind = map(int, key.split())
        assert all(most_train_hz(p, mains_v, kind) <= rate for p, rate in enumerate(rates)), key


def test_our_driver_on_the_real_terminal_and_how_long_it_goes_on_alone(tmp_path: Path) -> None:
    with emulator(tmp_path, "magstim") as device:
        driver = Magstim(device.path)
        driver.connect()
        poll_until(driver, lambda: driver.poll().output_ma == 0.0 and driver.power_percent is not None)
        driver.arm()
        poll_until(driver, lambda: driver.ready, each=lambda: driver.hold(400))
        driver.fire()
        device.wait(lambda: len(device.record("pulse")) == 1)
        left_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # frozen from here: not one more call
        device.wait(lambda: len(device.record("disarmed")) == 1)
        alone_s = (device.record("disarmed")[0]["boot_ns"] - left_ns) / 1e9
        assert alone_s <= driver.stops_alone_s, alone_s
        driver.close()


def test_unplugged_is_seen_at_once(tmp_path: Path) -> None:
    with emulator(tmp_path, "magstim", "--fault", "unplugged", "--fault-after-s", "0.3") as device:
        driver = Magstim(device.path)
        driver.connect()
        poll_until(driver, lambda: not driver.poll().connected, within_s=5.0)
        assert driver.fileno() == -1 and driver.trouble.startswith("unplugged")
