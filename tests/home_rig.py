"""The home path as real processes: mosquitto, an emulated home unit, the bridge and the interlock, with the unit's own record."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from drivers.stimulators.mqtt import Settings, bridge
from eegloop.launch import interlock_argv
from eegloop.stim import Prescription
from tests.broker import Authority, Broker
from tests.home_way import UNIT
from tests.interlock_bench import Signer, valid_now, write_signed
from tests.interlock_rig import SEAT, Rig, wait_for


def home_prescription(**changes: Any) -> Prescription:
    """A prescription for the home unit that the interlock's hard limits allow."""
    home = {"device": "mqtt", "device_serial": UNIT, "authority": "lower_only", "session_ms": 1_800_000, "lockout_ms": 43_200_000}
    return valid_now(**{**home, "day_sessions": 1, "week_sessions": 5, **changes})


class HomeRig(Rig):
    """`with HomeRig(tmp_path) as rig:` broker, unit, bridge and interlock run; all are killed at the end."""

    def __init__(
        self, folder: Path, *unit: str, prescription: Prescription | None = None, authority: Authority | None = None
    ) -> None:
        super().__init__(folder, *unit, prescription=prescription or home_prescription(), start=False)
        self.signer = Signer(scope="any")
        self.signed = write_signed(folder, self.prescription, [self.signer], self.layout.keys / "trusted.json")
        self.key_file = folder / "unit.key"
        self.key_file.write_text(os.urandom(32).hex())
        self.key_file.chmod(0o600)
        self.broker = Broker(folder, authority)
        self.settings = Settings(unit=UNIT, key_file=str(self.key_file), broker=self.broker.address)
        if authority is not None:
            cert, key = authority.issue("bridge")
            own = {"ca_file": str(authority.file), "client_cert_file": str(cert), "client_key_file": str(key)}
            self.settings = replace(self.settings, broker=self.broker.tls_address, **own)

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
        self.broker.end()

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
