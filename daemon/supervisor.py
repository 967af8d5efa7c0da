"""Starts every seat and task, watches them, and takes them down in order: stimulation first (processes: daemon/children.py)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import structlog

from daemon import build
from daemon.alarm_sound import AlarmSound
from daemon.allocation import chain_path
from daemon.answers import AnswerBook
from daemon.aside import aside
from daemon.asking import Asking
from daemon.audit import AuditTrail
from daemon.awake import Awake
from daemon.children import RESTART_AFTER_S, Children
from daemon.clock import MachineClock
from daemon.installation import check_names
from daemon.live import LiveServer, SeatInfo
from daemon.loop import Line
from daemon.private_file import write_private
from daemon.processes import NICE_LOOP, Child, keep_start, prefer
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from daemon.seat import SeatLoop
from daemon.start import Options
from daemon.trail_anchors import EVERY_S as ANCHOR_EVERY_S
from daemon.trail_anchors import TrailAnchors, outside
from daemon.view import left_out_state, loop_state, standing_alarms, trail_alarms
from daemon.web.access import address_file, sign_in_link
from drivers.sources.lsl_network import configure as configure_lsl
from drivers.sources.lsl_network import widest
from eegloop.config import Config, Seat
from eegloop.errors import EegloopError, SetupError, plain
from eegloop.layout import Layout
from eegloop.signal import StreamInfo
from eegloop.stim import Authority, InterlockMode, LoopState
from eegloop.stop import stop as stop_now

log = structlog.get_logger()

STATE_EVERY_S = 0.25
AWAKE_EVERY_S = 0.5
CHALLENGE_EVERY_S = 2.0
SOUND_EVERY_S = 0.5


class Service:
    """The whole service: children, seats, tasks."""

    def __init__(self, config: Config, layout: Layout, options: Options, web: Child) -> None:
        self._config = config
        self._layout = layout
        self._options = options
        self._clock = MachineClock()
        self._seats: list[SeatLoop] = []
        self._stopping = asyncio.Event()
        self._children = Children(config, layout, options, web)
        self._books: dict[str, AnswerBook] = {}
        self._may_deliver: dict[str, bool] = {}
        self._left_out: dict[str, str] = {}  # seats that could not be begun, and why
        self._writer = RecordWriter()
        self._anchors: TrailAnchors | None = None

    async def main(self) -> int:
        """Start, serve until told to stop, take down; 0 = ended as asked."""
        loop = asyncio.get_running_loop()
        prefer(os.getpid(), NICE_LOOP)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            serving = asyncio.create_task(self._serve(), name="serve")
            stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not serving.done():
                serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled() and (error := serving.exception()) is not None:
                raise error
            return 0
        finally:
            await self._children.end()
            address_file(self._layout).unlink(missing_ok=True)

    async def _serve(self) -> None:
        layout, clock = self._layout, self._clock
        check_names()
        begun = {seat.id: seat for seat in self._config.seats}
        signed: dict[str, build.Signed] = {}
        for seat in self._config.seats:
            with self._or_without(seat, begun):
                signed[seat.id] = build.prescription(seat, layout, self._options.demo, clock.wall_s())
                self._book(seat, signed[seat.id])
        self._may_deliver = {name: one.prescription.authority != Authority.OBSERVE for name, one in signed.items()}
        await self._children.serve(self._options.port or self._config.web.port)
        for seat in list(begun.values()):
            with self._or_without(seat, begun):
                await self._children.start_seat(seat, signed[seat.id])
        # liblsl is set up before a seat's first call into it; importing it must not hold up what is being started.
        scopes = [s.source.settings.scope for s in begun.values() if s.source.kind == "lsl"]
        lsl_ready = aside("lsl", partial(configure_lsl, widest(scopes))) if scopes else None
        audit = AuditTrail(layout.audit / "daemon.jsonl", clock)
        worn = not self._options.demo and any(seat.stimulator.kind != "simulated" for seat in self._config.seats)
        self._anchors = anchors = TrailAnchors(audit, outside(audit.path) if worn else None)
        if wrong := anchors.begin():
            log.error("the audit trail is not the one that was written last", why=wrong)
        self._writer.start()
        async with LiveServer(layout.live_socket) as live:
            audit.append("start", {"pid": os.getpid(), "demo": self._options.demo, "config": str(self._config.path)})
            for index, seat in enumerate(self._config.seats):
                if seat.id in begun:
                    with self._or_without(seat, begun):
                        self._seats.append(await self._seat(index, seat, signed[seat.id], audit, live))
            for name, why in self._left_out.items():
                audit.append("left_out", {"seat": name, "error": why[:300]})
            try:
                if lsl_ready is not None:
                    await lsl_ready
                keep_start()
                async with asyncio.TaskGroup() as tasks:

                    def keep(name: str, run: Callable[[], Awaitable[None]], seat: SeatLoop | None = None) -> None:
                        tasks.create_task(self._keep(name, run, seat, audit), name=name)

                    for loop in self._seats:
                        seat = begun[loop.seat]
                        keep(f"acquire {loop.seat}", loop.acquire, loop)
                        keep(f"idle {loop.seat}", loop.idle, loop)
                        keep(
                            f"interlock {loop.seat}",
                            partial(self._children.watch_interlock, seat, signed[loop.seat], loop.link),
                            loop,
                        )
                        if (argv := build.bridge_argv(self._layout, seat)) is not None:
                            keep(f"bridge {loop.seat}", partial(self._children.watch_bridge, seat, argv))
                    keep("anchors", partial(self._anchor, anchors))
                    keep("state", partial(self._publish, live))
                    keep("awake", self._stay_awake)
                    keep("commands", partial(self._commands, live))
                    keep("alarm sound", partial(self._sound, AlarmSound(layout.run, clock.lsl_s)))
                    keep("supervision", partial(self._challenge, live))
                    port = await self._children.port()
                    self._say(port)
                    keep("web", partial(self._children.watch_web, port))
            except* EegloopError as errors:  # the page's process did not start
                raise errors.exceptions[0] from None
            finally:
                await self._take_down(audit, anchors)

    @contextlib.contextmanager
    def _or_without(self, seat: Seat, begun: dict[str, Seat]) -> Iterator[None]:
        """What keeps one seat from beginning is that seat's alone, said where it is looked for; with no seat left nothing begins."""
        try:
            yield
        except (EegloopError, OSError) as error:
            why = str(error) if isinstance(error, EegloopError) else f"{error.filename or seat.label}: {plain(error)}"
            del begun[seat.id]
            self._left_out[seat.id] = why
            if not begun:
                raise SetupError("\n".join(self._left_out.values())) from None
            log.error("seat left out", seat=seat.id, error=why)

    async def _anchor(self, anchors: TrailAnchors) -> None:
        """Every few seconds, so that little is left to believe after a `kill -9`."""
        said = ""
        while True:
            await aside("anchors", partial(anchors.write, self._chains()))
            if said != (said := anchors.failing):
                log.warning("the audit trail's anchor " + ("cannot be kept" if said else "is kept again"), error=said)
            await asyncio.sleep(ANCHOR_EVERY_S)

    def _chains(self) -> list[Path]:
        """What the audit trail vouches for beside itself."""
        return [
            *(self._layout.seat(loop.seat) / "interlock.log" for loop in self._seats),
            *(book.trail.path for book in self._books.values()),
            chain_path(self._layout),
        ]

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]], seat: SeatLoop | None, audit: AuditTrail) -> None:
        """Run a task for ever: what nobody foresaw ends its own seat's stimulation, never another seat's, and it starts anew."""
        for wait_s in chain(RESTART_AFTER_S, repeat(RESTART_AFTER_S[-1])):
            try:
                await run()
                return
            except Exception as error:  # the one place that may: everything below it names what it expects
                log.exception("task failed", task=name)
                audit.append("task_failed", {"task": name, "error": f"{type(error).__name__}: {error}"[:300]})
                if seat is not None:
                    seat.fail(f"an internal error ({type(error).__name__}); eegloop.log has the details")
            await asyncio.sleep(wait_s)

    async def _take_down(self, audit: AuditTrail, anchors: TrailAnchors) -> None:
        """Stimulation to zero first, then the recording closed; each wait is bounded."""
        for loop in self._seats:
            loop.link.stop("the service ends")
        stops = [
            asyncio.to_thread(stop_now, self._layout.stop_socket(loop.seat), "the service ends", 1.0) for loop in self._seats
        ]
        for loop, result in zip(self._seats, await asyncio.gather(*stops, return_exceptions=True), strict=True):
            confirmed = isinstance(result, dict) and bool(result.get("confirmed"))
            audit.append("stopped", {"seat": loop.seat, "confirmed": confirmed})
            # Under `observe` the interlock has never ordered any output, so there is nothing to be afraid of.
            if not confirmed and loop.link.state is not None and self._may_deliver[loop.seat]:
                print(
                    f"{loop.label}: zero output is NOT CONFIRMED - take the headset off, switch the stimulator off",
                    file=sys.stderr,
                )
        for loop in self._seats:
            with contextlib.suppress(OSError):
                loop.close("the service ends")
            loop.link.close()
        self._writer.stop(1.0)
        for book in self._books.values():
            book.close()
        anchors.write(self._chains())
        audit.append("end", {})
        audit.close()
        anchors.close()

    async def _seat(self, index: int, seat: Seat, signed: build.Signed, audit: AuditTrail, live: LiveServer) -> SeatLoop:
        clock = self._clock
        link = build.link(seat, self._layout, signed, clock)
        await link.connect(10.0)
        boot_to_lsl_s = clock.lsl_s() - clock.boot_ns() * 1e-9

        def make_line(info: StreamInfo) -> Line:
            return build.line(seat, info, signed, boot_to_lsl_s, clock.lsl_s())

        def make_recorder(info: StreamInfo, line: Line) -> SessionRecorder | None:
            return (
                build.recorder(seat, self._layout, self._writer, audit, info, line, clock, self._options.demo)
                if seat.recording.enabled
                else None
            )

        source = build.source(seat, clock, self._layout if self._options.demo else None)
        return SeatLoop(
            seat.id, index, seat.label, self._options.demo, source, make_line, make_recorder, link, audit, live, clock,
            Asking(seat.id, self._book(seat, signed), seat.contacts, self._options.demo and seat.stimulator.kind == "simulated",
                   audit, live, clock),
            signed.trial,
        )  # fmt: skip

    def _book(self, seat: Seat, signed: build.Signed) -> AnswerBook | None:
        """One book a person, also where one person has two seats."""
        if seat.person not in self._books:
            book = build.answers(seat, self._layout, signed, self._clock, self._options.demo)
            if book is None:
                return None
            self._books[seat.person] = book
        return self._books[seat.person]

    async def _publish(self, live: LiveServer) -> None:
        """The state of every seat, four times a second; the seats themselves when they become known, or another headset is on one.

        One that was known stays so while its line is built anew: a page that lost its seats would show nothing of why they stopped.
        """
        known: dict[str, SeatInfo] | None = None
        while True:
            before = known or {}
            now = {loop.seat: loop.info or before.get(loop.seat) for loop in self._seats}
            infos = {seat: info for seat, info in now.items() if info is not None}
            if infos != known:
                known = infos
                live.publish_seats(list(infos.values()), self._options.demo)
            if live.n_connections:
                live.publish_state([self._state_of(seat) for seat in self._config.seats])
            await asyncio.sleep(STATE_EVERY_S)

    def _state_of(self, seat: Seat) -> LoopState:
        """Seats are shown in the order of config.yaml, those that could not be begun among them."""
        for loop in self._seats:
            if loop.seat == seat.id:
                return loop_state(loop, self._clock, self._of_the_machine())
        return left_out_state(seat.id, seat.label, self._clock)

    def _of_the_machine(self) -> list[dict[str, Any]]:
        """Alarms that are no seat's own: they stand at each."""
        return trail_alarms(self._anchors.differs, self._anchors.failing) if self._anchors is not None else []

    async def _sound(self, sound: AlarmSound) -> None:
        """The machine sounds while an alarm stands, whether or not a page shows it (S13); the log says it once."""
        said: list[str] = []
        while True:
            now_s = self._clock.lsl_s()
            more = self._of_the_machine()
            alarms = [alarm for loop in self._seats for alarm in standing_alarms(loop, loop.stream_status, now_s, more)]
            sounded = sound.update([(alarm["id"], alarm["priority"]) for alarm in alarms])
            names = sorted({alarm["id"] for alarm in alarms})
            if sounded and names != said:
                log.info("alarm sounded", alarms=names, by=sound.ways)
            if sounded or not names:
                said = names
            await asyncio.sleep(SOUND_EVERY_S)

    async def _challenge(self, live: LiveServer) -> None:
        """Ask every two seconds whether a page is awake that could stop (S13)."""
        while True:
            live.challenge()
            await asyncio.sleep(CHALLENGE_EVERY_S)

    async def _stay_awake(self) -> None:
        """While any seat is armed the machine does not go to sleep by itself."""
        awake, said = Awake(), ""
        try:
            while True:
                states = [loop.link.state for loop in self._seats]
                awake.want(any(state is not None and state.mode != InterlockMode.STOPPED for state in states))
                if awake.said != said:
                    said = awake.said
                    log.info("sleep", said=said)
                await asyncio.sleep(AWAKE_EVERY_S)
        finally:
            awake.close(0.0)

    async def _commands(self, live: LiveServer) -> None:
        """What people ask for on the page."""
        seats = {loop.seat: loop for loop in self._seats}
        async with asyncio.TaskGroup() as waits:
            while True:
                command = await live.commands.get()
                seat = seats[command.seat]
                if command.name != "answer":
                    seat.person(command.name, command.by, answer=command.answer)
                elif error := seat.filled_in(command.form, command.values, command.by):
                    command.answer(False, error)
                else:  # nobody else's command waits for this seat's disk
                    waits.create_task(seat.say_kept(command.answer), name=f"answers kept {seat.seat}")

    def _say(self, port: int) -> None:
        wanted = self._options.port or self._config.web.port
        if port != wanted:
            print(f"Port {wanted} is taken; using {port}.")
        address = f"http://127.0.0.1:{port}"
        write_private(address_file(self._layout), address.encode())
        for seat in self._config.seats:
            if seat.id in self._left_out:
                print(f"NOT running: {seat.label} ({seat.id}): {self._left_out[seat.id]}", file=sys.stderr)
        if self._left_out:
            print("The other seats go on. Mend what is named, and start eegloop again.", file=sys.stderr)
        print(f"eegloop is live: {address}", flush=True)
        if not self._options.demo:
            address = sign_in_link(self._layout)
            print(f"Sign in within 5 minutes, once: {address}\n(another link: eegloop link)", flush=True)
        if self._options.browser and sys.stdout.isatty() and os.environ.get("DISPLAY"):
            webbrowser.open(address)
