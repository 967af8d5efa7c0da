"""Slow drift that lasts: sweat, breathing and a rocking head, told from slow waves of the brain by what reaches delta, and how regularly.

A lone slow wave stands out of the person's last minute (`dsp.artifacts`). Drift that never stops does not: it is the last minute. Two
things tell it. What lies below delta leaks into it through the taper, and where more than half of a delta value is such leakage, nobody
sees the person's own. And a head or cable that is rocked moves every electrode at once, at one frequency, for many seconds: slow waves of
the brain are broad, and they travel.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dsp.contact import STRETCH_S, Lasting
from eegloop.signal import F64, Bool

_POINTS = 25  # means a stretch, of 100 ms each: alpha is gone, below 4 Hz all is there
_STRETCHES = 4  # 10 s, tapered: 0.1 Hz between bins
_EVERY = 2  # stretches: half of the next 10 s are the last ones
_SPECTRA = 3  # of these, 20 s in all
_TAPER_S = 2.0  # of the delta value that is protected
_DELTA_HZ = (1.0, 4.0)
# Below this nothing is delta, and of the brain's own there is little behind the high pass: a slow oscillation of deep sleep lies above it.
BELOW_HZ = 0.75
# Share of delta that comes from below it: half makes the value twice what it is. A 1/f² brain has 0.2, a 1/f³ one 0.4.
LEAKED, CLEARED = 0.5, 0.4
_ROCKING_HZ = 0.3, 2.0
# One frequency's share of delta, 0.2 Hz to either side (the taper's own width): as above. 1/f noise of 20 s has a third by chance.
LINE = 0.5
# Share of these channels' line that is one pattern, the same at every instant; the rest is what else is there. A wave of 1 Hz that takes
# 0.12 s over the head, as those of sleep do, has less; and no brain's are as regular over 20 s.
TOGETHER = 0.95
_FEWEST = 3


class Drift:
    """`take` is given every whole stretch in order.

    Attributes
    ----------
    on : (n_channels,) bool
        Where what is made of frequencies below 2 Hz is not the person's.
    any : bool
    """

    def __init__(self, eeg: Bool, blocks_per_stretch: int) -> None:
        c, n = len(eeg), _POINTS * _STRETCHES
        self._eeg = eeg
        edges = np.round(np.linspace(0, blocks_per_stretch, _POINTS + 1)).astype(np.intp)
        self._starts, self._counts = edges[:-1], np.diff(edges)[:, np.newaxis].astype(np.float64)
        self._trace: F64 = np.zeros((n, c))
        self._held = 0
        self._taper: F64 = np.hanning(n + 1)[:n, np.newaxis]
        spacing = 1.0 / (_STRETCHES * STRETCH_S)
        frequency: F64 = np.arange(n // 2 + 1, dtype=np.float64) * spacing
        self._bins = int(np.searchsorted(frequency, _DELTA_HZ[1] + 0.5))
        frequency = frequency[: self._bins]
        reach = _reach(frequency)
        self._below: F64 = np.where(frequency < BELOW_HZ - 1e-9, reach, 0.0)
        self._reach = reach
        self._first, self._last = (int(np.searchsorted(frequency, hz - 1e-9)) for hz in _ROCKING_HZ)
        self._spectra: deque[NDArray[np.complex128]] = deque(maxlen=_SPECTRA)
        self._leaking, self._rocked = Lasting((c,)), Lasting((c,))
        self.on: Bool = np.zeros(c, dtype=np.bool_)
        self.any = False

    def restart(self) -> None:
        """The stretches that follow do not go on from the last one; what was concluded stands until they say something else."""
        self._held = 0
        self._spectra.clear()

    def take(self, number: int, means_uv: F64) -> None:
        """One more stretch.

        Parameters
        ----------
        number : int
            Its place on the absolute grid.
        means_uv : (n_blocks, n_channels) float64
            Every block's mean of the high-passed samples.
        """
        trace = self._trace
        trace[:-_POINTS] = trace[_POINTS:]
        np.divide(np.add.reduceat(means_uv, self._starts), self._counts, trace[-_POINTS:])
        self._held += 1
        if number % _EVERY or self._held < _STRETCHES:
            return
        spectrum = np.fft.rfft((trace - np.add.reduce(trace) / len(trace)) * self._taper, axis=0)[: self._bins]
        self._spectra.append(spectrum)
        if len(self._spectra) < _SPECTRA:
            return
        bins = np.array(self._spectra)
        power = np.add.reduce(bins.real**2 + bins.imag**2)
        delta = self._reach @ power
        power /= np.where(delta > 0, delta, 1.0)
        share = self._below @ power
        self._leaking.take((share > LEAKED) & self._eeg, share < CLEARED)
        rocked = self._rocking(bins, power * self._reach[:, np.newaxis])
        self._rocked.take(rocked, ~rocked)
        self.on = self._leaking.on | self._rocked.on
        self.any = bool(self.on.any())

    def _rocking(self, bins: NDArray[np.complex128], share: F64) -> Bool:
        """Channels whose delta is mostly one frequency, the same for all and in step in all; `share`: every bin's of it."""
        n = len(share) - 4
        running = share[:n] + share[1 : n + 1] + share[2 : n + 2] + share[3 : n + 3] + share[4:]  # by the first of five bins
        typical = running[self._first - 2 : self._last - 1] @ self._eeg
        at = self._first - 2 + int(typical.argmax())
        rocked = (running[at] > LINE) & self._eeg
        if int(np.count_nonzero(rocked)) < _FEWEST:
            return np.zeros_like(self._eeg)
        line = bins[:, at : at + 5, rocked].reshape(-1, int(np.count_nonzero(rocked)))
        real = (line.conj().T @ line).real
        together = float(np.linalg.eigvalsh(real)[-1]) / float(real.trace())
        return rocked if together > TOGETHER else np.zeros_like(self._eeg)


def _reach(frequency_hz: F64) -> F64:
    """What a Hann taper of 2 s lets of power at each frequency into the sum of delta's bins, 1 for a frequency in the middle of delta."""
    spacing = 1.0 / _TAPER_S
    offset = (frequency_hz - np.arange(_DELTA_HZ[0], _DELTA_HZ[1], spacing)[:, np.newaxis]) / spacing
    taper = np.sinc(offset) + 0.5 * (np.sinc(offset - 1.0) + np.sinc(offset + 1.0))
    reached = np.add.reduce(taper**2)
    return np.asarray(reached / reached.max(), dtype=np.float64)
