"""How uncertain a phase is, given how far the estimate may be from the band signal.

The estimate m of a band signal z lies off it by a complex Gaussian error of `sigma` a component. Where |z| is small there is no
phase to know, so the spread is that of z's angle about m's given that |z| is at least its own median, as every use
(and every published truth) demands:

    sd = sqrt(-2 ln R),  R = int r I1(r m) g(r) dr / int r I0(r m) g(r) dr  over r >= a,  g(r) = exp(-(r² + m²) / 2)

with m and the median a in units of sigma. With a = 0 and large m this is the usual sigma / m.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from eegloop.signal import F64

# The table's grid: median amplitude and estimate over sigma. Beyond the last m the error bar is at its floor.
STEP_A, MOST_A = 0.5, 8.0
STEP_M, MOST_M = 0.125, 12.0
# Even in a strong burst the phase is not known better: no signal is as steady as its density.
FLOOR_RAD = math.radians(7.5)
_REACH = 8.0


@lru_cache(maxsize=1)
def _table() -> F64:
    """sd (rad, floor to pi) for every (a, m) of the grid: (17, 97)."""
    from scipy import special

    m = np.arange(0, MOST_M + STEP_M / 2, STEP_M)
    table = np.empty((round(MOST_A / STEP_A) + 1, len(m)))
    share = (np.arange(100) + 0.5) / 100
    for row in range(len(table)):
        low = row * STEP_A
        start = np.maximum(low, m - _REACH)[:, np.newaxis]
        r = start + (np.maximum(low, m)[:, np.newaxis] + _REACH - start) * share
        exponent = -0.5 * (r - m[:, np.newaxis]) ** 2
        weight = r * np.exp(exponent - exponent.max(1, keepdims=True))
        product = r * m[:, np.newaxis]
        resultant = (weight * special.i1e(product)).sum(1) / (weight * special.i0e(product)).sum(1)
        with np.errstate(divide="ignore"):
            table[row] = np.clip(np.sqrt(-2 * np.log(resultant)), FLOOR_RAD, np.pi)
    table[:, -1] = FLOOR_RAD
    table.flags.writeable = False
    return table


def error_bar_lines(median_over_sigma: F64) -> tuple[F64, F64]:
    """sd as straight pieces over m / STEP_M: intercepts and slopes, (n, 97) each, for n channels; the last piece is level."""
    table = _table()
    at = np.clip(median_over_sigma / STEP_A, 0, len(table) - 1)
    row = np.minimum(at.astype(np.intp), len(table) - 2)
    share = (at - row)[:, np.newaxis]
    curve = table[row] * (1 - share) + table[row + 1] * share
    slope = np.zeros_like(curve)
    slope[:, :-1] = np.diff(curve, axis=1)
    return curve - slope * np.arange(curve.shape[1]), slope
