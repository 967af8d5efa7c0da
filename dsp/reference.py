"""Re-referencing over the channels that are good: average, REST, a Laplacian of neighbors, or bipolar; no jump when one drops out.

All are linear maps of the filtered channels. When the set of good channels changes, the old map fades into the new one over half a
second. A channel drops out at once, and stands still for the others from then on, and comes back after five good seconds. Where what a
channel is then taken against is too far from what was asked for, that is said. What of an artifact reached the others before: `leak.py`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsp.derivation import Derivation, spline_system
from dsp.electrodes import canonical, direction
from dsp.inverse import LEAST_ELECTRODES, gram
from dsp.window import Grid
from eegloop.errors import ConfigError
from eegloop.signal import F64, Bool, StreamInfo

FADE_S = 0.5
BACK_AFTER_S = 5.0
LOUD_S = 0.4  # a channel that has been too large for so long is no electrode to lean on; a blink is shorter
_LAPLACIAN_NEIGHBORS = 4
_FURTHEST_CHORD = 1.2  # of the head's radius

Reference = Literal["recorded", "average", "rest", "csd", "bipolar"]


class Rereference:
    """`apply` maps a filtered block in place.

    "average": minus the mean of the EEG channels. "rest": minus what a template sphere full of sources says the recorded reference stands
    at against infinity (Yao 2001), for montages of 19 electrodes and more, of the good ones. "csd": minus the distance-weighted mean of the
    nearest four (Hjorth 1975: a local Laplacian, in µV). For average and csd a channel that is out is interpolated from all good electrodes
    (left out of the average if its place is not known). "bipolar": minus the nearest good electrode behind, else the nearest. A channel
    without what it needs is mapped to zero times itself; `lacking` says which.
    """

    def __init__(self, info: StreamInfo, kind: Reference, grid: Grid, eeg: Bool) -> None:
        self._kind, self._eeg = kind, eeg
        places = [direction(name) if is_eeg else None for name, is_eeg in zip(info.channels, eeg, strict=True)]
        at = np.array([(np.nan,) * 3 if p is None else p for p in places])
        self._chord: F64 = np.linalg.norm(at[:, np.newaxis] - at, axis=2)
        np.fill_diagonal(self._chord, np.nan)
        self._placed: Bool = np.isfinite(at[:, 0])
        self._behind: Bool = at[:, 1] < at[:, 1, np.newaxis] - 0.1
        self._fade_blocks = max(1, round(FADE_S * grid.rate_hz / float(grid.block_length)))
        self._gram = _gram(info, eeg) if kind == "rest" else None
        self._back_blocks = max(1, round(BACK_AFTER_S * grid.rate_hz / float(grid.block_length)))
        self._good: Bool = eeg.copy()
        self._good_for: NDArray[np.int64] = np.full(len(eeg), self._back_blocks, dtype=np.int64)
        self._loud_blocks = max(1, round(LOUD_S * grid.rate_hz / float(grid.block_length)))
        self._loud_for: NDArray[np.int64] = np.zeros(len(eeg), dtype=np.int64)
        self._last: F64 = np.zeros((len(eeg), 1))
        self.lacking: Bool = np.zeros(len(eeg), dtype=np.bool_)
        self._derivation = Derivation(self._chord, grid, eeg)
        self._map = self._from = self._to = self._asked = self._matrix()
        self._far_from: Bool = np.zeros(len(eeg), dtype=np.bool_)
        self._far_to = self._far_from
        self._step = self._fade_blocks

    @property
    def good(self) -> Bool:
        """(n_channels,) the EEG channels that the reference is made of now."""
        return self._good

    @property
    def map(self) -> F64:
        """(n_channels, n_channels) by which the last sample was mapped."""
        return self._map

    @property
    def moving(self) -> Bool:
        """(n_channels,) the channels that are out, while the reference is still fading to the others."""
        return self._eeg & ~self._good & (self._step < self._fade_blocks)

    @property
    def far(self) -> Bool:
        """(n_channels,) the channels that in the newest block were taken against something else than was asked for, by more than `FAR`."""
        return self._far_to | self._far_from if self._step <= self._fade_blocks else self._far_to

    def apply(self, x: F64, bad: Bool, loud: Bool | None = None) -> F64:
        """Map a block in place; returns it as the reference was made of it.

        Parameters
        ----------
        x : (n_channels, n) float64
        bad : (n_channels,) bool
            Channels that are no good in it.
        loud : (n_channels,) bool or None
            Channels too large in it: one block is the person's, many are the electrode's.
        """
        if loud is not None:
            self._loud_for = np.clip(np.where(loud, self._loud_for + 1, self._loud_for - 1), 0, 2 * self._loud_blocks)
            bad = bad | (self._loud_for >= self._loud_blocks)
        self._good_for = np.where(bad, 0, self._good_for + 1)
        good = self._eeg & np.where(self._good, ~bad, self._good_for >= self._back_blocks)
        if (good != self._good).any():
            self._far_from = self.far
            self._good = good
            self._from, self._to, self._step = self._map, self._matrix(), 0
            self._far_to = self._derivation.too_far(self._to, self._asked) & ~self.lacking
        # for the others a channel that is gone stands still from its first bad block on: its filters may do anything
        held = self._eeg & ~good
        own = x[held] - self._last[held]
        x[held] = self._last[held]
        self._last[~held] = x[~held, -1:]
        made_of = x.copy()
        if not held.any():
            self._derivation.take(made_of)
        n = x.shape[1]
        if self._step < self._fade_blocks:
            part = (self._step + np.arange(1, n + 1) / n) / self._fade_blocks
            x[:] = (self._from @ x) * (1 - part) + (self._to @ x) * part
            self._step += 1
            share = self._step / self._fade_blocks
            self._map = self._from * (1 - share) + self._to * share
        else:
            self._map = self._to
            self._step = self._fade_blocks + 1
            x[:] = self._map @ x
        x[held] += own
        return made_of

    def _matrix(self) -> F64:
        matrix = np.eye(len(self._eeg))
        out = self._eeg & ~self._good
        filled = self._kind in ("csd", "average")
        # two labels of one place (T3 and T7) are no neighbors: their difference is no derivation
        within = (self._chord > 0) & (self._chord < _FURTHEST_CHORD)
        near = np.where((self._eeg if filled else self._good) & within, self._chord, np.inf)
        replaced = self._interpolation(out) if filled and out.any() else None
        self.lacking = np.zeros(len(self._eeg), dtype=np.bool_)
        common = self._rest() if self._gram is not None else None
        for i in np.flatnonzero(self._eeg):
            weights = common if self._gram is not None else self._weights(int(i), near[i])
            if weights is not None and replaced is not None:
                weights = weights @ replaced if np.count_nonzero(weights[self._good]) else None
            if weights is None:
                matrix[i] = 0.0
                self.lacking[i] = True
            else:
                matrix[i] -= weights
        return matrix

    def _interpolation(self, out: Bool) -> F64:
        """(n_channels, n_channels) the identity, but what is out is made of the good electrodes whose place is known.

        The smoothest potential through these (a spherical spline with a constant, Perrin 1989, order 2: `likeness` is its kernel); weights sum
        to 1, so what is everywhere stays everywhere.
        """
        made = np.eye(len(self._eeg))
        sources, gone = np.flatnonzero(self._good & self._placed), np.flatnonzero(out & self._placed)
        n = len(sources)
        if n and len(gone):
            wanted = np.vstack((self._derivation.like[np.ix_(sources, gone)], np.ones(len(gone))))
            made[gone] = 0.0
            made[np.ix_(gone, sources)] = np.linalg.solve(spline_system(self._derivation.like, sources), wanted)[:n].T
        return made

    def _rest(self) -> F64 | None:
        """The weights that estimate the recorded reference's potential; the same for every channel, and they sum to 1.

        With gain G and centering H: V∞ = G (HG)⁺ HV = HV + 1·ḡ(HG)⁺HV, since HG (HG)⁺ leaves a centered V as it is. So REST
        subtracts one weighted sum of channels, 1/n - ḡ(HG)⁺H, which K = G Gᵀ suffices for: ḡ(HG)⁺H = (1ᵀ/n) K H (HKH)⁺ H.
        """
        good = np.flatnonzero(self._good)
        n = len(good)
        if self._gram is None or n < 2:
            return None
        among = self._gram[np.ix_(good, good)]
        centered = among - among.mean(0)
        both = centered - centered.mean(1, keepdims=True)
        offset = (among - among.mean(1, keepdims=True)).mean(0) @ np.linalg.pinv(both, rcond=1e-12, hermitian=True)
        weights = np.zeros(len(self._eeg))
        weights[good] = 1.0 / n - (offset - offset.mean())
        return weights

    def _weights(self, i: int, near: F64) -> F64 | None:
        """What is subtracted from channel i, a weight a channel that sum to 1; None if there is nothing."""
        weights = np.zeros(len(self._eeg))
        if self._kind == "average":
            if np.count_nonzero(self._good) < 2:
                return None
            taken = self._good | (self._eeg & self._placed) if (self._good & self._placed).any() else self._good
            weights[taken] = 1.0 / np.count_nonzero(taken)
            return weights
        reachable = np.isfinite(near)
        if self._kind == "csd":
            nearest = [j for j in np.argsort(near, kind="stable")[:_LAPLACIAN_NEIGHBORS] if reachable[j]]
            if len(nearest) < 2:
                return None
            weights[nearest] = 1.0 / near[nearest]
            return np.asarray(weights / weights.sum(), dtype=np.float64)
        behind = np.where(self._behind[i], near, np.inf)
        pool = behind if np.isfinite(behind).any() else near
        if not np.isfinite(pool).any():
            return None
        weights[int(np.argmin(pool))] = 1.0
        return weights


def _gram(info: StreamInfo, eeg: Bool) -> F64:
    """(n_channels, n_channels) G Gᵀ of the EEG channels, zero elsewhere.

    Raises
    ------
    ConfigError
        If a channel's place is not known or there are too few.
    """
    picked = np.flatnonzero(eeg)
    labels = [canonical(info.channels[i]) for i in picked]
    nameless = [info.channels[i] for i, label in zip(picked, labels, strict=True) if label is None]
    if nameless:
        raise ConfigError(f"line.reference: rest needs 10-10 names for every EEG channel; {', '.join(nameless[:5])} are none")
    if len(picked) < LEAST_ELECTRODES:
        raise ConfigError(
            f"line.reference: rest needs {LEAST_ELECTRODES} electrodes; this stream has {len(picked)}: take average"
        )
    full = np.zeros((len(eeg), len(eeg)))
    full[np.ix_(picked, picked)] = gram(tuple(str(label) for label in labels))
    return full
