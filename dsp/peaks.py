"""Peaks that stand out of a look at the frontal electrodes, and the sign that a person's blinks have in it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from dsp.background import Background
from eegloop.signal import F64

# A peak below the limit may be a small blink: electrodes taken for ears see some of it, an average reference takes some off, and the
# frontmost of a small montage see less than the forehead does. It is no blink that anybody is told of, but what is made of slow
# frequencies does not lean on it either. It counts from this many times the look's own usual size on, and from this share of the limit
# on while that is not known. The usual size is the median of the largest values of every 0.2 s, 1.1 SD of slow Gaussian noise and up to 1.8 SD with
# two electrodes that share little, so this is 2.9 to 4.6 SD: by
# chance seldom, and below it a blink adds less to the slow power of 2 s than that varies by itself.
PERHAPS_TIMES = 2.6
# The two sides stand apart by chance as often as they lean to one side, and no sign is known there: 3.5 SD for a small gaze step. Where
# only electrodes above the eyes see it, what is told must stand out half as far again.
APART_TIMES = 3.2
APART_TOLD = 1.5
PERHAPS_SMALL = 0.7
# The median of such sizes is 1.25 times their lower quartile for 1/f noise with or without alpha. Blinks of every second raise the median,
# not the quartile.
CALM_TIMES = 1.3
# On the F row a blink is small, and one counts from this many times the usual size on, and from this share of the limit.
F_ROW_TIMES, F_ROW_LEAST = 3.2, 0.6
SIZED_S = 0.2
# A rhythm that has set in (theta and slow waves of a drowsy person) stands out of the last minute, but its every wave is like the ones before:
# no event. A sine's peaks are as large as its usual size.
RHYTHM_TIMES = 1.5
# Evidence of polarity: squared heights, capped, of the newest candidates; one clear blink decides.
EVIDENCE = 40
_CAP_UV = 150.0
FLANK_S = 0.4  # a blink's flanks lie within the local mean's reach
COMPLETE_S = 0.3  # a peak is complete this long after its top
_CLEAR_UV = 60.0
_LEANING = 0.4
_HELD_S = 60.0


class Polarity:
    """The sign of a person's blinks in one look, found from the candidates themselves: those of the right sign are larger.

    The local mean that is taken off gives a wide blink two flanks of the other sign. So of candidates within `FLANK_S` only the largest
    speaks, and not before it is known to be the largest.
    """

    def __init__(self, fixed: int, rate_hz: float) -> None:
        self._fixed = self.sign = fixed
        self._evidence: deque[tuple[int, float]] = deque(maxlen=EVIDENCE)
        self._held: deque[tuple[int, int, float]] = deque(maxlen=EVIDENCE)
        self._held_samples, self._flank_samples = round(_HELD_S * rate_hz), round(FLANK_S * rate_hz)
        self._complete_samples = round((FLANK_S + COMPLETE_S) * rate_hz)
        self._largest: tuple[int, int, float] | None = None  # (sample, sign, height) of those that do not yet speak

    @property
    def waits(self) -> bool:
        """Whether a candidate is there that has not yet spoken: `settle` may change something."""
        return self._largest is not None

    def take(self, sample: int, sign: int, height: float) -> list[tuple[int, float]]:
        """One more candidate; returns (sample, signed height) of those that are now known to be blinks."""
        largest = self._largest
        if largest is None or sample - largest[0] > self._flank_samples:
            self._speak()
            self._largest = sample, sign, height
        elif height > largest[2]:
            self._largest = sample, sign, height
        self._held.append((sample, sign, height))
        return self._told(sample)

    def settle(self, sample: int) -> list[tuple[int, float]]:
        """All candidates before `sample` have been taken: who is the largest by now speaks. Returns as `take`."""
        if self._largest is None or sample - self._largest[0] <= self._complete_samples:
            return []
        self._speak()
        return self._told(sample)

    def _speak(self) -> None:
        if self._largest is not None:
            _, sign, height = self._largest
            self._evidence.append((sign, min(height, _CAP_UV) ** 2))
            self._largest = None
            self.sign = self._fixed or self._leaning()

    def _told(self, sample: int) -> list[tuple[int, float]]:
        if not self.sign:
            return []
        found = [(at, s * h) for at, s, h in self._held if s == self.sign and at >= sample - self._held_samples]
        self._held.clear()
        return found

    def _leaning(self) -> int:
        """The polarity that the candidates speak for; the one before while they do not speak clearly."""
        total = sum(weight for _, weight in self._evidence)
        leaning = sum(sign * weight for sign, weight in self._evidence)
        if total >= _CLEAR_UV**2 and abs(leaning) >= _LEANING * total:
            return 1 if leaning > 0 else -1
        return self.sign


class Peaks:
    """Peaks of one polarity: at least `least` above zero, and that far above the troughs on both sides."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.restart()

    def restart(self) -> None:
        self._rising = False
        self._low, self._high, self._at, self._shared = 0.0, -math.inf, 0, False

    def idle(self, top: float, bottom: float) -> bool:
        """Whether values between these two complete or begin no peak; if so they are taken (a deeper trough is all they can be)."""
        if self._rising:
            return top <= self._high and bottom > self._high - self.least
        low = min(self._low, bottom)
        if top >= low + self.least:
            return False
        self._low = low
        return True

    def take(self, y: F64, samples: range, shared: Callable[[int], bool]) -> list[tuple[int, float]]:
        """(sample, height) of the peaks that these values complete.

        `shared(i)` says whether a second electrode sees the i-th value as well. It is asked of tops only.
        """
        found: list[tuple[int, float]] = []
        top: int | None = None  # of these values, if it is one of them
        for i, value in enumerate(y.tolist()):
            if self._rising:
                if value > self._high:
                    self._high, top = value, i
                elif value <= self._high - self.least:
                    if top is not None:
                        self._at, self._shared = samples[top], shared(top)
                    if self._high >= self.least and self._shared:
                        found.append((self._at, self._high))
                    self._rising, self._low, top = False, value, None
            elif value < self._low:
                self._low = value
            elif value >= self._low + self.least:
                self._rising, self._high, top = True, value, i
        if top is not None:
            self._at, self._shared = samples[top], shared(top)
        return found


class Look:
    """What is looked for in a trace and upside down in another (or the same): peaks, and smaller ones that stand out of what there usually is.

    Parameters
    ----------
    top, bottom : int
        The rows of the traces whose peaks, and whose troughs, are looked for.
    limit_uv, small_uv : float
        Least height of a peak; of a smaller one, while it is not known what stands out.
    most_uv : float
        The most that a smaller one must have, however loud the signal usually is.
    times : float
        The smaller one's height over the usual size.
    sized_every_s : float
        How often `size` says that a stretch ends.
    """

    def __init__(
        self, top: int, bottom: int, limit_uv: float, small_uv: float, most_uv: float, times: float, sized_every_s: float
    ) -> None:
        self.top, self.bottom = top, bottom
        self.peaks = Peaks(limit_uv), Peaks(limit_uv)
        self.small = Peaks(small_uv), Peaks(small_uv)
        self.most_uv, self._times = most_uv, times
        self._background = Background(sized_every_s)
        self._largest = 0.0

    @property
    def usual_uv(self) -> float:
        """The usual size in the last minute, as of its calm part if that is much calmer; NaN while that is not known."""
        return min(self._background.middle, CALM_TIMES * self._background.lower)

    @property
    def standing_out_uv(self) -> float:
        """What a peak must have to stand out of the usual; NaN while that is not known."""
        return max(self._times * self.usual_uv, RHYTHM_TIMES * self._background.recent)

    def size(self, tops: list[float], bottoms: list[float], ends: bool) -> bool:
        """The largest and least of every trace now; `ends`: a stretch does. True when it is known anew what there usually is."""
        high, low = tops[self.top], -bottoms[self.bottom]
        largest = max(high, low, self._largest)
        if not ends:
            self._largest = largest
            return False
        self._largest = 0.0
        known = self._background.take(largest)
        if known:
            for peaks in self.small:
                peaks.least = min(self.standing_out_uv, self.most_uv)
        return known

    def idle(self, tops: list[float], bottoms: list[float]) -> bool:
        """Whether these values hold nothing for `candidates`, of either size."""
        high, low, up_high, up_low = tops[self.top], bottoms[self.top], -bottoms[self.bottom], -tops[self.bottom]
        (up, down), (small_up, small_down) = self.peaks, self.small
        # all four take the values that they find idle
        rests = small_up.idle(high, low), small_down.idle(up_high, up_low), up.idle(high, low), down.idle(up_high, up_low)
        return all(rests)

    def candidates(
        self,
        both: tuple[Peaks, Peaks],
        traces: F64,
        tops: list[float],
        bottoms: list[float],
        samples: range,
        shared: Callable[[int, int], bool],
    ) -> list[tuple[int, int, float]]:
        """(sample, sign, height) of the peaks of either sign that these values complete, in order of time.

        `shared(i, sign)` says whether a second electrode sees the i-th value as well.
        """
        top, bottom, (up, down) = self.top, self.bottom, both
        up_idle, down_idle = up.idle(tops[top], bottoms[top]), down.idle(-bottoms[bottom], -tops[bottom])
        if up_idle and down_idle:
            return []
        found: list[tuple[int, int, float]] = []
        if not up_idle:
            found += [(when, 1, height) for when, height in up.take(traces[top], samples, lambda i: shared(i, 1))]
        if not down_idle:
            found += [(when, -1, height) for when, height in down.take(-traces[bottom], samples, lambda i: shared(i, -1))]
        return sorted(found)

    def restart(self) -> None:
        self._largest = 0.0
        for peaks in (*self.peaks, *self.small):
            peaks.restart()
