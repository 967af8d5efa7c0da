"""Which samples stimulation could have touched (S7): everything that is not proven to lie in confirmed zero output.

Pure. Sample times and the interlock's times are compared on the LSL clock; `boot_to_lsl_s` is the difference of the two
clocks, which is constant until the machine suspends (and then everything is stopped).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from eegloop.signal import Bool, Chunk
from eegloop.stim import InterlockMode, StimState

GUARD_S = 0.1  # a headset's own delay: a sample stamped this long after zero may still hold current
UNPROVEN_AFTER_S = 1.0  # a command that left no trace in the states for this long never took effect
ZERO_MA = 0.005  # what the interlock, too, takes for a measured zero
AMISS_MA = 0.05  # so far beside what it was told the interlock, too, lets a small readback be
SILENT_AFTER_S = 0.3  # no state for this long: the output is unknown
PULSE_BEFORE_S = 0.01  # a pulse may be this early by the headset's clock
PULSE_AFTER_S = 0.3  # an amplifier's recovery from a magnetic pulse, and the headset's own delay
PULSE_GRACE_S = 0.1  # a pulse's command is good until this long after its deadline
ON_TIME_S = 0.001  # later than this a pulse is told a second time, when it came
PULSES_KEPT_N = 32  # at most ten a second are asked for, at most 2 s ahead, and samples come up to 1 s late


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is known of the output, JSON-ready.

    Attributes
    ----------
    clean_from_s : float
        Samples taken at or after this LSL time are proven clean; inf = output is on, or unknown.
    commanded_s : float
        When the last command that could raise output was given, LSL s; -inf = never.
    heard_s : float
        When the newest state was written, LSL s; -inf = no interlock has spoken.
    pulses_s : tuple of float
        Deadlines of the newest pulses, and when those came that were late, LSL s.
    """

    clean_from_s: float = -math.inf
    commanded_s: float = -math.inf
    heard_s: float = -math.inf
    pulses_s: tuple[float, ...] = ()


def pulsed(exposure: Exposure, at_s: float) -> Exposure:
    """A pulse is asked for at this LSL time: what it could touch is not clean, whether it is fired or skipped."""
    return replace(exposure, pulses_s=(*exposure.pulses_s, at_s)[-PULSES_KEPT_N:])


def came(exposure: Exposure, at_s: float) -> Exposure:
    """A pulse that was asked for came at this LSL time: what a late one could touch is not clean either."""
    asked_s = max((pulse_s for pulse_s in exposure.pulses_s if pulse_s <= at_s), default=at_s)
    return pulsed(exposure, at_s) if at_s - asked_s > ON_TIME_S else exposure


def commanded(exposure: Exposure, t_s: float) -> Exposure:
    """A command that can raise output is about to be sent: nothing after `t_s` is clean until zero is proven again."""
    return replace(exposure, clean_from_s=math.inf, commanded_s=t_s)


def heard(exposure: Exposure, state: StimState, boot_to_lsl_s: float) -> Exposure:
    """Take in what the interlock said."""
    at_s = state.boot_ns * 1e-9 + boot_to_lsl_s
    zero = (
        state.zero_since_ns > 0
        and state.confirmed_ma is not None
        and abs(state.confirmed_ma) <= ZERO_MA
        and state.commanded_ma == 0.0
        and state.granted_ma == 0.0
    )
    if not math.isfinite(exposure.commanded_s) and state.confirmed_ma is None and state.commanded_ma == state.granted_ma == 0.0:
        # No device is there, or it has not spoken yet, and nothing was ever commanded: a headset alone can be watched.
        return replace(exposure, heard_s=at_s)
    if not zero:
        return replace(exposure, clean_from_s=math.inf, heard_s=at_s)
    zero_s = state.zero_since_ns * 1e-9 + boot_to_lsl_s
    if zero_s > exposure.commanded_s:
        return replace(exposure, clean_from_s=zero_s + GUARD_S, heard_s=at_s)
    if at_s > exposure.commanded_s + UNPROVEN_AFTER_S:
        # Zero before the command and still zero well after it: the command was refused or lost.
        return replace(exposure, clean_from_s=exposure.commanded_s + UNPROVEN_AFTER_S + GUARD_S, heard_s=at_s)
    return replace(exposure, heard_s=at_s)


def silence(exposure: Exposure, t_s: float) -> Exposure:
    """Time passes: once output was commanded, an interlock that has fallen silent leaves it unknown.

    Before that nothing can flow: an interlock gives nothing that was not commanded.
    """
    if math.isfinite(exposure.commanded_s) and t_s - exposure.heard_s > SILENT_AFTER_S:
        return replace(exposure, clean_from_s=math.inf)
    return exposure


def clean(exposure: Exposure, chunk: Chunk, sample_rate_hz: float) -> Bool | None:
    """Per sample whether it is proven clean; None = all of them are.

    From a pulse's deadline on nothing is, until the interlock has said something that it wrote once the pulse's command was no longer good:
    it does one thing at a time, so the pulse is over by then, and how late it was has been told before (`came`).

    Returns
    -------
    (n_samples,) bool or None
    """
    if not exposure.pulses_s and chunk.t0_s >= exposure.clean_from_s:
        return None  # nearly always
    end_s = chunk.t0_s + chunk.n_samples / sample_rate_hz
    near = [at_s for at_s in exposure.pulses_s if at_s - PULSE_BEFORE_S <= end_s and chunk.t0_s <= at_s + PULSE_AFTER_S]
    open_s = min((at_s for at_s in exposure.pulses_s if not at_s + PULSE_GRACE_S < exposure.heard_s), default=math.inf)
    if chunk.t0_s >= exposure.clean_from_s and not near and end_s < open_s - PULSE_BEFORE_S:
        return None
    times_s = chunk.t0_s + np.arange(chunk.n_samples) / sample_rate_hz
    mask: Bool = (times_s >= exposure.clean_from_s) & (times_s < open_s - PULSE_BEFORE_S)
    for at_s in near:
        mask &= (times_s < at_s - PULSE_BEFORE_S) | (times_s > at_s + PULSE_AFTER_S)
    return mask


def delivers_by_itself(state: StimState) -> bool:
    """The interlock is stopped, and the stimulator says that it delivers all the same; what is no number counts as that."""
    said_ma = state.confirmed_ma
    return state.mode == InterlockMode.STOPPED and said_ma is not None and not abs(said_ma) <= AMISS_MA
