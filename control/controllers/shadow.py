"""Shadow: another controller decides on its own imagined amplitude and is logged; the true amplitude is never moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.program import STRICT, read_program
from control.steps import hold, present
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.plugins import find
from eegloop.ports import Controller, Snapshot
from eegloop.stim import Prescription, PrescriptionError, StimRequest


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program:
    """What a clinician signs for this controller, beside the settings of the one it shadows.

    Attributes
    ----------
    of : str
        The controller that decides in the shadow (any but `shadow` and `sham`).
    """

    of: Annotated[str, Field(min_length=1, max_length=60)]


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {"of": "dual_threshold", "biomarker": "relative_power.alpha", "channel": "F3"}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """The shadowed controller, its state, and the amplitude it imagines (None until the first decision)."""

    of: str
    inner: Any
    imagined_ma: float | None = None


def shadowed(prescription: Prescription) -> tuple[str, object]:
    """Name and first state of the controller named by `of`, started with the rest of the settings."""
    settings = dict(prescription.settings)
    of = {"of": settings.pop("of")} if "of" in settings else {}
    program = read_program(Program, replace(prescription, settings=of))
    if program.of in ("shadow", "sham"):
        raise PrescriptionError(f"prescription.settings.of: {program.of!r} cannot be shadowed")
    inner = replace(prescription, controller=program.of, settings=settings)
    return program.of, inner_of(program.of).start(inner)


@cache
def inner_of(kind: str) -> Controller:
    """The controller of this name; looked for once, because that reads files and a decision may not.

    Raises
    ------
    PrescriptionError
        If there is none.
    """
    try:
        module = find("controller", kind)
    except ConfigError as error:
        raise PrescriptionError(f"prescription.settings.of: {error}") from None
    controller: Controller = module.build(module.Settings())
    return controller


def imagine(state: State, snapshot: Snapshot) -> tuple[State, StimRequest]:
    """One decision of the shadowed controller, on the amplitude it imagines, between the same floor and ceiling."""
    imagined_ma = present(snapshot) if state.imagined_ma is None else state.imagined_ma
    inner, request = inner_of(state.of).decide(state.inner, replace(snapshot, present_ma=imagined_ma))
    return replace(state, inner=inner, imagined_ma=request.amplitude_ma), request


@dataclass(frozen=True, slots=True)
class Shadow:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        of, inner = shadowed(prescription)
        return State(of=of, inner=inner)

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """Let the other decide, keep the amplitude, and say what it would have done."""
        assert isinstance(state, State)
        state, request = imagine(state, snapshot)
        would = request.reason.rstrip(".")
        return state, hold(snapshot, f"In the shadow only, at {state.imagined_ma:.2f} mA: {would} (not delivered).")

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return inner_of(state.of).target(state.inner, snapshot)


def build(settings: Settings) -> Shadow:
    """The controller; its numbers come with the prescription."""
    return Shadow()
