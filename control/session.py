"""The session's state machine: where a session stands, what it may do next, and the sentence that says why.

`off → screen → contact → baseline → ramp_up → on → ramp_down → post`; from anywhere `fallback` (ramp to zero) or
`stopped` (zero, latched until a person re-arms); docs/session.md is drawn from `TRANSITIONS`. Pure: time comes in with
the inputs, everything remembered is in `SessionState`. One tick of the loop is

    state, effects = session.step(state, inputs, prescription)
    if effects.decide:
        snapshot = session.snapshot(state, inputs, prescription)
        controller_state, request = controller.decide(controller_state, snapshot)
        verdict = envelope.limit(request, prescription, session.standing(state, inputs, prescription), device_limits)
        state = session.permit(state, verdict, inputs, prescription)
    # then send effects.command to the interlock, and a heartbeat if effects.heartbeat

A decision moves `present_ma`, the amplitude of the *next* stimulate block; it reaches the interlock with that block's `set`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from control import pulse_plan
from control.dose import ramp_s
from control.envelope import Standing
from control.phases import (
    PHASES,
    STIM_FRESH_S,
    guard,
    no_start,
    obstacles,
    person_stops,
    stop,
)
from control.pulse_plan import PulseNews
from control.screening import Level
from control.sentences import alarms, sentence
from control.state import Alarm, Effects, Inputs, OperatorEvent, SessionState, changed
from control.tick import Tick, bad_channels, bookkeeping, budget, ceiling_now_ma, target_of
from control.transitions import BASELINE, CONTACT, CONTACT_S, FALLBACK, LIVE, OFF, ON, POST, RAMP_UP, SCREEN, STOPPED, TRANSITIONS
from control.watch import look
from eegloop.ports import Snapshot
from eegloop.stim import Authority, Block, Limit, Prescription, Verdict, within

__all__ = [
    "TRANSITIONS",
    "Alarm",
    "Effects",
    "Inputs",
    "OperatorEvent",
    "SessionState",
    "heard_pulses",
    "initial",
    "permit",
    "snapshot",
    "standing",
    "step",
    "target_of",
    "trigger",
]


def initial(t_s: float) -> SessionState:
    """The state after any start of the service: `stopped`, latched (S10)."""
    return SessionState(since_s=t_s, t_s=t_s)


def step(state: SessionState, inputs: Inputs, prescription: Prescription) -> tuple[SessionState, Effects]:
    """One tick: the next state and what it wants done.

    In this order: the clock, STOP, what the interlock says and what forbids stimulation, then the phase's own step.
    """
    stim = inputs.stim if within(inputs.stim_age_s, STIM_FRESH_S) else None
    name, channel = target_of(prescription)
    watch, reading = look(state.watch, inputs.biomarkers, name, channel)
    tick = Tick(inputs, prescription, reading, stim, bad_channels(inputs))
    if math.isfinite(inputs.t_s) and inputs.t_s >= state.t_s:
        state = bookkeeping(changed(state, t_s=inputs.t_s, watch=watch), tick)
        result = person_stops(state, tick) or guard(state, tick) or PHASES[state.phase](state, tick)
    else:
        result = stop(state, "clock", "Stopped: the sample clock ran backwards or is not a number.")
    state, effects = result
    return state, _complete(state, effects, tick)


def snapshot(state: SessionState, inputs: Inputs, prescription: Prescription) -> Snapshot:
    """What the controller may know; only to be asked for when `Effects.decide` (there are biomarkers then)."""
    if inputs.biomarkers is None:
        raise ValueError("session.snapshot: no biomarkers; ask only when Effects.decide is True")
    return Snapshot(
        t_s=inputs.biomarkers.t_s,
        biomarkers=inputs.biomarkers,
        present_ma=state.present_ma,
        floor_ma=0.0,
        ceiling_ma=ceiling_now_ma(state, inputs, prescription),
        frequency_hz=prescription.frequency_hz,
        stim=inputs.stim,
        baseline=state.baseline,
        baseline_sd=state.baseline_sd,
        pulse_errors_us=state.pulses.errors_us,
        pulses_over=state.pulses.over,
    )


def standing(state: SessionState, inputs: Inputs, prescription: Prescription) -> Standing:
    """The numbers the envelope limits by: present and last amplitude, ceiling, time and charge left."""
    left_s, left_uc = budget(state, inputs, prescription)
    return Standing(
        present_ma=state.present_ma,
        block_ma=state.block_ma,
        ceiling_ma=ceiling_now_ma(state, inputs, prescription),
        left_s=left_s,
        left_uc=left_uc,
    )


def permit(state: SessionState, verdict: Verdict, inputs: Inputs, prescription: Prescription) -> SessionState:
    """Take a verdict into the session as the next stimulate block's amplitude.

    Held instead: outside a sense block, and on a biomarker that may not move a dose. A hold never raises, and no
    verdict passes the prescription or the ceiling, whatever it says.
    """
    if state.phase != ON or state.block != Block.SENSE:
        return replace(state, holds=state.holds + 1)
    usable = state.watch.usable or target_of(prescription)[0] == ""
    hold = verdict.request.hold or not usable
    # Under `observe` nothing is delivered: what would be is remembered, so that the shadow goes on from it.
    granted_ma = verdict.request.amplitude_ma if prescription.authority == Authority.OBSERVE else verdict.amplitude_ma
    if hold and (prescription.authority == Authority.OBSERVE or not verdict.request.hold):
        granted_ma = state.present_ma
    top_ma = ceiling_now_ma(state, inputs, prescription)
    new_ma = min(granted_ma, top_ma) if within(granted_ma, math.inf) else 0.0
    if hold:
        new_ma = min(new_ma, state.present_ma)
    return changed(
        state,
        present_ma=new_ma,
        ceiling_ma=new_ma if state.ceiling_ma is None else min(state.ceiling_ma, new_ma),
        decisions=state.decisions + 1,
        holds=state.holds + int(hold),
    )


LEAST_AHEAD_S = 0.005  # a deadline nearer than this would be skipped: it cannot reach the interlock any more


def trigger(
    state: SessionState, verdict: Verdict, t_s: float, prescription: Prescription
) -> tuple[SessionState, float | None, Verdict]:
    """The pulse that a controller asked for, if it may be; the verdict says why not.

    Parameters
    ----------
    t_s : float
        The tick's own time, LSL s: when the decision was made, not when its window ended.

    Returns
    -------
    SessionState, float or None, Verdict
        The pulse counted as sent, its deadline (LSL s), and the verdict with the limit that kept it back.
    """
    at_s, program = verdict.request.trigger_s, prescription.pulses
    if at_s is None or program is None or prescription.authority == Authority.OBSERVE:
        return state, None, verdict
    why = pulse_plan.objection(state.pulses, at_s, program)
    if not (state.phase == ON and state.block == Block.SENSE and state.armed and state.quiet_since_s is not None):
        why = "the stimulator is not armed in confirmed zero"
    elif not why and not at_s - t_s >= LEAST_AHEAD_S:
        why = "its time had come before it could be sent"
    if why:
        limit = Limit("pulse", program.train_millihz / 1000, "Hz", "prescription")
        return state, None, replace(verdict, limits=(*verdict.limits, limit), sentence=f"No pulse: {why}.")
    return replace(state, pulses=pulse_plan.sent(state.pulses, at_s, program)), at_s, verdict


def heard_pulses(state: SessionState, news: tuple[PulseNews, ...]) -> SessionState:
    """What the interlock said became of the pulses."""
    for one in news:
        state = replace(state, pulses=pulse_plan.heard(state.pulses, one))
    return state


def _complete(state: SessionState, effects: Effects, tick: Tick) -> Effects:
    """Add what every tick says: whether the lease may be renewed, the sentence, the time left, the alarms."""
    heartbeat = state.armed and (state.phase in LIVE or state.phase == FALLBACK)
    left_s = _left_s(state, tick)
    obstacle = _obstacle(state, tick)
    return changed(
        effects,
        heartbeat=heartbeat,
        left_s=left_s,
        sentence=sentence(
            state,
            left_s,
            tick.bad_channels,
            obstacle,
            tick.reading.reason,
            refused=_in_vain(state, tick, obstacle),
            observe=tick.observe,
            blinded=tick.inputs.blinded,
        ),
        alarms=alarms(state, tick.inputs, tick.prescription, tick.stim),
    )


def _obstacle(state: SessionState, tick: Tick) -> str:
    """What people are told is in the way of the next step, "" if nothing is or nobody asks."""
    if state.phase == STOPPED:
        return obstacles(tick, Level.HOLD)
    if state.phase in (FALLBACK, CONTACT, BASELINE):
        return obstacles(tick)
    if state.phase in (OFF, POST):
        return no_start(tick).rstrip(".")
    if state.phase == SCREEN and tick.inputs.findings:
        return tick.inputs.findings[0].text.rstrip(".")
    return ""


def _in_vain(state: SessionState, tick: Tick, obstacle: str) -> str:
    """What a person has just asked for although it cannot be."""
    if not obstacle:
        return ""
    if state.phase in (OFF, POST) and tick.who("start"):
        return "start"
    return "re-arm" if state.phase in (STOPPED, FALLBACK) and tick.who("rearm") else ""


def _left_s(state: SessionState, tick: Tick) -> float | None:
    """Seconds left of what is going on now, None where nobody can know."""
    prescription, here_s = tick.prescription, state.t_s - state.since_s
    if state.phase == CONTACT and state.contact_since_s is not None:
        return max(0.0, CONTACT_S - min(here_s, state.t_s - state.contact_since_s))
    if state.phase == BASELINE:
        taken_s = float(len(state.baseline_values)) if target_of(prescription)[0] else here_s
        return 0.0 if state.baseline_done else max(0.0, prescription.baseline_ms / 1000 - taken_s)
    if state.phase == RAMP_UP:
        return max(0.0, ramp_s(0.0, state.present_ma, prescription.ramp_ua_per_s) - here_s)
    if state.phase == ON and state.block == Block.STIMULATE:
        return max(0.0, prescription.stimulate_ms / 1000 - (state.t_s - state.block_since_s))
    if state.phase == ON and state.quiet_since_s is not None:
        return max(0.0, prescription.sense_ms / 1000 - (state.t_s - max(state.quiet_since_s, state.block_since_s)))
    return None
