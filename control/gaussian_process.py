"""Gaussian process regression over a fixed set of points, one measurement at a time; zero mean, squared-exponential kernel.

Rasmussen and Williams 2006, chapter 2 (posterior by Cholesky factor, grown by a row a measurement) and 5.4 (marginal likelihood).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from eegloop.signal import F64

_JITTER = 1e-9


@dataclass(frozen=True, slots=True)
class Kernel:
    """Prior: `length` in units of the points' coordinates, `sd` of the function, `noise_sd` of one measurement (its unit)."""

    length: float
    sd: float
    noise_sd: float

    def between(self, a: F64, b: F64) -> F64:
        """(n, m) prior covariance of the function at a (n, d) and b (m, d)."""
        squares = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
        return np.asarray(self.sd**2 * np.exp(-0.5 * squares / self.length**2))


class Posterior:
    """What is believed of the function at `points` (m, d) after the measurements so far."""

    def __init__(self, points: F64, kernel: Kernel, prior_mean: float = 0.0) -> None:
        self._points = points
        self._kernel = kernel
        self._prior_mean = prior_mean
        self._n = 0
        self._rows = np.empty((16, len(points)))  # solved covariance of each measurement with every point
        self._white: list[float] = []
        self._pull = np.zeros(len(points))
        self._explained = np.zeros(len(points))

    def add(self, index: int, value: float) -> None:
        """One measurement of `value` at points[index]."""
        n = self._n
        if n == len(self._rows):
            self._rows = np.vstack((self._rows, np.empty_like(self._rows)))
        here = self._kernel.between(self._points[index : index + 1], self._points)[0]
        solved = self._rows[:n, index].copy()
        own = math.sqrt(max(here[index] + self._kernel.noise_sd**2 + _JITTER - float(solved @ solved), _JITTER))
        row = (here - solved @ self._rows[:n]) / own
        white = (
            (value - self._prior_mean - float(solved @ np.array(self._white))) / own if n else (value - self._prior_mean) / own
        )
        self._rows[n] = row
        self._white.append(white)
        self._pull += white * row
        self._explained += row * row
        self._n = n + 1

    @property
    def mean(self) -> F64:
        """(m,) posterior mean."""
        return np.asarray(self._prior_mean + self._pull)

    @property
    def sd(self) -> F64:
        """(m,) posterior SD of the function itself, without the noise of a measurement."""
        return np.asarray(np.sqrt(np.maximum(self._kernel.sd**2 - self._explained, 0.0)))


def log_likelihood(points: F64, values: F64, kernel: Kernel, prior_mean: float = 0.0) -> float:
    """Log marginal likelihood of measurements `values` (n,) at `points` (n, d)."""
    covariance = kernel.between(points, points) + (kernel.noise_sd**2 + _JITTER) * np.eye(len(points))
    factor = np.linalg.cholesky(covariance)
    white = solve_triangular(factor, values - prior_mean, lower=True)
    return float(-0.5 * white @ white - np.log(np.diag(factor)).sum() - 0.5 * len(values) * math.log(2 * math.pi))


def fitted_length(points: F64, values: F64, kernel: Kernel, lengths: Sequence[float], prior_mean: float = 0.0) -> float:
    """The *shortest* of `lengths` that is not clearly less likely than the best (1 in log likelihood): a short one is the
    careful choice, and few measurements cannot tell."""
    scores = [log_likelihood(points, values, Kernel(x, kernel.sd, kernel.noise_sd), prior_mean) for x in lengths]
    return min(x for x, score in zip(lengths, scores, strict=True) if score >= max(scores) - 1.0)
