"""Schedule: amplitudes at signed times, whatever the brain does (open loop); the comparison for everything adaptive."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.program import STRICT, read_program
from control.steps import go_to, hold
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, PrescriptionError, StimRequest

_MOST_ENTRIES = 50


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program:
    """What a clinician signs for this controller.

    Attributes
    ----------
    levels : str
        "SECONDS:MICROAMPERES" pairs in rising order of time, the first at 0, at most 50: "0:400 300:800 900:400".
        Seconds count from the first decision (the first sense block).
    step_ua : int
        The most one decision changes, 1-200 µA.
    """

    levels: Annotated[str, Field(pattern=r"^0:\d{1,4}( \d{1,4}:\d{1,4})*$", max_length=600)]
    step_ua: Annotated[int, Field(ge=1, le=200)] = 200

    def at(self, second: float) -> tuple[float, float]:
        """(start of the entry in s, its amplitude in mA) in force at this second."""
        now = (0.0, 0.0)
        for start_s, level_ua in re.findall(r"(\d+):(\d+)", self.levels):
            if float(start_s) <= second:
                now = (float(start_s), float(level_ua) / 1000.0)
        return now


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"levels": "0:400 30:900 120:200", "step_ua": 100}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: when it began."""

    program: Program
    began_s: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        program = read_program(Program, prescription)
        times = [int(t) for t, _ in re.findall(r"(\d+):(\d+)", program.levels)]
        if times != sorted(set(times)) or len(times) > _MOST_ENTRIES:
            raise PrescriptionError(
                f"prescription.settings.levels: {program.levels!r} must have at most {_MOST_ENTRIES} rising times"
            )
        return State(program=program)

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """Go towards what is signed for now."""
        assert isinstance(state, State)
        if not math.isfinite(snapshot.t_s):
            return state, hold(snapshot, "Held, because the time is not known.")
        if state.began_s is None:
            state = replace(state, began_s=snapshot.t_s)
        second = snapshot.t_s - (state.began_s or 0.0)
        start_s, level_ma = state.program.at(second)
        step_ma = state.program.step_ua / 1000.0
        towards_ma = min(max(level_ma, snapshot.present_ma - step_ma), snapshot.present_ma + step_ma)
        return state, go_to(snapshot, towards_ma, f"The schedule has {level_ma:.2f} mA from {start_s:.0f} s on")

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        nothing = dict.fromkeys(("value", "estimate", "estimate_spread", "low", "high"))
        return {"biomarker": "", "channel": "n/a", "unit": "", "estimate_n": 0, **nothing}


def build(settings: Settings) -> Schedule:
    """The controller; its numbers come with the prescription."""
    return Schedule()
