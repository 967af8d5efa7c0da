"""Phase-locked trigger: a pulse at a signed phase of the ongoing rhythm, only while that phase is known; power control otherwise.

Each usable row says phase, frequency, amplitude, signal-to-noise ratio and the expected error at the end of its window. From the
phase and the pace (the median frequency of the newest rows) the time at which the signed phase comes next is foretold. How well
that works is *measured*: each row's phase is compared with what the row before foretold. When that error and the stimulator's own
jitter together make the phase meaningless, this controller no longer triggers but keeps the biomarker in its band by power, as
`dual_threshold` does.
`trigger_s` is a wish: the session keeps it to the signed program (`control/pulse_plan.py`), the interlock to its deadline; how far off
pulses really were is measured, too, and three late ones in a row end phase-locking until a person re-arms.
"""

from __future__ import annotations

import cmath
import math
import statistics
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.controllers.dual_threshold import DualThreshold
from control.controllers.dual_threshold import Program as Power
from control.controllers.dual_threshold import State as PowerState
from control.estimate import STALE_S, Memory, drawn
from control.excursion import Excursion
from control.program import STRICT, Name, read_program
from control.steps import hold
from control.watch import Watch, look
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Authority, Prescription, StimRequest, finite

LEARN_N = 8  # forecasts that were checked before one is trusted
KEPT_N = 30
PACE_N = (
    15  # rows whose median frequency is the pace to foretell with: one row's own frequency is noisier than the rhythm is unsteady
)
LONGEST_GAP_S = 0.25  # two rows further apart say nothing about a forecast
GIVE_UP_N = 40  # rows without a checked forecast: the rows come too seldom for phases
BACK_SHARE = 0.8  # phase-locking resumes only when the error is this far below the limit
PARTS = ("angle", "sd", "frequency", "amplitude", "snr")


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Power):
    """What a clinician signs for this controller, beside what `dual_threshold` takes for its power control.

    Attributes
    ----------
    phase_channel : str
        Where the phase is read (columns phase.angle, .sd, .frequency, .amplitude, .snr of the biomarker `phase`).
    phase_deg : int
        Phase to hit, 0-359; 0 is the positive peak, 180 the trough.
    lead_ms : int
        A trigger is asked for at least this long ahead of the row it was made from, 5-200 ms: computing, wire, driver.
    interval_ms : int
        Least time between two triggers, 100-600,000 ms.
    amplitude_nv : int
        The rhythm's least amplitude, 0-100,000 nV.
    snr_millidb : int
        Its least signal-to-noise ratio, -20,000 to 40,000 thousandths of a dB.
    sd_deg : int
        The largest error that the estimator itself expects of this row, 1-90 degrees.
    jitter_deg : int
        The largest measured error of the forecasts, the stimulator's jitter included, 5-90 degrees.
    fire_jitter_us : int
        SD of the stimulator's own timing, as measured when it was taken into service, 0-50,000 µs.
    """

    phase_channel: Name
    phase_deg: Annotated[int, Field(ge=0, le=359)] = 0
    lead_ms: Annotated[int, Field(ge=5, le=200)] = 20
    interval_ms: Annotated[int, Field(ge=100, le=600_000)] = 1_000
    amplitude_nv: Annotated[int, Field(ge=0, le=100_000)] = 1_000
    snr_millidb: Annotated[int, Field(ge=-20_000, le=40_000)] = 0
    sd_deg: Annotated[int, Field(ge=1, le=90)] = 50
    jitter_deg: Annotated[int, Field(ge=5, le=90)] = 60
    fire_jitter_us: Annotated[int, Field(ge=0, le=50_000)] = 1_000


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {
    "biomarker": "relative_power.alpha",
    "channel": "F3",
    "phase_channel": "F3",
    "refractory_ms": 20_000,
}


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One row's rhythm: LSL s at the end of its window, degrees, Hz."""

    t_s: float
    angle_deg: float
    frequency_hz: float


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: power control's state, one watch a phase column, the last rhythm, errors of the newest forecasts
    (degrees), the newest frequencies, rows looked at since one could be checked, whether power control is in charge, and the last trigger's time."""

    program: Program
    power: PowerState
    watches: tuple[Watch, ...] = field(default_factory=lambda: (Watch(),) * len(PARTS))
    last: Seen | None = None
    frequencies_hz: tuple[float, ...] = ()
    errors_deg: tuple[float, ...] = ()
    unchecked_n: int = 0
    by_power: bool = False
    triggered_s: float | None = None
    fires: bool = False


@dataclass(frozen=True, slots=True)
class PhaseLocked:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        program = read_program(Program, prescription)
        fires = prescription.pulses is not None and prescription.authority != Authority.OBSERVE
        return State(program, PowerState(program, Excursion()), fires=fires)

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """Check the last forecast, then trigger, wait or leave it to power control."""
        assert isinstance(state, State)
        state, rhythm, objection = _rhythm(_watched(state, snapshot), snapshot)
        if snapshot.pulses_over:
            return state, hold(
                snapshot, "No trigger: three pulses in a row were late, so phase-locking has ended; a person must re-arm."
            )
        jitter_deg = measured_jitter_deg(state, snapshot.pulse_errors_us)
        state = _choose(state, jitter_deg)
        if state.by_power:
            return _by_power(state, snapshot, jitter_deg)
        if objection or rhythm is None:
            return state, hold(snapshot, f"No trigger: {objection or 'there is no phase'}.")
        if jitter_deg is None:
            return state, hold(
                snapshot, f"No trigger: the phase is being learned ({len(state.errors_deg)} of {LEARN_N} forecasts)."
            )
        earliest_s = rhythm.t_s + state.program.lead_ms / 1000.0
        if state.triggered_s is not None:
            earliest_s = max(earliest_s, state.triggered_s + state.program.interval_ms / 1000.0)
        due_s = next_time_s(rhythm, state.program.phase_deg, earliest_s)
        if due_s - rhythm.t_s > LONGEST_GAP_S:
            return state, hold(snapshot, "No trigger: the next one is not due yet.")
        ahead_ms = (due_s - rhythm.t_s) * 1000.0
        words = (
            f"{'Asks for a pulse' if state.fires else 'Would trigger'} at phase {state.program.phase_deg}° in {ahead_ms:.0f} ms, "
            f"give or take {jitter_deg:.0f}°, at the same amplitude{'' if state.fires else ', but nothing fires it: no pulses are signed'}."
        )
        return replace(state, triggered_s=due_s), replace(hold(snapshot, words), trigger_s=due_s)

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.power.excursion.memory, state.program, snapshot)


def next_time_s(rhythm: Seen, phase_deg: float, earliest_s: float) -> float:
    """When the phase comes first at or after `earliest_s`, LSL s."""
    cycles = ((phase_deg - rhythm.angle_deg) % 360.0) / 360.0
    missing = (earliest_s - rhythm.t_s) * rhythm.frequency_hz - cycles
    return rhythm.t_s + (cycles + max(0, math.ceil(missing - 1e-9))) / rhythm.frequency_hz


def measured_jitter_deg(state: State, pulse_errors_us: tuple[int, ...] = ()) -> float | None:
    """Circular SD of the forecasts' errors with the stimulator's jitter, degrees (at most 180); None before enough were checked.

    The stimulator's jitter is the signed one, or what its own pulses showed (µs) if that is more.
    """
    if len(state.errors_deg) < LEARN_N or state.last is None:
        return None
    # Root mean square about zero, on the circle: a steady bias misses the phase as surely as scatter.
    mean = sum(math.cos(math.radians(error)) for error in state.errors_deg) / len(state.errors_deg)
    sd_deg = 180.0 if mean <= 0.0 else math.degrees(math.sqrt(max(0.0, -2.0 * math.log(min(mean, 1.0)))))
    shown_us = math.sqrt(sum(error**2 for error in pulse_errors_us) / len(pulse_errors_us)) if pulse_errors_us else 0.0
    fire_deg = 360.0 * state.last.frequency_hz * max(float(state.program.fire_jitter_us), shown_us) * 1e-6
    return min(180.0, math.hypot(sd_deg, fire_deg))


def _watched(state: State, snapshot: Snapshot) -> State:
    """The band's biomarker is watched all the time, so that power control knows a frozen one when it takes over."""
    if state.by_power:
        return state
    now, program = state.power.excursion, state.program
    watch, _ = look(now.memory.watch, snapshot.biomarkers, program.biomarker, program.channel)
    return replace(state, power=replace(state.power, excursion=replace(now, memory=replace(now.memory, watch=watch))))


def _rhythm(state: State, snapshot: Snapshot) -> tuple[State, Seen | None, str]:
    """The rhythm of this row, or the objection to it; a forecast that this row can check is checked."""
    program, values = state.program, {}
    watches, objection = [], ""
    for part, watch in zip(PARTS, state.watches, strict=True):
        watch, reading = look(watch, snapshot.biomarkers, f"phase.{part}", program.phase_channel)
        watches.append(watch)
        fresh = reading.fresh
        if reading.value is None:
            objection = objection or reading.reason
        else:
            values[part] = reading.value
    t_s = snapshot.biomarkers.t_s
    state = replace(state, watches=tuple(watches), unchecked_n=min(state.unchecked_n + 1, GIVE_UP_N))
    if not objection and not fresh:
        objection = "no new estimate"
    elif not objection and not (finite(snapshot.t_s) and -STALE_S <= snapshot.t_s - t_s <= LONGEST_GAP_S):
        objection = "the newest phase is too old"
    if objection:
        return state, None, objection
    if not 2.0 <= values["frequency"] <= 45.0:
        return state, None, f"{values['frequency']:.1f} Hz is no rhythm to lock to"
    state = replace(state, frequencies_hz=(*state.frequencies_hz, values["frequency"])[-PACE_N:])
    rhythm = Seen(t_s, values["angle"], statistics.median(state.frequencies_hz))
    if state.last is not None and 0.0 < t_s - state.last.t_s <= LONGEST_GAP_S:
        foretold_deg = state.last.angle_deg + 360.0 * state.last.frequency_hz * (t_s - state.last.t_s)
        error_deg = math.degrees(cmath.phase(cmath.exp(1j * math.radians(rhythm.angle_deg - foretold_deg))))
        state = replace(state, errors_deg=(*state.errors_deg, error_deg)[-KEPT_N:], unchecked_n=0)
    return replace(state, last=rhythm), rhythm, _gates(values, program)


def _gates(values: dict[str, float], program: Program) -> str:
    """Why this row's phase may not be triggered on; "" if it may."""
    if values["amplitude"] < program.amplitude_nv / 1000.0:
        return f"the rhythm is too small ({values['amplitude']:.1f} µV)"
    if values["snr"] < program.snr_millidb / 1000.0:
        return f"the rhythm does not stand out ({values['snr']:.1f} dB)"
    if values["sd"] > program.sd_deg:
        return f"the phase is known to {values['sd']:.0f}° only"
    return ""


def _choose(state: State, jitter_deg: float | None) -> State:
    """Phase or power: to power when the measured error is too large or nothing can be measured, back well below the limit."""
    limit_deg = state.program.jitter_deg * (BACK_SHARE if state.by_power else 1.0)
    meaningless = state.unchecked_n >= GIVE_UP_N or (jitter_deg is not None and jitter_deg > limit_deg)
    if state.by_power and jitter_deg is None:
        meaningless = True
    if meaningless == state.by_power:
        return state
    # Counts and averages begin anew; when it last acted (the signed refractory time), where it began and that it gave up do not.
    before = state.power.excursion
    fresh = replace(before, memory=Memory(before.memory.watch), side="", agree_n=0, since_s=0.0, top_n=0)
    return replace(state, by_power=meaningless, power=PowerState(state.program, fresh))


def _by_power(state: State, snapshot: Snapshot, jitter_deg: float | None) -> tuple[State, StimRequest]:
    power, request = DualThreshold().decide(state.power, snapshot)
    why = "unknown" if jitter_deg is None else f"off by {jitter_deg:.0f}°"
    words = request.reason[0].lower() + request.reason[1:]
    return replace(state, power=power), replace(request, reason=f"Phase {why}, so by power: {words}")


def build(settings: Settings) -> PhaseLocked:
    """The controller; its numbers come with the prescription."""
    return PhaseLocked()
