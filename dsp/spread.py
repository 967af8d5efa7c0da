"""How far a blink reaches: each electrode's share of what the front sees, learned from the person's own blinks.

A blink of 300 µV on the forehead is 30-40 µV above the central sulcus: no blink that is told there, and thirty times the delta.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from eegloop.signal import F64, Bool

# Before it is learned: the share falls by e over this chord (of the head's radius) from the eyes. That is two fifths at F3, a tenth at
# Cz and C3, a thirtieth at O1.
FALLS_OVER = 0.5
EYES_AT = (0.0, 0.985, -0.17)
LEARNED_FROM, KEPT = 6, 60
OFF_HEADS = 2.0  # a head, or what a reference makes of it, may have this many times the share of heads in general
_SD_OF_MEDIAN = 1.4826 * 1.2533  # standard error of a median, in median absolute deviations over the root of their number
_DEAD_UV = 0.001  # less than any electrode on a head moves by itself, but once in thousands
_LEAST_HEIGHT_UV = 30.0  # of a blink that teaches: it must stand out of every channel's own waves


class Spread:
    """`take` learns from a blink, `reached` says which channels one of a given height moves by more than they can bear.

    Parameters
    ----------
    places : sequence of (3,) float64 or None
        Directions of the channels; those without one share the whole blink until it is learned.
    eeg : (n_channels,) bool
    front : (n_front,) int
        Those that `height_uv` is measured at.
    """

    def __init__(self, places: Sequence[F64 | None], eeg: Bool, front: F64 | Sequence[int]) -> None:
        eyes = np.array(EYES_AT)
        shares = np.array([1.0 if at is None else math.exp(-float(np.linalg.norm(at - eyes)) / FALLS_OVER) for at in places])
        self._front = np.array(front, dtype=np.intp)
        known = [float(shares[i]) for i in self._front if places[i] is not None]
        if known:
            shares = np.array([1.0 if at is None else share / max(known) for at, share in zip(places, shares, strict=True)])
        self._eeg = eeg
        self.shares: F64 = np.minimum(shares, 1.0)
        self._of_heads = self.shares
        self._seen: deque[F64] = deque(maxlen=KEPT)

    def take(self, moved_uv: F64) -> None:
        """How far each channel was moved by a blink, (n_channels,) µV, signed."""
        at_front = float(moved_uv[self._front].mean()) if self._front.size else 0.0
        if abs(at_front) < _LEAST_HEIGHT_UV or not np.all(np.isfinite(moved_uv)):
            return
        # a dead electrode has shown nothing: its share is no smaller for that when it is back
        self._seen.append(np.where(np.abs(moved_uv) < _DEAD_UV, self._of_heads, moved_uv / at_front))
        if len(self._seen) >= LEARNED_FROM:
            seen = np.array(self._seen)
            middle = np.median(seen, axis=0)
            unsure = _SD_OF_MEDIAN * np.median(np.abs(seen - middle), axis=0) / math.sqrt(len(seen))
            # what it may well be, as far as heads go: a few blinks among a channel's own waves say little
            learned = np.abs(middle)
            self.shares = np.minimum(learned + unsure, np.maximum(learned, OFF_HEADS * self._of_heads))

    def reached(self, height_uv: float, bears_uv: F64) -> Bool:
        """Channels that a blink of this height in front moves by more than `bears_uv`."""
        return np.asarray(self._eeg & (self.shares * abs(height_uv) > bears_uv), dtype=np.bool_)
