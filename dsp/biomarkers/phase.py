"""Phase of a band now (or a little ahead), its standard deviation, frequency, amplitude and signal-to-noise ratio, site by site."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import checked_bands
from dsp.biomarkers.sites import sites
from dsp.filters import design
from dsp.hop import Hop, SampleNeed, reasons_of
from dsp.phase import SEGMENT_S, Method, PhaseTracker
from dsp.quality import GRADES, Code
from dsp.window import exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

PARTS = (("angle", "deg"), ("sd", "deg"), ("frequency", "Hz"), ("amplitude", "uV"), ("snr", "dB"))
_SLOPE_S = 0.02  # the frequency is the phase's advance over this
_LEARN_S = SEGMENT_S / 2
_LEAST_SEEN_S = 2.0
# What a density is learned from: mains are the notch's business, everything else would be learned as if it were brain.
_LEARNABLE = np.array([code in (Code.GOOD, Code.LINE_NOISE) for code in range(len(GRADES))])


class Settings(Closed):
    """Band, sites and way of the estimate."""

    band_hz: tuple[float, float] = Field((8.0, 12.0), description="[low, high) in Hz; best the person's alpha peak ± 2 Hz")
    channels: tuple[str, ...] | None = Field(None, description="labels; null = up to four usual sites the montage has")
    method: Method = Field("learned", description="learned (from the person's own past) | echt | sine_fit")
    ahead_s: float = Field(0.0, ge=0, le=0.2, description="s after the newest sample that the phase is foretold for, 0-0.2")

    @field_validator("band_hz")
    @classmethod
    def _band(cls, band_hz: tuple[float, float]) -> tuple[float, float]:
        return checked_bands({"band": band_hz})["band"]


class Phase:
    """Columns: part by part, and in a part site by site."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        rate = info.sample_rate_hz
        self._sites = np.array(sites("phase", info, settings.channels), dtype=np.intp)
        labels = [info.channels[i] for i in self._sites] or ["n/a"]
        try:
            self._tracker = PhaseTracker(
                rate, max(1, self._sites.size), settings.band_hz, design(line, rate), settings.method, settings.ahead_s
            )
        except ValueError as error:
            raise ConfigError(f"biomarkers: phase: {error}") from error
        self._band_hz = settings.band_hz
        self._slope = max(1, round(_SLOPE_S * rate))
        self._turns_hz = rate / self._slope / 360.0
        self._n = self._tracker.past_samples + self._slope
        self._segment = self._tracker.segment_samples
        self._every = max(1, math.floor(exact(_LEARN_S) / exact(line.hop_s)))
        self._new_s = min(SEGMENT_S, self._every * line.hop_s)
        self.columns = tuple(
            BiomarkerColumn(f"phase.{part}", label, unit, self._n / rate) for part, unit in PARTS for label in labels
        )
        self.needs = (SampleNeed(max(self._n, self._segment)),) if self._sites.size else ()
        self._snr_db: F64 = np.full(len(labels), np.nan)

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._sites.size:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs an EEG channel",) * len(self.columns)
        tracker = self._tracker
        if hop.number % self._every == 0:
            usable = _LEARNABLE[hop.codes(self._segment, *self._band_hz)[self._sites]]
            if usable.any():
                tracker.learn(hop.window(self._segment)[self._sites], usable, self._new_s)
                self._snr_db = np.array([tracker.snr_db(i) for i in range(self._sites.size)])
        past = hop.window(self._n)[self._sites]
        found = tracker.estimate(past)
        angle = np.degrees(found.phase_rad)
        advance = (angle[:, -1] - angle[:, 0]) % 360.0
        table = values.reshape(len(PARTS), -1)
        table[0], table[1] = angle[:, -1], np.degrees(found.sd_rad[:, -1])
        table[2], table[3] = advance * self._turns_hz, found.amplitude_uv[:, -1]
        table[4] = self._snr_db
        codes = hop.codes(self._n, *self._band_hz)[self._sites].copy()
        codes[tracker.beyond_learned(past) & (codes == Code.GOOD)] = Code.ARTIFACT
        codes[(tracker.seen_s < _LEAST_SEEN_S) & (codes < Code.SETTLING)] = Code.SETTLING
        codes[(table[3] < 1e-9) & (codes < Code.SETTLING)] = Code.NO_POWER
        every = np.tile(codes, len(PARTS))
        every[-codes.size :][~np.isfinite(table[4]) & (codes < Code.SETTLING)] = Code.NO_POWER
        grades[:] = GRADES[every]
        values[grades == Grade.INVALID] = np.nan
        return reasons_of(every)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> Phase:
    return Phase(info, settings, line)
