"""What is asked when, what stands in the way, and the plan of a session's pulses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.forms import DAY_S, FORMS, HOUR_S, Answer
from control.prescription import TrustedKey, demo_prescription, lock_key, new_key, public_key
from control.prompts import ANSWER_WITHIN_S, FIRST_PROMPT_S
from control.pulse_plan import PulseNews, Pulses, heard, objection, sent, used_up
from control.questions import Kept, Moment, Session, asked, next_session_s, standing
from control.screening import Level, Release, assess
from daemon.note_command import named_items, write_note
from eegloop.errors import SetupError
from eegloop.stim import PulseProgram

NOW_S = 1_800_000_000.0
SIGNED = replace(
    demo_prescription("p1", NOW_S), lockout_ms=round(12 * HOUR_S * 1000), day_sessions=2, week_sessions=3, course_sessions=4
)
BEFORE = tuple(form.id for form in FORMS.values() if form.before and form.applicator != "coil")


def filled(form: str, ago_s: float = 60.0, **values: int) -> Answer:
    return Answer(form, tuple(values.get(item.id, 0) for item in FORMS[form].items), NOW_S - ago_s, "Ann")


def kept(*more: Answer, sessions: tuple[Session, ...] = ()) -> Kept:
    return Kept((*(filled(form) for form in BEFORE), *more), sessions=sessions)


def session(hours_ago: float, prescription: str = "demo") -> Session:
    end_s = NOW_S - hours_ago * HOUR_S
    return Session(end_s - 1200.0, end_s, prescription)


def test_forms_are_due_before_a_session_and_not_at_rest() -> None:
    for phase in ("screen", "contact", "baseline", "fallback"):
        assert asked(Kept(), Moment(NOW_S, phase), SIGNED).due == BEFORE
    for phase in ("off", "stopped", "post", "on", "ramp_up", "ramp_down"):
        assert asked(Kept(), Moment(NOW_S, phase), SIGNED).due == ()
    assert asked(kept(), Moment(NOW_S, "screen"), SIGNED) == replace(
        asked(kept(), Moment(NOW_S, "screen"), SIGNED), due=(), findings=()
    )


def test_a_coil_has_no_pads() -> None:
    coil = replace(SIGNED, modality="tms")
    answers = tuple(a for a in kept(filled("after", HOUR_S)).answers if a.form != "pads")
    for more in ((), (filled("pads", 30.0, dry=1),), (filled("pads", 14 * HOUR_S), filled("pads", 30.0))):
        both = Kept((*answers, *more), sessions=(session(13.0),))
        for signed, about_pads in ((coil, False), (SIGNED, True)):
            follows = asked(both, Moment(NOW_S, "screen"), signed)
            assert any(f.form == "pads" for f in follows.findings) == about_pads, more
            assert "pads" not in (*follows.due, *follows.open) or about_pads


def test_ears_are_asked_for_with_a_coil_and_an_unprotected_one_blocks() -> None:
    coil = replace(SIGNED, modality="tms")
    for signed, begins in ((coil, ("ears",)), (SIGNED, ())):
        assert asked(kept(), Moment(NOW_S, "screen"), signed).due == begins
    for item in FORMS["ears"].item_ids:
        yes = asked(kept(filled("ears", 30.0, **{item: 1})), Moment(NOW_S, "screen"), coil)
        assert [(f.level, f.form, f.item) for f in yes.findings] == [(Level.BLOCK, "ears", item)] and yes.open == ("ears",)
    assert asked(kept(filled("ears", 30.0)), Moment(NOW_S, "screen"), coil).findings == ()
    before = kept(filled("ears", 14 * HOUR_S), filled("after", HOUR_S), sessions=(session(13.0),))
    assert asked(before, Moment(NOW_S, "screen"), coil).due[0] == "ears", "each session asks again"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 24), st.just("release")), max_size=14))
def test_what_is_left_out_for_speed_changes_no_finding(weeks: list[int | str]) -> None:
    """PHQ-9 scores and releases of a rise week by week: `standing` after each says the same as all of them."""
    everything = short = Kept()
    for week, what in enumerate(weeks):
        now_s = NOW_S + week * 7 * DAY_S
        if isinstance(what, int):
            values = (*(min(3, max(0, what - 3 * i)) for i in range(8)), 0)
            more = {"answers": (*everything.answers, Answer("phq9", values, now_s, "Ann", week))}
            short = replace(short, answers=(*short.answers, more["answers"][-1]))
        else:
            more = {"releases": (*everything.releases, Release("phq9", "rise", now_s, "Dr. Bo", week))}
            short = replace(short, releases=more["releases"])
        everything = replace(everything, **more)
        short = standing(short)
        assert assess(short.answers, short.releases, now_s) == assess(everything.answers, everything.releases, now_s)


def test_a_blocking_answer_may_be_given_again() -> None:
    follows = asked(kept(filled("pads", 1.0, dry=1)), Moment(NOW_S, "screen"), SIGNED)
    assert follows.due == () and follows.open == ("pads",)


def test_pain_is_asked_for_in_the_middle_and_silence_pauses() -> None:
    for on_s, due, level in (
        (FIRST_PROMPT_S - 1, (), None),
        (FIRST_PROMPT_S, ("during",), None),
        (FIRST_PROMPT_S + ANSWER_WITHIN_S, ("during",), Level.PAUSE),
    ):
        follows = asked(kept(), Moment(NOW_S, "on", on_s), SIGNED)
        assert follows.due == due and [f.level for f in follows.findings] == ([level] if level else [])
    answered = kept(filled("during", 30.0))
    assert asked(answered, Moment(NOW_S, "on", FIRST_PROMPT_S + 60.0), SIGNED).due == ()
    earlier = kept(filled("during", 1_000.0))
    assert asked(earlier, Moment(NOW_S, "on", FIRST_PROMPT_S + 1.0), SIGNED).due == ("during",), (
        "an earlier session's answer is none"
    )
    assert asked(kept(), Moment(NOW_S, "on", None), SIGNED).open == ("during",), "how it feels can be said at any time"


def test_what_happened_can_be_said_after_a_stop_and_then_holds() -> None:
    """Whoever presses STOP because of a seizure reports it afterwards; the questions after a session do not ask about one."""
    ended = Kept(kept().answers, sessions=(session(0.1),))
    for phase in ("stopped", "post", "off"):
        for known, goes_on in ((kept(), True), (ended, False)):
            assert "during" in asked(known, Moment(NOW_S, phase, goes_on=goes_on), SIGNED).open, (phase, goes_on)
        assert "during" not in asked(kept(), Moment(NOW_S, phase), SIGNED).open, "no output has flowed"
        much_later = Moment(ended.sessions[0].ended_s + FORMS["during"].valid_s + 1.0, phase)
        assert "during" not in asked(ended, much_later, SIGNED).open
    seizure = kept(filled("during", 1.0, seizure=1))
    for later_s in (0.0, 2 * DAY_S):
        found = asked(seizure, Moment(NOW_S + later_s, "stopped", goes_on=True), SIGNED).findings
        assert any(f.item == "seizure" and f.level >= Level.HOLD for f in found)


def test_the_rest_of_a_form_that_was_cut_short_stays_due() -> None:
    pain = Answer("during", (5, *(None for _ in FORMS["during"].items[1:])), NOW_S - 30.0, "Ann")
    for phase in ("on", "fallback", "stopped"):
        assert asked(kept(pain), Moment(NOW_S, phase), SIGNED).due == ("during",)
        assert asked(kept(pain, filled("during", 10.0)), Moment(NOW_S, phase), SIGNED).due == ()
    assert asked(kept(pain), Moment(NOW_S + FORMS["during"].valid_s, "stopped"), SIGNED).due == (), "an earlier session's is not"
    late = asked(kept(pain), Moment(NOW_S, "on", FIRST_PROMPT_S + ANSWER_WITHIN_S + 1.0), SIGNED)
    assert any("No answer" in f.text for f in late.findings), "what was cut short is no answer to the prompt"


def test_when_the_next_session_is_possible() -> None:
    assert next_session_s((), NOW_S, SIGNED) == 0.0
    assert next_session_s((session(2.0),), NOW_S, SIGNED) == pytest.approx(NOW_S + 10 * HOUR_S)
    assert next_session_s((session(13.0),), NOW_S, SIGNED) == 0.0
    two = (session(23.0), session(13.0))
    assert next_session_s(two, NOW_S, SIGNED) == pytest.approx(two[0].begun_s + 24 * HOUR_S), (
        "two a day, from the first one's beginning"
    )
    three = (session(100.0), session(60.0), session(30.0))
    assert next_session_s(three, NOW_S, SIGNED) == pytest.approx(three[0].begun_s + 7 * 24 * HOUR_S)
    four = tuple(session(24.0 * 30 * n) for n in range(1, 5))
    assert math.isinf(next_session_s(four, NOW_S, SIGNED))
    assert next_session_s(four, NOW_S, replace(SIGNED, id="the next course")) == 0.0
    assert next_session_s((session(-1.0),), NOW_S, SIGNED) >= NOW_S + 12 * HOUR_S, (
        "a clock behind the last session is the whole lockout"
    )


def test_the_lockout_is_said_and_holds_but_not_for_what_goes_on() -> None:
    locked = kept(sessions=(session(2.0),))
    found = asked(locked, Moment(NOW_S, "off"), SIGNED, "from 18:40").findings
    assert [f.text for f in found if f.form == "lockout"] == ["The next session is possible from 18:40."]
    for moment in (Moment(NOW_S, "off", goes_on=True), Moment(NOW_S, "on", 5.0)):
        assert all(f.form != "lockout" for f in asked(locked, moment, SIGNED).findings)


# --- the plan of pulses

PROGRAM = PulseProgram(
    protocol="table", threshold="rmt", intensity_percent=90, motor_threshold_percent=50, burst_pulses=1, burst_millihz=0,
    train_millihz=1_000, train_pulses=4, trains=2, interval_ms=5_000, session_pulses=6, day_pulses=6, week_pulses=60, course_pulses=60,
    waveform="biphasic", current="normal",
)  # fmt: skip


def given(*times_s: float, program: PulseProgram = PROGRAM) -> Pulses:
    pulses = Pulses()
    for at_s in times_s:
        assert objection(pulses, at_s, program) == ""
        pulses = sent(pulses, at_s, program)
    return pulses


def test_nothing_beyond_the_signed_program_is_asked_for() -> None:
    three = given(10.0, 11.01, 12.02)
    assert "signed spacing" in objection(three, 12.5, PROGRAM)
    assert "no number" in objection(three, math.nan, PROGRAM)
    full = given(10.0, 11.01)
    assert "the train is over" in objection(full, 13.5, PROGRAM), "its last period would pass the train's end"
    assert "the train is over" in objection(given(10.0, 11.01, 12.02), 13.03, PROGRAM)
    assert objection(full, 16.02, PROGRAM) == "" and sent(full, 16.02, PROGRAM).trains == 2
    second = given(10.0, 16.0)
    assert "as many trains" in objection(second, 30.0, PROGRAM)
    most = replace(PROGRAM, trains=10)
    six = given(*(10.0 + 6.0 * n for n in range(6)), program=most)
    assert used_up(six, most) and "as many pulses" in objection(six, 100.0, most)


def test_three_late_ones_in_a_row_end_it_and_one_in_time_begins_the_count_anew() -> None:
    late, fired, skipped = (PulseNews(1, outcome, 1_500) for outcome in ("late", "fired", "skipped"))
    pulses = Pulses()
    for news in (late, late, fired, late, skipped, late):
        pulses = heard(pulses, news)
    assert not pulses.over and (pulses.fired, pulses.late, pulses.skipped) == (5, 4, 1)
    pulses = heard(pulses, late)
    assert pulses.over and "three pulses" in objection(pulses, 10.0, PROGRAM)


# --- the clinic's command


@pytest.mark.parametrize(
    ("kind", "patient", "form", "item", "said"),
    [
        ("release", "p1", "phq9", "bogus_item", "--item 'bogus_item' .* rise, self_harm, future"),
        ("release", "p1", "phq9", "sleep", "rise, self_harm"),
        ("release", "p1", "phq9", "", "--item is missing.* rise, self_harm"),
        ("release", "p1", "mania", "", "--item is missing.* score, future"),
        ("seen", "p1", "pads", "used", "there is none"),
        ("release", "p1", "measure", "pain", "leave it out"),
        ("release", "../../x y", "phq9", "self_harm", "--patient '../../x y' .* letters and digits"),
        ("release", "p1\n", "phq9", "self_harm", "--patient"),
    ],
)
def test_a_note_that_could_do_nothing_is_not_signed(
    tmp_path: Path, kind: str, patient: str, form: str, item: str, said: str
) -> None:
    with pytest.raises(SetupError, match=said) as refused:
        write_note(kind, patient, form, item, tmp_path / "bo.pem", tmp_path / "note.json", None)
    assert "\n" not in str(refused.value) and not (tmp_path / "note.json").exists()


def test_every_alert_and_what_waits_for_a_clinician_can_be_named() -> None:
    assert named_items("release", "during") == (*sorted(FORMS["during"].item_ids), "future")
    assert named_items("seen", "phq9") == ("rise", "self_harm") and named_items("seen", "mania") == ("score",)
    assert named_items("release", "screening") == (*sorted(FORMS["screening"].item_ids), "future")
    assert "" in named_items("release", "after"), "missing reports hold until they are released"
    assert named_items("release", "record") == ("",)
    assert {"score", "headache"} <= set(named_items("release", "side_effects"))
    assert named_items("seen", "after") == ("lesion", "pain", "") and named_items("seen", "placement") == ("",)


def test_a_note_is_made_with_an_encrypted_key_and_says_where_it_goes(tmp_path: Path) -> None:
    from control.clinic_note import read_note

    seed, words = new_key(), tmp_path / "words"
    words.write_text("correct horse battery\n")
    (tmp_path / "bo.pem").write_bytes(lock_key(seed, "correct horse battery"))
    said = write_note("release", "p1", "after", "lesion", tmp_path / "bo.pem", tmp_path / "note.json", words)
    assert "persons/p1/notes/" in said
    trusted = (TrustedKey(public_key(seed).hex(), "Dr. Bo", "prescriber", "any", 0, 2**39, False),)
    kind, release = read_note((tmp_path / "note.json").read_bytes(), trusted, "p1", "magstim", 2**38)
    assert (kind, release.form, release.item, release.who) == ("release", "after", "lesion", "Dr. Bo")
    with pytest.raises(SetupError, match="form"):
        write_note("release", "p1", "magic", "", tmp_path / "bo.pem", tmp_path / "note.json", words)
    with pytest.raises(SetupError, match="cannot be written"):
        write_note("seen", "p1", "after", "lesion", tmp_path / "bo.pem", tmp_path / "none" / "note.json", words)
