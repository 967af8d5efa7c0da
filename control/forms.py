"""The questions around a session: what is asked, how it is scored, how long an answer holds (safety.md sections 2, 4, 6).

Forms are data; `control/screening.py` says what the answers forbid. Texts are short prompts of our own, not a licensed
instrument's wording: a clinic puts the validated wording of its language beside the item's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HOUR_S = 3600.0
DAY_S = 24.0 * HOUR_S


@dataclass(frozen=True, slots=True)
class Item:
    """One question: its name, its prompt, and the whole numbers that answer it (0 = no, 1 = yes where the highest is 1)."""

    id: str
    text: str
    highest: int = 1


@dataclass(frozen=True, slots=True)
class Form:
    """Questions asked together; `valid_s` is how long an answer holds, `before` whether a session needs it to begin."""

    id: str
    title: str
    items: tuple[Item, ...]
    valid_s: float
    before: bool

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items)


@dataclass(frozen=True, slots=True)
class Answer:
    """A form filled in by `who` at `t_s` (Unix s): one whole number an item, in the form's order."""

    form: str
    values: tuple[int, ...]
    t_s: float
    who: str


class AnswerError(ValueError):
    """An answer that does not fit its form: the message names the item, the value and what is allowed."""


def _yes_no(*questions: tuple[str, str]) -> tuple[Item, ...]:
    return tuple(Item(name, text) for name, text in questions)


_PHQ9 = (
    "interest", "mood", "sleep", "energy", "appetite", "worth", "focus", "pace", "self_harm",
)  # fmt: skip
_MANIA = ("elevated", "confident", "little_sleep", "talkative", "active")

SCREENING = Form(
    "screening",
    "Before every session",
    _yes_no(
        ("seizure", "Ever a seizure, or epilepsy?"),
        ("head_metal", "Metal or an implant in or near the head?"),
        ("active_implant", "A pacemaker or another active implant?"),
        ("skull_defect", "A hole or plate in the skull?"),
        ("broken_skin", "Broken or irritated skin where the pads go?"),
        ("pregnant", "Pregnant, or possibly so?"),
        ("bipolar", "Bipolar disorder without cover by a mood stabilizer?"),
        ("minor", "Younger than 18?"),
        ("drug_change", "Medication or withdrawal that lowers the seizure threshold changed?"),
        ("sleepless", "Slept less than four hours last night?"),
        ("alcohol", "Alcohol in the last twelve hours?"),
        ("charging", "Headset or stimulator connected to the mains?"),
    ),
    12 * HOUR_S,
    before=True,
)
PADS = Form(
    "pads",
    "The pads",
    _yes_no(
        ("used", "Used before?"), ("expired", "Past the date on the package?"), ("dry", "Dry, or moist for longer than allowed?")
    ),
    HOUR_S,
    before=True,
)
SKIN = Form(
    "skin",
    "The skin where the pads go",
    (
        Item("redness", "Redness from last time: 0 none, 1 fading, 2 as it was, 3 worse", 3),
        *_yes_no(("lesion", "A burn, blister or wound?"), ("rash", "A rash, or itching all day?")),
    ),
    12 * HOUR_S,
    before=True,
)
SIDE_EFFECTS = Form(
    "side_effects",
    "Since the last sessions: 0 none, 1 mild, 2 moderate, 3 severe",
    tuple(
        Item(name, text, 3)
        for name, text in (
            ("headache", "Headache"),
            ("neck_pain", "Neck pain"),
            ("scalp_pain", "Pain at the scalp"),
            ("itching", "Itching"),
            ("burning", "Burning"),
            ("sleepiness", "Sleepiness"),
            ("concentration", "Trouble concentrating"),
            ("mood_change", "Sudden change of mood"),
            ("dizziness", "Dizziness"),
            ("tinnitus", "Ringing in the ears, or hearing less"),
        )
    ),
    7 * DAY_S,
    before=True,
)
PHQ9 = Form("phq9", "Mood in the last two weeks", tuple(Item(name, name, 3) for name in _PHQ9), 7 * DAY_S, before=True)
MANIA = Form("mania", "Drive in the last week", tuple(Item(name, name, 4) for name in _MANIA), 7 * DAY_S, before=True)
PAIN_BEFORE = Form("pain_before", "Now", (Item("pain", "Pain", 10), Item("mood", "Mood", 10)), HOUR_S, before=True)
DURING = Form(
    "during",
    "During stimulation",
    (
        Item("pain", "Pain under the pads", 10),
        Item("tingling", "Tingling: 0 none, 1 weak, 2 strong", 2),
        *_yes_no(
            ("phosphenes", "Flashes of light?"),
            ("seizure", "A seizure, or loss of awareness?"),
            ("fainting", "Fainting?"),
            ("vision", "Loss of vision?"),
            ("chest_pain", "Chest pain?"),
            ("confusion", "Confusion?"),
            ("burn", "A burn or blister?"),
        ),
    ),
    HOUR_S,
    before=False,
)
AFTER = Form(
    "after",
    "After the session",
    (
        Item("pain", "Pain", 10),
        Item("mood", "Mood", 10),
        *_yes_no(("lesion", "A burn, blister or wound?"), ("headache", "Headache?"), ("redness", "Redness?")),
    ),
    DAY_S,
    before=False,
)
FORMS = {form.id: form for form in (SCREENING, PADS, SKIN, SIDE_EFFECTS, PHQ9, MANIA, PAIN_BEFORE, DURING, AFTER)}


def checked(answer: Answer) -> Answer:
    """The answer itself, if it fits its form.

    Raises
    ------
    AnswerError
        Naming the item, the value and what is allowed.
    """
    form = FORMS.get(answer.form)
    if form is None:
        raise AnswerError(f"form {answer.form!r}: there are {', '.join(FORMS)}")
    if len(answer.values) != len(form.items):
        raise AnswerError(f"{form.id}: {len(answer.values)} answers to {len(form.items)} questions")
    for item, value in zip(form.items, answer.values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= item.highest:
            raise AnswerError(f"{form.id}.{item.id}: {value!r} must be a whole number from 0 to {item.highest}")
    if not math.isfinite(answer.t_s) or not answer.who:
        raise AnswerError(f"{form.id}: needs the time and the name of who answered")
    return answer


def value_of(answer: Answer, item: str) -> int:
    """One item of a checked answer."""
    return answer.values[FORMS[answer.form].item_ids.index(item)]


def score(answer: Answer) -> int:
    """Sum of all items (PHQ-9: 0-27, mania screen: 0-20, side effects: 0-30)."""
    return sum(answer.values)
