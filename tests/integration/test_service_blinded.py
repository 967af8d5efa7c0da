"""A blinded trial through the running service: one seat in each arm, and nothing on page, HTTP, log or command lines says which is which."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from daemon.audit import read_chain
from daemon.verify import verify_dataset
from eegloop.layout import Layout
from tests.blinded_trial import TRIAL, Trial, pair
from tests.running_service import ROOT, PageClient, RunningService, seat_config, until, write_config

ARMS = ("active", "sham")
SEATS = ("seat1", "seat2")


def delivered(layout: Layout, seat: str) -> list[float]:
    """Every output sample in the stimulator's own record, mA."""
    data = (layout.seat(seat) / "stimulator" / "output.bin").read_bytes()
    return [ma for _, ma in struct.iter_unpack("<qd", data[: len(data) // 16 * 16])]


def words_of_arms(layout: Layout) -> list[str]:
    """What tells an arm: its name, what the prescriptions are called, and the digests of their files."""
    files = [path.stem for path in (layout.store / "trials").rglob("*.json")]
    return ["sham", '"arm":', "active arm", "rx-one", "rx-two", "delivers", *files]


@pytest.mark.timeout(150)
def test_nobody_who_looks_can_tell_the_arms_apart(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    of: dict[str, str] = {}
    while len(of) < 2:  # both arms come within a block
        person = f"p{len(trial.lines()):03}"
        trial.allocate(person, trial.files(person, *pair(person, baseline_ms=1_000, start_ua=100, stimulate_ms=600_000)))
        of.setdefault(trial.arm(person), person)
    source = yaml.safe_load((ROOT / "config.yaml").read_text())["seats"][0]["source"]
    persons = dict(zip(SEATS, (of[arm] for arm in ARMS), strict=True))
    seats = [
        seat_config(name, {**source, "name": f"{tmp_path.name}-{name}"}, person=person, trial=TRIAL, label="Seat")
        for name, person in persons.items()
    ]
    service = RunningService("demo", write_config(tmp_path / "config.yaml", seats), trial.layout.data)
    try:
        page = service.wait_live().page()
        until(lambda: all(page.seat(name).get("phase") == "on" for name in SEATS), 60, "both sessions run")
        until(lambda: delivered(trial.layout, "seat1")[-1] > 0.099, 20, "the active arm is at its level")
        until(lambda: all(shown(page, name)["program_ma"] == 0.1 for name in SEATS), 5, "the page shows the program's level")
        active, sham = (page.seat(name) for name in SEATS)
        assert active.keys() == sham.keys() and active["output"].keys() == sham["output"].keys()
        assert {**shown(page, "seat1"), "age_s": 0} == {**shown(page, "seat2"), "age_s": 0}
        assert shown(page, "seat2")["confirmed_ma"] is None and shown(page, "seat2")["mode"] == "armed"
        no_answer_tells(service, page, trial.layout)
        assert command_line(service, *SEATS[:1]) == command_line(service, *SEATS[1:])
        for name in SEATS:
            result = page.ask(type="stop", seat=name)
            assert result["confirmed"] is True and result["output_ma"] == 0.0
        until(lambda: all(page.seat(name)["phase"] == "stopped" for name in SEATS), 5, "both seats are stopped")
        until(lambda: all(shown(page, name)["zero_confirmed"] for name in SEATS), 5, "both say zero")
        assert {**shown(page, "seat1"), "age_s": 0, "reason": ""} == {**shown(page, "seat2"), "age_s": 0, "reason": ""}
        page.close()
    finally:
        service.end()
    assert max(delivered(trial.layout, "seat1")) > 0.099
    assert set(delivered(trial.layout, "seat2")) == {0.0}
    told = [line["data"] for line in service.audit() if line["event"] == "command"]
    commands = {
        name: [(d["kind"], d["block"], d["amplitude_ma"], d["blinded"]) for d in told if d["seat"] == name] for name in SEATS
    }
    assert commands["seat1"] == commands["seat2"] and ("set", "stimulate", 0.1, TRIAL) in commands["seat2"]
    for text in (service.log(), service.output(), (trial.layout.audit / "daemon.jsonl").read_text()):
        assert not [word for word in words_of_arms(trial.layout) if word in text.lower()]
    for person in persons.values():  # the recording's settings are the program's in both arms, and say that it is blinded
        setup = json.loads(service.recorded(person).derived("setup.json").read_text())
        assert setup["blinded"] is True and '"controller":"dual_threshold"' in setup["prescription"]
    true_set = [
        line["data"]["amplitude_ma"]
        for line in read_chain(trial.layout.seat("seat2") / "interlock.log")
        if line["event"] == "set"
    ]
    assert not any(true_set)  # the interlock's own record has the truth
    assert not [f for f in verify_dataset(trial.layout.data, tmp_path / "state") if f.level == "error"]
    anchored = {line["data"]["chain"] for line in service.audit() if line["event"] == "anchor"}
    assert "allocations" in anchored


def shown(page: PageClient, name: str) -> dict[str, Any]:
    return dict(page.seat(name)["output"])


def no_answer_tells(service: RunningService, page: PageClient, layout: Layout) -> None:
    """Every route that can be read, signed in and not, and paths that lead at the store."""
    signed_in = {"authorization": f"Bearer {page.tokens['token']}", "origin": service.url}
    routes = httpx.get(f"{service.url}/api/v1/openapi.json", headers=signed_in, timeout=5)
    assert routes.status_code == 200
    paths = [re.sub(r"\{\w+\}", "seat2", path) for path, methods in routes.json()["paths"].items() if "get" in methods]
    assert "/api/v1/state" in paths
    store = [
        "/store/allocations.jsonl",
        "/static/../../store/allocations.jsonl",
        "/api/v1/allocations",
        "/%2e%2e/store/allocations.jsonl",
    ]
    secret = words_of_arms(layout)
    for path in [*paths, *store, "/", "/api/v1/openapi.json"]:
        for headers in (signed_in, {}):
            text = httpx.get(f"{service.url}{path}", headers=headers, timeout=5).text.lower()
            assert not [word for word in secret if word in text], path
    everything = json.dumps(page.texts).lower()
    assert not [word for word in secret if word in everything]


def command_line(service: RunningService, seat: str) -> list[str]:
    """The interlock's, without the seat's and the person's names."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "--prescription" in line and str(service.data) in line and line[line.index("--seat") + 1] == seat:
            return [re.sub(r"seat\d|p\d{3}", "X", part) for part in line]
    raise AssertionError(f"{seat}: no interlock runs")
