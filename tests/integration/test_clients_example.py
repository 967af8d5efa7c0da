"""The worked example of docs/bring-your-own-stimulator.md, run as it stands against its imaginary device on a pseudo-terminal."""

from __future__ import annotations

import importlib.util
import os
import pty
import re
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from stimulator_rig import ROOT, poll_until

from eegloop.errors import DeviceError

PAGE = ROOT / "docs" / "bring-your-own-stimulator.md"


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    found = re.search(r"```python driver\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    file = tmp_path / "example_stimulator.py"
    file.write_text(found[1])
    spec = importlib.util.spec_from_file_location("example_stimulator", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Device:
    """The imaginary device, in a thread of its own."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.path = os.ttyname(self.slave)
        self.armed, self.given_ua, self.until_s = False, 0, 0.0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def now_ua(self) -> int:
        return self.given_ua if time.monotonic() < self.until_s else 0

    def run(self) -> None:
        heard = b""
        while True:
            try:
                heard += os.read(self.master, 100)
            except OSError:
                return
            *lines, heard = heard.split(b"\n")
            for line in lines:
                words = line.split()
                if line == b"A":
                    self.armed = True
                elif line == b"D":
                    self.armed, self.until_s = False, 0.0
                elif words[:1] == [b"I"] and self.armed:
                    self.given_ua, self.until_s = int(words[1]), time.monotonic() + int(words[2]) / 1000
                os.write(self.master, b"=%d\n" % self.now_ua())


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    for descriptor in (device.slave, device.master):
        os.close(descriptor)


def test_it_gives_what_it_is_told_and_confirms_it(module: ModuleType, device: Device) -> None:
    driver = module.build(module.Settings(port=device.path), "")
    driver.connect()
    poll_until(driver, lambda: driver.poll().output_ma == 0.0)
    driver.arm()
    driver.output(0.25, 0.0, 400)
    poll_until(driver, lambda: driver.poll().output_ma == 0.25)
    assert device.now_ua() == 250 and driver.serial
    driver.zero()
    assert driver.poll().output_ma in (None, 0.0)
    poll_until(driver, lambda: driver.poll().output_ma == 0.0)
    assert device.now_ua() == 0
    driver.output(0.25, 10.0, 400)  # no sine: nothing is sent
    driver.close()
    assert driver.fileno() == -1 and not driver.poll().connected


def test_unplugged_it_says_so(module: ModuleType, tmp_path: Path) -> None:
    driver = module.build(module.Settings(), str(tmp_path / "nothing-here"))
    with pytest.raises(DeviceError, match="nothing-here"):
        driver.connect()
    for call in (driver.zero, driver.arm, driver.disarm, driver.close):
        call()
    driver.output(1.0, 0.0, 400)
    assert driver.poll().output_ma is None and not driver.poll().connected
