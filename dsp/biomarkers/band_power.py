"""Absolute band power: what each channel's density holds between two frequencies, µV²."""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator

from dsp.hop import Graded, Hop, measured
from dsp.spectrum import SpectrumNeed, band_weights, bin_frequencies
from dsp.window import Grid
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, StreamInfo

DEFAULT_BANDS: dict[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}


def checked_bands(bands: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Every band must have a plain name and 0 <= low < high <= 1000 Hz."""
    if not 1 <= len(bands) <= 40:
        raise ValueError(f"{len(bands)} bands; 1-40 are possible")
    for name, (low, high) in bands.items():
        if not name.isidentifier():
            raise ValueError(f"band {name!r}: a name is letters, digits and _")
        if not 0 <= low < high <= 1000:
            raise ValueError(f"band {name}: {low:g}-{high:g} Hz must be low < high within 0-1000 Hz")
    return bands


class Settings(Closed):
    """Bands and window of the band powers."""

    bands: dict[str, tuple[float, float]] = Field(DEFAULT_BANDS, description="name: [low, high) in Hz, 0-1000")
    window_s: float | None = Field(None, ge=0.25, le=60, description="s of signal behind a value, 0.25-60; null = line.window_s")

    _bands = field_validator("bands")(checked_bands)


class Bands:
    """The weights that turn a density into band powers; shared with the other band biomarkers."""

    def __init__(
        self, info: StreamInfo, bands: dict[str, tuple[float, float]], window_s: float | None, line: LineSettings
    ) -> None:
        rate = info.sample_rate_hz
        window_s = line.window_s if window_s is None else window_s
        highest = max(high for _, high in bands.values())
        if highest > rate / 2:
            raise ConfigError(
                f"biomarkers: a band up to {highest:g} Hz needs at least {2 * highest:g} samples per second, not {rate:g}"
            )
        n = Grid.of(rate, line.hop_s).window_samples(window_s)
        self.window_s = window_s
        self.need = SpectrumNeed(n, highest, line.taper, line.detrend)
        self._bands, self._integration = bands, line.integration
        self._rows: slice | None = None
        frequency = bin_frequencies(self.need, rate)
        for name, (low, high) in bands.items():
            if not band_weights(frequency, low, high, line.integration).any():
                raise ConfigError(
                    f"biomarkers: band {name} ({low:g}-{high:g} Hz) holds no bin of a {window_s:g} s window; widen either"
                )

    def powers(self, hop: Hop) -> F64:
        """(n_bands, n_channels) µV² of the window that ends at this hop."""
        if self._rows is None:
            frequency = hop.frequencies(self.need)
            weights = [band_weights(frequency, low, high, self._integration) for low, high in self._bands.values()]
            self._rows = hop.weigh(self.need, np.array(weights))
        return hop.powers(self.need)[self._rows]


class BandPower:
    """Columns: band by band, and in a band channel by channel."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        channels = measured(info)
        self._pick = slice(None) if len(channels) == info.n_channels else np.array(channels, dtype=np.intp)
        self._bands = Bands(info, settings.bands, settings.window_s, line)
        self._n_bands = len(settings.bands)
        # bands above what eyes do keep their grade through a small blink, those below what muscles do through a weak tension
        self._bands_hz = tuple(settings.bands.values())
        self.needs = (self._bands.need,)
        self.columns = tuple(
            BiomarkerColumn(f"band_power.{band}", info.channels[i], "uV2", self._bands.window_s)
            for band in settings.bands
            for i in channels
        )
        self._no_reasons = ("",) * len(self.columns)
        self._graded = Graded()
        self._known = b""
        self._codes: U8 = np.empty(0, dtype=np.uint8)

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        need = self._bands.need
        values.reshape(self._n_bands, -1)[:] = self._bands.powers(hop)[:, self._pick]
        if hop.codes(need.n_samples) is hop.all_good:
            return self._no_reasons
        by_band = [hop.codes(need.n_samples, *band_hz) for band_hz in self._bands_hz]
        key = b"".join(codes.tobytes() for codes in by_band)
        if key != self._known:
            self._known = key
            self._codes = np.concatenate([codes[self._pick] for codes in by_band])
        return self._graded.give(self._codes, values, grades)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> BandPower:
    return BandPower(info, settings, line)
