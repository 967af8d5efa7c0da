"""Where blocks, hops and windows begin and end on the absolute sample grid, and the samples of the longest window."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from eegloop.signal import F64

# A hop is worked through in equal blocks of at most this length: the grain of quality marks.
LONGEST_BLOCK_S = Fraction(1, 10)
_FEW = 16  # up to so many numbers Python's own min and max are quicker than a call into NumPy


def exact(value: float) -> Fraction:
    """The decimal a person wrote (0.1 is 1/10), so that edges on the grid never depend on rounding."""
    return Fraction(repr(float(value))).limit_denominator(10**9)


@dataclass(frozen=True, slots=True)
class Grid:
    """Edges of blocks and hops: block j ends at sample ceil(j * block_length), hop k with block k * blocks_per_hop.

    Attributes
    ----------
    rate_hz : float
    block_length : Fraction
        Samples in a block, not always whole (12.8 at 128 Hz).
    blocks_per_hop : int
    """

    rate_hz: float
    block_length: Fraction
    blocks_per_hop: int
    # the fraction's two numbers: asked for several times a hop
    _samples: int = field(init=False, repr=False, compare=False)
    _per: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_samples", self.block_length.numerator)
        object.__setattr__(self, "_per", self.block_length.denominator)

    @staticmethod
    def of(rate_hz: float, hop_s: float) -> Grid:
        hop = exact(hop_s)
        blocks_per_hop = math.ceil(hop / LONGEST_BLOCK_S)
        return Grid(rate_hz, hop * exact(rate_hz) / blocks_per_hop, blocks_per_hop)

    def block_end(self, block: int) -> int:
        """One past the last sample of a block."""
        return -((-block * self._samples) // self._per)

    def block_of(self, sample: int) -> int:
        """The block that holds a sample: the first that ends after it."""
        return sample * self._per // self._samples + 1

    @property
    def block_lengths(self) -> tuple[int, ...]:
        """The whole numbers of samples a block can have."""
        return tuple(sorted({math.floor(self.block_length), math.ceil(self.block_length)} - {0}))

    def window_samples(self, window_s: float) -> int:
        """Whole samples in a window; halves round up."""
        return max(1, math.floor(exact(window_s) * exact(self.rate_hz) + Fraction(1, 2)))

    def whole_blocks(self, n_samples: int) -> int:
        """Blocks that exactly fill a window which ends with a block; 0 where none do."""
        blocks = n_samples / self.block_length
        return int(blocks) if blocks.denominator == 1 else 0


class Ranges:
    """What the channels' samples of one block range over, the block's own extremes as plain numbers beside each channel's.

    Attributes
    ----------
    low, high, span : (n_channels,) float64
        Least and largest raw value and their difference, µV.
    extreme : (n_channels,) float64
        Largest absolute filtered value, µV.
    lowest, highest, narrowest, widest, loudest : float
        Of all channels: least `low`, largest `high`, least and largest `span`, largest `extreme`; NaN if there is one.
    """

    def __init__(self, n_channels: int, longest: int) -> None:
        self._rows: F64 = np.zeros((4, n_channels))
        self._raw = self._rows[:3]
        self.low, self.high, self.span, self.extreme = self._rows
        self._magnitude: F64 = np.zeros((n_channels, longest))
        self._few = n_channels <= _FEW
        self.lowest = self.highest = self.narrowest = self.widest = self.loudest = 0.0

    def take(self, raw: F64) -> None:
        """Raw samples (n_channels, n)."""
        np.minimum.reduce(raw, 1, None, self.low)
        np.maximum.reduce(raw, 1, None, self.high)
        if self._few:
            lows, highs = self.low.tolist(), self.high.tolist()
            if math.isfinite(sum(lows) + sum(highs)):
                spans = np.subtract(self.high, self.low, self.span).tolist()
                self.lowest, self.highest, self.narrowest, self.widest = min(lows), max(highs), min(spans), max(spans)
                return
        with np.errstate(invalid="ignore"):  # two infinities
            np.subtract(self.high, self.low, out=self.span)
        self.lowest, _, self.narrowest = np.minimum.reduce(self._raw, axis=1).tolist()
        _, self.highest, self.widest = np.maximum.reduce(self._raw, axis=1).tolist()

    def take_filtered(self, filtered: F64) -> None:
        """The same samples behind the filters."""
        magnitude = np.abs(filtered, self._magnitude[:, : filtered.shape[1]])
        self.loudest = float(np.maximum.reduce(np.maximum.reduce(magnitude, 1, None, self.extreme)))


class SampleRing:
    """The newest samples of every channel, contiguous: (n_channels, n) views by absolute end index.

    Memory is twice the capacity; a shift every `capacity` samples keeps views free of seams.
    """

    def __init__(self, n_channels: int, capacity: int) -> None:
        self._capacity = capacity
        self._data: F64 = np.zeros((n_channels, 2 * capacity))
        self._fill = 0
        self._end = 0

    def append(self, samples: F64, end: int) -> None:
        """Add (n_channels, n) samples, n <= capacity, that end at absolute index `end`.

        Samples skipped since the last call are zeros: windows over them are invalid anyway.
        """
        n = samples.shape[1]
        skipped = min(end - n - self._end, self._capacity)
        if skipped > 0:
            self._place(np.zeros((len(samples), skipped)))
        self._place(samples)
        self._end = end

    def _place(self, samples: F64) -> None:
        n = samples.shape[1]
        if self._fill + n > self._data.shape[1]:
            keep = self._capacity
            self._data[:, :keep] = self._data[:, self._fill - keep : self._fill].copy()
            self._fill = keep
        self._data[:, self._fill : self._fill + n] = samples
        self._fill += n

    def window(self, n: int) -> F64:
        """The newest `n` samples, zeros before the first; a view valid until the next append."""
        if n > self._fill:
            padded = np.zeros((len(self._data), n))
            padded[:, n - self._fill :] = self._data[:, : self._fill]
            return padded
        return self._data[:, self._fill - n : self._fill]
