"""Sham: the same decisions are made and logged, and nothing is ever asked for.

The prescription of a sham arm is signed with `start_ua` and `amplitude_ua` 0, so that no part of the line, the interlock
included, could deliver anything, and the sentence is the same in every tick. Run by itself it blinds nobody: page, log, recording and
configuration say the controller's name and what is delivered. In a blinded trial it is what the interlock holds, and the line runs the
active program in both arms (docs/blinding.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from control.controllers.shadow import EXAMPLE as _SHADOW_EXAMPLE
from control.controllers.shadow import Program, State, imagine, inner_of, shadowed
from control.steps import hold
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, PrescriptionError, StimRequest

__all__ = ["EXAMPLE", "Program", "Settings", "Sham", "build"]

# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = dict(_SHADOW_EXAMPLE)


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class Sham:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        if prescription.amplitude_ua or prescription.start_ua:
            raise PrescriptionError(
                f"prescription.amplitude_ua: {prescription.amplitude_ua} must be 0, and start_ua 0, for the controller 'sham'"
            )
        of, inner = shadowed(prescription)
        return State(of=of, inner=inner)

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """Let the other decide for the log, hold, and say nothing that tells the arms apart."""
        assert isinstance(state, State)
        state, _ = imagine(state, snapshot)
        return state, hold(snapshot, "The assigned program goes on as it was signed.")

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return inner_of(state.of).target(state.inner, snapshot)


def build(settings: Settings) -> Sham:
    """The controller; its numbers come with the prescription."""
    return Sham()
