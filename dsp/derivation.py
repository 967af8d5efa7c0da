"""How far what a channel is taken against has moved from what was asked for: on a head full of sources, and in the person's own last seconds."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np
from numpy.typing import NDArray

from dsp.window import Grid
from eegloop.signal import F64, Bool

# Root mean square of what a derivation has changed by, as a share of the one that was asked for: a power is off by 1.2² at the very worst.
# On heads full of sources, some of them strong, 19 of 20 band powers are within a factor of 1.3 of the asked ones below it.
FAR = 0.2
PAST_S = 16.0
SEGMENT_S = 2.0
_LEAST_SEGMENTS = 3
# A rhythm that neighbors share is nearly gone in a Laplacian, and an error in one neighbor brings it back: band by band.
_BANDS_HZ = (1.0, 4.0, 8.0, 13.0, 30.0, 45.0)
_THINNED_HZ = 250.0  # means of so many samples a second hold these bands: this runs where leases are renewed
_DEGREES = 60  # of the series of `likeness`
_OWN_SHARE = 0.02  # of a channel's power that no other has: noise of electrode and amplifier
_UNPLACED = 0.5  # likeness of electrodes of which nobody knows where they are


class Derivation:
    """`too_far` judges a map (n_channels, n_channels) by a model of any head and by the samples that `take` has kept."""

    def __init__(self, chord: F64, grid: Grid, eeg: Bool) -> None:
        cosine = np.where(np.eye(len(eeg), dtype=np.bool_), 1.0, 1.0 - chord**2 / 2)
        self._eeg = eeg
        self.like: F64 = np.where(np.isnan(cosine), _UNPLACED, likeness(np.nan_to_num(cosine))) + _OWN_SHARE * np.eye(len(eeg))
        self._thin = max(1, int(grid.rate_hz / _THINNED_HZ))
        self._n = round(SEGMENT_S * grid.rate_hz / self._thin) * self._thin
        self._past: deque[NDArray[np.float32]] = deque(maxlen=round(PAST_S * grid.rate_hz / float(grid.block_length)))
        self._taper = np.hanning(self._n // self._thin).astype(np.float32)
        frequency = np.fft.rfftfreq(self._n // self._thin, self._thin / grid.rate_hz)
        edges = np.searchsorted(frequency, _BANDS_HZ).tolist()
        self._bands = [slice(a, b) for a, b in itertools.pairwise(edges) if a < b]

    def take(self, x: F64) -> None:
        """A block (n_channels, n) before its reference, every EEG channel good."""
        self._past.append(x.astype(np.float32))

    def too_far(self, matrix: F64, asked: F64) -> Bool:
        """(n_channels,) whether the change against what was asked for is more than `FAR` of it: in the model, or in any band of the past."""
        change = matrix - asked
        off, whole = (np.vecdot(rows, rows @ self.like) for rows in (change, asked))
        far: Bool = np.asarray((off > FAR**2 * whole) & self._eeg, dtype=np.bool_)
        undecided = np.flatnonzero(change.any(1) & self._eeg & ~far)
        n_segments = sum(block.shape[1] for block in self._past) // self._n
        if len(undecided) and n_segments >= _LEAST_SEGMENTS:
            bins = self._past_bins(n_segments)
            off, whole = self._powers(change[undecided], bins), self._powers(asked[undecided], bins)
            share = np.median(
                off / np.maximum(whole, np.finfo(np.float64).tiny), axis=1
            )  # what the electrode that goes did before is in few segments
            far[undecided] = (share > FAR**2).any(1)
        return far

    def _past_bins(self, n_segments: int) -> NDArray[np.complex64]:
        """(n_channels, n_segments * n_bins) of the newest segments: a map of them is a map of the samples, and they are a tenth as many."""
        x = np.concatenate(self._past, axis=1)[:, -n_segments * self._n :].reshape(len(self._eeg), n_segments, -1, self._thin)
        segments = x.mean(3) if self._thin > 1 else x[:, :, :, 0]
        segments = (segments - segments.mean(2, keepdims=True)) * self._taper
        bins = np.fft.rfft(segments, axis=2)[:, :, : self._bands[-1].stop]
        return bins.astype(np.complex64).reshape(len(x), -1)

    def _powers(self, rows: F64, bins: NDArray[np.complex64]) -> F64:
        """(n_rows, n_segments, n_bands) behind rows (n_rows, n_channels) of a map."""
        mapped = (rows.astype(np.float32) @ bins).reshape(len(rows), -1, self._bands[-1].stop)
        power = mapped.real**2 + mapped.imag**2
        return np.stack([power[:, :, band].sum(2, dtype=np.float64) for band in self._bands], axis=2)


def spline_system(like: F64, electrodes: NDArray[np.intp]) -> F64:
    """(n + 1, n + 1) the equations of a spherical spline with a constant through n electrodes of (n_channels, n_channels) `likeness` (Perrin 1989)."""
    n = len(electrodes)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = like[np.ix_(electrodes, electrodes)]
    system[n, n] = 0.0
    return system


def likeness(cosine: F64) -> F64:
    """Correlation of the scalp's potential at two places by the cosine of the angle between them: 1 at the same place.

    Power falls with the square of n (n + 1), n the degree of the spherical harmonic, which sources everywhere in a layered sphere's
    cortex come near to (0.93 at 12°, 0.8 at 20°, 0.5 at 40°).
    """
    n = np.arange(1, _DEGREES)
    series = np.concatenate(([0.0], (2 * n + 1) / (n * (n + 1.0)) ** 2))
    return np.asarray(np.polynomial.legendre.legval(cosine, series) / series.sum(), dtype=np.float64)
