"""For biomarkers that need many seconds: the running mean of a density over segments, and values held between renewals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsp.codes import NO_VALUE, Code
from dsp.electrodes import pick
from dsp.hop import Graded, Hop
from dsp.spectrum import SpectrumNeed, Taper, bin_frequencies
from dsp.window import Grid, exact
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, StreamInfo

_NEVER = -(2**62)


class MeanDensity:
    """Keeps the newest segments' densities and each channel's verdict on them.

    Segments end at hops whose number is a multiple of the step, so they lie on the absolute grid. A channel's
    mean is over its good segments if at least half of a window's are good, else over all that have a value (then it
    is suspect), and there is none if fewer than half have one. With `least_s` a window is allowed to be shorter while it
    grows: half of what `least_s` holds will do, if that is also half of the segments that have come. Segments outlive an
    interruption, because none of them holds a sample of it; while it and the filters' settling last, `Held` gives nothing.
    """

    def __init__(
        self,
        info: StreamInfo,
        line: LineSettings,
        segment_s: float,
        window_s: float,
        f_max_hz: float,
        taper: Taper = "hann",
        n_fft: int = 0,
        channels: Sequence[int] | None = None,
        least_s: float | None = None,
        lowest_hz: float = 0.0,
        highest_hz: float = math.inf,
    ) -> None:
        grid = Grid.of(info.sample_rate_hz, line.hop_s)
        n = grid.window_samples(segment_s)
        self._every = max(1, math.floor(exact(segment_s) / 2 / exact(line.hop_s)))
        step_s = self._every * line.hop_s
        self.n_segments = max(1, 1 + math.floor((window_s - segment_s) / step_s + 1e-9))
        self._least_segments = self.n_segments
        if least_s is not None:
            self._least_segments = min(self.n_segments, max(1, 1 + math.floor((least_s - segment_s) / step_s + 1e-9)))
        self.window_s = segment_s + (self.n_segments - 1) * step_s
        asked = None if channels is None else frozenset(channels)
        self.need = SpectrumNeed(n, f_max_hz, taper, "constant", self._every, n_fft, channels=asked)
        self._n_window = n + round((self.n_segments - 1) * step_s * info.sample_rate_hz)
        self._span_hz = lowest_hz, highest_hz
        picked = range(info.n_channels) if channels is None else channels
        self._channels = pick(picked)
        # by a segment's number: its densities by channel, codes, and the hop it ended at
        self.frequency_hz = bin_frequencies(self.need, info.sample_rate_hz)
        places = self.n_segments
        self._densities: F64 = np.zeros((len(picked), places, len(self.frequency_hz)))
        self._codes: U8 = np.zeros((places, len(picked)), dtype=np.uint8)
        self._ended_at: NDArray[np.int64] = np.full(places, _NEVER, dtype=np.int64)
        self._newest = 0

    def update(self, hop: Hop) -> bool:
        """Take a segment if one ends at this hop; True when the mean has changed."""
        if hop.number % self._every:
            return False
        codes = hop.codes(self.need.n_samples, *self._span_hz)[self._channels]
        self._newest = place = hop.number // self._every % self.n_segments
        self._ended_at[place], self._codes[place] = hop.number, codes
        if np.minimum.reduce(codes, initial=NO_VALUE) < NO_VALUE:
            # another biomarker may have asked for bins beyond these
            self._densities[:, place] = hop.density(self.need)[self._channels, : self._densities.shape[2]]
        else:
            self._densities[:, place] = 0.0
        return True

    def density(self) -> tuple[F64, U8]:
        """Mean density (n, n_bins) of the n channels at `frequency_hz`, and each one's code; there may be none: see the code."""
        codes, newest = self._codes, self._codes[self._newest]
        kept = self._ended_at > max(_NEVER, int(self._ended_at[self._newest]) - self.n_segments * self._every)
        n_kept = int(np.count_nonzero(kept))
        good = (codes == 0) & kept[:, np.newaxis]
        usable = (codes < NO_VALUE) & kept[:, np.newaxis]
        needed = max(self._least_segments, n_kept)
        enough = 2 * np.add.reduce(good, axis=0, dtype=np.int64) >= needed
        weight = np.where(enough, good, usable).astype(np.float64)
        count = np.maximum(np.add.reduce(weight, axis=0), 1.0)
        mean = np.matmul((weight / count).T[:, np.newaxis], self._densities)[:, 0]
        worst = np.max(codes, axis=0, initial=0, where=usable)
        code: NDArray[np.uint8] = np.where(enough, np.uint8(0), worst).astype(np.uint8)
        short = 2 * np.add.reduce(usable, axis=0, dtype=np.int64) < needed
        code[short] = np.maximum(newest[short], np.uint8(NO_VALUE))
        return np.asarray(mean, dtype=np.float64), code


class Held:
    """Values that are renewed more rarely than once a hop, and given at every hop.

    Parameters
    ----------
    channels : sequence of tuple of int
        The channels behind each value.

    Attributes
    ----------
    values : (n,) float64
    codes : (n,) uint8
        `Code` of each value as of its last renewal.
    """

    def __init__(self, channels: Sequence[tuple[int, ...]]) -> None:
        self._channels = channels
        self.values: F64 = np.full(len(channels), np.nan)
        self.codes: U8 = np.full(len(channels), Code.SETTLING, dtype=np.uint8)
        self._graded = Graded()

    def give(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        """Fill this hop's slots. While a value's channels are interrupted or settling, it is not there; after a pulse it is suspect."""
        codes = self.codes
        if hop.pulsed:
            codes = np.where(codes == Code.GOOD, np.uint8(Code.PULSE), codes)
        present = hop.codes(1)
        if present is not hop.all_good and int(np.maximum.reduce(present)) >= NO_VALUE:
            codes = codes.copy()
            for i, channels in enumerate(self._channels):
                now = (
                    min((int(present[c]) for c in channels), default=0)
                    if len(channels) > 2
                    else max(int(present[c]) for c in channels)
                )
                if now >= NO_VALUE:
                    codes[i] = now
        values[:] = self.values
        return self._graded.give(codes, values, grades)
