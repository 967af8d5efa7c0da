"""What the demo's virtual person can be told to answer, and what it says where nothing is due."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.forms import FORMS
from control.prescription import demo_prescription
from control.session import OperatorEvent
from control.state import SessionState
from daemon.answers import VIRTUAL, AnswerBook
from daemon.asking import NOTHING_DUE, Asking
from daemon.audit import AuditTrail
from daemon.clock import MachineClock
from daemon.live import LiveServer

TOLD = (OperatorEvent("screened", "page"),)


def test_an_answer_that_has_become_worse_is_an_alarm_of_its_own(tmp_path: Path) -> None:
    """A new name: a page and a phone that showed the first one, perhaps for a while, sound for the second."""
    clock = MachineClock()
    signed = demo_prescription("p1", clock.wall_s())
    book = AnswerBook(tmp_path / "p1", "p1", signed, tmp_path / "trusted.json", clock, True, ("digest", "0.1.0"))
    audit = AuditTrail(tmp_path / "audit.jsonl", clock)
    asking = Asking("one", book, ("Dr. A", "Dr. B"), False, audit, LiveServer(tmp_path / "live.sock"), clock)
    state = replace(SessionState(), phase="stopped")
    unanswered = [None] * (len(FORMS["during"].items) - 1)
    named = []
    for pain in (8, 9, 9, 10):
        book.answer("during", [pain, *unanswered], "Ann")
        asking.look(state, (), clock.lsl_s())
        named.append([(alarm["id"], alarm["priority"]) for alarm in asking.alarms()])
    first, worse, worst = (("alert_during_pain" + more, "high") for more in ("", "_worse_1", "_worse_2"))
    assert [sorted(names) for names in named] == [[first], [first, worse], [first, worse], [first, worse, worst]]
    texts = {alarm["id"]: alarm["text"] for alarm in asking.alarms()}
    assert texts["alert_during_pain"] == "A clinician must speak to this person now (during, pain)."
    assert texts["alert_during_pain_worse_2"] == "A clinician must speak to this person now: it has become worse (during, pain)."
    assert book.close() and audit.close(1.0)


@pytest.mark.parametrize("virtual", [True, False])
def test_an_open_form_that_is_not_due_is_nobodys_to_answer_and_that_is_said(tmp_path: Path, virtual: bool) -> None:
    clock = MachineClock()
    signed = demo_prescription("p1", clock.wall_s())
    book = AnswerBook(tmp_path / "p1", "p1", signed, tmp_path / "trusted.json", clock, not virtual, ("digest", "0.1.0"))
    audit = AuditTrail(tmp_path / "audit.jsonl", clock)
    asking = Asking("one", book, (), virtual, audit, LiveServer(tmp_path / "live.sock"), clock)
    at_rest = asking.look(None, TOLD, clock.lsl_s())
    assert at_rest.due == () and asking.in_vain == NOTHING_DUE

    state = replace(SessionState(), phase="screen", started_by="Ann")
    asked = asking.look(state, TOLD, clock.lsl_s())
    assert asking.in_vain == "" and (asked.due == ()) is virtual
    if virtual:
        assert book.answered_by == VIRTUAL
        book.answer("pads", [0, 0, 1, 0, 10], "Ann")
        again = asking.look(state, TOLD, clock.lsl_s())
        assert again.open == ("pads",) and asking.in_vain == NOTHING_DUE
        assert book.answered_by == "Ann", "what a person said is not answered for them"
    else:
        assert set(asked.due) == {form.id for form in FORMS.values() if form.before and form.applicator in ("", "pads")}
    assert book.close() and audit.close(1.0)


@pytest.mark.parametrize(("latched_by", "over"), [("fallbacks", True), ("person", False)])
def test_two_fallbacks_end_the_session_for_its_lockout_and_its_report_too(tmp_path: Path, latched_by: str, over: bool) -> None:
    clock = MachineClock()
    signed = replace(demo_prescription("p1", clock.wall_s()), lockout_ms=43_200_000)
    book = AnswerBook(tmp_path / "p1", "p1", signed, tmp_path / "trusted.json", clock, True, ("digest", "0.1.0"))
    audit = AuditTrail(tmp_path / "audit.jsonl", clock)
    asking = Asking("one", book, (), False, audit, LiveServer(tmp_path / "live.sock"), clock)
    on = replace(SessionState(), phase="on", latched_by="", armed=True, output_since_s=0.0)
    asking.follow(on)
    stopped = replace(on, phase="stopped", latched_by=latched_by, armed=False, output_since_s=None)
    asking.follow(stopped)
    asked = asking.look(stopped, (), clock.lsl_s())
    assert (asked.next_s > clock.wall_s() + 43_000) is over and ("after" in asked.due) is over
    assert book.close() and audit.close(1.0)
