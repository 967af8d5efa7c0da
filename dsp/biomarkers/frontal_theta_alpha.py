"""Frontal theta-alpha: the three published spectral components behind a treatment-response index whose weights never were.

`relative`: power of 3-12 Hz over 2-20 Hz; `alpha1`: 8.5-12 Hz; `alpha2`: 9-11.5 Hz, µV² (Leuchter 2009: 2 s epochs,
rectangular window, Fpz against each ear). They are components and no index: nothing here predicts a response, and the published
index cannot be computed from them. Derivations are formed from the spectra, Fpz (or Fp1 and Fp2) minus each ear electrode there
is; a headset without ears gives the site against its own reference, under that name.
`alpha_change` is the difference of two sessions that the index is made with.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from dsp.biomarkers.segments import Held
from dsp.hop import Hop, electrode
from dsp.quality import GRADES, Code
from dsp.spectrum import SpectrumNeed, Taper, band_weights, bin_frequencies
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

SITES = (("Fpz",), ("Fp1", "Fp2"), ("AF7", "AF8"))
EARS = (("A1", "A2"), ("M1", "M2"), ("TP9", "TP10"))
BANDS_HZ = {"wide": (3.0, 12.0), "total": (2.0, 20.0), "alpha1": (8.5, 12.0), "alpha2": (9.0, 11.5)}
PARTS = (("relative", "1"), ("alpha1", "uV2"), ("alpha2", "uV2"))


class Settings(Closed):
    """Averaging; the bands are those published."""

    window_s: float = Field(60.0, ge=4, le=600, description="s of signal behind a value, 4-600")
    every_s: float = Field(1.0, ge=0.1, le=60, description="s between two values, 0.1-60")
    taper: Taper = Field("boxcar", description="boxcar (as published), hann or hamming")


def alpha_change(alpha1_before_uv2: float, alpha2_after_uv2: float) -> float:
    """alpha1 of the first session minus alpha2 of a later one, µV²; NaN if either is missing or negative."""
    usable = alpha1_before_uv2 >= 0 and alpha2_after_uv2 >= 0
    return alpha1_before_uv2 - alpha2_after_uv2 if usable else math.nan


class FrontalThetaAlpha:
    """Columns: part by part, and in a part derivation by derivation."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        rate = info.sample_rate_hz
        if 2 * BANDS_HZ["total"][1] > rate:
            raise ConfigError(f"biomarkers: frontal_theta_alpha needs at least 40 samples per second, not {rate:g}")
        pairs = _derivations(info)
        labels = [info.channels[a] if b is None else f"{info.channels[a]}-{info.channels[b]}" for a, b in pairs]
        self._a = np.array([a for a, _ in pairs], dtype=np.intp)
        # A site without an ear is taken against itself times zero.
        self._b = np.array([a if b is None else b for a, b in pairs], dtype=np.intp)
        self._ear = np.array([[0.0 if b is None else 1.0] for _, b in pairs])
        grid = Grid.of(rate, line.hop_s)
        segment_s = 2.0
        self._step = max(1, math.ceil(exact(segment_s) / exact(line.hop_s)))
        self._every = max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self._most = max(1, math.floor(settings.window_s / (self._step * line.hop_s) + 1e-9))
        self._need = SpectrumNeed(
            grid.window_samples(segment_s), BANDS_HZ["total"][1], settings.taper, "constant", self._step, complex_bins=True
        )
        self.needs = (self._need,) if pairs else ()
        frequency = bin_frequencies(self._need, rate)
        self._weights = np.array([band_weights(frequency, low, high, "sum") for low, high in BANDS_HZ.values()])
        window_s = self._most * self._step * line.hop_s
        self.columns = tuple(
            BiomarkerColumn(f"frontal_theta_alpha.{part}", label, unit, window_s)
            for part, unit in PARTS
            for label in labels or [SITES[0][0]]
        )
        self._held = Held([(int(a), int(b)) for a, b in zip(self._a, self._b, strict=True)] * len(PARTS))
        self._kept: list[tuple[int, F64, U8]] = []

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self.needs:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs Fpz, Fp1 and Fp2, or AF7 and AF8",) * len(self.columns)
        if hop.number % self._step == 0:
            codes = hop.codes(self._need.n_samples, highest_hz=BANDS_HZ["total"][1])
            bins = hop.transform(self._need)[:, : self._weights.shape[1]]
            power = np.abs(bins[self._a] - self._ear * bins[self._b]) ** 2 @ self._weights.T
            self._kept = [kept for kept in self._kept if hop.number - kept[0] < self._most * self._step]
            self._kept.append((hop.number, power, np.maximum(codes[self._a], codes[self._b])))
        if hop.number % self._every == 0 and self._kept:
            self._renew()
        return self._held.give(hop, values, grades)

    def _renew(self) -> None:
        """Means of the powers over good epochs, of which there must be half of a window's."""
        codes = np.array([c for _, _, c in self._kept])
        good = (codes == Code.GOOD).astype(np.float64)
        count = good.sum(0)
        power = np.einsum("ep,epb->pb", good, np.array([p for _, p, _ in self._kept])) / np.maximum(count, 1)[:, np.newaxis]
        wide, total, alpha1, alpha2 = power.T
        relative = np.divide(wide, total, out=np.full_like(wide, np.nan), where=total > 0)
        latest = codes[-1]
        code = np.where(2 * count >= self._most, np.uint8(Code.GOOD), np.uint8(Code.TOO_FEW)).astype(np.uint8)
        lacking = (code == Code.TOO_FEW) & (GRADES[latest] == Grade.INVALID)
        code[lacking] = latest[lacking]
        code[(code == Code.GOOD) & ~(total > 0)] = Code.NO_POWER
        self._held.codes[:] = np.tile(code, len(PARTS))
        self._held.values[:] = np.where(self._held.codes == Code.GOOD, np.concatenate([relative, alpha1, alpha2]), np.nan)


def _derivations(info: StreamInfo) -> list[tuple[int, int | None]]:
    """(site, ear or None) channel numbers: the first complete set of sites, with every ear electrode of the first set there is."""
    sites: list[int] = []
    for labels in SITES:
        found = [electrode(info, label) for label in labels]
        if None not in found:
            sites = [i for i in found if i is not None]
            break
    ears: list[int] = []
    for labels in EARS:
        ears = [i for label in labels if (i := electrode(info, label)) is not None]
        if ears:
            break
    return [(site, ear) for site in sites for ear in ears] if ears else [(site, None) for site in sites]


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> FrontalThetaAlpha:
    return FrontalThetaAlpha(info, settings, line)
