"""What a person answered, kept: it survives a restart, blocks and holds, and an alert that nobody takes goes on to the next contact."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control.clinic_note import Note, read_note, sign_note
from control.forms import FORMS, AnswerError
from control.keyring import certify
from control.prescription import TrustedKey, new_key, public_key, trusted_bytes
from control.prompts import ESCALATE_S
from control.questions import RECORD, Alert
from control.screening import FUTURE, Level
from daemon.answers import AnswerBook
from daemon.audit import verify_chain
from eegloop.errors import RecordingError
from eegloop.stim import PrescriptionError
from tests.answers_bench import Desk


def test_what_was_not_asked_is_kept_as_null_and_read_back(desk: Desk) -> None:
    given = (8, *(None for _ in FORMS["during"].items[1:]))
    desk.book.answer("during", given, "Ann")
    desk.again()
    (line,) = [json.loads(t) for t in (desk.folder / "p1" / "answers.jsonl").read_text().splitlines() if '"answer"' in t]
    assert line["data"]["values"] == list(given), "nobody said no"
    assert (Level.STOP, "during", "pain") in desk.found("stopped") and "during" in desk.book.look("stopped", None).due


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.book.close()


def test_every_answer_survives_a_restart_and_its_chain_is_sound(desk: Desk) -> None:
    assert [f.form for f in desk.book.look("screen", None).findings] == [
        f.id for f in FORMS.values() if f.before and f.applicator in ("", "pads")
    ]
    desk.all_well()
    desk.book.answer("phq9", [0] * 8 + [1], "Ann")
    before = desk.found()
    assert before == {(Level.HOLD, "phq9", "self_harm")}
    desk.again()
    assert desk.found() == before
    lines = [json.loads(line) for line in (desk.folder / "p1" / "answers.jsonl").read_text().splitlines()]
    kept = [line["data"] for line in lines if line["event"] == "answer"]
    assert len(kept) == 8 and kept[-1]["values"][8] == 1 and kept[-1]["who"] == "Ann"
    assert verify_chain(desk.book.trail.path) == []


def test_what_is_no_answer_is_not_kept(desk: Desk) -> None:
    with pytest.raises(AnswerError, match=r"pads\.dry"):
        desk.book.answer("pads", (0, 0, 2, 0, 0), "Ann")
    assert len(desk.book.look("screen", None).due) == 7


Damage = Callable[[bytes], bytes]


DAMAGES: dict[str, Damage] = {
    "a changed byte": lambda text: text.replace(b'"Ann"', b'"Bob"', 1),
    "a line removed": lambda text: b"".join(line for line in text.splitlines(True) if b'"skin"' not in line),
    "lines in another order": lambda text: b"".join(sorted(text.splitlines(True))),
    "its end cut off": lambda text: text[: text.rindex(b"\n", 0, -1) + 1],
    "its last line half there": lambda text: text[:-40],
    "empty": lambda text: b"",
}
WHOLE = (Level.HOLD, RECORD, "")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_file_holds_and_what_is_sound_in_it_still_counts(desk: Desk, damage: Damage) -> None:
    """Evidence is kept, the service goes on for other seats, and only the clinic's note lets this person's sessions begin again."""
    desk.all_well()
    desk.book.answer("phq9", [0] * 8 + [3], "Cy")
    desk.clock.s += 1.0
    desk.book.answer("side_effects", [0] * 10, "Ann")
    assert desk.book.close()
    path = desk.folder / "p1" / "answers.jsonl"
    before = path.read_bytes()
    path.write_bytes(damage(before))
    desk.open()
    assert WHOLE in desk.found() and desk.book.ok
    assert ((Level.HOLD, "phq9", "self_harm") in desk.found()) == (b"phq9" in damage(before))
    assert (desk.folder / "p1" / "answers-damaged-1.jsonl").read_bytes() == damage(before)
    desk.again()
    desk.all_well()
    assert WHOLE in desk.found(), "it holds over a restart"
    assert verify_chain(path) == []
    desk.note("release", RECORD, "")
    assert WHOLE not in desk.found()
    desk.again()
    assert WHOLE not in desk.found()


def test_a_file_that_was_removed_or_put_back_holds(desk: Desk) -> None:
    """With its head: the chain by itself looks sound, but the anchor outside the data directory knows more lines."""
    desk.all_well()
    assert desk.book.close()
    files = [desk.folder / "p1" / name for name in ("answers.jsonl", "answers.head")]
    early = {file: file.read_bytes() for file in files}
    desk.open()
    desk.book.answer("during", [0, 0, 0, 1, 0, 0, 0, 0, 0], "Ann")
    assert desk.book.close()
    for file, text in early.items():
        file.write_bytes(text)
    desk.open()
    assert WHOLE in desk.found()
    desk.note("release", RECORD, "")
    assert WHOLE not in desk.found()
    assert desk.book.close()
    for file in files:
        file.unlink()
    desk.open()
    assert WHOLE in desk.found(), "an earlier release does not cover it"
    assert desk.book.close()
    (anchor,) = (desk.folder / "state").glob("*.json")
    anchor.write_text("{}")
    desk.note("release", RECORD, "")
    desk.open()
    assert WHOLE in desk.found(), "nor does one cover an anchor that was damaged after it"


def test_answers_count_as_kept_only_once_their_anchor_is(desk: Desk) -> None:
    assert desk.book.trail.flush(5.0)
    state, moved = desk.folder / "state", desk.folder / "moved"
    state.rename(moved)
    state.write_text("not a folder")
    desk.book.answer("skin", [0, 1, 0], "Ann")
    assert not desk.book.trail.flush(0.5) and not desk.book.ok
    state.unlink()
    moved.rename(state)
    assert desk.book.trail.flush(5.0) and desk.book.ok
    desk.again()
    assert (Level.HOLD, "skin", "lesion") in desk.found()


def test_a_file_that_somebody_else_writes_is_not_moved_away(desk: Desk) -> None:
    path = desk.folder / "p1" / "answers.jsonl"
    desk.all_well()
    assert desk.book.trail.flush()
    path.with_suffix(".head").unlink()
    with pytest.raises(RecordingError, match="another eegloop"):
        AnswerBook(desk.folder / "p1", "p1", desk.signed, desk.keys, desk.clock, True, ("", ""))
    assert path.exists()


def test_an_alert_that_nobody_takes_goes_on_to_the_next_contact_and_says_so(desk: Desk) -> None:
    """Undelivered is unacknowledged: five minutes for "now", then again and again, also over a restart; a note that it was seen ends it."""
    desk.all_well()
    desk.book.answer("phq9", [0] * 8 + [2], "Ann")
    desk.found("off")
    assert [event for event, _ in desk.said] == ["alert"] and desk.said[0][1]["step"] == 0
    for step in (1, 2):
        desk.clock.s += ESCALATE_S["now"]
        desk.found("off")
        assert desk.said[-1] == ("alert_escalated", {"form": "phq9", "item": "self_harm", "urgency": "now", "step": step})
    desk.again()
    desk.clock.s += ESCALATE_S["now"]
    desk.found("off")
    assert desk.said[-1][1]["step"] == 3, "its clock does not begin anew with a restart"
    desk.note("seen", "phq9", "self_harm")
    assert (Level.HOLD, "phq9", "self_harm") in desk.found("off"), "seen is not released"
    assert desk.said[-1][0] == "alert_taken" and desk.book.asked.alerts[0].taken
    events = [json.loads(line)["event"] for line in desk.book.trail.path.read_text().splitlines()]
    desk.book.trail.flush()
    assert "alert" in events and "alert_escalated" in events


def during(desk: Desk, *asked: str, **values: int) -> None:
    """The form of a running session, with only those questions `asked` (none named = whole)."""
    items = FORMS["during"].item_ids
    desk.book.answer("during", [values.get(item, 0) if item in (asked or items) else None for item in items], "Ann")


def alerts(desk: Desk) -> list[tuple[str, str, int]]:
    """Everything that was told so far, newest last."""
    desk.found("stopped")
    return [(event, body["item"], body["step"]) for event, body in desk.said]


def in_time(desk: Desk) -> list[Alert]:
    """The alerts that stand, oldest first."""
    return sorted(desk.book.asked.alerts, key=lambda alert: alert.finding.t_s)


def test_the_rest_of_a_form_that_was_cut_short_raises_no_second_alert(desk: Desk) -> None:
    """Pain is sent at once and stops; the form is then filled in whole and says it again. Who was called is not called for it anew."""
    raised = [("alert", "pain", 0)]
    during(desk, "pain", pain=8)
    assert alerts(desk) == raised
    desk.clock.s += 20.0
    during(desk, "pain", "tingling", pain=8, tingling=1)
    assert alerts(desk) == raised, "cut short again"
    desk.clock.s += 20.0
    during(desk, pain=8, confusion=1)
    assert alerts(desk) == (raised := [*raised, ("alert", "confusion", 0)]), "what is new in it is"
    assert [alert.finding.item for alert in desk.book.asked.alerts] == ["confusion", "pain"]
    assert {(level, item) for level, form, item in desk.found("stopped") if form == "during"} >= {
        (Level.STOP, "pain"),
        (Level.HOLD, "pain"),
    }, "each answer holds by itself"
    desk.clock.s += ESCALATE_S["now"] - 40.0
    assert alerts(desk) == (raised := [*raised, ("alert_escalated", "pain", 1)]), "its time runs from when it was first said"
    desk.note("seen", "during", "pain")
    assert ("alert_taken", "pain", 0) in alerts(desk) and alerts(desk).count(("alert_taken", "pain", 0)) == 1
    before = len(desk.said)
    desk.clock.s += 60.0
    during(desk, pain=8)
    assert ("alert", "pain", 0) in alerts(desk)[before:], "said again after a whole form it is another report"


def test_what_has_become_worse_in_the_rest_of_a_form_is_told_anew_and_escalates_by_itself(desk: Desk) -> None:
    """Who took the call for pain 8 does not know of pain 9."""
    during(desk, "pain", pain=8)
    assert alerts(desk) == (raised := [("alert", "pain", 0)])
    desk.note("seen", "during", "pain")
    assert alerts(desk) == (raised := [*raised, ("alert_taken", "pain", 0)])
    desk.clock.s += 20.0
    during(desk, "pain", pain=9)
    assert alerts(desk) == (raised := [*raised, ("alert", "pain", 0)])
    desk.clock.s += 20.0
    during(desk, "pain", "tingling", pain=8, tingling=2)
    assert alerts(desk) == raised, "better again, and still as bad as to stop"
    desk.clock.s += 20.0
    during(desk, pain=9)
    assert alerts(desk) == raised, "told before"
    assert [(alert.worse, alert.taken) for alert in in_time(desk)] == [(0, True), (1, False)]
    desk.clock.s += ESCALATE_S["now"] - 40.0
    assert alerts(desk) == (raised := [*raised, ("alert_escalated", "pain", 1)])
    desk.note("seen", "during", "pain")
    assert alerts(desk) == [*raised, ("alert_taken", "pain", 0)] and all(alert.taken for alert in in_time(desk))
    desk.again()
    alerts(desk)
    assert [(alert.worse, alert.taken) for alert in in_time(desk)] == [(0, True), (1, True)], "over a restart, too"


@pytest.mark.parametrize(("first", "rest", "worse"), [(5, 8, 0), (7, 10, 1), (8, 7, None), (8, 8, None)])
def test_only_what_was_told_before_can_have_become_worse(desk: Desk, first: int, rest: int, worse: int | None) -> None:
    """Pain 5 pauses and calls nobody: 8 after it is the first alert."""
    during(desk, "pain", pain=first)
    told = alerts(desk)
    assert [item for _, item, _ in told] == (["pain"] if first >= 7 else [])
    desk.clock.s += 20.0
    during(desk, pain=rest)
    assert alerts(desk) == (told if worse is None else [*told, ("alert", "pain", 0)])
    assert [alert.worse for alert in in_time(desk)] == [*([0] if told else []), *([] if worse is None else [worse])]


def test_only_the_clinics_signed_note_for_this_person_releases(desk: Desk) -> None:
    desk.all_well()
    desk.book.answer("after", [0, 5, 1, 0, 0], "Ann")
    held = {(Level.HOLD, "after", "lesion")}
    desk.note("release", "after", "lesion", key=new_key())
    assert desk.found() == held
    desk.note("release", "after", "lesion", patient="p2")
    desk.note("release", "phq9", "self_harm")
    assert desk.found() == held
    desk.note("release", "after", "lesion")
    assert desk.found() == set()
    desk.book.answer("after", [0, 5, 1, 0, 0], "Ann")
    assert desk.found() == held, "a later answer is not covered by it"
    desk.book.trail.flush()
    refused = [
        json.loads(line)["data"]["error"] for line in desk.book.trail.path.read_text().splitlines() if "note_refused" in line
    ]
    assert len(refused) == 2 and "not trusted" in refused[0] and "p2" in refused[1]


def test_only_who_is_on_the_clinics_list_now_releases(desk: Desk) -> None:
    """As for the interlock: revoked there is revoked, and trusted.json alone speaks for `simulated` only; what cannot be read speaks for nobody."""
    desk.all_well()
    desk.book.answer("skin", [0, 1, 0], "Ann")
    held = {(Level.HOLD, "skin", "lesion")}
    own = new_key()
    added = TrustedKey(public_key(own).hex(), "Me", "prescriber", "any", 0, 2**39, False)
    desk.trust(2, replace(desk.doctor, revoked=True), alone=(added,))
    (desk.keys / "trusted.json").write_bytes(trusted_bytes((desk.doctor, added)))
    for key in (desk.key, own):
        desk.note("release", "skin", "lesion", key=key)
        assert desk.found() == held
    desk.trust(3, desk.doctor)
    for wrong in ("site.json", "certified.json", "trusted.json"):
        text = (desk.keys / wrong).read_bytes()
        for damaged in (b"{}", text[:-9]):
            (desk.keys / wrong).write_bytes(damaged)
            desk.note("release", "skin", "lesion")
            assert desk.found() == held, wrong
        (desk.keys / wrong).write_bytes(text)
    (desk.keys / "certified.json").write_bytes(certify((desk.doctor,), 1, desk.site))
    desk.note("release", "skin", "lesion")
    assert desk.found() == held, "an older list"
    desk.trust(4, desk.doctor)
    desk.note("release", "skin", "lesion")
    assert desk.found() == set()


def test_a_note_whose_time_or_key_is_not_good_yet_is_tried_again_and_refused_once(desk: Desk) -> None:
    desk.all_well()
    held = {(Level.HOLD, "skin", "lesion")}
    desk.book.answer("skin", [0, 1, 0], "Ann")
    desk.clock.s += 10.0
    ahead = sign_note(Note("release", "p1", "skin", "lesion", int(desk.clock.s) + 120), desk.key)
    (desk.folder / "p1" / "notes" / "ahead.json").write_bytes(ahead)
    for _ in range(4):
        assert desk.found() == held
        desk.clock.s += 25.0
    desk.clock.s += 50.0
    assert desk.found() == set()
    desk.book.answer("skin", [0, 1, 0], "Ann")
    desk.trust(2, replace(desk.doctor, revoked=True))
    desk.note("release", "skin", "lesion")
    assert desk.found() == held
    desk.trust(3, desk.doctor)
    desk.clock.s += 25.0
    assert desk.found() == set()
    desk.book.trail.flush()
    assert desk.book.trail.path.read_text().count("note_refused") == 2


def test_what_is_no_file_in_the_notes_folder_keeps_no_note_from_being_taken(desk: Desk) -> None:
    """A dangling link, a pipe (reading it would wait for ever), a folder, a long file: each refused by itself."""
    desk.all_well()
    desk.book.answer("skin", [0, 1, 0], "Ann")
    notes = desk.folder / "p1" / "notes"
    (notes / "a.json").symlink_to("/nowhere")
    os.mkfifo(notes / "b.json")
    (notes / "c.json").mkdir()
    (notes / "d.json").write_bytes(b"[" * 5000)
    desk.clock.s += 5.0
    desk.note("release", "skin", "lesion")
    (notes / "4.json").rename(notes / "z.json")
    assert desk.found() == set()


def test_a_clinician_can_date_what_a_wrong_clock_put_into_the_future(desk: Desk) -> None:
    """Else it blocked for as long as the clock was ahead. What it holds stays held, and the person answers anew as ever."""
    desk.clock.set_wrong(365 * 86_400.0)
    desk.all_well()
    desk.book.answer("phq9", [0] * 8 + [1], "Ann")
    desk.clock.set_wrong(0.0)
    forms = {form.id for form in FORMS.values() if form.before and form.applicator in ("", "pads")}
    ahead = {(Level.BLOCK, form, "") for form in forms} | {(Level.HOLD, "phq9", "self_harm")}
    desk.all_well()
    assert desk.found() == ahead
    for form in forms:
        desk.note("release", form, FUTURE)
    held = {(Level.HOLD, "phq9", "self_harm")}
    desk.all_well()
    assert desk.found() == held
    desk.again()
    assert desk.found() == held
    desk.clock.s += 2 * 3_600.0
    assert {"pads", "pain_before"} <= set(desk.book.look("screen", None).due), "an answer holds no longer than ever"
    desk.note("release", "phq9", "self_harm")
    assert not held & desk.found()
    desk.clock.s += 365 * 86_400.0 + 10.0
    desk.all_well()
    assert not held & desk.found(), "nor does it hold anew when its date comes"


def test_a_clock_that_was_set_back_puts_nothing_under_an_earlier_note(desk: Desk) -> None:
    """Neither a release nor that an alert was seen: the order in the chain counts, too, also after a restart."""
    desk.all_well()
    held = {(Level.HOLD, "skin", "lesion")}
    desk.book.answer("skin", [0, 1, 0], "Ann")
    desk.clock.s += 60.0
    desk.note("seen", "skin", "lesion")
    desk.note("release", "skin", "lesion")
    assert desk.found() == set()
    desk.clock.set_wrong(-120.0)
    desk.book.answer("skin", [0, 1, 0], "Ann")
    for _ in range(2):
        desk.clock.s += 300.0
        assert held <= desk.found()
        assert not desk.book.asked.alerts[0].taken
        desk.again()
    desk.note("release", "skin", "lesion")
    assert not held & desk.found()


def test_a_note_that_was_altered_or_lies_in_the_future_is_none(desk: Desk) -> None:
    trusted = (TrustedKey(public_key(desk.key).hex(), "Dr. Bo", "prescriber", "simulated", 0, 2**39, False),)
    good = sign_note(Note("seen", "p1", "phq9", "self_harm", 10), desk.key)
    assert read_note(good, trusted, "p1", "simulated", 11.0)[0] == "seen"
    for text, device, now_s, says in (
        (good, "home", 11.0, "simulated"),
        (good, "simulated", 9.0, "future"),
        (good.replace(b'"payload": "ey', b'"payload": "fy'), "simulated", 11.0, "signature"),
        (b"{}", "simulated", 11.0, "fields"),
        (good.replace(b"eegloop-note-1", b"eegloop-note-2"), "simulated", 11.0, "format"),
    ):
        with pytest.raises(PrescriptionError, match=says):
            read_note(text, trusted, "p1", device, now_s)
    for note in (
        Note("gone", "p1", "phq9", "", 1),
        Note("seen", "p1", "magic", "", 1),
        Note("seen", "", "phq9", "", 1),
        Note("seen", "p1", "phq9", "x" * 41, 1),
        Note("seen", "p1", "phq9", "", -1),
        Note("seen", "p1", "phq9", "", True),
    ):
        with pytest.raises(PrescriptionError):
            sign_note(note, desk.key)
