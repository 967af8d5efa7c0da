"""Emulator of a home tDCS unit on its true wire, an MQTT broker: measured current, impedance, compliance, own lease.

`python -m simulators.stimulators.mqtt --broker mqtt://HOST:PORT --unit HOME-0001 --key FILE --record FILE [--fault F]`
First line of output: the unit's topic. The record has every output sample (200 Hz while armed, 10 Hz at rest, both sides
of each step), little-endian `<qd`: CLOCK_BOOTTIME ns and mA. The protocol is docs/home-stimulator-protocol.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt

from eegloop.layout import Layout
from simulators.stimulators.home_unit import FAULTS, MS, HomeUnit, wrong_mac
from simulators.stimulators.wire import LATE_NS, spoilt

SAMPLE = struct.Struct("<qd")
SAMPLE_NS, REST_SAMPLE_NS = 5 * MS, 100 * MS
FIELD_NS = 20 * MS
TURN_S = 0.004
RETRY_S = 0.3


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Process:
    """Broker, record and time around one unit."""

    def __init__(self, unit: HomeUnit, fault: str, fault_after_ns: int, record: int, field: str) -> None:
        self.unit, self.fault, self.fault_after_ns = unit, fault, fault_after_ns
        self.field_path = field
        self.samples: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.kept = threading.Event()
        threading.Thread(target=self._keep, args=(record,), daemon=True, name="record").start()
        self.field = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.field.setblocking(False)
        self.ready: deque[tuple[int, bytes]] = deque(maxlen=64)
        self.something = asyncio.Event()
        self.armed_since_ns = self.next_sample_ns = self.next_field_ns = 0
        if fault and not fault_after_ns:
            unit.fault = fault

    async def tick(self) -> None:
        """The unit's own time: it goes on whether or not there is a broker."""
        while True:
            now_ns = boot_ns()
            self.change(lambda now_ns=now_ns: self.unit.pass_time(now_ns), now_ns)  # type: ignore[misc]
            self.armed_since_ns = (self.armed_since_ns or now_ns) if self.unit.armed else 0
            if self.fault and self.armed_since_ns and now_ns - self.armed_since_ns >= self.fault_after_ns:
                self.change(self._begin_fault, now_ns)
            if now_ns >= self.next_sample_ns:
                self.write(now_ns, self.unit.output_ma)
                self.next_sample_ns = now_ns + (SAMPLE_NS if self.unit.armed else REST_SAMPLE_NS)
            if now_ns >= self.next_field_ns:
                self.tell_brain(now_ns)
            await asyncio.sleep(TURN_S)

    def _begin_fault(self) -> None:
        self.unit.fault = self.fault

    def change(self, action: Callable[[], None], now_ns: int) -> None:
        """Run it; a step of the current gets both its sides into the record, a report its way out."""
        before_ma, armed = self.unit.output_ma, self.unit.armed
        action()
        if self.unit.output_ma != before_ma:
            self.write(now_ns, before_ma)
            self.write(now_ns, self.unit.output_ma)
        if self.unit.armed != armed:
            self.next_sample_ns = now_ns
        while self.unit.outbox:
            self._emit(self.unit.outbox.popleft(), now_ns)

    def _emit(self, packet: bytes, now_ns: int) -> None:
        fault = self.unit.fault
        if fault in ("no_answer", "unplugged"):
            return
        at_ns = now_ns + LATE_NS if fault == "late" else now_ns
        self.ready.append((at_ns, spoilt(packet, fault, wrong_mac)))
        self.something.set()

    def write(self, now_ns: int, current_ma: float) -> None:
        self.samples.put(SAMPLE.pack(now_ns, current_ma))

    def _keep(self, record: int) -> None:
        """A thread of its own: a disk that is slow for a moment must not hold up the unit's packets."""
        while sample := self.samples.get():
            os.write(record, sample)
        self.kept.set()

    def close(self) -> None:
        """Every sample is in the record."""
        self.samples.put(b"")
        self.kept.wait(5.0)

    def tell_brain(self, now_ns: int) -> None:
        """What flows, to the virtual brain if one listens."""
        self.next_field_ns = now_ns + FIELD_NS
        if not self.field_path:
            return
        body = {"boot_ns": now_ns, "amplitude_ma": self.unit.output_ma, "frequency_hz": 0.0, "phase_rad": 0.0, "pulses": []}
        with contextlib.suppress(OSError):  # nobody listens: the current flows all the same
            self.field.sendto(json.dumps(body).encode(), self.field_path)

    async def talk(self, host: str, port: int) -> None:
        """For ever: broker, packets out, packets in; after a loss again."""
        to, told = (f"eegloop/home/v1/{self.unit.unit}/{way}" for way in ("to", "from"))
        while self.unit.fault != "unplugged":
            try:
                client = aiomqtt.Client(
                    host,
                    port,
                    identifier=f"home-{self.unit.unit}",
                    protocol=aiomqtt.ProtocolVersion.V5,
                    keepalive=5,
                    timeout=2.0,
                    socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
                )
                async with client, asyncio.TaskGroup() as tasks:
                    await client.subscribe(to, qos=0)
                    tasks.create_task(self._speak(client, told))
                    async for message in client.messages:
                        if isinstance(message.payload, bytes) and not message.retain and self.unit.fault != "unplugged":
                            packet, now_ns = message.payload, boot_ns()
                            self.change(lambda p=packet, t=now_ns: self.unit.receive(p, t), now_ns)  # type: ignore[misc]
            except* (aiomqtt.MqttError, OSError, TimeoutError):
                pass  # the lease ends the output meanwhile
            await asyncio.sleep(RETRY_S)

    async def _speak(self, client: aiomqtt.Client, topic: str) -> None:
        while self.unit.fault != "unplugged":
            if not self.ready:
                self.something.clear()
                await self.something.wait()
            due_ns, packet = self.ready.popleft()
            await asyncio.sleep(max(0.0, (due_ns - boot_ns()) / 1e9))
            await client.publish(topic, packet, qos=0, timeout=1.0)
        raise OSError("unplugged")


def main(argv: list[str] | None = None) -> int:
    """Run the unit until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="mqtt", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", help="mqtt://HOST:PORT")
    parser.add_argument("--unit", default="HOME-0001", help="serial number (default HOME-0001)")
    parser.add_argument("--model", choices=("home",), default="home", help="which unit (only home)")
    parser.add_argument("--key", type=Path, required=True, help="file with the pairing key, 64 hexadecimal digits")
    parser.add_argument("--max-ma", type=float, default=2.0, help="the unit's own maximum, mA, 0-4 (default 2)")
    parser.add_argument("--record", type=Path, default=None, help="file for every output sample")
    parser.add_argument("--data", type=Path, default=None, help="data directory: record in its seat, tell its virtual brain")
    parser.add_argument("--seat", default="seat1", help="the seat in it (default seat1)")
    parser.add_argument("--fault", choices=FAULTS, default="", help="what goes wrong")
    parser.add_argument("--fault-after-s", type=float, default=0.0, help="s after arming until it does; 0 = from the start")
    arguments = parser.parse_args(argv)
    address = urlsplit(arguments.broker)
    if address.scheme != "mqtt" or not address.hostname or not 0.0 <= arguments.max_ma <= 4.0:
        parser.error("--broker must be mqtt://HOST:PORT and --max-ma from 0 to 4")
    record, field = arguments.record, ""
    if arguments.data is not None:
        layout = Layout(arguments.data)
        layout.create()
        folder = layout.seat(arguments.seat) / "stimulator"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        record, field = record or folder / "output.bin", str(layout.field_socket(arguments.seat))
    try:
        key = bytes.fromhex(arguments.key.read_text(encoding="ascii").strip())
        file = os.open(record or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        parser.error(f"--key {arguments.key}, --record {record}: {error}")
    unit = HomeUnit(arguments.unit, key, os.urandom(8).hex(), arguments.max_ma)

    async def run() -> None:
        process = Process(unit, arguments.fault, round(arguments.fault_after_s * 1e9), file, field)
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        print(f"eegloop/home/v1/{unit.unit}", flush=True)
        port = address.port or 1883
        tasks = {asyncio.create_task(t) for t in (process.tick(), process.talk(str(address.hostname), port), told.wait())}
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # Unplugged: the wire is gone, the unit goes on until it is told to end.
        while not told.is_set() and all(task.exception() is None for task in done):
            done, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.wait(rest)
        process.close()
        for task in done:
            task.result()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
