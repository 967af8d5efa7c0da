"""The dose ledger (S5): what each session was allowed before it was given, and what a new one may have. Pure but for `load`.

Entries are lines of an append-only chain like the audit log's (interlock/log.py), written and fsynced by its thread:
`debit` = the session may reach these totals (at most 8 s ahead of what was given), `close` = these totals were
given. A debit that was never closed counts as given. `pulses` = the session may reach, at its end has had, so many. `ceiling` = `lower_only` fell to this. `opened` with `lost` = there was
another ledger before, whose dose is not known: it counts as a whole week's sessions given at that moment.

Time is counted, not read: only seconds that certainly passed free anything. Within one boot these are CLOCK_BOOTTIME's;
across a reboot the new boot's uptime, or how far the wall clock is ahead of the highest seen, if a synchronized clock vouched for both ends.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from eegloop.stim import PulseProgram
from interlock.effects import Refusal, first
from interlock.limits import Rules
from interlock.log import Chain, lines

DAY_S = 86_400.0
BACKWARDS_S = 1.0
LONG_AGO_S = 1e12
LOST = "lost"
ALL_GIVEN = "as many sessions as signed have been given"


class Session:
    """One session's totals: charge (µC), time with output (ms), pulses, and when it began and last had a debit (counted s)."""

    __slots__ = ("course", "first_s", "last_s", "ms", "pulses", "uc")

    def __init__(self, course: str, at_s: float) -> None:
        self.course = course
        self.first_s = at_s
        self.last_s = at_s
        self.uc = 0.0
        self.ms = 0.0
        self.pulses = 0


class Book:
    """The ledger's content.

    Parameters
    ----------
    boot_id : str
        The running boot (/proc/sys/kernel/random/boot_id).
    synchronized : bool
        A synchronized clock vouches for the wall time of this boot.
    """

    def __init__(self, boot_id: str, synchronized: bool) -> None:
        self.boot_id = boot_id
        self.synchronized = synchronized
        self.fault = ""
        self.lost = False  # an earlier ledger is gone (interlock/anchor.py); the next `opened` says so
        self.digests: list[str] = []
        self.sessions: dict[str, Session] = {}
        self.ceilings_ma: dict[str, float] = {}
        self.highest_wall_s = 0.0
        self._at_s = 0.0
        self._last: tuple[str, int, bool] | None = None

    def apply(self, event: str, data: dict[str, Any], boot_ns: int, wall_s: float) -> None:
        """One entry, read from the disk or just made."""
        boot_id, synchronized = str(data["boot_id"]), bool(data["synchronized"])
        self._at_s = self._counted_s(boot_id, boot_ns, wall_s, synchronized)
        if self._last is not None and self._last[0] == boot_id:
            boot_ns = max(boot_ns, self._last[1])
        self._last = (boot_id, boot_ns, synchronized)
        self.highest_wall_s = max(self.highest_wall_s, wall_s)
        if event in ("debit", "close"):
            session = self.sessions.setdefault(data["session"], Session(data["course"], self._at_s))
            session.uc, session.ms, session.last_s = float(data["uc"]), float(data["ms"]), self._at_s
        elif event == "pulses":
            session = self.sessions.setdefault(data["session"], Session(data["course"], self._at_s))
            session.pulses, session.last_s = int(data["n"]), self._at_s
            if not (session.pulses or session.ms or session.uc):  # armed and ended without a pulse: none was given
                del self.sessions[data["session"]]
        elif event == "opened" and data.get("lost") is True:
            self.sessions[f"lost {len(self.sessions)}"] = Session(LOST, self._at_s)
        elif event == "ceiling":
            before_ma = self.ceilings_ma.get(data["course"], math.inf)
            self.ceilings_ma[data["course"]] = min(before_ma, float(data["amplitude_ma"]))

    def counted_s(self, boot_ns: int, wall_s: float) -> float:
        """Seconds that certainly passed since the first entry."""
        return self._counted_s(self.boot_id, boot_ns, wall_s, self.synchronized)

    def _counted_s(self, boot_id: str, boot_ns: int, wall_s: float, synchronized: bool) -> float:
        if self._last is None:
            return self._at_s
        last_id, last_ns, last_synchronized = self._last
        if boot_id == last_id:
            return self._at_s + max(0.0, (boot_ns - last_ns) / 1e9)
        # From the highest, not the last: a clock set back by hand in between would make more time pass than there was.
        vouched_s = wall_s - self.highest_wall_s if synchronized and last_synchronized else 0.0
        return self._at_s + max(boot_ns / 1e9, vouched_s)

    def given(self, course: str) -> tuple[int, int]:
        """Sessions and charge (µC) so far under a prescription."""
        of_course = [session for session in self.sessions.values() if session.course == course]
        return len(of_course), sum(math.ceil(session.uc) for session in of_course)

    def pulses_left(self, program: PulseProgram, rules: Rules, name: str, boot_ns: int, wall_s: float) -> tuple[int, int, str]:
        """`(given, left, tightest)`: pulses this session has had, how many more it may have, and the field that says so."""
        now_s = self.counted_s(boot_ns, wall_s)
        course, counted = self._of(rules)
        given = self.sessions[name].pulses if name in self.sessions else 0
        left = (
            (program.session_pulses - given, "session_pulses"),
            (program.day_pulses - sum(s.pulses for s in counted if now_s - s.last_s < DAY_S), "day_pulses"),
            (program.week_pulses - sum(s.pulses for s in counted if now_s - s.last_s < 7 * DAY_S), "week_pulses"),
            (program.course_pulses - sum(s.pulses for s in course), "course_pulses"),
        )
        return (given, *min(left))

    def refusal(self, rules: Rules, name: str, boot_ns: int, wall_s: float) -> Refusal | None:
        """Why this session may not begin (or go on) now."""
        now_s = self.counted_s(boot_ns, wall_s)
        course, counted = self._of(rules)
        begun = [now_s - session.first_s for session in counted]
        lost = any(session.course == LOST and now_s - session.first_s < 7 * DAY_S for session in counted)
        day = sum(ago_s < DAY_S for ago_s in begun)
        week = rules.week_sessions if lost else sum(ago_s < 7 * DAY_S for ago_s in begun)
        since_ms = int(min((now_s - session.last_s for session in counted), default=LONG_AGO_S) * 1000)
        known = name in self.sessions
        mine = self.sessions.get(
            name, Session(rules.course, now_s)
        )  # one goes on under its own prescription, and until it is over
        return first(
            (not self.fault,
             "ledger", self.fault, "whole", "interlock",
             "the dose ledger cannot be relied on; have the prescription signed anew, with a new id, valid from now"),
            (wall_s >= self.highest_wall_s - BACKWARDS_S,
             "clock", int(wall_s), int(self.highest_wall_s), "interlock", "the clock is behind the ledger; set it right"),
            (mine.course == rules.course,
             "session", name, "a new name", "interlock", "another prescription's session, or one that is lost, has this name"),
            (now_s - mine.first_s < rules.session_ms / 1000,
             "prescription.session_ms", int((now_s - mine.first_s) * 1000), rules.session_ms, "prescription",
             "this session is over; begin another"),
            (known or day < rules.day_sessions,
             "prescription.day_sessions", day, rules.day_sessions, "prescription", ALL_GIVEN),
            (known or week < rules.week_sessions,
             "prescription.week_sessions", week, rules.week_sessions, "prescription", ALL_GIVEN),
            (known or len(course) < rules.course_sessions,
             "prescription.course_sessions", len(course), rules.course_sessions, "prescription", ALL_GIVEN),
            (known or since_ms >= rules.lockout_ms,
             "prescription.lockout_ms", since_ms, rules.lockout_ms, "prescription", "too soon after the last session"),
        )  # fmt: skip

    def _of(self, rules: Rules) -> tuple[list[Session], list[Session]]:
        """The sessions of this prescription, and those that count for its days and weeks: on a stimulator that is worn all there are."""
        course = [session for session in self.sessions.values() if session.course == rules.course]
        return course, list(self.sessions.values()) if rules.worn else course


def load(path: Path, boot_id: str, synchronized: bool) -> Book:
    """The book on the disk; a ledger that is damaged, cut or cannot be read gives a book that refuses everything."""
    book = Book(boot_id, synchronized)
    try:
        Chain(path).close()
        for digest, body in lines(path.read_bytes()):
            book.digests.append(digest)
            if body["event"] != "torn_tail":
                book.apply(body["event"], body["data"], body["boot_ns"], body["wall_s"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        book.fault = str(error) or type(error).__name__
    return book
