"""Theta/beta ratio: power of 4-8 Hz over power of 13-30 Hz at the front midline. Confounded by the aperiodic slope."""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import Bands, checked_bands
from dsp.hop import Graded, Hop, electrode
from dsp.quality import Code
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

MIDLINE = ("Fz", "Cz")
# Where a headset has no midline: the front it does have.
FRONT = ("F3", "F4", "AFz", "AF3", "AF4", "AF7", "AF8", "Fp1", "Fp2")


class Settings(Closed):
    """Bands and window of the ratio."""

    theta_hz: tuple[float, float] = Field((4.0, 8.0), description="[low, high) in Hz, 0-1000")
    beta_hz: tuple[float, float] = Field((13.0, 30.0), description="[low, high) in Hz, 0-1000")
    window_s: float | None = Field(None, ge=0.25, le=60, description="s of signal behind a value, 0.25-60; null = line.window_s")

    @field_validator("theta_hz", "beta_hz")
    @classmethod
    def _band(cls, band_hz: tuple[float, float]) -> tuple[float, float]:
        return checked_bands({"band": band_hz})["band"]


class ThetaBetaRatio:
    """Columns: a site each."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._bands = Bands(info, {"theta": settings.theta_hz, "beta": settings.beta_hz}, settings.window_s, line)
        self._span_hz = min(settings.theta_hz[0], settings.beta_hz[0]), max(settings.theta_hz[1], settings.beta_hz[1])
        sites = [i for label in MIDLINE if (i := electrode(info, label)) is not None]
        sites = sites or [i for label in FRONT if (i := electrode(info, label)) is not None]
        self._sites = np.array(sites, dtype=np.intp)
        labels = [info.channels[i] for i in sites] or [MIDLINE[0]]
        self.columns = tuple(BiomarkerColumn("theta_beta_ratio", label, "1", self._bands.window_s) for label in labels)
        self.needs = (self._bands.need,) if sites else ()
        self._graded = Graded()

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._sites.size:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs Fz, Cz or another frontal electrode",)
        need = self._bands.need
        theta, beta = self._bands.powers(hop)[:, self._sites]
        codes = hop.codes(need.n_samples, *self._span_hz)[self._sites]
        values[:] = np.nan
        np.divide(theta, beta, out=values, where=beta > 0)
        codes[(beta <= 0) & (codes < Code.SETTLING)] = Code.NO_POWER
        return self._graded.give(codes, values, grades)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> ThetaBetaRatio:
    return ThetaBetaRatio(info, settings, line)
