"""Theta cordance: z of absolute plus z of relative theta power across electrodes, of nearest-neighbor bipolar power.

Variant "sum_of_z" (Leuchter, as usually stated): every neighboring pair's bipolar band power, re-attributed to an
electrode as the mean of its pairs (A); R = A over the sum of all bands; cordance = z(A) + z(R), z across the electrodes of this
recording with ddof 0. Variant "log": the same of log A and log R. Unitless, sums to zero over the head, and one bad electrode
moves every value: electrodes that are not good are left out, and fewer than 16 give no value.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import checked_bands
from dsp.biomarkers.segments import Held
from dsp.electrodes import POSITIONS
from dsp.hop import Hop, placed
from dsp.quality import GRADES, Code
from dsp.spectrum import SpectrumNeed, band_weights, bin_frequencies
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Bool, Grade, StreamInfo

LEAST_ELECTRODES = 16
PREFRONTAL = ("Fp1", "Fp2", "Fz")
# Electrodes within this factor of an electrode's nearest are its neighbors too.
_NEIGHBOR_REACH = 1.4
_BANDS: dict[str, tuple[float, float]] = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 12.0), "beta": (12.0, 20.0)}


class Settings(Closed):
    """Variant, bands and averaging."""

    variant: Literal["sum_of_z", "log"] = Field(
        "sum_of_z", description="sum_of_z or log; values of different variants do not compare"
    )
    bands: dict[str, tuple[float, float]] = Field(
        _BANDS, description="name: [low, high) in Hz, 0-1000; their sum is the total; theta among them"
    )
    segment_s: float = Field(2.0, ge=1, le=8, description="s of one spectrum, 1-8; half overlapping")
    window_s: float = Field(30.0, ge=4, le=300, description="s of signal behind a value, 4-300")
    every_s: float = Field(1.0, ge=0.1, le=60, description="s between two values, 0.1-60")

    @field_validator("bands")
    @classmethod
    def _theta_among(cls, bands: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        if "theta" not in bands:
            raise ValueError("bands must hold one named theta")
        return checked_bands(bands)


def cordance(absolute: F64, total: F64, variant: str = "sum_of_z") -> F64:
    """z(A) + z(A / total) across electrodes (ddof 0); NaN where nothing varies."""
    relative = absolute / total
    if variant == "log":
        absolute, relative = np.log(absolute), np.log(relative)
    return _z(absolute) + _z(relative)


def _z(values: F64) -> F64:
    sd = float(values.std())
    return (values - values.mean()) / sd if sd > 0 else np.full_like(values, np.nan)


def neighbors(directions: F64) -> list[tuple[int, int]]:
    """Pairs of (n, 3) unit vectors that are nearest neighbors of each other or nearly so."""
    distance = np.linalg.norm(directions[:, np.newaxis] - directions, axis=-1)
    np.fill_diagonal(distance, np.inf)
    near = distance <= _NEIGHBOR_REACH * distance.min(1, keepdims=True)
    return [(int(i), int(j)) for i, j in np.argwhere(near | near.T) if i < j]


class ThetaCordance:
    """Columns: each placed electrode, then the mean of Fp1, Fp2 and Fz."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._settings = settings
        rate = info.sample_rate_hz
        highest = max(high for _, high in settings.bands.values())
        if highest > rate / 2:
            raise ConfigError(
                f"biomarkers: theta_cordance: a band up to {highest:g} Hz needs at least {2 * highest:g} samples per second"
            )
        places = placed(info)
        self._sites = np.array([i for i, _ in places], dtype=np.intp)
        self._enough = len(places) >= LEAST_ELECTRODES
        labels = [info.channels[i] for i in self._sites] if self._enough else []
        self._front = [j for j, (_, place) in enumerate(places) if self._enough and place in PREFRONTAL]
        step = max(1, math.floor(exact(settings.segment_s) / 2 / exact(line.hop_s)))
        self._step, self._every = step, max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self._most = max(1, 1 + math.floor((settings.window_s - settings.segment_s) / (step * line.hop_s) + 1e-9))
        need = SpectrumNeed(
            Grid.of(rate, line.hop_s).window_samples(settings.segment_s), highest, "hann", "constant", step, complex_bins=True
        )
        self._need = need
        self.needs = (need,) if self._enough else ()
        frequency = bin_frequencies(need, rate)
        self._weights = np.array([band_weights(frequency, low, high, "sum") for low, high in settings.bands.values()])
        self._theta = list(settings.bands).index("theta")
        window_s = settings.segment_s + (self._most - 1) * step * line.hop_s
        self.columns = (
            *(BiomarkerColumn("theta_cordance", label, "1", window_s) for label in labels),
            BiomarkerColumn("theta_cordance.prefrontal", "n/a", "1", window_s),
        )
        self._held = Held(
            [*((int(i),) for i in self._sites[: len(labels)]), tuple(int(self._sites[j]) for j in self._front) or (0,)]
        )
        if self._enough:
            pairs = np.array(neighbors(np.array([POSITIONS[place] for _, place in places])), dtype=np.intp)
            self._a, self._b = pairs[:, 0], pairs[:, 1]
        self._kept: list[tuple[int, F64, Bool, U8]] = []

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._enough:
            values[:], grades[:] = np.nan, Grade.INVALID
            return (f"needs at least {LEAST_ELECTRODES} electrodes with 10-20 names",) * len(self.columns)
        if hop.number % self._step == 0:
            self._take(hop)
        if hop.number % self._every == 0:
            self._renew()
        return self._held.give(hop, values, grades)

    def _take(self, hop: Hop) -> None:
        self._kept = [kept for kept in self._kept if hop.number - kept[0] < self._most * self._step]
        codes = hop.codes(self._need.n_samples, highest_hz=self._need.f_max_hz)[self._sites]
        good: Bool = np.equal(codes, Code.GOOD)
        bins = hop.transform(self._need)[self._sites, : self._weights.shape[1]]
        bipolar = np.abs(bins[self._a] - bins[self._b]) ** 2 @ self._weights.T
        self._kept.append((hop.number, bipolar, np.logical_and(good[self._a], good[self._b]), codes))

    def _renew(self) -> None:
        held = self._held
        held.values[:] = np.nan
        if not self._kept:
            return
        good = np.array([g for _, _, g, _ in self._kept], dtype=np.float64)
        count = good.sum(0)
        power = np.einsum("spb,sp->pb", np.array([p for _, p, _, _ in self._kept]), good) / np.maximum(count, 1)[:, np.newaxis]
        usable = 2 * count >= self._most
        n = len(self._sites)
        attributed, pairs = np.zeros((n, power.shape[1])), np.zeros(n)
        for ends in (self._a, self._b):
            np.add.at(attributed, ends[usable], power[usable])
            np.add.at(pairs, ends[usable], 1.0)
        there: NDArray[np.bool_] = pairs > 0
        latest = self._kept[-1][3]
        held.codes[:n] = np.where(GRADES[latest] == Grade.INVALID, latest, np.uint8(Code.TOO_FEW))
        held.codes[n] = held.codes[:n].min()
        if there.sum() < LEAST_ELECTRODES:
            return
        mean = attributed[there] / pairs[there, np.newaxis]
        value = cordance(mean[:, self._theta], mean.sum(1), self._settings.variant)
        if not np.isfinite(value).all():
            held.codes[:] = Code.NO_POWER
            return
        held.values[:n][there] = value
        held.codes[:n][there] = Code.GOOD
        if len(self._front) == len(PREFRONTAL) and there[self._front].all():
            held.values[n] = float(held.values[self._front].mean())
            held.codes[n] = Code.GOOD
        else:
            held.codes[n] = Code.TOO_FEW


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> ThetaCordance:
    return ThetaCordance(info, settings, line)
