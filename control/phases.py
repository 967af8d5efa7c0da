"""What each phase of a session does with a tick, and what forbids stimulation in any of them. `session.step` calls these."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

from control.dose import charge_uc, ramp_s, ramp_uc
from control.pulse_plan import Pulses, used_up
from control.screening import LOCKOUT, Level
from control.sentences import BLINDED
from control.state import Effects, SessionState, changed
from control.tick import Tick, budget, ceiling_now_ma, target_of
from control.transitions import ALLOWED, CONTACT_S, FALLBACK, LIVE, RAMP_DOWN, STOPPED
from eegloop.stim import Block, InterlockMode, Phase, Prescription, within

# How long things may take before the session gives up on them, s.
ARM_S = 5.0  # from "arm" to `armed`
SETTLE_S = 5.0  # beyond a ramp's own length until the interlock reports its end
# The interlock's words for no trip, as its reasons begin.
PLANNED_ENDS = ("session ended", "session time used", "session charge used", "the prescription ends at ")
FELL = "fallback: "
ARM_REPEAT_S = 2.0  # "arm" again, well below the interlock's ten refusals a minute
REPEAT_S = 0.5  # a command that the interlock did not follow is sent again
STIM_FRESH_S = 0.3  # older interlock news says nothing about the output
STIM_LOST_S = 1.0  # older than this while armed: stop
DECIDE_S = 1.0  # between two decisions
DELAYED_S = 1.0  # older samples decide nothing
BASELINE_N = 600  # values a baseline keeps at most
TWO_STRIKES = 2  # fallbacks that end a session
_SAME_MA = 0.0005  # half a µA

NOTHING = Effects()  # what most ticks want done: one for all, it never changes

Result = tuple[SessionState, Effects]


def _wanted_ma(state: SessionState) -> float:
    return 0.0 if state.block == Block.SENSE else state.present_ma


def obstacles(tick: Tick, least: Level = Level.BLOCK) -> str:
    """What forbids stimulation now, "" if nothing does; asked before a ramp-up and before a re-arm.

    `least`: findings below it are not in the way (from `stopped` a person re-arms before they are asked the forms).
    """
    inputs, prescription = tick.inputs, tick.prescription
    if not inputs.recording_ok:
        return "nothing is being recorded"
    if not inputs.audit_ok:
        return "the audit trail is not being written"
    if inputs.findings and inputs.findings[0].level >= least:
        return inputs.findings[0].text.rstrip(".")
    if not within(inputs.supervised_age_s, prescription.supervision_ms / 1000):
        return "no page is watching"
    if not within(inputs.sample_age_s, prescription.stale_ms / 1000):
        return "the headset is silent"
    if not tick.observe and not tick.zero:
        return "the interlock has not confirmed zero output"
    return ""


# --- changes of phase -------------------------------------------------------------------------------------------


def _go(state: SessionState, phase: Phase, reason: str) -> SessionState:
    """Enter a phase; the clock of the output and the block end with the phases that have them."""
    if (state.phase, phase) not in ALLOWED:
        raise ValueError(f"session: no way from {state.phase} to {phase}")
    state = replace(state, phase=phase, block="", since_s=state.t_s, block_since_s=state.t_s, reason=reason, latched_by="")
    if phase not in LIVE and state.output_since_s is not None:
        state = replace(state, used_s=state.used_s + state.t_s - state.output_since_s, output_since_s=None)
    return state


def stop(state: SessionState, by: str, reason: str) -> Result:
    """To zero, latched; asked again of the interlock even if already stopped (S2: never refused, repeats count)."""
    if state.phase != Phase.STOPPED:
        state = _go(state, Phase.STOPPED, reason)
    return replace(state, reason=reason, latched_by=by, armed=False, sent_s=state.t_s), Effects(command="stop", reason=reason)


def _fall(state: SessionState, tick: Tick, reason: str) -> Result:
    """Ramp to zero and wait for a person. Without a confirmed arm there may be one under way: then stop outright."""
    state = replace(_go(state, Phase.FALLBACK, reason), fallbacks=state.fallbacks + 1, sent_s=state.t_s)
    state = replace(state, used_s=state.used_s + tick.prescription.fallback_ms / 1000)
    command = "" if tick.observe else "fallback" if state.armed else "stop"
    return state, Effects(command=command, reason=reason)


def _begin(state: SessionState, who: str, session_s: float) -> Result:
    """A new session's counters; dose used is kept unless the last session was ended in order, or its time has run out since."""
    over = state.begun_s is not None and state.t_s - state.begun_s >= session_s
    used_s = 0.0 if state.phase == Phase.POST or over else state.used_s
    state = _go(state, Phase.SCREEN, "The screening questions are asked.")
    fresh = SessionState(
        phase=state.phase, since_s=state.t_s, block_since_s=state.t_s, t_s=state.t_s, reason=state.reason, latched_by="",
        started_by=who, used_s=used_s, begun_s=state.begun_s if used_s else None, quiet_since_s=state.quiet_since_s, contact_since_s=state.contact_since_s,
        ceiling_ma=state.ceiling_ma, pulses=state.pulses if used_s else Pulses(), halts_seen=state.halts_seen, watch=state.watch,
    )  # fmt: skip
    return fresh, Effects(reason=f"session started by {who}")


# --- what is checked before any phase's own step ---------------------------------------------------------------


def person_stops(state: SessionState, tick: Tick) -> Result | None:
    for event in tick.inputs.events:
        if event.kind == "stop":
            return stop(state, "person", f"Stopped by {event.who or 'a person'}. {event.detail}".rstrip())
    stim = tick.inputs.stim
    if stim is None or stim.halts == state.halts_seen:
        return None
    # A STOP that did not pass the daemon, or a trip: it latches whatever the session was about to do.
    state = replace(state, halts_seen=stim.halts)
    if state.phase == Phase.STOPPED:
        return replace(state, latched_by="person" if state.latched_by == "restart" else state.latched_by), NOTHING
    by, reason = (
        ("interlock", f"The interlock stopped: {stim.reason}.") if state.armed else ("person", "Stopped: STOP was pressed.")
    )
    return stop(state, by, reason)


def guard(state: SessionState, tick: Tick) -> Result | None:
    """What ends or forbids stimulation whatever the phase does (S1, S4, S6, S13)."""
    inputs, stim = tick.inputs, tick.stim
    if state.phase == STOPPED:
        return None
    if state.phase == FALLBACK:  # on its way down already; what is reported now may still need zero at once, latched
        return _report_stops(state, tick)
    if state.phase not in LIVE or tick.observe:
        if stim is not None and stim.mode != InterlockMode.STOPPED:
            return stop(state, "interlock", f"Stopped: the interlock is {stim.mode} though nothing may be delivered.")
        if state.phase not in LIVE:
            return None
    if not inputs.recording_ok:
        return stop(state, "record", "Stopped: nothing is being recorded.")
    if not inputs.audit_ok:
        return stop(state, "record", "Stopped: the audit trail is not being written.")
    if state.armed:
        if not within(inputs.stim_age_s, STIM_LOST_S):
            return stop(state, "interlock", f"Stopped: the interlock has said nothing for {STIM_LOST_S:g} s.")
        why = stim.reason.removeprefix("on the way down: ") if stim is not None else ""
        if stim is not None and (stim.mode == InterlockMode.FALLBACK or why.startswith(FELL)):  # from zero it has fallen at once
            return _fall(state, tick, f"The interlock ramps to zero: {why.removeprefix(FELL)}.")
        if why.startswith(PLANNED_ENDS):
            if state.phase != Phase.RAMP_DOWN:
                return replace(_go(state, Phase.RAMP_DOWN, f"The interlock ends it: {why}."), sent_s=state.t_s), NOTHING
        elif stim is not None and stim.mode == InterlockMode.STOPPED:
            return stop(state, "interlock", f"The interlock stopped: {stim.reason}.")
    if (stopped := _report_stops(state, tick)) is not None:
        return stopped
    if state.phase == RAMP_DOWN:
        return None
    if inputs.findings:
        gravest = max(finding.level for finding in inputs.findings)
        if gravest == Level.PAUSE:
            return _fall(state, tick, f"{inputs.findings[0].text} The output ramps to zero.")
        if gravest == Level.HOLD:
            return _enter_ramp_down(state, tick, inputs.findings[0].text)
    if not within(inputs.supervised_age_s, tick.prescription.supervision_ms / 1000):
        return _fall(state, tick, "No page is watching, so the output ramps to zero.")
    if not within(inputs.sample_age_s, tick.prescription.stale_ms / 1000):
        return _fall(state, tick, "The headset has been silent too long, so the output ramps to zero.")
    return None


def _report_stops(state: SessionState, tick: Tick) -> Result | None:
    """A grave report (a seizure, a burn) is a STOP whatever the output does (S12)."""
    if not tick.inputs.findings:
        return None
    grave = [finding for finding in tick.inputs.findings if finding.level == Level.STOP]
    return stop(state, "report", f"Stopped: {grave[0].text}") if grave else None


# --- one function a phase --------------------------------------------------------------------------------------


def _stopped(state: SessionState, tick: Tick) -> Result:
    if state.latched_by == "restart" and tick.self_serving and (tick.zero or tick.observe):
        return _begin(state, "demo", tick.prescription.session_ms / 1000)
    who = tick.who("rearm")
    if who and obstacles(tick, Level.HOLD) == "":
        return _go(state, Phase.OFF, f"Re-armed by {who}."), Effects(reason=f"re-armed by {who}")
    stim = tick.stim
    if stim is not None and stim.mode == InterlockMode.ARMED and state.t_s - state.sent_s >= REPEAT_S:
        return replace(state, sent_s=state.t_s), Effects(command="stop", reason=state.reason)
    return state, NOTHING


def no_start(tick: Tick) -> str:
    """Why no session may begin, whatever is answered next: the lockout, or what waits for a clinician; "" if one may."""
    waiting = [f for f in tick.inputs.findings if f.level >= Level.HOLD or f.form == LOCKOUT]
    return waiting[0].text if waiting else ""


def _off(state: SessionState, tick: Tick) -> Result:
    who = tick.who("start")
    return _begin(state, who, tick.prescription.session_ms / 1000) if who and not no_start(tick) else (state, NOTHING)


def _screen(state: SessionState, tick: Tick) -> Result:
    """On to the contact once the forms forbid nothing: with the answer that was the last one needed, or a person's word."""
    if who := tick.who("end"):
        return _go(state, Phase.OFF, f"Ended by {who}."), NOTHING
    who = tick.who("answer") or tick.who("screened") or ("the virtual person (demo)" if tick.self_serving else "")
    if who and not tick.inputs.findings:
        return _go(state, Phase.CONTACT, f"Screening answered by {who}."), Effects(reason=f"screened by {who}")
    return state, NOTHING


def _contact(state: SessionState, tick: Tick) -> Result:
    if who := tick.who("end"):
        return _go(state, Phase.OFF, f"Ended by {who}."), NOTHING
    if state.contact_since_s is None or state.t_s - max(state.contact_since_s, state.since_s) < CONTACT_S:
        return state, NOTHING
    if state.baseline_done:
        return _enter_ramp_up(state, tick)
    return replace(_go(state, Phase.BASELINE, "Contact is good."), baseline_values=(), baseline_s=state.t_s), NOTHING


def _baseline(state: SessionState, tick: Tick) -> Result:
    inputs, needed_s = tick.inputs, tick.prescription.baseline_ms / 1000
    if who := tick.who("end"):
        return _go(state, Phase.OFF, f"Ended by {who}."), NOTHING
    if not within(inputs.sample_age_s, tick.prescription.stale_ms / 1000):
        return _go(state, Phase.CONTACT, "The headset went silent: contact again."), NOTHING
    if state.baseline_done:
        return _enter_ramp_up(state, tick)
    value = tick.reading.value
    if value is not None and tick.reading.fresh and tick.reading.t_s - state.baseline_s >= 1.0:
        values = (*state.baseline_values, value)[-BASELINE_N:]
        middle = statistics.median(values)
        state = replace(
            state,
            baseline_values=values,
            baseline_s=tick.reading.t_s,
            baseline=middle,
            baseline_sd=1.4826 * statistics.median(abs(v - middle) for v in values),
        )
    clean_s = float(len(state.baseline_values)) if target_of(tick.prescription)[0] else state.t_s - state.since_s
    return _enter_ramp_up(state, tick) if clean_s >= needed_s else (state, NOTHING)


def _enter_ramp_up(state: SessionState, tick: Tick) -> Result:
    state = replace(state, pulses=replace(state.pulses, late_in_a_row=0))  # a person has re-armed: the interlock counts anew, too
    if state.phase == Phase.BASELINE and not state.baseline_done:
        state = replace(state, baseline_done=True, baseline_values=())
    if obstacles(tick):
        return state, NOTHING
    start_ma = tick.prescription.start_ua / 1000 if state.ramps == 0 else min(tick.prescription.start_ua / 1000, state.present_ma)
    start_ma = min(start_ma, ceiling_now_ma(state, tick.inputs, tick.prescription))
    if tick.observe:
        state = _go(state, Phase.ON, "Watching only: this prescription delivers nothing.")
    else:
        state = _go(state, Phase.RAMP_UP, _rising(start_ma, tick))
    state = replace(
        state,
        ramps=state.ramps + 1,
        present_ma=start_ma,
        block_ma=start_ma,
        ceiling_ma=start_ma if state.ceiling_ma is None else min(state.ceiling_ma, start_ma),
        armed=False,
        sent_s=state.t_s,
        output_since_s=state.t_s,
        begun_s=state.t_s if state.begun_s is None else state.begun_s,
        decided_s=None,
    )
    if tick.observe:
        return _enter_block(state, tick, first_block(tick.prescription))
    return state, Effects(command="arm", reason=f"session started by {state.started_by}")


def _rising(to_ma: float, tick: Tick) -> str:
    return f"{BLINDED} the program rises to {to_ma:.2f} mA." if tick.inputs.blinded else f"Ramping up to {to_ma:.2f} mA."


def first_block(prescription: Prescription) -> Block:
    """What `on` begins with. Pulses need no current: it listens all the time, and triggers them one by one."""
    return Block.SENSE if prescription.pulses is not None else Block.STIMULATE


def _ramp_up(state: SessionState, tick: Tick) -> Result:
    if who := tick.who("end"):
        return _enter_ramp_down(state, tick, f"Ended by {who}.")
    stim, waited_s = tick.stim, state.t_s - state.since_s
    if not state.armed:
        if stim is not None and stim.mode == InterlockMode.ARMED:
            state = replace(state, armed=True, block=Block.STIMULATE, output_since_s=state.t_s, sent_s=state.t_s)
            # What the interlock knows of the course from before this service was started may be lower than what was begun with.
            top_ma = ceiling_now_ma(state, tick.inputs, tick.prescription)
            if top_ma < state.present_ma:
                state = replace(state, present_ma=top_ma, block_ma=top_ma, ceiling_ma=top_ma, reason=_rising(top_ma, tick))
            return state, _set(state, tick)
        if waited_s > ARM_S:
            told = stim.refusal or stim.reason if stim is not None else "no answer"
            return stop(state, "interlock", f"Stopped: the interlock did not arm ({told}).")
        if state.t_s - state.sent_s >= ARM_REPEAT_S:
            return replace(state, sent_s=state.t_s), Effects(command="arm", reason="repeated")
        return state, NOTHING
    if stim is not None and abs(stim.commanded_ma - state.present_ma) <= _SAME_MA:
        within_limits = (
            f"{BLINDED} the program runs within the signed limits."
            if tick.inputs.blinded
            else "Stimulating within the signed limits."
        )
        return _enter_block(_go(state, Phase.ON, within_limits), tick, first_block(tick.prescription))
    if waited_s > ramp_s(0.0, state.present_ma, tick.prescription.ramp_ua_per_s) + ARM_S + SETTLE_S:
        return _fall(state, tick, "The output did not reach its start amplitude, so it ramps to zero.")
    return _insist(state, tick)


def _on(state: SessionState, tick: Tick) -> Result:
    if who := tick.who("end"):
        return _enter_ramp_down(state, tick, f"Ended by {who}.")
    prescription = tick.prescription
    output_ma = max(state.block_ma, state.present_ma)
    left_s, left_uc = budget(state, tick.inputs, prescription)
    if left_s <= ramp_s(0.0, output_ma, prescription.ramp_ua_per_s) + REPEAT_S:
        return _enter_ramp_down(state, tick, "The prescribed time is over.")
    if not tick.observe and left_uc <= ramp_uc(0.0, output_ma, prescription.ramp_ua_per_s) + charge_uc(output_ma, REPEAT_S):
        used = f"{BLINDED} the program's charge is used up." if tick.inputs.blinded else "The prescribed charge is given."
        return _enter_ramp_down(state, tick, used)
    if prescription.pulses is not None and used_up(state.pulses, prescription.pulses):
        return _after_the_last_pulse(state, tick)
    if state.block == Block.STIMULATE:
        if state.t_s - state.block_since_s >= prescription.stimulate_ms / 1000:
            return _enter_block(state, tick, Block.SENSE)
        return _insist(state, tick)
    return _sense(state, tick)


def _after_the_last_pulse(state: SessionState, tick: Tick) -> Result:
    """The last pulse may still wait for its time; then the session ends in order."""
    if state.t_s - (state.pulses.last_s or state.t_s) < REPEAT_S:
        return _insist(state, tick)
    return _enter_ramp_down(state, tick, "As many pulses as signed were given.")


def _sense(state: SessionState, tick: Tick) -> Result:
    """Look without output; decide only on windows that lie wholly inside the confirmed zero (S7)."""
    prescription, reading = tick.prescription, tick.reading
    if state.quiet_since_s is None:
        ramp = ramp_s(0.0, state.block_ma, prescription.ramp_ua_per_s)
        if state.t_s - state.block_since_s > ramp + SETTLE_S:
            return _fall(state, tick, "Zero output was not confirmed, so it ramps to zero.")
        return _insist(state, tick)
    quiet_s = max(state.quiet_since_s, state.block_since_s)
    clean = target_of(prescription)[0] == ""
    # A row from the future is a broken clock: it counts as none.
    row_s = reading.t_s if reading.t_s <= state.t_s + DELAYED_S else -math.inf
    if not clean:
        if state.t_s - max(quiet_s, row_s) > prescription.stale_ms / 1000:
            return _fall(state, tick, "The biomarker has been stale too long, so the output ramps to zero.")
        good_s = state.watch.good_s
        if good_s is not None and good_s > state.t_s + DELAYED_S:
            good_s = None
        arriving = state.t_s - row_s <= DELAYED_S
        clean = arriving and good_s is not None and good_s - reading.window_s >= quiet_s
        since_good_s = state.t_s - (quiet_s if good_s is None else max(quiet_s, good_s))
        if since_good_s > prescription.artifact_ms / 1000:
            return _fall(state, tick, f"No clean biomarker ({reading.reason}), so the output ramps to zero.")
    if clean and prescription.pulses is None and state.t_s - quiet_s >= prescription.sense_ms / 1000:
        return _enter_block(state, tick, Block.STIMULATE)
    state, effects = _insist(state, tick)
    untouched = tick.inputs.biomarkers is not None and row_s - reading.window_s >= quiet_s
    every_s = DECIDE_S if prescription.pulses is None else 0.0  # a phase is gone within one row
    due = state.decided_s is None or row_s - state.decided_s >= every_s - 1e-6
    if untouched and due and reading.fresh and within(tick.inputs.sample_age_s, DELAYED_S):
        state, effects = changed(state, decided_s=reading.t_s), changed(effects, decide=True)
    return state, effects


def _enter_block(state: SessionState, tick: Tick, block: Block) -> Result:
    present_ma = min(state.present_ma, ceiling_now_ma(state, tick.inputs, tick.prescription))
    state = replace(state, block=block, block_since_s=state.t_s, present_ma=present_ma, sent_s=state.t_s)
    if block == Block.STIMULATE:
        state = replace(state, block_ma=present_ma, blocks=state.blocks + 1)
    return state, _set(state, tick)


def _set(state: SessionState, tick: Tick) -> Effects:
    """The command that this block wants; none under `observe`."""
    if tick.observe:
        return NOTHING
    return Effects(
        command="set",
        block=state.block,
        amplitude_ma=_wanted_ma(state),
        frequency_hz=tick.prescription.frequency_hz,
        reason=f"{state.block} block {state.blocks}",
    )


def _insist(state: SessionState, tick: Tick) -> Result:
    """Send the block's command again if the interlock has not taken it."""
    stim = tick.stim
    taken = stim is None or abs(stim.granted_ma - _wanted_ma(state)) <= _SAME_MA
    if taken or state.t_s - state.sent_s < REPEAT_S:
        return state, NOTHING
    return replace(state, sent_s=state.t_s), _set(state, tick)


def _enter_ramp_down(state: SessionState, tick: Tick, reason: str) -> Result:
    command = "" if tick.observe else "end" if state.armed else "stop"
    return replace(_go(state, Phase.RAMP_DOWN, reason), sent_s=state.t_s), Effects(command=command, reason=reason)


def _ramp_down(state: SessionState, tick: Tick) -> Result:
    if tick.observe or tick.zero:
        return replace(_go(state, Phase.POST, state.reason), armed=False), Effects(reason="session ended")
    if state.t_s - state.since_s > ramp_s(0.0, state.block_ma, tick.prescription.ramp_ua_per_s) + SETTLE_S:
        return stop(state, "output", "Stopped: zero output was not confirmed at the end.")
    stim = tick.stim
    if stim is not None and stim.granted_ma > _SAME_MA and state.t_s - state.sent_s >= REPEAT_S:
        return replace(state, sent_s=state.t_s), Effects(command="end", reason="repeated")
    return state, NOTHING


def _post(state: SessionState, tick: Tick) -> Result:
    who = tick.who("start")
    if who and not no_start(tick):
        return _begin(state, who, tick.prescription.session_ms / 1000)
    if who := tick.who("end"):
        return _go(state, Phase.OFF, f"Ended by {who}."), NOTHING
    return state, NOTHING


def _fallback(state: SessionState, tick: Tick) -> Result:
    prescription, stim, waited_s = tick.prescription, tick.stim, state.t_s - state.since_s
    if tick.zero or tick.observe:
        if state.fallbacks >= TWO_STRIKES:
            state, effects = stop(state, "fallbacks", "Two fallbacks end the session.")
            return replace(state, used_s=0.0), effects  # what is started next is another session, with its own lockout
        state = replace(state, armed=False) if state.armed else state
        who = tick.who("rearm")
        if who and obstacles(tick) == "":
            return _go(state, Phase.CONTACT, f"Re-armed by {who}: contact again."), Effects(reason=f"re-armed by {who}")
        return state, NOTHING
    if waited_s > prescription.fallback_ms / 1000 + SETTLE_S:
        return stop(state, "output", "Stopped: the fallback did not reach zero.")
    if stim is not None and stim.mode == InterlockMode.ARMED and state.t_s - state.sent_s >= REPEAT_S:
        return replace(state, sent_s=state.t_s), Effects(command="fallback", reason="repeated")
    return state, NOTHING


PHASES: dict[str, Callable[[SessionState, Tick], Result]] = {
    Phase.STOPPED: _stopped,
    Phase.OFF: _off,
    Phase.SCREEN: _screen,
    Phase.CONTACT: _contact,
    Phase.BASELINE: _baseline,
    Phase.RAMP_UP: _ramp_up,
    Phase.ON: _on,
    Phase.RAMP_DOWN: _ramp_down,
    Phase.POST: _post,
    Phase.FALLBACK: _fallback,
}
