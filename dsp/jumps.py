"""Jumps from one raw sample to the next and back, or to another level: what no brain and no muscle does, seen before filters smear it.

A glitch of the converter, a lost bit or an electrode that pops for one sample is as flat as noise in the spectrum: behind a low pass it
looks like a short burst of muscle. In the raw samples it stands alone. The look at them costs as much as many blocks' worth of other
checks, so only blocks are looked at whose filtered samples are steeper than this person's usually are: a jump that is too small to make
them so adds less to beta than that varies by itself.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from eegloop.signal import F64, Bool

# Times a channel's usual mean square of filtered steps: blocks that are looked at.
LOOKED_AT: Final = 2.5
# The same while nobody knows what is usual, µV².
UNKNOWN_UV2: Final = 6.0
# Share of the usual that the jump itself must bring.
MATTERS: Final = 0.7
# A jump's height over the RMS of the rest of the block, all of it as what lies between two neighbors and is left of them without mains.
ALONE: Final = 5.0
# A jump goes to one side and at once to the other: what is left at a neighbor, of its own height. The top of a sharp wave has none.
BACK: Final = 0.35
TAIL_S: Final = 0.04  # of the block before: a low pass moves what stands at its end into the next one
_FEWEST = 24  # samples of it at least, if it has so many: to know mains by
# µV times the rate: a spike of that height adds 0.5 µV² to alpha at most, a step four times as much at low rates.
LARGE_UV_S: Final = 0.2
_AROUND = 2  # samples to either side that belong to the jump
_MAINS_HZ = 50.0, 60.0
_LOW_PASS_HZ = 45.0


class Jumps:
    """`look` judges a block.

    Parameters
    ----------
    eeg : (n_channels,) bool
    rate_hz : float
    """

    def __init__(self, eeg: Bool, rate_hz: float) -> None:
        self._eeg, self._rate_hz = eeg, rate_hz
        self._late = max(2, round(TAIL_S * rate_hz))
        self._mains: dict[int, F64] = {}
        self._usual: F64 = np.full(len(eeg), UNKNOWN_UV2)
        self.usual(self._usual)

    def usual(self, steepness_uv2: F64) -> None:
        """What every channel's steepness usually is, (n_channels,) µV² per 4 ms."""
        self._usual = steepness_uv2
        self._heights: dict[int, F64] = {}
        limits = np.where(self._eeg, LOOKED_AT * steepness_uv2, np.inf)
        self._least_limit, self._limits = float(limits.min()), limits

    def look(self, recent: list[F64], steepness: F64, steepest: float) -> tuple[Bool, Bool] | None:
        """Channels that jump within the newest block or at the end of the one before, and those where alpha feels it; None if there is none.

        Parameters
        ----------
        recent : list of (n_channels, n) float64
            Raw blocks in a row, the newest last; one at least.
        steepness : (n_channels,) float64
            Mean square of the newest block's filtered samples' steps, µV² per 4 ms; `steepest` is the largest.
        """
        if steepest <= self._least_limit:
            return None
        rows = np.flatnonzero(steepness > self._limits)
        if not rows.size:
            return None
        x = recent[-1][rows]
        n, late = x.shape[1], self._late
        if len(recent) > 1:
            before = [block[rows] for block in recent[-2 - (n < _FEWEST) : -1]]
            x = np.concatenate((*before[:-1], before[-1][:, -max(_FEWEST, late) :], x), axis=1)
        left = x[:, 1:-1] - 0.5 * (x[:, 2:] + x[:, :-2])
        if left.shape[1] <= 2 * _AROUND + 3:
            return None
        least = self._height(n)[rows]
        size = np.maximum.reduce(np.abs(left), axis=1)
        if not (size > least / 2).any():
            return None
        first = max(0, x.shape[1] - n - late - 1)
        found = self._alone(left, first, least)
        if not found.all():
            # At low rates mains lie where a jump has most of its power: little is left of it without them.
            mains = self._mains_of(left.shape[1])
            found |= self._alone(left - (left @ mains) @ mains.T, first, least)
        if not found.any():
            return None
        jumps, large = np.zeros_like(self._eeg), np.zeros_like(self._eeg)
        jumps[rows[found]] = True
        large[rows[found & (size > LARGE_UV_S * self._rate_hz)]] = True
        return jumps, large

    @staticmethod
    def _alone(left: F64, first: int, least: F64) -> Bool:
        """Rows in which one sample from `first` on, at least this high, stands alone between its neighbors."""
        size = np.abs(left)
        high: Bool = size[:, first:].max(1) > least
        if not high.any():
            return high
        at = first + size[:, first:].argmax(1)
        every = np.arange(len(left))
        padded = np.pad(left, ((0, 0), (_AROUND, _AROUND)))
        own = padded[every[:, np.newaxis], at[:, np.newaxis] + np.arange(2 * _AROUND + 1)]
        rest = (np.vecdot(left, left) - np.vecdot(own, own)) / (left.shape[1] - 2 * _AROUND - 1)
        height, back = size[every, at], -np.sign(own[:, _AROUND]) * own[:, [_AROUND - 1, _AROUND + 1]].T
        return np.asarray(high & (height > ALONE * np.sqrt(np.maximum(rest, 0.0))) & (back.max(0) > BACK * height))

    def _height(self, n: int) -> F64:
        """(n_channels,) µV of a jump of one sample that matters in a block of `n`: what it adds behind the low pass is as much as usual."""
        height = self._heights.get(n)
        if height is None:
            rate = self._rate_hz
            steps = 2.0 * (2 * math.pi) ** 2 * min(_LOW_PASS_HZ, rate / 2) ** 3 / (3 * rate**3)
            height = self._heights[n] = np.sqrt(MATTERS * self._usual * n / (steps * max(1.0, rate / 250.0) ** 2))
        return height

    def _mains_of(self, n: int) -> F64:
        """(n, 2 or 4) orthonormal: mains of any phase."""
        mains = self._mains.get(n)
        if mains is None:
            hz = np.array([hz for hz in _MAINS_HZ if hz < 0.49 * self._rate_hz])
            phase = 2 * math.pi * np.arange(n)[:, np.newaxis] * hz / self._rate_hz
            mains = self._mains[n] = np.linalg.qr(np.hstack([np.cos(phase), np.sin(phase)]))[0]
        return mains
