"""The sample clock: from bursty time stamps (and a packet counter where there is one) to a sample grid with exact losses.

Pure and deterministic: it reads no clock, everything comes in with the samples. A stamp is never early, often late (bursts,
stalls), so the grid is a straight line under the stamps: the earliest stamp of each half second, fitted robustly.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from drivers.sources.clock_line import RATE_PRIOR, SMOOTH, fit_line, median
from eegloop.signal import F32, F64, Chunk

BLOCK_S = 0.5  # one stamp (the earliest) is kept from each block of this length
BLOCKS = 600  # 300 s of history: long enough for 1 ppm, short enough to follow a crystal that warms up
HOLD_S = 0.25  # a late delivery is held back this long (in stamps) until it is known whether samples are missing
SETTLE_S = 5.0  # before this age of a segment the rate is not yet known and thresholds are wider
REORDER = 16  # samples by which a packet may be overtaken by later ones
FUTURE_S = 0.5  # a stamp this far ahead of its own arrival is a clock that was set


@dataclass(frozen=True, slots=True)
class Counter:
    """How a device counts its samples.

    Attributes
    ----------
    modulus : int
        The counter runs 0 .. modulus - 1.
    step : int
        Counts between two consecutive samples.
    """

    modulus: int
    step: int = 1

    @property
    def period(self) -> int:
        """Samples after which the counter shows the same value again."""
        return self.modulus // self.step


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the sample clock knows.

    Attributes
    ----------
    rate_hz, drift_ppm : float
        Measured sample rate on the receiver's clock, and its distance from the nominal one.
    jitter_s : float
        How late deliveries have been lately (decaying maximum).
    uncertainty_s : float
        How far `Chunk.t0_s` may be off: the range over which the earliest stamps have wandered around the line in
        the last 300 s, plus the sender's clock offset. A delay common to all stamps cannot be seen from here.
    lost_samples, duplicates : int
        Missing samples so far; samples that came twice or too late to be used.
    """

    rate_hz: float
    drift_ppm: float
    jitter_s: float
    uncertainty_s: float
    lost_samples: int
    duplicates: int
    segment: int
    restart_reason: str


@dataclass(slots=True)
class _Piece:
    """Consecutive samples waiting to be placed; `lost` are those known to be missing before it."""

    data_uv: F32
    first_s: float
    last_s: float
    arrival_s: float
    lost: int


class SampleClock:
    """Places deliveries on the grid of one stream.

    Parameters
    ----------
    sample_rate_hz : float
        Nominal rate.
    counter : Counter, optional
        The device's packet counter; with it losses are exact, without it they are counted by the stamps.
    """

    def __init__(self, sample_rate_hz: float, counter: Counter | None = None) -> None:
        self.nominal_hz = sample_rate_hz
        self.counter = counter
        self.segment = 0
        self.restart_reason = ""
        self.lost_samples = 0
        self.duplicates = 0
        self.offset_uncertainty_s = 0.0  # set by the source: how well the sender's clock offset is known
        self._next = 0  # index of the next sample to be emitted
        self._period = 1.0 / sample_rate_hz
        self._started = False
        self._last_count: int | None = None
        self._last_count_s = 0.0
        self._held: list[_Piece] = []
        self._missing = 0  # samples found to be lost, to be declared before the next piece
        self._resume = False
        self._last_s = -math.inf  # stamp of the last sample that was emitted
        self._begin(0, 0.0)

    # ------------------------------------------------------------------ what is known

    @property
    def state(self) -> ClockState:
        rate = 1.0 / self._period
        return ClockState(
            rate, (rate / self.nominal_hz - 1.0) * 1e6, self._spread, self.uncertainty_s,
            self.lost_samples, self.duplicates, self.segment, self.restart_reason,
        )  # fmt: skip

    @property
    def uncertainty_s(self) -> float:
        return self._wander + (self._spread if len(self._block_k) < 2 * SMOOTH else 0.0) + self.offset_uncertainty_s

    @property
    def next_sample(self) -> int:
        """Index of the sample that will be placed next."""
        return self._next

    def time_of(self, sample: int) -> float:
        """LSL seconds of a sample by the present line."""
        return self._t0 + (sample - self._k0) * self._period

    def expected_s(self, n: int) -> float:
        """Where the last of the next `n` samples would stand if nothing is missing; -inf before the first."""
        if not self._started:
            return -math.inf
        held = self._missing + sum(p.lost + len(p.data_uv) for p in self._held)
        return self.time_of(self._next + held + n - 1)

    # ------------------------------------------------------------------ feeding

    def feed(self, data_uv: F32, stamps_s: F64, arrival_s: float, counts: NDArray[np.int64] | None = None) -> list[Chunk]:
        """Place one delivery; returns what is certain now (nothing while a late delivery is held back).

        Parameters
        ----------
        data_uv : (n, n_channels) float32
        stamps_s : (n,) float64
            Stamp of each sample on the receiver's LSL clock.
        arrival_s : float
            When the delivery was in hand.
        counts : (n,) int64, optional
            Packet counter of each sample; ignored unless the clock was built with a `Counter`.
        """
        n = len(stamps_s)
        if n == 0:
            return []
        last = float(stamps_s[-1])
        if not self._started:
            self._started = True
            self._begin(self._next + n - 1, last)
        elif self._resume:
            self._rejoin(n, last, arrival_s)
        unit = self.counter.period if counts is not None and self.counter is not None else 1
        if n > 1 and last - float(stamps_s[0]) > (n - 1) * self._period + self._threshold(unit):
            cut = int(np.argmax(np.diff(stamps_s))) + 1  # the hole is inside this delivery
            return [
                *self.feed(data_uv[:cut], stamps_s[:cut], arrival_s, counts[:cut] if counts is not None else None),
                *self.feed(data_uv[cut:], stamps_s[cut:], arrival_s, counts[cut:] if counts is not None else None),
            ]
        if counts is not None and self.counter is not None:
            return self._feed_counted(data_uv, stamps_s, arrival_s, counts, self.counter)
        return self._take(_Piece(data_uv, float(stamps_s[0]), last, arrival_s, 0), 1)

    def flush(self) -> list[Chunk]:
        """Emit what is held back (the link was lost, so nothing will resolve it)."""
        return self._release(0)

    def new_segment(self, reason: str) -> None:
        """The sender started anew: the next delivery opens a segment, its hole counted if the clock went on."""
        if self._started:
            self._resume = True
            self.restart_reason = reason
            self._last_count = None

    # ------------------------------------------------------------------ counters

    def _feed_counted(
        self, data_uv: F32, stamps_s: F64, arrival_s: float, counts: NDArray[np.int64], counter: Counter
    ) -> list[Chunk]:
        n = len(counts)
        before = self._last_count
        if before is None:
            before = int(counts[0]) - counter.step
        if (int(counts[-1]) - before) % counter.modulus == (n * counter.step) % counter.modulus and bool(
            (np.diff(counts) % counter.modulus == counter.step % counter.modulus).all()
        ):
            self._last_count, self._last_count_s = int(counts[-1]), float(stamps_s[-1])
            return self._take(_Piece(data_uv, float(stamps_s[0]), float(stamps_s[-1]), arrival_s, 0), counter.period)
        out: list[Chunk] = []
        for start, stop, lost in self._runs(counts, stamps_s, before, counter):
            out += self._take(
                _Piece(data_uv[start:stop], float(stamps_s[start]), float(stamps_s[stop - 1]), arrival_s, lost), counter.period
            )
        return out

    def _runs(self, counts: NDArray[np.int64], stamps_s: F64, before: int, counter: Counter) -> list[tuple[int, int, int]]:
        """Cut a delivery where the counter is not consecutive: (start, stop, samples lost before); repeats are left out."""
        runs: list[tuple[int, int, int]] = []
        when = self._last_count_s if self._last_count is not None else float(stamps_s[0])
        for i, (count, stamp) in enumerate(zip(counts.tolist(), stamps_s.tolist(), strict=True)):
            steps = ((count - before) % counter.modulus) // counter.step
            if steps != 1:
                # A repeated or overtaken packet shows as a jump of nearly a whole turn that time does not confirm.
                turn = steps or counter.period
                if turn >= counter.period - REORDER and stamp - when < 0.5 * turn * self._period:
                    self.duplicates += 1
                    continue
                steps = turn
            if runs and steps == 1 and runs[-1][1] == i:
                runs[-1] = (runs[-1][0], i + 1, runs[-1][2])
            else:
                runs.append((i, i + 1, steps - 1))
            before, when = count, stamp
        self._last_count, self._last_count_s = before, when
        return runs

    # ------------------------------------------------------------------ placing

    def _take(self, piece: _Piece, unit: int) -> list[Chunk]:
        """Place a piece or hold it; `unit` is the number of samples by which a loss is uncertain (1, or a counter's turn)."""
        if self._held and self._fills_the_hole(piece):
            self._held.insert(0, piece)
            return self._release(0)
        ahead = self._missing + (sum(p.lost + len(p.data_uv) for p in self._held) if self._held else 0)
        index = self._next + ahead + piece.lost + len(piece.data_uv) - 1
        late = piece.last_s - self.time_of(index)
        limit = self._threshold(unit)
        if late > limit:
            if piece.last_s > piece.arrival_s + FUTURE_S:
                return self._restart(piece, "the sender's clock jumped ahead")
            self._held.append(piece)
            if piece.last_s - self._held[0].last_s < HOLD_S:
                return []
            return self._release(unit)
        if late < -self._back():
            return self._restart(piece, "the sender's clock went backwards")
        if not self._held:
            return [self._emit(piece, False)]
        self._held.append(piece)
        return self._release(0)

    def _fills_the_hole(self, piece: _Piece) -> bool:
        """A delivery that was overtaken: it fits exactly between what was emitted last and what is held back."""
        near = 0.5 * self._period
        after_last = abs(piece.first_s - self._last_s - self._period) < near
        return after_last and abs(self._held[0].first_s - piece.last_s - self._period) < near and piece.lost == 0

    def _release(self, unit: int) -> list[Chunk]:
        """Emit all held pieces; with a unit, what they are late by is loss."""
        held, self._held = self._held, []
        if not held:
            return []
        stalled = len(held) > 1
        if unit:
            index, lates = self._next + self._missing - 1, []
            for piece in held:
                index += piece.lost + len(piece.data_uv)
                lates.append(piece.last_s - self.time_of(index))
            held[0].lost += unit * max(round(_floor(lates) / (unit * self._period)), 0)
            stalled = False
        return [self._emit(piece, stalled and piece is not held[-1]) for piece in held]

    def _emit(self, piece: _Piece, stalled: bool) -> Chunk:
        """Place a piece for good; what `stalled` says nothing about the line."""
        lost, self._missing = piece.lost + self._missing, 0
        first = self._next + lost
        chunk = Chunk(piece.data_uv, first, self._out(first), piece.arrival_s, lost, self.segment)
        self.lost_samples += lost
        self._next = first + len(piece.data_uv)
        self._last_s = piece.last_s
        self._learn(self._next - 1, piece.last_s, stalled)
        return chunk

    def _restart(self, piece: _Piece, reason: str) -> list[Chunk]:
        out = self._release(0)
        self.restart_reason = reason
        self.segment += 1
        self._begin(self._next + len(piece.data_uv) - 1, piece.last_s)
        self._held.append(piece)
        return out + self._release(0)

    def _rejoin(self, n: int, last_s: float, arrival_s: float) -> None:
        """First delivery after `new_segment`: a hole if the stamps went on, none if the clock started anew."""
        self._resume = False
        late = last_s - self.time_of(self._next + n - 1)
        self.segment += 1
        if late > 0.0 and last_s < arrival_s + FUTURE_S:
            self._missing += round(late / self._period)
        self._begin(self._next + self._missing + n - 1, last_s)

    def _step(self) -> None:
        """Find a loss that hid in the bursts: the blocks' floor rose in one step and stayed (a wandering link rises slowly)."""
        recent = self._recent
        if self.counter is not None or len(recent) < recent.maxlen or self._age_s < SETTLE_S:  # type: ignore[operator]
            return
        late = list(recent)  # so few numbers are quicker by themselves than as arrays
        half = len(late) // 2
        before, after = late[:half], late[half:]
        rise = (sum(after) - sum(before)) / half
        distances = sorted([abs(b - a) for a, b in pairwise(late)])
        noise = distances[len(distances) // 2] * 1.05  # 1.4826 / sqrt(2): of one block
        # A floor that slopes on either side is the beat of bursts against samples, not a loss.
        slope = [i - (half - 1) / 2 for i in range(half)]
        steepest = max(abs(sum(map(operator.mul, slope, part))) for part in (before, after))
        trend = steepest / sum(x * x for x in slope) * half
        if trend > 0.25 * self._period + 0.5 * noise:
            return
        missing = round(rise / self._period)
        if missing >= 1 and rise > 0.6 * self._period + 3.0 * noise * (2.0 / half) ** 0.5:
            self._missing += missing
            for i in range(1, half + 1):  # these blocks lie behind the loss already
                self._block_k[-i] += missing
            recent.clear()
            self._fit()

    # ------------------------------------------------------------------ the line

    def _begin(self, index: int, stamp_s: float) -> None:
        self._k0, self._t0 = index, stamp_s
        self._first_k = index
        self._block_k: deque[int] = deque(maxlen=BLOCKS)
        self._block_t: deque[float] = deque(maxlen=BLOCKS)
        self._block_end = index + BLOCK_S * self.nominal_hz
        self._burst: tuple[float, int, float] | None = None  # (late, index, stamp) of the newest piece
        self._best: tuple[float, int, float] | None = None
        self._second = float("inf")
        self._bias: deque[float] = deque(maxlen=60)
        self._since_fit = 0
        self._recent: deque[float] = deque(maxlen=16)
        self._spread = 0.02  # s; unknown yet, learned within seconds
        self._scatter = 0.001
        self._wander = 0.001
        self._age_s = 0.0
        self._out_next: tuple[int, float] | None = None

    def _threshold(self, unit: int) -> float:
        young = RATE_PRIOR * min(self._age_s, SETTLE_S) if self._age_s < SETTLE_S else 0.0
        limit = max(0.75 * self._period, 2.0 * self._spread + 0.25 * self._period, 5.0 * self._scatter) + young
        return limit if unit == 1 else max(limit, 0.5 * unit * self._period)

    def _back(self) -> float:
        return max(0.1, 3.0 * self._spread + 2.0 * self._period) + (0.4 if self._age_s < SETTLE_S else 0.0)

    def _learn(self, index: int, stamp_s: float, stalled: bool) -> None:
        late = stamp_s - self.time_of(index)
        elapsed = (index - self._first_k) * self._period - self._age_s
        self._age_s += max(elapsed, 0.0)
        self._spread = max(min(late, 0.1), self._spread * (1.0 - min(elapsed, 1.0) / 10.0))
        if stalled:
            return  # says nothing about the line
        if late < 0.0 and self._age_s < 1.0:
            self._t0 += late  # the first second has no fit yet: stay under the earliest stamp
            late = 0.0
        burst, self._burst = self._burst, (late, index, stamp_s)
        # What came at once came late but for its newest sample: only that one speaks for the burst.
        if burst is not None and stamp_s - burst[2] >= 0.25 * (index - burst[1]) * self._period:
            self._consider(*burst)

    def _consider(self, late: float, index: int, stamp_s: float) -> None:
        if self._best is None or late < self._best[0]:
            self._second = self._best[0] if self._best is not None else float("inf")
            self._best = (late, index, stamp_s)
        elif late < self._second:
            self._second = late
        if index >= self._block_end:
            self._close_block(index)

    def _close_block(self, index: int) -> None:
        assert self._best is not None
        late, k, t = self._best
        self._block_k.append(k)
        self._block_t.append(t)
        self._recent.append(late)
        if self._second < float("inf"):
            self._bias.append(self._second - late)
        self._best, self._second = None, float("inf")
        self._block_end = index + BLOCK_S * self.nominal_hz
        self._since_fit += 1
        self._step()
        if self._since_fit >= max(1, len(self._block_k) // 20) and len(self._block_k) >= 2:
            self._fit()

    def _fit(self) -> None:
        """Robust straight line through the blocks' earliest stamps, held near the nominal rate while they are few.

        The earliest of n late stamps is still late, on average by the distance of the two earliest (exact for
        uniform delays, near for exponential ones: Quenouille's correction), so the line is lowered by it. Where the
        floor itself goes up and down (bursts that beat against the samples, a wandering link) the line is lowered to its bottom.
        """
        self._since_fit = 0
        line = fit_line(self._block_k, self._block_t, 1.0 / self.nominal_hz, self._period)
        self._k0, self._t0, self._period = line.sample, line.time_s, line.period_s
        self._scatter, self._wander = line.scatter_s, line.wander_s
        if line.beats:
            self._t0 += line.bottom_s
        elif self._bias:
            self._t0 -= median(np.array(self._bias)) / math.log(2.0)

    def _out(self, sample: int) -> float:
        """Time given out for a sample: the line, approached slowly so that times never run backwards."""
        wanted = self.time_of(sample)
        if self._out_next is not None:
            k, t = self._out_next
            passed = max(sample - k, 1) * self._period
            expected = t + (sample - k) * self._period
            slew = (0.2 if self._age_s < SETTLE_S else 0.02) * passed
            wanted = expected + min(max(wanted - expected, -slew), slew)
        self._out_next = (sample, wanted)
        return wanted


def _floor(lates_s: list[float]) -> float:
    """Where the lower edge of a handful of delays lies: the earliest, less its distance to the second."""
    if len(lates_s) < 3:
        return min(lates_s)
    first, second = sorted(lates_s)[:2]
    return 2.0 * first - second
