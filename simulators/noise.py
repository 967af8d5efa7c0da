"""Stationary Gaussian noise of any spectrum, in half-overlapping stretches that depend on seed, stream and number only."""

from __future__ import annotations

import numpy as np

from eegloop.signal import F64


class ShapedNoise:
    """Endless noise in several independent series; `half(k)` is the k-th stretch of `hop` samples.

    Two independent periodic stretches are cross-faded with sine and cosine flanks, whose squares add to one: the variance stays
    constant, and the spectrum is the wanted one smoothed over about 1/(2 hop) Hz.
    """

    def __init__(self, seed: int, stream: int, hop: int, sample_rate_hz: float, densities: F64) -> None:
        """`densities` (n_series, hop + 1): one-sided power spectral density, unit^2/Hz, at `frequencies(hop, sample_rate_hz)`."""
        self._key = (seed, stream)
        self._hop = hop
        # a real unit-variance white series of n samples has E|X|^2 = n in each bin, one-sided density 2 / rate
        self._shape = np.sqrt(densities * sample_rate_hz / 2.0) * np.sqrt(hop)
        self._shape[:, 0] = 0.0
        # series that are slow have no power in most bins: none is drawn there
        self._n_bins = int(np.max(np.nonzero(self._shape.any(axis=0))[0], initial=1)) + 1
        angle = (np.arange(hop) + 0.5) * (np.pi / 2 / hop)
        self._rise, self._fall = np.sin(angle)[:, None], np.cos(angle)[:, None]
        self._tail_of = -1
        self._tail = np.empty((0, 0))

    @staticmethod
    def frequencies(hop: int, sample_rate_hz: float) -> F64:
        """(hop + 1,) Hz."""
        return np.asarray(np.fft.rfftfreq(2 * hop, 1.0 / sample_rate_hz))

    def _stretch(self, number: int) -> F64:
        draw = np.random.default_rng((*self._key, number))
        bins = draw.standard_normal((2, len(self._shape), self._n_bins))
        spectrum = self._shape[:, : self._n_bins] * (bins[0] + 1j * bins[1])
        return np.ascontiguousarray(np.fft.irfft(spectrum, n=2 * self._hop, axis=1).T)

    def half(self, k: int) -> F64:
        """(hop, n_series) samples k * hop to (k + 1) * hop."""
        if self._tail_of != k:
            self._tail = self._stretch(k)[self._hop :]
        following = self._stretch(k + 1)
        out: F64 = self._fall * self._tail + self._rise * following[: self._hop]
        self._tail, self._tail_of = following[self._hop :], k + 1
        return out


def power_law(frequencies_hz: F64, exponent: float, rms: float) -> F64:
    """Density 1/f^exponent, flat below 0.3 Hz, with `rms` in 1-45 Hz."""
    density = (frequencies_hz**2 + 0.3**2) ** (-exponent / 2)
    inside = (frequencies_hz >= 1.0) & (frequencies_hz <= 45.0)
    return np.asarray(density * (rms**2 / (density[inside].sum() * frequencies_hz[1])))


def bump(frequencies_hz: F64, center_hz: float, width_hz: float, rms: float) -> F64:
    """Density of Gaussian form around a center, SD `width_hz`, total `rms`."""
    density = np.exp(-0.5 * ((frequencies_hz - center_hz) / width_hz) ** 2)
    density[density < 1e-8] = 0.0
    return np.asarray(density * (rms**2 / (density[1:].sum() * frequencies_hz[1])))


def slow(frequencies_hz: F64, limit_hz: float, sd: float) -> F64:
    """Density of a process that varies slower than about `limit_hz`, total SD `sd`."""
    density = np.exp(-0.5 * (frequencies_hz / limit_hz) ** 2)
    density[density < 1e-8] = 0.0
    return np.asarray(density * (sd**2 / (density[1:].sum() * frequencies_hz[1])))


def muscle(frequencies_hz: F64, rms: float) -> F64:
    """Density of surface electromyogram: broad, from 20 Hz falling towards 300 Hz, total `rms` below half the sample rate."""
    density = 1.0 / (1.0 + (20.0 / np.maximum(frequencies_hz, 1e-9)) ** 6) / (1.0 + (frequencies_hz / 150.0) ** 4)
    return np.asarray(density * (rms**2 / (density[1:].sum() * frequencies_hz[1])))
