"""Artifact subspace reconstruction, causal: directions far louder than the person's own clean minute are rebuilt from the rest.

After Mullen et al. 2015 (IEEE TBME 62:2553): the mixing matrix M is the root of the clean data's covariance, thresholds are mean plus
`cutoff` SDs of the clean half-seconds' RMS along its principal axes. Here the last half second ends with the block it corrects, so
nothing is delayed, and each block fades from the last reconstruction to its own.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from dsp.window import Grid
from eegloop.signal import F64, Bool

WINDOW_S = 0.5
MOST_REMOVED = 2 / 3  # of all directions
_ONSET = 0.2  # of a block, in which the first reconstruction fades in
_ROUNDS = 30  # of the geometric median: its weights move by less than a thousandth then


class ArtifactSubspace:
    """`apply` collects `calibration_s` of clean blocks first and corrects from then on.

    Parameters
    ----------
    grid : Grid
    eeg : (n_channels,) bool
        Channels that take part.
    cutoff : float
        SDs above the clean mean at which a direction is an artifact (20 usual, 10 strict).
    calibration_s : float
    """

    def __init__(self, grid: Grid, eeg: Bool, cutoff: float, calibration_s: float) -> None:
        block_s = float(grid.block_length) / grid.rate_hz
        self._pick = np.flatnonzero(eeg)
        self._cutoff = cutoff
        self._blocks = max(1, round(WINDOW_S / block_s))
        self._needed = max(20, round(calibration_s / (self._blocks * block_s)))
        self._recent: deque[tuple[F64, int]] = deque(maxlen=self._blocks)
        self._calibration: list[F64] = []
        self._collecting: list[tuple[F64, int]] = []
        self._identity: F64 = np.eye(len(self._pick))
        self._last = self._identity
        self._mixing: F64 | None = None
        self._thresholds: F64 = np.empty(0)
        self._count = np.arange(len(self._pick))

    @property
    def calibrated(self) -> bool:
        return self._mixing is not None

    def restart(self) -> None:
        self._recent.clear()
        self._collecting.clear()
        self._last = self._identity

    def apply(self, x: F64, clean: bool) -> F64 | None:
        """Correct a block (n_channels, n) in place; returns the largest change a channel, None if there was none."""
        mine, n = x[self._pick], x.shape[1]
        products = (mine @ mine.T, n)
        self._recent.append(products)
        if self._mixing is None:
            self._calibrate(products, clean)
            return None
        if len(self._recent) < self._blocks:
            return None
        rebuild = self._reconstruction()
        before, self._last = self._last, rebuild
        if before is self._identity and rebuild is self._identity:
            return None
        # quickly in, because the artifact is here already; slowly from one reconstruction to the next and out
        length = max(1, round(n * _ONSET)) if before is self._identity else n
        fade = 0.5 - 0.5 * np.cos(np.pi * np.minimum(np.arange(1, n + 1) / length, 1.0))
        change = (before @ mine) * (1 - fade) + (rebuild @ mine) * fade - mine
        x[self._pick] += change
        size = np.zeros(len(x))
        size[self._pick] = np.abs(change).max(1)
        return size

    def _calibrate(self, products: tuple[F64, int], clean: bool) -> None:
        if not clean:
            self._collecting.clear()
            return
        self._collecting.append(products)
        if len(self._collecting) < self._blocks:
            return
        self._calibration.append(_mean(self._collecting))
        self._collecting.clear()
        if len(self._calibration) < self._needed:
            return
        windows = np.array(self._calibration)
        values, vectors = np.linalg.eigh(_middle(windows))
        values = np.maximum(values, 1e-12 * values[-1])
        self._mixing = (vectors * np.sqrt(values)) @ vectors.T
        rms = np.sqrt(np.maximum(np.einsum("ik,wij,jk->wk", vectors, windows, vectors), 0.0))
        middle = np.median(rms, axis=0)
        # of the quieter half: what loud windows are in spite of all only raises
        spread = 1.4826 * np.nanmedian(np.where(rms <= middle, middle - rms, np.nan), axis=0)
        self._thresholds = (middle + self._cutoff * spread)[:, np.newaxis] * vectors.T
        self._calibration.clear()

    def _reconstruction(self) -> F64:
        assert self._mixing is not None
        values, vectors = np.linalg.eigh(_mean(self._recent))
        limits = np.sum((self._thresholds @ vectors) ** 2, axis=0)
        keep = (values < limits) | (self._count < len(self._count) * (1 - MOST_REMOVED))
        if keep.all():
            return self._identity
        return np.asarray(
            self._mixing @ np.linalg.pinv(keep[:, np.newaxis] * (vectors.T @ self._mixing)) @ vectors.T, dtype=np.float64
        )


def _mean(products: deque[tuple[F64, int]] | list[tuple[F64, int]]) -> F64:
    return np.asarray(sum(p for p, _ in products), dtype=np.float64) / sum(n for _, n in products)


def _middle(windows: F64) -> F64:
    """The geometric median of covariances (n_windows, n, n) (Weiszfeld): a weighted mean, so a covariance itself.

    Place by place, a median of windows that hold fewer independent samples than there are channels is none: half its directions have no power.
    """
    flat = windows.reshape(len(windows), -1)
    middle = np.median(flat, axis=0)
    for _ in range(_ROUNDS):
        away = np.linalg.norm(flat - middle, axis=1)
        weights = 1.0 / np.maximum(away, 1e-9 * away.max() + np.finfo(np.float64).tiny)
        middle = weights @ flat / weights.sum()
    return np.asarray(middle.reshape(windows.shape[1:]), dtype=np.float64)
