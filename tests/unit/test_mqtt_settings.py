"""MQTT without a broker: addresses, secrets, commands read, and a queue that cannot grow."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from daemon.mqtt import MAX_QUEUE, MqttLink, SeatLink, _understand
from eegloop.mqtt import MqttSettings


async def no_stop(seat: object, reason: str) -> dict[str, Any]:
    raise AssertionError("nobody asked for STOP")


@pytest.mark.parametrize("broker", ["mqtt://127.0.0.1:1883", "mqtts://user@broker:8883", "mqtt://[::1]", "mqtt://broker/"])
def test_addresses_that_are_taken(broker: str) -> None:
    assert MqttSettings(broker=broker).topic("seat1", "state") == "eegloop/v1/home/eegloop/seat1/state"


@pytest.mark.parametrize(
    "broker",
    [
        "",
        "broker:1883",
        "http://broker",
        "mqtt://",
        "mqtt://b:0",
        "mqtt://b:70000",
        "mqtt://b:x",
        "mqtt://u:geheim@b",
        "mqtt://b/x",
        "mqtt://b?x",
    ],
)
def test_addresses_that_are_not(broker: str) -> None:
    with pytest.raises(ValidationError):
        MqttSettings(broker=broker)


@pytest.mark.parametrize("host", ["broker.home", "192.168.1.5", "localhost.evil", "0.0.0.0", "[fe80::1]"])
def test_a_password_goes_to_no_other_machine_unencrypted(host: str) -> None:
    with pytest.raises(ValidationError, match=r"password_file\n.*would go over the network unencrypted; use mqtts://"):
        MqttSettings(broker=f"mqtt://user@{host}:1883", password_file="secret")
    assert MqttSettings(broker=f"mqtts://user@{host}:8883", password_file="secret").password_file == "secret"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_on_this_machine_it_may_be_plain(host: str) -> None:
    assert MqttSettings(broker=f"mqtt://user@{host}", password_file="secret").password_file == "secret"


def test_a_clients_certificate_is_for_tls_and_a_key_for_a_certificate() -> None:
    with pytest.raises(ValidationError, match="mqtts:// only"):
        MqttSettings(broker="mqtt://127.0.0.1", client_cert_file="own.pem")
    with pytest.raises(ValidationError, match="goes with client_cert_file"):
        MqttSettings(broker="mqtts://127.0.0.1", client_key_file="own.key")


@pytest.mark.parametrize("word", ["", "a/b", "+", "#", "a b", "x" * 65, "é"])
def test_topic_parts_that_would_open_other_topics(word: str) -> None:
    for key in ("site", "device"):
        with pytest.raises(ValidationError):
            MqttSettings.model_validate({key: word})


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [(0o644, b"geheim", "chmod 600"), (0o600, b"\xff\xfe", "cannot be read"), (None, b"", "cannot be read")],
)
async def test_an_open_or_missing_password_leaves_mqtt_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int | None, content: bytes, said: str
) -> None:
    file = tmp_path / "password"
    if mode is not None:
        file.write_bytes(content)
        file.chmod(mode)
    link = MqttLink(MqttSettings(broker="mqtt://127.0.0.1:1", password_file=str(file)), no_stop)
    link.take({"type": "seats", "seats": [{"seat": "seat1"}]})
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(10):
        while link.status != "failed":  # noqa: ASYNC110 - a status, not an event
            await asyncio.sleep(0.01)
    running.cancel()
    assert said in caplog.text and "geheim" not in caplog.text


async def test_off_means_off() -> None:
    link = MqttLink(MqttSettings(), no_stop)
    link.take({"type": "seats", "seats": [{"seat": "seat1"}]})
    async with asyncio.timeout(1):
        await link.run()
    assert link.status == "off"


async def test_a_day_without_a_broker_keeps_two_hundred_events() -> None:
    seat = SeatLink(MqttSettings(broker="mqtt://127.0.0.1:1"), "seat1", no_stop)
    for number in range(10_000):
        seat.put("event", {"name": str(number)})
    assert len(seat._queue) == MAX_QUEUE
    assert seat._dropped == 10_000 - MAX_QUEUE
    assert seat._queue[-1][1]["name"] == "9999"


@pytest.mark.parametrize(
    "payload", [b"stop", b"STOP", b' "stop" ', b'{"command":"stop"}', b'{"command":" Stop ","id":7,"expires_ns":1}']
)
def test_what_stops(payload: bytes) -> None:
    _, name, refusal = _understand(payload, retained=False)
    assert (name, refusal) == ("stop", "")
    assert "retain" in _understand(payload, retained=True)[2]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"start",
        b"stop it",
        b"[]",
        b"7",
        b"null",
        b'{"command":null}',
        b'{"command":"start"}',
        b"\xff",
        b"[" * 4000,
        b"x" * 5000,
        None,
    ],
)
def test_what_does_not(payload: object) -> None:
    assert _understand(payload, retained=False)[2]


def test_an_id_comes_back_short() -> None:
    number, _, _ = _understand(json.dumps({"command": "stop", "id": "i" * 500}).encode(), retained=False)
    assert number == "i" * 80
