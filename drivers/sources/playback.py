"""A recording as a live stream: at real speed, at a multiple of it, or as fast as the reader takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator

from drivers.sources.files import Marker, Recording, open_recording
from eegloop.closed import Closed
from eegloop.errors import SourceError
from eegloop.ports import Clock
from eegloop.signal import Chunk, SourceNews, StreamInfo


class Settings(Closed):
    """A recording played as if it were a headset."""

    file: str = Field(min_length=1, description="BrainVision, EDF/BDF, FIF, XDF, OpenBCI text, Muse CSV or npz; path")
    speed: float = Field(1.0, ge=0.0, le=1000.0, description="times real time, 0.1-1000; 0 = as fast as possible")
    chunk_ms: float = Field(20.0, ge=1.0, le=1000.0, description="ms of samples in one delivery")
    loop: bool = Field(False, description="start again at the end, as a new segment")
    stream: str | None = Field(None, description="name of the stream, for files that hold several (XDF)")

    @field_validator("speed")
    @classmethod
    def _not_too_slow(cls, speed: float) -> float:
        if 0.0 < speed < 0.1:
            raise ValueError("must be 0 (as fast as possible) or 0.1-1000")
        return speed


def build(settings: Settings, clock: Clock) -> PlaybackSource:
    return PlaybackSource(settings, clock)


class PlaybackSource:
    """Implements `eegloop.ports.EegSource` over `files.Recording`.

    Times start at the LSL clock's now and go on at the file's own rate. At real speed a chunk is handed out when
    its last sample is due. At other speeds time is the file's: `arrival_s` is the end of the chunk, not the clock's
    now, so that ages and deadlines behave as they would have live, and two runs give the same numbers.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._recording: Recording | None = None

    async def __aenter__(self) -> PlaybackSource:
        self._recording = await asyncio.to_thread(open_recording, Path(self._settings.file), self._settings.stream)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._recording = None

    @property
    def recording(self) -> Recording:
        """The opened file."""
        if self._recording is None:
            raise SourceError(f"{self._settings.file}: is not open; enter the source first (async with)")
        return self._recording

    @property
    def info(self) -> StreamInfo:
        return self.recording.info

    async def chunks(self) -> AsyncIterator[Chunk | SourceNews]:
        recording, speed = self.recording, self._settings.speed
        rate = recording.info.sample_rate_hz
        chunk_samples = max(1, round(self._settings.chunk_ms / 1000 * rate))
        start_s = self._clock.lsl_s()
        for note in recording.notes:
            yield SourceNews("warning", note, start_s)
        shift = segment = 0  # what earlier rounds added
        while True:
            markers = list(recording.markers)[::-1]
            last: Chunk | None = None
            for row, raw in recording.chunks(chunk_samples):
                t0 = start_s + (shift + raw.first_sample) / rate
                end_s = t0 + raw.n_samples / rate
                await self._until(end_s, start_s, speed)
                arrival = max(self._clock.lsl_s(), end_s) if speed == 1.0 else end_s
                for news in _due(markers, row, raw, t0, rate):
                    yield news
                last = replace(
                    raw, first_sample=shift + raw.first_sample, t0_s=t0, arrival_s=arrival, segment=segment + raw.segment
                )
                yield last
            if not self._settings.loop or last is None:
                break
            shift, segment = last.end_sample, last.segment + 1
        yield SourceNews("ended", f"{recording.path.name}: played to its end", start_s + shift / rate + recording.duration_s)

    async def _until(self, due_s: float, start_s: float, speed: float) -> None:
        """Wait until the file's time `due_s` has come at this speed; always lets others run."""
        wait = 0.0 if speed == 0.0 else (due_s - start_s) / speed - (self._clock.lsl_s() - start_s)
        await asyncio.sleep(max(wait, 0.0))


def _due(markers: list[Marker], row: int, chunk: Chunk, t0_s: float, rate_hz: float) -> list[SourceNews]:
    """Take the markers (last first) that belong to rows up to this chunk's end."""
    news = []
    while markers and markers[-1].sample < row + chunk.n_samples:
        marker = markers.pop()
        t = t0_s + (marker.sample - row) / rate_hz
        news.append(SourceNews("marker", marker.text, t, {"kind": marker.kind, "duration_s": marker.duration_samples / rate_hz}))
    return news
