"""Deliveries that came twice: left out before they reach the sample clock, which would take them for samples that came early."""

from __future__ import annotations

from collections import deque

import numpy as np

from eegloop.signal import F32, F64, Bool

REMEMBERED = 64  # deliveries; a second of 16 ms ones


class Repeats:
    """Finds samples whose stamp and values both came before, exactly. Stamps that merely overlap are left alone."""

    def __init__(self) -> None:
        self.found = 0
        self._newest_s = -np.inf
        self._recent: deque[tuple[F64, F32]] = deque(maxlen=REMEMBERED)

    def fresh(self, data: F32, stamps_s: F64) -> tuple[F32, F64]:
        """The samples of a delivery that did not come before; the same arrays when all are new (one comparison a delivery).

        Parameters
        ----------
        data : (n, n_channels) float32
        stamps_s : (n,) float64
            The sender's own stamps, before any correction.
        """
        if not (float(stamps_s[0]) > self._newest_s and bool((np.diff(stamps_s) > 0.0).all())):
            keep = self._new(data, stamps_s)
            self.found += int((~keep).sum())
            data, stamps_s = data[keep], stamps_s[keep]
        if len(stamps_s):
            self._recent.append((stamps_s.copy(), data))
            self._newest_s = max(self._newest_s, float(stamps_s.max()))
        return data, stamps_s

    def _new(self, data: F32, stamps_s: F64) -> Bool:
        known = {(t, row.tobytes()) for stamps, rows in self._recent for t, row in zip(stamps.tolist(), rows, strict=True)}
        keep = np.ones(len(stamps_s), np.bool_)
        for i, (stamp, row) in enumerate(zip(stamps_s.tolist(), data, strict=True)):
            key = (stamp, row.tobytes())
            keep[i] = key not in known
            known.add(key)
        return keep
