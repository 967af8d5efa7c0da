"""Proportional-integral control of one biomarker, in steps from the amplitude that was truly granted.

Written in the velocity form, `Δu = Kp·(e_k - e_{k-1}) + Ki·e_k·Δt`, added to the present amplitude: whatever the envelope
or the interlock took away is not remembered anywhere, so there is no integral to wind up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.estimate import Estimate, Memory, drawn, estimate
from control.program import STRICT, Target, read_program
from control.steps import doubted, excursion, go_to, hold, present
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, StimRequest

LONGEST_S = 300.0  # a longer time since the last update counts as this long


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Target):
    """What a clinician signs for this controller, beside the target band.

    The band is the deadband: the error is the distance to its nearer edge, zero inside (reference/safety.md section 5:
    ±0.5 SD of the baseline, the default here). Its unit is the band's: a thousandth of the baseline's SD, of the
    baseline, or of the biomarker's own unit.

    Attributes
    ----------
    kp_ua : int
        µA for one whole unit of error (1000 milli), 0-2000.
    ki_ua_per_min : int
        µA a minute for one whole unit of error, 0-2000.
    dwell_n : int
        Estimates in a row on the same side of the band before it acts, 3-100.
    step_ua : int
        The most one update changes, 1-200 µA.
    refractory_ms : int
        Least time between two updates, 0-3,600,000 ms; at least 60,000 on a real stimulator.
    """

    unit: Literal["baseline_milli", "sd_milli", "milli"] = "sd_milli"
    low_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = -500
    high_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 500
    kp_ua: Annotated[int, Field(ge=0, le=2_000)] = 50
    ki_ua_per_min: Annotated[int, Field(ge=0, le=2_000)] = 50
    dwell_n: Annotated[int, Field(ge=3, le=100)] = 3
    step_ua: Annotated[int, Field(ge=1, le=200)] = 200
    refractory_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 60_000


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3", "refractory_ms": 20_000}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: the side of the band and since when, and time and error of the last update."""

    program: Program
    memory: Memory
    side: str = ""
    agree_n: int = 0
    since_s: float = 0.0
    updated_s: float | None = None
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class ProportionalIntegral:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        return State(program=read_program(Program, prescription), memory=Memory())

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: count it, and update the amplitude when it is time and enough of them agree."""
        assert isinstance(state, State)
        memory, seen = estimate(state.memory, state.program, snapshot)
        state = replace(state, memory=memory)
        if seen.doubt:
            return replace(state, side="", agree_n=0), doubted(snapshot, seen.doubt)
        error = _error(seen, state.program, snapshot)
        side = "" if error == 0.0 else "under" if seen.value < seen.low else "over"
        agree_n = state.agree_n + 1 if side == state.side else 1
        state = replace(state, side=side, agree_n=agree_n, since_s=state.since_s if agree_n > 1 else seen.t_s)
        if not side:
            calm = f"{state.program.words()} is in its target band, so it stays at {present(snapshot):.2f} mA."
            return replace(state, error=0.0), hold(snapshot, calm)
        return _update(state, seen, error, snapshot)

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.memory, state.program, snapshot)


def _error(seen: Estimate, program: Program, snapshot: Snapshot) -> float:
    """Distance to the band in its units, positive where more stimulation is the answer; 0 inside."""
    _, size = program.scale(snapshot) or (0.0, 1.0)
    below = max(0.0, seen.low - seen.value) - max(0.0, seen.value - seen.high)
    return below / size if program.more_moves == "up" else -below / size


def _update(state: State, seen: Estimate, error: float, snapshot: Snapshot) -> tuple[State, StimRequest]:
    program = state.program
    so_far = excursion(program, seen, state.side, state.since_s)
    if state.agree_n < program.dwell_n:
        return state, hold(snapshot, f"{so_far} ({state.agree_n} of {program.dwell_n} estimates), so it stays for now.")
    refractory_s = program.refractory_ms / 1000.0
    passed_s = refractory_s if state.updated_s is None else seen.t_s - state.updated_s
    if passed_s < refractory_s:
        return state, hold(snapshot, f"{so_far}, but the next update is {refractory_s - passed_s:.0f} s away, so it stays.")
    change_ua = program.kp_ua * (error - state.error) + program.ki_ua_per_min * error * min(passed_s, LONGEST_S) / 60.0
    # A shrinking error may ask to take back; it never asks to go against the side that the biomarker is on.
    change_ua = max(0.0, change_ua) if error > 0.0 else min(0.0, change_ua)
    change_ua = min(max(change_ua, -program.step_ua), program.step_ua)
    request = go_to(snapshot, snapshot.present_ma + change_ua / 1000.0, so_far)
    state = replace(state, updated_s=seen.t_s, error=error)
    if not request.hold:
        state = replace(state, memory=replace(state.memory, recent=()))
    return state, request


def build(settings: Settings) -> ProportionalIntegral:
    """The controller; its numbers come with the prescription."""
    return ProportionalIntegral()
