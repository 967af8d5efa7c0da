"""When to look into an inlet's buffer: at its own best moment while inlets are few, at common moments in a crowd.

In a crowd what one look finds goes on as one chunk, and looks cost more than samples. So the distance of looks grows with the number
of inlets, in multiples of the 20 ms at which most headsets deliver, up to two of the line's usual hops of 0.1 s. There each inlet is looked
into at every fourth common moment, the one that follows the end of a pair of its hops within half a hop: nothing is computed before a hop is
over, and the second hop of a pair finds in the processor's caches what the first one brought there.
(Five moments a hop instead of two would halve that wait; it cost 7 % more at 24 headsets, because seats worked off one after the other share what
the processor keeps at hand.)
"""

from __future__ import annotations

import math
from collections import deque

from eegloop.many import MANY

CROWD, DENSE = 8, 30  # from so many inlets in the process on, and from `MANY`, looks are this far apart:
MOMENT_S, DENSE_S, BEAT_S = 0.020, 0.040, 0.200
QUARTER_S = BEAT_S / 4  # the common moments among many


def step_s(open_sources: int) -> float:
    """Distance of looks into one inlet among this many; 0 = each at its own best moment."""
    if open_sources < CROWD:
        return 0.0
    if open_sources < DENSE:
        return MOMENT_S
    return DENSE_S if open_sources < MANY else BEAT_S


def next_moment_s(after_s: float, step: float) -> float:
    """The next multiple of `step`; one that is less than a quarter of it away has been looked at (timers may be early)."""
    return (math.floor(after_s / step + 0.25) + 1) * step


class Wakeups:
    """When to look into one inlet next.

    Alone: just after the next delivery should be there. The expected moment is the newest stamp, plus the distance of deliveries, plus
    how long deliveries lag behind their stamps; that lag is tracked so that about nine of ten first looks find something.
    In a crowd: at the next common moment; among `MANY`, at every fourth one.
    """

    MIN_S, MAX_S = 0.008, 0.100  # deliveries closer together are collected
    RETRY_S = (0.002, 0.002, 0.004, 0.008, 0.020)
    STEP_S = 0.0001

    def __init__(self, now_s: float, sample_rate_hz: float) -> None:
        self._stamp_s = now_s
        self._lag_s = 0.0
        self._known = False
        self._looks = 0  # since the last delivery
        self._distances: deque[float] = deque([self.MIN_S], maxlen=8)
        self._beat_samples = BEAT_S * sample_rate_hz
        self._beats = 0.0  # where the newest sample lies, in beats from the stream's first sample

    def heard(self, now_s: float, stamp_s: float, end_sample: int) -> None:
        """A look found samples, the newest stamped `stamp_s`; `end_sample` is one past its index."""
        late = now_s - stamp_s
        if not self._known or not -0.1 < late - self._lag_s < 0.1:
            self._lag_s, self._known = late, True
        elif self._looks <= 1:
            self._lag_s -= self.STEP_S
        else:
            self._lag_s += min(9 * self.STEP_S, max(late - self._lag_s, 0.0))
        self._distances.append(stamp_s - self._stamp_s)
        self._stamp_s = stamp_s
        self._beats = end_sample / self._beat_samples
        self._looks = 0

    def next_s(self, now_s: float, open_sources: int) -> float:
        """When to look next."""
        first = self._looks == 0 and self._known
        self._looks += 1
        step = step_s(open_sources)
        if step == BEAT_S:
            # moments to let pass: at the one after them the pair of hops that is now being filled will be over
            passing = 3 - math.floor(self._beats % 1.0 * 4) if first else 0
            return next_moment_s(now_s + passing * QUARTER_S, QUARTER_S)
        if step:
            return next_moment_s(now_s, step)
        if first:
            distance = min(max(min(self._distances), self.MIN_S), self.MAX_S)
            return min(max(self._stamp_s + distance + self._lag_s, now_s + self.RETRY_S[0]), now_s + self.MAX_S)
        return now_s + self.RETRY_S[min(max(self._looks - 2, 0), len(self.RETRY_S) - 1)]
