"""The straight line under a stream's time stamps: robust, and honest about how its points lie around it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eegloop.signal import F64

BEATS, BEATS_FROM = 0.5, 24  # correlation of neighboring blocks (of so many) above which the floor is not level
SMOOTH = 8  # blocks averaged before their wander is measured
RATE_PRIOR = 0.02  # senders' nominal rates are right within about 2 %


@dataclass(frozen=True, slots=True)
class Line:
    """Time `time_s` at `sample`, then one sample each `period_s`; rms of the points around it, and how far it wanders.

    `beats`: neighboring points lie on the same side of it; `bottom_s`: where the lowest 5 % of them begin (negative).
    """

    sample: int
    time_s: float
    period_s: float
    scatter_s: float
    wander_s: float
    beats: bool
    bottom_s: float


def fit_line(
    samples: Sequence[int] | deque[int], stamps_s: Sequence[float] | deque[float], nominal_s: float, start_s: float
) -> Line:
    """Straight line through (sample, stamp) points, outliers left out.

    Least absolute deviations by re-weighting, then least squares without what is further off than six
    median deviations. The slope has a Gaussian prior of 2 % around the nominal period, which matters only
    for the first seconds. Points late in one direction (stalls) are outliers here, not bias.
    """
    k = np.fromiter(samples, np.float64, len(samples))
    t = np.fromiter(stamps_s, np.float64, len(stamps_s))
    origin = int(k[-1])
    k -= origin
    t_origin = float(t[-1])
    t -= t_origin
    slope = start_s
    intercept = median(t - slope * k)
    weight = np.ones_like(t)
    scatter = 0.0
    # about the points' own middles, so that products of sums lose nothing
    k_middle, t_middle = float(np.add.reduce(k)) / len(k), float(np.add.reduce(t)) / len(t)
    dk, dt = k - k_middle, t - t_middle
    intercept += slope * k_middle - t_middle
    powers = np.array((np.ones_like(k), dk, dt, dk * dk, dk * dt))
    for turn in range(6):
        residual = np.abs(dt - intercept - slope * dk)
        scatter = median(residual) * 1.4826
        floor = max(scatter, 1e-5)
        weight = 1.0 / np.maximum(residual, floor) if turn < 4 else (residual <= 6.0 * floor).astype(np.float64)
        total, k_sum, t_sum, square, product = (powers @ weight).tolist()
        # prior: slope = nominal +- 2 %; noise of a point: the scatter, at least 1 ms while it is hardly known
        noise = max(scatter, 1e-3 if len(k) < 20 else 1e-5)
        prior = noise**2 / (RATE_PRIOR * nominal_s) ** 2 * (total / len(k))
        slope = (product - k_sum * t_sum / total + prior * nominal_s) / (square - k_sum * k_sum / total + prior)
        intercept = (t_sum - slope * k_sum) / total
    intercept += t_middle - slope * k_middle
    residual = (t - intercept - slope * k)[weight > 0.0]
    rms = float(np.sqrt(np.mean(residual**2))) if len(residual) else scatter
    if len(residual) >= 2 * SMOOTH:
        total_s = np.concatenate(([0.0], np.cumsum(residual)))
        smooth = (total_s[SMOOTH:] - total_s[:-SMOOTH]) / SMOOTH
        wander = float(smooth.max() - smooth.min())
    else:
        wander = 2.0 * max(rms, scatter)
    beats, bottom = False, 0.0
    if len(residual) >= BEATS_FROM:
        middle = residual - residual.mean()
        beats = float(middle[1:] @ middle[:-1]) > BEATS * float(middle @ middle)
        bottom = float(np.sort(residual)[len(residual) // 20])
    return Line(origin, t_origin + intercept, slope, max(rms, scatter if len(k) < 20 else 0.0), wander, beats, bottom)


def median(values: F64) -> float:
    """As `numpy.median` of the upper middle; that one loads a module at its first call, 70 ms in the middle of a stream."""
    ordered = values.copy()
    ordered.sort()
    return float(ordered[len(ordered) // 2])
