"""Any board that BrainFlow knows, by name, with the parameters it needs: EEG, everything beside it, battery and contact."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drivers.sources.brainflow_boards import BoardDescription, describe_board
from drivers.sources.brainflow_library import board_id, library
from drivers.sources.brainflow_session import BoardSettings, Delivery, Described, Session, descriptions, stream_name
from drivers.sources.brainflow_session import describe as described_by
from drivers.sources.clock import ClockState, Counter, SampleClock
from drivers.sources.counters import CounterFinder
from eegloop.errors import SourceError
from eegloop.ports import Clock
from eegloop.signal import F64, Chunk, SideChunk, SourceNews, StreamInfo

CHUNK_S = 0.02
# Counters that were checked: Cyton by the shared recording, Synthetic here. Others are used once they are understood.
COUNTERS = {"SYNTHETIC_BOARD": Counter(256), "CYTON_BOARD": Counter(256)}
BATTERY_EVERY_S = 60.0
BATTERY_LOW = 15.0
IMPEDANCE_EVERY_S = 10.0
IMPEDANCE_CHANGE = 0.1


class Settings(BoardSettings):
    """A BrainFlow board. Which parameters a board needs: BrainFlow's page of supported boards, or `eegloop devices`."""


def build(settings: Settings, clock: Clock) -> BrainflowSource:
    return BrainflowSource(settings, clock)


def board_names() -> tuple[str, ...]:
    """Names of all boards of the installed BrainFlow."""
    return tuple(b.name for b in library().BoardIds if b.name != "NO_BOARD")


def boards() -> tuple[BoardDescription, ...]:
    """Every board of the installed BrainFlow: its streams, and what it needs in config.yaml."""
    return tuple(describe_board(name, descriptions(name)) for name in board_names())


def describe(board: str) -> dict[str, Any]:
    """BrainFlow's description of a board (rows of each kind, rate, names)."""
    flow = library()
    return dict(flow.BoardShim.get_board_descr(board_id(flow, board, "board")))


class BrainflowSource:
    """Implements `eegloop.ports.EegSource` over one BrainFlow session."""

    def __init__(self, settings: BoardSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._described: Described | None = None
        self._session: Session | None = None
        self._samples: SampleClock | None = None
        self._sides: dict[int, SampleClock] = {}
        self._finders: dict[tuple[int, bool], CounterFinder] = {}
        self._slow = _SlowValues(())

    async def __aenter__(self) -> BrainflowSource:
        described = await asyncio.to_thread(described_by, self._settings)
        self._described = described
        counter = COUNTERS.get(described.board)
        self._samples = SampleClock(described.info.sample_rate_hz, counter)
        self._sides = {side.number: SampleClock(side.sample_rate_hz) for side in described.sides if side.rows}
        if counter is not None and described.eeg.number in self._sides:
            self._sides[described.eeg.number].counter = counter
        self._finders = {}
        self._slow = _SlowValues(described.info.channels)
        self._session = Session(self._settings, described, self._clock, asyncio.get_running_loop())
        await self._session.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.stop()

    @property
    def info(self) -> StreamInfo:
        if self._described is None:
            raise SourceError(f"BrainFlow {self._settings.board}: not connected; enter the source first (async with)")
        return self._described.info

    @property
    def clock_state(self) -> ClockState:
        """Measured rate, jitter, uncertainty and losses."""
        assert self._samples is not None
        return self._samples.state

    @property
    def side_clock_states(self) -> dict[str, ClockState]:
        """The same of every stream beside the EEG, by its name."""
        return {stream_name(number): clock.state for number, clock in self._sides.items()}

    async def chunks(self) -> AsyncIterator[Chunk | SideChunk | SourceNews]:
        session, samples = self._session, self._samples
        assert session is not None and samples is not None
        segment = samples.segment
        yield SourceNews("connected", f"{self.info.name} sends", self._clock.lsl_s())
        while True:
            item = await session.next_item()
            if item is None:
                return
            if isinstance(item, SourceNews):
                if item.kind in ("lost", "ended"):
                    for chunk in samples.flush():
                        yield chunk
                if item.kind == "restarted":
                    for clock in (samples, *self._sides.values()):
                        clock.new_segment("the board was started again")
                yield item
                continue
            if not item.is_eeg:
                for side in self._side(item):
                    yield side
                for news in self._slow.look(item):
                    yield news
                continue
            for chunk in self._place(item, samples):
                if (contact := self._slow.take_contact()) is not None:
                    chunk = replace(chunk, impedance_kohm=contact)
                if chunk.segment != segment:
                    segment = chunk.segment
                    yield SourceNews("warning", f"new segment: {samples.restart_reason}", chunk.t0_s)
                yield chunk

    def _side(self, item: Delivery) -> Iterator[SideChunk]:
        """A delivery of another stream, on that stream's own grid."""
        clock = self._sides.get(item.preset.number)
        if clock is None:
            return
        name, channels, rate = stream_name(item.preset.number), item.preset.channels, item.preset.sample_rate_hz
        for placed in self._place(item, clock):
            yield SideChunk(
                name, channels, rate, placed.data_uv, placed.first_sample, placed.t0_s, placed.arrival_s, placed.lost_samples
            )

    def _place(self, item: Delivery, clock: SampleClock) -> Iterator[Chunk]:
        if clock.counter is None and item.counts is not None:
            finder = self._finders.setdefault((item.preset.number, item.is_eeg), CounterFinder())
            clock.counter = finder.look(item.counts)
        most = max(1, round(CHUNK_S * clock.nominal_hz))
        for i in range(0, len(item.stamps_s), most):
            part = slice(i, i + most)
            counts = item.counts[part] if item.counts is not None else None
            yield from clock.feed(item.data[part], item.stamps_s[part], item.arrival_s, counts)


class _SlowValues:
    """Battery and contact: said when they change, not with every sample."""

    def __init__(self, electrodes: tuple[str, ...]) -> None:
        self._electrodes = electrodes
        self._battery = math.nan
        self._battery_s = -math.inf
        self._ohm: tuple[float, ...] = ()
        self._ohm_s = -math.inf
        self._contact: F64 | None = None

    def take_contact(self) -> F64 | None:
        """(n_channels,) kΩ if there are new ones since the last call, NaN where the board gives none."""
        contact, self._contact = self._contact, None
        return contact

    def look(self, item: Delivery) -> Iterator[SourceNews]:
        """What a delivery says that is new."""
        now_s = item.arrival_s
        level = item.battery
        if level is not None and 0.0 < level <= 100.0:
            fell = level < BATTERY_LOW <= self._battery
            if fell or math.isnan(self._battery) or (level != self._battery and now_s - self._battery_s >= BATTERY_EVERY_S):
                self._battery, self._battery_s = level, now_s
                advice = ": charge the headset before the next session" if level < BATTERY_LOW else ""
                yield SourceNews("battery", f"Headset battery {level:.0f} %{advice}", now_s, {"percent": level})
        ohm = item.resistance_ohm
        changed = len(ohm) != len(self._ohm) or any(
            abs(a - b) > IMPEDANCE_CHANGE * b for a, b in zip(ohm, self._ohm, strict=True)
        )
        if any(value > 0.0 for value in ohm) and changed and now_s - self._ohm_s >= IMPEDANCE_EVERY_S:
            self._ohm, self._ohm_s = ohm, now_s
            # The electrodes in their order, then reference and ground where the board measures them.
            names = (*self._electrodes, "REF", "GND") if len(ohm) >= len(self._electrodes) else ("REF", "GND")
            kohm = {f"{name}_kohm": round(value / 1000, 2) for name, value in zip(names, ohm, strict=False) if value > 0.0}
            self._contact = np.array([kohm.get(f"{name}_kohm", math.nan) for name in self._electrodes])
            yield SourceNews(
                "impedance", "contact: " + ", ".join(f"{k[:-5]} {v:g} kΩ" for k, v in kohm.items()), now_s, dict(kohm)
            )
