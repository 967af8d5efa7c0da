"""What a stretch of all channels together says of the electrodes: bridged, disagreeing, reference fault, drift, and a contact score.

No impedance is needed; where a source measures it, it counts too. Everything lasting has 5 s of hysteresis both ways. A good score
says nothing about the contact of *stimulation* electrodes.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from dsp.electrodes import direction
from dsp.stranger import FEWEST, FORETOLD, Strangers
from eegloop.signal import F64, Bool, StreamInfo

STRETCH_S = 2.5
TURNS_AFTER = 2  # stretches in a row: 5 s of hysteresis
# Share of a pair's smaller power that is left in its difference: 1 % is no two places of one scalp, but one pool of gel.
BRIDGED = 0.01
# Median correlation of all pairs: only a common electrode, the reference, makes every place the same.
ONE_SIGNAL = 0.95
FEWEST_FOR_REFERENCE = 4
DISAGREES = 0.4
# An average reference of few channels takes off what they share and puts a bad electrode's signal, upside down, on all others: good
# neighbors do not correlate any more, and with the bad one they do. Such channels' sum holds less than this share of the power that
# strangers' sum would. They are compared against every third channel instead, which no reference changes: two strangers of one power
# then correlate by 0.5 at most, two neighbors that correlate by `DISAGREES` as recorded and by 0.25 with the third, by this.
AVERAGED = 0.5
DISAGREES_AVERAGED = 0.6
NEIGHBOR_CHORD = 0.75  # of the head's radius
_NEIGHBORS = 4
_BAD, _GOOD = 0.5, 0.6
# Times the montage's median at which a channel begins to lose its score, and at which it has none left.
_NOISE = (2.0, 8.0)
_LINE = (3.0, 30.0)
_LEAST_LINE_UV2 = 25.0
IMPEDANCE_KOHM = (50.0, 200.0)  # dry electrodes work at 50; at 200 none does


def neighbors(info: StreamInfo) -> Bool:
    """(n_channels, n_channels) who is among the nearest four and within `NEIGHBOR_CHORD`; by 10-10 name, all False without."""
    places = [direction(name) if kind == "eeg" else None for name, kind in zip(info.channels, info.kinds, strict=True)]
    near: Bool = np.zeros((len(places), len(places)), dtype=np.bool_)
    for i, here in enumerate(places):
        if here is None:
            continue
        others = sorted(
            (float(np.linalg.norm(here - there)), j) for j, there in enumerate(places) if there is not None and j != i
        )
        for chord, j in others[:_NEIGHBORS]:
            near[i, j] = chord <= NEIGHBOR_CHORD
    return near


class Lasting:
    """A yes or no a place that turns only after `TURNS_AFTER` stretches of the other."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._run: NDArray[np.int8] = np.zeros(shape, dtype=np.int8)
        self.on: Bool = np.zeros(shape, dtype=np.bool_)
        self.any = False
        self._counting = False

    def take(self, bad: Bool, good: Bool) -> Bool:
        """One more stretch: where it looks bad, where good; in between nothing counts."""
        if not (self.any or self._counting or bad.any()):
            return self.on
        opposite = np.where(self.on, good, bad)
        self._run = np.where(opposite, self._run + 1, 0).astype(np.int8)
        self._counting = bool(opposite.any())
        turning = self._run >= TURNS_AFTER
        if turning.any():
            self.on = np.not_equal(self.on, turning)
            self._run[turning] = 0
            self.any = bool(self.on.any())
        return self.on


class Contact:
    """`stretch` takes the next `STRETCH_S` whole seconds; the verdicts stay until the one after.

    Attributes
    ----------
    score : (n_channels,) float64
        0 (no contact) to 1, the better of the last two stretches; NaN for channels that are no EEG, and before the first.
    worst : int
        The channel with the lowest score if that is below 0.5; else -1.
    bridged, disagrees, reference, drifting, poor : (n_channels,) bool
    """

    def __init__(self, info: StreamInfo, eeg: Bool, drift_uv_per_s: float | None) -> None:
        c = info.n_channels
        self._eeg = eeg
        self._near = neighbors(info) & eeg & eeg[:, np.newaxis]
        self._has_neighbors: Bool = np.asarray(self._near.any(1), dtype=np.bool_)
        self._pairs = eeg & eeg[:, np.newaxis] & ~np.eye(c, dtype=np.bool_)
        self._drift_uv_per_s = drift_uv_per_s
        self._bridges, self._odd, self._one = Lasting((c, c)), Lasting((c,)), Lasting((1,))
        self._drift, self._poor = Lasting((c,)), Lasting((c,))
        self._scores: deque[F64] = deque(maxlen=TURNS_AFTER)
        self._strangers = Strangers(info)
        self._never: Bool = np.zeros(c, dtype=np.bool_)
        self.score: F64 = np.full(c, np.nan)
        self.worst = -1
        self.bridged = self.disagrees = self.reference = self.drifting = self.poor = self._never

    def stretch(
        self, covariance: F64, noise: F64, shift_uv: F64, dead: F64, line_uv2: F64 | None, impedance_kohm: F64 | None
    ) -> None:
        """Judge a stretch.

        Parameters
        ----------
        covariance : (n_channels, n_channels) float64
            Sum of products of the filtered samples (they have no mean).
        noise : (n_channels,) float64
            Mean square of sample-to-sample steps after the filters: the noise floor at the top of the pass band.
        shift_uv : (n_channels,) float64
            How far the raw level moved in it.
        dead : (n_channels,) float64
            Share of it that was flat or at the rail, 0-1.
        line_uv2 : (n_channels,) float64 or None
            Power at the mains frequency before the notch.
        impedance_kohm : (n_channels,) float64 or None
            NaN = not known; infinite or negative counts as no contact.
        """
        power = covariance.diagonal()
        alive = (power > 0) & (dead < 0.5)
        scale = np.sqrt(np.where(power > 0, power, np.inf))
        correlation = covariance / scale / scale[:, np.newaxis]
        self._pairwise(covariance, correlation, power, alive)
        if self._drift_uv_per_s is not None:
            far = np.abs(shift_uv) > self._drift_uv_per_s * STRETCH_S
            self.drifting = self._drift.take(far & self._eeg, ~far)
        score = 1.0 - dead
        judged = alive & self._eeg
        rms = np.sqrt(noise)
        _lower(score, _falling(rms, _middle(rms[judged]), _NOISE))
        if line_uv2 is not None:
            line = np.fmax(line_uv2, 0.0)  # 0 where it is not known
            loud = line > _LEAST_LINE_UV2
            if loud.any():
                rms = np.sqrt(line)
                _lower(score, np.where(loud, _falling(rms, _middle(rms[judged]), _LINE), 1.0))
        if impedance_kohm is not None:
            # Infinite (open) or negative (no reading makes sense of it) is the worst there is; NaN is not known.
            broken = np.isinf(impedance_kohm) | (impedance_kohm < 0.0)
            kohm = np.where(broken, IMPEDANCE_KOHM[1], np.nan_to_num(impedance_kohm))
            _lower(score, _falling(kohm, 1.0, IMPEDANCE_KOHM))
        if self._odd.any:
            score = np.where(self._odd.on, np.minimum(score, 0.3), score)
        self._scores.append(np.where(self._eeg, score, np.nan))
        self.score = np.maximum.reduce(self._scores, axis=0)
        self.poor = self._poor.take((score < _BAD) & self._eeg, score > _GOOD)
        low = np.where(self._eeg, self.score, 2.0)
        lowest = int(low.argmin())
        self.worst = lowest if low[lowest] < _BAD else -1
        self.score.flags.writeable = False

    def _pairwise(self, covariance: F64, correlation: F64, power: F64, alive: Bool) -> None:
        both = self._pairs & alive & alive[:, np.newaxis]
        least = np.minimum(power, power[:, np.newaxis])
        left_over = power + power[:, np.newaxis] - 2.0 * covariance
        one = left_over < BRIDGED * least
        n_alive = int((alive & self._eeg).sum())
        everyone = n_alive >= FEWEST_FOR_REFERENCE and self._half_above(correlation, both, n_alive)
        self.reference = self._never if not self._one.take(np.array([everyone]), np.array([not everyone]))[0] else self._eeg
        self._bridges.take(both & one & (not everyone), ~one | everyone)
        self.bridged = np.asarray(self._bridges.on.any(1), dtype=np.bool_) if self._bridges.any else self._never
        if self._has_neighbors.any():
            eeg = alive & self._eeg
            together = covariance if n_alive == len(eeg) else covariance[np.ix_(eeg, eeg)]
            averaged = n_alive >= FEWEST_FOR_REFERENCE and np.add.reduce(together, axis=None) < AVERAGED * np.add.reduce(
                power[eeg]
            )
            if averaged and np.count_nonzero(eeg & self._strangers.placed) >= FEWEST:
                judged = self._has_neighbors & eeg
                odd = self._strangers.agreement(covariance, eeg) < FORETOLD
            else:
                compared, limit = np.abs(correlation), DISAGREES
                if averaged:
                    compared, limit = self._against_thirds(covariance, left_over, self._near & both, eeg), DISAGREES_AVERAGED
                agreement = np.where(self._near & both, compared, 0.0).max(1)
                odd = agreement < limit
                # only against a neighbor that agrees with somebody else: else nobody knows which of the two is wrong
                judged = self._has_neighbors & alive & (self._near & both & (agreement >= limit)).any(1)
            self.disagrees = self._odd.take(odd & judged, ~odd & judged)

    @staticmethod
    def _against_thirds(covariance: F64, left_over: F64, pairs: Bool, eeg: Bool) -> F64:
        """(n_channels, n_channels) median correlation of the two channels of a pair, both against a third, over all thirds; 0 elsewhere."""
        i, j = np.nonzero(pairs)
        k = np.flatnonzero(eeg)
        own = covariance.diagonal()[k]
        shared = covariance[i, j][:, np.newaxis] - covariance[i][:, k] - covariance[j][:, k] + own
        both = left_over[i][:, k] * left_over[j][:, k]
        both[both <= 0] = np.nan
        correlation = np.sort(shared / np.sqrt(both), axis=1)  # a pair's own two, and doubles of them, come last as NaN
        usable = np.count_nonzero(~np.isnan(correlation), axis=1)
        found = np.zeros_like(covariance)
        found[i, j] = np.where(usable > 0, correlation[np.arange(len(i)), usable // 2], 0.0)
        return found

    @staticmethod
    def _half_above(correlation: F64, both: Bool, n_alive: int) -> bool:
        """Whether more than half of the pairs are one signal."""
        return 2 * int(np.count_nonzero((correlation > ONE_SIGNAL) & both)) > n_alive * (n_alive - 1)


def _middle(values: F64) -> float:
    """The upper median; infinite of fewer than three, which say nothing of a montage."""
    return sorted(values.tolist())[len(values) // 2] if len(values) > 2 else math.inf


def _falling(values: F64, unit: float, span: tuple[float, float]) -> F64:
    """1 up to span[0] units, 0 from span[1] units on, falling in between."""
    if not 0 < unit < float("inf"):
        return np.ones_like(values)
    return np.minimum(np.maximum((span[1] - values / unit) / (span[1] - span[0]), 0.0), 1.0)


def _lower(score: F64, other: F64) -> None:
    np.minimum(score, other, out=score)
