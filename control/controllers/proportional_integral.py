"""Proportional-integral control of one biomarker, in steps from the amplitude that was truly granted.

Written in the velocity form, `Δu = Kp·(e_k - e_{k-1}) + Ki·e_k·Δt`, added to the present amplitude: whatever the envelope
or the interlock took away is not remembered anywhere, so there is no integral to wind up.

Before it raises again it asks whether raising has helped (`control/outlook.py`); if not even all that is allowed is expected to bring
the biomarker into its band, it gives up, as it does when all that is allowed was reached and not enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.estimate import Estimate, drawn
from control.excursion import Excursion, Look, acted, follow, to_safety
from control.outlook import Outlook, in_vain, raises, taken_in
from control.program import STRICT, Paced, read_program
from control.steps import go_to
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, StimRequest, finite

LONGEST_S = 300.0  # a longer time since the last update counts as this long


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Paced):
    """What a clinician signs for this controller, beside the target band and its pace.

    The band is the deadband: the error is the distance to its nearer edge, zero inside (reference/safety.md section 5:
    ±0.5 SD of the baseline, the default here). Its unit is the band's: a thousandth of the baseline's SD, of the
    baseline, or of the biomarker's own unit.

    Attributes
    ----------
    kp_ua : int
        µA for one whole unit of error (1000 milli), 0-2000.
    ki_ua_per_min : int
        µA a minute for one whole unit of error, 0-2000.
    """

    unit: Literal["baseline_milli", "sd_milli", "milli"] = "sd_milli"
    low_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = -500
    high_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 500
    kp_ua: Annotated[int, Field(ge=0, le=2_000)] = 50
    ki_ua_per_min: Annotated[int, Field(ge=0, le=2_000)] = 50


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3", "refractory_ms": 20_000}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: the excursion it is in, the error of the last update, and what each amplitude has shown.

    `apart_s` is a stimulate block's length, `baseline_n` the number of values that the session's baseline stands on.
    """

    program: Program
    excursion: Excursion
    apart_s: float
    baseline_n: float
    error: float = 0.0
    outlook: Outlook = field(default_factory=Outlook)


@dataclass(frozen=True, slots=True)
class ProportionalIntegral:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        baseline_n = prescription.baseline_ms / 1000.0  # one clean value a second
        return State(read_program(Program, prescription), Excursion(), prescription.stimulate_ms / 1000.0, baseline_n)

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: count it, and update the amplitude when it is time and enough of them agree."""
        assert isinstance(state, State)
        program = state.program
        look = follow(state.excursion, program, snapshot)
        state = _remembered(state, look, snapshot)
        if look.wait is not None:
            calm = not look.seen.doubt and not look.excursion.side
            return replace(state, excursion=look.excursion, error=0.0 if calm else state.error), look.wait
        error = _error(look.seen, program, snapshot)
        if error > 0.0 and _in_vain(state, look.seen, snapshot):
            words = f"did not come into its target band in {raises(state.outlook)} raises and by what they did would not with all that is allowed"
            excursion = replace(look.excursion, given_up=words)
            return replace(state, excursion=excursion), to_safety(excursion, program, snapshot)
        passed_min = min(look.passed_s, LONGEST_S) / 60.0
        change_ua = program.kp_ua * (error - state.error) + program.ki_ua_per_min * error * passed_min
        # A shrinking error may ask to take back; it never asks to go against the side that the biomarker is on.
        change_ua = max(0.0, change_ua) if error > 0.0 else min(0.0, change_ua)
        change_ua = min(max(change_ua, -program.step_ua), program.step_ua)
        request = go_to(snapshot, snapshot.present_ma + change_ua / 1000.0, look.so_far)
        excursion = acted(look.excursion, look.seen, changed=not request.hold)
        return replace(state, excursion=excursion, error=error), request

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.excursion.memory, state.program, snapshot)


def _remembered(state: State, look: Look, snapshot: Snapshot) -> State:
    """With this look's value, if it may be used."""
    if look.seen.doubt:
        return state
    value = look.excursion.memory.recent[-1]
    return replace(state, outlook=taken_in(state.outlook, value, look.seen.t_s, snapshot.present_ma, state.apart_s))


def _in_vain(state: State, seen: Estimate, snapshot: Snapshot) -> bool:
    """Whether not even all that is allowed is expected to bring the biomarker into its band."""
    if not finite(snapshot.ceiling_ma):
        return False
    up = state.program.more_moves == "up"
    baseline = None if snapshot.baseline is None or not finite(snapshot.baseline) else (snapshot.baseline, state.baseline_n)
    return in_vain(state.outlook, baseline, seen.low if up else seen.high, snapshot.ceiling_ma, up)


def _error(seen: Estimate, program: Program, snapshot: Snapshot) -> float:
    """Distance to the band in its units, positive where more stimulation is the answer; 0 inside."""
    _, size = program.scale(snapshot) or (0.0, 1.0)
    below = max(0.0, seen.low - seen.value) - max(0.0, seen.value - seen.high)
    return below / size if program.more_moves == "up" else -below / size


def build(settings: Settings) -> ProportionalIntegral:
    """The controller; its numbers come with the prescription."""
    return ProportionalIntegral()
