"""Where raising the amplitude leads: a straight line through what the biomarker showed at each amplitude, read off at all that is allowed.

A controller that raises because its biomarker lies on one side of the band supposes that more moves it towards the band. Whether
it does is seen from the session itself: one point a sense block (the mean of its usable values at the amplitude delivered before
it) and the baseline at 0 mA, fitted by least squares weighted by the number of values. If even the upper end of the one-sided
97.5 % interval of the line at the ceiling (Draper and Smith, Applied Regression Analysis, 1998, section 3.1) does not reach the band,
all that is allowed is not expected to bring the biomarker there: the person responds the other way round, or too little.

What it does not know: a drift of the biomarker by itself looks like an answer to an amplitude that only rises. A drift away from the
band therefore ends in giving up (towards zero) earlier, one towards it later. Who answers only beyond some amplitude is taken for who
does not answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from control.steps import SAME_MA
from eegloop.stim import finite

LEAST_RAISES = 3
LEAST_SPAN_MA = 0.2
"""Nothing is concluded before so many raises, and so much more than at first."""
MOST_LEVELS = 60
"""Sense blocks remembered: an hour of one a minute."""
MEDIAN_WORTH = 2.0 / math.pi
"""The baseline is a median: worth so many values of a mean each (its efficiency for normal noise)."""
T_975 = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""One-sided 97.5 % quantiles of Student's t with 2, 3, ... 10 degrees of freedom; the last also for more, which is on the safe side."""


@dataclass(frozen=True, slots=True)
class Level:
    """One sense block: the amplitude delivered before it, how many usable values, their mean, their squared distances from it, summed."""

    ma: float
    n: int
    mean: float
    squares: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The sense blocks so far, oldest first, and when the last value was taken in (LSL s)."""

    levels: tuple[Level, ...] = ()
    last_s: float = 0.0


def taken_in(now: Outlook, value: float, t_s: float, present_ma: float, apart_s: float) -> Outlook:
    """Take in one usable value. After a gap of `apart_s` (a stimulate block's length) a new sense block begins: its amplitude is
    the present one at its first value, for what is decided within a block is delivered only after it."""
    if not finite(present_ma):
        return now
    if not now.levels or t_s - now.last_s >= apart_s:
        return Outlook((*now.levels, Level(present_ma, 1, value, 0.0))[-MOST_LEVELS:], t_s)
    last = now.levels[-1]
    mean = last.mean + (value - last.mean) / (last.n + 1)
    grown = replace(last, n=last.n + 1, mean=mean, squares=last.squares + (value - last.mean) * (value - mean))
    return Outlook((*now.levels[:-1], grown), t_s)


def raises(now: Outlook) -> int:
    """How often the amplitude was higher than in the block before."""
    return sum(after.ma > before.ma + SAME_MA for before, after in pairwise(now.levels))


def in_vain(now: Outlook, baseline: tuple[float, float] | None, edge: float, top_ma: float, up: bool) -> bool:
    """Whether the biomarker is not expected to reach the band with all that is allowed.

    Parameters
    ----------
    baseline : (float, float) or None
        Its median, and how many values that stands on; None without one.
    edge : float
        The band's nearer edge, biomarker's unit.
    top_ma : float
        The most that is allowed, mA.
    up : bool
        True if more stimulation should raise the biomarker, False if lower it.
    """
    if raises(now) < LEAST_RAISES or now.levels[-1].ma - now.levels[0].ma < LEAST_SPAN_MA - SAME_MA:
        return False
    points = [(level.ma, float(level.n), level.mean) for level in now.levels]
    if baseline is not None:
        points.append((0.0, MEDIAN_WORTH * baseline[1], baseline[0]))
    n_values = sum(level.n for level in now.levels)
    within = sum(level.squares for level in now.levels) / max(1, n_values - len(now.levels))
    value, margin = _read_off(points, within, top_ma)
    return value + margin < edge if up else value - margin > edge


def _read_off(points: Sequence[tuple[float, float, float]], within: float, at_ma: float) -> tuple[float, float]:
    """The fitted line through (mA, weight, value) at `at_ma`, and how far its one-sided 97.5 % bound lies from it.

    The variance of one value is the larger of what was seen within blocks and between them, so that slow noise counts too.
    """
    weight = sum(w for _, w, _ in points)
    mean_ma = sum(w * ma for ma, w, _ in points) / weight
    mean = sum(w * value for _, w, value in points) / weight
    spread = sum(w * (ma - mean_ma) ** 2 for ma, w, _ in points)
    slope = sum(w * (ma - mean_ma) * (value - mean) for ma, w, value in points) / spread
    freedom = len(points) - 2
    between = sum(w * (value - mean - slope * (ma - mean_ma)) ** 2 for ma, w, value in points) / freedom
    away_ma = at_ma - mean_ma
    error = math.sqrt(max(within, between) * (1.0 / weight + away_ma**2 / spread))
    return mean + slope * away_ma, T_975[min(freedom, len(T_975) + 1) - 2] * error
