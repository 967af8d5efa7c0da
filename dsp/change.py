"""Has this person changed? z against their own baseline sessions, and the reliable change index; both with their uncertainty.

Session values go in (medians of clean signal, same hour, eyes, reference and montage); nothing here knows a norm of other
people except `reliable_change`, whose spread and retest correlation come from a comparable cohort and are the caller's to name.
A change is reported only where 95 % of chance lies on one side of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eegloop.signal import F64

LEAST_SESSIONS = 4
Verdict = Literal["changed_up", "changed_down", "no_reliable_change", "too_few_sessions", "no_spread", "no_value"]


@dataclass(frozen=True, slots=True)
class OwnChange:
    """A session against the person's own baseline.

    Attributes
    ----------
    z : float
        (value - mean of the baseline) / its standard deviation (ddof 1). NaN without one.
    z_low, z_high : float
        95 % interval of the true distance in the person's true standard deviations: few sessions know both poorly.
    p : float
        Two-sided probability of so distant a session if nothing has changed (prediction from n sessions, Student's t).
    n_sessions : int
        Baseline sessions with a value.
    verdict : str
    """

    z: float
    z_low: float
    z_high: float
    p: float
    n_sessions: int
    verdict: Verdict


def own_change(baseline: F64, value: float, measurement_sd: float = 0.0) -> OwnChange:
    """z of one session's value against the baseline sessions' values of the same person.

    Parameters
    ----------
    baseline : (n_sessions,) float64
        Session values; NaN = that session gave none. At least four must have one.
    value : float
        The session in question.
    measurement_sd : float
        Standard error of `value` beyond that of a usual session (e.g. because it was short); widens everything.

    Notes
    -----
    With m, s from n sessions, sqrt(n)(x - m)/s is noncentral t around sqrt(n) times the true distance, which gives the interval;
    (x - m) / sqrt(s²(1 + 1/n) + measurement_sd²) is compared with t of n - 1 degrees of freedom, which gives p.
    """
    from scipy import special

    if not measurement_sd >= 0:
        raise ValueError(f"measurement_sd {measurement_sd:g}: a standard error is 0 or more")
    usable = np.asarray(baseline, dtype=np.float64)
    usable = usable[np.isfinite(usable)]
    n = len(usable)
    if not math.isfinite(value):
        return OwnChange(math.nan, math.nan, math.nan, math.nan, n, "no_value")
    if n < LEAST_SESSIONS:
        return OwnChange(math.nan, math.nan, math.nan, math.nan, n, "too_few_sessions")
    mean, sd = float(usable.mean()), float(usable.std(ddof=1))
    distance = value - mean
    if sd <= 1e-12 * max(1.0, abs(mean)):  # sessions that do not differ say nothing of how much sessions differ
        return OwnChange(math.nan, math.nan, math.nan, math.nan, n, "no_spread")
    widening = math.sqrt(1 + (measurement_sd / sd) ** 2)
    z, df = distance / sd, n - 1
    t = math.sqrt(n) * z / widening
    low, high = (float(special.nctdtrinc(df, q, t)) for q in (0.975, 0.025))
    p = 2 * float(special.stdtr(df, -abs(distance) / math.sqrt(sd**2 * (1 + 1 / n) + measurement_sd**2)))
    verdict: Verdict = "no_reliable_change" if p > 0.05 else "changed_up" if distance > 0 else "changed_down"
    return OwnChange(z, low * widening / math.sqrt(n), high * widening / math.sqrt(n), p, n, verdict)


@dataclass(frozen=True, slots=True)
class ReliableChange:
    """A change against what measuring twice gives in people who have not changed.

    Attributes
    ----------
    index : float
        Change over the standard error of a difference; beyond ±1.96 it is reliable.
    change : float
        after - before, in the biomarker's unit.
    low, high : float
        95 % interval of the true change.
    verdict : str
    """

    index: float
    change: float
    low: float
    high: float
    verdict: Verdict


def reliable_change(before: F64, after: F64, cohort_sd: float, retest_r: float) -> ReliableChange:
    """Jacobson and Truax's index; means of several sessions before or after shrink its error accordingly.

    Parameters
    ----------
    before, after : (n,) float64
        Session values; NaN = none. With one each this is (x2 - x1) / (SD sqrt(2 (1 - r))).
    cohort_sd : float
        Standard deviation between people, same unit.
    retest_r : float
        Test-retest correlation in that cohort, 0 <= r < 1.
    """
    if not (math.isfinite(cohort_sd) and cohort_sd > 0):
        raise ValueError(f"cohort_sd {cohort_sd:g}: must be above 0")
    if not 0 <= retest_r < 1:
        raise ValueError(f"retest_r {retest_r:g}: must be 0 <= r < 1")
    first, second = (np.asarray(v, dtype=np.float64)[np.isfinite(v)] for v in (before, after))
    if not len(first) or not len(second):
        return ReliableChange(math.nan, math.nan, math.nan, math.nan, "no_value")
    change = float(second.mean() - first.mean())
    error = cohort_sd * math.sqrt((1 - retest_r) * (1 / len(first) + 1 / len(second)))
    index = change / error
    verdict: Verdict = "no_reliable_change" if abs(index) <= 1.96 else "changed_up" if index > 0 else "changed_down"
    return ReliableChange(index, change, change - 1.96 * error, change + 1.96 * error, verdict)


@dataclass(frozen=True, slots=True)
class Retest:
    """What two sessions of the same people say of a biomarker: `r` with its 95 % interval, spread between people, people."""

    r: float
    low: float
    high: float
    sd: float
    n_people: int


def retest(first: F64, second: F64) -> Retest:
    """Test-retest correlation and pooled spread from two sessions each of n people (NaN pairs left out; four are needed)."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} first sessions and {b.shape} second ones; each person needs both")
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    n = len(a)
    if n < 4 or a.std() == 0 or b.std() == 0:
        return Retest(math.nan, math.nan, math.nan, math.nan, n)
    r = float(np.corrcoef(a, b)[0, 1])
    reach = 1.96 / math.sqrt(n - 3)
    center = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    sd = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    return Retest(r, math.tanh(center - reach), math.tanh(center + reach), sd, n)
