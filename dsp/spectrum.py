"""One-sided power spectral densities of the newest window, in µV²/Hz: exact at every hop, cheap because hops share samples.

Only the bins a biomarker uses are computed. Where windows are made of whole blocks, each block's part of
the discrete Fourier transform is one matrix product with a basis anchored at the absolute sample index;
a window is the sum of its blocks' parts (a dyadic tree over stored parts, summed anew: nothing runs on),
and the taper, a cosine sum, is applied to the bins. Otherwise one real FFT a hop does the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dsp.window import Grid
from eegloop.signal import F64

Taper = Literal["hann", "hamming", "boxcar"]
Detrend = Literal["constant", "none"]
Integration = Literal["sum", "trapezoid"]
C128 = NDArray[np.complex128]

# w[n] = a - b cos(2 pi n / N), periodic.
_COSINES: dict[str, tuple[float, float]] = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "boxcar": (1.0, 0.0)}
_LARGEST_BASIS_BYTES = 24 * 2**20


@dataclass(frozen=True, slots=True)
class SpectrumNeed:
    """A spectrum some biomarker asks for; equal needs are computed once.

    Attributes
    ----------
    n_samples : int
        Window length.
    f_max_hz : float
        Highest frequency of interest.
    every_hops : int
        Computed when the hop's number is a multiple of this.
    n_fft : int
        Transform length, >= n_samples (zeros are appended); 0 = n_samples.
    complex_bins : bool
        Asks for `Hop.transform`, the complex bins, as well as the density.
    """

    n_samples: int
    f_max_hz: float
    taper: Taper = "hann"
    detrend: Detrend = "constant"
    every_hops: int = 1
    n_fft: int = 0
    complex_bins: bool = False

    @property
    def key(self) -> tuple[int, str, str, int]:
        return (self.n_samples, self.taper, self.detrend, self.n_fft or self.n_samples)

    def joined(self, other: SpectrumNeed) -> SpectrumNeed:
        """One need that serves both (same key)."""
        every = self.every_hops if self.every_hops == other.every_hops else int(np.gcd(self.every_hops, other.every_hops))
        complex_bins = self.complex_bins or other.complex_bins
        return replace(self, f_max_hz=max(self.f_max_hz, other.f_max_hz), every_hops=every, complex_bins=complex_bins)


def taper_weights(taper: Taper, n: int) -> F64:
    """The periodic taper's n weights."""
    a, b = _COSINES[taper]
    return np.asarray(a - b * np.cos(2 * np.pi * np.arange(n) / n), dtype=np.float64)


def bin_frequencies(need: SpectrumNeed, rate_hz: float) -> F64:
    """Frequencies of a need's bins, from 0 Hz to the first at or above `f_max_hz` (or half the sample rate)."""
    n_fft = need.n_fft or need.n_samples
    n_bins = min(int(np.ceil(need.f_max_hz * n_fft / rate_hz - 1e-9)), n_fft // 2) + 1
    return np.asarray(np.arange(n_bins) * (rate_hz / n_fft), dtype=np.float64)


def density_scale(need: SpectrumNeed, rate_hz: float, n_bins: int) -> F64:
    """What |X|² is multiplied by to become a one-sided density, a bin each."""
    n_fft = need.n_fft or need.n_samples
    scale = np.full(n_bins, 2.0 / (rate_hz * float(np.sum(taper_weights(need.taper, need.n_samples) ** 2))))
    scale[0] /= 2
    if n_fft % 2 == 0 and n_bins == n_fft // 2 + 1:
        scale[-1] /= 2
    return scale


def transform(samples_uv: F64, need: SpectrumNeed, rate_hz: float) -> C128:
    """Complex bins of (n_channels, n_samples) samples, scaled so that |.|² is the density: (n_channels, n_bins)."""
    n_bins = len(bin_frequencies(need, rate_hz))
    x = samples_uv - samples_uv.mean(-1, keepdims=True) if need.detrend == "constant" else samples_uv
    bins = np.fft.rfft(x * taper_weights(need.taper, need.n_samples), need.n_fft or need.n_samples, axis=-1)[..., :n_bins]
    return np.asarray(bins * np.sqrt(density_scale(need, rate_hz, n_bins)), dtype=np.complex128)


def psd(samples_uv: F64, need: SpectrumNeed, rate_hz: float) -> F64:
    """Density of (n_channels, n_samples) samples: (n_channels, n_bins) µV²/Hz. The plain definition."""
    return np.asarray(np.abs(transform(samples_uv, need, rate_hz)) ** 2, dtype=np.float64)


def band_weights(frequency_hz: F64, low_hz: float, high_hz: float, integration: Integration) -> F64:
    """Weights w so that density @ w is the power of a band, µV².

    `sum`: every bin of [low, high) times the spacing. `trapezoid`: the trapezoidal rule over the bins of
    [low, high]. (Simpson's rule is wrong on spectral lines: it gives 44.4 for a 50 µV² sinusoid.)
    """
    spacing = float(frequency_hz[1] - frequency_hz[0])
    slack = 1e-9 * max(1.0, high_hz)
    if integration == "sum":
        inside = (frequency_hz >= low_hz - slack) & (frequency_hz < high_hz - slack)
        return np.asarray(inside * spacing, dtype=np.float64)
    inside = (frequency_hz >= low_hz - slack) & (frequency_hz <= high_hz + slack)
    weights = np.asarray(inside * spacing, dtype=np.float64)
    at = np.flatnonzero(inside)
    if at.size < 2:
        return np.zeros_like(weights)
    weights[at[0]] /= 2
    weights[at[-1]] /= 2
    return weights


class SpectrumEngine(Protocol):
    """Turns blocks of filtered samples into the density of the newest window."""

    frequency_hz: F64

    def add(self, block: int, first_sample: int, samples_uv: F64) -> None:
        """Take block number `block`, (n_channels, n) samples from absolute index `first_sample` on."""

    def density(self, block: int, end_sample: int, window: F64 | None) -> F64:
        """(n_channels, n_bins) of the window that ends with `block`, the newest one added."""


@lru_cache(maxsize=8)
def _fourier_basis(n: int, n_bins: int, n_rows: int, scale: float) -> F64:
    """Bins -1 to n_bins of an n-point transform at rows from absolute index 0 on, real and imaginary parts in turn; the same
    array for every line like this one, so that many headsets share what the processor keeps at hand."""
    k = np.arange(-1, n_bins + 1)
    # Whole turns are taken out in integers, so the basis is exact for any index.
    angle = 2 * np.pi / n * (np.outer(np.arange(n_rows), k) % n)
    basis = np.empty((n_rows, 2 * len(k)))
    basis[:, 0::2] = scale * np.cos(angle)
    basis[:, 1::2] = -scale * np.sin(angle)
    basis.flags.writeable = False
    return basis


class BlockSpectrum:
    """Densities from per-block partial transforms; for windows of whole blocks."""

    def __init__(self, need: SpectrumNeed, grid: Grid, n_channels: int) -> None:
        self._n = need.n_samples
        self.frequency_hz = bin_frequencies(need, grid.rate_hz)
        n_bins = len(self.frequency_hz)
        a, b = _COSINES[need.taper]
        self._neighbors = b / (2 * a)
        # Bins -1 ... n_bins: the taper mixes each bin with its neighbors. Amplitudes carry the density's scale.
        scale = a * np.sqrt(2.0 / (grid.rate_hz * float(np.sum(taper_weights(need.taper, self._n) ** 2))))
        self._basis = _fourier_basis(self._n, n_bins, self._n + max(grid.block_lengths), float(scale))
        one_sided = density_scale(need, grid.rate_hz, n_bins)
        self._half: list[int] = np.flatnonzero(one_sided < one_sided.max()).tolist()  # 0 Hz, and the highest there can be
        self._turns: dict[int, complex] = {}
        self._detrend = need.detrend == "constant"
        self._plan(grid.whole_blocks(self._n), (n_channels, self._basis.shape[1]))
        self._total = np.empty((n_channels, self._basis.shape[1]))
        self._bins: C128 = self._total.view(np.complex128)
        self._mixed = np.empty((n_channels, n_bins), dtype=np.complex128)
        self._side = np.empty_like(self._bins)
        self._squares: F64 = np.empty((n_channels, 2 * n_bins))

    @staticmethod
    def fits(need: SpectrumNeed, grid: Grid) -> bool:
        """Whether this engine serves a need: every hop, whole blocks, no zero padding, a basis of bearable size."""
        bins = len(bin_frequencies(need, grid.rate_hz)) + 2
        rows = need.n_samples + max(grid.block_lengths)
        return (
            grid.whole_blocks(need.n_samples) > 0
            and need.every_hops == 1
            and need.n_fft in (0, need.n_samples)
            and rows * bins * 16 <= _LARGEST_BASIS_BYTES
        )

    def _plan(self, n_blocks: int, shape: tuple[int, int]) -> None:
        """Rings of 2^level-block sums, and which of them make up the window."""
        levels = n_blocks.bit_length()
        self._parts: list[tuple[int, int]] = []
        offset = 0
        for level in reversed(range(levels)):
            if n_blocks >> level & 1:
                self._parts.append((level, offset))
                offset += 1 << level
        depth = [1 + max((o for lv, o in self._parts if lv == level), default=0) for level in range(levels)]
        for level in range(levels - 1):
            depth[level] = max(depth[level], (1 << level) + 1)
        self._rings: list[F64] = [np.zeros((d, *shape)) for d in depth]

    def add(self, block: int, first_sample: int, samples_uv: F64) -> None:
        row = first_sample % self._n
        ring = self._rings[0]
        np.matmul(samples_uv, self._basis[row : row + samples_uv.shape[1]], out=ring[block % len(ring)])
        for level in range(1, len(self._rings)):
            below, ring = ring, self._rings[level]
            np.add(below[block % len(below)], below[(block - (1 << (level - 1))) % len(below)], out=ring[block % len(ring)])

    def density(self, block: int, end_sample: int, window: F64 | None) -> F64:
        level, offset = self._parts[0]
        ring = self._rings[level]
        part = ring[(block - offset) % len(ring)]
        if len(self._parts) == 1:
            self._total[:] = part
        for level, offset in self._parts[1:]:
            ring = self._rings[level]
            np.add(part, ring[(block - offset) % len(ring)], out=self._total)
            part = self._total
        if self._detrend:
            self._bins[:, 1] = 0.0  # a mean is bin 0 alone as long as no taper is on
        mixed: C128 = self._bins[:, 1:-1]
        if self._neighbors:
            turn = self._turn((end_sample - self._n) % self._n)
            # whole arrays: a product of slices, row by row, takes more than twice the time
            np.multiply(self._bins, turn.conjugate(), out=self._side)
            np.subtract(mixed, self._side[:, :-2], out=self._mixed)
            np.multiply(self._bins, turn, out=self._side)
            self._mixed -= self._side[:, 2:]
            mixed = self._mixed
        parts = mixed.view(np.float64)
        np.multiply(parts, parts, out=self._squares)
        density: F64 = self._squares[:, 0::2] + self._squares[:, 1::2]
        for k in self._half:
            density[:, k] *= 0.5
        return density

    def _turn(self, start: int) -> complex:
        """The taper's share of a neighboring bin for a window that starts this far into a turn: few ever come up."""
        turn = self._turns.get(start)
        if turn is None:
            turn = self._turns[start] = complex(np.exp(2j * np.pi * start / self._n)) * self._neighbors
        return turn


class DirectSpectrum:
    """Densities by one real FFT over the window; for any window."""

    def __init__(self, need: SpectrumNeed, rate_hz: float) -> None:
        self._need = need
        self._rate_hz = rate_hz
        self.frequency_hz = bin_frequencies(need, rate_hz)
        self._weights = taper_weights(need.taper, need.n_samples)
        self._scale = density_scale(need, rate_hz, len(self.frequency_hz))

    def add(self, block: int, first_sample: int, samples_uv: F64) -> None:
        """Nothing to prepare: the window brings its samples."""

    def density(self, block: int, end_sample: int, window: F64 | None) -> F64:
        assert window is not None
        x = window - window.mean(-1, keepdims=True) if self._need.detrend == "constant" else window
        spectrum = np.fft.rfft(x * self._weights, self._need.n_fft or self._need.n_samples, axis=-1)[:, : len(self._scale)]
        density = spectrum.real**2
        density += spectrum.imag**2
        density *= self._scale
        return np.asarray(density, dtype=np.float64)
