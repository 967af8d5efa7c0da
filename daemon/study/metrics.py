"""What a session comes to: the numbers of the study's table, from what was true, what was measured and what was delivered."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

REVERSALS_A_CYCLE = 2
LEAST_CYCLES = 2
GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class Job:
    """One session to run."""

    level: str
    person: str
    arm: str
    seed: int
    session_s: int = 1_200


@dataclass(frozen=True, slots=True)
class Result:
    """One session.

    Attributes
    ----------
    in_range : float
        Share of the session's seconds, from the first output on, in which the person's true mean asymmetry lay in the target range.
    error : float
        Mean distance of that from the range.
    measured_in_range : float
        Share of the usable looks whose running median of 30 lay in the range; NaN without any.
    charge_mc, on_s : float
        Delivered charge and time with output.
    holds, decisions : int
    hold_reasons : dict
        Kinds of reasons, counted.
    fallbacks, trips : tuple of str
        Their reasons.
    given_up_s : tuple of float
        When the controller gave up, s after the first output; empty if it did not.
    largest_step_ma : float
        Largest change between two stimulate blocks.
    limit_cycle : bool
        The amplitude went up and down by steps again and again (two whole cycles or more after the first third).
    last_ma : float
        Amplitude of the last stimulate block.
    largest_ma : float
        Largest sample of the stimulator's record.
    violations : tuple of str
        What the oracle found.
    seconds, cpu_s : float
        Virtual time, and processor time it took.
    compiled : bool
        It ran in the compiled copy of the sources (`daemon/study/compiled.py`); all but `cpu_s` is the same there.
    """

    job: Job
    in_range: float
    error: float
    measured_in_range: float
    charge_mc: float
    on_s: float
    decisions: int
    holds: int
    hold_reasons: dict[str, int]
    fallbacks: tuple[str, ...]
    trips: tuple[str, ...]
    given_up_s: tuple[float, ...]
    largest_step_ma: float
    limit_cycle: bool
    last_ma: float
    largest_ma: float
    violations: tuple[str, ...]
    seconds: float
    cpu_s: float
    compiled: bool


@dataclass
class Collector:
    """Collects one session; `true` has one value a second from the first output on."""

    low: float
    high: float
    true: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    blocks_ma: list[float] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    given_up_s: tuple[float, ...] = ()
    decisions: int = 0
    holds: int = 0

    def decided(self, hold: bool, sentence: str) -> None:
        self.decisions += 1
        kind = kind_of(sentence)
        if hold:
            self.holds += 1
            self.reasons[kind] += 1
        if kind == GIVEN_UP and not self.given_up_s:
            self.given_up_s = (float(len(self.true)),)

    def looked(self, value: float) -> None:
        """A usable look at the biomarker."""
        self.looks.append(value)
        self.medians.append(statistics.median(self.looks[-30:]))

    def share(self) -> float:
        return sum(self.low <= x <= self.high for x in self.true) / len(self.true) if self.true else 0.0

    def error(self) -> float:
        distances = [max(self.low - x, x - self.high, 0.0) for x in self.true]
        return sum(distances) / len(distances) if distances else 0.0

    def measured(self) -> float:
        return sum(self.low <= x <= self.high for x in self.medians) / len(self.medians) if self.medians else math.nan


def kind_of(sentence: str) -> str:
    """A sentence's reason in one word or two, for counting."""
    kinds = (
        ("did not come into", GIVEN_UP), ("target band", "in range"), ("estimates)", "dwell"), ("next change may come", "pause"), ("as much as is allowed", "at the top"),
        ("as little as is allowed", "at the bottom"), ("is right", "on schedule"), ("Held at", "doubtful estimate"),
        ("as it was signed", "sham"), ("Trial", "trial"), ("The last change needs", "pause"), ("The search is over", "search over"),
    )  # fmt: skip
    return next((name for words, name in kinds if words in sentence), "other")


def largest_step(blocks_ma: Sequence[float]) -> float:
    """Largest change from one stimulate block to the next, mA."""
    return max((abs(b - a) for a, b in itertools.pairwise(blocks_ma)), default=0.0)


def limit_cycle(blocks_ma: Sequence[float]) -> bool:
    """Whether the amplitude keeps going up and down after the first third of the session."""
    late = blocks_ma[len(blocks_ma) // 3 :]
    steps = [b - a for a, b in itertools.pairwise(late) if abs(b - a) > 0.0005]
    reversals = sum((a > 0) != (b > 0) for a, b in itertools.pairwise(steps))
    return reversals >= REVERSALS_A_CYCLE * LEAST_CYCLES
