"""Individual alpha frequency: peak and center of gravity by Corcoran's rule (2018), with its honest "no peak".

Per channel: the density (Hamming segments, averaged) is cut to 1-40 Hz, divided by its mean and smoothed by a
Savitzky-Golay polynomial that also gives its slope and curvature. An alpha peak is a downward zero of the
slope in the search range that stands above the log-power regression line by one standard deviation and above
the next peak by a fifth. Channels are joined weighted by how sharp their peaks are. Fewer than
`least_channels` with a peak: no value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from dsp.biomarkers.segments import Held, MeanDensity
from dsp.hop import Hop
from dsp.quality import Code
from dsp.sections import savitzky_golay
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, StreamInfo

# Posterior sites, where alpha lives; other EEG channels are used only if a montage has none of these.
POSTERIOR = ("O1", "O2", "Oz", "POz", "PO3", "PO4", "PO7", "PO8", "Pz", "P3", "P4", "P7", "P8", "TP9", "TP10")
_RANGE_HZ = (1.0, 40.0)


class Settings(Closed):
    """Search range, smoothing and averaging; the defaults are the published ones, averaged over 30 s."""

    window_s: float = Field(30.0, ge=4, le=300, description="s of signal behind a value, 4-300")
    segment_s: float = Field(4.0, ge=2, le=16, description="s of one spectrum, 2-16; half overlapping")
    search_hz: tuple[float, float] = Field((7.0, 13.0), description="Hz, where a peak counts as alpha, 5-20")
    smoothing_bins: int = Field(11, ge=5, le=51, description="bins under the smoothing polynomial, odd, 5-51")
    smoothing_order: int = Field(5, ge=2, le=7, description="degree of the smoothing polynomial, 2-7")
    least_excess: float = Field(0.2, ge=0, le=1, description="share by which the peak must exceed the next one, 0-1")
    least_sd: float = Field(1.0, ge=0, le=5, description="standard deviations above the regression line a peak needs, 0-5")
    least_channels: int = Field(1, ge=1, le=64, description="channels that must show a peak, 1-64 (published: 3)")
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
    """One channel's peak: frequency, the minima around it, and its sharpness (the weight among channels)."""

    peak_hz: float
    low_hz: float
    high_hz: float
    sharpness: float


@lru_cache(maxsize=16)
def _smoothers(n: int, spacing: float, bins: int, order: int) -> tuple[F64, F64, F64]:
    """Matrices that give n bins' Savitzky-Golay value, slope and curvature: the filter of unit vectors."""
    value, slope, bend = (savitzky_golay(n, bins, order, derivative, spacing) for derivative in range(3))
    return value, slope, bend


def alpha_peaks(frequency_hz: F64, density: F64, settings: Settings) -> list[AlphaPeak | None]:
    """Corcoran's rule for each row of (n_channels, n_bins) density; None where there is no peak (a slope, two alike, small)."""
    inside = (frequency_hz >= _RANGE_HZ[0]) & (frequency_hz <= _RANGE_HZ[1])
    f = frequency_hz[inside]
    p = np.asarray(density[:, inside], dtype=np.float64)
    peaks: list[AlphaPeak | None] = [None] * len(p)
    alive = np.flatnonzero(np.all(p > 0, axis=1))
    if len(f) < settings.smoothing_bins or not alive.size:
        return peaks
    p = p[alive] / p[alive].mean(1, keepdims=True)
    spacing = float(f[1] - f[0])
    smooth, slope, bend = (
        p @ matrix for matrix in _smoothers(len(f), spacing, settings.smoothing_bins, settings.smoothing_order)
    )
    log_power = np.log10(p)
    basis = np.column_stack([np.ones_like(f), f])
    line = basis @ np.linalg.lstsq(basis, log_power.T, rcond=None)[0]
    threshold = line.T + settings.least_sd * (log_power - line.T).std(1, keepdims=True)
    for row, channel in enumerate(alive):
        peaks[channel] = _peak(f, smooth[row], slope[row], bend[row], threshold[row], settings)
    return peaks


def _peak(f: F64, smooth: F64, slope: F64, bend: F64, threshold: F64, settings: Settings) -> AlphaPeak | None:
    spacing = float(f[1] - f[0])
    falls = np.flatnonzero((slope[:-1] > 0) & (slope[1:] <= 0))
    tops = np.where(smooth[falls] >= smooth[falls + 1], falls, falls + 1)
    low, high = settings.search_hz
    tops = tops[(f[tops] >= low) & (f[tops] <= high) & (smooth[tops] > 10 ** threshold[tops])]
    if not tops.size:
        return None
    tops = tops[np.argsort(smooth[tops])[::-1]]
    top = int(tops[0])
    if len(tops) > 1 and smooth[top] * (1 - settings.least_excess) <= smooth[tops[1]]:
        return None
    left, right = _foot(slope, top, -1, spacing), _foot(slope, top, 1, spacing)
    inner, outer = _inflection(bend, top, -1), _inflection(bend, top, 1)
    width = max(spacing, (outer - inner) * spacing)
    sharpness = float(np.sum(smooth[inner : outer + 1])) * spacing / width
    return AlphaPeak(float(f[top]), float(f[left]), float(f[right]), sharpness)


def _foot(slope: F64, top: int, step: int, spacing: float) -> int:
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


def _inflection(bend: F64, top: int, step: int) -> int:
    i = top
    while 0 < i < len(bend) - 1 and bend[i] < 0:
        i += step
    return i


def center_of_gravity(frequency_hz: F64, density: F64, low_hz: float, high_hz: float) -> float:
    """sum(f P) / sum(P) over [low, high] Hz; NaN without power."""
    inside = (frequency_hz >= low_hz - 1e-9) & (frequency_hz <= high_hz + 1e-9)
    power = float(density[inside].sum())
    return float((frequency_hz[inside] * density[inside]).sum()) / power if power > 0 else float("nan")


class IndividualAlphaFrequency:
    """Columns: the whole head's peak and center of gravity, then each used channel's."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._settings = settings
        self._picked = _channels(info, settings)
        n_fft = 1 << (round(settings.segment_s * info.sample_rate_hz) - 1).bit_length()
        self._mean = MeanDensity(info, line, settings.segment_s, settings.window_s, _RANGE_HZ[1], "hamming", n_fft)
        self.needs = (self._mean.need,)
        window_s = self._mean.window_s
        sites = ["n/a", *(info.channels[i] for i in self._picked)]
        self.columns = tuple(BiomarkerColumn(f"iaf.{part}", site, "Hz", window_s) for part in ("peak", "cog") for site in sites)
        self._held = Held([self._picked, *((i,) for i in self._picked)] * 2)
        self._values, self._codes = self._held.values, self._held.codes

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if self._mean.update(hop):
            self._refresh(hop)
        return self._held.give(hop, values, grades)

    def _refresh(self, hop: Hop) -> None:
        frequency = hop.frequencies(self._mean.need)
        density, channel_codes = self._mean.density()
        n = len(self._picked)
        picked_codes = channel_codes[list(self._picked)]
        usable = [j for j in range(n) if picked_codes[j] < Code.SETTLING]
        peaks: list[AlphaPeak | None] = [None] * n
        codes = picked_codes.copy()
        if usable:
            for j, found in zip(
                usable, alpha_peaks(frequency, density[[self._picked[j] for j in usable]], self._settings), strict=True
            ):
                peaks[j] = found
                if found is None:
                    codes[j] = Code.NO_PEAK
        self._values[:] = np.nan
        shown = [(j, p) for j, p in enumerate(peaks) if p is not None]
        for j, p in shown:
            self._values[1 + j] = p.peak_hz
        whole = int(codes.min()) if n else Code.NO_PEAK
        if len(shown) >= min(self._settings.least_channels, n):
            weights = np.array([p.sharpness for _, p in shown])
            self._values[0] = float(np.average([p.peak_hz for _, p in shown], weights=weights))
            low, high = (float(np.mean(bound)) for bound in zip(*((p.low_hz, p.high_hz) for _, p in shown), strict=True))
            for j in usable:
                self._values[n + 2 + j] = center_of_gravity(frequency, density[self._picked[j]], low, high)
            self._values[n + 1] = float(np.mean(self._values[[n + 2 + j for j in usable]]))
            whole = max(int(codes[j]) for j, _ in shown)
            cog = np.where(codes == Code.NO_PEAK, picked_codes, codes)
        else:
            whole = Code.NO_PEAK if whole < Code.SETTLING else whole
            cog = np.where(codes < Code.SETTLING, np.uint8(Code.NO_PEAK), codes)
        self._codes[0], self._codes[n + 1] = whole, whole
        self._codes[1 : n + 1], self._codes[n + 2 :] = codes, cog


def _channels(info: StreamInfo, settings: Settings) -> tuple[int, ...]:
    eeg = [i for i, kind in enumerate(info.kinds) if kind == "eeg"]
    names = {info.channels[i].strip().lower(): i for i in eeg}
    if settings.channels is not None:
        for label in settings.channels:
            if label.strip().lower() not in names:
                raise ConfigError(
                    f"biomarkers: iaf.channels: {label!r} is no EEG channel of this stream; there are: {', '.join(info.channels)}"
                )
        return tuple(names[label.strip().lower()] for label in settings.channels)
    posterior = tuple(names[label.lower()] for label in POSTERIOR if label.lower() in names)
    return posterior or tuple(eeg)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> IndividualAlphaFrequency:
    return IndividualAlphaFrequency(info, settings, line)
