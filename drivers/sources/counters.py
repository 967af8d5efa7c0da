"""Finding out how a board counts its packets, where nobody has written it down: only a counter that is understood is used."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from drivers.sources.clock import Counter

TURNS = 3  # whole turns without a flaw before a counter is believed
SMALLEST = 16  # samples in a turn; a shorter counter says too little


class CounterFinder:
    """Watches a counter until it has turned round `TURNS` times in the same way.

    A counter that repeats (several samples a packet), skips or turns irregularly is never believed: losses are then counted
    by the time stamps.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._step = 0
        self._index = 0
        self._zeros: list[int] = []  # where it began anew at 0

    def look(self, counts: NDArray[np.int64]) -> Counter | None:
        """The counter once it is certain; None before."""
        for count in counts.tolist():
            before, self._last = self._last, count
            self._index += 1
            if before is None:
                continue
            step = count - before
            if step > 0 and self._step in (0, step):
                self._step = step
            elif step < 0 < self._step and count == 0:
                found = self._turned(before)
                if found is not None:
                    return found
            else:
                self._step, self._zeros = 0, []
        return None

    def _turned(self, highest: int) -> Counter | None:
        zeros = [*self._zeros, self._index]
        lengths = {b - a for a, b in pairwise(zeros)}
        length = lengths.pop() if lengths else 0
        odd = bool(lengths) or (length and (length < SMALLEST or highest != (length - 1) * self._step))
        self._zeros = [self._index] if odd else zeros
        return Counter(length * self._step, self._step) if len(self._zeros) > TURNS else None
