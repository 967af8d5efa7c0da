"""Relative band power: a band's share of the power in a declared total range, 0-1."""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import DEFAULT_BANDS, Bands, checked_bands
from dsp.hop import Graded, Hop, measured
from dsp.quality import Code
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, StreamInfo


class Settings(Closed):
    """Bands, the range they are a share of, and window."""

    bands: dict[str, tuple[float, float]] = Field(DEFAULT_BANDS, description="name: [low, high) in Hz, 0-1000")
    total_hz: tuple[float, float] = Field((1.0, 45.0), description="[low, high) in Hz of the total, 0-1000")
    window_s: float | None = Field(None, ge=0.25, le=60, description="s of signal behind a value, 0.25-60; null = line.window_s")

    @field_validator("bands")
    @classmethod
    def _bands(cls, bands: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        if "total" in bands:
            raise ValueError("band 'total': this name is taken by total_hz")
        return checked_bands(bands)

    @field_validator("total_hz")
    @classmethod
    def _total(cls, total_hz: tuple[float, float]) -> tuple[float, float]:
        return checked_bands({"total": total_hz})["total"]


class RelativePower:
    """Columns: band by band, and in a band channel by channel."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        channels = measured(info)
        self._pick = slice(None) if len(channels) == info.n_channels else np.array(channels, dtype=np.intp)
        self._bands = Bands(info, {**settings.bands, "total": settings.total_hz}, settings.window_s, line)
        self._n_bands = len(settings.bands)
        self.needs = (self._bands.need,)
        self.columns = tuple(
            BiomarkerColumn(f"relative_power.{band}", info.channels[i], "1", self._bands.window_s)
            for band in settings.bands
            for i in channels
        )
        self._no_reasons = ("",) * len(self.columns)
        self._graded = Graded()

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        need = self._bands.need
        power = self._bands.powers(hop)[:, self._pick]
        total = power[-1]
        codes = hop.codes(need.n_samples)
        by_band = values.reshape(self._n_bands, -1)
        if np.minimum.reduce(total) > 0:
            np.divide(power[:-1], total, out=by_band)
            return self._no_reasons if codes is hop.all_good else self._graded.give(codes[self._pick], values, grades)
        codes = codes[self._pick].copy()
        by_band[:] = np.nan
        np.divide(power[:-1], total, out=by_band, where=total > 0)
        codes[(total <= 0) & (codes < Code.SETTLING)] = Code.NO_POWER
        return self._graded.give(codes, values, grades)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> RelativePower:
    return RelativePower(info, settings, line)
