"""An electrode that does not show what all others say its place should show, whatever they are referenced to.

Each channel is foretold from the others (spherical spline, Perrin 1989); both are taken against the mean of the others around. A common reference, and
what a stranger puts into it, is in neither: so an average over few electrodes hides nothing, as it does in a comparison of pairs.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from dsp.derivation import likeness, spline_system
from dsp.electrodes import direction
from eegloop.signal import F64, Bool, StreamInfo

FEWEST = 8  # with fewer there is too little to foretell a place from
# Correlation with what is foretold, over four stretches, as a share of what sources all over the head would give. Virtual heads in average
# reference, 8-24 electrodes: 99 of 100 good ones above 0.53, half of the strangers below 0, 19 of 20 below 0.53.
FORETOLD = 0.45
_STRETCHES = 4
# From so many on the mean is that of the nearest only: a rhythm of far places, in the mean of all, makes any two places alike that lack it.
MANY = 24
_NEAREST = 12
_MOST = 1 / 4  # of the electrodes can be strangers; with more of them nothing is foretold
_NOBODY = 3 / 4  # so many that nobody foretells are no strangers: the headset is on no head
# Elements of matrices that one stretch may cost, some 50 ms at worst: this runs where leases are renewed. 300 tries of 32 electrodes, 38 of 64, 2 of 256.
_MOST_WORK = 1e7
_KEPT_ELEMENTS = 400_000  # of rows that are made once a set of electrodes
_LEAST_OF_MODEL = 0.3  # a place that the others do not reach is foretold by chance
_OWN_SHARE = 0.1  # of a channel's power that no other has: smooths what is foretold


class Strangers:
    """`agreement` of every stretch's covariance, newest last."""

    def __init__(self, info: StreamInfo) -> None:
        places = [direction(name) if kind == "eeg" else None for name, kind in zip(info.channels, info.kinds, strict=True)]
        self.placed: Bool = np.array([place is not None for place in places])
        # all that follows is of these alone: what it costs must not grow with channels that have no part in it
        at = np.array([place for place in places if place is not None]).reshape(-1, 3)
        self._like: F64 = likeness(np.clip(at @ at.T, -1.0, 1.0)) + _OWN_SHARE * np.eye(len(at))
        self._recent: deque[F64] = deque(maxlen=_STRETCHES)
        self._each = np.arange(len(at))
        self._rows: dict[bytes, tuple[F64, F64]] = {}

    def agreement(self, covariance: F64, alive: Bool) -> F64:
        """(n_channels,) how far each channel is what the others foretell of it: 1 like anybody's, 0 not at all.

        Of those below `FORETOLD` the one without which all others are foretold best is left out, and so on, the worst ones tried first: who
        lies beside a stranger is foretold badly too. Where nearly all are below, nothing is said of any.
        """
        found = np.zeros(len(self.placed))
        found[self.placed] = self._agreement(covariance[np.ix_(self.placed, self.placed)], alive[self.placed])
        return found

    def _agreement(self, covariance: F64, mine: Bool) -> F64:
        loudness = float(np.median(covariance.diagonal()[mine]))
        if loudness > 0:
            self._recent.append(covariance / loudness)
        total = np.asarray(np.add.reduce(self._recent), dtype=np.float64)
        found = np.zeros(len(mine))
        trusted = mine.copy()
        shares = self._shares(total, trusted)
        n = int(np.count_nonzero(mine))
        if np.count_nonzero(mine & (shares < FORETOLD)) > _NOBODY * n:
            found[mine] = 1.0
            return found
        tries = max(2, int(_MOST_WORK / len(mine) ** 3))
        for _ in range(max(1, int(_MOST * n))):
            without = []
            candidates = np.flatnonzero(trusted & (shares < FORETOLD))
            candidates = candidates[np.argsort(shares[candidates], kind="stable")][:tries]
            tries -= len(candidates)
            for candidate in candidates:
                rest = trusted & (self._each != candidate)
                after = self._shares(total, rest)
                without.append((float(after[rest].min()), int(candidate), rest, after))
            if not without:
                break  # nobody is left, or no time: of those nobody knows who lies beside whom
            _, stranger, trusted, after = max(without, key=lambda option: option[0])
            found[stranger] = shares[stranger]
            shares = after
        found[trusted] = shares[trusted] if tries > 0 else np.maximum(shares[trusted], FORETOLD)
        return found

    def _shares(self, covariance: F64, trusted: Bool) -> F64:
        """(n_channels,) each one's correlation with what is foretold as a share of the model's; 0 for those that are not trusted."""
        return self._correlation(covariance, trusted) / np.maximum(self._correlation(self._like, trusted), _LEAST_OF_MODEL)

    def _correlation(self, covariance: F64, trusted: Bool) -> F64:
        own, foretold = self._rows_of(trusted)
        with_own = own @ covariance
        powers = np.vecdot(with_own, own) * np.vecdot(foretold @ covariance, foretold)
        return np.asarray(np.vecdot(with_own, foretold) / np.sqrt(np.where(powers > 0, powers, np.inf)), dtype=np.float64)

    def _rows_of(self, trusted: Bool) -> tuple[F64, F64]:
        """What makes each channel, and each one foretold, of all; both against the mean of the others around."""
        key = trusted.tobytes()
        rows = self._rows.get(key)
        if rows is None:
            mine = np.flatnonzero(trusted)
            n = len(mine)
            inverse = np.linalg.inv(spline_system(self._like, mine))[:n, :n]
            others = 1.0 - np.eye(n)
            against = n - 1 if n < MANY else _NEAREST
            order = np.argsort(np.where(others > 0, -self._like[np.ix_(mine, mine)], np.inf), axis=1, kind="stable")
            mean = np.zeros((n, n))
            np.put_along_axis(mean, order[:, :against], 1.0 / against, axis=1)
            foretold, own = np.zeros_like(self._like), np.zeros_like(self._like)
            foretold[np.ix_(mine, mine)] = -inverse / inverse.diagonal()[:, np.newaxis] * others - mean
            own[np.ix_(mine, mine)] = np.eye(n) - mean
            if len(self._rows) >= max(4, _KEPT_ELEMENTS // len(self._like) ** 2):
                self._rows.clear()
            rows = self._rows[key] = own, foretold
        return rows
