"""The questions around a session: what is asked, how it is scored, how long an answer holds (safety.md sections 2, 4, 6).

Forms are data; `control/screening.py` says what the answers forbid. Texts are short prompts of our own, not a licensed
instrument's wording: a clinic puts the validated wording of its language beside the item's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

HOUR_S = 3600.0
DAY_S = 24.0 * HOUR_S
SHOWN_BELOW = 10**6  # a larger number is not repeated in a message


NO_YES = ("No", "Yes")
FREQUENCY = ("Not at all", "On several days", "On more than half of the days", "Nearly every day")
SEVERITY = ("None", "Mild", "Moderate", "Severe")


@dataclass(frozen=True, slots=True)
class Item:
    """One question: its name, its prompt, the whole numbers that answer it (0 to `highest`), and a word for each.

    Without a word for each (0-10), `labels` are those of the lowest and the highest. An answer from `urgent` on must not wait for the
    questions after it: the form may be sent without them (None = it can wait).
    """

    id: str
    text: str
    highest: int = 1
    labels: tuple[str, ...] = NO_YES
    urgent: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """Questions asked together; `valid_s` is how long an answer holds, `before` whether a session needs it to begin,
    `each_session` whether an answer from before the last session's end holds no longer, `applicator` what it is about
    ("pads" or "coil"; "" = either): it is asked only of those who are stimulated through one."""

    id: str
    title: str
    items: tuple[Item, ...]
    valid_s: float
    before: bool
    each_session: bool = False
    applicator: str = ""

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items)


@dataclass(frozen=True, slots=True)
class Answer:
    """A form filled in by `who` at `t_s` (Unix s): one whole number an item, in the form's order; None: it was not asked.

    `place`: its line in the chain.
    """

    form: str
    values: tuple[int | None, ...]
    t_s: float
    who: str
    place: float = field(default=-math.inf, compare=False)


class AnswerError(ValueError):
    """An answer that does not fit its form: the message names the item, the value and what is allowed."""


def _yes_no(*questions: tuple[str, str], urgent: int | None = None) -> tuple[Item, ...]:
    return tuple(Item(name, text, urgent=urgent) for name, text in questions)


_PHQ9 = (
    ("interest", "Little interest or joy in doing things?"),
    ("mood", "Feeling down, sad or without hope?"),
    ("sleep", "Trouble falling or staying asleep, or sleeping too much?"),
    ("energy", "Feeling tired, with little strength?"),
    ("appetite", "Little appetite, or eating too much?"),
    ("worth", "Feeling bad about yourself, or that you have let yourself or others down?"),
    ("focus", "Trouble keeping your mind on things, like reading or television?"),
    ("pace", "Moving or speaking so slowly that others noticed, or the opposite: so restless that you could not sit still?"),
    ("self_harm", "Thoughts that you would be better off dead, or of hurting yourself?"),
)
_MANIA = (
    (
        "elevated",
        "Happier or more cheerful than you usually are?",
        ("Not at all", "Now and then", "Often", "Most of the time", "All the time"),
    ),
    (
        "confident",
        "More sure of yourself than you usually are?",
        ("Not at all", "Now and then", "Often", "Most of the time", "All the time"),
    ),
    (
        "little_sleep",
        "Needing less sleep than you usually do?",
        ("Not at all", "Now and then", "Often", "Most nights", "Hardly any sleep at all"),
    ),
    (
        "talkative",
        "Talking more than you usually do?",
        ("Not at all", "Now and then", "Often", "Most of the time", "Without a break"),
    ),
    (
        "active",
        "More active than you usually are, at work, among people, or in other things?",
        ("Not at all", "Now and then", "Often", "Most of the time", "All the time"),
    ),
)
_REDNESS = ("No redness", "Some, but fading", "As red as it was", "Redder than before")
_PAIN = ("no pain", "worst pain")
_MOOD = ("very low", "very good")
TEN_OR_MORE = 10

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
        ("bipolar", "Bipolar disorder, and no mood stabilizer (like lithium) taken?"),
        ("minor", "Younger than 18?"),
        ("drug_change", "Was a medicine changed that makes a seizure likelier, or were calming medicines or alcohol stopped?"),
        ("sleepless", "Slept less than four hours last night?"),
        ("alcohol", "Alcohol in the last twelve hours?"),
        ("charging", "Is the headset or the stimulator plugged into the wall or a charger?"),
    ),
    12 * HOUR_S,
    before=True,
    each_session=True,
)
PADS = Form(
    "pads",
    "The pads",
    (
        *_yes_no(
            ("used", "Was one of these pads used before?"),
            ("expired", "Is the date on the package over?"),
            ("dry", "Is a pad dry, or was it moist for longer than the package allows?"),
            ("misplaced", "Is a pad not where your plan shows it, or are the two colors the wrong way round?"),
        ),
        Item("left", "How many unused pairs are left in the box, without this one?", TEN_OR_MORE, ("none left", "ten or more")),
    ),
    HOUR_S,
    before=True,
    each_session=True,
    applicator="pads",
)
# Each pulse of a coil clicks loudly enough to harm hearing, and the coil lies at the head; whoever stands beside it hears it too.
EARS = Form(
    "ears",
    "Your ears",
    _yes_no(
        ("unprotected", "Is one of your ears without a plug or muff?"),
        ("others_unprotected", "Is anybody else in the room without ear protection?"),
    ),
    HOUR_S,
    before=True,
    each_session=True,
    applicator="coil",
)
SKIN = Form(
    "skin",
    "The skin where the pads go",
    (
        Item("redness", "Is the skin still red from last time?", 3, _REDNESS),
        *_yes_no(("lesion", "A burn, blister or wound?"), ("rash", "A rash, or itching all day?")),
    ),
    12 * HOUR_S,
    before=True,
    each_session=True,
)
SIDE_EFFECTS = Form(
    "side_effects",
    "Since the last sessions",
    tuple(
        Item(name, text, 3, SEVERITY)
        for name, text in (
            ("headache", "Headache?"),
            ("neck_pain", "Neck pain?"),
            ("scalp_pain", "Pain at the scalp?"),
            ("itching", "Itching?"),
            ("burning", "Burning?"),
            ("sleepiness", "Sleepiness?"),
            ("concentration", "Trouble concentrating?"),
            ("mood_change", "A sudden change of mood?"),
            ("dizziness", "Dizziness?"),
            ("tinnitus", "Ringing in the ears, or hearing less?"),
        )
    ),
    7 * DAY_S,
    before=True,
)
PHQ9 = Form("phq9", "In the last two weeks", tuple(Item(*question, 3, FREQUENCY) for question in _PHQ9), 7 * DAY_S, before=True)
MANIA = Form(
    "mania", "In the last week", tuple(Item(name, text, 4, labels) for name, text, labels in _MANIA), 7 * DAY_S, before=True
)
PAIN_BEFORE = Form(
    "pain_before",
    "How you feel now",
    (Item("pain", "How much pain do you have now?", 10, _PAIN), Item("mood", "How is your mood now?", 10, _MOOD)),
    HOUR_S,
    before=True,
    each_session=True,
)
DURING = Form(
    "during",
    "During stimulation",
    (
        Item("pain", "How much pain is there where you are stimulated?", 10, _PAIN, urgent=4),
        Item("tingling", "Tingling where you are stimulated?", 2, ("None", "Weak", "Strong"), urgent=2),
        *_yes_no(
            ("phosphenes", "Flashes of light?"),
            ("seizure", "A seizure, or loss of awareness?"),
            ("fainting", "Fainting?"),
            ("vision", "Loss of vision?"),
            ("chest_pain", "Chest pain?"),
            ("confusion", "Confusion?"),
            ("burn", "A burn or blister?"),
            urgent=1,
        ),
    ),
    HOUR_S,
    before=False,
)
AFTER = Form(
    "after",
    "After the session",
    (
        Item("pain", "How much pain do you have now?", 10, _PAIN),
        Item("mood", "How is your mood now?", 10, _MOOD),
        *_yes_no(
            ("lesion", "A burn, blister or wound where the pads were?"),
            ("headache", "A headache?"),
            ("redness", "Red skin where the pads were?"),
        ),
    ),
    DAY_S,
    before=False,
)
FORMS = {form.id: form for form in (SCREENING, PADS, EARS, SKIN, SIDE_EFFECTS, PHQ9, MANIA, PAIN_BEFORE, DURING, AFTER)}


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
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= item.highest:
            raise AnswerError(f"{form.id}.{item.id}: {_shown(value)} must be a whole number from 0 to {item.highest}")
    if not complete(answer) and not any(
        value is not None and item.urgent is not None and value >= item.urgent
        for item, value in zip(form.items, answer.values, strict=True)
    ):  # what is cut short pauses or stops by itself, so that no question left out can lift what an earlier answer forbids
        missing = form.items[answer.values.index(None)].id
        raise AnswerError(f"{form.id}.{missing}: not answered; only an answer that cannot wait is sent without the others")
    if not math.isfinite(answer.t_s) or not answer.who:
        raise AnswerError(f"{form.id}: needs the time and the name of who answered")
    return answer


def _shown(value: object) -> str:
    """As it came, unless it would fill the page."""
    short = not isinstance(value, int) or -SHOWN_BELOW < value < SHOWN_BELOW
    return repr(value)[:40] if short else "a number that large"


def complete(answer: Answer) -> bool:
    """Whether every question was asked and answered."""
    return None not in answer.values


def value_of(answer: Answer, item: str) -> int:
    """One item of a checked answer; 0, which forbids nothing, where it was not asked (what was asked there forbids enough)."""
    return answer.values[FORMS[answer.form].item_ids.index(item)] or 0


def score(answer: Answer) -> int:
    """Sum of all items (PHQ-9: 0-27, mania screen: 0-20, side effects: 0-30)."""
    return sum(value or 0 for value in answer.values)
