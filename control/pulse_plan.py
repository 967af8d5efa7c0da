"""When the next pulse of a signed program may be: spacing, trains, pauses, count. The daemon's own copy of the interlock's rules.

Pure. A pulse that was sent counts as given, also if it was skipped: so this plan is never ahead of the interlock's count, and asks for
nothing that would trip it (`interlock/triggers.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from eegloop.stim import PulseProgram

MARGIN_S = 0.002  # deadlines are rounded to the clocks' grid
LATE_IN_A_ROW = 3
ERRORS_KEPT_N = 30


@dataclass(frozen=True, slots=True)
class PulseNews:
    """What the interlock said of one pulse: "fired", "late" or "skipped", and how far from its deadline it was written."""

    sequence: int
    outcome: str
    error_us: int


@dataclass(frozen=True, slots=True)
class Pulses:
    """The pulses of one session so far; times are LSL s.

    Attributes
    ----------
    sent, fired, late, skipped : int
        Commands sent, and what became of them.
    late_in_a_row : int
        Three end phase-locking until a person re-arms.
    last_s, train_s : float or None
        Deadline of the last one sent, and of its train's first.
    in_train, trains : int
        Commands of the present train, trains begun.
    errors_us : tuple of int
        How far from their deadlines the newest were written.
    """

    sent: int = 0
    fired: int = 0
    late: int = 0
    skipped: int = 0
    late_in_a_row: int = 0
    last_s: float | None = None
    train_s: float = 0.0
    in_train: int = 0
    trains: int = 0
    errors_us: tuple[int, ...] = ()

    @property
    def over(self) -> bool:
        """Phase-locking has ended: the pulses cannot be kept to their time on this machine."""
        return self.late_in_a_row >= LATE_IN_A_ROW


def heard(pulses: Pulses, news: PulseNews) -> Pulses:
    """Take in what became of one."""
    if news.outcome == "skipped":
        return replace(pulses, skipped=pulses.skipped + 1)
    late = news.outcome == "late"
    return replace(
        pulses,
        fired=pulses.fired + 1,
        late=pulses.late + late,
        late_in_a_row=pulses.late_in_a_row + 1 if late else 0,
        errors_us=(*pulses.errors_us, news.error_us)[-ERRORS_KEPT_N:],
    )


def used_up(pulses: Pulses, program: PulseProgram) -> bool:
    """As many pulses as signed were sent: the session has nothing left to do."""
    return not (pulses.sent + 1) * program.burst_pulses <= program.session_pulses


def objection(pulses: Pulses, at_s: float, program: PulseProgram) -> str:
    """Why no pulse may be at this time, "" if one may."""
    if not math.isfinite(at_s):
        return "its time is no number"
    if pulses.over:
        return "three pulses in a row were late; a person must re-arm"
    if used_up(pulses, program):
        return "as many pulses as signed were given"
    if pulses.last_s is None:
        return ""
    since_s, period_s = at_s - pulses.last_s, 1_000.0 / program.train_millihz
    if since_s >= program.interval_ms / 1_000.0 + MARGIN_S:
        return "" if pulses.trains < program.trains else "as many trains as signed were given"
    if not since_s >= period_s + MARGIN_S:
        return f"the last one was {since_s:.1f} s ago and the signed spacing is {period_s:g} s"
    whole_s = program.train_pulses / program.burst_pulses * period_s
    if (
        pulses.in_train + 1
    ) * program.burst_pulses > program.train_pulses or at_s - pulses.train_s + period_s > whole_s - MARGIN_S:
        return f"the train is over; the next one begins {program.interval_ms / 1_000.0:g} s after it"
    return ""


def sent(pulses: Pulses, at_s: float, program: PulseProgram) -> Pulses:
    """A pulse at this time is asked of the interlock."""
    new_train = pulses.last_s is None or at_s - pulses.last_s >= program.interval_ms / 1_000.0
    return replace(
        pulses,
        sent=pulses.sent + 1,
        last_s=at_s,
        train_s=at_s if new_train else pulses.train_s,
        in_train=1 if new_train else pulses.in_train + 1,
        trains=pulses.trains + new_train,
    )
