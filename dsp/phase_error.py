"""How uncertain a phase is, given how far the estimate may be from the band signal.

The estimate m of a band signal z lies off it by a complex Gaussian error of `sigma` a component. Where |z| is small there is no
phase to know, so the spread is that of z's angle about m's given that |z| is at least its own median, as every use
(and every published truth) demands:

    sd = sqrt(-2 ln R),  R = int r I1(r m) g(r) dr / int r I0(r m) g(r) dr  over r >= a,  g(r) = exp(-(r² + m²) / 2)

with m and the median a in units of sigma. With a = 0 and large m this is the usual sigma / m.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eegloop.signal import F64

# The table's grid: estimate and median amplitude over sigma. Beyond, an error bar is below the floor or grows as 1 / m.
STEP, MOST_M, MOST_A = 0.25, 16.0, 8.0
_REACH = 8.0


@lru_cache(maxsize=1)
def _table() -> F64:
    """1 / sd (1/rad) for every (a, m) of the grid: (33, 65), zero at m = 0."""
    from scipy import special

    m = np.arange(0, MOST_M + STEP / 2, STEP)
    table = np.empty((round(MOST_A / STEP) + 1, len(m)))
    share = (np.arange(240) + 0.5) / 240
    for row in range(len(table)):
        low = row * STEP
        start = np.maximum(low, m - _REACH)[:, np.newaxis]
        r = start + (np.maximum(low, m)[:, np.newaxis] + _REACH - start) * share
        exponent = -0.5 * (r - m[:, np.newaxis]) ** 2
        weight = r * np.exp(exponent - exponent.max(1, keepdims=True))
        product = r * m[:, np.newaxis]
        resultant = (weight * special.i1e(product)).sum(1) / (weight * special.i0e(product)).sum(1)
        with np.errstate(divide="ignore"):
            table[row] = 1 / np.sqrt(-2 * np.log(resultant))
    table[:, 0] = 0.0
    table.flags.writeable = False
    return table


def certainty_lines(median_over_sigma: F64) -> tuple[F64, F64]:
    """1 / sd as straight pieces over m: intercepts and slopes, (n, 64) each, piece i from i * STEP on, for n channels."""
    table = _table()
    at = np.clip(median_over_sigma / STEP, 0, len(table) - 1)
    row = np.minimum(at.astype(np.intp), len(table) - 2)
    share = (at - row)[:, np.newaxis]
    curve = table[row] * (1 - share) + table[row + 1] * share
    slope = np.diff(curve, axis=1) / STEP
    intercept = curve[:, :-1] - slope * (np.arange(slope.shape[1]) * STEP)
    return np.ascontiguousarray(intercept), np.ascontiguousarray(slope)
