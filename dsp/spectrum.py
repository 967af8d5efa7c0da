"""One-sided power spectral densities of the newest window, in µV²/Hz: exact at every hop, cheap because hops share samples.

Only the bins a biomarker uses are computed. Where windows are made of whole blocks, each block's part of
the discrete Fourier transform is one matrix product, turned to its place on the absolute sample grid;
a window is the sum of its blocks' parts (no sum runs on for longer than two windows),
and the taper, a cosine sum, is applied to the bins. Otherwise one real FFT a hop does the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dsp.electrodes import pick
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
    channels : frozenset of int, or None
        Whose densities are asked for; None = all. The others' may be zeros.
    key : tuple
        What needs that are computed together have in common.
    """

    n_samples: int
    f_max_hz: float
    taper: Taper = "hann"
    detrend: Detrend = "constant"
    every_hops: int = 1
    n_fft: int = 0
    complex_bins: bool = False
    channels: frozenset[int] | None = None
    key: tuple[int, str, str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.n_samples, self.taper, self.detrend, self.n_fft or self.n_samples))

    def joined(self, other: SpectrumNeed) -> SpectrumNeed:
        """One need that serves both (same key)."""
        every = self.every_hops if self.every_hops == other.every_hops else int(np.gcd(self.every_hops, other.every_hops))
        complex_bins = self.complex_bins or other.complex_bins
        channels = None if self.channels is None or other.channels is None else self.channels | other.channels
        highest = max(self.f_max_hz, other.f_max_hz)
        return replace(self, f_max_hz=highest, every_hops=every, complex_bins=complex_bins, channels=channels)


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
def _fourier_basis(n: int, n_bins: int, n_rows: int, scale: float, without_mean: bool) -> F64:
    """Bins -1 to n_bins of an n-point transform at rows 0 on, real and imaginary parts in turn; the same array for every line
    like this one, so that many headsets share what the processor keeps at hand.

    `without_mean` leaves bin 0 empty: that is all a window's mean is made of as long as no taper is on.
    """
    k = np.arange(-1, n_bins + 1)
    angle = 2 * np.pi / n * (np.outer(np.arange(n_rows), k) % n)
    basis = np.empty((n_rows, 2 * len(k)))
    basis[:, 0::2] = scale * np.cos(angle)
    basis[:, 1::2] = -scale * np.sin(angle)
    if without_mean:
        basis[:, 2:4] = 0.0
    basis.flags.writeable = False
    return basis


@lru_cache(maxsize=8)
def _block_phases(n: int, n_bins: int, starts: tuple[int, ...]) -> C128:
    """(len(starts), n_bins + 2) what a block's bins are turned by if its first sample lies at `starts` of the n-point transform."""
    # Whole turns are taken out in integers, so the phases are exact for any index.
    turns = np.outer(starts, np.arange(-1, n_bins + 1)) % n
    phases = np.asarray(np.exp(-2j * np.pi / n * turns), dtype=np.complex128)
    phases.flags.writeable = False
    return phases


class BlockSpectrum:
    """Densities from per-block partial transforms; for windows of whole blocks.

    Time is cut into rounds of as many blocks as a window has. A window is what is left of the last round, whose sums from every block
    to its end are made once when it is over, and the sum of this round so far: two additions a block, and no sum outlives two windows.
    """

    def __init__(self, need: SpectrumNeed, grid: Grid, n_channels: int) -> None:
        n = need.n_samples
        self.frequency_hz = bin_frequencies(need, grid.rate_hz)
        n_bins = len(self.frequency_hz)
        a, b = _COSINES[need.taper]
        self._neighbors = b / (2 * a)
        # Bins -1 ... n_bins: the taper mixes each bin with its neighbors. Amplitudes carry the density's scale.
        scale = a * np.sqrt(2.0 / (grid.rate_hz * float(np.sum(taper_weights(need.taper, n) ** 2))))
        self._basis = _fourier_basis(n, n_bins, max(grid.block_lengths), float(scale), need.detrend == "constant")
        self._round = grid.whole_blocks(n)
        self._phases = _block_phases(n, n_bins, tuple(grid.block_end(block - 1) % n for block in range(self._round)))
        self._window_phases = np.conj(self._phases)
        one_sided = density_scale(need, grid.rate_hz, n_bins)
        self._half: list[int] = np.flatnonzero(one_sided < one_sided.max()).tolist()  # 0 Hz, and the highest there can be
        shape = (n_channels, self._basis.shape[1])
        self._newest: int | None = None
        self._parts: F64 = np.zeros((self._round, *shape))  # blocks of this round; after them, sums to the last round's end
        self._part_bins = self._parts.view(np.complex128)
        self._so_far: F64 = np.zeros(shape)
        self._total: F64 = np.zeros(shape)
        self._bins: C128 = self._total.view(np.complex128)
        self._bins_so_far: C128 = self._so_far.view(np.complex128)
        self._below, self._here, self._above = self._total[:, :-4], self._total[:, 2:-2], self._total[:, 4:]
        self._mixed: F64 = np.zeros((n_channels, 2 * n_bins))
        self._squares = self._mixed[:, 0::2], self._mixed[:, 1::2]

    @staticmethod
    def fits(need: SpectrumNeed, grid: Grid) -> bool:
        """Whether this engine serves a need: every hop, whole blocks, no zero padding, parts of bearable size."""
        bins = len(bin_frequencies(need, grid.rate_hz)) + 2
        blocks = grid.whole_blocks(need.n_samples)
        return (
            blocks > 0
            and need.every_hops == 1
            and need.n_fft in (0, need.n_samples)
            and (blocks + max(grid.block_lengths)) * bins * 16 <= _LARGEST_BASIS_BYTES
        )

    def add(self, block: int, first_sample: int, samples_uv: F64) -> None:
        place = block % self._round
        parts, so_far = self._parts, self._so_far
        if block - 1 != self._newest:
            # no window that is whole reaches back over a block that never came
            parts[:] = 0.0
            so_far[:] = 0.0
        elif place == 0:
            for earlier in range(self._round - 2, 0, -1):
                np.add(parts[earlier], parts[earlier + 1], out=parts[earlier])
        self._newest = block
        part = parts[place]
        np.matmul(samples_uv, self._basis[: samples_uv.shape[1]], part)
        bins = self._part_bins[place]
        np.multiply(bins, self._phases[place], bins)
        if place:
            np.add(so_far, part, so_far)
        else:
            so_far[:] = part

    def density(self, block: int, end_sample: int, window: F64 | None) -> F64:
        after, mixed = (block + 1) % self._round, self._mixed
        bins = self._bins_so_far
        if after:
            bins = np.add(bins, self._part_bins[after], self._bins)
        # as seen from the window's first sample, the taper is real
        np.multiply(bins, self._window_phases[after], self._bins)
        if self._neighbors:
            np.add(self._below, self._above, mixed)
            np.multiply(mixed, self._neighbors, mixed)
            np.subtract(self._here, mixed, mixed)
            np.multiply(mixed, mixed, mixed)
        else:
            np.multiply(self._here, self._here, mixed)
        density: F64 = np.add(*self._squares)
        for k in self._half:
            density[:, k] *= 0.5
        return density


class DirectSpectrum:
    """Densities by one real FFT over the window; for any window."""

    def __init__(self, need: SpectrumNeed, rate_hz: float) -> None:
        self._need = need
        self._rate_hz = rate_hz
        self.frequency_hz = bin_frequencies(need, rate_hz)
        self._weights = taper_weights(need.taper, need.n_samples)
        self._scale = density_scale(need, rate_hz, len(self.frequency_hz))
        self._channels = None if need.channels is None else pick(sorted(need.channels))
        self._n_channels = 0 if need.channels is None else len(need.channels)

    def add(self, block: int, first_sample: int, samples_uv: F64) -> None:
        """Nothing to prepare: the window brings its samples."""

    def density(self, block: int, end_sample: int, window: F64 | None) -> F64:
        assert window is not None
        if self._channels is not None and self._n_channels < len(window):
            density = np.zeros((len(window), len(self._scale)))
            density[self._channels] = self._densities(window[self._channels])
            return density
        return self._densities(window)

    def _densities(self, window: F64) -> F64:
        x = window - window.mean(-1, keepdims=True) if self._need.detrend == "constant" else window
        spectrum = np.fft.rfft(x * self._weights, self._need.n_fft or self._need.n_samples, axis=-1)[:, : len(self._scale)]
        density = spectrum.real**2
        density += spectrum.imag**2
        density *= self._scale
        return np.asarray(density, dtype=np.float64)
