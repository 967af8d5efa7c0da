"""Magnetic pulses: their samples are cut out before any filter, and the amplifier's recovery behind the cut is waited for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dsp.filters import settle_samples
from eegloop.line import CorrectionSettings
from eegloop.signal import F64, Bool

# What is discarded at least after a pulse: amplifiers of portable headsets need it, and the brain's own answer is no rest (biomarkers.md section 4).
RECOVERY_S = 1.0
# Signal moves by this much across a cut of 17 ms by itself; what is more is a recovery that the cut has not outlasted, µV.
_LEAST_JUMP_UV = 32.0


class Pulses:
    """Which samples of a block a pulse has spoilt, and from which sample on windows are free of it.

    The level right after a cut against that right before it tells how far the amplifier still is from where it was. Filters remember a jump
    of that size for a time that is measured on them (`settle_samples`); a tail that is faster than theirs is gone by then.
    """

    def __init__(self, settings: CorrectionSettings, rate_hz: float, sos: F64) -> None:
        self._sos = sos
        self.before = math.ceil(settings.pulse_before_ms * rate_hz / 1000 - 1e-9)
        self.after = math.ceil(settings.pulse_after_ms * rate_hz / 1000 - 1e-9)
        self.recovery = math.ceil(RECOVERY_S * rate_hz)
        self._due: list[int] = []
        self._level: F64 | None = None  # of the last sample before the cut that the newest block ended in
        self._settle: dict[int, int] = {}

    @property
    def active(self) -> bool:
        """A pulse is to come, or what follows one."""
        return bool(self._due) or self._level is not None

    def expect(self, sample: int) -> None:
        """A pulse falls on this absolute sample."""
        self._due.append(sample)

    def expected(self, sample: int) -> bool:
        return sample in self._due

    def cut(self, raw: F64, start: int, last_uv: F64, unbroken: bool) -> tuple[int, NDArray[np.int64] | None]:
        """Make the touched samples of raw (n_channels, n), from absolute index `start` on, NaN.

        Parameters
        ----------
        last_uv : (n_channels,) float64
            The newest values before this block; NaN where there are none.
        unbroken : bool
            Every sample of the block is signal; in a broken one the filters start anew, and levels say nothing.

        Returns
        -------
        (n_cut, free_from)
            `free_from` (n_channels,): windows that begin earlier are not free of what follows the pulse; None if there is nothing new.
        """
        n = raw.shape[1]
        touched: Bool = np.zeros(n + 1, dtype=np.bool_)
        for sample in self._due:
            first, end = max(0, sample - self.before - start), min(n, sample + self.after - start)
            if first < end:
                touched[first:end] = True
        self._due = [sample for sample in self._due if sample + self.after > start + n]
        free_from: NDArray[np.int64] | None = None
        level = self._level if unbroken else None
        if level is None:
            level = last_uv
        in_cut = unbroken and self._level is not None
        for i in range(n):
            if touched[i]:
                if not in_cut and i > 0:
                    level = raw[:, i - 1].copy()
                in_cut = True
                free = np.full(len(raw), start + i + 1 + self.recovery)
            elif in_cut:
                in_cut = False
                settled = self._settled(raw[:, i] - level) if unbroken else 0
                free = start + i + np.maximum(self.recovery, settled) + np.zeros(len(raw), dtype=np.int64)
            else:
                continue
            free_from = free if free_from is None else np.maximum(free_from, free)
        self._level = level.copy() if in_cut else None
        raw[:, touched[:n]] = np.nan
        return int(np.count_nonzero(touched)), free_from

    def _settled(self, jump_uv: F64) -> NDArray[np.int64]:
        """Samples until the filters have forgotten each channel's jump, up to the next power of two."""
        size = np.nan_to_num(np.abs(jump_uv), nan=0.0, posinf=0.0)
        return np.array([self._samples(float(uv)) if uv > _LEAST_JUMP_UV else 0 for uv in size], dtype=np.int64)

    def _samples(self, jump_uv: float) -> int:
        power = math.ceil(math.log2(jump_uv))
        if power not in self._settle:
            self._settle[power] = settle_samples(self._sos, 2.0**power)
        return self._settle[power]
