"""How two channels' phases go together, from their cross-spectra over epochs.

`cross` arrays are complex with epochs on axis 0; results lose that axis. 0/0 is NaN. The sign of an
imaginary part depends on who is first; only absolute and squared ones leave this file, but for imaginary coherence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dsp.spectrum import C128
from eegloop.signal import F64

Measure = Callable[[C128, F64, F64], F64]
# A lag of less than this (rad) is the rounding of samples of 24 bits: two channels hold one signal (bipolar O1-O2 and O2-O1), and its sign is chance.
_LEAST_LAG = 1e-6


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> F64:
    out = np.full(np.shape(bottom), np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def _imaginary(cross: C128) -> F64:
    """Im S, zero where it is rounding alone."""
    return np.where(np.abs(cross.imag) > _LEAST_LAG * np.abs(cross), cross.imag, 0.0)


def phase_locking_value(cross: C128, power_a: F64, power_b: F64) -> F64:
    """|mean(S / |S|)|. Volume conduction raises it: two electrodes that see one source lock."""
    size = np.abs(cross)
    unit = np.divide(cross, size, out=np.full(cross.shape, np.nan + 0j), where=size > 0)
    return np.asarray(np.abs(unit.mean(0)), dtype=np.float64)


def imaginary_coherence(cross: C128, power_a: F64, power_b: F64) -> F64:
    """Im E[S] / sqrt(E[Saa] E[Sbb]); positive when the first channel leads."""
    return _ratio(cross.imag.mean(0), np.sqrt(power_a.mean(0) * power_b.mean(0)))


def weighted_phase_lag_index(cross: C128, power_a: F64, power_b: F64) -> F64:
    """|sum Im S| / sum |Im S|; biased upward with few epochs."""
    imaginary = _imaginary(cross)
    return _ratio(np.abs(imaginary.sum(0)), np.abs(imaginary).sum(0))


def debiased_wpli(cross: C128, power_a: F64, power_b: F64) -> F64:
    """((sum Im)² - sum Im²) / ((sum |Im|)² - sum Im²) (Vinck 2011); may be below zero, and is not clipped."""
    imaginary = _imaginary(cross)
    squares = (imaginary**2).sum(0)
    return _ratio(imaginary.sum(0) ** 2 - squares, np.abs(imaginary).sum(0) ** 2 - squares)
