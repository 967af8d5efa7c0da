"""Frontal alpha asymmetry: ln(alpha right) - ln(alpha left).

`faa` is F4 against F3 and nothing else. Headsets without them but with a prefrontal pair (Fp2/Fp1, AF8/AF7,
AF4/AF3) get the same difference under its own name, `prefrontal_asymmetry`: it is another measure.
Positive = more alpha on the right. The reference matters: compare only within one montage.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import Bands, checked_bands
from dsp.codes import GRADE_OF, NO_VALUE
from dsp.hop import Hop, electrode
from dsp.quality import REASONS, Code
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

FRONTAL = ("F3", "F4")
PREFRONTAL = (("AF7", "AF8"), ("AF3", "AF4"), ("Fp1", "Fp2"))


class Settings(Closed):
    """Band and window of the asymmetry."""

    band_hz: tuple[float, float] = Field((8.0, 13.0), description="[low, high) in Hz, 0-1000")
    window_s: float | None = Field(None, ge=0.25, le=60, description="s of signal behind a value, 0.25-60; null = line.window_s")

    @field_validator("band_hz")
    @classmethod
    def _band(cls, band_hz: tuple[float, float]) -> tuple[float, float]:
        return checked_bands({"band": band_hz})["band"]


def asymmetry(left_uv2: float, right_uv2: float) -> float:
    """ln(right) - ln(left); NaN if either power is not positive."""
    return math.log(right_uv2) - math.log(left_uv2) if left_uv2 > 0 and right_uv2 > 0 else math.nan


class FrontalAlphaAsymmetry:
    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._band_hz = settings.band_hz
        self._bands = Bands(info, {"band": settings.band_hz}, settings.window_s, line)
        name, pair = "faa", FRONTAL
        self._sites: tuple[int, int] | None = _find(info, FRONTAL)
        self._missing = ""
        if self._sites is None:
            for candidate in PREFRONTAL:
                self._sites = _find(info, candidate)
                if self._sites is not None:
                    name, pair = "prefrontal_asymmetry", candidate
                    break
            else:
                self._missing = "needs F3 and F4 (or AF7/AF8, AF3/AF4, Fp1/Fp2)"
        self.columns = (BiomarkerColumn(name, f"{pair[0]}-{pair[1]}", "1", self._bands.window_s),)
        self.needs = (self._bands.need,) if self._sites is not None else ()

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if self._sites is None:
            values[0], grades[0] = np.nan, Grade.INVALID
            return (self._missing,)
        need = self._bands.need
        codes = hop.codes(need.n_samples, *self._band_hz)
        left, right = self._sites
        code = 0 if codes is hop.all_good else max(int(codes[left]), int(codes[right]))
        value = math.nan
        if code < NO_VALUE:
            power = self._bands.powers(hop)[0]
            value = asymmetry(float(power[left]), float(power[right]))
            if math.isnan(value):
                code = Code.NO_POWER
        grades[0] = GRADE_OF[code]
        values[0] = value if code < NO_VALUE else math.nan
        return (REASONS[code],)


def _find(info: StreamInfo, pair: tuple[str, str]) -> tuple[int, int] | None:
    left, right = electrode(info, pair[0]), electrode(info, pair[1])
    return None if left is None or right is None else (left, right)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> FrontalAlphaAsymmetry:
    return FrontalAlphaAsymmetry(info, settings, line)
