"""On/off threshold: all of it outside the band, none inside it, in bounded steps, with dwell and refractory time."""

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
    """What a clinician signs for this controller, beside the target band.

    If more stimulation lowers the biomarker (`more_moves` "down"), it is switched on above the band and off below it;
    the other way round for "up". Between `low_milli` and `high_milli` it stays as it is.

    Attributes
    ----------
    on_ua : int
        The amplitude "on", 1-4000 µA.
    dwell_n : int
        Agreeing estimates in a row before it switches, 3-100.
    step_ua : int
        The most one decision changes, 1-200 µA; a switch may take several.
    refractory_ms : int
        Least time between two changes, 0-3,600,000 ms; at least 60,000 on a real stimulator.
    """

    on_ua: Annotated[int, Field(ge=1, le=4_000)]
    dwell_n: Annotated[int, Field(ge=3, le=100)] = 3
    step_ua: Annotated[int, Field(ge=1, le=200)] = 200
    refractory_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 60_000


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3", "on_ua": 800, "more_moves": "down"}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: on which side of the band the biomarker is, since when, in how many estimates, the last change."""

    program: Program
    memory: Memory
    side: str = ""
    agree_n: int = 0
    since_s: float = 0.0
    stepped_s: float | None = None


@dataclass(frozen=True, slots=True)
class OnOff:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        return State(program=read_program(Program, prescription), memory=Memory())

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: count it, and go a step towards on or off if enough of them agree."""
        assert isinstance(state, State)
        memory, seen = estimate(state.memory, state.program, snapshot)
        state = replace(state, memory=memory)
        if seen.doubt:
            return replace(state, side="", agree_n=0), doubted(snapshot, seen.doubt)
        side = _side(seen)
        agree_n = state.agree_n + 1 if side == state.side else 1
        state = replace(state, side=side, agree_n=agree_n, since_s=state.since_s if agree_n > 1 else seen.t_s)
        if not side:
            return state, hold(
                snapshot, f"{state.program.words()} is between the thresholds, so it stays at {present(snapshot):.2f} mA."
            )
        return _switch(state, seen, snapshot)

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.memory, state.program, snapshot)


def _side(seen: Estimate) -> str:
    if seen.value < seen.low:
        return "under"
    return "over" if seen.value > seen.high else ""


def _switch(state: State, seen: Estimate, snapshot: Snapshot) -> tuple[State, StimRequest]:
    program = state.program
    on = (state.side == "under") == (program.more_moves == "up")
    wanted_ma = program.on_ua / 1000.0 if on else 0.0
    so_far = excursion(program, seen, state.side, state.since_s)
    if state.agree_n < program.dwell_n:
        return state, hold(snapshot, f"{so_far} ({state.agree_n} of {program.dwell_n} estimates), so it stays for now.")
    wait_s = 0.0 if state.stepped_s is None else program.refractory_ms / 1000.0 - (seen.t_s - state.stepped_s)
    if wait_s > 0.0:
        return state, hold(snapshot, f"{so_far}, but the last change needs {wait_s:.0f} s more to show, so it stays.")
    step_ma = program.step_ua / 1000.0
    towards_ma = min(max(wanted_ma, snapshot.present_ma - step_ma), snapshot.present_ma + step_ma)
    request = go_to(snapshot, towards_ma, f"{so_far}, which means {'on' if on else 'off'}")
    if not request.hold:
        state = replace(state, stepped_s=seen.t_s, memory=replace(state.memory, recent=()))
    return state, request


def build(settings: Settings) -> OnOff:
    """The controller; its numbers come with the prescription."""
    return OnOff()
