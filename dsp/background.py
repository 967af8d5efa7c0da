"""How large a signal usually is: the median of its size over the last minute, which events of a fifth of the time hardly move."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from eegloop.signal import F64

SPAN_S, RECENT_S = 60.0, 2.5
EVERY_S = 0.3
_LEAST_S = 10.0
_RENEWED_S = 2.5
_SOON_S = 0.8
# Nothing at all, so many times in a row: a headset that is not worn yet, zeros, a rail. By chance two electrodes may have nothing in common now and then.
_DEAD_UV, _DEAD_IN_A_ROW = 0.001, 10


class Background:
    """`take` is given a size every `every_s`; `middle` is the median of the last minute's, NaN before 10 s of it; `lower` is their lower quartile.

    They are renewed every 2.5 s or so. `recent` is the median of the last 2.5 s, renewed every 0.8 s: an event or two do not move it, a rhythm
    that has set in does.

    Parameters
    ----------
    every_s : float
        s between two sizes.
    """

    def __init__(self, every_s: float) -> None:
        self._sizes: F64 = np.zeros(max(2, round(SPAN_S / every_s)))
        self._least, self._renewed = max(1, round(_LEAST_S / every_s)), max(1, round(_RENEWED_S / every_s))
        self._taken = self._dead = 0
        self._soon = max(1, round(_SOON_S / every_s))
        self._newest: deque[float] = deque(maxlen=max(3, round(RECENT_S / every_s)))
        self.middle, self.lower, self.recent = math.nan, math.nan, 0.0

    def take(self, size: float) -> bool:
        """One more, in µV; True when there is something new. What no electrode on a head gives is not counted."""
        self._dead = self._dead + 1 if abs(size) < _DEAD_UV else 0
        if self._dead > _DEAD_IN_A_ROW:
            if self._dead == _DEAD_IN_A_ROW + 1:  # nor are the ones before
                self._taken = max(0, self._taken - _DEAD_IN_A_ROW)
            return False
        self._sizes[self._taken % len(self._sizes)] = size
        self._newest.append(size)
        self._taken += 1
        if self._taken % self._soon or self._taken < self._least:
            return False
        self.recent = sorted(self._newest)[len(self._newest) // 2]
        if self._taken % self._renewed < self._soon or math.isnan(self.middle):
            n = min(self._taken, len(self._sizes))
            ordered = np.partition(self._sizes[:n], (n // 4, n // 2))
            self.lower, self.middle = float(ordered[n // 4]), float(ordered[n // 2])
        return True
