"""Carries a home unit's sealed packets between the interlock's socket and an MQTT broker. A process of its own; not a plug-in.

`python -m drivers.stimulators.mqtt_bridge --socket PATH --unit SERIAL --broker mqtt://HOST:PORT`
It holds no key: it can drop or delay packets, nothing else. The socket is open only while the broker is reached, so that
an interlock that is connected has a way to the unit. When the interlock is gone, or this process is (its last will), the
unit is told to stop: that needs no seal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiomqtt

from drivers.stimulators.local_socket import TAKE_OVER_S, listening
from eegloop.broker import PLAIN_PORT, TLS_PORT, address, in_the_clear, secret, tls_context
from eegloop.single import only_one

STOP = b'{"stop":1}'
HELD = 3
ALONE_S = 60.0
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
BROKER_WITHIN_S = 2.0
KEEP_ALIVE_S = 5
LONGEST = 2048
MOST_UNSENT_S = 0.3


def topics(unit: str) -> tuple[str, str]:
    """To the unit, and from it."""
    return f"eegloop/home/v1/{unit}/to", f"eegloop/home/v1/{unit}/from"


class Bridge:
    """One unit's courier."""

    def __init__(self, path: Path, unit: str) -> None:
        self._path = path
        self._to, self._from = topics(unit)
        self._interlock: socket.socket | None = None
        self.leaving = False
        self._alone_since_s = time.monotonic()

    async def until_not_needed(self) -> None:
        """Told to leave, it stays as long as an interlock does: that one still waits for its zero. Alone, it leaves too."""
        while self._interlock is not None or not (self.leaving or time.monotonic() - self._alone_since_s > ALONE_S):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def run(self, client: aiomqtt.Client) -> None:
        """Until the broker or the interlock's socket fails; raises a group of MqttError, OSError or TimeoutError."""
        async with client, asyncio.TaskGroup() as tasks:
            await client.subscribe(self._from, qos=0)
            with listening(self._path) as listener:
                tasks.create_task(self._from_unit(client), name="from the unit")
                await self._serve(client, listener)

    async def _from_unit(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if self._interlock is not None and not message.retain and isinstance(message.payload, bytes):
                with contextlib.suppress(OSError):  # full: the next report is newer
                    self._interlock.send(message.payload[: LONGEST + 1])

    async def _serve(self, client: aiomqtt.Client, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            self._interlock = connection
            try:
                while packet := await _received(connection):
                    await client.publish(self._to, packet, qos=0, timeout=MOST_UNSENT_S)
            finally:
                self._interlock = None
                self._alone_since_s = time.monotonic()
                connection.close()
                with contextlib.suppress(aiomqtt.MqttError):  # no broker: the unit's own lease ends its output
                    await client.publish(self._to, STOP, qos=0, timeout=MOST_UNSENT_S)


async def _received(connection: socket.socket) -> bytes:
    """One packet; b"" when the interlock is gone."""
    try:
        return await asyncio.get_running_loop().sock_recv(connection, LONGEST)
    except OSError:
        return b""


def password_of(file: str, broker: str) -> str | None:
    """The broker's password, None without `file`.

    Raises
    ------
    ValueError, OSError
        If others may read the file, or it would go over the network unencrypted.
    """
    if not file:
        return None
    why = in_the_clear(broker)
    if why:
        raise ValueError(f"--broker: {why}")
    return secret(file, "--password-file").read_text(encoding="utf-8").strip()


def make_client(arguments: argparse.Namespace) -> aiomqtt.Client:
    """The client for a broker's address; raises ValueError naming what is wrong with it or its password."""
    try:
        where = address(arguments.broker)
    except ValueError as error:
        raise ValueError(f"--broker: {error}") from None
    tls = tls_context(arguments.broker, arguments.ca_file, arguments.client_cert_file, arguments.client_key_file)
    return aiomqtt.Client(
        where.hostname or "",
        where.port or (PLAIN_PORT if tls is None else TLS_PORT),
        username=arguments.username or where.username,
        password=password_of(arguments.password_file, arguments.broker),
        identifier=f"eegloop-bridge-{arguments.unit}",
        tls_context=tls,
        protocol=aiomqtt.ProtocolVersion.V5,
        will=aiomqtt.Will(topics(arguments.unit)[0], STOP, qos=0),
        keepalive=KEEP_ALIVE_S,
        timeout=BROKER_WITHIN_S,
        socket_options=[
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ],  # a packet every 40 ms must not wait for the last one's receipt
    )


async def carry(bridge: Bridge, arguments: argparse.Namespace) -> None:
    """For ever: connect, carry, and after a loss again."""
    loop = asyncio.get_running_loop()
    tries = 0
    while True:
        began_s = loop.time()
        try:
            await bridge.run(make_client(arguments))
        except* (aiomqtt.MqttError, OSError, TimeoutError) as errors:
            print(f"mqtt_bridge: {arguments.broker}: {errors.exceptions[0]}; trying again", file=sys.stderr, flush=True)
        tries = 0 if loop.time() - began_s > RETRY_S[-1] else tries + 1
        await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="mqtt_bridge", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--socket", required=True, help="where the interlock connects")
    parser.add_argument("--unit", required=True, help="the unit's serial number")
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", help="mqtt://HOST:PORT or mqtts://HOST:PORT")
    parser.add_argument("--username", default="", help="at the broker")
    parser.add_argument("--password-file", default="", help="0600 file that holds the password at the broker")
    parser.add_argument("--ca-file", default="", help="certificate authority of the broker, if not the system's")
    parser.add_argument("--client-cert-file", default="", help="this machine's own certificate, if the broker asks for one")
    parser.add_argument("--client-key-file", default="", help="0600 file of its key, if that is not in the certificate's file")
    arguments = parser.parse_args(argv)
    lock = only_one(Path(f"{arguments.socket}.lock"), TAKE_OVER_S)
    if lock < 0:
        print(f"mqtt_bridge: another one still serves {arguments.socket}; end it first", file=sys.stderr)
        return HELD
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # like the interlock: the last to go, by SIGTERM

    async def until_told() -> None:
        try:
            make_client(arguments)
        except (ValueError, OSError) as error:
            parser.error(str(error))
        bridge = Bridge(Path(arguments.socket), arguments.unit)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, bridge, "leaving", True)
        carrying = asyncio.create_task(carry(bridge, arguments), name="carry")
        needed = asyncio.create_task(bridge.until_not_needed(), name="needed")
        await asyncio.wait({carrying, needed}, return_when=asyncio.FIRST_COMPLETED)
        if carrying.done():
            carrying.result()  # what nobody foresaw is told, and the service starts another
        carrying.cancel()
        await asyncio.wait({carrying})

    asyncio.run(until_told())
    os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
