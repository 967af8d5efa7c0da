"""The home path as real processes: mosquitto, an emulated home unit, the bridge and the interlock, with the unit's own record."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from drivers.stimulators.mqtt import Settings, bridge
from eegloop.launch import interlock_argv
from eegloop.stim import Prescription
from tests.interlock_bench import Signer, valid_now, write_signed
from tests.interlock_rig import SEAT, Rig, wait_for

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
UNIT = "HOME-0001"
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (apt-get install mosquitto)")


def home_prescription(**changes: Any) -> Prescription:
    """A prescription for the home unit that the interlock's hard limits allow."""
    home = {"device": "mqtt", "device_serial": UNIT, "authority": "lower_only", "session_ms": 1_800_000, "lockout_ms": 43_200_000}
    return valid_now(**{**home, "day_sessions": 1, "week_sessions": 5, **changes})


class Broker:
    """A mosquitto of our own on a free port of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n")
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, 10, "mosquitto answers")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
            return True
        return False


class HomeRig(Rig):
    """`with HomeRig(tmp_path) as rig:` broker, unit, bridge and interlock run; all are killed at the end."""

    def __init__(self, folder: Path, *unit: str, prescription: Prescription | None = None) -> None:
        super().__init__(folder, *unit, prescription=prescription or home_prescription(), start=False)
        self.signer = Signer(scope="any")
        self.signed = write_signed(folder, self.prescription, [self.signer], self.layout.keys / "trusted.json")
        self.key_file = folder / "unit.key"
        self.key_file.write_text(os.urandom(32).hex())
        self.key_file.chmod(0o600)
        self.broker = Broker(folder)
        self.settings = Settings(unit=UNIT, key_file=str(self.key_file), broker=self.broker.address)

    def __enter__(self) -> HomeRig:
        try:
            self.unit = self.start_unit(*self.stimulator_arguments)
            self.bridge = self.start_bridge()
            self.interlock = self.start_interlock()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        self.broker.process.send_signal(signal.SIGCONT)
        self.broker.process.kill()
        self.broker.process.wait(5)

    def start_unit(self, *arguments: str) -> subprocess.Popen[str]:
        module = [sys.executable, "-m", "simulators.stimulators.mqtt", "--broker", self.broker.address, "--unit", UNIT]
        process = self.spawn([*module, "--key", str(self.key_file), "--data", str(self.layout.data), "--seat", SEAT, *arguments])
        assert process.stdout is not None and process.stdout.readline().strip().endswith(UNIT)
        return process

    def start_bridge(self) -> subprocess.Popen[str]:
        path = self.layout.stimulator_socket(SEAT)
        process = self.spawn(bridge(self.settings, str(path)))
        wait_for(path.exists, 15, "the bridge listens")
        return process

    def interlock_argv(self, **options: Any) -> list[str]:
        driver = {"unit": UNIT, "key_file": str(self.key_file)}
        return interlock_argv(
            self.layout.data, SEAT, "virtual", self.signed, stimulator="mqtt", settings=driver, state=self.state, **options
        )
