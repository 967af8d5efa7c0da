"""One tick of a session: what several steps need of its inputs, what every tick notes, and the numbers that bind it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from control.dose import left
from control.state import Inputs, SessionState
from control.watch import Reading
from eegloop.stim import Authority, InterlockMode, Prescription, StimState, within


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick's inputs with what several steps need of them: the vetted reading, the interlock's news if fresh, and the names of
    the channels without good contact (None if nothing is known of any)."""

    inputs: Inputs
    prescription: Prescription
    reading: Reading
    stim: StimState | None
    bad_channels: tuple[str, ...] | None

    @property
    def observe(self) -> bool:
        return self.prescription.authority == Authority.OBSERVE

    @property
    def self_serving(self) -> bool:
        """The demo may answer for itself, on the simulated stimulator only (S10)."""
        return self.inputs.demo and self.prescription.device == "simulated"

    @property
    def zero(self) -> bool:
        """The interlock is stopped and its device has confirmed zero."""
        stim = self.stim
        return stim is not None and stim.mode == InterlockMode.STOPPED and stim.zero_since_ns > 0

    def who(self, kind: str) -> str:
        """Who pressed this, "" if nobody did or left no name."""
        for event in self.inputs.events:
            if event.kind == kind and event.who.strip():
                return event.who
        return ""


def target_of(prescription: Prescription) -> tuple[str, str]:
    """Biomarker and channel that the signed controller leans on; ("", ...) for one that uses none."""
    settings = prescription.settings
    return str(settings.get("biomarker", "")), str(settings.get("channel", "n/a"))


# --- what every tick notes, whatever the phase ------------------------------------------------------------------


def bookkeeping(state: SessionState, tick: Tick) -> SessionState:
    stim, t_s = tick.stim, tick.inputs.t_s
    silent = tick.observe or (stim is not None and stim.zero_since_ns > 0 and stim.commanded_ma == 0.0)
    touching = tick.inputs.stream == "live" and tick.bad_channels == ()
    quiet_since_s = (t_s if state.quiet_since_s is None else state.quiet_since_s) if silent else None
    contact_since_s = (t_s if state.contact_since_s is None else state.contact_since_s) if touching else None
    if quiet_since_s == state.quiet_since_s and contact_since_s == state.contact_since_s:
        return state
    return replace(state, quiet_since_s=quiet_since_s, contact_since_s=contact_since_s)


def bad_channels(inputs: Inputs) -> tuple[str, ...] | None:
    """Names of the channels without good contact; None if nothing is known of any."""
    if inputs.biomarkers is None or not len(inputs.biomarkers.quality.good):
        return None
    good = inputs.biomarkers.quality.good.tolist()
    if False not in good:
        return ()
    names = inputs.channels if len(inputs.channels) == len(good) else tuple(str(i + 1) for i in range(len(good)))
    return tuple([name for name, ok in zip(names, good, strict=True) if not ok])


def ceiling_now_ma(state: SessionState, inputs: Inputs, prescription: Prescription) -> float:
    ceiling_ma = prescription.amplitude_ma
    if prescription.authority == Authority.LOWER_ONLY:
        ceiling_ma = prescription.start_ua / 1000
        if state.ceiling_ma is not None:
            ceiling_ma = min(ceiling_ma, state.ceiling_ma)
    if state.armed and inputs.stim is not None:
        ceiling_ma = min(ceiling_ma, inputs.stim.ceiling_ma) if within(inputs.stim.ceiling_ma, math.inf) else 0.0
    return ceiling_ma


def budget(state: SessionState, inputs: Inputs, prescription: Prescription) -> tuple[float, float]:
    """Seconds and µC of stimulation left; the interlock's account counts once it is armed for this session."""
    used_s = state.used_s + (0.0 if state.output_since_s is None else state.t_s - state.output_since_s)
    seconds, charge = [used_s], [0.0]
    if state.armed and inputs.stim is not None:
        seconds.append(inputs.stim.delivered_ms / 1000)
        charge.append(float(inputs.stim.delivered_uc))
    return left(prescription.session_ms / 1000, *seconds), left(float(prescription.session_uc), *charge)
