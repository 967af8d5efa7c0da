"""What a person answered, kept: it survives a restart, blocks and holds, and an alert that nobody takes goes on to the next contact."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control.clinic_note import Note, read_note, sign_note
from control.forms import FORMS, AnswerError
from control.keyring import certify
from control.prescription import TrustedKey, demo_prescription, new_key, public_key, trusted_bytes
from control.prompts import ESCALATE_S
from control.questions import MEASURE, PLACEMENT, RECORD, Kept, standing
from control.screening import FUTURE, Level
from daemon.answers import VIRTUAL, AnswerBook
from daemon.audit import verify_chain
from eegloop.errors import RecordingError
from eegloop.stim import PrescriptionError

START_S = 1_800_000_000.0
LOCKOUT_S = 43_200.0


class Clock:
    def __init__(self) -> None:
        self.s = START_S
        self.wrong_s = 0.0

    def set_wrong(self, wrong_s: float) -> None:
        """The wall clock only: what counts from the machine's start goes on."""
        self.s, self.wrong_s = self.s + wrong_s - self.wrong_s, wrong_s

    def wall_s(self) -> float:
        return self.s

    def lsl_s(self) -> float:
        return self.s - START_S

    def boot_ns(self) -> int:
        return round((self.s - self.wrong_s - START_S + 100.0) * 1e9)


class Desk:
    """A bedside data directory: books are opened and closed on it, and the clinic's key is trusted there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.key, self.digest = folder, Clock(), new_key(), "as at first"
        self.keys, self.site = folder / "keys", new_key()
        self.keys.mkdir()
        self.doctor = TrustedKey(public_key(self.key).hex(), "Dr. Bo", "prescriber", "any", 0, 2**39, False)
        self.trust(1, self.doctor)
        self.signed = replace(
            demo_prescription("p1", START_S), device="home", lockout_ms=round(LOCKOUT_S * 1000), day_sessions=1, week_sessions=5
        )
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.book = self.open()

    def trust(self, number: int, *listed: TrustedKey, alone: tuple[TrustedKey, ...] = ()) -> None:
        """The clinic's list of that number, and what somebody put into trusted.json beside it."""
        (self.keys / "site.json").write_text(json.dumps({"site_key": public_key(self.site).hex(), "number": number}))
        (self.keys / "certified.json").write_bytes(certify(listed, number, self.site))
        (self.keys / "trusted.json").write_bytes(trusted_bytes((*listed, *alone)))

    def open(self, remembers: bool = True) -> AnswerBook:
        measure, state = (self.digest, "0.1.0"), self.folder / "state"
        self.book = AnswerBook(self.folder / "p1", "p1", self.signed, self.keys, self.clock, remembers, measure, state)
        return self.book

    def again(self) -> None:
        """The service is ended and started."""
        assert self.book.close()
        self.open()

    def all_well(self) -> None:
        for form in self.book.look("screen", None).due:
            self.book.answer(form, [0] * len(FORMS[form].items), "Ann")

    def session(self, minutes: float = 20.0) -> None:
        self.book.output(True)
        self.clock.s += 60.0 * minutes
        self.book.output(False)
        self.book.close_session()

    def found(self, phase: str = "screen") -> set[tuple[Level, str, str]]:
        found = self.book.look(phase, None)
        self.book.told(lambda event, body: self.said.append((event, body)))
        return {(f.level, f.form, f.item) for f in found.findings}

    def note(self, kind: str, form: str, item: str, key: bytes | None = None, patient: str = "p1") -> None:
        text = sign_note(Note(kind, patient, form, item, int(self.clock.s)), key or self.key)
        (self.folder / "p1" / "notes" / f"{len(list((self.folder / 'p1' / 'notes').iterdir()))}.json").write_bytes(text)
        self.clock.s += 5.0


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
    assert [f.form for f in desk.book.look("screen", None).findings] == [f.id for f in FORMS.values() if f.before]
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
    forms = {form.id for form in FORMS.values() if form.before}
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
    assert desk.book.look("off", None).next_s == 0.0 and desk.book.look("off", None).open == ("after",)


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
