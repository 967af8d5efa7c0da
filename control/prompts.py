"""When people are asked, and what silence means: the prompt during stimulation, the report after it, alerts nobody has taken, lockout.

Pure: times come in, answers go out; a time that is no number is the careful one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control.forms import AFTER, DAY_S, DURING, Answer
from control.screening import MISSED_REPORTS, Finding, Level

FIRST_PROMPT_S = 120.0  # most that hurts, hurts early
PROMPT_EVERY_S = 600.0
ANSWER_WITHIN_S = 120.0
ESCALATE_S = {"now": 300.0, "same day": 4 * 3600.0}  # an alert that nobody acknowledged goes to the next contact


@dataclass(frozen=True, slots=True)
class Prompt:
    """The question that is due, and since when (s of stimulation); `finding` once it has waited too long."""

    form: str
    due_s: float
    finding: Finding | None


def prompt(on_s: float, answered_s: float | None) -> Prompt | None:
    """What to ask now in the middle of a session.

    Parameters
    ----------
    on_s : float
        Seconds since stimulation began.
    answered_s : float or None
        When the last such question was answered, on the same clock; None = not yet.

    Returns
    -------
    Prompt or None
        After two minutes and then every ten, `during` is due; unanswered for two more minutes, stimulation pauses (a person who
        does not answer may not be able to).
    """
    if not math.isfinite(on_s) or (answered_s is not None and not answered_s <= on_s):
        return Prompt(DURING.id, 0.0, Finding(Level.PAUSE, DURING.id, "", "The session's clock is not known."))
    due_s = FIRST_PROMPT_S if answered_s is None else answered_s + PROMPT_EVERY_S
    if on_s < due_s:
        return None
    if on_s < due_s + ANSWER_WITHIN_S:
        return Prompt(DURING.id, due_s, None)
    silent = Finding(Level.PAUSE, DURING.id, "", "No answer to the question about pain.")
    return Prompt(DURING.id, due_s, silent)


def missed_reports(ends_s: Sequence[float], answers: Sequence[Answer], now_s: float) -> int:
    """How many of the last sessions in a row (`ends_s`: their ends, Unix s) have no report though a day has passed.

    A report belongs to the last session that ended before it.
    """
    ends = sorted(ends_s)
    reported = [answer.t_s for answer in answers if answer.form == AFTER.id]
    missed = 0
    for number in range(len(ends) - 1, -1, -1):
        until_s = ends[number + 1] if number + 1 < len(ends) else math.inf
        if any(ends[number] <= t_s < until_s for t_s in reported):
            break
        # Written so that a clock that is no number counts as a day.
        if not now_s - ends[number] <= DAY_S or number + 1 < len(ends):
            missed += 1
    return missed


def missed_since_s(ends_s: Sequence[float], answers: Sequence[Answer], now_s: float) -> float | None:
    """Unix s at which the newest missed report had been due, once two or more in a row were missed; None = not so."""
    if missed_reports(ends_s, answers, now_s) < MISSED_REPORTS:
        return None
    ends = sorted(ends_s)
    if not now_s - ends[-1] <= DAY_S:
        return ends[-1] + DAY_S
    return min(ends[-2] + DAY_S, ends[-1])


def lockout_left_s(ended_s: float | None, now_s: float, lockout_ms: int) -> float:
    """Seconds until the next session may begin, for people to see; the interlock's ledger is what holds.

    `ended_s` and `now_s` on one clock that only counts time that surely passed; None = there was no session yet. A clock behind the last
    session, or none, is the whole lockout.
    """
    if ended_s is None:
        return 0.0
    whole_s = lockout_ms / 1000.0
    passed_s = now_s - ended_s
    if not (math.isfinite(passed_s) and passed_s >= 0.0):
        return whole_s
    return max(0.0, whole_s - passed_s)


def escalated(finding: Finding, raised_s: float, acknowledged_s: float | None, now_s: float) -> int:
    """How many contacts further an alert has gone: 0 = the first only; one more each time it waits that long again.

    An alert that was acknowledged (after it was raised) stays where it is; findings without an alert go nowhere.
    """
    every_s = ESCALATE_S.get(finding.alert)
    if every_s is None or (acknowledged_s is not None and acknowledged_s >= raised_s):
        return 0
    waited_s = now_s - raised_s
    return max(0, int(waited_s // every_s)) if math.isfinite(waited_s) else 1
