"""What answers and sessions add up to over days: lockout, pads, updates, missing reports, the first pattern."""

from __future__ import annotations

import numpy as np

from control.forms import FORMS
from control.prompts import ESCALATE_S
from control.questions import MEASURE, PLACEMENT, Kept, standing
from control.screening import Level
from daemon.answers import VIRTUAL
from tests.answers_bench import LOCKOUT_S, START_S, Desk
from tests.unit.test_daemon_answers import desk

__all__ = ["desk"]


def test_the_lockout_and_the_days_sessions_say_when_the_next_is_possible(desk: Desk) -> None:
    desk.all_well()
    desk.session()
    asked = desk.book.look("off", None)
    assert asked.due == ("after",) and asked.next_s == START_S + 86_400.0, "one session a day, counted from its beginning"
    assert any("The next session is possible from" in finding.text for finding in asked.findings)
    desk.again()
    assert desk.book.look("off", None).next_s == START_S + 86_400.0
    desk.clock.s = START_S + 86_401.0
    assert desk.book.look("off", None).next_s == 0.0
    assert {"screening", "pads", "skin", "pain_before"} <= set(desk.book.look("screen", None).due), "asked anew each session"


def test_a_session_cut_off_by_a_power_failure_counts_as_long_as_it_can_have_been(desk: Desk) -> None:
    desk.all_well()
    desk.book.output(True)
    desk.clock.s += 5.0
    desk.again()
    assert desk.book.look("off", None).next_s >= START_S + LOCKOUT_S
    desk.clock.s += 2 * 86_400.0
    assert desk.book.look("off", None).next_s == 0.0


def test_a_stopped_session_goes_on_without_lockout(desk: Desk) -> None:
    desk.all_well()
    desk.book.output(True)
    desk.clock.s += 60.0
    desk.book.output(False)
    assert desk.book.look("off", None).next_s == 0.0 and desk.book.look("off", None).open == ("after", "during")


def test_a_stopped_session_that_nobody_goes_on_with_is_over(desk: Desk) -> None:
    """Once its time is over: its report is due, its pads are used, and lockout and missing reports count."""
    desk.book.answer("pads", [0, 0, 0, 0, 5], "Ann")
    desk.clock.s += 1.0
    desk.all_well()
    begun_s = desk.clock.s
    desk.book.output(True)
    desk.clock.s += 60.0
    desk.book.output(False)
    session_s = desk.signed.session_ms / 1000
    desk.clock.s = begun_s + session_s - 1.0
    assert desk.book.look("stopped", None).due == ()
    desk.clock.s += 1.0
    asked = desk.book.look("stopped", None)
    assert asked.due == ("after",) and asked.next_s == begun_s + 86_400.0
    assert desk.book._kept.sessions[-1].ended_s == begun_s + 60.0
    desk.clock.s += 2 * 86_400.0
    desk.book.answer("pads", [0, 0, 0, 0, 5], "Ann")
    assert (Level.BLOCK, "pads", "left") in desk.found()


def test_a_session_that_flows_is_never_taken_for_over(desk: Desk) -> None:
    desk.all_well()
    desk.book.output(True)
    desk.clock.s += desk.signed.session_ms / 1000 + 5.0
    desk.book.look("on", 100.0)
    assert desk.book._kept.sessions == ()
    desk.book.output(False)
    desk.book.look("fallback", None)
    assert [session.ended_s for session in desk.book._kept.sessions] == [desk.clock.s]


def test_a_power_failure_after_a_pause_ends_the_session_at_the_failure(desk: Desk) -> None:
    """Not at the pause: pads and skin answered in it are asked again, and the lockout counts from the last output."""
    desk.all_well()
    desk.book.output(True)
    desk.clock.s += 60.0
    desk.book.output(False)
    desk.clock.s += 60.0
    for form in ("pads", "skin"):
        desk.book.answer(form, [0] * len(FORMS[form].items), "Ann")
    desk.book.output(True)
    desk.clock.s += 600.0
    desk.again()
    assert desk.book._kept.sessions[-1].ended_s == desk.clock.s
    assert {"pads", "skin"} <= set(desk.book.look("screen", None).due)
    desk.again()
    assert len(desk.book._kept.sessions) == 1


def test_a_box_that_has_not_grown_emptier_gave_no_new_pads(desk: Desk) -> None:
    desk.all_well()
    desk.book.answer("pads", [0, 0, 0, 0, 4], "Ann")
    desk.session()
    desk.clock.s += 2 * 86_400.0
    desk.all_well()
    desk.book.answer("pads", [0, 0, 0, 0, 4], "Ann")
    assert (Level.BLOCK, "pads", "left") in desk.found()
    desk.book.answer("pads", [0, 0, 0, 0, 3], "Ann")
    assert (Level.BLOCK, "pads", "left") not in desk.found()


def test_an_update_in_the_middle_of_a_course_waits_for_a_clinician(desk: Desk) -> None:
    """H25: the first session pins what makes the numbers; another digest holds until it is released, and is then the pinned one."""
    desk.all_well()
    desk.session()
    desk.clock.s += 2 * 86_400.0
    desk.digest = "after an update"
    desk.again()
    desk.all_well()
    assert (Level.HOLD, MEASURE, "") in desk.found()
    desk.note("release", MEASURE, "")
    assert (Level.HOLD, MEASURE, "") not in desk.found()
    desk.session()
    desk.clock.s += 2 * 86_400.0
    desk.again()
    assert (Level.HOLD, MEASURE, "") not in desk.found()
    desk.digest = "as at first"
    desk.again()
    assert (Level.HOLD, MEASURE, "") in desk.found(), "back again is a change, too"


def step(desk: Desk, form: str) -> int:
    desk.found("off")
    (alert,) = [alert for alert in desk.book.asked.alerts if alert.finding.form == form]
    return alert.step


def test_missing_reports_hold_and_go_on_to_the_next_contact_until_the_clinic_releases(desk: Desk) -> None:
    """S12: their clock runs from when the second one had been due, over restarts, and the person's own late report ends nothing."""
    held = (Level.HOLD, "after", "")
    desk.all_well()
    desk.session()
    desk.clock.s += 86_400.0
    assert held not in desk.found("off")
    desk.session()
    desk.clock.s += 86_401.0
    assert held in desk.found("off") and step(desk, "after") == 0
    desk.clock.s += ESCALATE_S["same day"]
    assert step(desk, "after") == 1
    desk.again()
    desk.clock.s += ESCALATE_S["same day"]
    assert step(desk, "after") == 2, "its clock does not begin anew with a restart"
    desk.note("seen", "after", "")
    assert held in desk.found("off") and desk.book.asked.alerts[0].taken
    desk.book.answer("after", [0] * 5, "Ann")
    assert held in desk.found("off")
    desk.again()
    assert held in desk.found("off"), "late is not released"
    desk.note("release", "after", "")
    assert held not in desk.found("off")
    desk.session()
    desk.session()
    desk.clock.s += 86_401.0
    assert held in desk.found("off"), "two more that are missed are not covered by it"


def test_missing_reports_are_released_also_before_a_report_is_given(desk: Desk) -> None:
    desk.session()
    desk.session()
    desk.clock.s += 90_000.0
    assert (Level.HOLD, "after", "") in desk.found("off")
    desk.note("release", "after", "")
    assert (Level.HOLD, "after", "") not in desk.found("off")
    desk.again()
    assert (Level.HOLD, "after", "") not in desk.found("off")


def test_an_updates_alert_and_release_last_over_restarts(desk: Desk) -> None:
    desk.all_well()
    desk.session()
    desk.clock.s += 2 * 86_400.0
    desk.digest = "after an update"
    desk.again()
    for number in range(1, 4):
        desk.found("off")
        desk.clock.s += ESCALATE_S["same day"]
        desk.again()
        assert step(desk, MEASURE) == number
    desk.note("release", MEASURE, "")
    assert (Level.HOLD, MEASURE, "") not in desk.found()
    desk.clock.s += 3_600.0
    desk.again()
    assert (Level.HOLD, MEASURE, "") not in desk.found(), "a release is not lost by a restart before the next session"
    desk.digest = "another update"
    desk.again()
    assert (Level.HOLD, MEASURE, "") in desk.found()


def test_the_first_pattern_is_kept_until_the_clinic_lets_it_be_replaced(desk: Desk) -> None:
    desk.book.keep_pattern(("F3", "F4"), np.array([[1.0, 0.5], [0.5, np.nan]]))
    desk.again()
    kept = desk.book.pattern
    assert kept is not None and kept[0] == ("F3", "F4") and kept[1][0, 1] == 0.5 and np.isnan(kept[1][1, 1])
    desk.note("release", PLACEMENT, "")
    desk.found()
    assert desk.book.pattern is None


def test_the_virtual_person_says_who_it_is_and_begins_anew_with_each_start(desk: Desk) -> None:
    desk.book.close()
    book = desk.open(remembers=False)
    book.virtual_person(book.look("screen", None).due)
    assert desk.found() == set() and book.answered_by == VIRTUAL
    book.answer("phq9", [0] * 8 + [3], "a visitor")
    assert desk.found() != set()
    book.close()
    book = desk.open(remembers=False)
    assert len(book.look("screen", None).due) == 7


def test_years_of_answers_are_not_looked_at_each_second(desk: Desk) -> None:
    """Only what can still matter is: each form's newest two, the first PHQ-9, and what holds."""
    for _ in range(50):
        desk.clock.s += 86_400.0
        desk.all_well()
        desk.book.answer("after", [0] * 5, "Ann")
    first = desk.book.answer("phq9", [0] * 8 + [1], "Ann")
    desk.clock.s += 1.0
    for _ in range(5):
        desk.book.answer("phq9", [0] * 9, "Ann")
        desk.clock.s += 1.0
    kept = desk.book._kept
    assert first in kept.answers and len(kept.answers) <= 2 * len(FORMS) + 2
    assert standing(Kept()) == Kept()
