"""What a person is asked now, what the answers forbid, which alert nobody has taken, and when a next session may begin.

Pure: everything that is kept of the person and the moment come in. `control/forms.py` has the questions, `control/screening.py` what
answers forbid, `control/prompts.py` what silence means; `daemon/answers.py` keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from control.forms import AFTER, DAY_S, DURING, FORMS, PHQ9, Answer, complete, value_of
from control.prompts import escalated, lockout_left_s, missed_since_s, prompt
from control.screening import LOCKOUT, REPORTS_MISSING, Finding, Level, Release, assess, phq9_lows
from control.transitions import BEFORE, LIVE
from eegloop.stim import Phase, Prescription

WEEK_S = 7 * DAY_S
RECORD = "record"  # the "form" of the finding that what was kept is not whole
PLACEMENT = "placement"  # the "form" of the finding that an electrode is not where it was
MEASURE = "measure"  # the "form" of the finding that the biomarkers are not made as they were


@dataclass(frozen=True, slots=True)
class Session:
    """One session in which current flowed: Unix s of its first and last output, and the prescription's id."""

    begun_s: float
    ended_s: float
    prescription: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What made a course's numbers: a digest of code and settings, in words the version, and under which prescription since when."""

    digest: str
    version: str
    prescription: str
    t_s: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was noticed of this person once, at `t_s` (Unix s), and holds until a clinician's release of `form`.

    `about`: what it was noticed of, for those that hold only while that is so (`MEASURE`: the digest); `place`: its line in the chain.
    """

    form: str
    text: str
    t_s: float
    about: str = ""
    place: float = field(default=-math.inf, compare=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of one person. `seen`: alerts that a clinician has taken, as releases that release nothing."""

    answers: tuple[Answer, ...] = ()
    releases: tuple[Release, ...] = ()
    seen: tuple[Release, ...] = ()
    sessions: tuple[Session, ...] = ()
    measures: tuple[Measure, ...] = ()
    sightings: tuple[Sighting, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where in a session. `on_s`: seconds of output so far in this ramp-up, None while none flows; `goes_on`: dose of a
    session that was not ended in order, which its next start goes on with."""

    now_s: float
    phase: str
    on_s: float | None = None
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """A finding that a clinician must see. `step`: how many contacts further it has gone because nobody took it.

    `worse`: 0, or which time it is that the same form's answer to this item has become worse than what was told before.
    """

    finding: Finding
    step: int
    taken: bool
    worse: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows. `due`: forms to be answered now, in order; `open`: forms that may be answered now as well."""

    due: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    alerts: tuple[Alert, ...] = ()
    next_s: float = 0.0  # Unix s from which a next session may begin; 0 = now


def standing(kept: Kept) -> Kept:
    """The same without answers that can no longer matter: all but each form's newest two, the first PHQ-9 and its lows, and what holds.

    What is kept grows with the years; what is looked at each second must not.
    """
    by_form: dict[str, list[Answer]] = {}
    for answer in sorted(kept.answers, key=lambda a: a.t_s):
        by_form.setdefault(answer.form, []).append(answer)
    needed = {
        id(answer) for given in by_form.values() for answer in (*given[-2:], *(given[:1] if given[0].form == "phq9" else ()))
    }
    needed |= {id(a) for a in phq9_lows(by_form.get(PHQ9.id, ()), kept.releases)}
    ended_s = max((session.ended_s for session in kept.sessions), default=-math.inf)
    needed |= {id(a) for a in [a for a in by_form.get("pads", ()) if a.t_s <= ended_s][-1:]}  # the box before the last session
    holding = {
        (finding.form, finding.t_s) for finding in assess(kept.answers, kept.releases, math.inf) if finding.level >= Level.HOLD
    }
    return replace(kept, answers=tuple(a for a in kept.answers if id(a) in needed or (a.form, a.t_s) in holding))


def next_session_s(sessions: Sequence[Session], now_s: float, prescription: Prescription) -> float:
    """Unix s from which a next session may begin, for people to see; the interlock's ledger is what holds. 0 = now."""
    if not sessions:
        return 0.0
    newest = max(sessions, key=lambda s: s.ended_s)
    waits = [now_s + left_s] if (left_s := lockout_left_s(newest.ended_s, now_s, prescription.lockout_ms)) > 0.0 else []
    begun = sorted(session.begun_s for session in sessions)
    for span_s, most in ((DAY_S, prescription.day_sessions), (WEEK_S, prescription.week_sessions)):
        if len(begun) >= most and not begun[-most] + span_s <= now_s:
            waits.append(begun[-most] + span_s)
    if sum(session.prescription == prescription.id for session in sessions) >= prescription.course_sessions:
        waits.append(math.inf)
    return max(waits, default=0.0)


def changed_measure(kept: Kept, now: Measure) -> Finding | None:
    """An update in the middle of a course: its numbers need not mean what the ones before meant, so a clinician must know (H25)."""
    before = [measure for measure in kept.measures if measure.prescription == now.prescription]
    if not before or before[-1].digest == now.digest:
        return None
    told = [seen for seen in kept.sightings if (seen.form, seen.about) == (MEASURE, now.digest)]
    since_s, place = (told[0].t_s, told[0].place) if told else (now.t_s, -math.inf)
    if before[-1].t_s <= since_s and any(r.covers(MEASURE, "", since_s, place) for r in kept.releases):
        return None
    text = (
        f"The software or its settings changed since this course began ({before[-1].version}, now {now.version}), so its numbers may "
        "mean something else. A clinician must look at the target and release it; the next session takes a new baseline."
    )
    return Finding(Level.HOLD, MEASURE, "", text, "same day", since_s, place)


def noticed(kept: Kept, now: Measure, now_s: float) -> tuple[Sighting, ...]:
    """What must be kept as noticed now, so that its alert goes on from then, whatever is restarted, and only a clinician ends it."""
    found = []
    changed = changed_measure(kept, now)
    if changed is not None and not any((seen.form, seen.about) == (MEASURE, now.digest) for seen in kept.sightings):
        found.append(Sighting(MEASURE, changed.text, changed.t_s, now.digest))
    missed_s = _missed_s(kept, now_s)
    if missed_s is not None:
        found.append(Sighting(AFTER.id, REPORTS_MISSING, missed_s))
    return tuple(found)


def _missed_s(kept: Kept, now_s: float) -> float | None:
    """Since when reports are missing, as far as that was not noticed yet."""
    missed_s = missed_since_s([session.ended_s for session in kept.sessions], kept.answers, now_s)
    known = missed_s is None or any(seen.form == AFTER.id and seen.t_s >= missed_s for seen in kept.sightings)
    return None if known else missed_s


def sighted(kept: Kept) -> tuple[Finding, ...]:
    """What was noticed and no clinician has released since; nothing that is noticed of a moment (`about`)."""
    return tuple(
        Finding(Level.HOLD, seen.form, "", seen.text, "same day", seen.t_s, seen.place)
        for seen in kept.sightings
        if not seen.about and not any(r.covers(seen.form, "", seen.t_s, seen.place) for r in kept.releases)
    )


def asked(kept: Kept, moment: Moment, prescription: Prescription, next_text: str = "", more: Sequence[Finding] = ()) -> Asked:
    """See the module.

    Parameters
    ----------
    kept : Kept
        Best as `standing` leaves it.
    next_text : str
        When a next session may begin, as people say it (time zones are the caller's); used only while one may not.
    more : sequence of Finding
        What stands in the way beside the answers.
    """
    now_s, phase = moment.now_s, moment.phase
    ends_s = sorted(session.ended_s for session in kept.sessions)
    findings = list(
        assess(
            kept.answers,
            kept.releases,
            now_s,
            _missed_s(kept, now_s),
            ends_s,
            applicator="coil" if prescription.modality == "tms" else "pads",
        )
    )
    findings += (*sighted(kept), *more)
    next_s = 0.0 if moment.goes_on or phase in LIVE else next_session_s(kept.sessions, now_s, prescription)
    if next_s:
        findings.append(Finding(Level.BLOCK, LOCKOUT, "", f"The next session is possible {next_text or 'later'}."))
    due = [
        f.form
        for f in findings
        if f.item == "" and f.form in FORMS and FORMS[f.form].before and phase in (*BEFORE, Phase.FALLBACK)
    ]
    unreported = bool(ends_s) and not any(a.form == AFTER.id and a.t_s >= ends_s[-1] for a in kept.answers)
    if unreported and phase not in (*LIVE, Phase.FALLBACK):
        due.append(AFTER.id)
    if phase in (*LIVE, Phase.FALLBACK, Phase.STOPPED) and _cut_short(kept.answers, now_s):
        due.append(DURING.id)
    may = [f.form for f in findings if f.level == Level.BLOCK and f.item and phase in (*BEFORE, Phase.FALLBACK)]
    flowed = moment.goes_on or (bool(ends_s) and 0.0 <= now_s - ends_s[-1] <= DURING.valid_s)
    if phase in (*LIVE, Phase.FALLBACK) or (flowed and phase in (Phase.STOPPED, Phase.POST, Phase.OFF)):
        may.append(DURING.id)  # whoever pressed STOP because of a seizure says so after it
    if moment.goes_on and phase not in (*LIVE, Phase.FALLBACK):
        may.append(AFTER.id)
    if moment.on_s is not None and phase in LIVE:
        question = prompt(moment.on_s, _answered_on_s(kept.answers, moment.on_s, now_s))
        if question is not None:
            due.append(question.form)
            findings += [question.finding] if question.finding is not None else []
    order = [AFTER.id, *FORMS]
    return Asked(
        tuple(sorted(set(due), key=order.index)),
        tuple(sorted(set(may) - set(due), key=order.index)),
        tuple(sorted(findings, key=lambda f: -f.level)),
        tuple(
            _alert(finding, kept.seen, now_s, worse)
            for finding in findings
            if finding.alert and (worse := _worse(finding, findings, kept.answers)) is not None
        ),
        next_s,
    )


def _worse(finding: Finding, findings: Sequence[Finding], answers: Sequence[Answer]) -> int | None:
    """None where this only repeats, in the rest of a form that was cut short for it, what was told then: one alert, raised then.

    Else which time it is that the same form tells of it as worse: pain 8, then 9. Who was called for 8 must hear of 9.
    """
    given = sorted(
        (a for a in answers if a.form == finding.form == DURING.id and a.t_s <= finding.t_s), key=lambda a: (a.t_s, a.place)
    )
    if not given or given[-1].place != finding.place:
        return 0
    now, told = given.pop(), set()
    said_s = finding.t_s
    while _cut_short(given, said_s):
        part = given.pop()
        said_s = part.t_s
        if any((f.form, f.item, f.t_s, f.place) == (finding.form, finding.item, part.t_s, part.place) for f in findings):
            told.add(value_of(part, finding.item))
    return None if told and value_of(now, finding.item) <= max(told) else len(told)


def _cut_short(answers: Sequence[Answer], now_s: float) -> bool:
    """Whether the newest answers of this session leave questions open because one could not wait for them."""
    newest = max((a for a in answers if a.form == DURING.id), key=lambda a: a.t_s, default=None)
    return newest is not None and not complete(newest) and 0.0 <= now_s - newest.t_s <= DURING.valid_s


def _answered_on_s(answers: Sequence[Answer], on_s: float, now_s: float) -> float | None:
    """When the newest whole answer during this ramp-up was given, in seconds of output; None = not yet."""
    newest_s = max((a.t_s for a in answers if a.form == DURING.id and complete(a)), default=-math.inf)
    at_s = on_s - (now_s - newest_s)
    return at_s if at_s >= 0.0 else None


def _alert(finding: Finding, seen: Sequence[Release], now_s: float, worse: int) -> Alert:
    raised_s = finding.t_s or now_s
    taken_s = max(
        (s.t_s for s in seen if s.covers(finding.form, finding.item, raised_s, finding.place) and s.t_s <= now_s), default=None
    )
    return Alert(finding, escalated(finding, raised_s, taken_s, now_s), taken_s is not None, worse)
