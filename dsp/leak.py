"""What an artifact on some channels does to others: through the reference that is made of them, it is in those too."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dsp.artifacts import BLINK_BEFORE_S, Finding
from dsp.codes import OF_THE_BODY, Code
from dsp.window import Grid
from eegloop.line import QualitySettings
from eegloop.signal import F64, Bool

# What is told late of a block that is past: a look at the eyes needs some tenths of a second.
KEPT_S = 1.5 + BLINK_BEFORE_S
# µV that reach another channel and are no more than its own slow waves vary by; above it, what is made of slow frequencies is not good.
SMALL_UV = 10.0
# Without a limit for blinks, this is large: no value of a window that holds it is good.
LARGE_UV = 30.0
# Share of the muscles' limit, as RMS of sample-to-sample steps, that would double a quiet channel's beta.
FAST_SHARE = 1 / 3
_MUSCLE = frozenset({Code.JAW_MUSCLE, Code.NECK_MUSCLE})
_EYES = frozenset({Code.BLINK, Code.EYE_MOVEMENT})


class _Block(NamedTuple):
    """A block as the reference took it: its samples (n_channels, n), and the maps before and after it."""

    number: int
    x: F64
    before: F64
    after: F64


class Leak:
    """Keeps the newest blocks as they went into the reference, and says which channels share which marks.

    A channel in front under an average reference gives its blink, divided by the number of channels and upside down, to those behind;
    an electrode that pops gives its pop to the neighbors whose Laplacian it is part of.
    """

    def __init__(self, settings: QualitySettings, grid: Grid, eeg: Bool) -> None:
        self._eeg, self._grid = eeg, grid
        self._large_uv = settings.blink_uv if settings.blink_uv is not None else LARGE_UV
        self._fast_uv = (settings.muscle_uv or np.inf) * FAST_SHARE
        self._per_sample = grid.rate_hz / 250.0  # steepness is stated per 4 ms
        self._blocks: deque[_Block] = deque(maxlen=max(1, round(KEPT_S * grid.rate_hz / float(grid.block_length))))

    def restart(self) -> None:
        """What was kept does not go on."""
        self._blocks.clear()

    def take(self, block: int, x: F64, before: F64, after: F64) -> None:
        """A block (n_channels, n) as the reference was made of it, by the map before and after; kept as it is."""
        self._blocks.append(_Block(block, x, before, after))

    def findings(self, found: Sequence[Finding], loud: Bool, moving: Bool) -> Iterator[Finding]:
        """The marks that other channels share.

        Parameters
        ----------
        found : sequence of Finding
            What this block's look has found, also in blocks that are past.
        loud : (n_channels,) bool
            Channels too large for any cause in the newest block.
        moving : (n_channels,) bool
            Channels that are leaving the reference: they stand still, but what they stood at fades.
        """
        newest = self._blocks[-1]
        held = (loud | moving) & self._eeg
        if held.any():
            yield from self._shared(newest, held, Code.REFERENCE_FAULT)
        for finding in found:
            code = finding.code if finding.code in OF_THE_BODY else Code.REFERENCE_FAULT
            for kept in self._blocks:
                if finding.first <= kept.number <= finding.last:
                    yield from self._shared(kept, finding.channels & self._eeg, code, finding.only == "perhaps")

    def _shared(self, kept: _Block, source: Bool, code: Code, perhaps: bool = False) -> Iterator[Finding]:
        others = self._eeg & ~source
        heavier = np.where(np.abs(kept.before) >= np.abs(kept.after), kept.before, kept.after)
        part = heavier[:, source] @ kept.x[source]
        part[~others] = 0.0
        block = kept.number
        if code not in _MUSCLE:
            peak = np.abs(part).max(1, initial=0.0)
            some = peak > SMALL_UV
            if some.any():
                large = peak > self._large_uv
                yield Finding(code, block, block, some, spoils=False, only="perhaps" if perhaps else "slow")
                if large.any() and not perhaps:
                    yield Finding(code, block, block, large, spoils=True)
        if code not in _EYES and part.shape[1] > 1:
            steps = np.diff(part, axis=1)
            rms = np.sqrt(np.vecdot(steps, steps) / steps.shape[1]) * self._per_sample
            fast = rms > self._fast_uv
            if fast.any():
                yield Finding(code, block, block, fast, spoils=False, only="fast")
                strong = rms > 3 * self._fast_uv
                if strong.any():
                    yield Finding(code, block, block, strong, spoils=False)
