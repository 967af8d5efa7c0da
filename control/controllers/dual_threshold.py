"""Dual threshold: above the band one way, below it the other, between nothing; with dwell, hysteresis, refractory time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.estimate import Estimate, drawn
from control.excursion import Excursion, acted, follow
from control.program import STRICT, Paced, read_program
from control.steps import go_to
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, StimRequest


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Paced):
    """What a clinician signs for this controller (`settings` of the prescription), beside the target band and its pace.

    Attributes
    ----------
    hysteresis_milli : int
        How far back inside the band (in the band's unit) the biomarker must come before an excursion is over, 0-1000.
    step_ua : int
        One step, 1-200 µA.
    """

    hysteresis_milli: Annotated[int, Field(ge=0, le=1_000)] = 0
    step_ua: Annotated[int, Field(ge=1, le=200)] = 50


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3", "step_ua": 50}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: the excursion it is in."""

    program: Program
    excursion: Excursion


@dataclass(frozen=True, slots=True)
class DualThreshold:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        return State(read_program(Program, prescription), Excursion())

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: count it, and step if enough of them agree."""
        assert isinstance(state, State)
        program, before = state.program, state.excursion.side
        look = follow(state.excursion, program, snapshot, lambda seen: _side(seen, before, program, snapshot))
        if look.wait is not None:
            return State(program, look.excursion), look.wait
        more = (look.excursion.side == "under") == (program.more_moves == "up")
        step_ma = program.step_ua / 1000.0
        request = go_to(snapshot, snapshot.present_ma + (step_ma if more else -step_ma), look.so_far)
        if request.hold:
            return State(program, look.excursion), request
        return State(program, replace(acted(look.excursion, look.seen, changed=True), agree_n=0)), request

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.excursion.memory, state.program, snapshot)


def _side(seen: Estimate, side: str, program: Program, snapshot: Snapshot) -> str:
    """Under, over or inside; an excursion under way ends only `hysteresis_milli` inside the band."""
    _, size = program.scale(snapshot) or (0.0, 0.0)
    back = min(size * program.hysteresis_milli / 1000.0, (seen.high - seen.low) / 2.0)
    if seen.value < seen.low or (side == "under" and seen.value < seen.low + back):
        return "under"
    if seen.value > seen.high or (side == "over" and seen.value > seen.high - back):
        return "over"
    return ""


def build(settings: Settings) -> DualThreshold:
    """The controller; its numbers come with the prescription."""
    return DualThreshold()
