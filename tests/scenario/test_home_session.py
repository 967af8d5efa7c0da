"""A whole session at home: virtual person, real service, interlock, bridge, mosquitto and the emulated unit with its own record."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from home_rig import UNIT, Broker, needs_broker
from running_service import PageClient, RunningService, Script, running, seat_config, until, write_config

from control.prescription import TrustedKey, demo_prescription, new_key, public_key, sign, trusted_bytes
from eegloop.layout import Layout

pytestmark = needs_broker
SEAT = "home"
DEMO_ANSWERS = ("screened", "start")


def sign_home_prescription(data: Path, person: str) -> Path:
    """Two hours' worth of one session: the demo's blocks, shortened, within the hard limits of a home."""
    layout = Layout(data)
    layout.create()
    now_s = time.time()
    key = new_key()
    trusted = TrustedKey(public_key(key).hex(), "demo", "prescriber", "any", int(now_s) - 60, int(now_s) + 86_400, False)
    (layout.keys / "trusted.json").write_bytes(trusted_bytes((trusted,)))
    home = {"profile": "home", "device": "mqtt", "device_serial": UNIT, "authority": "lower_only", "lockout_ms": 43_200_000}
    short = {"day_sessions": 1, "week_sessions": 5, "baseline_ms": 6_000, "sense_ms": 8_000, "stimulate_ms": 8_000}
    file = data / "home.json"
    demo = demo_prescription(person, now_s)
    settings = {**demo.settings, "refractory_ms": 60_000}
    file.write_bytes(sign(replace(demo, session_ms=1_800_000, settings=settings, **home, **short), [key]))
    return file


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("home")
    data = folder / "data"
    person = seat_config(SEAT, {})["person"]
    prescription = sign_home_prescription(data, person)
    broker = Broker(folder)
    key_file = folder / "unit.key"
    key_file.write_text(os.urandom(32).hex())
    key_file.chmod(0o600)
    stimulator = {"kind": "mqtt", "unit": UNIT, "key_file": str(key_file), "broker": broker.address}
    seat = seat_config(SEAT, {"kind": "lsl", "name": f"home-{os.getpid()}", "type": "EEG"}, stimulator=stimulator)
    seat["prescription"] = str(prescription)
    module = ("-m", "simulators.stimulators.mqtt", "--broker", broker.address, "--unit", UNIT, "--key", str(key_file))
    unit = Script("unit", *module, "--data", str(data), "--seat", SEAT)
    try:
        with running("demo", write_config(folder / "config.yaml", [seat]), data) as service:
            yield service
    finally:
        unit.end()
        broker.process.kill()
        broker.process.wait(5)


@pytest.fixture(scope="module")
def page(service: RunningService) -> Iterator[PageClient]:
    page = service.page()
    yield page
    page.close()


def record(service: RunningService) -> np.ndarray:
    """(n,) of boot_ns and mA, every sample the unit put out."""
    return np.fromfile(service.layout.seat(SEAT) / "stimulator" / "output.bin", [("boot_ns", "<i8"), ("ma", "<f8")])


def test_a_session_from_screening_to_post(service: RunningService, page: PageClient) -> None:
    until(lambda: page.seat(SEAT), 20, "the page knows the seat")
    seat = page.seat(SEAT)
    print(seat["phase"], seat["phase_reason"], seat["output"], seat["alarms"])
    for name in ("rearm", "start", "screened"):
        print(name, page.ask(type="command", seat=SEAT, name=name))
        time.sleep(1)
        seat = page.seat(SEAT)
        print(seat["phase"], seat["phase_reason"], seat["output"], seat["alarms"])
    for _ in range(60):
        time.sleep(1)
        seat = page.seat(SEAT)
        print(
            seat["phase"],
            seat["block"],
            seat["phase_reason"],
            seat["output"]["confirmed_ma"],
            seat["output"]["mode"],
            seat["output"]["reason"],
        )
        if seat["decision"]:
            print(seat["decision"])
