"""MQTT 5: what the pages see, for other machines, and STOP from them. In the web process; off until config.yaml names a broker.

One connection a seat, because a connection has one last will and every seat's retained state needs its own.
Message bodies are described by `daemon/web/schemas/*.json`; they carry the seat's id, never its label or person.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eegloop.broker import PLAIN_PORT, TLS_PORT, address, in_the_clear, secret, tls_context
from eegloop.errors import ConfigError
from eegloop.mqtt import MqttSettings

if TYPE_CHECKING:
    import aiomqtt

FORMAT = "eegloop-mqtt-1"
STATE_EVERY_S = 1.0
STATE_EXPIRES_S = 10  # a broker forgets a retained state that nobody renews
MAX_QUEUE = 200
MAX_PAYLOAD_BYTES = 4096
OPERATION_TIMEOUT_S = 5.0
KEEPALIVE_S = 5
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.5, 30.0
STATE_FIELDS = (
    "phase", "block", "phase_reason", "phase_left_s", "demo", "stream", "quality", "target", "output", "recording", "alarms",
)  # fmt: skip
FIELDS = {
    "decision": ("t_s", "blinded", "sentence", "proposed_ma", "granted_ma", "limits", "hold"),
    "event": ("t_s", "name", "text"),
    "alarm": ("t_s", "id", "priority", "text", "advice", "age_s", "active"),
}

logger = logging.getLogger("eegloop.mqtt")

Stop = Callable[[object, str], Awaitable[dict[str, Any]]]


class MqttLink:
    """All seats' connections to the broker; `take` is a listener of `Feed`, `run` a task of the web process.

    Parameters
    ----------
    settings : MqttSettings
    stop : callable
        `StopLine.stop(seat, reason)`.
    """

    def __init__(self, settings: MqttSettings, stop: Stop) -> None:
        self._settings = settings
        self._stop = stop
        self._seats: dict[str, SeatLink] = {}
        self._changed = asyncio.Event()

    @property
    def status(self) -> str:
        """ "off", "connecting", "connected" (every seat) or "failed" (cannot work as configured)."""
        if self._settings.broker is None:
            return "off"
        states = {seat.status for seat in self._seats.values()}
        return "failed" if "failed" in states else "connected" if states == {"connected"} else "connecting"

    def take(self, body: dict[str, Any]) -> None:
        """A state, event or seats object of the feed; never blocks."""
        if body.get("type") == "seats":
            for seat in body["seats"]:
                if seat["seat"] not in self._seats:
                    self._seats[seat["seat"]] = SeatLink(self._settings, seat["seat"], self._stop)
                    self._changed.set()
        elif body.get("type") == "state":
            for state in body["seats"]:
                if state["seat"] in self._seats:
                    self._seats[state["seat"]].show(state)
        elif body.get("type") in FIELDS and body.get("seat") in self._seats:
            self._seats[body["seat"]].put(body["type"], body)

    async def run(self) -> None:
        """Keep one connection a seat until cancelled; returns at once when MQTT is off."""
        if self._settings.broker is None:
            return
        running: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                for name, seat in self._seats.items():
                    if name not in running:
                        running.add(name)
                        group.create_task(seat.run(), name=f"mqtt {name}")
                self._changed.clear()
                await self._changed.wait()


class SeatLink:
    """One seat's connection: newest state at 1 Hz, events in order (at most 200 wait, the oldest go), commands in."""

    def __init__(self, settings: MqttSettings, seat: str, stop: Stop) -> None:
        self._settings = settings
        self._seat = seat
        self._stop = stop
        self._state: dict[str, Any] | None = None
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._dropped = 0
        self._sequence = 0
        self._awake = asyncio.Event()
        self.status = "connecting"

    def show(self, state: dict[str, Any]) -> None:
        self._state = state

    def put(self, name: str, body: dict[str, Any]) -> None:
        """Queue an event for the topic `name`."""
        if len(self._queue) >= MAX_QUEUE:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append((name, body))
        self._awake.set()

    async def run(self) -> None:
        """Connect, again and again with a growing pause, until cancelled."""
        import aiomqtt  # 0.2 s: only those who use MQTT pay for it

        pause_s = RECONNECT_FIRST_S
        told = ""
        while True:
            try:
                async with self._client() as client:
                    logger.warning("mqtt %s: connected", self._seat)
                    self.status, told, pause_s = "connected", "", RECONNECT_FIRST_S
                    await self._converse(client)
            except ConfigError as error:
                self.status = "failed"
                logger.error("mqtt: %s; MQTT stays off", error)
                return
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                self.status = "connecting"
                if str(error) != told:  # a state change is said once, not at every try
                    told = str(error)
                    logger.warning("mqtt %s: %s; trying again with growing pauses", self._seat, told)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s = min(2 * pause_s, RECONNECT_LAST_S)

    def _client(self) -> aiomqtt.Client:
        import aiomqtt

        settings = self._settings
        parts = address(settings.broker or "")
        try:
            tls = tls_context(settings.broker or "", settings.ca_file, settings.client_cert_file, settings.client_key_file)
        except ValueError as error:
            raise ConfigError(f"mqtt.{error}") from None
        offline = {"format": FORMAT, "seat": self._seat, "online": False}
        return aiomqtt.Client(
            parts.hostname or "",
            parts.port or (PLAIN_PORT if tls is None else TLS_PORT),
            username=parts.username,
            password=_password(settings),
            identifier=f"eegloop-{settings.site}-{settings.device}-{self._seat}",
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(settings.topic(self._seat, "state"), json.dumps(offline), qos=1, retain=True),
            keepalive=KEEPALIVE_S,
            timeout=OPERATION_TIMEOUT_S,
            clean_start=True,
            max_queued_incoming_messages=100,
            max_queued_outgoing_messages=100,
            tls_context=tls,
        )

    async def _converse(self, client: aiomqtt.Client) -> None:
        import aiomqtt

        await client.subscribe(self._settings.topic(self._seat, "command"), qos=1)
        replies: asyncio.Queue[tuple[dict[str, Any], Any]] = asyncio.Queue(MAX_QUEUE)
        tasks = {
            asyncio.create_task(self._publish(client), name="mqtt out"),
            asyncio.create_task(self._listen(client, replies), name="mqtt in"),
            asyncio.create_task(self._reply(client, replies), name="mqtt replies"),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(aiomqtt.MqttError, OSError):  # an orderly end says so itself: the will is not sent then
                await client.publish(self._settings.topic(self._seat, "state"), self._offline(), qos=1, retain=True, timeout=0.3)

    async def _publish(self, client: aiomqtt.Client) -> None:
        """One message after the other: what a slow broker does not take waits in our queue, not in the library's."""
        loop = asyncio.get_running_loop()
        next_state_s = loop.time()
        while True:
            if self._state is not None and loop.time() >= next_state_s:
                next_state_s = loop.time() + STATE_EVERY_S
                await self._publish_state(client, self._state)
            elif self._queue:
                name, body = self._queue.popleft()
                fields = {key: body[key] for key in FIELDS[name] if key in body}
                await client.publish(self._settings.topic(self._seat, name), self._body(fields), qos=1)
            else:
                self._awake.clear()
                wait_s = STATE_EVERY_S / 4 if self._state is None else max(0.0, next_state_s - loop.time())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._awake.wait()

    async def _publish_state(self, client: aiomqtt.Client, state: dict[str, Any]) -> None:
        summary = {key: state[key] for key in STATE_FIELDS if key in state}
        if isinstance(summary.get("target"), dict):
            summary["target"] = {key: value for key, value in summary["target"].items() if key != "history"}
        body = self._body({"online": True, "dropped": self._dropped, **summary})
        fresh = _properties(MessageExpiryInterval=STATE_EXPIRES_S)
        await client.publish(self._settings.topic(self._seat, "state"), body, qos=1, retain=True, properties=fresh)
        rows = {"biomarkers": state.get("biomarkers", [])}
        await client.publish(self._settings.topic(self._seat, "biomarkers"), self._body(rows), qos=0)

    async def _listen(self, client: aiomqtt.Client, replies: asyncio.Queue[tuple[dict[str, Any], Any]]) -> None:
        """STOP is obeyed at once, beside whatever else goes on; everything else is refused in this version."""
        stopping: set[asyncio.Task[None]] = set()
        async for message in client.messages:
            number, name, refusal = _understand(message.payload, bool(message.retain))
            correlation = getattr(message.properties, "CorrelationData", None)
            if refusal:
                logger.warning("mqtt %s: command refused: %s", self._seat, refusal)
                _offer(replies, {"id": number, "command": name, "result": "refused", "reason": refusal}, correlation)
                continue
            task = asyncio.create_task(self._obey_stop(number, replies, correlation), name="mqtt stop")
            stopping.add(task)
            task.add_done_callback(stopping.discard)

    async def _obey_stop(self, number: str | None, replies: asyncio.Queue[tuple[dict[str, Any], Any]], correlation: Any) -> None:
        result = await self._stop(self._seat, "STOP over MQTT")
        told = {key: result[key] for key in ("confirmed", "output_ma", "after_ms", "advice", "count")}
        outcome = "stopped" if result["confirmed"] is True else "unknown"
        _offer(replies, {"id": number, "command": "stop", "result": outcome, "reason": result["error"], **told}, correlation)

    async def _reply(self, client: aiomqtt.Client, replies: asyncio.Queue[tuple[dict[str, Any], Any]]) -> None:
        while True:
            body, correlation = await replies.get()
            properties = _properties() if correlation is None else _properties(CorrelationData=correlation)
            await client.publish(self._settings.topic(self._seat, "reply"), self._body(body), qos=1, properties=properties)

    def _body(self, fields: dict[str, Any]) -> str:
        self._sequence += 1
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"format": FORMAT, "seat": self._seat, "sequence": self._sequence, "time": time}
        return json.dumps({**head, **fields}, separators=(",", ":"))

    def _offline(self) -> str:
        return json.dumps({"format": FORMAT, "seat": self._seat, "online": False})


def _understand(payload: object, retained: bool) -> tuple[str | None, str, str]:
    """(id, command, why it is refused or ""). The bare word `stop` counts too: a person may have to type it."""
    if not isinstance(payload, (bytes, bytearray)) or len(payload) > MAX_PAYLOAD_BYTES:
        return None, "", f"a command is text of at most {MAX_PAYLOAD_BYTES} bytes"
    text = payload.decode("utf-8", errors="replace").strip()
    number: str | None = None
    if text.lower() in ("stop", '"stop"'):
        name = "stop"
    else:
        try:
            body = json.loads(text)
            name = body["command"]
            number = str(body["id"])[:80] if body.get("id") is not None else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None, "", 'not understood; a command is {"command": "stop", "id": "..."}'
    if not isinstance(name, str):
        return number, "", "command must be a text"
    if retained:
        return number, name[:40], "retained commands are refused: this one may be from any time; send it without the retain flag"
    if name.strip().lower() != "stop":
        return number, name[:40], "only stop is accepted over MQTT in this version; no message starts or raises"
    return number, "stop", ""


def _properties(**values: Any) -> Any:
    """MQTT 5 properties of a message, by their names in the standard."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _offer(replies: asyncio.Queue[tuple[dict[str, Any], Any]], body: dict[str, Any], correlation: Any) -> None:
    with contextlib.suppress(asyncio.QueueFull):  # whoever floods commands misses replies, nothing else
        replies.put_nowait((body, correlation))


def _password(settings: MqttSettings) -> str | None:
    """The broker's password; `MqttSettings` has refused to send one in the clear, and it is looked at once more here."""
    if settings.password_file is None:
        return None
    why = in_the_clear(settings.broker or "")
    if why:
        raise ConfigError(f"mqtt.password_file: {why}")
    try:
        return secret(settings.password_file, "password_file").read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError("mqtt.password_file: cannot be read; name a text file of yours with mode 0600") from None
    except ValueError:
        raise ConfigError("mqtt.password_file: is open to others; run chmod 600 on it") from None
    except OSError:
        raise ConfigError("mqtt.password_file: cannot be read; name a text file of yours with mode 0600") from None
