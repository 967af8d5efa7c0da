"""Samples that cannot be brain: non-finite, absurd, or single-sample glitches; made harmless before any filter sees them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegloop.signal import F64, Bool

# Ten volts: beyond any amplifier's rail, electrode offset or headset glitch (the EPOC's reach 0.7 V).
ABSURD_UV = 1e7
_OUT = 2**40


def plausible(values_uv: NDArray[np.floating]) -> F64:
    """The values as float64, NaN where they are no signal."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values_uv) <= ABSURD_UV, values_uv, np.nan).astype(np.float64)


class Mended(NamedTuple):
    """What was done to a piece.

    `replaced` counts the replaced samples a channel, (n_channels,) int64. `returns` lists, in order of time,
    (offset, channels) where channels come back after more than a bridgeable loss: their filters start anew
    there. `out` marks channels that are gone at the end of the piece, `glitched` those in which a value was there
    but jumped off alone.
    """

    replaced: NDArray[np.int64]
    returns: list[tuple[int, Bool]]
    out: Bool
    glitched: Bool


class Repair:
    """Follows every channel's last good value across pieces.

    A lost value is interpolated linearly where the next good one lies in the same piece, else the last good
    one is held: the result depends on the absolute block grid only. A loss longer than `longest_run`
    samples takes the channel out until a good value returns; other channels never notice. When a quarter of
    the channels (at least two) glitch in one sample, the sample itself is taken as corrupt in all of them.
    """

    def __init__(self, n_channels: int, longest_run: int, glitch_uv: float | None) -> None:
        self._longest_run = longest_run
        self._glitch_uv = glitch_uv
        self._last: F64 = np.zeros(n_channels)
        self._run = np.full(n_channels, _OUT, dtype=np.int64)
        self._quarter = max(2, -(-n_channels // 4))
        self.pending = True
        self.calm_uv = ABSURD_UV if glitch_uv is None else min(glitch_uv, ABSURD_UV)

    def restart(self) -> None:
        """The stream was interrupted: every channel is out until its first good value."""
        self._run[:] = _OUT
        self.pending = True

    @property
    def last_uv(self) -> F64:
        """The newest accepted values, NaN for channels in a loss."""
        return np.where(self._run > 0, np.nan, self._last)

    def accept(self, last_uv: F64) -> None:
        """A piece needed no mending; these are its last values."""
        self._last[:] = last_uv

    def mend(self, x: F64) -> Mended:
        """Replace bad values of a piece (n_channels, n) in place."""
        n = x.shape[1]
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(x) <= ABSURD_UV)
        glitched: Bool = np.zeros(len(x), dtype=np.bool_)
        if self._glitch_uv is not None:
            glitches = self._glitches(x, bad, self._glitch_uv)
            glitched = np.asarray((glitches & ~bad).any(1), dtype=np.bool_)
            bad |= glitches
        returns: dict[int, Bool] = {}
        for channel in np.flatnonzero(bad.any(1) | (self._run > 0)):
            for offset in self._fill(x[channel], bad[channel], int(channel)):
                returns.setdefault(offset, np.zeros(len(x), dtype=np.bool_))[channel] = True
        calm = ~bad[:, -1]
        self._last[calm] = x[calm, n - 1]
        out = self._run > self._longest_run
        self.pending = bool((self._run > 0).any())
        return Mended(bad.sum(1), sorted(returns.items(), key=lambda item: item[0]), out, glitched)

    def _glitches(self, x: F64, bad: Bool, limit_uv: float) -> Bool:
        """Single samples that jump off by more than the limit and come back; a jump in the last sample counts until disproved."""
        before = np.column_stack([np.where(self._run >= self._longest_run, np.nan, self._last), np.where(bad, np.nan, x)])
        with np.errstate(invalid="ignore"):
            jump = np.abs(np.diff(before)) > limit_uv
            found = jump.copy()
            found[:, :-1] &= jump[:, 1:] & (np.abs(before[:, 2:] - before[:, :-2]) < limit_uv)
        corrupt = found.sum(0) >= self._quarter
        if corrupt.any():
            found[:, corrupt] = True
        return found

    def _fill(self, x: F64, bad: Bool, channel: int) -> list[int]:
        """Mend one channel; returns the offsets at which it comes back from a long loss.

        All runs of bad values at once: a faulty source may send every second one, on every channel.
        """
        run, last, n = int(self._run[channel]), float(self._last[channel]), len(x)
        back = [0] if run > self._longest_run and not bad[0] else []
        edges = np.flatnonzero(np.diff(bad, prepend=False, append=False))
        starts, stops = edges[::2], edges[1::2]
        if not starts.size:
            self._run[channel] = 0
            return back
        lengths = stops - starts
        runs = lengths.copy()
        before = x[starts - 1]
        if starts[0] == 0:
            runs[0] += run
            before[0] = last
        returns = stops < n
        way = np.where(returns & (runs <= self._longest_run), x[np.minimum(stops, n - 1)] - before, 0.0)
        before[runs >= _OUT] = 0.0
        place = np.arange(1, int(lengths.sum()) + 1) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        x[bad] = np.repeat(before, lengths) + np.repeat(way, lengths) * place / np.repeat(lengths + 1, lengths)
        self._run[channel] = runs[-1] if bad[-1] else 0
        returned: list[int] = stops[returns & (runs > self._longest_run)].tolist()
        return back + returned
