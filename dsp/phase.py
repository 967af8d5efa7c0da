"""Phase of a band at the newest sample, or a little later, with its own error bar.

Every estimator here is a linear functional of the newest filtered samples, `analytic = taps . past`. The running
density of the person's own signal says how far such a functional lies from the zero-phase band signal on average:
that gives the error bar, whatever the method (`phase_error.py`). The `learned` functional is the one that makes it smallest.
When to act on a phase: `trigger.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsp import sections
from dsp.phase_error import STEP_M, error_bar_lines
from eegloop.signal import F64, Bool

C128 = NDArray[np.complex128]
Method = Literal["learned", "echt", "sine_fit"]

SEGMENT_S = 1.0  # what the density is made of; segments may overlap by half
TAPS_S = 0.35
_TAP_RATE_HZ = 250.0
_MEMORY_S = 60.0  # a segment's weight falls to 1/e after this much newer signal
_PRIOR_S = 1.0  # what is assumed before anything was seen weighs as much as one second
_REFIT_SHARE = 0.2
_MOST_MAPS = 4  # lengths of pieces kept ready
_RIDGE = 1e-6
_LEAST_ERROR = 1e-6  # of the band's variance: no functional of noisy samples is better
_MOST_SLOW_SD = 5.0  # of the person's own; more in a window is no rhythm that was learned, and the error bar does not hold
_LEAST_GAIN = 0.02  # below this the filters before us left nothing to restore


@dataclass(frozen=True, slots=True)
class PhaseEstimate:
    """Of each channel and sample.

    Attributes
    ----------
    phase_rad : (n_channels, n) float64
        -pi to pi; 0 is the positive peak of the band signal of the raw input.
    amplitude_uv : (n_channels, n) float64
    sd_rad : (n_channels, n) float64
        Circular standard deviation to expect of `phase_rad` while the band's amplitude is above its median; capped at pi.
        Below its median a rhythm hardly has a phase, and nothing should be timed by it: `trigger.Gate`.
    """

    phase_rad: F64
    amplitude_uv: F64
    sd_rad: F64


@dataclass(frozen=True, slots=True)
class _Map:
    """What turns a piece of past samples into n estimates: taps (n_channels, m, 2 n), and per estimate its error bar's scale."""

    n: int
    taps: F64
    per_sigma: F64
    first_piece: NDArray[np.intp]


class PhaseTracker:
    """Learns a person's signal segment by segment, and turns the newest samples into phases.

    Parameters
    ----------
    rate_hz : float
    n_channels : int
    band_hz : (float, float)
        Pass band of the zero-phase reference, a second-order Butterworth run forward and backward.
    sos : (n_sections, 6) float64
        The causal filters the samples have passed; their phase and gain are taken back.
    method : {"learned", "echt", "sine_fit"}
        learned: ridge regression of the zero-phase band signal on the past, in the form of its normal equations, which
        the running density gives; echt: endpoint-corrected Hilbert transform over 1 s (Schreglmann 2021) divided
        by its response at the band's center; sine_fit: least squares of [cos, sin, 1, t] at the center over two cycles.
    ahead_s : float
        The phase is that of this many seconds after the newest sample, 0-0.2.

    Notes
    -----
    State changes in `learn` alone, so estimates do not depend on how often they are asked for. Taps are at most
    `TAPS_S` of samples about 4 ms apart.
    """

    def __init__(
        self,
        rate_hz: float,
        n_channels: int,
        band_hz: tuple[float, float],
        sos: F64,
        method: Method = "learned",
        ahead_s: float = 0.0,
    ) -> None:
        low, high = band_hz
        if not 0 < low < high < rate_hz / 2:
            raise ValueError(f"band {low:g}-{high:g} Hz: must be low < high within 0-{rate_hz / 2:g} Hz")
        if not 0 <= ahead_s <= 0.2:
            raise ValueError(f"ahead_s {ahead_s:g}: a phase can be foretold 0-0.2 s ahead")
        self.rate_hz, self.band_hz, self.method = rate_hz, band_hz, method
        self.center_hz = (low + high) / 2
        self.segment_samples = round(SEGMENT_S * rate_hz)
        self._n_fft = 1 << (2 * self.segment_samples - 1).bit_length()
        self._frequency: F64 = np.fft.rfftfreq(self._n_fft, 1 / rate_hz).astype(np.float64)
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(self.segment_samples) + 0.5) / self.segment_samples)
        self._taper = taper / math.sqrt(float(np.sum(taper**2)))
        passed: C128 = np.ones(len(self._frequency), dtype=np.complex128)
        if len(sos):
            passed = sections.response(sos, self._frequency, rate_hz)
        band = sections.butterworth(2, low, high, rate_hz)
        gain = np.abs(sections.response(band, self._frequency, rate_hz)) ** 2
        turn = np.exp(2j * np.pi * self._frequency * ahead_s)
        usable = np.abs(passed) > _LEAST_GAIN
        # From the filtered input to the analytic band signal of the raw one.
        self._target: C128 = np.zeros(len(passed), dtype=np.complex128)
        self._target[usable] = (2 * gain * turn)[usable] / passed[usable]
        self._step = max(1, int(rate_hz / _TAP_RATE_HZ + 1e-9))
        fixed = self._fixed_taps(passed, ahead_s)
        self._n_taps = len(fixed) if fixed is not None else round(TAPS_S * rate_hz / self._step)
        self.past_samples = (self._n_taps - 1) * self._step + 1
        # A first guess: 1/f with a peak at the center that carries about as much power as what lies below it.
        pink = 1 / np.maximum(self._frequency, 0.5)
        peak = 6 * np.exp(-0.5 * (self._frequency - self.center_hz) ** 2) / self.center_hz
        prior = (pink + peak) * np.abs(passed) ** 2
        self._inside = (self._frequency >= 4.0) & (self._frequency < min(30.0, 0.45 * rate_hz))
        self._prior = prior / prior[self._inside].sum()
        self._power = np.zeros((n_channels, len(self._frequency)))
        self.seen_s: F64 = np.zeros(n_channels)
        self._news_s: F64 = np.zeros(n_channels)
        self._taps: F64 = np.zeros((n_channels, self._n_taps, 2))  # newest sample first; real and imaginary part
        self._per_sigma: F64 = np.zeros(n_channels)  # 1 / (µV STEP_M); 0 = nothing known
        self._intercept, self._slope = error_bar_lines(np.zeros(n_channels))
        if fixed is not None:
            self._taps[:] = np.column_stack([fixed.real, fixed.imag])
        self._maps: dict[int, _Map] = {}
        # Means over one cycle of the center, which hold what is slower than the band and not the band itself.
        self._cycle = max(2, round(rate_hz / self.center_hz))
        angle = np.pi * np.maximum(self._frequency, 1e-9) / rate_hz
        self._of_means: F64 = (np.sin(self._cycle * angle) / (self._cycle * np.sin(angle))) ** 2
        self._slow_sd_uv: F64 = np.zeros(n_channels)
        self._means: dict[int, F64] = {}
        self._refit(np.arange(n_channels))

    def _fixed_taps(self, passed: C128, ahead_s: float) -> C128 | None:
        """Taps, newest sample first, of the methods that do not learn."""
        rate, center, n = self.rate_hz, self.center_hz, self.segment_samples
        if self.method == "learned":
            return None
        self._step = 1
        if self.method == "echt":
            taps = echt_taps(n, rate, self.band_hz)
        else:
            n = max(8, round(2 * rate / center))
            t = -np.arange(n) / rate
            basis = np.column_stack([np.cos(2 * np.pi * center * t), -np.sin(2 * np.pi * center * t), np.ones(n), t])
            real, imaginary = np.linalg.pinv(basis)[:2]
            taps = real + 1j * imaginary
        response = taps @ np.exp(-2j * np.pi * center / rate * np.arange(n))
        before = np.interp(center, self._frequency, passed.real) + 1j * np.interp(center, self._frequency, passed.imag)
        low, high = self.band_hz
        band = sections.butterworth(2, low, high, rate)
        wanted = 2 * abs(complex(sections.response(band, np.array([center]), rate)[0])) ** 2
        wanted = wanted * np.exp(2j * np.pi * center * ahead_s)
        return np.asarray(taps * wanted / (response * before), dtype=np.complex128)

    # -- learning ------------------------------------------------------------------------------

    def learn(self, segment_uv: F64, usable: Bool, new_s: float) -> None:
        """Add one segment (n_channels, `segment_samples`) of filtered signal to the channels that are `usable`.

        Taps and error bar are made anew as soon as a tenth of what a channel's density holds is newer than they are.

        Parameters
        ----------
        new_s : float
            How much of the segment was not in the one before, s.
        """
        if not usable.any():
            return
        mean = segment_uv.mean(1, keepdims=True)
        bins = np.fft.rfft((segment_uv - mean) * self._taper, self._n_fft, axis=1)
        power = bins.real**2
        power += bins.imag**2
        power[~usable] = 0.0
        keep = np.where(usable, math.exp(-new_s / _MEMORY_S), 1.0)
        self._power *= keep[:, np.newaxis]
        self._power += power * new_s
        self.seen_s = self.seen_s * keep + new_s * usable
        self._news_s += new_s * usable
        due = np.flatnonzero(usable & (self._news_s >= _REFIT_SHARE * self.seen_s))
        if due.size:
            self._refit(due)
            self._news_s[due] = 0.0

    def density(self, channel: int) -> F64:
        """(n_bins,) relative density of the filtered signal at `frequency_hz`, the first guess mixed in by its weight."""
        return np.asarray(self._densities(np.array([channel]))[0], dtype=np.float64)

    def _densities(self, channels: NDArray[np.intp]) -> F64:
        power, seen = self._power[channels], self.seen_s[channels]
        level = power[:, self._inside].sum(1) / np.maximum(seen, 1e-9)
        level[level <= 0] = 1.0
        mixed = power + (_PRIOR_S * level)[:, np.newaxis] * self._prior
        return np.asarray(mixed / (seen + _PRIOR_S)[:, np.newaxis], dtype=np.float64)

    @property
    def frequency_hz(self) -> F64:
        """Bins of `density`, Hz."""
        return self._frequency

    def snr_db(self, channel: int) -> float:
        """Mean density in the band over that of the 2 Hz below and above it (geometric mean), dB."""
        density, f = self.density(channel), self._frequency
        low, high = self.band_hz
        inside = density[(f >= low) & (f < high)].mean()
        below, above = density[(f >= max(1.0, low - 2)) & (f < low)], density[(f >= high) & (f < high + 2)]
        return float(10 * np.log10(inside / math.sqrt(below.mean() * above.mean()))) if len(below) and len(above) else math.nan

    def _refit(self, channels: NDArray[np.intp]) -> None:
        from scipy.linalg import solve_toeplitz

        density, n = self._densities(channels), self._n_fft
        lags = slice(0, self._n_taps * self._step, self._step)
        covariance = np.fft.irfft(density, n, axis=1)[:, lags]
        spread = np.fft.ifft(density * self._target, n, axis=1)[:, lags]
        self._slow_sd_uv[channels] = np.sqrt(np.maximum(np.fft.irfft(density * self._of_means, n, axis=1)[:, 0], 0.0))
        variance = density @ np.abs(self._target) ** 2 / (2 * n)  # of the real part and of the imaginary part
        error = np.empty(len(channels))
        for row, channel in enumerate(channels):
            parts = np.column_stack([spread[row].real, spread[row].imag])
            if self.method == "learned":
                ridged = covariance[row].copy()
                ridged[0] *= 1 + _RIDGE
                taps = self._taps[channel] = solve_toeplitz(ridged, parts, check_finite=False)
                explained = (taps * (parts - _RIDGE * covariance[row, 0] * taps)).sum(0)
            else:
                taps = self._taps[channel]
                explained = np.array([_quadratic(taps[:, part], covariance[row]) for part in (0, 1)])
            # Mean square of (band signal - estimate), the mean of both parts.
            error[row] = (variance[row] - 2 * (taps * parts).sum(0) + explained).mean()
        sigma = np.sqrt(np.maximum(error, _LEAST_ERROR * variance))
        known = self.seen_s[channels] > 0
        self._per_sigma[channels] = np.where(known, 1 / (sigma * STEP_M), 0.0)
        self._intercept[channels], self._slope[channels] = error_bar_lines(np.sqrt(2 * math.log(2) * variance) / sigma)
        self._maps.clear()

    # -- estimating ----------------------------------------------------------------------------

    def _map(self, m: int) -> _Map:
        """Taps for a piece of m samples, made once between two refits."""
        found = self._maps.get(m)
        if found is None:
            c, n = len(self._taps), m - self.past_samples + 1
            taps = np.zeros((c, m, 2 * n))
            for i in range(n):
                taps[:, i : i + self.past_samples : self._step, i::n] = self._taps[:, ::-1]
            first = np.arange(c) * self._slope.shape[1]
            found = _Map(n, taps, np.repeat(self._per_sigma, n).reshape(c, n), np.repeat(first, n).reshape(c, n))
            if len(self._maps) < _MOST_MAPS:
                self._maps[m] = found
        return found

    def estimate(self, past_uv: F64) -> PhaseEstimate:
        """Phases of the last n of (n_channels, past_samples - 1 + n) filtered samples; the error bar is never below 7.5°."""
        made = self._map(past_uv.shape[1])
        n = made.n
        parts = np.matmul(past_uv[:, np.newaxis], made.taps)[:, 0]
        phase = np.arctan2(parts[:, n:], parts[:, :n])
        parts *= parts
        amplitude = parts[:, :n] + parts[:, n:]
        np.sqrt(amplitude, out=amplitude)
        m = amplitude * made.per_sigma
        piece = np.minimum(m, self._slope.shape[1] - 1).astype(np.intp)
        piece += made.first_piece
        m *= self._slope.take(piece)
        m += self._intercept.take(piece)
        return PhaseEstimate(phase, amplitude, m)

    def beyond_learned(self, past_uv: F64) -> Bool:
        """Channels whose (n_channels, m) samples hold more slow signal than any that was learned: a step, a movement, a blink.

        The estimate keeps the band apart from what else was there on average; what never was there leaks into it, and the error bar does not know.
        """
        m = past_uv.shape[1]
        means = self._means.get(m)
        if means is None:
            starts = range(m - self._cycle, -1, -max(1, self._cycle // 2))
            means = np.zeros((m, len(starts)))
            for column, start in enumerate(starts):
                means[start : start + self._cycle, column] = 1 / self._cycle
            if len(self._means) < _MOST_MAPS:
                self._means[m] = means
        largest = np.maximum.reduce(np.abs(past_uv @ means), axis=1, initial=0.0)
        return np.asarray(largest > _MOST_SLOW_SD * self._slow_sd_uv, dtype=np.bool_)


def _quadratic(taps: F64, covariance: F64) -> float:
    """taps . C taps for the Toeplitz matrix C of a covariance by lag."""
    n = len(taps)
    by_lag = np.correlate(taps, taps, "full")[n - 1 :]
    return float(2 * by_lag @ covariance - by_lag[0] * covariance[0])


def echt_taps(n: int, rate_hz: float, band_hz: tuple[float, float]) -> C128:
    """Endpoint-corrected Hilbert transform of the last of n samples as taps, newest sample first (Schreglmann 2021).

    The spectrum of the window, made one-sided, times a causal second-order Butterworth response, at the last sample.
    """
    frequency: F64 = np.fft.fftfreq(n, 1 / rate_hz).astype(np.float64)
    one_sided = np.zeros(n)
    one_sided[0] = 1
    one_sided[1 : (n + 1) // 2] = 2
    if n % 2 == 0:
        one_sided[n // 2] = 1
    passed = sections.response(sections.butterworth(2, *band_hz, rate_hz), frequency, rate_hz)
    return np.asarray(np.fft.ifft(one_sided * passed), dtype=np.complex128)
