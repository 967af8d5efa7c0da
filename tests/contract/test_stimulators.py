"""Every stimulator driver in drivers/stimulators keeps the same promises; a new one is tested by existing."""

from __future__ import annotations

import dataclasses
import inspect
import math
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from eegloop import plugins
from eegloop.errors import DeviceError
from interlock.limits import EMULATOR_ONLY, KINDS, device_amplitude_ma

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("connect", "fileno", "arm", "disarm", "output", "zero", "poll", "close")
PARTS = (
    "amplitude",
    "framed_line",
    "magstim_frames",
    "magstim_talk",
    "magstim_trains",
    "magventure_frames",
    "open_lifu_frames",
    "pulse_port",
    "packet_socket",
    "sealed",
    "serial_line",
)  # what drivers share
UNCONFIRMED = ("lsl_markers",)  # nothing ends what it started, and nothing tells: never armed, "not covered" in the safety case


@pytest.fixture(params=plugins.kinds("stimulator"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.find("stimulator", request.param)


def kind(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def unplugged(module: ModuleType, folder: Path) -> Any:
    return module.build(module.Settings(), str(folder / "nothing-here"))


def test_there_is_at_least_the_simulated_one() -> None:
    assert "simulated" in plugins.kinds("stimulator")


def test_the_interlock_knows_it(module: ModuleType) -> None:
    assert kind(module) in KINDS, "a new stimulator's kind and hard limits also go into interlock/limits.py"


def test_settings_are_a_frozen_dataclass_with_defaults(module: ModuleType) -> None:
    assert dataclasses.is_dataclass(module.Settings) and module.Settings.__dataclass_params__.frozen
    module.Settings()
    with pytest.raises(TypeError):
        module.Settings(no_such_setting=1)


def test_it_states_limits_readback_and_how_long_it_goes_on_alone(module: ModuleType, tmp_path: Path) -> None:
    driver = unplugged(module, tmp_path)
    most_percent = [limit.value for limit in driver.limits if (limit.field, limit.unit) == ("intensity_percent", "%")]
    states_its_own = kind(module) in EMULATOR_ONLY and driver.limits
    assert 0.0 < device_amplitude_ma(driver.limits) <= 4.0 or most_percent == [100.0] or states_its_own
    assert driver.limits == module.LIMITS
    assert driver.readback == module.READBACK and driver.readback in ("measured", "acknowledged", "none")
    assert driver.stops_alone_s == module.STOPS_ALONE_S
    sliced = 0.0 < getattr(driver, "slice_s", math.inf) <= 0.5  # over 1 s, only what ends by itself is sent
    assert 0.0 <= driver.stops_alone_s <= 1.0 or sliced or kind(module) in UNCONFIRMED


def test_it_has_the_port_and_documents_it(module: ModuleType) -> None:
    assert module.__doc__ and module.build.__doc__
    driver_class = inspect.signature(module.build, eval_str=True).return_annotation
    for name in METHODS:
        assert callable(getattr(driver_class, name))


def test_unplugged_it_says_so_and_breaks_nothing(module: ModuleType, tmp_path: Path) -> None:
    driver = unplugged(module, tmp_path)
    with pytest.raises((DeviceError, OSError), match="nothing-here"):
        driver.connect()
    assert driver.fileno() == -1 and driver.serial == ""
    for _ in range(2):
        driver.zero()
        driver.disarm()
        driver.arm()
        driver.output(1.0, 0.0, 400)
        report = driver.poll()
        assert not report.connected and not report.armed and report.output_ma is None
        driver.close()


def test_no_call_blocks(module: ModuleType, tmp_path: Path) -> None:
    driver = unplugged(module, tmp_path)
    fastest: dict[str, float] = {}
    for _ in range(5):
        for name in ("arm", "disarm", "zero", "poll", "close"):
            started = time.perf_counter()
            getattr(driver, name)()
            fastest[name] = min(fastest.get(name, 1.0), time.perf_counter() - started)
    assert max(fastest.values()) < 0.002, fastest


def test_imports_are_the_standard_library_pyserial_and_the_vocabulary(module: ModuleType) -> None:
    code = f"sys.path.insert(0, {str(ROOT)!r}); import {module.__name__}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; before = set(sys.modules); {code}"], **RUN)
    clean = subprocess.run([sys.executable, "-I", "-c", "import sys; print(' '.join(sys.modules))"], **RUN)
    new = set(done.stdout.split()) - set(clean.stdout.split())
    own = {m for m in new if m.split(".")[0] not in sys.stdlib_module_names and m.split(".")[0] != "serial"}
    parts = {name for name in own if name.startswith("drivers.stimulators.")}
    assert own - parts == {"drivers", "drivers.stimulators", "eegloop", "eegloop.errors", "eegloop.stim"}
    assert parts <= {module.__name__, *(f"drivers.stimulators.{part}" for part in PARTS)}


RUN: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 20}
