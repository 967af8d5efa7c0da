"""Safe Bayesian optimization over 1-4 parameters: proposes only where the response is proven, with margin, to stay above a floor.

After SafeOpt (Sui 2015; Berkenkamp 2016): the safe set is where mean - beta * sd >= floor, connected to the signed start;
the next trial is the most uncertain point among those that could be best and those at the edge beyond which better may lie.
A fixed beta proves nothing about a plant outside the assumed class (Fiedler 2024), so this only ever proposes inside the envelope;
`caution` divides the assumed length scale, so that a plant that is that much rougher than assumed is still met safely.
Pure; everything remembered is a tuple of trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from control.gaussian_process import Kernel, Posterior, fitted_length
from eegloop.signal import F64, Bool

BETA = 3.3
CAUTION = 1.5
# So fine that a neighbor is still nearly certain under the shipped caution: with 9 points in four dimensions none could be proven.
POINTS_A_SIDE = {1: 41, 2: 21, 3: 13, 4: 13}
FIT_SHARES = (0.5, 0.7, 0.85, 1.0, 1.25)
FIT_EVERY_N = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: the point's index, what was measured, and what had been expected there."""

    index: int
    value: float
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Search:
    """The problem and how it is gone about.

    Attributes
    ----------
    dimensions : int
        1-4 parameters, each scaled to 0-1.
    start : tuple of float
        The signed start point, known to be safe.
    floor : float
        What the response must not fall below.
    kernel : Kernel
        Assumed smoothness, spread and noise of the response.
    prior_mean : float
    beta, caution : float
        See the module.
    enough_sd : float
        Done when nothing that matters is less certain than this.
    most_n : int
        Done after so many trials.
    fit : bool
        Fit the length scale to the trials, between 0.5 and 1.25 of the assumed one.
    """

    dimensions: int
    start: tuple[float, ...]
    floor: float
    kernel: Kernel
    prior_mean: float = 0.0
    beta: float = BETA
    caution: float = CAUTION
    enough_sd: float = 0.1
    most_n: int = 40
    fit: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next trial's point, or None with the reason why there is none; `best` is the point to stay at, and what is
    expected there."""

    index: int | None
    reason: str
    best: int
    mean: float
    sd: float
    safe_n: int


class Domain:
    """The points that may be tried: a regular grid over [0, 1]^d, the signed start moved to its nearest point."""

    def __init__(self, search: Search, points_a_side: int | None = None) -> None:
        side = points_a_side or POINTS_A_SIDE[search.dimensions]
        axis = np.linspace(0.0, 1.0, side)
        self.points: F64 = np.array(list(itertools.product(axis, repeat=search.dimensions)))
        self.shape = (side,) * search.dimensions
        self.start = int(((self.points - np.array(search.start)) ** 2).sum(axis=1).argmin())

    def grown(self, seed: Bool) -> Bool:
        """(m,) the seed and its neighbors along the axes."""
        grid = seed.reshape(self.shape)
        out = grid.copy()
        for axis in range(grid.ndim):
            low = [slice(None)] * grid.ndim
            high = [slice(None)] * grid.ndim
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            out[tuple(low)] |= grid[tuple(high)]
            out[tuple(high)] |= grid[tuple(low)]
        return out.ravel()

    def connected(self, allowed: Bool) -> Bool:
        """(m,) those of `allowed` that neighbors join to the start."""
        if not allowed[self.start]:
            return np.zeros(len(allowed), dtype=bool)
        parts = label(allowed.reshape(self.shape))[0].ravel()
        return np.asarray(parts == parts[self.start])


def posterior(search: Search, domain: Domain, trials: Sequence[Trial]) -> Posterior:
    """What is believed after these trials."""
    length = search.kernel.length / search.caution
    kernel = Kernel(length, search.kernel.sd, search.kernel.noise_sd)
    used = len(trials) // FIT_EVERY_N * FIT_EVERY_N
    if search.fit and used:
        points = domain.points[[trial.index for trial in trials[:used]]]
        values = np.array([trial.value for trial in trials[:used]])
        length = fitted_length(points, values, kernel, [share * length for share in FIT_SHARES], search.prior_mean)
        kernel = Kernel(length, search.kernel.sd, search.kernel.noise_sd)
    believed = Posterior(domain.points, kernel, search.prior_mean)
    for trial in trials:
        believed.add(trial.index, trial.value)
    return believed


def learned(search: Search, domain: Domain, trials: Sequence[Trial], believed: Posterior) -> Posterior:
    """What is believed with the last of `trials` added to what was believed before it: the same as `posterior`, sooner."""
    if search.fit and len(trials) % FIT_EVERY_N == 0:
        return posterior(search, domain, trials)
    believed.add(trials[-1].index, trials[-1].value)
    return believed


def propose(
    search: Search, domain: Domain, trials: Sequence[Trial], believed: Posterior, allowed: Bool | None = None
) -> Proposal:
    """The next trial. `allowed` (m,) are the points that the envelope permits now (None = all).

    The signed start is tried first, and again until it is proven safe itself or the trials are used up: nothing else is proposed
    on faith.
    """
    mean, sd = believed.mean, believed.sd
    low, high = mean - search.beta * sd, mean + search.beta * sd
    possible = low >= search.floor
    if allowed is not None:
        possible &= allowed
    safe = domain.connected(possible)
    start = domain.start
    best = int(np.where(safe, low, -np.inf).argmax()) if safe.any() else start
    said = (best, float(mean[best]), float(sd[best]), int(safe.sum()))
    if len(trials) >= search.most_n:
        return Proposal(None, f"all {search.most_n} trials are done", *said)
    if not safe.any():
        if allowed is not None and not allowed[start]:
            return Proposal(None, "the signed start lies outside what is allowed now", *said)
        if mean[start] + search.beta * sd[start] < search.floor:
            return Proposal(None, "the signed start itself is below the floor", *said)
        return Proposal(start, "the signed start is measured", *said)
    best_low = float(low[safe].max())
    hopeful = high >= best_low
    edge = safe & domain.grown(hopeful & ~possible & (allowed if allowed is not None else True))
    worth = safe & (hopeful | edge)
    index = int(np.where(worth, sd, -1.0).argmax())
    if sd[index] < search.enough_sd:
        return Proposal(None, "nothing that could be better is uncertain any more", *said)
    return Proposal(index, "the most uncertain of the safe set that may be better", *said)


def tried(believed: Posterior, index: int, value: float) -> Trial:
    """A trial with what had been expected, to be kept and to be added."""
    return Trial(index, value, float(believed.mean[index]), float(believed.sd[index]))
