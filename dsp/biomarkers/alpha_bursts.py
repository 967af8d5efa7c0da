"""Alpha bursts per minute: how often the envelope of the person's alpha rises above twice its own median for three cycles.

The envelope is that of a short complex filter at the person's alpha frequency (a Hann-windowed wave, half its gain at
± 2 Hz), so it lags by a quarter of a second and looks at nothing later. The median runs over the good signal of the window. Exploratory:
no accepted threshold exists, and values of different thresholds or windows do not compare.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from pydantic import Field

from dsp.biomarkers.segments import Held
from dsp.biomarkers.sites import sites
from dsp.hop import Hop, SampleNeed
from dsp.quality import GRADES, Code
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

_ENVELOPE_HZ = 50.0
_LEAST_SHARE = 0.5


class Settings(Closed):
    """Frequency, threshold and window."""

    center_hz: float = Field(10.0, ge=6, le=14, description="Hz, the person's alpha peak, 6-14")
    half_width_hz: float = Field(2.0, ge=1, le=4, description="Hz from the center to half the gain, 1-4")
    threshold: float = Field(2.0, ge=1.1, le=10, description="times the window's median envelope, 1.1-10")
    least_cycles: float = Field(3.0, ge=1, le=20, description="cycles a burst lasts at least, 1-20")
    window_s: float = Field(120.0, ge=20, le=600, description="s of signal behind a value, 20-600")
    every_s: float = Field(1.0, ge=0.1, le=60, description="s between two values, 0.1-60")
    channels: tuple[str, ...] | None = Field(None, description="labels; null = up to four usual sites the montage has")


def envelope_taps(rate_hz: float, center_hz: float, half_width_hz: float) -> F64:
    """(n, 2): real and imaginary taps, oldest sample first, with gain one for a wave at the center's amplitude."""
    n = max(8, round(rate_hz / half_width_hz))
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    angle = 2 * np.pi * center_hz / rate_hz * np.arange(n)
    taper *= 2 / taper.sum()
    return np.column_stack([taper * np.cos(angle), -taper * np.sin(angle)])


def count_bursts(envelope: F64, limit: float, least_points: int) -> int:
    """Runs of at least `least_points` values above the limit; NaN (not looked at) ends a run."""
    with np.errstate(invalid="ignore"):
        above = np.concatenate([[False], envelope > limit, [False]])
    edges = np.flatnonzero(above[1:] != above[:-1])
    return sum(1 for start, stop in list(pairwise(edges.tolist()))[::2] if stop - start >= least_points)


class AlphaBursts:
    """Columns: a site each."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        rate = info.sample_rate_hz
        if settings.center_hz + 2 * settings.half_width_hz >= rate / 2:
            raise ConfigError(
                f"biomarkers: alpha_bursts.center_hz: {settings.center_hz:g} Hz is too high for {rate:g} samples per second"
            )
        self._sites = np.array(sites("alpha_bursts", info, settings.channels), dtype=np.intp)
        self._taps = envelope_taps(rate, settings.center_hz, settings.half_width_hz)
        self._span_hz = settings.center_hz - settings.half_width_hz, settings.center_hz + settings.half_width_hz
        self._stride = max(1, round(rate / _ENVELOPE_HZ))
        grid = Grid.of(rate, line.hop_s)
        self._n_window = grid.window_samples(settings.window_s)
        self._most = self._n_window // self._stride
        self._threshold = settings.threshold
        self._least_points = max(1, math.ceil(settings.least_cycles / settings.center_hz * rate / self._stride - 1e-9))
        self._every = max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self._hop_samples = math.ceil(exact(line.hop_s) * exact(rate))
        self.needs = (SampleNeed(len(self._taps) + self._hop_samples),) if self._sites.size else ()
        labels = [info.channels[i] for i in self._sites] or ["n/a"]
        self.columns = tuple(BiomarkerColumn("alpha_bursts", label, "1/min", settings.window_s) for label in labels)
        self._held = Held([(int(i),) for i in self._sites])
        self._minutes = settings.window_s / 60
        # The newest points of each site, a ring by the point's number on the absolute sample grid.
        self._ring: F64 = np.full((len(self._sites), self._most), np.nan)
        self._newest = -1

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._sites.size:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs an EEG channel",) * len(self.columns)
        self._take(hop)
        if hop.number % self._every == 0:
            self._renew(hop)
        return self._held.give(hop, values, grades)

    def _take(self, hop: Hop) -> None:
        """Envelope at every multiple of the stride within this hop; NaN where the channel is not good."""
        end, n = hop.end_sample, len(self._taps)
        last = (end - 1) // self._stride
        first = max(last - (self._hop_samples - 1) // self._stride, self._newest + 1)
        if last - self._newest > self._most:
            self._ring[:] = np.nan
        elif first > self._newest + 1:
            self._ring[:, np.arange(self._newest + 1, first) % self._most] = np.nan
        self._newest = last
        if first > last:
            return
        numbers = np.arange(first, last + 1)
        length = n + self._hop_samples
        window = hop.window(length)[self._sites]
        ends = numbers * self._stride + 1 - (end - length)  # one past each point's newest sample, within the window
        rows = [window[:, stop - n : stop] @ self._taps for stop in ends.tolist()]
        envelope = np.hypot(*np.moveaxis(np.array(rows), 2, 0)).T
        envelope[hop.codes(length, *self._span_hz)[self._sites] != Code.GOOD] = np.nan
        self._ring[:, numbers % self._most] = envelope

    def _renew(self, hop: Hop) -> None:
        in_order = np.roll(self._ring, -((self._newest + 1) % self._most), axis=1)
        there = np.isfinite(in_order)
        latest = hop.codes(len(self._taps) + self._hop_samples, *self._span_hz)[self._sites]
        for j, row in enumerate(in_order):
            share = float(there[j].mean())
            if share < _LEAST_SHARE:
                self._held.values[j] = np.nan
                self._held.codes[j] = latest[j] if GRADES[latest[j]] == Grade.INVALID else Code.TOO_FEW
                continue
            median = float(np.median(row[there[j]]))
            if median <= 0:
                self._held.values[j], self._held.codes[j] = np.nan, Code.NO_POWER
                continue
            bursts = count_bursts(row, self._threshold * median, self._least_points)
            self._held.values[j], self._held.codes[j] = bursts / (share * self._minutes), Code.GOOD


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> AlphaBursts:
    return AlphaBursts(info, settings, line)
