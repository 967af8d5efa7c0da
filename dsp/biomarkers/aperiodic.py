"""Aperiodic exponent and offset: log10 S = offset - exponent * log10 f, where no rhythm is.

Least squares over 2-40 Hz without 7-14 Hz; then bins that stand out above the line (other rhythms, mains) are left out
and the line is fitted again. The density is divided by the filters' own response first: a 45 Hz low pass would
otherwise pass for a steeper brain. Plain least squares and Theil-Sen are both pulled up by a broad alpha peak.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from dsp.biomarkers.segments import Held, MeanDensity
from dsp.filters import design, power_response
from dsp.hop import Hop, measured
from dsp.quality import Code
from dsp.window import exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, StreamInfo

_OUTLIER_SD = 2.5
_LEAST_BINS = 8
# A filter that takes more than this leaves nothing to undo.
_LEAST_RESPONSE = 0.05


class Settings(Closed):
    """Fit range, mask, averaging and how often the fit is renewed."""

    window_s: float = Field(30.0, ge=4, le=300, description="s of signal behind a value, 4-300")
    segment_s: float = Field(2.0, ge=1, le=16, description="s of one spectrum, 1-16; half overlapping")
    every_s: float = Field(5.0, ge=0.1, le=60, description="s between two fits, 0.1-60")
    fit_hz: tuple[float, float] = Field((2.0, 40.0), description="Hz, range of the fit, 0.5-200")
    mask_hz: tuple[float, float] = Field((7.0, 14.0), description="Hz, left out of the fit (the alpha peak), 0.5-200")

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name, (low, high) in (("fit_hz", self.fit_hz), ("mask_hz", self.mask_hz)):
            if not 0.5 <= low < high <= 200:
                raise ValueError(f"{name} [{low:g}, {high:g}] must be low < high within 0.5-200 Hz")
        if self.window_s < self.segment_s:
            raise ValueError(f"window_s {self.window_s:g} s is shorter than segment_s {self.segment_s:g} s")
        return self


def fit(frequency_hz: F64, density: F64, fit_hz: tuple[float, float], mask_hz: tuple[float, float]) -> tuple[F64, F64]:
    """Offset and exponent of each row of (n_channels, n_bins) density; NaN where a row has no positive power."""
    inside = (frequency_hz >= fit_hz[0] - 1e-9) & (frequency_hz <= fit_hz[1] + 1e-9)
    inside &= (frequency_hz < mask_hz[0] - 1e-9) | (frequency_hz > mask_hz[1] + 1e-9)
    x = np.log10(frequency_hz[inside])
    power = density[:, inside]
    usable = np.asarray(np.all(power > 0, axis=1), dtype=np.bool_)
    y = np.log10(np.where(usable[:, np.newaxis], power, 1.0))
    weight = np.ones_like(y)
    offset, slope = _weighted_lines(x, y, weight)
    for _ in range(2):
        residual = y - offset[:, np.newaxis] - slope[:, np.newaxis] * x
        spread = 1.4826 * np.median(np.abs(residual - np.median(residual, 1, keepdims=True)), 1)
        weight = (residual <= np.maximum(_OUTLIER_SD * spread, 1e-9)[:, np.newaxis]).astype(np.float64)
        weight[weight.sum(1) < _LEAST_BINS] = 1.0
        offset, slope = _weighted_lines(x, y, weight)
    return np.where(usable, offset, np.nan), np.where(usable, -slope, np.nan)


def _weighted_lines(x: F64, y: F64, weight: F64) -> tuple[F64, F64]:
    total = weight.sum(1)
    mean_x, mean_y = (weight @ x) / total, (weight * y).sum(1) / total
    dx = x - mean_x[:, np.newaxis]
    slope = (weight * dx * (y - mean_y[:, np.newaxis])).sum(1) / (weight * dx**2).sum(1)
    return mean_y - slope * mean_x, slope


class Aperiodic:
    """Columns: exponents channel by channel, then offsets."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._settings = settings
        self._channels = measured(info)
        rate = info.sample_rate_hz
        if settings.fit_hz[1] > rate / 2:
            raise ConfigError(
                f"biomarkers: aperiodic.fit_hz: {settings.fit_hz[1]:g} Hz is above half of {rate:g} samples per second"
            )
        self._mean = MeanDensity(info, line, settings.segment_s, settings.window_s, settings.fit_hz[1], channels=self._channels)
        self._every = max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self.needs = (self._mean.need,)
        self._sos, self._rate = design(line, rate), rate
        self.columns = tuple(
            BiomarkerColumn(f"aperiodic.{part}", info.channels[i], unit, self._mean.window_s)
            for part, unit in (("exponent", "1"), ("offset", "1"))
            for i in self._channels
        )
        self._held = Held([(i,) for i in self._channels] * 2)

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        self._mean.update(hop)
        if hop.number % self._every == 0:
            self._renew(hop)
        return self._held.give(hop, values, grades)

    def _renew(self, hop: Hop) -> None:
        density, codes = self._mean.density()
        if density.shape[1]:
            frequency = self._mean.frequency_hz
            response = power_response(self._sos, self._rate, frequency)
            kept = response >= _LEAST_RESPONSE
            raw = density[:, kept] / response[kept]
            offset, exponent = fit(frequency[kept], raw, self._settings.fit_hz, self._settings.mask_hz)
            codes[np.isnan(exponent) & (codes < Code.SETTLING)] = Code.NO_POWER
            self._held.values[:] = np.concatenate([exponent, offset])
        self._held.codes[:] = np.tile(codes, 2)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> Aperiodic:
    return Aperiodic(info, settings, line)
