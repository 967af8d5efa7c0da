"""The interlock's loop turned inside the test's own process, on real sockets and the simulated stimulator in a thread."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers.stimulators import simulated
from eegloop.layout import Layout
from eegloop.stim import Prescription
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import rules
from interlock.log import LogWriter
from interlock.loop import Loop, boot_ns
from simulators.stimulators.simulated import Process
from tests.interlock_rig import SEAT, Daemon

PATIENCE_S = 5.0
"""How long anything that must happen may take, s."""


class Bench:
    """A loop that turns when the test says so, and a stimulator that runs in a thread."""

    def __init__(self, folder: Path, prescription: Prescription) -> None:
        self.layout = Layout(folder / "data")
        self.layout.create()
        self.folder = self.layout.seat(SEAT)
        self.folder.mkdir(parents=True)
        self.prescription = prescription
        self.stimulator: Process | None = None
        self.thread: threading.Thread | None = None
        self.start_stimulator()
        driver = simulated.build(simulated.Settings(), str(self.layout.stimulator_socket(SEAT)))
        limits = rules(prescription, None, driver.limits)
        self.judge = Judge(limits, "simulated", driver.readback, Book("boot", True), boot_ns())
        self.log, self.ledger = LogWriter(self.folder / "interlock.log"), LogWriter(self.folder / "ledger.log")
        self.codes: list[tuple[int, int] | str] = []
        self.loop = Loop(
            self.judge,
            driver,
            self.log,
            self.ledger,
            self.layout.control_socket(SEAT),
            self.layout.stop_socket(SEAT),
            lambda device: rules(prescription, None, device),
            lambda: self.codes.pop(0),
            lambda _armed_ns, _now_ns: "",
        )
        self.log.put("started", {}, boot_ns(), time.time())  # as the process does; a log that has no line yet is a fault
        self.loop.open(1.0)

    def start_stimulator(self) -> None:
        self.stimulator = Process(self.layout, SEAT, 2.0, "", 0.0, 0.0)
        self.thread = threading.Thread(target=self.stimulator.run)
        self.thread.start()

    def end_stimulator(self) -> None:
        if self.stimulator is not None and self.thread is not None:
            self.stimulator.leaving = True
            self.thread.join(5)
            if self.stimulator.listener is not None:
                self.stimulator.listener.close()
            self.stimulator = None

    def bring_start_code(self) -> None:
        """As `Rig` has it; this seat needs none."""

    def close(self) -> None:
        self.end_stimulator()
        for part in (self.loop.stop_listener, self.loop.control_listener, self.loop.waker, self.loop.wake, self.loop.selector):
            part.close()
        if self.loop.client is not None:
            self.loop.client.close()
        self.loop.driver.close()
        self.log.close(1.0)
        self.ledger.close(1.0)

    def turn(self, until: Callable[[], object]) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < give_up_s, f"{self.judge.mode} {self.judge.reason}"
            self.loop._turn()

    def at_rest(self) -> None:
        self.turn(lambda: self.judge.device.zero_since_ns != 0 and not self.judge.device.armed)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in (self.folder / "interlock.log").read_text().splitlines()]

    def stops(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.layout.stop_socket(SEAT)))
        connection.settimeout(0.0)
        return connection


class Client(Daemon):
    """The daemon's side, which turns the loop while it waits."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, "s1")  # type: ignore[arg-type]
        self.bench = bench

    def receive(self) -> dict[str, Any]:
        self.bench.turn(lambda: select.select([self.socket], [], [], 0)[0])
        return super().receive()
