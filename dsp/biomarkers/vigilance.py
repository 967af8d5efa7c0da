"""Vigilance: a simplified stage of each second with closed eyes, and how drowsy the last half minute was.

After VIGALL's scheme, without its sources, eye channel and spindles, so with fewer stages and under a name of its own
(`VARIANT`). Of each clean second, mean densities of alpha (8-12 Hz) and of slow waves (2-8 Hz) in three regions:

    alpha above slow in any region          A: where alpha is largest, occipital A1 (6), parietal A2 (5), frontal A3 (4)
    else slow above `slow_times` own median B2/3 (2): drowsy
    else                                    0 or B1 (3): alert with open mind or beginning to drift; no eye channel tells them apart

`drowsiness` is the share of B2/3 among the clean seconds of its window, 0-1; any montage has it, the stage needs a 10-20 cap.
Drowsiness raises theta: it confounds every theta marker.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from dsp.biomarkers.segments import Held
from dsp.biomarkers.sites import USUAL
from dsp.hop import Hop, electrode, placed
from dsp.quality import GRADES, Code
from dsp.spectrum import SpectrumNeed, bin_frequencies
from dsp.window import Grid, exact
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Bool, Grade, StreamInfo

VARIANT = "alpha over slow waves, three regions, no eye channel"
LEAST_ELECTRODES = 19
REGIONS = (("O1", "O2", "Oz"), ("P3", "P4", "Pz"), ("F3", "F4", "Fz"))
A1, DROWSY, OTHER = 6, 2, 3
_ALPHA_HZ, _SLOW_HZ = (8.0, 12.0), (2.0, 8.0)
_LEAST_SHARE = 0.5


class Settings(Closed):
    """Threshold and windows."""

    slow_times: float = Field(2.0, ge=1.2, le=10, description="times the own median of slow waves that is drowsy, 1.2-10")
    window_s: float = Field(30.0, ge=10, le=300, description="s of signal behind the drowsiness, 10-300")
    median_s: float = Field(300.0, ge=60, le=3600, description="s of signal behind the own median, 60-3600")
    least_median_s: float = Field(30.0, ge=10, le=600, description="clean s the own median needs, 10-600")


def score(alpha: F64, slow: F64, slow_median: float, slow_times: float) -> int:
    """Stage of one second from each region's mean densities (occipital, parietal, frontal): 6, 5, 4, 3 or 2."""
    if bool((alpha >= slow).any()):
        return A1 - int(np.argmax(alpha))
    return DROWSY if float(slow.mean()) > slow_times * slow_median else OTHER


class Vigilance:
    """Columns: stage and drowsiness."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        rate = info.sample_rate_hz
        if rate < 2 * _ALPHA_HZ[1]:
            raise ConfigError(f"biomarkers: vigilance needs at least {2 * _ALPHA_HZ[1]:g} samples per second, not {rate:g}")
        self._settings = settings
        regions = [[i for label in region if (i := electrode(info, label)) is not None] for region in REGIONS]
        self._staged = len(placed(info)) >= LEAST_ELECTRODES and all(regions)
        if not self._staged:
            usual = [i for label in USUAL if (i := electrode(info, label)) is not None]
            usual = usual or [i for i, kind in enumerate(info.kinds) if kind == "eeg"]
            regions = [usual] if usual else []
        self._regions = [np.array(region, dtype=np.intp) for region in regions]
        grid = Grid.of(rate, line.hop_s)
        self._step = max(1, math.ceil(1 / exact(line.hop_s)))
        self._second_s = self._step * line.hop_s
        self._need = SpectrumNeed(grid.window_samples(1.0), _ALPHA_HZ[1], "hann", "constant", self._step)
        self.needs = (self._need,) if regions else ()
        frequency = bin_frequencies(self._need, rate)
        self._alpha, self._slow = (
            np.flatnonzero((frequency >= low - 1e-9) & (frequency < high - 1e-9)) for low, high in (_ALPHA_HZ, _SLOW_HZ)
        )
        self._window = max(1, round(settings.window_s / self._second_s))
        self._slow_ring: F64 = np.full(max(self._window, round(settings.median_s / self._second_s)), np.nan)
        self._stages = np.zeros(self._window, dtype=np.int64)  # 0: not clean
        self._seconds = -1
        self.columns = (
            BiomarkerColumn("vigilance.stage", "n/a", "1", self._second_s),
            BiomarkerColumn("vigilance.drowsiness", "n/a", "1", self._window * self._second_s),
        )
        self._held = Held([tuple(sorted({int(i) for region in self._regions for i in region})) or (0,)] * 2)

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        if not self._regions:
            values[:], grades[:] = np.nan, Grade.INVALID
            return ("needs an EEG channel",) * 2
        if hop.number % self._step == 0:
            self._second(hop)
        reasons = self._held.give(hop, values, grades)
        if not self._staged:
            values[0], grades[0] = np.nan, Grade.INVALID
            return (f"needs at least {LEAST_ELECTRODES} electrodes with 10-20 names", reasons[1])
        return reasons

    def _second(self, hop: Hop) -> None:
        number = hop.number // self._step
        self._skip_to(number)
        codes = hop.codes(self._need.n_samples, highest_hz=_ALPHA_HZ[1])
        good: Bool = np.equal(codes, Code.GOOD)
        held, at = self._held, number % self._window
        used = [region[good[region]] for region in self._regions]
        if not all(region.size for region in used):
            worst = min(int(codes[region].max()) for region in self._regions)
            held.values[0] = np.nan
            held.codes[0] = worst if GRADES[worst] == Grade.INVALID else Code.TOO_FEW
        else:
            density = hop.density(self._need)
            alpha = np.array([density[region][:, self._alpha].mean() for region in used])
            slow = np.array([density[region][:, self._slow].mean() for region in used])
            level = float(slow.mean())
            self._slow_ring[number % len(self._slow_ring)] = level
            seen = self._slow_ring[np.isfinite(self._slow_ring)]
            if level <= 0:
                held.values[0], held.codes[0] = np.nan, Code.NO_POWER
            elif seen.size * self._second_s < self._settings.least_median_s:
                held.values[0], held.codes[0] = np.nan, Code.SETTLING
            else:
                stage = score(alpha, slow, float(np.median(seen)), self._settings.slow_times)
                self._stages[at] = stage
                held.values[0], held.codes[0] = stage, Code.GOOD
        clean = self._stages > 0
        if clean.mean() < _LEAST_SHARE:
            held.values[1] = np.nan
            held.codes[1] = held.codes[0] if GRADES[held.codes[0]] == Grade.INVALID else Code.TOO_FEW
        else:
            held.values[1], held.codes[1] = float((self._stages[clean] == DROWSY).mean()), Code.GOOD

    def _skip_to(self, number: int) -> None:
        """Seconds that never came (a long gap leaves their hops out) and the one now are not clean until shown to be."""
        first = max(self._seconds + 1, number - len(self._slow_ring) + 1)
        gone = np.arange(first, number + 1)
        self._slow_ring[gone % len(self._slow_ring)] = np.nan
        self._stages[gone[-self._window :] % self._window] = 0
        self._seconds = number


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> Vigilance:
    return Vigilance(info, settings, line)
