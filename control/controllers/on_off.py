"""On/off threshold: all of it outside the band, none inside it, in bounded steps, with dwell and refractory time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.estimate import drawn
from control.excursion import Excursion, acted, follow
from control.program import STRICT, Paced, read_program
from control.steps import go_to
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, StimRequest


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Paced):
    """What a clinician signs for this controller, beside the target band and its pace.

    If more stimulation lowers the biomarker (`more_moves` "down"), it is switched on above the band and off below it;
    the other way round for "up". Between `low_milli` and `high_milli` it stays as it is. A switch may take several steps.

    Attributes
    ----------
    on_ua : int
        The amplitude "on", 1-4000 µA.
    """

    on_ua: Annotated[int, Field(ge=1, le=4_000)]


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"biomarker": "relative_power.alpha", "channel": "F3", "on_ua": 800, "more_moves": "down"}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: the excursion it is in."""

    program: Program
    excursion: Excursion


@dataclass(frozen=True, slots=True)
class OnOff:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        return State(read_program(Program, prescription), Excursion())

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: count it, and go a step towards on or off if enough of them agree."""
        assert isinstance(state, State)
        program = state.program
        look = follow(state.excursion, program, snapshot, top_ma=program.on_ua / 1000.0)
        if look.wait is not None:
            return State(program, look.excursion), look.wait
        on = (look.excursion.side == "under") == (program.more_moves == "up")
        wanted_ma, step_ma = program.on_ua / 1000.0 if on else 0.0, program.step_ua / 1000.0
        towards_ma = min(max(wanted_ma, snapshot.present_ma - step_ma), snapshot.present_ma + step_ma)
        request = go_to(snapshot, towards_ma, f"{look.so_far}, which means {'on' if on else 'off'}")
        now = look.excursion if request.hold else acted(look.excursion, look.seen, changed=True)
        return State(program, now), request

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.excursion.memory, state.program, snapshot)


def build(settings: Settings) -> OnOff:
    """The controller; its numbers come with the prescription."""
    return OnOff()
