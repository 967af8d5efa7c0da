"""Corrections of filtered blocks, all off by default: blinks by regression, artifact subspaces, what mains are left.

Each works on whole blocks of the absolute grid with nothing but past and present samples, so no result depends on chunks. What was
changed is told, and values made of it are suspect: a correction is a better guess, not a measurement.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from dsp.asr import ArtifactSubspace
from dsp.eyes import frontal
from dsp.window import Grid, SampleRing
from eegloop.line import CorrectionSettings
from eegloop.signal import F64, Bool, StreamInfo

# A change this small next to EEG of 10 µV is not worth a flag.
TOLD_UV = 1.0
BLINK_BLOCKS = 60  # the newest blocks with a blink in them from which its spread is learned
BLINK_BLOCKS_LEAST = 12  # about four blinks
LINE_S = 1.0
_MAINS_WITHIN_HZ = 1.0  # a grid further off is no grid


class BlinkRegression:
    """Takes out of every EEG channel its share of what the eyes' channels hold above `least_uv`.

    The eyes' signal is the mean of the EOG channels, or of the frontmost electrodes where there are none. Its part within
    ±`least_uv` may be brain and stays. The shares are the least-squares slopes over the newest blink blocks.
    """

    def __init__(self, info: StreamInfo, eeg: Bool, least_uv: float) -> None:
        eog = [i for i, kind in enumerate(info.kinds) if kind == "eog"]
        self._reference = np.array(eog or frontal(info), dtype=np.intp)
        self._least_uv = least_uv
        self._targets = eeg
        self._blocks: deque[tuple[F64, float]] = deque(maxlen=BLINK_BLOCKS)

    def apply(self, x: F64) -> F64 | None:
        """Correct a block (n_channels, n) in place; returns the largest change a channel, None if there was none."""
        if not self._reference.size:
            return None
        eyes = x[self._reference].mean(0)
        excess = np.sign(eyes) * np.maximum(np.abs(eyes) - self._least_uv, 0.0)
        if not excess.any():
            return None
        known = len(self._blocks) >= BLINK_BLOCKS_LEAST
        shares = self._shares() if known else None
        self._blocks.append((x @ eyes, float(eyes @ eyes)))
        if shares is None:
            return None
        removed = np.where(self._targets, shares, 0.0)[:, np.newaxis] * excess
        x -= removed
        return np.asarray(np.abs(removed).max(1), dtype=np.float64)

    def _shares(self) -> F64:
        return np.asarray(np.sum([with_eyes for with_eyes, _ in self._blocks], axis=0), dtype=np.float64) / sum(
            power for _, power in self._blocks
        )


class LineTracker:
    """Takes out the mains by their own amplitude, phase and frequency: a sinusoid fitted to the last second, block by block.

    The frequency follows the grid: from the phase that one second's fit has moved against the last one's.
    """

    def __init__(self, grid: Grid, n_channels: int, mains_hz: float) -> None:
        self._rate_hz = grid.rate_hz
        self._n = max(8, round(LINE_S * grid.rate_hz))
        self._ring = SampleRing(n_channels, self._n)
        self._nominal_hz = mains_hz
        self._blocks_a_second = max(1, round(grid.rate_hz / float(grid.block_length)))
        self.restart()

    def restart(self) -> None:
        self._since = 0
        self._last: tuple[int, complex] | None = None
        self._tune(self._nominal_hz)

    def _tune(self, hz: float) -> None:
        self.hz = hz
        angle = 2 * np.pi * hz * np.arange(-self._n + 1, 1) / self._rate_hz
        basis = np.column_stack([np.cos(angle), -np.sin(angle)])
        self._basis: F64 = basis.T.copy()
        self._fit: F64 = np.linalg.pinv(np.column_stack([basis, np.ones(self._n)]))[:2].T.copy()

    def apply(self, block: int, end: int, x: F64) -> F64 | None:
        """Correct a block that ends at absolute sample `end` in place; returns the largest change a channel."""
        n = x.shape[1]
        self._ring.append(x, end)
        self._since += n
        if self._since < self._n:
            return None
        coefficients = self._ring.window(self._n) @ self._fit
        removed = coefficients @ self._basis[:, -n:]
        if block % self._blocks_a_second == 0:
            self._follow(end, coefficients)
        x -= removed
        return np.asarray(np.hypot(coefficients[:, 0], coefficients[:, 1]), dtype=np.float64)

    def _follow(self, end: int, coefficients: F64) -> None:
        phasors = coefficients[:, 0] + 1j * coefficients[:, 1]
        strongest = complex(phasors[int(np.argmax(np.abs(phasors)))])
        if self._last is not None:
            before, phasor = self._last
            seconds = (end - before) / self._rate_hz
            turned = strongest * np.conj(phasor) * np.exp(-2j * np.pi * self.hz * seconds)
            if seconds <= 1.5 * LINE_S and abs(turned) > 0:
                hz = self.hz + 0.5 * float(np.angle(turned)) / (2 * np.pi * seconds)
                self._tune(min(max(hz, self._nominal_hz - _MAINS_WITHIN_HZ), self._nominal_hz + _MAINS_WITHIN_HZ))
        self._last = (end, strongest)


class Correction:
    """The configured corrections in their order: mains, blinks, artifact subspaces."""

    def __init__(self, info: StreamInfo, settings: CorrectionSettings, grid: Grid, eeg: Bool) -> None:
        c = info.n_channels
        self._none: Bool = np.zeros(c, dtype=np.bool_)
        mains_hz = settings.track_line_hz
        fits = mains_hz is not None and mains_hz + 2 < info.sample_rate_hz / 2
        self._line = LineTracker(grid, c, float(mains_hz)) if mains_hz is not None and fits else None
        self._blinks = None if settings.blink_above_uv is None else BlinkRegression(info, eeg, settings.blink_above_uv)
        self._subspace = None
        if settings.subspace_cutoff is not None and int(eeg.sum()) >= 3:
            self._subspace = ArtifactSubspace(grid, eeg, settings.subspace_cutoff, settings.subspace_calibration_s)
        self.active = self._blinks is not None or self._subspace is not None

    @property
    def tracks(self) -> bool:
        """Mains are followed and taken out."""
        return self._line is not None

    def take_mains(self, block: int, end: int, x: F64, unbroken: bool) -> Bool:
        """Take what mains are left out of a filtered block (n_channels, n) in place; the channels they were taken out of.

        Before anything is looked for in the block: mains are steep enough for muscle. `unbroken`: it goes on from the last one.
        """
        if self._line is None:
            return self._none
        if not unbroken:
            self._line.restart()
        size = self._line.apply(block, end, x)
        return self._none if size is None else size > TOLD_UV

    def restart(self) -> None:
        """The samples that follow do not go on from the last ones; what was learned stays."""
        if self._subspace is not None:
            self._subspace.restart()

    def apply(self, x: F64, clean: bool) -> Bool:
        """Correct a filtered block (n_channels, n) in place; the channels whose values that has changed. `clean`: no artifact was found in it."""
        values = self._none
        if self._blinks is not None and (size := self._blinks.apply(x)) is not None:
            values = values | (size > TOLD_UV)
        if self._subspace is not None and (size := self._subspace.apply(x, clean)) is not None:
            values = values | (size > TOLD_UV)
        return values
