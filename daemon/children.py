"""The service's processes: started, watched, started anew when they end, and taken down in order. None of them starts stimulation."""

from __future__ import annotations

import asyncio
import contextlib
import json

import structlog

from daemon import build
from daemon.interlock_link import InterlockLink
from daemon.processes import NICE_INTERLOCK, NICE_LOOP, Child, python
from daemon.start import Options, web_child
from eegloop.config import Config, Seat
from eegloop.errors import EegloopError, SetupError
from eegloop.layout import Layout

log = structlog.get_logger()

RESTART_AFTER_S = (0.5, 1.0, 2.0, 5.0, 10.0)
WATCH_EVERY_S = 0.1


class Children:
    """The page's process, and each seat's interlock, bridge and, in the demo, stimulator and board.

    Parameters
    ----------
    web : Child
        The page's process, started already.
    """

    def __init__(self, config: Config, layout: Layout, options: Options, web: Child) -> None:
        self._config = config
        self._layout = layout
        self._options = options
        self._web = web
        self._all: list[Child] = [web]
        self._interlocks: dict[str, Child] = {}
        self._bridges: dict[str, Child] = {}  # what carries an interlock's packets to a stimulator that is not on this machine

    async def serve(self, port: int) -> None:
        """Tell the page's process what it needs."""
        await self._web.hand(build.web_settings(self._config, port))

    async def port(self) -> int:
        """The port it took; SetupError if it does not say so in time."""
        return json_port(await self._web.line(20.0))

    async def start_seat(self, seat: Seat, signed: build.Signed) -> None:
        """A seat's processes; EegloopError or OSError naming what does not start."""
        layout = self._layout
        folder = layout.seat(seat.id)
        data = ["--data", str(layout.data), "--seat", seat.id]
        if self._options.demo:
            if seat.stimulator.kind == "simulated":
                await self._start(
                    Child(
                        f"stimulator {seat.id}",
                        python("-m", "simulators.stimulators.simulated", *data, "--exit-alone-s", "5"),
                        folder / "stimulator.out",
                        nice=NICE_INTERLOCK,
                    )
                )
            name = getattr(seat.source.settings, "name", None)
            if seat.source.kind == "lsl" and name:
                argv = python("-m", "simulators.board", *data, "--name", name, "--seed", str(self._config.seats.index(seat) + 1))
                await self._start(Child(f"board {seat.id}", argv, folder / "board.out", nice=NICE_LOOP))
        if (carry := build.bridge_argv(layout, seat)) is not None:
            self._bridges[seat.id] = await self._start(self._bridge(seat, carry))
        self._interlocks[seat.id] = await self._start(self._interlock(seat, signed))

    def _bridge(self, seat: Seat, argv: list[str]) -> Child:
        return Child(f"bridge {seat.id}", argv, self._layout.seat(seat.id) / "bridge.out", nice=NICE_INTERLOCK, outlives=True)

    def _interlock(self, seat: Seat, signed: build.Signed) -> Child:
        return Child(
            f"interlock {seat.id}",
            build.interlock_argv(self._layout, seat, signed),
            self._layout.seat(seat.id) / "interlock.out",
            nice=NICE_INTERLOCK,
            outlives=True,
        )

    async def _start(self, child: Child) -> Child:
        await child.start()
        self._all.append(child)
        return child

    async def watch_interlock(self, seat: Seat, signed: build.Signed, link: InterlockLink) -> None:
        """A dead interlock is started anew, in `stopped`; it never restarts stimulation."""
        attempt = 0
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            child = self._interlocks[seat.id]
            if child.running and link.connected:
                continue
            log.error("interlock gone", seat=seat.id)
            await asyncio.sleep(RESTART_AFTER_S[min(attempt, len(RESTART_AFTER_S) - 1)])
            attempt += 1
            if not child.running:
                self._interlocks[seat.id] = await self._start(self._interlock(seat, signed))
            with contextlib.suppress(EegloopError):
                await link.connect(5.0)

    async def watch_bridge(self, seat: Seat, argv: list[str]) -> None:
        """A dead bridge is started anew; the interlock has latched meanwhile, as a stimulator out of reach does."""
        attempt = 0
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._bridges[seat.id].running:
                continue
            log.error("bridge gone", seat=seat.id)
            await asyncio.sleep(RESTART_AFTER_S[min(attempt, len(RESTART_AFTER_S) - 1)])
            attempt += 1
            self._bridges[seat.id] = await self._start(self._bridge(seat, argv))

    async def watch_web(self, port: int) -> None:
        """The page's process is restarted on the same port; the loop does not notice."""
        attempt = 0
        while True:
            assert self._web.process is not None
            await self._web.process.wait()
            log.error("web gone", code=self._web.process.returncode)
            await asyncio.sleep(RESTART_AFTER_S[min(attempt, len(RESTART_AFTER_S) - 1)])
            attempt += 1
            self._web = await self._start(web_child(self._layout))
            await self.serve(port)
            with contextlib.suppress(SetupError):
                await self._web.line(20.0)

    async def end(self) -> None:
        """The web and the simulators first, then the interlocks, which have latched at zero by now."""
        interlocks = set(map(id, self._interlocks.values()))
        await asyncio.gather(*(child.end(0.7) for child in self._all if child.name == "web" or child.name.startswith("board")))
        # An interlock is asked, never killed: while zero is not confirmed it is the only one that still tries.
        await asyncio.gather(*(child.end(0.7) for child in self._all if id(child) in interlocks))
        await asyncio.gather(*(child.end(0.5) for child in self._all if id(child) not in interlocks))


def json_port(text: str) -> int:
    """The port out of the web process's first line, `{"port": N}`."""
    try:
        return int(json.loads(text)["port"])
    except (ValueError, KeyError, TypeError):
        raise SetupError(f"the web process said {text[:200]!r} instead of its port") from None
