"""The forms and what their answers forbid, alone and in a session."""

from __future__ import annotations

import math
from typing import Any

import pytest

from control.forms import DAY_S, FORMS, HOUR_S, Answer, AnswerError, checked, score, value_of
from control.screening import LOCKOUT, Finding, Level, Release, assess
from control.session import OperatorEvent
from tests.unit.test_control_seat import Seat

NOW_S = 1_800_000_000.0


def answer(form: str, ago_s: float = 60.0, **values: int) -> Answer:
    return Answer(form, tuple(values.get(item.id, 0) for item in FORMS[form].items), NOW_S - ago_s, "Ann")


def fine(**changed: Answer | None) -> list[Answer]:
    given: dict[str, Answer | None] = {form.id: answer(form.id) for form in FORMS.values() if form.before and form.id != "ears"}
    given |= changed
    return [a for a in given.values() if a is not None]


def levels(answers: list[Answer], *releases: Release, **more: Any) -> list[tuple[Level, str, str]]:
    return [(f.level, f.form, f.item) for f in assess(answers, releases, NOW_S, **more)]


def test_a_number_too_long_to_read_is_not_repeated() -> None:
    with pytest.raises(AnswerError, match="a number that large must be a whole number from 0 to 1") as refused:
        checked(Answer("skin", (0, 10**3900, 0), NOW_S, "Ann"))
    assert len(str(refused.value)) < 100


def cut_short(**values: int) -> Answer:
    """What could not wait, without the questions that were not asked."""
    return Answer("during", tuple(values.get(item.id) for item in FORMS["during"].items), NOW_S - 60.0, "Ann")


def test_what_cannot_wait_is_kept_without_answers_nobody_gave() -> None:
    for item in FORMS["during"].items:
        assert item.urgent is not None
        for value in range(item.highest + 1):
            given = cut_short(**{item.id: value})
            if value < item.urgent:
                with pytest.raises(AnswerError, match="cannot wait"):
                    checked(given)
                continue
            assert checked(given).values.count(None) == len(FORMS["during"].items) - 1
            ((level, _, named),) = levels(fine(during=given))
            assert level >= Level.PAUSE and named == item.id, "what is sent without the rest always pauses or stops by itself"
    for form in FORMS.values():
        if form.id != "during":
            with pytest.raises(AnswerError, match="not answered"):
                checked(Answer(form.id, (None, *(item.highest for item in form.items[1:])), NOW_S, "Ann"))


def test_all_answered_and_nothing_to_say_forbids_nothing() -> None:
    assert levels(fine()) == []
    assert levels(fine(during=answer("during"), after=answer("after"))) == []


@pytest.mark.parametrize("form", [form.id for form in FORMS.values() if form.before and form.applicator != "coil"])
def test_missing_expired_and_future_answers_block(form: str) -> None:
    for wrong in (None, answer(form, FORMS[form].valid_s + 1.0), answer(form, -1.0)):
        assert levels(fine(**{form: wrong})) == [(Level.BLOCK, form, "")]
    assert levels(fine(**{form: answer(form, FORMS[form].valid_s)})) == []
    assert assess(fine(), (), math.nan)[0].level == Level.BLOCK


CONTRAINDICATED = {"seizure", "head_metal", "active_implant", "skull_defect", "pregnant", "bipolar", "minor", "drug_change"}
PASSING = {"broken_skin", "sleepless", "alcohol", "charging"}


@pytest.mark.parametrize("item", sorted(CONTRAINDICATED))
def test_a_new_contraindication_holds_until_a_clinicians_release(item: str) -> None:
    """reference/safety.md section 4: a "no" a minute later is no clinician."""
    given = [*fine(screening=answer("screening", 60.0, **{item: 1})), answer("screening", 1.0)]
    (finding,) = assess(given, (), NOW_S)
    assert (finding.level, finding.form, finding.item, finding.alert) == (Level.HOLD, "screening", item, "same day")
    assert "clinician" in finding.text
    assert levels(given, Release("screening", item, NOW_S - 1.0, "Dr. Bo")) == []
    assert levels(given, Release("screening", item, NOW_S - 61.0, "Dr. Bo")) == [(Level.HOLD, "screening", item)]
    assert {item.id for item in FORMS["screening"].items} == CONTRAINDICATED | PASSING, "each question is one or the other"


@pytest.mark.parametrize(
    ("form", "item"),
    [(f, i.id) for f in ("screening", "pads") for i in FORMS[f].items if i.highest == 1 and i.id not in CONTRAINDICATED],
)
def test_every_yes_before_a_session_blocks_until_the_next_answer(form: str, item: str) -> None:
    yes = answer(form, **{item: 1})
    assert levels(fine(**{form: yes})) == [(Level.BLOCK, form, item)]
    assert levels([*fine(**{form: yes}), answer(form, 1.0)]) == []


@pytest.mark.parametrize(("value", "alert"), [(1, "same day"), (2, "now"), (3, "now")])
def test_thoughts_of_self_harm_hold_until_a_clinicians_release(value: int, alert: str) -> None:
    answers = [answer("phq9", 3 * DAY_S, self_harm=value), *fine()]
    (finding,) = assess(answers, (), NOW_S)
    assert (finding.level, finding.item, finding.alert) == (Level.HOLD, "self_harm", alert)
    good = Release("phq9", "self_harm", NOW_S - DAY_S, "Dr. Bo")
    assert levels(answers, good) == []
    for wrong in (
        Release("phq9", "self_harm", NOW_S - 4 * DAY_S, "Dr. Bo"),
        Release("phq9", "self_harm", NOW_S + 1.0, "Dr. Bo"),
        Release("phq9", "rise", NOW_S, "Dr. Bo"),
        Release("mania", "self_harm", NOW_S, "Dr. Bo"),
        Release("phq9", "self_harm", NOW_S, ""),
    ):
        assert levels(answers, wrong) == [(Level.HOLD, "phq9", "self_harm")]


def phq9(ago_s: float, total: int) -> Answer:
    """One with this score, item 9 apart."""
    values = [min(3, max(0, total - 3 * i)) for i in range(8)]
    return Answer("phq9", (*values, 0), NOW_S - ago_s, "Ann")


@pytest.mark.parametrize(
    ("weekly", "holds"),
    [
        ((15, 19), False),
        ((15, 20), True),
        ((15, 0, 4), False),
        ((15, 0, 5), True),  # better, then worse again: still below the first
        ((15, 2, 4, 6, 7), True),  # slowly
        ((3, 9, 7), True),  # the second is held until it is released, whatever comes after it
    ],
)
def test_phq9_is_compared_with_the_first_and_with_the_lowest_since(weekly: tuple[int, ...], holds: bool) -> None:
    given = [phq9((len(weekly) - i) * 7 * DAY_S - 6.5 * DAY_S, total) for i, total in enumerate(weekly)]
    found = levels([a for a in fine() if a.form != "phq9"] + given)
    assert found == [(Level.HOLD, "phq9", "rise")] * holds


def test_a_clinicians_look_at_a_rise_begins_the_comparison_anew() -> None:
    seen = Release("phq9", "rise", NOW_S - 7 * DAY_S, "Dr. Bo")
    given = [phq9(22 * DAY_S, 15), phq9(15 * DAY_S, 0), phq9(8 * DAY_S, 8)]
    for last, holds in ((8, False), (19, False), (20, True)):
        found = levels([*(a for a in fine() if a.form != "phq9"), *given, phq9(60.0, last)], seen)
        assert found == [(Level.HOLD, "phq9", "rise")] * holds, last


def test_scores_that_hold() -> None:
    first = answer("phq9", 6 * DAY_S, mood=1)
    assert levels([first, *fine(phq9=answer("phq9", mood=3, sleep=2))]) == []
    assert levels([first, *fine(phq9=answer("phq9", mood=3, sleep=3))]) == [(Level.HOLD, "phq9", "rise")]
    assert levels(fine(mania=answer("mania", elevated=4, active=1))) == []
    assert levels(fine(mania=answer("mania", elevated=4, active=2))) == [(Level.HOLD, "mania", "score")]
    assert levels(fine(after=answer("after", lesion=1))) == [(Level.HOLD, "after", "lesion")]
    assert levels(fine(after=answer("after", pain=6))) == []
    assert levels(fine(after=answer("after", pain=7))) == [(Level.HOLD, "after", "pain")]
    assert levels(fine(pain_before=answer("pain_before", pain=6))) == []
    assert levels(fine(pain_before=answer("pain_before", pain=7))) == [(Level.BLOCK, "pain_before", "pain")]
    assert levels(fine(), missed_s=None) == []
    assert levels(fine(), missed_s=NOW_S - 9.0) == [(Level.HOLD, "after", "")]
    assert levels(fine(), Release("after", "", NOW_S - 10.0, "Dr. Bo"), missed_s=NOW_S - 9.0) == [(Level.HOLD, "after", "")]
    assert levels(fine(), Release("after", "", NOW_S - 8.0, "Dr. Bo"), missed_s=NOW_S - 9.0) == []


@pytest.mark.parametrize("item", ["seizure", "fainting", "vision", "chest_pain", "confusion", "burn"])
def test_grave_symptoms_stop_and_then_hold_until_released(item: str) -> None:
    (finding,) = assess(fine(during=answer("during", **{item: 1})), (), NOW_S)
    assert (finding.level, finding.alert) == (Level.STOP, "now")
    long_ago = answer("during", 90 * DAY_S, **{item: 1})
    assert levels(fine(during=long_ago)) == [(Level.HOLD, "during", item)]
    assert levels([*fine(during=answer("during", HOUR_S - 1, **{item: 1})), answer("during", 1.0)]) == [
        (Level.HOLD, "during", item)
    ]
    assert levels(fine(during=long_ago), Release("during", item, NOW_S - DAY_S, "Dr. Bo")) == []


def test_pain_tingling_and_flashes() -> None:
    for pain, level in [(3, None), (4, Level.PAUSE), (6, Level.PAUSE), (7, Level.STOP), (10, Level.STOP)]:
        got = levels(fine(during=answer("during", pain=pain)))
        assert got == ([] if level is None else [(level, "during", "pain")])
    assert levels(fine(during=answer("during", tingling=1))) == []
    assert levels(fine(during=answer("during", tingling=2, phosphenes=1))) == [
        (Level.PAUSE, "during", "tingling"), (Level.PAUSE, "during", "phosphenes"),
    ]  # fmt: skip
    assert levels(fine(during=answer("during", HOUR_S + 1, pain=5))) == []
    assert levels([*fine(during=answer("during", 30.0, pain=5)), answer("during", 1.0)]) == []


def test_the_gravest_comes_first() -> None:
    found = assess(fine(pads=answer("pads", used=1), during=answer("during", burn=1), after=answer("after", lesion=1)), (), NOW_S)
    assert [f.level for f in found] == [Level.STOP, Level.HOLD, Level.BLOCK]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Answer("magic", (), NOW_S, "Ann"), "magic"),
        (Answer("pads", (0,), NOW_S, "Ann"), "1 answers to 5"),
        (Answer("pads", (0, 0, 2, 0, 0), NOW_S, "Ann"), "pads.dry: 2"),
        (Answer("pads", (0, -1, 0, 0, 0), NOW_S, "Ann"), "pads.expired: -1"),
        (Answer("pads", (True, 0, 0, 0, 0), NOW_S, "Ann"), "pads.used: True"),
        (Answer("pads", (0.5, 0, 0, 0, 0), NOW_S, "Ann"), "pads.used: 0.5"),  # type: ignore[arg-type]
        (Answer("pads", (0, 0, 0, 0, 0), math.nan, "Ann"), "time and the name"),
        (Answer("pads", (0, 0, 0, 0, 0), NOW_S, ""), "time and the name"),
    ],
)
def test_answers_that_do_not_fit_block(wrong: Answer, says: str) -> None:
    with pytest.raises(AnswerError, match=says):
        checked(wrong)
    found = assess([*fine(), wrong], (), NOW_S)
    assert [f.level for f in found] == [Level.BLOCK] and says in found[0].text


def test_scores() -> None:
    assert score(answer("phq9", mood=3, self_harm=2)) == 5
    assert value_of(answer("phq9", self_harm=2), "self_harm") == 2
    assert len(FORMS["phq9"].items) == 9 and len(FORMS["mania"].items) == 5


# --- in a session


def finding(level: Level) -> tuple[Finding, ...]:
    return (Finding(level, "during", "pain", "Pain 5 of 10."),)


@pytest.mark.parametrize("level", list(Level))
def test_any_finding_keeps_stimulation_from_beginning(level: Level) -> None:
    for phase in ("screen", "baseline"):
        seat = Seat(demo=True)
        if phase == "baseline":
            seat.until("contact")
        seat.inputs_changes = {"findings": finding(level)}
        seat.run(60)
        assert seat.state.phase == phase and "Pain 5 of 10" in seat.effects.sentence
        seat.inputs_changes = {}
        seat.until("on")


@pytest.mark.parametrize(
    ("level", "phase", "command"),
    [
        (Level.BLOCK, "on", ""),
        (Level.HOLD, "ramp_down", "end"),
        (Level.PAUSE, "fallback", "fallback"),
        (Level.STOP, "stopped", "stop"),
    ],
)
def test_findings_while_it_runs(level: Level, phase: str, command: str) -> None:
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"findings": finding(level)}
    effects = seat.tick()
    assert (seat.state.phase, effects.command) == (phase, command)
    assert ("Pain 5 of 10" in seat.effects.sentence) == (level != Level.BLOCK)
    if level == Level.STOP:
        assert seat.state.latched_by == "report"
    seat.run(5).tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase not in ("off", "contact"), "not before it is cleared"


def test_a_stop_is_a_stop_while_ramping_down_too() -> None:
    seat = Seat(demo=True).until("on")
    seat.tick(OperatorEvent("end", "Ann"))
    seat.inputs_changes = {"findings": finding(Level.PAUSE)}
    seat.tick()
    assert seat.state.phase == "ramp_down"
    seat.inputs_changes = {"findings": finding(Level.STOP)}
    seat.tick()
    assert seat.state.phase == "stopped"


def test_a_seizure_reported_while_the_output_falls_is_a_stop_at_once() -> None:
    """A pause ramps to zero over seconds; what is reported meanwhile does not wait for it."""
    seat = Seat(demo=True).until("on").run(20)
    seat.inputs_changes = {"findings": finding(Level.PAUSE)}
    assert seat.tick().command == "fallback" and seat.state.phase == "fallback"
    seat.inputs_changes = {"findings": (*finding(Level.BLOCK), *finding(Level.STOP))}
    assert seat.tick().command == "stop"
    assert (seat.state.phase, seat.state.latched_by) == ("stopped", "report")


@pytest.mark.parametrize(
    "waits",
    [Finding(Level.HOLD, "phq9", "self_harm", "A clinician first."), Finding(Level.BLOCK, LOCKOUT, "", "Possible from 18:40.")],
)
def test_what_waits_for_a_clinician_or_the_lockout_refuses_the_start_and_says_why(waits: Finding) -> None:
    seat = Seat().run(1)
    seat.tick(OperatorEvent("rearm", "Ann"))
    assert seat.state.phase == "off"
    seat.inputs_changes = {"findings": (waits,)}
    seat.tick(OperatorEvent("start", "Ann"))
    assert seat.state.phase == "off" and seat.effects.sentence == f"Cannot start: {waits.text}"
    seat.tick()
    assert seat.effects.sentence == "No session is running."
    seat.inputs_changes = {}
    seat.tick(OperatorEvent("start", "Ann"))
    assert seat.state.phase == "screen"


def test_the_answer_that_was_the_last_one_needed_goes_on_by_itself() -> None:
    seat = Seat().run(1)
    seat.tick(OperatorEvent("rearm", "Ann"))
    seat.inputs_changes = {"findings": (Finding(Level.BLOCK, "pads", "", "The pads: not answered yet."),)}
    seat.tick(OperatorEvent("start", "Ann"))
    for event in ("screened", "answer"):
        seat.tick(OperatorEvent(event, "Ann"))
        assert seat.state.phase == "screen" and "The pads: not answered yet." in seat.effects.sentence
    seat.inputs_changes = {}
    seat.tick(OperatorEvent("answer", "Ann", "pads"))
    assert seat.state.phase == "contact"
