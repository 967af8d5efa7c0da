"""Spectral entropy: how evenly power lies over a fixed range of frequencies, 0 (one line) to 1 (flat)."""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import checked_bands
from dsp.biomarkers.sites import SiteSettings, SiteValue, window_samples
from dsp.complexity import spectral_entropy
from dsp.hop import Hop, SampleNeed
from dsp.spectrum import SpectrumNeed, bin_frequencies, psd
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(SiteSettings):
    """The range of frequencies."""

    range_hz: tuple[float, float] = Field((1.0, 40.0), description="[low, high) in Hz, 0-1000")

    @field_validator("range_hz")
    @classmethod
    def _range(cls, range_hz: tuple[float, float]) -> tuple[float, float]:
        return checked_bands({"range": range_hz})["range"]


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> SiteValue:
    low, high = settings.range_hz
    if high > info.sample_rate_hz / 2:
        raise ConfigError(
            f"biomarkers: spectral_entropy.range_hz: {high:g} Hz is above half of {info.sample_rate_hz:g} samples per second"
        )
    n = window_samples(info, line, settings.window_s)
    need = SpectrumNeed(n, high)
    frequency = bin_frequencies(need, info.sample_rate_hz)
    inside = np.flatnonzero((frequency >= low - 1e-9) & (frequency < high - 1e-9))

    def measure(hop: Hop, site: int) -> float:
        # Sites take turns: one row's transform a turn, not the whole montage's.
        return spectral_entropy(psd(hop.window(n)[site : site + 1], need, info.sample_rate_hz)[0, inside])

    return SiteValue("spectral_entropy", "1", info, settings, line, SampleNeed(n), measure)
