"""The heart's own potential in the EEG: sharp, alike on all electrodes that share a reference, and as regular as a pulse.

A reference by the ear or lower lies in the heart's field. 25 µV of R wave make beta and theta up to twice what they are. No filter takes
that out, and no electrode is to blame.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from dsp.contact import STRETCH_S
from eegloop.signal import F64, Bool

_STRETCHES, _EVERY = 4, 2  # 10 s, every 5
# What R waves are looked for through: minus a Gaussian's second derivative, whose spectrum tops at 26 Hz, where alpha is a third.
_WIDTH_S = math.sqrt(2.0) / (2 * math.pi * 26.0)
# A beat stands out of the median size of the mean of all electrodes: 3.1 SD of a Gaussian signal.
_TIMES = 3.1 / 0.6745
_REFRACTORY_S = 0.3
_INTERVAL_S = 0.45, 1.5  # 40-133 beats a minute
_FEWEST = 6
_REGULAR, _WITHIN = 0.8, 0.2  # share of intervals that are the usual one, or two or three of them, to within this share of it
_COVERED = 0.6  # of the time
_BEAT_S = 0.06  # to either side
# Share of a channel's power behind that filter that the mean beat is: a seventh makes beta and theta half as much again, a quarter twice.
BEATS, CLEARED = 0.15, 0.1
# From this on alpha is half as much again too.
ALL_BANDS = 0.45
_STAYS = 3  # looks without a regular pulse after which it is over


class Heartbeat:
    """`take` is given every whole stretch in order.

    Parameters
    ----------
    eeg : (n_channels,) bool
    rate_hz : float
        Of the samples that are given.

    Attributes
    ----------
    on, all_bands : (n_channels,) bool
        Where beta and what is slower than alpha are not the brain's alone; where nothing is.
    any : bool
    """

    def __init__(self, eeg: Bool, rate_hz: float) -> None:
        self._eeg, self._rate_hz = eeg, rate_hz
        self._share_of = eeg / max(1, int(eeg.sum()))
        half = math.ceil(4 * _WIDTH_S * rate_hz)
        at = np.arange(-half, half + 1) / (_WIDTH_S * rate_hz)
        kernel = (1.0 - at**2) * np.exp(-0.5 * at**2)
        self._kernel: F64 = kernel - kernel.mean()
        self._samples: deque[F64] = deque(maxlen=_STRETCHES)
        self._means: deque[F64] = deque(maxlen=_STRETCHES)
        self._turn = self._missed = 0
        self.on = self.all_bands = np.zeros(len(eeg), dtype=np.bool_)
        self.any = False

    def restart(self) -> None:
        """The stretches that follow do not go on from the last one."""
        self._samples.clear()
        self._means.clear()
        self._turn = 0

    def take(self, samples_uv: F64) -> None:
        """One more stretch, (n_channels, n) samples."""
        self._samples.append(samples_uv.copy())
        self._means.append(self._share_of @ samples_uv)
        self._turn += 1
        if self._turn < _STRETCHES or (self._turn - _STRETCHES) % _EVERY:
            return
        beats = self._beats(np.convolve(np.concatenate(self._means), self._kernel, "valid"))
        if beats is None:
            self._missed += 1
            if self.any and self._missed >= _STAYS:
                self.on = self.all_bands = np.zeros_like(self._eeg)
                self.any = False
            return
        self._missed = 0
        share = self._explained(beats)
        self.on = (share > np.where(self.on, CLEARED, BEATS)) & self._eeg
        self.all_bands = self.on & (share > ALL_BANDS)
        self.any = bool(self.on.any())

    def _beats(self, look: F64) -> list[int] | None:
        """Places of R waves of either sign, if there are such and they are regular."""
        limit = _TIMES * float(np.median(np.abs(look)))
        for signed in (look, -look):
            if float(signed.max()) <= limit:
                continue
            inner = signed[1:-1]
            tops = 1 + np.flatnonzero((inner > limit) & (inner >= signed[:-2]) & (inner > signed[2:]))
            beats: list[int] = []
            for top in tops.tolist():
                if beats and top - beats[-1] < _REFRACTORY_S * self._rate_hz:
                    if signed[top] > signed[beats[-1]]:
                        beats[-1] = top
                else:
                    beats.append(top)
            if len(beats) >= _FEWEST and self._regular(np.diff(beats) / self._rate_hz):
                return beats
        return None

    @staticmethod
    def _regular(intervals_s: F64) -> bool:
        usual = float(np.median(intervals_s))
        if not _INTERVAL_S[0] <= usual <= _INTERVAL_S[1]:
            return False
        times = intervals_s / usual
        fits = (np.abs(times - np.rint(times)) < _WITHIN) & (np.rint(times) >= 1) & (np.rint(times) <= 3)
        return bool(fits.mean() >= _REGULAR and len(intervals_s) * usual >= _COVERED * _STRETCHES * STRETCH_S)

    def _explained(self, beats: list[int]) -> F64:
        """(n_channels,) the share of each channel's power behind the filter that is the mean of its beats."""
        x, n = np.concatenate(self._samples, axis=1), len(self._kernel)
        look = np.lib.stride_tricks.sliding_window_view(x, n, axis=1) @ self._kernel
        reach = round(_BEAT_S * self._rate_hz)
        inside = np.array([at for at in beats if reach <= at < look.shape[1] - reach], dtype=np.intp)
        beat = look[:, inside[:, np.newaxis] + np.arange(-reach, reach + 1)].mean(1)
        total = np.vecdot(look, look)
        return np.asarray(len(inside) * np.vecdot(beat, beat) / np.where(total > 0, total, np.inf), dtype=np.float64)
