"""Is every electrode where it was in the first session? Asked while the contact is checked and the baseline taken (H14).

`dsp/signature.py` has the rule; the first session's pattern is kept with the person's answers. A clinic's note on the form `placement`
lets the next session's pattern take its place, as after a change of headset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.questions import PLACEMENT
from control.screening import Finding, Level
from dsp.signature import F64, LEAST_CHANNELS, Pattern, add, comparable, correlations, find_swap
from eegloop.signal import Chunk
from eegloop.stim import Phase

PIECE_S = 1.0
LOOKING = (Phase.CONTACT, Phase.BASELINE)


@dataclass(slots=True)
class Placement:
    """One seat's pattern now, against the one that is kept (None: this is the first session).

    Attributes
    ----------
    channels : tuple of str
        Of the stream.
    """

    channels: tuple[str, ...]
    sample_rate_hz: float
    reference: tuple[tuple[str, ...], F64] | None = None
    finding: Finding | None = None
    newest: F64 | None = None
    _pattern: Pattern = field(default_factory=Pattern)
    _pieces: list[NDArray[np.float32]] = field(default_factory=list)
    _next_sample: int = -1
    _phase: str = ""

    def feed(self, phase: str, chunk: Chunk) -> None:
        """Take in a chunk; only what is taken before stimulation counts."""
        if phase != self._phase:
            if phase == Phase.CONTACT:
                self._pattern, self.newest, self.finding = Pattern(), None, self._waiting()
            elif phase not in LOOKING:
                self.finding = None  # what nobody looks at any more must not keep the next session from the contact, where it is
            self._phase, self._pieces = phase, []
        if phase not in LOOKING:
            return
        if chunk.lost_samples or chunk.first_sample != self._next_sample:
            self._pieces = []
        self._next_sample = chunk.first_sample + chunk.n_samples
        self._pieces.append(chunk.data_uv)
        if sum(map(len, self._pieces)) < PIECE_S * self.sample_rate_hz:
            return
        self._pattern = add(self._pattern, np.concatenate(self._pieces), self.sample_rate_hz)
        self._pieces = []
        now = correlations(self._pattern)
        if now is None:
            return
        self.newest = now
        self.finding = self._compared(now)
        if self.finding is not None:
            self._pattern = Pattern()  # what is put right is seen within the next ten seconds

    def _waiting(self) -> Finding | None:
        if self.reference is None:
            return None
        if self.reference[0] != self.channels:
            return Finding(
                Level.BLOCK,
                PLACEMENT,
                "channels",
                f"The headset's channels ({', '.join(self.channels)}) are not those of the first session "
                f"({', '.join(self.reference[0])}). Use that headset, or ask the clinic for a note on the new one.",
            )
        return Finding(Level.BLOCK, PLACEMENT, "", "the electrodes are being compared with the first session")

    def _compared(self, now: F64) -> Finding | None:
        if self.reference is None or self.reference[0] != self.channels:
            return self._waiting()
        n_compared = int(comparable(self.reference[1], now).sum())
        if n_compared < LEAST_CHANNELS <= len(self.channels):
            return Finding(
                Level.BLOCK,
                PLACEMENT,
                "silent",
                f"Only {n_compared} of {len(self.channels)} channels have a signal now and had one in the first session: too few to tell "
                "whether the electrodes are where they were. See to the electrodes without a signal; it is looked at again by itself.",
            )
        swap = find_swap(self.reference[1], now)
        if swap is None:
            return None
        first, second = self.channels[swap.first], self.channels[swap.second]
        return Finding(
            Level.BLOCK,
            PLACEMENT,
            f"{first}-{second}",
            f"{first} and {second} look exchanged: the signal fits the first session {swap.better:.1f} times better that way round. "
            "Put each in its place; it is looked at again by itself.",
        )


def kept_pattern(channels: tuple[str, ...], pattern: F64, t_s: float) -> dict[str, Any]:
    """The pattern as it is written down."""
    return {"channels": list(channels), "correlations": np.round(pattern, 4).tolist(), "t_s": t_s}


def read_pattern(data: dict[str, Any]) -> tuple[tuple[str, ...], F64]:
    """`kept_pattern`, read back; an unknown correlation (None) is NaN."""
    rows = [[np.nan if value is None else float(value) for value in row] for row in data["correlations"]]
    return tuple(map(str, data["channels"])), np.array(rows, dtype=np.float64)
