"""A headset that speaks LSL: the stream is chosen exactly, never silently replaced, and every hole is explicit.

How it costs little: liblsl receives into its own bounded buffer, and the event loop empties that buffer with a
call that does not wait, at the moment the next delivery is expected (`lsl_looks`). So one delivery costs one wake-up
and no hand-over between threads. Up to seven inlets wait for nothing; with more in the process they are looked into at common
moments, and what one look finds goes on as one chunk. What can wait (finding, connecting, clock offset, closing) runs in one
thread per source.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field, field_validator

from drivers.sources.clock import FUTURE_S, ClockState, SampleClock
from drivers.sources.lsl_inlet import Inlet, StreamHeader, StreamLost, Wanted, find_stream
from drivers.sources.lsl_looks import Wakeups, step_s
from drivers.sources.lsl_markers import MarkerStream
from drivers.sources.repeats import Repeats
from drivers.sources.units import microvolts_per
from eegloop.closed import Closed
from eegloop.errors import SourceError
from eegloop.ports import Clock
from eegloop.signal import F32, F64, Chunk, SourceNews, StreamInfo

OPEN_S = 5.0
OFFSET_EVERY_S = 2.5  # liblsl measures every 5 s: what is used is 7.5 s old at most
GIVE_UP_S = 5.0  # a connection that stays silent this long after "lost" is dropped and looked for anew
BACK_OFF_S = (0.1, 0.5, 1.0, 2.0, 4.0)
CHUNK_S = 0.02
NO_TIME_S = 1e13  # a delivery's stamps together; 512 of a Unix clock are 1e12
FOREIGN_S = 60.0  # a stamp this much older than its arrival is of another clock (liblsl keeps 30 s)

T = TypeVar("T")


class Settings(Closed):
    """An LSL stream; every part that is given must match."""

    name: str | None = Field(None, description="stream name; null = any")
    type: str | None = Field("EEG", description="stream type; null = any")
    source_id: str | None = Field(None, description="source_id; null = any")
    host: str | None = Field(None, description="name of the sending computer; null = any (pin it where others share the network)")
    scope: Literal["machine", "link", "site"] = Field(
        "link",
        description="how far streams are looked for: this machine, the local network, the site; the widest of all seats counts",
    )
    predicate: str | None = Field(None, description="XPath 1.0 predicate over the stream header, as liblsl reads it; null = none")
    unit: str | None = Field(None, description="unit of the samples where the header has none or a wrong one: V, mV, µV or nV")
    channels: tuple[str, ...] | None = Field(None, description="channel labels where the header has none or wrong ones")
    markers: str | None = Field(None, description="name of another LSL stream whose markers belong to this EEG; null = none")
    wait_s: float = Field(10.0, ge=0.5, le=600.0, description="s to wait for the stream at the start")
    lost_after_s: float = Field(1.0, ge=0.2, le=30.0, description="s without a sample after which the link counts as lost")

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        if unit is not None and microvolts_per(unit) is None:
            raise ValueError("must be V, mV, µV or nV")
        return unit


def build(settings: Settings, clock: Clock) -> LslSource:
    return LslSource(settings, clock)


class LslSource:
    """Implements `eegloop.ports.EegSource` over one inlet at a time."""

    _open_sources: ClassVar[int] = 0

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._wanted = Wanted(settings.name, settings.type, settings.source_id, settings.host, settings.predicate)
        self._inlet: Inlet | None = None
        self._header: StreamHeader | None = None
        self._samples: SampleClock | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._closing = False
        self._repeats = Repeats()
        self._shift_s = 0.0  # added to stamps of a sender whose clock is not this machine's
        self._markers: MarkerStream | None = None

    async def __aenter__(self) -> LslSource:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"lsl-{self._settings.name or 'any'}")
        self._closing = False
        try:
            self._inlet = await self._in_thread(self._first_inlet)
        except BaseException:
            self._closing = True
            self._thread.shutdown(wait=False, cancel_futures=True)
            raise
        self._header = self._inlet.header
        self._samples = SampleClock(self._header.info.sample_rate_hz)
        self._repeats = Repeats()
        self._shift_s = 0.0
        LslSource._open_sources += 1
        if self._settings.markers:
            self._markers = MarkerStream(self._settings.markers, self._settings.host, self._clock.lsl_s)
            self._markers.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        LslSource._open_sources -= 1
        self._closing = True
        if self._markers is not None:
            self._markers.stop()
        await self._drop_inlet()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def header(self) -> StreamHeader:
        if self._header is None:
            raise SourceError("LSL source: not connected; enter it first (async with)")
        return self._header

    @property
    def info(self) -> StreamInfo:
        return self.header.info

    @property
    def clock_state(self) -> ClockState:
        """Measured rate, jitter, uncertainty and losses."""
        assert self._samples is not None
        return replace(self._samples.state, duplicates=self._samples.duplicates + self._repeats.found)

    # ------------------------------------------------------------------ samples

    async def chunks(self) -> AsyncIterator[Chunk | SourceNews]:
        header, samples = self.header, self._samples
        assert samples is not None and self._inlet is not None
        yield SourceNews(
            "connected", f"LSL stream {header.info.name!r} from {header.info.host}", self._clock.lsl_s(), {"uid": header.uid}
        )
        contact = header.impedances_kohm
        if contact:
            text = "contact, as the header says: " + ", ".join(f"{label} {kohm:g} kΩ" for label, kohm in contact.items())
            data: dict[str, float | str] = {f"{label}_kohm": kohm for label, kohm in contact.items()}
            yield SourceNews("impedance", text, self._clock.lsl_s(), data)
        while not self._closing:
            async for item in self._attached(self._inlet, samples):
                yield item
            if self._closing:
                return
            async for item in self._attach_again(samples):
                yield item

    async def _attached(self, inlet: Inlet, samples: SampleClock) -> AsyncIterator[Chunk | SourceNews]:
        """Everything one inlet delivers, until it is lost."""
        now = self._clock.lsl_s()
        heard_s, offset_due_s, silent = now, now + OFFSET_EVERY_S, False
        offset: asyncio.Future[tuple[float, float] | None] | None = None
        samples.offset_uncertainty_s = inlet.offset_uncertainty_s
        segment = samples.segment
        wakeups = Wakeups(now, samples.nominal_hz)
        while not self._closing:
            due = wakeups.next_s(now, LslSource._open_sources)
            await asyncio.sleep(due - self._clock.lsl_s())
            now = self._clock.lsl_s()
            if self._markers is not None:
                for news in self._markers.take():
                    yield news
            try:
                pulled = inlet.pull()
            except StreamLost as lost:
                for chunk in samples.flush():
                    yield chunk
                if not silent:
                    yield self._lost(str(lost), heard_s, now)
                return
            if pulled is not None:
                pulled = pulled[0], self._times(pulled[1], inlet.offset_s, now)
                if silent:
                    silent = False
                    yield SourceNews("connected", f"LSL stream {self.info.name!r} sends again", now)
                heard_s = now
                placed = self._place(*pulled, inlet.offset_s, now, samples)
                wakeups.heard(now, float(pulled[1][-1]) + inlet.offset_s, samples.next_sample)
                for chunk in placed:
                    if chunk.segment != segment:
                        segment = chunk.segment
                        yield SourceNews("restarted", f"new segment: {samples.restart_reason}", chunk.t0_s)
                    yield chunk
            elif not silent and now - heard_s > self._settings.lost_after_s:
                silent = True
                for chunk in samples.flush():
                    yield chunk
                yield self._lost("no samples arrive", heard_s, now)
            elif silent and now - heard_s > self._settings.lost_after_s + GIVE_UP_S:
                return
            if offset is None and now >= offset_due_s:
                offset = asyncio.ensure_future(self._in_thread(inlet.offset_now))
            elif offset is not None and offset.done():
                measured = offset.result()
                if measured is not None:
                    inlet.offset_s, inlet.offset_uncertainty_s = measured
                    samples.offset_uncertainty_s = inlet.offset_uncertainty_s
                offset, offset_due_s = None, now + OFFSET_EVERY_S

    def _times(self, stamps_s: F64, offset_s: float, now_s: float) -> F64:
        """The sender's stamps; where they are no times (NaN, infinite, absurd) those of arrival, at the nominal rate."""
        if abs(float(stamps_s.sum())) < NO_TIME_S:  # not true of NaN
            return stamps_s
        behind_s = np.arange(len(stamps_s) - 1, -1, -1) / self.info.sample_rate_hz
        arrived: F64 = now_s - offset_s - self._shift_s - behind_s
        return arrived

    def _place(self, data_uv: F32, stamps_s: F64, offset_s: float, now_s: float, samples: SampleClock) -> list[Chunk]:
        data_uv, stamps_s = self._repeats.fresh(data_uv, stamps_s)
        stamps_s = stamps_s + offset_s
        n = len(stamps_s)
        if n == 0:
            return []
        most = max(1, round(max(CHUNK_S, step_s(LslSource._open_sources)) * samples.nominal_hz))
        if 2 * n <= 3 * most and self._agrees(stamps_s, now_s):
            return samples.feed(data_uv, stamps_s + self._shift_s if self._shift_s else stamps_s, now_s)
        out: list[Chunk] = []
        # Where the sender's clock was set inside a delivery, what comes after is placed by itself.
        cuts = [0, *(np.flatnonzero(np.abs(np.diff(stamps_s)) > FUTURE_S) + 1).tolist(), n]
        for begin, end in pairwise(cuts):
            if not self._agrees(stamps_s[begin:end], now_s):
                self._follow_clock(float(stamps_s[end - 1]), end - begin, now_s, samples)
            for i in range(begin, end, most):
                part = slice(i, min(i + most, end))
                out += samples.feed(data_uv[part], stamps_s[part] + self._shift_s, now_s)
        return out

    def _agrees(self, stamps_s: F64, now_s: float) -> bool:
        """The stamps are of this machine's clock: neither from the future nor older than anything liblsl keeps."""
        first_s, last_s = float(stamps_s[0]), float(stamps_s[-1])
        if not -FUTURE_S < now_s - (last_s + self._shift_s) < FOREIGN_S:
            return False
        # Between rising ends that lie close together no step can be a large one.
        close = self._repeats.rose and last_s - first_s <= FUTURE_S
        return close or bool(np.abs(np.diff(stamps_s)).max(initial=0.0) <= FUTURE_S)

    def _follow_clock(self, stamp_s: float, n: int, now_s: float, samples: SampleClock) -> None:
        """A sender whose clock is another one (set while it ran, started anew, or no LSL time at all): its stamps say how its
        samples follow one another, their arrival says when. The grid goes on where nothing is missing."""
        expected_s = samples.expected_s(n)
        at_s = expected_s if abs(expected_s - now_s) < FUTURE_S else now_s
        off_s = now_s - (stamp_s + self._shift_s)
        if -FUTURE_S < off_s < FOREIGN_S:
            return
        self._shift_s = at_s - stamp_s
        samples.new_segment(
            f"the sender's clock is {abs(off_s):.0f} s {'behind' if off_s > 0 else 'ahead'}; times are those of arrival"
        )

    def _lost(self, why: str, heard_s: float, now_s: float) -> SourceNews:
        text = "The headset stopped sending. Check that its light is on."
        return SourceNews("lost", text, now_s, {"reason": why, "last_sample_s": heard_s, "stream": self.info.name})

    # ------------------------------------------------------------------ coming back

    async def _attach_again(self, samples: SampleClock) -> AsyncIterator[Chunk | SourceNews]:
        """Try until the same stream is back: same source_id, name, type and host, same shape, a real sample in hand."""
        await self._drop_inlet()
        said, tries = "", 0
        while not self._closing:
            try:
                back, data_uv, stamps_s = await self._in_thread(self._same_inlet)
            except SourceError as error:
                if str(error) not in (said, ""):
                    said = str(error)
                    yield SourceNews("warning", said, self._clock.lsl_s())
                await asyncio.sleep(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)])
                tries += 1
                continue
            now = self._clock.lsl_s()
            restarted = back.header.uid != self.header.uid
            self._inlet, self._header = back, back.header
            samples.offset_uncertainty_s = back.offset_uncertainty_s
            if restarted:
                samples.new_segment("the sender was started again")
                yield SourceNews("restarted", f"LSL stream {self.info.name!r} was started again", now, {"uid": back.header.uid})
            yield SourceNews("connected", f"LSL stream {self.info.name!r} sends again", now, {"uid": back.header.uid})
            for chunk in self._place(data_uv, self._times(stamps_s, back.offset_s, now), back.offset_s, now, samples):
                yield chunk
            return

    def _first_inlet(self) -> Inlet:
        settings = self._settings
        info = find_stream(self._wanted, settings.wait_s, lambda: self._closing)
        return Inlet(info, OPEN_S, settings.unit, settings.channels)

    def _same_inlet(self) -> tuple[Inlet, F32, F64]:
        """One attempt, in the thread. Absence is a SourceError without text: nothing new to say."""
        before = self.header
        wanted = Wanted(before.info.name, before.type, before.info.source_id, before.info.host)
        try:
            info = find_stream(wanted, 2.0, lambda: self._closing)
        except SourceError as error:
            raise SourceError(str(error) if "streams match" in str(error) else "") from None
        inlet = Inlet(info, OPEN_S, self._settings.unit, self._settings.channels)
        try:
            if inlet.header.shape != before.shape:
                raise SourceError(
                    f"LSL stream {before.info.name!r} came back different ({_shape(inlet.header)} instead of {_shape(before)}); "
                    "restart it as it was, or restart eegloop to use it as it is"
                )
            deadline = time.monotonic() + 2.0
            while (pulled := inlet.pull()) is None:
                if time.monotonic() > deadline or self._closing:
                    raise SourceError("")
                time.sleep(0.005)
        except StreamLost:
            inlet.close()
            raise SourceError("") from None
        except SourceError:
            inlet.close()
            raise
        return inlet, *pulled

    async def _drop_inlet(self) -> None:
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            inlet.retire()
            await self._in_thread(inlet.close)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        assert self._thread is not None
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _shape(header: StreamHeader) -> str:
    info = header.info
    units = ",".join(dict.fromkeys(header.units))
    labels = " ".join(info.channels[:8]) + (" ..." if info.n_channels > 8 else "")
    return f"{info.n_channels} channels {labels}, {info.sample_rate_hz:g} Hz, {units}"
