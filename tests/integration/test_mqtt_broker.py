"""MQTT against a real mosquitto: topics, schemas, last will, STOP; the broker killed, back, frozen and never there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import jsonschema
import pytest

from daemon.mqtt import MqttLink
from eegloop.broker import tls_context
from eegloop.layout import Layout
from eegloop.mqtt import MqttSettings
from tests.broker import Authority, Broker, needs_broker
from tests.integration.web_rig import (
    ROOT,
    Process,
    StopSocket,
    WebProcess,
    data_directory,
    demo_tokens,
    health,
    next_of,
    page,
    start_daemon,
    until,
)

SCHEMAS = {
    path.stem: jsonschema.Draft202012Validator(json.loads(path.read_text()), format_checker=jsonschema.FormatChecker())
    for path in (ROOT / "daemon/web/schemas").glob("*.json")
}
TOPIC = "eegloop/v1/ward-3/bed_7/seat1/"
OTHER = "eegloop/v1/ward-3/bed_8/seat1/"

pytestmark = needs_broker


@contextlib.asynccontextmanager
async def client_of(broker: Broker) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        yield client


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.end()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    with data_directory(tmp_path_factory.mktemp("mqtt")) as layout:
        yield layout


@pytest.fixture(scope="module")
def daemon(layout: Layout) -> Iterator[Process]:
    process = start_daemon(layout.data)
    yield process
    process.end()


def settings(port: int, device: str = "bed_7") -> dict[str, Any]:
    """Each web process of its own a device of its own: two with one client id push each other out."""
    return {"mqtt": {"broker": f"mqtt://127.0.0.1:{port}", "site": "ward-3", "device": device}}


def start_web(layout: Layout, broker: Broker, device: str = "bed_7") -> WebProcess:
    process = WebProcess(layout.data, settings=settings(broker.port, device))
    until(lambda: health(process)["mqtt"] == "connected", 10, "mqtt connected")
    return process


@pytest.fixture(scope="module")
def web(layout: Layout, daemon: Process, broker: Broker) -> Iterator[WebProcess]:
    process = start_web(layout, broker)
    yield process
    process.end()


async def first(
    client: aiomqtt.Client, name: str, true: Callable[[Any], bool] = lambda body: True, timeout_s: float = 5.0
) -> Any:
    """The next message on the topic that is as wanted; every message on the way must fit its schema."""
    async with asyncio.timeout(timeout_s):
        async for message in client.messages:
            kind = str(message.topic).rpartition("/")[2]
            assert isinstance(message.payload, bytes)
            assert b"Ada" not in message.payload and b"label" not in message.payload
            body = json.loads(message.payload)
            if kind != "command":
                SCHEMAS[kind].validate(body)
            if kind == name and true(body):
                return body
    raise AssertionError(f"no {name}")


async def test_every_topic_fits_its_schema_and_names_no_person(web: WebProcess, broker: Broker) -> None:
    async with client_of(broker) as client:
        await client.subscribe(TOPIC + "state", qos=1)
        await first(client, "state")  # the broker has one now
    async with client_of(broker) as client:
        await client.subscribe(TOPIC + "state", qos=1)
        async with asyncio.timeout(5):
            message = await anext(aiter(client.messages))
        assert message.retain
        assert 0 < message.properties.MessageExpiryInterval <= 10  # type: ignore[union-attr]
        await client.subscribe("eegloop/#", qos=1)
        state = await first(client, "state", lambda body: body["online"])
        assert state["online"] is True and state["phase"] == "on" and state["output"]["confirmed_ma"] == 0.99
        again = await first(client, "state", lambda body: body["sequence"] > state["sequence"])
        assert again["time"] > state["time"]
        assert (await first(client, "biomarkers"))["biomarkers"][0]["value"] == 12.5
        assert (await first(client, "decision"))["sentence"] == "Alpha above target: less."
        assert (await first(client, "event"))["name"] == "marker"
        assert (await first(client, "alarm"))["priority"] == "medium"


async def test_a_frozen_daemon_is_told_as_lost(web: WebProcess, broker: Broker, daemon: Process) -> None:
    async with client_of(broker) as client:
        await client.subscribe(TOPIC + "state", qos=1)
        await first(client, "state", lambda body: body["stream"]["status"] == "live")
        daemon.kill(signal.SIGSTOP)
        lost = await first(client, "state", lambda body: body["online"] and body["stream"]["status"] == "lost")
        assert lost["output"]["confirmed_ma"] is None and lost["phase"] == "unknown"
        daemon.kill(signal.SIGCONT)
        await first(client, "state", lambda body: body["online"] and body["stream"]["status"] == "live")


async def test_stop_is_obeyed_always_and_everything_else_refused(web: WebProcess, broker: Broker, layout: Layout) -> None:
    stops = [
        '{"command":"stop","id":"1"}',
        '{"command":"stop","id":"1"}',
        "stop",
        " STOP\n",
        '"stop"',
        '{"command":"Stop","expires":1,"sequence":-5}',
    ]
    others = [
        '{"command":"start","id":"9"}',
        '{"command":"set","amplitude_ma":4}',
        "start",
        "",
        "{}",
        "[]",
        "null",
        '{"command":["stop"]}',
        '{"command":"unstop"}',
        "\x00",
        '{"id":1}',
    ]
    async with StopSocket(layout.stop_socket("seat1")) as interlock, client_of(broker) as client:
        await client.subscribe(TOPIC + "reply", qos=1)
        for number, payload in enumerate(stops):
            await client.publish(TOPIC + "command", payload, qos=number % 3)
            reply = await first(client, "reply")
            assert (reply["command"], reply["result"], reply["confirmed"]) == ("stop", "stopped", True)
            assert reply["id"] == ("1" if number < 2 else None)
        assert len(interlock.reasons) == len(stops)
        for payload in [*others, "x" * 5000]:
            await client.publish(TOPIC + "command", payload, qos=1)
            reply = await first(client, "reply")
            assert reply["result"] == "refused" and reply["reason"]
        assert len(interlock.reasons) == len(stops)
        await client.publish("eegloop/v1/ward-3/bed_7/seat2/command", "stop", qos=1)  # another seat's stop is not ours
        interlock.behavior = "hang up"
        await client.publish(TOPIC + "command", "stop", qos=1)
        reply = await first(client, "reply")
        assert (reply["result"], reply["confirmed"]) == ("unknown", None) and "headset" in reply["advice"]
        assert len(interlock.reasons) == len(stops) + 1


async def test_a_broker_that_is_killed_and_back_or_frozen_disturbs_no_page(web: WebProcess, broker: Broker) -> None:
    async with page(web, demo_tokens(web)["token"]) as socket:
        gaps: list[float] = []

        async def watch() -> None:
            last: float | None = None
            while True:
                await next_of(socket, "chunk")
                now = time.monotonic()
                if last is not None:
                    gaps.append(now - last)
                last = now

        watching = asyncio.create_task(watch())
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(until, lambda: health(web)["mqtt"] == "connecting", 10, "noticed")
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(until, lambda: health(web)["mqtt"] == "connected", 10, "connected again")
        async with client_of(broker) as client:
            await client.subscribe(TOPIC + "+", qos=1)
            await first(client, "decision")
        broker.kill(signal.SIGSTOP)  # a broker that takes nothing: publishing times out, nothing else does
        await asyncio.to_thread(until, lambda: health(web)["mqtt"] == "connecting", 15, "frozen broker noticed")
        broker.kill(signal.SIGCONT)
        await asyncio.to_thread(until, lambda: health(web)["mqtt"] == "connected", 15, "connected a third time")
        watching.cancel()
        assert len(gaps) > 100
        assert max(gaps) < 1.0
    assert web.errors().count("trying again") < 10  # a change of state is said once


def test_an_unreachable_broker_delays_nothing(layout: Layout, daemon: Process) -> None:
    """A port whose connections are never accepted: page and end are as quick as ever."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(deaf.getsockname())
        web = WebProcess(layout.data, settings=settings(deaf.getsockname()[1]))
        try:
            until(lambda: health(web)["status"] == "ok", 5, "health ok")
            assert health(web)["mqtt"] == "connecting"
            started = time.monotonic()
            web.kill(signal.SIGTERM)
            assert web.popen.wait(5) == 0
            assert time.monotonic() - started < 1.0
        finally:
            web.end()
        for sock in fill:
            sock.close()


async def test_state_is_retained_and_both_ends_say_offline(layout: Layout, daemon: Process, broker: Broker) -> None:
    """Killed: the last will says it. Ended in order (within a second): the process says it itself."""
    offline = {"format": "eegloop-mqtt-1", "seat": "seat1", "online": False}
    for end in (signal.SIGKILL, signal.SIGTERM):
        web = await asyncio.to_thread(start_web, layout, broker, "bed_8")
        try:
            async with client_of(broker) as client:
                await client.subscribe(OTHER + "state", qos=1)
                await first(client, "state", lambda body: body["online"])
                started = time.monotonic()
                web.kill(end)
                assert await first(client, "state", lambda body: not body["online"]) == offline
                await asyncio.to_thread(web.popen.wait, 5)
                assert time.monotonic() - started < 1.0
        finally:
            web.end()
        async with client_of(broker) as late:
            await late.subscribe(OTHER + "state", qos=1)
            assert await first(late, "state") == offline


async def test_a_retained_stop_stops_when_sent_but_not_again_at_every_reconnect(
    broker: Broker, layout: Layout, daemon: Process
) -> None:
    async with StopSocket(layout.stop_socket("seat1")) as interlock, client_of(broker) as client:
        await client.publish(OTHER + "command", '{"command":"stop","id":"old"}', qos=1, retain=True)
        await client.subscribe(OTHER + "reply", qos=1)
        web = await asyncio.to_thread(WebProcess, layout.data, 0, settings(broker.port, "bed_8"))
        try:
            reply = await first(client, "reply", timeout_s=10)
            assert (reply["id"], reply["result"]) == ("old", "refused") and "retain" in reply["reason"]
            assert interlock.reasons == []
            await client.publish(OTHER + "command", '{"command":"stop","id":"new"}', qos=1, retain=True)
            reply = await first(client, "reply")
            assert (reply["id"], reply["result"]) == ("new", "stopped")
        finally:
            web.end()


async def test_over_tls_with_a_clients_certificate(
    layout: Layout, daemon: Process, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real handshake both ways: state arrives and STOP is obeyed; another authority, or no certificate, gets nowhere."""
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    broker = Broker(tmp_path, authority)
    cert, key = authority.issue("eegloop")
    strange_cert, strange_key = stranger.issue("eegloop")
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("geheim")
    good = {"ca_file": str(authority.file), "client_cert_file": str(cert), "client_key_file": str(key)}
    refused = {
        "no certificate": {"ca_file": str(authority.file)},
        "a certificate of another": {**good, "client_cert_file": str(strange_cert), "client_key_file": str(strange_key)},
        "a broker of another": {**good, "ca_file": str(stranger.file)},
    }
    section = {**settings(0, "bed_9")["mqtt"], "broker": broker.tls_address, "password_file": str(password)}
    web = WebProcess(layout.data, settings={"mqtt": {**section, **good}})
    try:
        until(lambda: health(web)["mqtt"] == "connected", 10, "mqtt connected over TLS")
        async with client_of(broker) as client:
            await client.subscribe("eegloop/v1/ward-3/bed_9/seat1/#", qos=1)
            assert (await first(client, "state"))["online"] is True
            await client.publish("eegloop/v1/ward-3/bed_9/seat1/command", json.dumps({"command": "stop"}), qos=1)
            assert (await first(client, "reply"))["command"] == "stop"
    finally:
        web.end()
    caplog.set_level("WARNING", "eegloop.mqtt")
    monkeypatch.setattr("daemon.mqtt.OPERATION_TIMEOUT_S", 1.0)  # a broker that lets nobody in does not say why: we wait for it
    try:
        for who, files in refused.items():
            caplog.clear()
            link = MqttLink(MqttSettings(**section, **files), nobody_stops)
            link.take({"type": "seats", "seats": [{"seat": "seat1"}]})
            running = asyncio.create_task(link.run())
            async with asyncio.timeout(10):
                while "trying again" not in caplog.text:
                    await asyncio.sleep(0.01)
                    assert link.status == "connecting", who
            running.cancel()
            assert "geheim" not in caplog.text
    finally:
        broker.end()


async def nobody_stops(seat: object, reason: str) -> dict[str, Any]:
    raise AssertionError("nobody asked for STOP")


@pytest.mark.parametrize(
    ("name", "said"), [("ca_file", "ca_file"), ("client_cert_file", "client_cert_file"), ("client_key_file", "chmod 600")]
)
def test_certificates_that_cannot_be_used_are_named(tmp_path: Path, name: str, said: str) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("eegloop", mode=0o644 if name == "client_key_file" else 0o600)
    files = {"ca_file": str(authority.file), "client_cert_file": str(cert), "client_key_file": str(key)}
    if name != "client_key_file":
        files[name] = str(tmp_path / "nowhere.pem")
    with pytest.raises(ValueError, match=said):
        tls_context("mqtts://127.0.0.1", files["ca_file"], files["client_cert_file"], files["client_key_file"])
