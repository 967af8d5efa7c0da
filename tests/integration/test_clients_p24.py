"""science_mode_4, unmodified, against the P24 emulator on its pseudo-terminal; and our driver on the same wire."""

from __future__ import annotations

import time
from pathlib import Path

from stimulator_rig import client, emulator, poll_until

from drivers.stimulators.p24 import P24

SCRIPT = """
import asyncio, json, sys, time
from science_mode_4 import *
from science_mode_4.utils.logger import logger
logger().disabled = True
out = {}
async def go():
    connection = SerialPortConnection(sys.argv[1])
    connection.open()
    device = DeviceP24(connection)
    await device.initialize()
    general = device.get_layer_general()
    out["id"] = general.device_id
    mid = device.get_layer_mid_level()
    await mid.init(True)
    points = [ChannelPoint(200, 20), ChannelPoint(100, 0), ChannelPoint(200, -20)]
    await mid.update([MidLevelChannelConfiguration(True, 3, 20, points)])
    for _ in range(3):
        await asyncio.sleep(0.3)
        out["active"] = str(await mid.get_current_data())
    await mid.stop()
    low = device.get_layer_low_level()
    await low.init(LowLevelMode.NO_MEASUREMENT, LowLevelHighVoltageSource.STANDARD)
    for _ in range(3):
        low.send_channel_config(True, Channel.BLUE, Connector.GREEN, points)
        await asyncio.sleep(0.05)
    await low.stop()
    connection.close()
asyncio.run(go())
print(json.dumps(out))
"""


def test_science_mode_4(tmp_path: Path) -> None:
    with emulator(tmp_path, "p24") as device:
        said = client("science_mode_4", SCRIPT, device.path)
        assert said["id"] == "P24EMU0001"
        channels = [pulse["channel"] for pulse in device.record("pulse")]
        assert channels.count(1) > 30 and channels.count(6) == 3
        assert device.record("pulse")[-1]["points"] == [[200, 20.0], [100, 0.0], [200, -20.0]]


def test_our_driver_on_the_real_terminal(tmp_path: Path) -> None:
    with emulator(tmp_path, "p24") as device:
        driver = P24(device.path)
        driver.connect()
        poll_until(driver, lambda: driver.poll().output_ma == 0.0 and bool(driver.serial))
        driver.arm()
        poll_until(driver, lambda: len(device.record("pulse")) >= 5, each=lambda: driver.output(1.0, 20.0, 400))
        left_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # frozen from here: not one more call
        device.wait(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) - left_ns > 500_000_000)
        assert device.record("pulse")[-1]["boot_ns"] - left_ns < driver.slice_s * 1e9
        driver.close()
