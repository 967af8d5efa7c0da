"""Mains hum as it comes in: power at 50 and 60 Hz of each channel, before any filter, once a second."""

from __future__ import annotations

import numpy as np

from eegloop.signal import F64

LINE_HZ = (50.0, 60.0)
LINE_S = 1.0
_NEVER = 2**62  # no sample has come yet that belongs to what follows


class LineNoise:
    """Power at 50 and 60 Hz ± 1 Hz before all filters, once a second, from raw samples.

    The seconds lie end to end on the absolute grid and each is summed block by block with a Hann taper,
    which no electrode offset or slow drift leaks through.
    """

    def __init__(self, rate_hz: float, n_channels: int) -> None:
        self._n = max(2, round(LINE_S * rate_hz))
        self.lines_hz = tuple(f for f in LINE_HZ if f + 1 < rate_hz / 2)
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self._n) / self._n)
        frequency = np.array([f + d for f in self.lines_hz for d in (-1.0, 0.0, 1.0)])
        angle = 2 * np.pi * np.outer(np.arange(self._n), frequency) / rate_hz
        spacing = rate_hz / self._n
        scale = np.sqrt(2.0 * spacing / (rate_hz * float(np.sum(taper**2))))
        self._basis = np.hstack([np.cos(angle), np.sin(angle)]) * (scale * taper[:, np.newaxis])
        self._sum: F64 = np.zeros((n_channels, 2 * len(frequency)))
        self._part: F64 = np.zeros_like(self._sum)
        self._whole_from = _NEVER
        self.power_uv2: F64 = np.full((len(self.lines_hz), n_channels), np.nan)
        self.fresh = False

    def interrupted(self, sample: int) -> None:
        """Samples before `sample` do not belong to what follows."""
        self._whole_from = sample

    def add(self, first: int, x: F64) -> None:
        """Raw samples (n_channels, n) from absolute index `first` on."""
        if not self.lines_hz:
            return
        n, done = x.shape[1], 0
        while done < n:
            row = (first + done) % self._n
            take = min(n - done, self._n - row)
            if row == 0:
                self._sum[:] = 0.0
            np.matmul(x if take == n else x[:, done : done + take], self._basis[row : row + take], self._part)
            np.add(self._sum, self._part, self._sum)
            done += take
            if row + take == self._n:
                if first + done - self._n >= self._whole_from:
                    power = (self._sum**2).reshape(len(x), 2, len(self.lines_hz), 3).sum((1, 3))
                    self.power_uv2 = np.ascontiguousarray(power.T)
                else:
                    self.power_uv2 = np.full_like(self.power_uv2, np.nan)
                self.fresh = True
