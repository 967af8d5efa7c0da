"""A seat on the loop's thread: what takes long is done beside it, because every other seat's lease is renewed there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from control.forms import FORMS
from control.prescription import demo_prescription
from control.state import changed
from daemon.answers import AnswerBook
from daemon.asking import Asking
from daemon.audit import AuditTrail
from daemon.clock import MachineClock
from daemon.interlock_link import InterlockLink
from daemon.live import LiveCommand, LiveServer
from daemon.loop import Line
from daemon.record import SessionRecorder
from daemon.seat import IDLE_TICK_S, QUIET_TICK_S, SeatLoop
from daemon.supervisor import Service
from eegloop.signal import Chunk, StreamInfo
from simulators.brain import Brain
from simulators.settings import BrainSettings
from tests.answers_bench import Desk
from tests.virtual_loop import info_of, line_for

BUILD_S = 0.6


class Head:
    """The virtual head as a source, 20 ms a chunk, as fast as it is taken."""

    def __init__(self) -> None:
        self.info = info_of(BrainSettings())
        self._brain = Brain(BrainSettings())

    async def __aenter__(self) -> Head:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    async def chunks(self) -> AsyncIterator[Chunk]:
        for n in range(0, 100, 5):
            yield Chunk(self._brain.advance(5), n, n / 250, MachineClock().lsl_s())
            await asyncio.sleep(0)


class SlowDisk(Asking):
    """Answers that are not on the disk within the time that is waited for them."""

    def on_disk(self, timeout_s: float) -> bool:
        time.sleep(timeout_s)
        return False


class Bench:
    """One seat with its real parts; its line takes `BUILD_S` to build."""

    def __init__(self, folder: Path, name: str = "s", book: AnswerBook | None = None) -> None:
        clock = MachineClock()
        self.order: list[str] = []
        self.build_begun = threading.Event()
        self.audit = AuditTrail(folder / f"{name}.jsonl", clock)
        live = LiveServer(folder / "live.sock")
        asking = SlowDisk(name, book, (), False, self.audit, live, clock)
        link = InterlockLink(folder / "none.sock", clock)
        self.seat = SeatLoop(
            name, 0, "Seat", False, Head(), self.make_line, self.make_recorder, link, self.audit, live, clock, asking
        )  # fmt: skip

    def make_line(self, info: StreamInfo) -> Line:
        self.order.append("line")
        self.build_begun.set()
        time.sleep(BUILD_S)
        return line_for(info, demo_prescription("virtual", 0.0))

    def make_recorder(self, info: StreamInfo, line: Line) -> SessionRecorder | None:
        self.order.append("recorder")
        return None

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Acquire to the source's end; the longest time that the loop's thread was held, s."""

        async def both() -> float:
            acquiring = asyncio.create_task(self.seat.acquire())
            idling = asyncio.create_task(self.seat.idle())
            held_s, at_s, told = 0.0, time.monotonic(), False
            while not acquiring.done() and self.seat.vitals.samples == 0:
                await asyncio.sleep(0.01)
                held_s, at_s = max(held_s, time.monotonic() - at_s), time.monotonic()
                if self.build_begun.is_set() and not told:
                    told = True
                    meanwhile()
            await acquiring
            idling.cancel()
            return held_s

        try:
            return asyncio.run(both())
        finally:
            self.audit.close()


def test_a_line_that_is_slow_to_build_holds_up_no_other_seat(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run() < BUILD_S / 2, "other seats' leases are 0.4 s"
    assert bench.order == ["line", "recorder"] and bench.seat.line is not None
    assert bench.seat.vitals.samples == 100, "every chunk is taken, after the line is there"


def test_a_seat_that_fails_while_its_line_is_built_begins_with_another_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(lambda: bench.seat.fail("something broke"))
    assert bench.order == ["line", "line", "recorder"] and bench.seat.line is not None
    assert bench.seat.line.session.phase == "stopped"


def test_a_seat_ticks_less_often_only_while_nothing_flows_and_nobody_asks(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run()
    seat = bench.seat
    assert seat.line is not None and seat.idle_tick_s == QUIET_TICK_S

    async def ask() -> float:
        idling, told = asyncio.create_task(seat.idle()), asyncio.Event()
        await asyncio.sleep(IDLE_TICK_S / 2)
        asked_s = time.monotonic()
        seat.person("start", "Ann", answer=lambda _took, _why: told.set())
        assert seat.idle_tick_s == IDLE_TICK_S
        async with asyncio.timeout(5.0):
            await told.wait()
        idling.cancel()
        return time.monotonic() - asked_s

    assert asyncio.run(ask()) < 2.5 * IDLE_TICK_S, (
        "a person is heard at the next look, not at the next tick that would come anyway"
    )
    seat.line.session = changed(seat.line.session, armed=True)
    assert seat.idle_tick_s == IDLE_TICK_S, "a lease is renewed at these ticks"


def test_one_seats_slow_disk_holds_up_no_other_seats_commands(tmp_path: Path) -> None:
    """Four answers that wait a second each for their disk; "end" and "stop" of the other seat come after them."""
    nothing: Any = None  # the service's other parts take no commands
    desk = Desk(tmp_path)
    slow, other = Bench(tmp_path, "a", desk.book), Bench(tmp_path, "b")
    service = Service(nothing, nothing, nothing, nothing)
    service._seats = [slow.seat, other.seat]
    kept: list[tuple[bool, str]] = []
    heard_s: list[float] = []

    async def both() -> None:
        live = LiveServer(tmp_path / "commands.sock")
        begun_s = time.monotonic()
        for _ in range(4):
            values = (0,) * len(FORMS["skin"].items)
            live.commands.put_nowait(
                LiveCommand("a", "answer", "Ann", lambda ok, error: kept.append((ok, error)), "skin", values)
            )
        live.commands.put_nowait(LiveCommand("a", "answer", "Ann", lambda ok, error: kept.append((ok, error)), "no form", ()))
        live.commands.put_nowait(LiveCommand("b", "end", "Ann", lambda _ok, _error: heard_s.append(time.monotonic() - begun_s)))
        task = asyncio.create_task(service._commands(live))
        async with asyncio.timeout(10.0):
            while len(kept) < 5 or not heard_s:
                assert not task.done(), task
                await asyncio.sleep(0.01)
        task.cancel()

    try:
        asyncio.run(both())
    finally:
        desk.book.close()
        for bench in (slow, other):
            bench.audit.close()
    assert heard_s[0] < 0.5, heard_s
    assert not kept[0][0] and "no form" in kept[0][1], "what is not taken is refused at once"
    assert all(not ok and "not on the disk yet" in error for ok, error in kept[1:])
