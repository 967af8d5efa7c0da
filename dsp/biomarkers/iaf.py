"""Individual alpha frequency: peak and center of gravity by Corcoran's rule (2018), with its honest "no peak", and the plain maximum.

Per channel: the density (Hamming segments, averaged) is cut to 1-40 Hz, divided by its mean and smoothed by a
Savitzky-Golay polynomial that also gives its slope and curvature. An alpha peak is the highest downward zero of the
slope in the search range if it stands above the log-power regression line by one standard deviation and above
the next by a fifth; where it does not stand above the next there are two peaks, none of them the person's, but the center of gravity
between the outermost ones' feet is still theirs. Channels' peaks are joined weighted by how sharp they are. Fewer than
`least_channels` with a peak (for the center: with bounds), or than half of a small montage: no value. As long as so many channels are
good, the head's values are made of good ones alone: a loose electrode among them neither moves nor spoils them.

`iaf.maximum` is the largest bin of the search range, interpolated by a parabola through log power: what most reports call alpha
peak. It is suspect wherever Corcoran's rule finds no peak: there another minute may well put it somewhere else.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from dsp.biomarkers.segments import Held, MeanDensity
from dsp.codes import EYES_HZ
from dsp.hop import Hop, electrode
from dsp.quality import Code
from dsp.sections import savitzky_golay
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

# Posterior sites, where alpha lives; other EEG channels are used only if a montage has none of these.
POSTERIOR = ("O1", "O2", "Oz", "POz", "PO3", "PO4", "PO7", "PO8", "Pz", "P3", "P4", "P7", "P8", "TP9", "TP10")
_RANGE_HZ = (1.0, 40.0)
# an Enum's member is looked up anew each time it is named: a third of a microsecond
_GOOD, _SETTLING, _NO_PEAK, _NO_POWER, _UNCLEAR_PEAK = Code.GOOD, Code.SETTLING, Code.NO_PEAK, Code.NO_POWER, Code.UNCLEAR_PEAK


class Settings(Closed):
    """Search range, smoothing and averaging; the defaults are the published ones, averaged over the two minutes a rest takes."""

    window_s: float = Field(120.0, ge=4, le=300, description="s of signal behind a value, 4-300")
    least_s: float = Field(30.0, ge=4, le=300, description="s of which half, clean, will do while the window grows, 4-300")
    segment_s: float = Field(4.0, ge=2, le=16, description="s of one spectrum, 2-16; half overlapping")
    search_hz: tuple[float, float] = Field((7.0, 13.0), description="Hz, where a peak counts as alpha, 5-20")
    smoothing_bins: int = Field(11, ge=5, le=51, description="bins under the smoothing polynomial, odd, 5-51")
    smoothing_order: int = Field(5, ge=2, le=7, description="degree of the smoothing polynomial, 2-7")
    least_excess: float = Field(0.2, ge=0, le=1, description="share by which the peak must exceed the next one, 0-1")
    least_sd: float = Field(1.0, ge=0, le=5, description="standard deviations above the regression line a peak needs, 0-5")
    least_channels: int = Field(
        3,
        ge=1,
        le=64,
        description="channels that must show a peak for the whole head to have one, 1-64; half of them where there are less than twice as many",
    )
    channels: tuple[str, ...] | None = Field(
        None, description="labels to use; null = the posterior ones, or all where there are none"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 5 <= self.search_hz[0] < self.search_hz[1] <= 20:
            raise ValueError(f"search_hz {list(self.search_hz)} must be low < high within 5-20 Hz")
        if self.smoothing_bins % 2 == 0 or self.smoothing_order >= self.smoothing_bins:
            raise ValueError("smoothing_bins must be odd and larger than smoothing_order")
        if self.window_s < self.segment_s:
            raise ValueError(f"window_s {self.window_s:g} s is shorter than segment_s {self.segment_s:g} s")
        return self


@dataclass(frozen=True, slots=True)
class AlphaPeak:
    """One channel's peak: frequency (NaN if there are two alike), the feet around it or them, its sharpness (weight among channels)."""

    peak_hz: float
    low_hz: float
    high_hz: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class _Design:
    """What Corcoran's rule does with every density of one set of bins.

    Attributes
    ----------
    smoothers : (n, 3 n) float64
        A density times this is its Savitzky-Golay value, slope and curvature: the filter of unit vectors.
    away_hz : (n,) float64
        Frequencies about their mean, which makes the regression line's two unknowns independent of each other.
    away_square : float
        Sum of their squares.
    per_bin : (n,) float64
        Standard deviation of a new point about the line, in residual standard deviations.
    """

    smoothers: F64
    away_hz: F64
    away_square: float
    per_bin: F64


@lru_cache(maxsize=16)
def _design(first: int, n: int, spacing: float, bins: int, order: int) -> _Design:
    """For the n bins from bin `first` on."""
    away = spacing * (np.arange(n) - (n - 1) / 2)
    square = float(away @ away)
    made = _Design(
        np.hstack([savitzky_golay(n, bins, order, derivative, spacing) for derivative in range(3)]),
        np.asarray(away, dtype=np.float64),
        square,
        np.sqrt(1 + 1 / n + away**2 / square),
    )
    for array in (made.smoothers, made.away_hz, made.per_bin):
        array.flags.writeable = False
    return made


def alpha_peaks(frequency_hz: F64, density: F64, settings: Settings) -> list[AlphaPeak | None]:
    """Corcoran's rule for each row of (n_channels, n_bins) density; None where there is no peak (a slope, two alike, small).

    The frequencies are evenly spaced and rise.
    """
    bins = _within(frequency_hz, *_RANGE_HZ)
    f = frequency_hz[bins]
    p = np.asarray(density[:, bins], dtype=np.float64)
    peaks: list[AlphaPeak | None] = [None] * len(p)
    alive = np.flatnonzero(np.minimum.reduce(p, axis=1) > 0) if p.size else np.empty(0, dtype=np.intp)
    n = len(f)
    if n < settings.smoothing_bins or not alive.size:
        return peaks
    if len(alive) < len(p):
        p = p[alive]
    p = p / np.add.reduce(p, axis=1, keepdims=True) * n
    spacing = float(f[1] - f[0])
    design = _design(bins.start, n, spacing, settings.smoothing_bins, settings.smoothing_order)
    smoothed = p @ design.smoothers
    log_power = np.log10(p)
    level = np.add.reduce(log_power, axis=1, keepdims=True) / n
    incline = (log_power @ design.away_hz)[:, np.newaxis] / design.away_square
    line = level + incline * design.away_hz
    residual = log_power - line
    sd = np.sqrt(np.vecdot(residual, residual) / (n - 2))
    threshold = 10 ** (line + settings.least_sd * sd[:, np.newaxis] * design.per_bin)
    # as memory, not lists: few of the numbers are looked at
    for channel, values, limits in zip(alive.tolist(), smoothed, threshold, strict=True):
        row = values.data
        peaks[channel] = _peak(f.data, row[:n], row[n : 2 * n], row[2 * n :], limits.data, settings)
    return peaks


def _within(frequency_hz: F64, low_hz: float, high_hz: float) -> slice:
    """The bins of rising frequencies that lie in [low, high] Hz."""
    return slice(bisect_left(frequency_hz, low_hz), bisect_right(frequency_hz, high_hz))


def _peak(
    f: Sequence[float],
    smooth: Sequence[float],
    slope: Sequence[float],
    bend: Sequence[float],
    threshold: Sequence[float],
    settings: Settings,
) -> AlphaPeak | None:
    spacing = f[1] - f[0]
    low, high = settings.search_hz
    first, last = bisect_left(f, low), bisect_right(f, high) - 1
    tops: list[int] = []
    for i in range(max(0, first - 1), min(last, len(f) - 2) + 1):
        if slope[i] > 0 >= slope[i + 1]:
            at = i if smooth[i] >= smooth[i + 1] else i + 1
            if first <= at <= last:
                tops.append(at)
    if not tops:
        return None
    by_height = sorted(tops, key=smooth.__getitem__)[::-1]
    top = by_height[0]
    if smooth[top] <= threshold[top]:
        return None
    # what is no ripple beside the highest one belongs to the same alpha
    own = [i for i in tops if smooth[i] > threshold[i] or smooth[i] > 0.5 * smooth[top]]
    left, right = _foot(slope, min(own), -1, spacing), _foot(slope, max(own), 1, spacing)
    if len(by_height) > 1 and smooth[top] * (1 - settings.least_excess) <= smooth[by_height[1]]:
        return AlphaPeak(float("nan"), f[left], f[right], 0.0)
    inner, outer = _inflection(bend, top, -1), _inflection(bend, top, 1)
    width = max(spacing, (outer - inner) * spacing)
    return AlphaPeak(f[top], f[left], f[right], sum(smooth[inner : outer + 1]) * spacing / width)


def _foot(slope: Sequence[float], top: int, step: int, spacing: float) -> int:
    """The first minimum beside a peak, or where the slope has been nearly level for about 1 Hz."""
    level, needed = 0, max(1, round(1.0 / spacing))
    i = top + step
    while 0 < i < len(slope) - 1:
        if slope[i] * step > 0 and (i - top) * step > 1:
            return i - step
        level = level + 1 if abs(slope[i]) < 1.0 and (i - top) * step > 1 else 0
        if level >= needed:
            return i - step * (needed - 1)
        i += step
    return min(max(i, 0), len(slope) - 1)


def _inflection(bend: Sequence[float], top: int, step: int) -> int:
    i = top
    while 0 < i < len(bend) - 1 and bend[i] < 0:
        i += step
    return i


def center_of_gravity(frequency_hz: F64, density: F64, low_hz: float, high_hz: float) -> float:
    """sum(f P) / sum(P) over [low, high] Hz; NaN without power."""
    return centers_of_gravity(frequency_hz, density[np.newaxis], low_hz, high_hz)[0]


def centers_of_gravity(frequency_hz: F64, densities: F64, low_hz: float, high_hz: float) -> list[float]:
    """`center_of_gravity` of each row of (n, n_bins) densities."""
    bins = _within(frequency_hz, low_hz - 1e-9, high_hz + 1e-9)
    inside = densities[:, bins]
    moments, powers = (inside @ frequency_hz[bins]).tolist(), np.add.reduce(inside, axis=1).tolist()
    return [moment / power if power > 0 else math.nan for moment, power in zip(moments, powers, strict=True)]


def interpolated_maximum(frequency_hz: F64, density: F64, search_hz: tuple[float, float]) -> float:
    """Frequency of the largest bin in the range, moved to the top of the parabola through log power of it and its neighbors.

    NaN if the largest is at an edge of the range: that is a slope, no maximum.
    """
    return interpolated_maxima(frequency_hz, density[np.newaxis], search_hz)[0]


def interpolated_maxima(frequency_hz: F64, densities: F64, search_hz: tuple[float, float]) -> list[float]:
    """`interpolated_maximum` of each row of (n, n_bins) densities."""
    bins = _within(frequency_hz, search_hz[0] - 1e-9, search_hz[1] + 1e-9)
    curves = densities[:, bins]
    if curves.shape[1] < 3:
        return [math.nan] * len(curves)
    spacing = float(frequency_hz[1] - frequency_hz[0])
    found: list[float] = []
    for top, curve in zip(np.argmax(curves, axis=1).tolist(), curves.tolist(), strict=True):
        if not 0 < top < len(curve) - 1 or not min(curve[top - 1 : top + 2]) > 0:
            found.append(math.nan)
            continue
        below, here, above = map(math.log, curve[top - 1 : top + 2])
        bend = below - 2 * here + above
        shift = 0.5 * (below - above) / bend if bend < 0 else 0.0
        found.append(float(frequency_hz[bins.start + top]) + shift * spacing)
    return found


class IndividualAlphaFrequency:
    """Columns: the whole head's peak, center of gravity and maximum, each followed by each used channel's."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._settings = settings
        self._picked = _channels(info, settings)
        n_fft = 1 << (round(settings.segment_s * info.sample_rate_hz) - 1).bit_length()
        # a small blink or weak muscle raises what lies beside alpha, not where alpha is
        self._mean = MeanDensity(
            info,
            line,
            settings.segment_s,
            settings.window_s,
            _RANGE_HZ[1],
            "hamming",
            n_fft,
            self._picked,
            settings.least_s,
            EYES_HZ,
            settings.search_hz[1],
        )
        self.needs = (self._mean.need,) if self._picked else ()
        window_s = self._mean.window_s
        sites = ["n/a", *(info.channels[i] for i in self._picked)]
        self.columns = tuple(
            BiomarkerColumn(f"iaf.{part}", site, "Hz", window_s) for part in ("peak", "cog", "maximum") for site in sites
        )
        self._held = Held([self._picked, *((i,) for i in self._picked)] * 3)

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._picked:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs an EEG channel",) * len(self.columns)
        if self._mean.update(hop):
            self._refresh(hop)
        return self._held.give(hop, values, grades)

    def _refresh(self, hop: Hop) -> None:
        frequency = self._mean.frequency_hz
        density, channel_codes = self._mean.density()
        n = len(self._picked)
        values = np.full((3, n + 1), np.nan)
        codes = np.full((3, n + 1), np.uint8(_NO_PEAK))
        codes[:, 1:] = channel_codes
        usable = np.flatnonzero(channel_codes < _SETTLING)
        good = np.flatnonzero(channel_codes == _GOOD)
        of_head = good if len(good) >= self._least(n) else usable
        codes[:, 0] = channel_codes[of_head].max() if of_head.size else channel_codes.min()
        if usable.size:
            found = dict(zip(usable.tolist(), alpha_peaks(frequency, density[usable], self._settings), strict=True))
            self._peaks(found, of_head, values[0], codes[0])
            self._centers(found, of_head, frequency, density, values[1], codes[1])
            self._maxima(usable, of_head, frequency, density, values[2], codes[2], values[0])
        self._held.values[:] = values.ravel()
        self._held.codes[:] = codes.ravel()

    def _peaks(self, found: dict[int, AlphaPeak | None], of_head: NDArray[np.intp], values: F64, codes: U8) -> None:
        for j, peak in found.items():
            if peak is not None and peak.sharpness > 0:
                values[1 + j] = peak.peak_hz
            else:
                codes[1 + j] = _NO_PEAK
        shown = [(j, p) for j in of_head.tolist() if (p := found[j]) is not None and p.sharpness > 0]
        codes[0] = _NO_PEAK
        if len(shown) >= self._least(len(values) - 1):
            sharpness = math.fsum(peak.sharpness for _, peak in shown)
            values[0] = math.fsum(peak.peak_hz * peak.sharpness for _, peak in shown) / sharpness
            codes[0] = max(int(codes[1 + j]) for j, _ in shown)

    def _centers(
        self,
        found: dict[int, AlphaPeak | None],
        of_head: NDArray[np.intp],
        frequency: F64,
        density: F64,
        values: F64,
        codes: U8,
    ) -> None:
        bounds = [(peak.low_hz, peak.high_hz) for j in of_head.tolist() if (peak := found[j]) is not None]
        if len(bounds) < self._least(len(values) - 1):
            codes[0] = _NO_PEAK
            codes[[1 + j for j in found]] = _NO_PEAK
            return
        low, high = (sum(bound[side] for bound in bounds) / len(bounds) for side in (0, 1))
        for j, center in zip(found, centers_of_gravity(frequency, density[list(found)], low, high), strict=True):
            values[1 + j] = center
            if math.isnan(center):
                codes[1 + j] = _NO_POWER
        there = of_head[np.isfinite(values[1 + of_head])]
        values[0] = math.fsum(values[1 + there].tolist()) / len(there)
        codes[0] = int(codes[1 + there].max())

    def _maxima(
        self,
        usable: NDArray[np.intp],
        of_head: NDArray[np.intp],
        frequency: F64,
        density: F64,
        values: F64,
        codes: U8,
        peaks: F64,
    ) -> None:
        shown = density[of_head]
        level = np.add.reduce(shown[:, _within(frequency, *_RANGE_HZ)], axis=1)
        level[level <= 0] = np.inf  # a channel without power has no say
        alike = (1.0 / level) @ shown
        maxima = interpolated_maxima(frequency, np.vstack([alike, density[usable]]), self._settings.search_hz)
        for slot, maximum in zip((0, *(1 + usable).tolist()), maxima, strict=True):
            values[slot] = maximum
            if math.isnan(maximum):
                codes[slot] = _NO_PEAK
            elif codes[slot] == _GOOD and math.isnan(peaks[slot]):
                codes[slot] = _UNCLEAR_PEAK

    def _least(self, n: int) -> int:
        return min(self._settings.least_channels, (n + 1) // 2)


def _channels(info: StreamInfo, settings: Settings) -> tuple[int, ...]:
    if settings.channels is not None:
        found = [(label, electrode(info, label)) for label in settings.channels]
        for label, i in found:
            if i is None:
                raise ConfigError(
                    f"biomarkers: iaf.channels: {label!r} is no EEG channel of this stream; there are: {', '.join(info.channels)}"
                )
        return tuple(i for _, i in found if i is not None)
    posterior = tuple(i for label in POSTERIOR if (i := electrode(info, label)) is not None)
    return posterior or tuple(i for i, kind in enumerate(info.kinds) if kind == "eeg")


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> IndividualAlphaFrequency:
    return IndividualAlphaFrequency(info, settings, line)
