"""The end of exploration: a controller that may raise has so many looks to bring its biomarker into its target band, then it goes down.

Whoever works `within_bounds` supposes that current moves the biomarker towards the band. For a person who responds the other way round, or
not at all, that is wrong, and what a controller makes of it is its own: it may climb slowly, look for something else, or notice late. So the
line puts every controller into `bounded` (daemon/loop.py), which counts by itself: of each `explore_n` usable looks with current, half as
many in a row must at least once have had a mean in the band or beyond it. If not, the amplitude goes down to the safe one and stays there.

Not bounded: `lower_only` (never above its start), `observe` (delivers nothing), and what has no target band (a schedule is what was signed).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from control.estimate import Estimate, Memory, estimate
from control.program import Target, read_program
from control.steps import SAME_MA, doubted, down_to, present
from eegloop.plugins import find
from eegloop.ports import Controller, Snapshot
from eegloop.stim import Authority, Prescription, StimRequest


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered: the controller's own state, and of the exploration the watch over the biomarker, the newest usable values with
    current (at most half of `explore_n`), how many such looks it is since their mean last reached the band, and whether it is over.

    `target` is None where nothing is bounded.
    """

    inner: Any
    target: Target | None = None
    safe_ma: float = 0.0
    step_ma: float = 0.0
    memory: Memory = field(default_factory=Memory)
    recent: tuple[float, ...] = ()
    in_vain_n: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Bounded:
    """A controller whose exploration ends. See the module."""

    inner: Controller

    def start(self, prescription: Prescription) -> State:
        inner = self.inner.start(prescription)
        program = find("controller", prescription.controller).Program
        if prescription.authority != Authority.WITHIN_BOUNDS or not issubclass(program, Target):
            return State(inner)
        signed = read_program(program, replace(prescription, settings={**prescription.settings, "average_n": 1}))
        safe_ua, step_ua = getattr(signed, "safe_ua", 0), getattr(signed, "step_ua", 200)
        return State(inner, signed, safe_ua / 1000.0, step_ua / 1000.0)

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """The controller's own answer, and once exploration is over the way down instead."""
        assert isinstance(state, State)
        inner, request = self.inner.decide(state.inner, snapshot)
        state, target = replace(state, inner=inner), state.target
        if target is None:
            return state, request
        memory, seen = estimate(state.memory, target, snapshot)
        state = replace(state, memory=memory)
        if not seen.doubt and not state.over:
            state = _looked(state, target, seen, snapshot)
        if not state.over:
            return state, request
        if seen.doubt:
            return state, doubted(snapshot, seen.doubt)
        why = f"{target.words()} on average did not come into its target band in {target.explore_n} looks with current"
        return state, down_to(snapshot, state.safe_ma, state.step_ma, why)

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return self.inner.target(state.inner, snapshot)

    def anew(self, state: State, prescription: Prescription) -> State:
        """The state a new session begins with: nothing is left of the one before but the trials of a search, which span sessions."""
        fresh = self.start(prescription)
        return replace(fresh, inner=state.inner) if self.carried(state) else fresh

    def carried(self, state: State) -> str:
        """What the controller hands on to the next prescription, as its `settings.history`; "" for one that hands on nothing."""
        history = getattr(self.inner, "carried", None)
        return "" if history is None else str(history(state.inner))


def bounded(controller: Controller) -> Bounded:
    """The same controller, with an end to its exploration."""
    return Bounded(controller)


def _looked(state: State, target: Target, seen: Estimate, snapshot: Snapshot) -> State:
    """Take in one usable look; one without more than the safe amplitude says nothing about current."""
    if not present(snapshot) > state.safe_ma + SAME_MA:
        return state
    enough = target.explore_n // 2
    recent = (*state.recent, seen.value)[-enough:]
    mean = sum(recent) / len(recent)
    reached = mean >= seen.low if target.more_moves == "up" else mean <= seen.high
    in_vain_n = 0 if reached and len(recent) == enough else state.in_vain_n + 1
    return replace(state, recent=recent, in_vain_n=in_vain_n, over=in_vain_n >= target.explore_n)
