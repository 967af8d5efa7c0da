"""Midline frontal source theta: log10 of theta current density around the rostral cingulate over the whole head's.

One matrix product a window with a precomputed eLORETA filter (`dsp/inverse.py`), refused under 19 electrodes.
Poorly specific, whatever the name of the region: it follows frontal midline theta at the scalp (r about 0.8), and a
blink outweighs any brain source 300 times, so only windows that are good in every electrode count.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, field_validator

from dsp import inverse
from dsp.biomarkers.band_power import checked_bands
from dsp.biomarkers.segments import Held
from dsp.hop import Hop, placed
from dsp.quality import GRADES, Code
from dsp.spectrum import SpectrumNeed, bin_frequencies
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo


class Settings(Closed):
    """Band, region and averaging."""

    band_hz: tuple[float, float] = Field((4.0, 8.0), description="[low, high) in Hz, 0-1000")
    center_mm: tuple[float, float, float] = Field((0.0, 38.0, 4.0), description="MNI mm, center of the region")
    radius_mm: float = Field(15.0, ge=5, le=60, description="mm, radius of the region, 5-60")
    segment_s: float = Field(2.0, ge=1, le=8, description="s of one cross-spectrum, 1-8; half overlapping")
    window_s: float = Field(20.0, ge=2, le=300, description="s of signal behind a value, 2-300")
    every_s: float = Field(1.0, ge=0.1, le=60, description="s between two values, 0.1-60")

    @field_validator("band_hz")
    @classmethod
    def _band(cls, band_hz: tuple[float, float]) -> tuple[float, float]:
        return checked_bands({"band": band_hz})["band"]


class SourceTheta:
    """One column for the whole head."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        rate = info.sample_rate_hz
        if settings.band_hz[1] > rate / 2:
            raise ConfigError(
                f"biomarkers: source_theta.band_hz: {settings.band_hz[1]:g} Hz is above half of {rate:g} samples per second"
            )
        places = placed(info)
        self._sites = np.array([i for i, _ in places], dtype=np.intp)
        self._enough = len(places) >= inverse.LEAST_ELECTRODES
        self._step = max(1, math.floor(exact(settings.segment_s) / 2 / exact(line.hop_s)))
        self._every = max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self._most = max(1, 1 + math.floor((settings.window_s - settings.segment_s) / (self._step * line.hop_s) + 1e-9))
        window_s = settings.segment_s + (self._most - 1) * self._step * line.hop_s
        self.columns = (BiomarkerColumn("source_theta.racc", "n/a", "1", window_s),)
        n = Grid.of(rate, line.hop_s).window_samples(settings.segment_s)
        self._need = SpectrumNeed(n, settings.band_hz[1], "hann", "constant", self._step, complex_bins=True)
        self.needs = (self._need,) if self._enough else ()
        frequency = bin_frequencies(self._need, rate)
        self._bins = np.flatnonzero((frequency >= settings.band_hz[0] - 1e-9) & (frequency < settings.band_hz[1] - 1e-9))
        if not self._bins.size:
            raise ConfigError(
                f"biomarkers: source_theta.band_hz holds no bin of a {settings.segment_s:g} s segment; widen either"
            )
        if self._enough:
            roi = inverse.Roi(settings.center_mm, settings.radius_mm)
            try:
                self._region, self._head, _ = inverse.power_forms(tuple(name for _, name in places), roi)
            except ValueError as error:
                raise ConfigError(f"biomarkers: source_theta.center_mm: {error}; choose a point inside the brain") from None
        self._held = Held([tuple(self._sites.tolist()) or (0,)])
        self._kept: list[tuple[int, F64, int]] = []

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._enough:
            values[0], grades[0] = np.nan, Grade.INVALID
            return (f"needs at least {inverse.LEAST_ELECTRODES} electrodes with 10-20 names",)
        if hop.number % self._step == 0:
            self._take(hop)
        if hop.number % self._every == 0:
            self._renew()
        return self._held.give(hop, values, grades)

    def _take(self, hop: Hop) -> None:
        self._kept = [kept for kept in self._kept if hop.number - kept[0] < self._most * self._step]
        code = int(hop.codes(self._need.n_samples, highest_hz=self._need.f_max_hz)[self._sites].max())
        bins = hop.transform(self._need)[np.ix_(self._sites, self._bins)]
        self._kept.append((hop.number, (bins @ bins.conj().T).real, code))

    def _renew(self) -> None:
        good = [cross for _, cross, code in self._kept if code == Code.GOOD]
        if 2 * len(good) < self._most:
            latest = self._kept[-1][2] if self._kept else Code.SETTLING
            self._held.values[0] = np.nan
            self._held.codes[0] = latest if GRADES[latest] == Grade.INVALID else Code.TOO_FEW
            return
        value = region_share(self._region, self._head, np.mean(good, axis=0))
        self._held.values[0] = value
        self._held.codes[0] = Code.GOOD if math.isfinite(value) else Code.NO_POWER


def region_share(region: F64, head: F64, cross: F64) -> float:
    """log10(trace(Q C) / trace(Q_all C)); NaN without power."""
    inside, whole = float(np.sum(region * cross)), float(np.sum(head * cross))
    return math.log10(inside / whole) if inside > 0 and whole > 0 else math.nan


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> SourceTheta:
    return SourceTheta(info, settings, line)
