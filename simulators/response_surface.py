"""The plant class of the safe-optimization proof: smooth responses to 1-4 parameters, drawn at random, with a floor and a start.

Frozen before anything was tuned on it: functions of a Gaussian process with a squared-exponential kernel (by random Fourier
features, Rahimi and Recht 2007) of length 0.35 * sqrt(d) over [0, 1]^d and SD 1; a measurement has noise of SD 0.1; the floor
is 0, so that about half of all settings are unsafe; the signed start's response is 0.6 to 1.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eegloop.signal import F64

LENGTH = 0.35
NOISE_SD = 0.1
FLOOR = 0.0
START_LOW, START_HIGH = 0.6, 1.5
_FEATURES = 600


@dataclass(frozen=True, slots=True)
class ResponseSurface:
    """One virtual person's response to `dimensions` parameters in 0-1; `start` (d,) is what a clinician found to be safe."""

    dimensions: int
    start: F64
    frequencies: F64
    phases: F64
    weights: F64

    def truth(self, points: F64) -> F64:
        """(n,) the response at points (n, d), without noise."""
        half = self.dimensions // 2
        first, row = np.unique(points[:, :half], axis=0, return_inverse=True)
        second, column = np.unique(points[:, half:], axis=0, return_inverse=True)
        scale = math.sqrt(2.0 / _FEATURES)
        if half == 0 or len(first) * len(second) > len(points):
            return np.asarray(scale * np.cos(points @ self.frequencies + self.phases) @ self.weights)
        # A grid: cos(a + b) = cos a cos b - sin a sin b, each of the few halves worked out once.
        a, b = first @ self.frequencies[:half] + self.phases, second @ self.frequencies[half:]
        table = (np.cos(a) * self.weights) @ np.cos(b).T - (np.sin(a) * self.weights) @ np.sin(b).T
        return np.asarray(scale * table[row.ravel(), column.ravel()])


def length_of(dimensions: int) -> float:
    """The length scale of the class."""
    return LENGTH * math.sqrt(dimensions)


def draw(dimensions: int, seed: int, points: F64) -> ResponseSurface:
    """One person; the start is one of `points` (m, d)."""
    random = np.random.default_rng((seed, dimensions, 77))
    while True:
        surface = ResponseSurface(
            dimensions,
            np.zeros(dimensions),
            random.standard_normal((dimensions, _FEATURES)) / length_of(dimensions),
            random.uniform(0.0, 2 * math.pi, _FEATURES),
            random.standard_normal(_FEATURES),
        )
        truth = surface.truth(points)
        starts = np.flatnonzero((truth >= START_LOW) & (truth <= START_HIGH))
        if len(starts):
            start = points[int(random.choice(starts))]
            return ResponseSurface(dimensions, start, surface.frequencies, surface.phases, surface.weights)
