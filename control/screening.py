"""What the answers forbid: blocks, holds until a clinician's release, pauses and stops (reference/safety.md section 4).

Pure: answers, releases and the time come in, findings go out. Missing, expired, unreadable or future answers block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from control.forms import DURING, FORMS, PADS, PHQ9, TEN_OR_MORE, Answer, AnswerError, checked, score, value_of

MANIA_POSITIVE = 6
PHQ9_RISE = 5
LOCKOUT = "lockout"  # the "form" of the finding that says when a next session may begin
PAIN_PAUSE, PAIN_STOP = 4, 7
MISSED_REPORTS = 2
SEVERE = 3
SIDE_EFFECTS_HIGH = 12
# What the person reads, too; a clinician finds the item's name in the alert.
SELF_HARM = (
    "Thank you for telling us. A clinician must speak with you before the next session. "
    "If you may hurt yourself, call the emergency number now."
)
FUTURE = "future"  # the "item" of a release for answers of a form that a wrong clock dated into the future
REPORTS_MISSING = "Two reports after a session are missing."
CONTRAINDICATIONS = (
    "seizure", "head_metal", "active_implant", "skull_defect", "pregnant", "bipolar", "minor", "drug_change",
)  # fmt: skip
"""What does not pass by itself: a prescription was signed without it, so a "yes" is new, and a "no" a minute later takes it not back."""
_STOPPING = ("seizure", "fainting", "vision", "chest_pain", "confusion", "burn")


class Level(IntEnum):
    """How much a finding forbids; each includes the ones before it."""

    BLOCK = 1  # no session begins until answered otherwise
    HOLD = 2  # no session begins until a clinician has released it
    PAUSE = 3  # stimulation ramps to zero now
    STOP = 4  # zero now, latched; then as HOLD


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the answers forbid. `alert`: "" or how fast a clinician must see it ("same day", "now").

    `t_s`: when it was answered, Unix s; 0 = it comes from no answer. Without an item it is the form that must be answered (again).
    `place`: where in the chain.
    """

    level: Level
    form: str
    item: str
    text: str
    alert: str = ""
    t_s: float = 0.0
    place: float = field(default=-math.inf, compare=False)


@dataclass(frozen=True, slots=True)
class Release:
    """A clinician's word that a finding of a form's item, answered before `t_s` (Unix s), no longer holds.

    `place`: where in the chain it was taken. What was kept after it is not covered, whatever a clock that was set back says.
    """

    form: str
    item: str
    t_s: float
    who: str
    place: float = field(default=math.inf, compare=False)

    def covers(self, form: str, item: str, t_s: float, place: float) -> bool:
        """Whether it is about this, which was so at `t_s` and stands at `place`."""
        return (self.form, self.item) == (form, item) and t_s <= self.t_s and place < self.place and bool(self.who)


def assess(
    answers: Sequence[Answer],
    releases: Sequence[Release],
    now_s: float,
    missed_s: float | None = None,
    ends_s: Sequence[float] = (),
    applicator: str = "pads",
) -> tuple[Finding, ...]:
    """Everything that the answers so far forbid now, gravest first.

    Parameters
    ----------
    answers : sequence of Answer
        All that is kept of this person, in any order.
    releases : sequence of Release
        By clinicians; the store checks who may.
    now_s : float
        Unix time, s.
    missed_s : float or None
        When the newest report was due, if two or more in a row were not given (`control/prompts.py: missed_since_s`), Unix s.
    ends_s : sequence of float
        When this person's sessions ended (Unix s), oldest first: an answer that is asked for anew each time ends with its session.
    applicator : str
        "pads" or "coil": nothing is asked or counted of what is not used (`control/forms.py: Form.applicator`).
    """
    found: list[Finding] = []
    readable: list[Answer] = []
    for answer in answers:
        try:
            readable.append(checked(answer))
        except AnswerError as error:
            found.append(Finding(Level.BLOCK, answer.form, "", f"An answer cannot be read: {error}."))
    readable = sorted((_dated(answer, releases, now_s) for answer in readable), key=lambda answer: answer.t_s)
    given: dict[str, list[Answer]] = {form: [] for form in FORMS}
    for answer in readable:
        given[answer.form].append(answer)
    for form in FORMS.values():
        if form.applicator not in ("", applicator):
            continue
        newest = given[form.id][-1] if given[form.id] else None
        if form.before and newest is None:
            found.append(Finding(Level.BLOCK, form.id, "", f"{form.title}: not answered yet."))
        elif newest is not None and newest.t_s > now_s:
            found.append(
                Finding(
                    Level.BLOCK,
                    form.id,
                    "",
                    f"{form.title}: answered in the future; check the clock. A clinician can release it (item {FUTURE}).",
                )
            )
        elif form.before and newest is not None and not now_s - newest.t_s <= form.valid_s:
            found.append(Finding(Level.BLOCK, form.id, "", f"{form.title}: the answer has expired; answer again."))
        elif form.each_session and newest is not None and ends_s and newest.t_s <= ends_s[-1]:
            found.append(Finding(Level.BLOCK, form.id, "", f"{form.title}: a new session asks again."))
    found += _pad_count(given[PADS.id], ends_s) if applicator == PADS.applicator else ()
    for answer in readable:
        if FORMS[answer.form].applicator not in ("", applicator):
            continue
        latest = answer is given[answer.form][-1]
        for finding in _findings(answer, _compared(answer, given["phq9"], releases)):
            released = any(r.covers(finding.form, finding.item, answer.t_s, answer.place) and r.t_s <= now_s for r in releases)
            past = finding.level < Level.HOLD and not latest
            if finding.level >= Level.PAUSE and (not latest or now_s - answer.t_s > DURING.valid_s):
                # What happened in an earlier session no longer stops this one, but a stop holds until it is released.
                past = finding.level == Level.PAUSE
                finding = replace(finding, level=Level.HOLD)
            if not (released or past):
                found.append(replace(finding, t_s=answer.t_s, place=answer.place))
    if missed_s is not None and not any(r.covers("after", "", missed_s, -math.inf) and r.t_s <= now_s for r in releases):
        found.append(Finding(Level.HOLD, "after", "", REPORTS_MISSING, "same day", missed_s))
    return tuple(sorted(found, key=lambda f: -f.level))


def _dated(answer: Answer, releases: Sequence[Release], now_s: float) -> Answer:
    """An answer that a wrong clock dated into the future, as given when a clinician said so (`FUTURE`): what it holds, it goes on to hold."""
    said_s = [r.t_s for r in releases if r.covers(answer.form, FUTURE, -math.inf, answer.place) and r.t_s <= now_s]
    return replace(answer, t_s=min(answer.t_s, *said_s)) if said_s else answer


def _pad_count(given: Sequence[Answer], ends_s: Sequence[float]) -> Iterator[Finding]:
    """Pads are used once: each session takes a pair out of the box, so a box that has not grown emptier gave none."""
    before = [a for a in given if ends_s and a.t_s <= ends_s[-1]]
    now = given[-1] if given else None
    if not before or now is None or now is before[-1]:
        return
    left = value_of(now, "left")
    if left == value_of(before[-1], "left") < TEN_OR_MORE:
        text = (
            f"No session: the box held {left} unused pairs before the last session too, so these pads were used. Take new ones."
        )
        yield Finding(Level.BLOCK, "pads", "left", text, t_s=now.t_s)


def phq9_lows(given: Sequence[Answer], releases: Sequence[Release]) -> tuple[Answer, ...]:
    """Each answer that scored less than all before it (`given`: oldest first), since a clinician last looked at a rise."""
    lows: list[Answer] = []
    for answer in given:
        seen = any(r.covers(PHQ9.id, "rise", answer.t_s, answer.place) for r in releases)
        if not seen and (not lows or score(answer) < score(lows[-1])):
            lows.append(answer)
    return tuple(lows)


def _compared(answer: Answer, phq9: Sequence[Answer], releases: Sequence[Release]) -> int:
    """The PHQ-9 score that this answer is compared with: of the first ever given, or the lowest since, if that is less."""
    if answer.form != PHQ9.id:
        return 0
    lows = phq9_lows(phq9[: phq9.index(answer)], releases)
    return min(map(score, (phq9[0], *lows[-1:])))


def _findings(answer: Answer, before: int) -> Iterator[Finding]:
    """What one checked answer forbids by itself; PHQ-9 also against an earlier score, `before`."""
    if answer.form in ("screening", "pads", "ears"):
        for item, value in zip(FORMS[answer.form].items, answer.values, strict=True):
            if value and item.highest == 1:
                if answer.form == "screening" and item.id in CONTRAINDICATIONS:
                    text = f'A clinician must speak with you before the next session: you answered yes to "{item.text}"'
                    yield Finding(Level.HOLD, answer.form, item.id, text, "same day")
                else:
                    yield Finding(Level.BLOCK, answer.form, item.id, f'No session: you answered yes to "{item.text}"')
    elif answer.form == "pain_before":
        pain = value_of(answer, "pain")
        if pain >= PAIN_STOP:
            yield Finding(Level.BLOCK, "pain_before", "pain", f"No session: pain {pain} of 10. Speak to your clinician.")
    elif answer.form == "phq9":
        harm = value_of(answer, "self_harm")
        if harm:
            yield Finding(
                Level.HOLD, "phq9", "self_harm", SELF_HARM,
                "now" if harm >= 2 else "same day",
            )  # fmt: skip
        if score(answer) - before >= PHQ9_RISE:
            yield Finding(Level.HOLD, "phq9", "rise", f"PHQ-9 rose from {before} to {score(answer)}.", "same day")
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
        if value_of(answer, "pain") >= PAIN_STOP:
            yield Finding(Level.HOLD, "after", "pain", f"Pain {value_of(answer, 'pain')} of 10 after a session.", "same day")
    else:  # "during": there is no other form
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
