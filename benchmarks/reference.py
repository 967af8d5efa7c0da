"""What careful hand-written NumPy and SciPy do for the band powers: the bar the line is measured against.

One `sosfilt` over all channels a chunk, one `rfft` over all channels a hop, one matrix product for the bands.
`tests/unit/test_dsp_benchmark.py` checks it against the independent `scipy_floor` of the shared bench folder.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, iirnotch, sosfilt, sosfilt_zi, tf2sos

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 45)}
CHUNK_S, HOP_S, WINDOW_S = 0.02, 0.1, 1.0

F64 = NDArray[np.float64]


def stream(n_channels: int, rate_hz: int, seconds: float, seed: int = 7) -> F64:
    """(n_samples, n_channels) µV: pink noise of 10 µV, 10 Hz of 8 µV, 50 Hz mains of 5 µV."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate_hz)
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / rate_hz), rate_hz / n)
    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, n_channels)), axis=0) / np.sqrt(frequency)[:, np.newaxis], n, axis=0)
    pink *= 10 / pink.std()
    t = np.arange(n)[:, np.newaxis] / rate_hz
    x = pink + 8 * np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6, n_channels)) + 5 * np.sin(2 * np.pi * 50 * t)
    return np.asarray(x, dtype=np.float32).astype(np.float64)


class Reference:
    """Give it chunks of (n, n_channels) float64; `step` returns the (5, n_channels) powers at the end of a hop, else None.

    `taper` and `from_rest` choose what differs between the shared bench's floor (symmetric Hann, filters that start
    at zero) and the line (periodic Hann, filters that start at the first sample's level); the cost is the same.
    """

    def __init__(self, n_channels: int, rate_hz: float, taper: F64 | None = None, from_rest: bool = False) -> None:
        self._sos = np.vstack([butter(2, [1, 45], "bandpass", fs=rate_hz, output="sos"), tf2sos(*iirnotch(50, 30, fs=rate_hz))])
        n = int(WINDOW_S * rate_hz)
        self._chunk, self._hop = int(CHUNK_S * rate_hz), int(HOP_S * rate_hz)
        self._zi = np.zeros((len(self._sos), 2, n_channels))
        self._started = from_rest
        self._ring = np.zeros((n, n_channels))
        weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) if taper is None else taper
        self._taper = weights[:, np.newaxis]
        frequency = np.fft.rfftfreq(n, 1 / rate_hz)
        scale = 2 / (rate_hz * (weights**2).sum()) * (frequency[1] - frequency[0])
        self._bands = np.stack([((frequency >= low) & (frequency < high)) * scale for low, high in BANDS.values()])
        self._since = 0

    def step(self, chunk: F64) -> F64 | None:
        if not self._started:
            self._started = True
            self._zi = sosfilt_zi(self._sos)[:, :, np.newaxis] * chunk[0]
        filtered, self._zi = sosfilt(self._sos, chunk, axis=0, zi=self._zi)
        k = self._chunk
        self._ring[:-k] = self._ring[k:]
        self._ring[-k:] = filtered
        self._since += k
        if self._since < self._hop:
            return None
        self._since -= self._hop
        spectrum = np.fft.rfft(self._ring * self._taper, axis=0)
        return np.asarray(self._bands @ (spectrum.real**2 + spectrum.imag**2), dtype=np.float64)
