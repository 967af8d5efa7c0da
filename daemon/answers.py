"""What a person answered, kept: one hash-chained file a person, and what follows from it now (`control/questions.py`).

`persons/CODE/answers.jsonl` is an audit chain of its own (`daemon/audit.py`): answers, sessions, clinic notes and alerts are only ever
added, and all of them are read back at a start. A clinic's signed notes (`control/clinic_note.py`) are taken from the folder beside it.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from control.clinic_note import read_note
from control.forms import FORMS, Answer, AnswerError, checked
from control.questions import (
    MEASURE,
    PLACEMENT,
    RECORD,
    Asked,
    Kept,
    Measure,
    Moment,
    Session,
    Sighting,
    asked,
    changed_measure,
    noticed,
    standing,
)
from control.screening import Finding, Release
from daemon.answer_anchor import open_answers
from daemon.chain_anchor import ChainAnchor
from daemon.placement import kept_pattern, read_pattern
from daemon.trusted_keys import trusted_now
from dsp.signature import F64
from eegloop.ports import Clock
from eegloop.stim import Prescription, PrescriptionError
from records.append import make_folder

VIRTUAL = "the virtual person (demo)"
NOTES_EVERY_S = 2.0
REFUSED_AGAIN_S = 20.0  # a refused note is tried again after this
MOST_NOTE_BYTES = 4096
LOOK_EVERY_S = 1.0


class AnswerBook:
    """One person's answers. Call from the loop's thread; the disk is another thread's.

    Parameters
    ----------
    folder : Path
        `Layout.person(code)`.
    keys : Path
        `Layout.keys`, read at each note.
    remembers : bool
        False in the demo: its virtual person begins anew with each start, whatever was tried out before.
    measure : (str, str)
        Digest and version of what makes the numbers (`daemon/measure.py`).
    state : Path, optional
        Where the anchor of these answers is (`daemon/chain_anchor.py`); without one a file that was restored or removed is not noticed.

    Raises
    ------
    RecordingError, OSError
        If another process writes the file, or it cannot be opened. One that is damaged, cut or replaced is no error, but a hold.
    """

    def __init__(
        self,
        folder: Path,
        person: str,
        prescription: Prescription,
        keys: Path,
        clock: Clock,
        remembers: bool,
        measure: tuple[str, str],
        state: Path | None = None,
    ) -> None:
        make_folder(folder / "notes")
        path = folder / "answers.jsonl"
        self.person = person
        anchor = ChainAnchor(state, person, path) if state is not None else None
        self.trail, known, wrong = open_answers(path, anchor, clock)
        self._folder = folder
        self._keys = keys
        self._prescription = prescription
        self._clock = clock
        self._kept = Kept()
        self._place = 0  # how many lines are remembered: what comes after a note is not covered by it
        self._open: Session | None = None  # output has flowed and the session has not been ended in order
        self._flows_s: float | None = None  # since when output flows in it, Unix s
        self._said: dict[tuple[str, str, float], tuple[int, bool]] = {}  # alerts: how far each was when it was last told
        self._measure = Measure(*measure, prescription.id, float(int(clock.wall_s())))
        self._pattern: dict[str, Any] | None = None
        self._placed: Finding | None = None
        self._asked = Asked()
        self._looked: tuple[Moment, float] | None = None
        self._notes_s = -math.inf
        self._notes_known: dict[tuple[str, int], tuple[str, float]] = {}  # why it was refused, and when to try it again
        if remembers:
            for event, data in known:
                self._remember(event, data)
            if wrong:
                text = (
                    f"What was answered here before is not whole ({wrong}). A clinician must ask this person what it may have said, "
                    "and release it."
                )
                self._add("sighting", _line(Sighting(RECORD, text, self._clock.wall_s())))
            if self._open is not None and self._flows_s is not None:  # the power failed while output flowed
                ended_s = max(self._flows_s, min(clock.wall_s(), self._longest_s(self._flows_s)))
                self._open, self._flows_s = replace(self._open, ended_s=ended_s), None
            self.close_session()
        self._kept = standing(self._kept)

    @property
    def ok(self) -> bool:
        """False means no stimulation."""
        return self.trail.ok

    @property
    def pattern(self) -> tuple[tuple[str, ...], F64] | None:
        """The first session's channels and their correlations; None before there is one, or once the clinic has let it be replaced."""
        if self._pattern is None or any(r.form == PLACEMENT and r.t_s >= self._pattern["t_s"] for r in self._kept.releases):
            return None
        return read_pattern(self._pattern)

    def keep_pattern(self, channels: tuple[str, ...], pattern: F64) -> None:
        """What later sessions are compared with."""
        self._add("pattern", kept_pattern(channels, pattern, self._clock.wall_s()))

    def placed(self, finding: Finding | None) -> None:
        """What the comparison of the electrodes says now."""
        if finding != self._placed:
            self._placed, self._looked = finding, None

    def answer(self, form: str, values: Sequence[int | None], who: str) -> Answer:
        """Take one filled-in form.

        Raises
        ------
        AnswerError
            If it does not fit the form; nothing is kept.
        """
        given = checked(Answer(form, tuple(values), self._clock.wall_s(), who))
        self._add("answer", _line(given))
        return given

    def output(self, flows: bool) -> None:
        """Output began, goes on or is zero again: the open session's times. Call on changes."""
        now_s = self._clock.wall_s()
        if flows and self._open is None:
            self._add("session_begun", {"t_s": now_s, "prescription": self._prescription.id})
            known = [m.digest for m in self._kept.measures if m.prescription == self._prescription.id]
            if not known or known[-1] != self._measure.digest:
                self._add("measure", asdict(self._measure))
        elif flows and self._flows_s is None:
            self._add("session_resumed", {"t_s": now_s})
        elif not flows and self._open is not None:
            self._add("session_paused", {"t_s": now_s})

    def close_session(self) -> None:
        """The session was ended in order, or nothing can go on with it any more (after a STOP its next start does)."""
        if self._open is not None:
            self._add("session_ended", {"t_s": self._open.ended_s})

    def _longest_s(self, since_s: float) -> float:
        """Until when a session can have gone on that flowed at `since_s`, Unix s."""
        return since_s + self._prescription.session_ms / 1000

    def look(self, phase: str, on_s: float | None) -> Asked:
        """What follows now; worked out anew once a second, and at once after a change."""
        now_s = self._clock.wall_s()
        self._read_notes(now_s)
        if (
            self._open is not None
            and self._flows_s is None
            and not self._open.begun_s <= now_s < self._longest_s(self._open.begun_s)
        ):
            self.close_session()  # stopped, and nobody went on with it: it is over, its report is due and its lockout counts
        moment = Moment(now_s, phase, on_s, goes_on=self._open is not None)
        if self._looked is not None:
            last, at_s = self._looked
            if (last.phase, last.goes_on) == (phase, moment.goes_on) and 0.0 <= now_s - at_s < LOOK_EVERY_S:
                return self._asked
        for seen in noticed(self._kept, self._measure, now_s):
            self._add("sighting", _line(seen))
        self._looked = (moment, now_s)
        more = tuple(filter(None, (changed_measure(self._kept, self._measure), self._placed)))
        follows = asked(self._kept, moment, self._prescription, more=more)
        if follows.next_s:
            follows = asked(self._kept, moment, self._prescription, _from(follows.next_s), more)
        self._asked = follows
        return follows

    @property
    def asked(self) -> Asked:
        """What `look` said last."""
        return self._asked

    @property
    def answered_by(self) -> str:
        """Who gave the newest answer, "" before the first."""
        return max(self._kept.answers, key=lambda a: a.t_s).who if self._kept.answers else ""

    def told(self, say: Callable[[str, dict[str, Any]], None]) -> None:
        """Keep and say each alert once when it is raised, each time it goes on to the next contact, and when it was taken."""
        for alert in self._asked.alerts:
            finding = alert.finding
            key, now = (finding.form, finding.item, finding.t_s), (alert.step, alert.taken)
            before = self._said.get(key)
            if before == now:
                continue
            self._said[key] = now
            event = "alert_taken" if alert.taken else "alert" if before is None else "alert_escalated"
            body = {"form": finding.form, "item": finding.item, "urgency": finding.alert, "step": alert.step}
            self.trail.append(event, body)
            say(event, body)

    def virtual_person(self, forms: Sequence[str]) -> None:
        """The demo's virtual person has nothing to complain of, and says so under its own name."""
        for form in forms:
            self.answer(form, [_CONTENT.get((form, item.id), 0) for item in FORMS[form].items], VIRTUAL)

    def close(self, timeout_s: float = 1.0) -> bool:
        return self.trail.close(timeout_s)

    def _add(self, event: str, data: dict[str, Any]) -> None:
        self.trail.append(event, data)
        self._remember(event, data)
        self._kept = standing(self._kept)
        self._looked = None

    def _remember(self, event: str, data: dict[str, Any]) -> None:
        kept = self._kept
        self._place += 1
        if event == "answer":
            answer = Answer(str(data["form"]), tuple(data["values"]), float(data["t_s"]), str(data["who"]), self._place)
            self._kept = replace(kept, answers=(*kept.answers, answer))
        elif event in ("release", "seen"):
            note = Release(str(data["form"]), str(data["item"]), float(data["t_s"]), str(data["who"]), self._place)
            if event == "release":
                self._kept = replace(kept, releases=(*kept.releases, note))
            else:
                self._kept = replace(kept, seen=(*kept.seen, note))
        elif event == "pattern":
            self._pattern = data
        elif event == "measure":
            # What is pinned now is what the numbers are made with: another one is noticed anew.
            others = tuple(seen for seen in kept.sightings if seen.form != MEASURE)
            self._kept = replace(kept, measures=(*kept.measures, Measure(**data)), sightings=others)
        elif event == "sighting":
            seen = Sighting(str(data["form"]), str(data["text"]), float(data["t_s"]), str(data["about"]), self._place)
            self._kept = replace(kept, sightings=(*kept.sightings, seen))
        elif event == "session_begun":
            self._flows_s = float(data["t_s"])
            self._open = Session(self._flows_s, self._flows_s, str(data["prescription"]))
        elif event == "session_resumed":
            self._flows_s = float(data["t_s"])
        elif event == "session_paused" and self._open is not None:
            self._flows_s = None
            self._open = replace(self._open, ended_s=float(data["t_s"]))
        elif event == "session_ended" and self._open is not None:
            self._kept = replace(kept, sessions=(*kept.sessions, replace(self._open, ended_s=float(data["t_s"]))))
            self._open = self._flows_s = None

    def _read_notes(self, now_s: float) -> None:
        """The clinic's notes that were put into the folder since; each is kept once, and what is wrong with one is kept, too.

        One that was refused is tried again: its time may lie ahead by a clock's error, its key may be trusted by the next list.
        """
        boot_s = self._clock.boot_ns() * 1e-9
        if boot_s - self._notes_s < NOTES_EVERY_S:
            return
        self._notes_s = boot_s
        try:
            paths = sorted((self._folder / "notes").glob("*.json"))
        except OSError:
            return
        for path in paths:
            try:
                key = (path.name, path.lstat().st_mtime_ns)
            except OSError:  # gone again
                continue
            refused, again_s = self._notes_known.get(key, ("", -math.inf))
            if boot_s < again_s:
                continue
            self._notes_known[key] = ("", math.inf)
            try:
                kind, note = read_note(_note_bytes(path), trusted_now(self._keys), self.person, self._prescription.device, now_s)
            except (PrescriptionError, OSError) as error:
                said = str(error)[:300]
                self._notes_known[key] = (said, boot_s + REFUSED_AGAIN_S)
                if said != refused:
                    self.trail.append("note_refused", {"file": path.name, "error": said})
                continue
            kept = self._kept.releases if kind == "release" else self._kept.seen
            if note not in kept:
                self._add(kind, _line(note))


def _note_bytes(path: Path) -> bytes:
    """A note's bytes; OSError or PrescriptionError for what is no small file: a link, a pipe (which would wait), something long."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_NOTE_BYTES:
            raise PrescriptionError(f"note: must be a file of at most {MOST_NOTE_BYTES} bytes")
        return os.read(file, MOST_NOTE_BYTES)
    finally:
        os.close(file)


# A mood between low and good; everything else that the virtual person answers is 0: no, none, not at all.
_CONTENT = {("pain_before", "mood"): 5, ("after", "mood"): 6, ("pads", "left"): 10}


def _from(unix_s: float) -> str:
    """When, as people at this machine say it."""
    if not math.isfinite(unix_s):
        return "only under a new prescription: this course is over"
    when = datetime.fromtimestamp(unix_s)
    day = "" if when.date() == datetime.now().date() else f" on {when:%d %B %Y}"
    return f"from {when:%H:%M}{day}"


def _line(kept: Answer | Release | Sighting) -> dict[str, Any]:
    """What is written of it: where it stands in the chain is known from the chain."""
    return {name: value for name, value in asdict(kept).items() if name != "place"}


def answer_error(form: str, values: object) -> str:
    """Why this is no filled-in form, "" if it is one; before anything is kept."""
    if not isinstance(values, list):
        return f"{form}: the answers must be a list of whole numbers"
    try:
        checked(Answer(form, tuple(values), 0.0, "nobody yet"))
    except AnswerError as error:
        return str(error)
    return ""
