"""MQTT of the whole running service against a real mosquitto: state, biomarkers, decisions, events, STOP, a broker killed and back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import paho.mqtt.client as paho
import pytest
from broker import Broker, needs_broker
from paho.mqtt.enums import CallbackAPIVersion
from running_service import (
    ROOT,
    SHORT_BLOCKS,
    RunningService,
    running,
    seat_config,
    sign_prescriptions,
    until,
    write_config,
)

TOPIC = "eegloop/v1/ward/bed/seat1/"
SCHEMAS = {
    path.stem: jsonschema.Draft202012Validator(json.loads(path.read_text()), format_checker=jsonschema.FormatChecker())
    for path in (ROOT / "daemon/web/schemas").glob("*.json")
}
pytestmark = needs_broker


class Listener:
    """A client that keeps every message under eegloop/."""

    def __init__(self, port: int) -> None:
        self.bodies: dict[str, list[Any]] = {}
        self.retained: list[str] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_message = self._message
        self.client.on_connect = lambda *_: self.client.subscribe("eegloop/#", qos=1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _message(self, _client: Any, _data: Any, message: Any) -> None:
        kind = message.topic.rpartition("/")[2]
        assert message.topic.startswith(TOPIC)
        if message.retain:
            self.retained.append(message.topic)
        self.bodies.setdefault(kind, []).append(json.loads(message.payload))

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("mqtt")
    data = folder / "data"
    seats = [seat_config("seat1", {"kind": "lsl", "name": "mqtt-seat1", "type": "EEG"}, label="Ada Lovelace", person="P017")]
    sign_prescriptions(data, seats, **SHORT_BLOCKS)
    mqtt = {"broker": f"mqtt://127.0.0.1:{broker.port}", "site": "ward", "device": "bed"}
    with running("demo", write_config(folder / "config.yaml", seats, mqtt=mqtt), data) as service:
        yield service


@pytest.fixture(scope="module")
def listener(service: RunningService, broker: Broker) -> Iterator[Listener]:
    until(lambda: service.health()["mqtt"] == "connected", 20, "mqtt connected")
    listener = Listener(broker.port)
    yield listener
    listener.end()


def newest(listener: Listener, kind: str) -> dict[str, Any]:
    found = listener.bodies.get(kind) or [{}]
    return dict(found[-1])


@pytest.mark.timeout(180)
def test_a_session_is_told_in_full(service: RunningService, listener: Listener) -> None:
    """Until the first decisions: every body fits its schema, numbers are the recorded ones, nobody is named."""
    until(lambda: len(listener.bodies.get("decision", [])) >= 3, 90, "three decisions")
    for kind in ("state", "biomarkers", "decision", "event"):
        assert listener.bodies.get(kind), kind
    for kind, bodies in listener.bodies.items():
        for body in bodies:
            SCHEMAS[kind].validate(body)
            assert "Ada" not in json.dumps(body) and "P017" not in json.dumps(body)
    recorded = service.recorded("P017")
    told = listener.bodies["decision"][0]["sentence"]
    assert told in [row["sentence"] for row in recorded.table("decisions.tsv")]
    columns = recorded.columns()
    numbers = [
        (columns.index((entry["name"], entry["channel"])), entry["value"])
        for body in list(listener.bodies["biomarkers"])  # more come all the time
        for entry in body["biomarkers"]
        if entry["value"] is not None
    ]

    def all_recorded() -> bool:
        values = recorded.hops()["values"]
        return all(np.isclose(values[:, column], value, rtol=1e-9, atol=0).any() for column, value in numbers)

    assert len(numbers) > 100
    until(all_recorded, 5, "the last number told to be on the disk")
    state = newest(listener, "state")
    assert state["online"] is True and state["phase"] == "on"


def test_state_is_retained(service: RunningService, broker: Broker, listener: Listener) -> None:
    late = Listener(broker.port)
    try:
        until(lambda: late.retained, 5, "a retained message")
        assert set(late.retained) == {TOPIC + "state"}
    finally:
        late.end()


def test_stop_by_command_stops_the_stimulator_itself(service: RunningService, listener: Listener) -> None:
    until(lambda: (newest(listener, "state").get("output", {}).get("confirmed_ma") or 0) > 0.3, 60, "it stimulates")
    listener.client.publish(TOPIC + "command", json.dumps({"command": "start"}), qos=1)
    until(lambda: newest(listener, "reply").get("result") == "refused", 5, "anything but stop is refused")
    listener.client.publish(TOPIC + "command", json.dumps({"command": "stop", "id": "7"}), qos=1)
    until(lambda: newest(listener, "reply").get("id") == "7", 5, "the reply")
    stopped_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    reply = newest(listener, "reply")
    assert (reply["result"], reply["confirmed"]) == ("stopped", True)
    SCHEMAS["reply"].validate(reply)

    def output_since() -> np.ndarray:
        rows = np.fromfile(service.layout.seat("seat1") / "stimulator" / "output.bin", [("boot_ns", "<i8"), ("ma", "<f8")])
        return rows["ma"][rows["boot_ns"] * 1e-9 > stopped_s]

    until(lambda: len(output_since()) >= 10, 5, "a second of output")
    assert (output_since() == 0).all()
    until(lambda: newest(listener, "state")["phase"] == "stopped", 5, "the state says stopped")


def test_a_broker_killed_and_back(service: RunningService, broker: Broker, listener: Listener) -> None:
    """The loop does not notice; the state comes again by itself."""
    before = service.recorded("P017").samples().shape[0]
    broker.kill()
    until(lambda: service.health()["mqtt"] == "connecting", 15, "noticed")
    until(lambda: service.recorded("P017").samples().shape[0] > before + 500, 20, "two seconds of samples meanwhile")
    broker.start()
    until(lambda: service.health()["mqtt"] == "connected", 20, "connected again")
    back = Listener(broker.port)
    try:
        until(lambda: back.bodies.get("state") and back.bodies["state"][-1]["online"], 5, "state again")
    finally:
        back.end()
    gaps = [row for row in service.recorded("P017").table("events.tsv") if row["trial_type"] == "BAD_gap"]
    assert gaps == []


def test_the_will_says_offline(service: RunningService, broker: Broker) -> None:
    """Last: kill -9 of the web process, whose will the broker then tells; it is started again and says online."""
    watcher = Listener(broker.port)
    try:
        until(lambda: watcher.bodies.get("state") and watcher.bodies["state"][-1]["online"], 10, "online")
        service.child("daemon.web").kill()
        until(lambda: any(not body["online"] for body in watcher.bodies["state"]), 10, "the will")
        until(lambda: watcher.bodies["state"][-1]["online"], 30, "online again")
    finally:
        watcher.end()
