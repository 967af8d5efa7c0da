"""What the connectivity biomarkers share: pairs, bands, and the newest epochs' cross-spectra."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from dsp.biomarkers.band_power import checked_bands
from dsp.biomarkers.segments import Held
from dsp.connectivity import Measure
from dsp.hop import Hop, electrode
from dsp.quality import GRADES, Code
from dsp.spectrum import C128, SpectrumNeed, bin_frequencies
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

# Left-right and front-back pairs that a montage is asked for when config.yaml names none.
USUAL = (("F3", "F4"), ("P3", "P4"), ("O1", "O2"), ("Fz", "Pz"), ("AF7", "AF8"), ("TP9", "TP10"), ("Fp1", "Fp2"))


class PairSettings(Closed):
    """Pairs, bands and epochs of a connectivity measure."""

    pairs: tuple[tuple[str, str], ...] | None = Field(None, description="pairs of labels; null = the usual ones the montage has")
    bands: dict[str, tuple[float, float]] = Field(
        {"theta": (4.0, 8.0), "alpha": (8.0, 13.0)}, description="name: [low, high) in Hz, 0-1000; the mean over its bins"
    )
    epoch_s: float = Field(2.0, ge=0.5, le=10, description="s of one epoch, 0.5-10; not overlapping")
    window_s: float = Field(90.0, ge=10, le=600, description="s of signal behind a value, 10-600")
    least_epochs: int = Field(30, ge=5, le=300, description="clean epochs a value needs, 5-300 (fewer are biased)")
    every_s: float = Field(5.0, ge=0.1, le=60, description="s between two values, 0.1-60")

    _bands = field_validator("bands")(checked_bands)

    @model_validator(mode="after")
    def _enough_epochs(self) -> Self:
        if self.window_s / self.epoch_s < self.least_epochs:
            raise ValueError(
                f"window_s {self.window_s:g} s holds fewer than least_epochs {self.least_epochs} epochs of {self.epoch_s:g} s"
            )
        return self


class PairMeasure:
    """Columns: band by band, and in a band pair by pair. An epoch counts for a pair's band if it is good for that band in both channels."""

    def __init__(self, name: str, measure: Measure, info: StreamInfo, settings: PairSettings, line: LineSettings) -> None:
        self._measure, self._settings = measure, settings
        rate = info.sample_rate_hz
        grid = Grid.of(rate, line.hop_s)
        highest = max(high for _, high in settings.bands.values())
        if highest > rate / 2:
            raise ConfigError(
                f"biomarkers: {name}: a band up to {highest:g} Hz needs at least {2 * highest:g} samples per second, not {rate:g}"
            )
        self._bands_hz = tuple(settings.bands.values())
        labels = _pairs(name, info, settings)
        self._a = np.array([electrode(info, a) for a, _ in labels], dtype=np.intp)
        self._b = np.array([electrode(info, b) for _, b in labels], dtype=np.intp)
        self._step = max(1, math.ceil(exact(settings.epoch_s) / exact(line.hop_s)))
        self._every = max(1, math.floor(exact(settings.every_s) / exact(line.hop_s)))
        self._most = math.floor(settings.window_s / (self._step * line.hop_s) + 1e-9)
        need = SpectrumNeed(grid.window_samples(settings.epoch_s), highest, "hann", "constant", self._step, complex_bins=True)
        self._need = need
        self.needs = (need,) if labels else ()
        frequency = bin_frequencies(need, rate)
        picked = [np.flatnonzero((frequency >= low - 1e-9) & (frequency < high - 1e-9)) for low, high in settings.bands.values()]
        for band, bins in zip(settings.bands, picked, strict=True):
            if not bins.size:
                raise ConfigError(f"biomarkers: {name}: band {band} holds no bin of a {settings.epoch_s:g} s epoch; widen either")
        self._bins = np.unique(np.concatenate(picked))
        self._bands = [np.searchsorted(self._bins, bins) for bins in picked]
        window_s = self._most * self._step * line.hop_s
        shown = [f"{info.channels[i]}-{info.channels[j]}" for i, j in zip(self._a, self._b, strict=True)] or ["F3-F4"]
        self.columns = tuple(BiomarkerColumn(f"{name}.{band}", pair, "1", window_s) for band in settings.bands for pair in shown)
        self._held = Held([(int(i), int(j)) for i, j in zip(self._a, self._b, strict=True)] * len(settings.bands))
        self._epochs: list[tuple[int, C128, F64, F64, U8]] = []

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self.needs:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs a pair of electrodes named in `pairs`",) * len(self.columns)
        if hop.number % self._step == 0:
            self._take(hop)
        if hop.number % self._every == 0:
            self._renew()
        return self._held.give(hop, values, grades)

    def _take(self, hop: Hop) -> None:
        self._epochs = [epoch for epoch in self._epochs if hop.number - epoch[0] < self._most * self._step]
        codes = np.array([hop.codes(self._need.n_samples, *band_hz) for band_hz in self._bands_hz])
        pair_codes = np.maximum(codes[:, self._a], codes[:, self._b])
        bins = hop.transform(self._need)[:, self._bins]
        a, b = bins[self._a], bins[self._b]
        self._epochs.append((hop.number, a * b.conj(), np.abs(a) ** 2, np.abs(b) ** 2, pair_codes))

    def _renew(self) -> None:
        n_pairs = len(self._a)
        values, codes = self._held.values.reshape(-1, n_pairs), self._held.codes.reshape(-1, n_pairs)
        for band, bins in enumerate(self._bands):
            for pair in range(n_pairs):
                good = [e for e in self._epochs if e[4][band, pair] == Code.GOOD]
                if len(good) < self._settings.least_epochs:
                    latest = int(self._epochs[-1][4][band, pair]) if self._epochs else Code.SETTLING
                    values[band, pair] = np.nan
                    codes[band, pair] = latest if GRADES[latest] == Grade.INVALID else Code.TOO_FEW
                    continue
                cross = np.array([e[1][pair, bins] for e in good])
                power_a, power_b = np.array([e[2][pair, bins] for e in good]), np.array([e[3][pair, bins] for e in good])
                value = float(self._measure(cross, power_a, power_b).mean())
                values[band, pair] = value
                codes[band, pair] = Code.GOOD if math.isfinite(value) else Code.NO_POWER


def _pairs(name: str, info: StreamInfo, settings: PairSettings) -> list[tuple[str, str]]:
    if settings.pairs is None:
        return [pair for pair in USUAL if all(electrode(info, label) is not None for label in pair)]
    for pair in settings.pairs:
        for label in pair:
            if electrode(info, label) is None:
                raise ConfigError(
                    f"biomarkers: {name}.pairs: {label!r} is no EEG channel of this stream; there are: {', '.join(info.channels)}"
                )
    return list(settings.pairs)
