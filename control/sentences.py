"""What people are told: one plain sentence for where the session stands, and the alarms that stand now."""

from __future__ import annotations

from control.exposure import delivers_by_itself
from control.state import Alarm, Inputs, SessionState
from control.transitions import BASELINE, CONTACT, FALLBACK, OFF, ON, POST, RAMP_DOWN, SCREEN, STOPPED
from eegloop.stim import Block, Prescription, StimState, within

BLINDED = "Blinded study, what is delivered is not shown:"
SWITCH_OFF = "Take the headset off or switch the stimulator off."


def sentence(
    state: SessionState,
    left_s: float | None,
    bad: tuple[str, ...] | None,
    obstacle: str,
    doubt: str,
    refused: str,
    observe: bool,
    blinded: bool = False,
) -> str:
    """One sentence (two where a person must act).

    Parameters
    ----------
    bad : tuple of str or None
        Channels without good contact; None = nothing known yet.
    obstacle : str
        What forbids stimulation, "" if nothing.
    doubt : str
        Why the biomarker may not be used, "" if it may.
    refused : str
        What somebody has just tried in vain: "re-arm", "start", or "" for nothing.
    observe : bool
        Nothing is delivered: the prescription's authority is `observe`.
    blinded : bool
        Whether anything is delivered is told to nobody: only what the program decided is.
    """
    if refused:
        return f"Cannot {refused}: {obstacle}."
    if state.phase == OFF:
        return "No session is running."
    if state.phase == SCREEN:
        return f"The screening questions come first: {obstacle}." if obstacle else "The screening questions come first."
    if state.phase == CONTACT:
        return _contact(left_s, bad, obstacle)
    if state.phase == BASELINE:
        if state.baseline_done:
            return f"The baseline is taken; waiting, because {obstacle}."
        waiting = f" (waiting: {doubt})" if doubt else ""
        return f"Taking the baseline, {left_s or 0.0:.0f} s of clean signal to go{waiting}."
    if state.phase == ON:
        return _on(state, left_s, doubt, observe, blinded)
    if state.phase == RAMP_DOWN:
        return f"{state.reason} {BLINDED} the program goes down to zero." if blinded else f"{state.reason} Ramping down to zero."
    if state.phase == POST:
        return f"{state.reason} The session is over after {state.decisions} decisions."
    if state.phase == FALLBACK:
        return f"{state.reason} A person must re-arm; {'a second one' if state.fallbacks < 2 else 'this second one'} ends the session."
    if state.phase == STOPPED and state.latched_by != "restart":
        return f"{state.reason} A person must re-arm."
    return state.reason


def _contact(left_s: float | None, bad: tuple[str, ...] | None, obstacle: str) -> str:
    if bad is None:
        return "Waiting for the headset."
    if bad:
        return f"Contact is not good yet at {', '.join(bad)}."
    if left_s == 0.0 and obstacle:
        return f"Contact is good; waiting, because {obstacle}."
    return f"Contact is good, {left_s or 0.0:.0f} s more to be sure."


def _on(state: SessionState, left_s: float | None, doubt: str, observe: bool, blinded: bool) -> str:
    if state.block == Block.STIMULATE and observe:
        return f"Watching only: would stimulate at {state.present_ma:.2f} mA, nothing is delivered."
    if state.block == Block.STIMULATE and blinded:
        return f"{BLINDED} the program's level is {state.present_ma:.2f} mA, looking again in {left_s or 0.0:.0f} s."
    if state.block == Block.STIMULATE:
        return f"Stimulating at {state.present_ma:.2f} mA, looking again in {left_s or 0.0:.0f} s."
    if left_s is None:
        return (
            f"{BLINDED} the program goes to zero, to look without output."
            if blinded
            else "Taking the output to zero, to look without it."
        )
    if left_s == 0.0:
        because = "the program was above zero" if blinded and doubt == "stimulation" else doubt or "still settling"
        return f"No clean window yet ({because}), so the output stays off."
    return f"Looking without output, {left_s:.0f} s to go."


def alarms(state: SessionState, inputs: Inputs, prescription: Prescription, stim: StimState | None) -> tuple[Alarm, ...]:
    """Every alarm that stands now, most urgent first. `stim` = the interlock's news if fresh, else None."""
    live = state.armed or state.phase == FALLBACK
    found: list[Alarm] = []
    if stim is None and (live or (state.phase == STOPPED and inputs.stim is not None)):
        found.append(Alarm("output_unknown", "high", "The output is unknown: the interlock does not answer.", SWITCH_OFF))
    if state.phase == STOPPED and state.latched_by not in ("restart", "person"):
        found.append(Alarm("stopped", "high", state.reason, "Find the cause, then re-arm."))
    if state.phase == STOPPED and stim is not None and stim.zero_since_ns == 0:
        found.append(Alarm("zero_unconfirmed", "high", "The stimulator has not confirmed zero output.", SWITCH_OFF))
    elif stim is not None and delivers_by_itself(stim):  # before, between and after sessions, too: the pads may be on
        text = f"The stimulator says that it delivers {stim.confirmed_ma:.2f} mA, though it is stopped."
        found.append(Alarm("output_while_stopped", "high", text, SWITCH_OFF))
    if state.phase == FALLBACK:
        found.append(Alarm("fallback", "medium", state.reason, "Clear the cause and check the contact, then re-arm."))
    if not inputs.recording_ok:
        found.append(Alarm("recording", "medium", "Nothing is being recorded, so nothing is delivered.", "Check the disk."))
    if not inputs.audit_ok:
        found.append(Alarm("audit", "medium", "The audit trail is not being written.", "Check the disk."))
    if live and not within(inputs.supervised_age_s, prescription.supervision_ms / 2000):
        found.append(Alarm("supervision", "medium", "No page is watching.", "Open the page, or stimulation ends."))
    if not within(inputs.sample_age_s, 1.0):
        found.append(Alarm("stream", "technical", "No samples from the headset.", "Check that it is on and in reach."))
    return tuple(found)
