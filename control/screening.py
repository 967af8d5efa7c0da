"""What the answers forbid: blocks, holds until a clinician's release, pauses and stops (reference/safety.md section 4).

Pure: answers, releases and the time come in, findings go out. Missing, expired, unreadable or future answers block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from control.forms import DURING, FORMS, Answer, AnswerError, checked, score, value_of

MANIA_POSITIVE = 6
PHQ9_RISE = 5
PAIN_PAUSE, PAIN_STOP = 4, 7
MISSED_REPORTS = 2
SEVERE = 3
SIDE_EFFECTS_HIGH = 12
_STOPPING = ("seizure", "fainting", "vision", "chest_pain", "confusion", "burn")


class Level(IntEnum):
    """How much a finding forbids; each includes the ones before it."""

    BLOCK = 1  # no session begins until answered otherwise
    HOLD = 2  # no session begins until a clinician has released it
    PAUSE = 3  # stimulation ramps to zero now
    STOP = 4  # zero now, latched; then as HOLD


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the answers forbid. `alert`: "" or how fast a clinician must see it ("same day", "now")."""

    level: Level
    form: str
    item: str
    text: str
    alert: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A clinician's word that a finding of a form's item, answered before `t_s` (Unix s), no longer holds."""

    form: str
    item: str
    t_s: float
    who: str


def assess(answers: Sequence[Answer], releases: Sequence[Release], now_s: float, missed_reports: int = 0) -> tuple[Finding, ...]:
    """Everything that the answers so far forbid now, gravest first.

    Parameters
    ----------
    answers : sequence of Answer
        All that is kept of this person, in any order.
    releases : sequence of Release
        By clinicians; the store checks who may.
    now_s : float
        Unix time, s.
    missed_reports : int
        Sessions in a row after which the report was not given.
    """
    found: list[Finding] = []
    readable: list[Answer] = []
    for answer in answers:
        try:
            readable.append(checked(answer))
        except AnswerError as error:
            found.append(Finding(Level.BLOCK, answer.form, "", f"An answer cannot be read: {error}."))
    readable.sort(key=lambda answer: answer.t_s)
    for form in FORMS.values():
        given = [answer for answer in readable if answer.form == form.id]
        newest = given[-1] if given else None
        if form.before and newest is None:
            found.append(Finding(Level.BLOCK, form.id, "", f"{form.title}: not answered yet."))
        elif newest is not None and newest.t_s > now_s:
            found.append(Finding(Level.BLOCK, form.id, "", f"{form.title}: answered in the future; check the clock."))
        elif form.before and newest is not None and not now_s - newest.t_s <= form.valid_s:
            found.append(Finding(Level.BLOCK, form.id, "", f"{form.title}: the answer has expired; answer again."))
    for answer in readable:
        latest = answer is [a for a in readable if a.form == answer.form][-1]
        for finding in _findings(answer, readable):
            released = any(
                r.form == finding.form and r.item == finding.item and answer.t_s <= r.t_s <= now_s and r.who for r in releases
            )
            past = finding.level < Level.HOLD and not latest
            if finding.level >= Level.PAUSE and (not latest or now_s - answer.t_s > DURING.valid_s):
                # What happened in an earlier session no longer stops this one, but a stop holds until it is released.
                past = finding.level == Level.PAUSE
                finding = Finding(Level.HOLD, finding.form, finding.item, finding.text, finding.alert)
            if not (released or past):
                found.append(finding)
    if not 0 <= missed_reports < MISSED_REPORTS:
        found.append(Finding(Level.HOLD, "after", "", "Two reports after a session are missing.", "same day"))
    return tuple(sorted(found, key=lambda f: -f.level))


def _findings(answer: Answer, readable: Sequence[Answer]) -> Iterator[Finding]:
    """What one checked answer forbids by itself (PHQ-9 also against the first one given)."""
    if answer.form in ("screening", "pads"):
        for item, value in zip(FORMS[answer.form].items, answer.values, strict=True):
            if value:
                yield Finding(Level.BLOCK, answer.form, item.id, f"No session: yes to {item.text!r}")
    elif answer.form == "phq9":
        harm = value_of(answer, "self_harm")
        if harm:
            yield Finding(
                Level.HOLD, "phq9", "self_harm", "Thoughts of self-harm: a clinician must speak to this person.",
                "now" if harm >= 2 else "same day",
            )  # fmt: skip
        first = next(a for a in readable if a.form == "phq9")
        if score(answer) - score(first) >= PHQ9_RISE:
            yield Finding(Level.HOLD, "phq9", "rise", f"PHQ-9 rose from {score(first)} to {score(answer)}.", "same day")
    elif answer.form == "mania":
        if score(answer) >= MANIA_POSITIVE:
            yield Finding(Level.HOLD, "mania", "score", f"The mania screen is positive ({score(answer)}).", "same day")
    elif answer.form == "skin":
        yield from _skin(answer)
    elif answer.form == "side_effects":
        for item, value in zip(FORMS[answer.form].items, answer.values, strict=True):
            if value == SEVERE:
                yield Finding(Level.HOLD, "side_effects", item.id, f"Severe side effect: {item.text.lower()}.", "same day")
        if score(answer) >= SIDE_EFFECTS_HIGH:
            yield Finding(Level.HOLD, "side_effects", "score", f"Many side effects ({score(answer)} of 30).", "same day")
    elif answer.form == "after":
        if value_of(answer, "lesion"):
            yield Finding(Level.HOLD, "after", "lesion", "A skin lesion after a session.", "same day")
    elif answer.form == "during":
        yield from _during(answer)


def _skin(answer: Answer) -> Iterator[Finding]:
    """A lesion, or redness that grew worse, is for a clinician; what has not faded or itches waits until it has."""
    if value_of(answer, "lesion"):
        yield Finding(Level.HOLD, "skin", "lesion", "A skin lesion where the pads go.", "same day")
    redness = value_of(answer, "redness")
    if redness == SEVERE:
        yield Finding(Level.HOLD, "skin", "redness", "The skin has become redder since the last session.", "same day")
    elif redness == SEVERE - 1:
        yield Finding(Level.BLOCK, "skin", "redness", "No session: the redness from last time has not faded.")
    if value_of(answer, "rash"):
        yield Finding(Level.BLOCK, "skin", "rash", "No session: a rash or itching where the pads go.")


def _during(answer: Answer) -> Iterator[Finding]:
    for name in _STOPPING:
        if value_of(answer, name):
            yield Finding(Level.STOP, "during", name, f"Reported: {name.replace('_', ' ')}.", "now")
    pain = value_of(answer, "pain")
    if pain >= PAIN_STOP:
        yield Finding(Level.STOP, "during", "pain", f"Pain {pain} of 10.", "now")
    elif pain >= PAIN_PAUSE:
        yield Finding(Level.PAUSE, "during", "pain", f"Pain {pain} of 10.")
    if value_of(answer, "tingling") == 2:
        yield Finding(Level.PAUSE, "during", "tingling", "Strong tingling.")
    if value_of(answer, "phosphenes"):
        yield Finding(Level.PAUSE, "during", "phosphenes", "Flashes of light.")
