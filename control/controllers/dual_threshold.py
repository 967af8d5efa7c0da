"""Dual threshold: above the band one way, below it the other, between nothing; with dwell, hysteresis, refractory time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.estimate import Estimate, Memory, drawn, estimate
from control.program import STRICT, Target, read_program
from control.steps import doubted, excursion, go_to, hold, present
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, StimRequest


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Target):
    """What a clinician signs for this controller (`settings` of the prescription), beside the target band.

    Attributes
    ----------
    hysteresis_milli : int
        How far back inside the band (in the band's unit) the biomarker must come before an excursion is over, 0-1000.
    dwell_n : int
        Agreeing estimates in a row (about one a second while looking) before a step, 3-100.
    step_ua : int
        One step, 1-200 µA.
    refractory_ms : int
        Least time between two steps, 0-3,600,000 ms; at least 60,000 on a real stimulator.
    """

    hysteresis_milli: Annotated[int, Field(ge=0, le=1_000)] = 0
    dwell_n: Annotated[int, Field(ge=3, le=100)] = 3
    step_ua: Annotated[int, Field(ge=1, le=200)] = 50
    refractory_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 60_000


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3", "step_ua": 50}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: the excursion it is in ("under", "over", ""), its start and length in estimates, the last step."""

    program: Program
    memory: Memory
    side: str = ""
    agree_n: int = 0
    since_s: float = 0.0
    stepped_s: float | None = None


@dataclass(frozen=True, slots=True)
class DualThreshold:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        return State(program=read_program(Program, prescription), memory=Memory())

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: count it, and step if enough of them agree."""
        assert isinstance(state, State)
        memory, seen = estimate(state.memory, state.program, snapshot)
        state = replace(state, memory=memory)
        if seen.doubt:
            return replace(state, side="", agree_n=0), doubted(snapshot, seen.doubt)
        side = _side(seen, state.side, state.program, snapshot)
        if side == state.side and side:
            state = replace(state, agree_n=state.agree_n + 1)
        else:
            state = replace(state, side=side, agree_n=int(side != ""), since_s=seen.t_s)
        if not side:
            calm = f"{state.program.words()} is in its target band, so it stays at {present(snapshot):.2f} mA."
            return state, hold(snapshot, calm)
        return _act(state, seen, snapshot)

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.memory, state.program, snapshot)


def _side(seen: Estimate, side: str, program: Program, snapshot: Snapshot) -> str:
    """Under, over or inside; an excursion under way ends only `hysteresis_milli` inside the band."""
    _, size = program.scale(snapshot) or (0.0, 0.0)
    back = min(size * program.hysteresis_milli / 1000.0, (seen.high - seen.low) / 2.0)
    if seen.value < seen.low or (side == "under" and seen.value < seen.low + back):
        return "under"
    if seen.value > seen.high or (side == "over" and seen.value > seen.high - back):
        return "over"
    return ""


def _act(state: State, seen: Estimate, snapshot: Snapshot) -> tuple[State, StimRequest]:
    """Outside the band: wait for the dwell and the refractory time, then step."""
    program = state.program
    so_far = excursion(program, seen, state.side, state.since_s)
    if state.agree_n < program.dwell_n:
        return state, hold(snapshot, f"{so_far} ({state.agree_n} of {program.dwell_n} estimates), so it stays for now.")
    wait_s = 0.0 if state.stepped_s is None else program.refractory_ms / 1000.0 - (seen.t_s - state.stepped_s)
    if wait_s > 0.0:
        return state, hold(snapshot, f"{so_far}, but the last step needs {wait_s:.0f} s more to show, so it stays.")
    more = (state.side == "under") == (program.more_moves == "up")
    wanted_ma = snapshot.present_ma + (program.step_ua if more else -program.step_ua) / 1000.0
    request = go_to(snapshot, wanted_ma, so_far)
    if not request.hold:
        state = replace(state, agree_n=0, stepped_s=seen.t_s, memory=replace(state.memory, recent=()))
    return state, request


def build(settings: Settings) -> DualThreshold:
    """The controller; its numbers come with the prescription."""
    return DualThreshold()
