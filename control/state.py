"""What a session takes in, remembers and wants done: the frozen types around `session.step`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from control.pulse_plan import Pulses
from control.screening import Finding
from control.watch import Watch
from eegloop.signal import Biomarkers
from eegloop.stim import Phase, StimState

_Frozen = TypeVar("_Frozen", "Effects", "SessionState")


def changed(frozen: _Frozen, **changes: Any) -> _Frozen:
    """`dataclasses.replace` for what changes at every tick: a tenth of its time, for these two classes.

    Raises
    ------
    TypeError
        If a change names no field.
    """
    new = object.__new__(type(frozen))
    kept = new.__dict__
    kept.update(frozen.__dict__)
    n_fields = len(kept)
    kept.update(changes)
    if len(kept) != n_fields:
        raise TypeError(f"{type(frozen).__name__} has no {', '.join(sorted(changes.keys() - frozen.__dict__.keys()))}")
    return new


@dataclass(frozen=True, slots=True)
class OperatorEvent:
    """What a person did since the last tick.

    `kind`: "start", "screened" (nothing is left to answer: go on), "answer" (a form was answered), "end", "rearm" or "stop"; `who`
    names the person and is needed for everything but "stop". An unknown kind is ignored and named in the sentence.
    """

    kind: str
    who: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything one tick of the session may know.

    Attributes
    ----------
    t_s : float
        LSL seconds of this tick; must not run backwards.
    biomarkers : Biomarkers or None
        The newest row (the same object again if no hop has ended since).
    stim : StimState or None
        The newest the interlock said; None = never.
    stim_age_s : float
        How old that is, s (CLOCK_BOOTTIME now minus `boot_ns`); inf if never.
    sample_age_s : float
        How long ago the newest EEG sample was taken, s; inf if there is none.
    supervised_age_s : float
        How long ago a supervising page (or a physical button) last answered, s; inf if never.
    stream : str
        "live", "delayed" or "lost".
    recording_ok, audit_ok : bool
        The recording and the audit trail are being written (S6).
    demo : bool
        This seat is the demo's: it may arm and start itself once, on the device `simulated` only.
    channels : tuple of str
        Labels in the order of `biomarkers.quality.good`.
    events : tuple of OperatorEvent
        What people did since the last tick, in order.
    findings : tuple of Finding
        What the forms' answers forbid now (`screening.assess`), gravest first: any of them keeps stimulation from
        beginning; while it runs, HOLD ends it in order, PAUSE is a fallback and STOP stops.
    blinded : bool
        Nobody may hear whether anything is delivered: sentences speak of the program, which runs in both arms.
    """

    t_s: float
    biomarkers: Biomarkers | None
    stim: StimState | None
    stim_age_s: float
    sample_age_s: float
    supervised_age_s: float
    stream: str = "live"
    recording_ok: bool = False
    audit_ok: bool = False
    demo: bool = False
    channels: tuple[str, ...] = ()
    events: tuple[OperatorEvent, ...] = ()
    findings: tuple[Finding, ...] = ()
    blinded: bool = False


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm that stands now; `id` is stable while it does. Priorities as `LoopState.alarms`."""

    id: str
    priority: str
    text: str
    advice: str


@dataclass(frozen=True)  # no slots: `changed`
class Effects:
    """What this tick wants done.

    Attributes
    ----------
    command : str
        "" (nothing), "arm", "set", "fallback", "end" or "stop": the kind of `StimCommand` to send, once.
    block : str
        For "set": "stimulate" or "sense".
    amplitude_ma, frequency_hz : float
        For "set": the new ramp end (0 mA in "sense").
    heartbeat : bool
        The lease may be renewed this tick (if the loop met its deadline).
    decide : bool
        The controller is asked: the newest window lies wholly in confirmed zero output and was not decided on yet.
    reason : str
        Short, for the interlock's and the audit log.
    sentence : str
        One plain sentence for people: what is happening and why.
    left_s : float or None
        Seconds left of this phase or block, None where unknown.
    alarms : tuple of Alarm
        Every alarm that stands now.
    trigger_s : float or None
        One pulse is asked of the interlock, at this LSL time.
    """

    command: str = ""
    block: str = ""
    amplitude_ma: float = 0.0
    frequency_hz: float = 0.0
    heartbeat: bool = False
    decide: bool = False
    reason: str = ""
    sentence: str = ""
    left_s: float | None = None
    alarms: tuple[Alarm, ...] = ()
    trigger_s: float | None = None


@dataclass(frozen=True)  # no slots: `changed`
class SessionState:
    """All that a session remembers; JSON-ready (`dataclasses.asdict`). Times are LSL s, None = not yet.

    Attributes
    ----------
    phase, block : str
        `Phase` and, in `on`, `Block`; "" elsewhere.
    since_s, block_since_s : float
        Start of the phase and of the block.
    reason : str
        Why it is in this phase, in one plain sentence.
    latched_by : str
        In `stopped`: "restart", "person", "interlock", "record", "report", "fallbacks", "output", "clock"; else "".
    started_by : str
        Who started the session.
    quiet_since_s : float or None
        Since when the interlock has confirmed zero output without a break.
    contact_since_s : float or None
        Since when every channel has been good.
    armed : bool
        The interlock has confirmed `armed` in this ramp-up, so anything else it says now is a trip.
    sent_s : float
        When the last command went out (it is repeated if the interlock does not follow).
    present_ma : float
        Amplitude of the stimulate blocks as last granted (under `observe`: as it would be).
    block_ma : float
        Amplitude of the last stimulate block.
    ceiling_ma : float or None
        The lowest grant so far, None before the first; never rises, and binds under `lower_only`.
    output_since_s : float or None
        When output may first have left zero in this ramp-up; the session's clock.
    begun_s : float or None
        When output may first have left zero in this session, from which the interlock counts the session's time.
    used_s : float
        Stimulation seconds of earlier ramp-ups of this session.
    ramps : int
        Ramp-ups of this session.
    decided_s : float or None
        End of the window of the last decision.
    baseline_values : tuple of float
        One clean value a second while the baseline is taken; empty once `baseline_done`. `baseline_s` is the last one's time.
    baseline, baseline_sd : float or None
        Median and 1.4826 MAD of them.
    halts_seen : int
        STOPs and trips of the interlock that this session has taken in; an arm says this number.
    fallbacks, decisions, holds, blocks : int
        Counters of this session.
    pulses : Pulses
        This session's pulses, where the prescription has any.
    """

    phase: str = Phase.STOPPED
    block: str = ""
    since_s: float = 0.0
    block_since_s: float = 0.0
    t_s: float = 0.0
    reason: str = "The service was started; a person must re-arm."
    latched_by: str = "restart"
    started_by: str = ""
    quiet_since_s: float | None = None
    contact_since_s: float | None = None
    armed: bool = False
    sent_s: float = 0.0
    present_ma: float = 0.0
    block_ma: float = 0.0
    ceiling_ma: float | None = None
    output_since_s: float | None = None
    begun_s: float | None = None
    used_s: float = 0.0
    ramps: int = 0
    decided_s: float | None = None
    baseline_s: float = 0.0
    baseline_done: bool = False
    baseline_values: tuple[float, ...] = ()
    baseline: float | None = None
    baseline_sd: float | None = None
    fallbacks: int = 0
    decisions: int = 0
    holds: int = 0
    blocks: int = 0
    halts_seen: int = 0
    watch: Watch = field(default_factory=Watch)
    pulses: Pulses = field(default_factory=Pulses)
