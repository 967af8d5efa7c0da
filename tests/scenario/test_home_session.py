"""A whole session at home: virtual person, real service, interlock, bridge, mosquitto and the emulated unit with its own record."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from broker import Broker, needs_broker
from home_way import UNIT
from interlock_bench import write_keys, write_start_code
from running_service import PageClient, RunningService, Script, check_parity, running, seat_config, until, write_config

from control.prescription import TrustedKey, demo_prescription, new_key, public_key, sign
from daemon.processes import NICE_INTERLOCK, prefer
from eegloop.layout import Layout

pytestmark = [needs_broker, pytest.mark.long]
SEAT = "home"
START_MA = 0.1


def sign_home_prescription(data: Path, person: str) -> Path:
    """Two hours' worth of one session: the demo's blocks, shortened, within the hard limits of a home."""
    layout = Layout(data)
    layout.create()
    now_s = time.time()
    key = new_key()
    trusted = TrustedKey(public_key(key).hex(), "demo", "prescriber", "any", int(now_s) - 60, int(now_s) + 86_400, False)
    write_keys(layout.keys, [asdict(trusted)])
    home = {"profile": "home", "device": "mqtt", "device_serial": UNIT, "authority": "lower_only", "lockout_ms": 43_200_000}
    short = {
        "amplitude_ua": 2_000,
        "ramp_ua_per_s": 66,  # a person's ramps take 30 s to the signed peak
        "start_ua": round(START_MA * 1000),
        "day_sessions": 1,
        "week_sessions": 5,
        "baseline_ms": 2_000,
        "sense_ms": 8_000,
        "stimulate_ms": 2_000,
    }
    file = data / "home.json"
    demo = demo_prescription(person, now_s)
    settings = {**demo.settings, "refractory_ms": 60_000}
    signed = replace(demo, session_ms=1_800_000, settings=settings, **home, **short)
    file.write_bytes(sign(signed, [key]))
    layout.seat(SEAT).mkdir(parents=True, mode=0o700)
    write_start_code(layout.seat(SEAT), signed, key)
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
    prefer(unit.popen.pid, NICE_INTERLOCK)  # it stands for another machine, with a processor of its own
    try:
        with running("demo", write_config(folder / "config.yaml", [seat]), data, state=folder / "state") as service:
            yield service
    finally:
        unit.end()
        broker.end()


@pytest.fixture(scope="module")
def page(service: RunningService) -> Iterator[PageClient]:
    def opened() -> PageClient | None:
        with contextlib.suppress(httpx.TransportError):  # the page's process comes last where the machine is busy
            return service.page()
        return None

    page: PageClient = until(opened, 60, "the page")
    yield page
    page.close()


def record(service: RunningService) -> np.ndarray:
    """(n,) of boot_ns and mA, every sample the unit put out."""
    return np.fromfile(service.layout.seat(SEAT) / "stimulator" / "output.bin", [("boot_ns", "<i8"), ("ma", "<f8")])


def ask(page: PageClient, name: str) -> None:
    answer = page.ask(type="command", seat=SEAT, name=name)
    assert answer["ok"] is True, answer


def in_phase(page: PageClient, *phases: str) -> bool:
    state = page.seat(SEAT)
    return bool(state) and state["phase"] in phases


def reached(page: PageClient, what: Callable[[], Any], within_s: float, name: str) -> None:
    """Waits for it; if it does not come, the failure tells where the session stands and why."""
    try:
        until(what, within_s, name)
    except AssertionError as error:
        now = page.seat(SEAT)
        why = {key: now["output"].get(key) for key in ("mode", "reason", "refusal", "confirmed_ma")}
        raise AssertionError(f"{error}: {now['phase']}, {now['block']}, {now['phase_reason']}; {why}; {now['alarms']}") from None


def test_a_session_from_screening_to_its_end(service: RunningService, page: PageClient, tmp_path: Path) -> None:
    """A person starts it; it senses in confirmed zero, decides, goes on no higher, and ends by the signed ramp."""
    until(lambda: in_phase(page, "stopped"), 30, "the seat has its headset, and is stopped")
    seat = page.seat(SEAT)
    assert seat["output"]["readback"] == "measured" and seat["output"]["zero_confirmed"]
    for name, phase in (("rearm", "off"), ("start", "screen")):
        ask(page, name)
        until(lambda phase=phase: in_phase(page, phase), 5, f"{phase} after {name}")  # type: ignore[misc]
    page.fill_in_all(SEAT)
    until(lambda: in_phase(page, "contact", "baseline"), 5, "contact after the last form")
    reached(page, lambda: in_phase(page, "on") and page.seat(SEAT)["block"] == "stimulate", 60, "stimulating")
    assert abs(page.seat(SEAT)["output"]["confirmed_ma"] - START_MA) < 0.02
    reached(page, lambda: page.seat(SEAT).get("decision"), 60, "a decision")
    decision = page.seat(SEAT)["decision"]
    assert decision["granted_ma"] <= START_MA
    reached(page, lambda: page.seat(SEAT)["block"] == "stimulate", 30, "stimulating again")
    ask(page, "end")
    until(lambda: in_phase(page, "post"), 30, "post")
    until(lambda: page.seat(SEAT)["output"]["confirmed_ma"] == 0.0, 2, "zero, as the unit measures it")

    output = record(service)
    assert output["ma"].max() <= START_MA + 1e-9 and output["ma"][-1] == 0.0
    rise = np.diff(output["ma"]) / np.maximum(np.diff(output["boot_ns"]), 1) * 1e9
    assert np.diff(output["ma"]).max() <= 0.02, f"the ramp has no step (fastest {rise.max():.3f} mA/s)"
    code = service.stop()
    assert code == 0 and "Traceback" not in service.output() + service.log()
    recorded = service.recorded(SEAT)
    rows = recorded.table("stim.tsv")
    assert {row["device"] for row in rows} == {"mqtt"}
    check_parity(recorded, tmp_path / "replay")
    done = service.run_command("verify", str(service.data))
    assert done.returncode == 0, done.stdout + done.stderr
