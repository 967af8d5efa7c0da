"""Whether every electrode is where it was: the correlations between channels are a head's own pattern, and a swapped pair shows in them.

Neighbors share more than strangers do. A first session's pattern is kept; later, exchanging two channels must not fit it clearly better
than leaving them as they are. Pure. It finds exchanged cables and sites, not a rotated cap and not which pad is the anode (EEG is the
same under both).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

BLOCK_S = 0.02  # samples are averaged over this
LAG_BLOCKS = 4  # and differences taken over this many: about 1-12 Hz
LEAST_CHANNELS = 4  # fewer say too little
LEAST_S = 10.0  # shorter patterns are not compared
BETTER = 2.0  # the exchange must fit this many times better than no exchange,
LEAST_GAIN = 0.02  # and by at least this much in mean squared correlation
BLOCK_LIMIT_UV = 150.0  # a larger step is an artifact


@dataclass(frozen=True, slots=True)
class Pattern:
    """Sums over good blocks: (n_channels, n_channels) products of differences, and the seconds in them. None = nothing yet."""

    products: F64 | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Swap:
    """Two channels (indices) that look exchanged, and how many times better the exchange fits."""

    first: int
    second: int
    better: float


def add(pattern: Pattern, data_uv: NDArray[np.float32], sample_rate_hz: float) -> Pattern:
    """Take in samples without a gap, (n_samples, n_channels) µV; steps too large for a head are left out."""
    size = max(1, round(BLOCK_S * sample_rate_hz))
    n_blocks = len(data_uv) // size
    if n_blocks <= LAG_BLOCKS:
        return pattern
    blocks = data_uv[: n_blocks * size].astype(np.float64).reshape(n_blocks, size, -1).mean(axis=1)
    steps = blocks[LAG_BLOCKS:] - blocks[:-LAG_BLOCKS]
    steps = steps[np.isfinite(steps).all(axis=1) & (np.abs(steps) < BLOCK_LIMIT_UV).all(axis=1)]
    if not len(steps):
        return pattern
    products = steps.T @ steps
    return Pattern(products if pattern.products is None else pattern.products + products, pattern.seconds + len(steps) * BLOCK_S)


def correlations(pattern: Pattern) -> F64 | None:
    """(n_channels, n_channels); None before there is enough, NaN rows for silent channels."""
    if pattern.products is None or pattern.seconds < LEAST_S:
        return None
    sizes = np.sqrt(np.diag(pattern.products))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sizes > 0, pattern.products / np.outer(sizes, sizes), np.nan)


def comparable(reference: F64, now: F64) -> Bool:
    """(n_channels,) which channels had a signal both times."""
    return np.asarray(np.isfinite(reference).any(axis=1) & np.isfinite(now).any(axis=1))


def find_swap(reference: F64, now: F64) -> Swap | None:
    """The pair whose exchange explains the new pattern best, if it is clearly better than none.

    All pairs at once: a seat asks this every second while others stimulate (64 channels: a few ms).

    Parameters
    ----------
    reference, now : (n_channels, n_channels) float
        Correlations of the same montage, NaN rows and columns for silent channels, which are left out; fewer than four of the others
        say too little.
    """
    if reference.shape != now.shape:
        return None
    kept = np.flatnonzero(comparable(reference, now))
    n = len(kept)
    if n < LEAST_CHANNELS:
        return None
    old, new = reference[np.ix_(kept, kept)], now[np.ix_(kept, kept)]
    own = (new - old) ** 2
    np.fill_diagonal(own, 0.0)
    without = own.sum(axis=1)[:, np.newaxis] - own  # [i, j]: the gaps of row i but to j
    stay = (without + without.T) / (n - 2)
    crossed = (new[:, np.newaxis, :] - old[np.newaxis, :, :]) ** 2  # [i, j, k]: row i now against row j then
    at = np.arange(n)
    crossed[at, :, at] = crossed[:, at, at] = 0.0
    gaps = crossed.sum(axis=2)
    swapped = (gaps + gaps.T) / (n - 2)
    better = stay / np.maximum(swapped, 1e-12)
    clear = (better >= BETTER) & (stay - swapped >= LEAST_GAIN)
    better = np.triu(np.where(clear, better, 0.0), 1)
    i, j = (int(k) for k in np.unravel_index(np.argmax(better), better.shape))
    return Swap(int(kept[i]), int(kept[j]), float(better[i, j])) if better[i, j] > 0.0 else None
