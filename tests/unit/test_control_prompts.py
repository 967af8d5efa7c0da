"""When people are asked, what silence means, and how long the lockout lasts."""

from __future__ import annotations

import math

import pytest

from control.forms import DAY_S, Answer
from control.prompts import (
    ANSWER_WITHIN_S,
    FIRST_PROMPT_S,
    PROMPT_EVERY_S,
    escalated,
    lockout_left_s,
    missed_reports,
    missed_since_s,
    prompt,
)
from control.screening import Finding, Level, assess
from tests.unit.test_control_screening import NOW_S, answer, fine, levels
from tests.unit.test_control_seat import Seat


def test_pain_is_asked_for_after_two_minutes_and_then_every_ten() -> None:
    assert prompt(FIRST_PROMPT_S - 0.1, None) is None
    first = prompt(FIRST_PROMPT_S, None)
    assert first is not None and first.form == "during" and first.finding is None
    assert prompt(200.0 + PROMPT_EVERY_S - 0.1, 200.0) is None
    again = prompt(200.0 + PROMPT_EVERY_S, 200.0)
    assert again is not None and again.due_s == 200.0 + PROMPT_EVERY_S and again.finding is None


@pytest.mark.parametrize(
    ("on_s", "answered_s"), [(FIRST_PROMPT_S + ANSWER_WITHIN_S, None), (math.nan, None), (10.0, math.nan), (10.0, 20.0)]
)
def test_silence_or_a_broken_clock_pauses(on_s: float, answered_s: float | None) -> None:
    asked = prompt(on_s, answered_s)
    assert asked is not None and asked.finding is not None and asked.finding.level == Level.PAUSE
    seat = Seat(demo=True).until("on")
    seat.inputs_changes = {"findings": (asked.finding,)}
    assert seat.tick().command == "fallback" and seat.state.phase == "fallback"


def test_two_sessions_without_a_report_hold() -> None:
    ends = [NOW_S - 5 * DAY_S, NOW_S - 3 * DAY_S, NOW_S - 1.5 * DAY_S]
    assert missed_reports([], [], NOW_S) == 0
    assert missed_reports(ends, [], NOW_S) == 3
    assert missed_reports(ends, [answer("after", 2.9 * DAY_S)], NOW_S) == 1
    assert missed_reports(ends, [answer("after", 4 * DAY_S)], NOW_S) == 2
    assert missed_reports(ends, [answer("after", 1 * DAY_S)], NOW_S) == 0
    assert missed_reports([NOW_S - 3600.0], [], NOW_S) == 0, "there is a day to give it"
    assert missed_reports([NOW_S - 3600.0], [], math.nan) == 1
    assert missed_reports(ends, [answer("during", 1 * DAY_S)], NOW_S) == 3
    soon = [*ends[:2], NOW_S - 0.5 * DAY_S]
    assert missed_since_s(soon, [], NOW_S) == ends[1] + DAY_S, "a session went on without the report on the one before"
    assert missed_since_s([*ends[:2], ends[1] + 0.5 * DAY_S], [], ends[1] + 0.6 * DAY_S) == ends[1] + 0.5 * DAY_S
    assert missed_since_s(soon[1:], [], NOW_S) is None
    held = assess(fine(), (), NOW_S, missed_since_s(ends, [], NOW_S))
    assert [f.level for f in held] == [Level.HOLD]


def test_the_lockout_counts_down_and_no_clock_shortens_it() -> None:
    assert lockout_left_s(None, NOW_S, 43_200_000) == 0.0
    assert lockout_left_s(NOW_S, NOW_S + 3600.0, 43_200_000) == 39_600.0
    assert lockout_left_s(NOW_S, NOW_S + 50_000.0, 43_200_000) == 0.0
    for broken in (NOW_S - 1.0, math.nan, math.inf):
        assert lockout_left_s(NOW_S, broken, 43_200_000) == 43_200.0


def test_an_alert_nobody_has_taken_goes_further() -> None:
    grave = Finding(Level.HOLD, "phq9", "self_harm", "...", "now")
    soon = Finding(Level.HOLD, "phq9", "rise", "...", "same day")
    assert [escalated(grave, 0.0, None, t) for t in (0.0, 299.0, 300.0, 900.0)] == [0, 0, 1, 3]
    assert [escalated(soon, 0.0, None, t) for t in (3600.0, 4 * 3600.0)] == [0, 1]
    assert escalated(grave, 100.0, 150.0, 9_999.0) == 0
    assert escalated(grave, 100.0, 50.0, 500.0) == 1, "acknowledged before it was raised: another one"
    assert escalated(Finding(Level.BLOCK, "pads", "used", "..."), 0.0, None, 9_999.0) == 0
    assert escalated(grave, 0.0, None, math.nan) == 1


def test_skin() -> None:
    assert levels(fine(skin=answer("skin", redness=1))) == []
    assert levels(fine(skin=answer("skin", redness=2))) == [(Level.BLOCK, "skin", "redness")]
    assert levels(fine(skin=answer("skin", rash=1))) == [(Level.BLOCK, "skin", "rash")]
    assert levels(fine(skin=answer("skin", redness=3))) == [(Level.HOLD, "skin", "redness")]
    wound = [*fine(skin=answer("skin", 3 * DAY_S, lesion=1)), answer("skin", 1.0)]
    assert levels(wound) == [(Level.HOLD, "skin", "lesion")], "a later no does not release it"


def test_side_effects() -> None:
    assert levels(fine(side_effects=answer("side_effects", headache=2, itching=2))) == []
    assert levels(fine(side_effects=answer("side_effects", headache=3))) == [(Level.HOLD, "side_effects", "headache")]
    many = dict.fromkeys(("headache", "neck_pain", "scalp_pain", "itching", "burning", "sleepiness"), 2)
    assert levels(fine(side_effects=answer("side_effects", **many))) == [(Level.HOLD, "side_effects", "score")]
    assert isinstance(fine()[0], Answer)
