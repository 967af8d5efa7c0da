"""What the biomarkers of single traces share: a few sites, a window, a value a second."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from pydantic import Field

from dsp.biomarkers.segments import Held
from dsp.hop import Hop, SampleNeed, electrode
from dsp.quality import GRADES, Code
from dsp.spectrum import SpectrumNeed
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

USUAL = ("Fz", "Cz", "Pz", "Oz", "F3", "F4", "O1", "O2", "AF7", "AF8", "TP9", "TP10", "Fp1", "Fp2")
_MOST_BY_ITSELF = 4
ANALYSIS_RATE_HZ = 250.0


class SiteSettings(Closed):
    """Sites, window and rate of a value that is costly enough not to be had everywhere at every hop."""

    channels: tuple[str, ...] | None = Field(None, description="labels; null = up to four usual sites the montage has")
    window_s: float = Field(4.0, ge=1, le=30, description="s of signal behind a value, 1-30")
    every_s: float = Field(1.0, ge=0.1, le=60, description="s between two values, 0.1-60")


def sites(kind: str, info: StreamInfo, channels: tuple[str, ...] | None) -> tuple[int, ...]:
    """Indices of the configured channels, or of the usual ones there are, or of the first EEG channels."""
    if channels is not None:
        found = [(label, electrode(info, label)) for label in channels]
        for label, i in found:
            if i is None:
                there = ", ".join(info.channels)
                raise ConfigError(f"biomarkers: {kind}.channels: {label!r} is no EEG channel of this stream; there are: {there}")
        return tuple(i for _, i in found if i is not None)
    usual = [i for label in USUAL if (i := electrode(info, label)) is not None]
    usual = usual or [i for i, kind in enumerate(info.kinds) if kind == "eeg"]
    return tuple(usual[:_MOST_BY_ITSELF])


class SiteValue:
    """One value a site: `measure(hop, site)` every `every_s`."""

    def __init__(
        self,
        name: str,
        unit: str,
        info: StreamInfo,
        settings: SiteSettings,
        line: LineSettings,
        need: SpectrumNeed | SampleNeed,
        measure: Callable[[Hop, int], float],
    ) -> None:
        self._sites = sites(name, info, settings.channels)
        self._measure = measure
        self._n = need.n_samples
        self._every = max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self.needs = (need,)
        self.columns = tuple(BiomarkerColumn(name, info.channels[i], unit, settings.window_s) for i in self._sites)
        if not self.columns:
            self.columns = (BiomarkerColumn(name, "n/a", unit, settings.window_s),)
        self._held = Held([(i,) for i in self._sites])

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._sites:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs an EEG channel",)
        for j, i in enumerate(self._sites):
            # Sites take turns, so that no hop bears the cost of all.
            if (hop.number + j) % self._every == 0:
                code = int(hop.codes(self._n)[i])
                value = math.nan if GRADES[code] == Grade.INVALID else self._measure(hop, i)
                self._held.values[j] = value
                self._held.codes[j] = Code.NO_POWER if math.isnan(value) and GRADES[code] != Grade.INVALID else code
        return self._held.give(hop, values, grades)


def analysis_step(info: StreamInfo, line: LineSettings) -> int:
    """Take every so manieth sample to come near 250 per second, so that values of different headsets mean the same.

    1 where no low pass keeps the rest from folding back.
    """
    return max(1, round(info.sample_rate_hz / ANALYSIS_RATE_HZ)) if line.low_pass_hz is not None else 1


def window_samples(info: StreamInfo, line: LineSettings, window_s: float) -> int:
    return Grid.of(info.sample_rate_hz, line.hop_s).window_samples(window_s)
