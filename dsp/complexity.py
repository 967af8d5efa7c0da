"""How irregular a signal is: Lempel-Ziv complexity, permutation entropy, spectral entropy.

All of them depend on filter, sample rate and length: compare only values made alike.
"""

from __future__ import annotations

import math

import numpy as np

from eegloop.signal import F64


def lempel_ziv_phrases(symbols: str) -> int:
    """Number of phrases of the 1976 Lempel-Ziv parsing: each is the shortest piece not seen before its last symbol."""
    n, start, phrases = len(symbols), 0, 0
    while start < n:
        length = 1
        while start + length <= n and symbols.find(symbols[start : start + length], 0, start + length - 1) >= 0:
            length += 1
        phrases += 1
        start += length
    return phrases


def lempel_ziv(samples: F64) -> float:
    """Phrases of the median-binarized signal times log2(n) / n: about 1 for noise, near 0 for a constant; NaN if empty."""
    n = len(samples)
    if n < 2:
        return math.nan
    symbols = np.where(samples > np.median(samples), b"1", b"0").tobytes().decode()
    return lempel_ziv_phrases(symbols) * math.log2(n) / n


def permutation_entropy(samples: F64, order: int, delay: int) -> float:
    """Entropy in bits of the ordinal patterns of `order` samples `delay` apart; ties go by time. NaN if too short."""
    n = len(samples) - (order - 1) * delay
    if n < 1:
        return math.nan
    embedded = np.lib.stride_tricks.as_strided(
        np.ascontiguousarray(samples), (n, order), (samples.itemsize, samples.itemsize * delay), writeable=False
    )
    ranks = embedded.argsort(axis=1, kind="stable")
    _, counts = np.unique(ranks @ order ** np.arange(order), return_counts=True)
    p = counts / n
    return float(abs(-(p * np.log2(p)).sum()))


def spectral_entropy(density: F64) -> float:
    """-sum p ln p / ln N over the bins given: 1 for a flat density, 0 for one line; NaN without power or with one bin."""
    total = float(density.sum())
    if total <= 0 or len(density) < 2:
        return math.nan
    p = density[density > 0] / total
    return float(abs(-(p * np.log(p)).sum()) / math.log(len(density)))
