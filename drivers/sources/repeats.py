"""Deliveries that came twice: left out before they reach the sample clock, which would take them for samples that came early."""

from __future__ import annotations

import operator
from collections import deque

import numpy as np

from eegloop.signal import F32, F64, Bool

REMEMBERED = 64  # deliveries at most; a second of 16 ms ones
REMEMBERED_S, LEAST = 1.0, 8  # older ones go, but for the newest few: what many headsets keep, the processor must fetch anew


class Repeats:
    """Finds samples whose stamp and values both came before, exactly. Stamps that merely overlap are left alone."""

    def __init__(self) -> None:
        self.found = 0
        self.rose = True  # the stamps of the last delivery, each later than the one before
        self._newest_s = -np.inf
        self._recent: deque[tuple[float, F64, F32]] = deque(maxlen=REMEMBERED)  # each with its newest stamp

    def fresh(self, data: F32, stamps_s: F64) -> tuple[F32, F64]:
        """The samples of a delivery that did not come before; the same arrays when all are new (one comparison a delivery).

        Parameters
        ----------
        data : (n, n_channels) float32
        stamps_s : (n,) float64
            The sender's own stamps, before any correction.
        """
        stamps = stamps_s.tolist()
        newest_s = stamps[-1]
        self.rose = rising(stamps)
        if not (self.rose and stamps[0] > self._newest_s):
            keep = self._new(data, stamps)
            if keep is not None:
                self.found += int((~keep).sum())
                data, stamps_s = data[keep], stamps_s[keep]
                stamps = stamps_s.tolist()
            newest_s = max(stamps, default=-np.inf)
        if stamps:
            recent = self._recent
            recent.append((newest_s, stamps_s, data))
            while len(recent) > LEAST and recent[0][0] < newest_s - REMEMBERED_S:
                recent.popleft()
            self._newest_s = max(self._newest_s, newest_s)
        return data, stamps_s

    def _new(self, data: F32, stamps: list[float]) -> Bool | None:
        """Which samples are new; None = all, at a glance: no stamp came before."""
        low, wanted = min(stamps), set(stamps)
        known = {
            (t, rows[i].tobytes())
            for newest_s, before, rows in self._recent
            if newest_s >= low
            for i, t in enumerate(before.tolist())
            if t in wanted
        }
        if not known and len(wanted) == len(stamps):
            return None
        keep = np.ones(len(stamps), np.bool_)
        for i, (stamp, row) in enumerate(zip(stamps, data, strict=True)):
            key = (stamp, row.tobytes())
            keep[i] = key not in known
            known.add(key)
        return keep


def rising(stamps: list[float]) -> bool:
    """Each later than the one before."""
    return all(map(operator.lt, stamps, stamps[1:]))
