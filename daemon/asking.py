"""One seat's questions, live: what is due goes to the page, what is answered to the book, what a clinician must hear to the alarms."""

from __future__ import annotations

import math
from typing import Any

import structlog

from control.forms import AnswerError
from control.questions import Asked
from control.session import OperatorEvent, SessionState
from control.transitions import LIVE
from daemon.answers import VIRTUAL, AnswerBook
from daemon.audit import AuditTrail
from daemon.live import LiveServer
from daemon.placement import LOOKING, Placement
from eegloop.ports import Clock
from eegloop.signal import Chunk, StreamInfo
from eegloop.stim import Phase

log = structlog.get_logger()

VIRTUAL_AFTER_S = 15.0  # the demo's virtual person leaves a form to a person who looks at the page for this long
PERSON_AFTER_S = 120.0  # ... and for this long once a person has answered one
NOTHING_DUE = "No form is due now, so there is nothing to answer."
NOTHING_ASKED = Asked()


class Asking:
    """What stands between a seat's session and its person's book.

    Parameters
    ----------
    book : AnswerBook or None
        None where nothing can be delivered: then nothing is asked.
    contacts : tuple of str
        Whom to call, in order, each as people say it.
    virtual : bool
        The person is the demo's: nobody, so it answers for itself what no person at the page does.

    Attributes
    ----------
    in_vain : str
        Why there was nothing for "screened" to answer at the last `look`; "" if a form was due.
    """

    def __init__(
        self,
        seat: str,
        book: AnswerBook | None,
        contacts: tuple[str, ...],
        virtual: bool,
        audit: AuditTrail,
        live: LiveServer,
        clock: Clock,
    ) -> None:
        self._seat = seat
        self._book = book
        self._contacts = contacts or ("your clinic",)
        self.virtual = virtual
        self._audit = audit
        self._live = live
        self._clock = clock
        self._flows = False
        self._placement: Placement | None = None
        self._due_since_s = math.inf
        self._person_answered_s = -math.inf
        self.in_vain = NOTHING_DUE

    @property
    def ok(self) -> bool:
        """False means no stimulation: what is answered cannot be kept."""
        return self._book is None or self._book.ok

    def answered(self, form: str, values: tuple[int | None, ...], who: str) -> str:
        """Keep one filled-in form; "" or why it was not taken."""
        if self._book is None:
            return "Nothing is asked here: this seat only watches."
        try:
            self._book.answer(form, values, who)
        except AnswerError as error:
            return f"{error}."
        self._person_answered_s = self._clock.lsl_s()
        self._audit.append("operator", {"seat": self._seat, "kind": "answer", "who": who, "detail": form})
        return ""

    def on_disk(self, timeout_s: float) -> bool:
        """Wait until everything answered is; blocks, so not for the loop's thread."""
        return self._book is None or self._book.trail.flush(timeout_s)

    def look(self, session: SessionState | None, events: tuple[OperatorEvent, ...], t_s: float) -> Asked:
        """What is asked now and what the answers forbid; without a session (no headset yet) as in `off`."""
        book = self._book
        if book is None:
            return NOTHING_ASKED
        phase, on_s = Phase.OFF.value, None
        if session is not None:
            phase = session.phase
            if phase in LIVE and session.output_since_s is not None:
                on_s = session.t_s - session.output_since_s
        asked = book.look(phase, on_s)
        told_to = any(event.kind == "screened" for event in events)
        self.in_vain = "" if asked.due else NOTHING_DUE
        if not asked.due:
            self._due_since_s = math.inf
        elif self.virtual:
            self._due_since_s = min(self._due_since_s, t_s)
            waited = t_s - self._due_since_s >= VIRTUAL_AFTER_S and t_s - self._person_answered_s >= PERSON_AFTER_S
            alone = session is not None and phase == Phase.SCREEN and session.started_by == "demo"
            if waited or told_to or alone:
                book.virtual_person(asked.due)
                self._audit.append(
                    "operator", {"seat": self._seat, "kind": "answer", "who": VIRTUAL, "detail": " ".join(asked.due)}
                )
                asked = book.look(phase, on_s)
        book.told(self._tell)
        return asked

    def samples(self, session: SessionState, chunk: Chunk, info: StreamInfo) -> None:
        """Before stimulation the electrodes' pattern is compared with the first session's. A virtual person has no first session."""
        if self._book is None or self.virtual:
            return
        if self._placement is None or self._placement.channels != info.channels:
            self._placement = Placement(info.channels, info.sample_rate_hz, self._book.pattern)
        if session.phase not in LOOKING:
            self._placement.reference = self._book.pattern  # a clinician's note may have changed it since the last session
        self._placement.feed(session.phase, chunk)
        self._book.placed(self._placement.finding)

    def follow(self, session: SessionState) -> None:
        """Keep when this session's output began and when it was over; lockout and reports count from it."""
        flows = session.armed and session.phase in (*LIVE, Phase.FALLBACK)
        if self._book is None:
            return
        if flows != self._flows:
            self._flows = flows
            self._book.output(flows)
            placement = self._placement
            if flows and placement is not None and placement.newest is not None and self._book.pattern is None:
                self._book.keep_pattern(placement.channels, placement.newest)
                placement.reference = self._book.pattern
        if session.phase == Phase.POST or session.latched_by == "fallbacks":
            self._book.close_session()

    def broken(self) -> None:
        """The line ended without an end: nothing goes on with its session."""
        if self._book is not None:
            self._book.output(False)
            self._book.close_session()
        self._flows = False

    def alarms(self) -> list[dict[str, Any]]:
        """What a clinician must hear of; what nobody takes goes on to the next contact and sounds (S12)."""
        found = []
        for alert in self._book.asked.alerts if self._book is not None else ():
            if alert.taken:
                continue
            finding = alert.finding
            urgent = finding.alert == "now" or alert.step > 0
            contact = self._contacts[min(alert.step, len(self._contacts) - 1)]
            names = ", ".join(filter(None, (finding.form, finding.item)))
            worse = ": it has become worse" if alert.worse else ""
            waited = f" Nobody has taken it yet: this is call number {alert.step + 1}." if alert.step else ""
            found.append(
                {
                    "id": f"alert_{finding.form}_{finding.item}".rstrip("_") + (f"_worse_{alert.worse}" if alert.worse else ""),
                    "priority": "high" if urgent else "medium",
                    "text": f"A clinician must speak to this person {'now' if urgent else 'today'}{worse} ({names}).",
                    "advice": f"Call {contact}.{waited}",
                }
            )
        return found

    def view(self) -> dict[str, Any]:
        """`LoopState.forms` (docs/contracts.md section 8); empty where nothing is asked."""
        if self._book is None:
            return {}
        asked = self._book.asked
        known = math.isfinite(asked.next_s)
        return {
            "due": list(asked.due),
            "open": list(asked.open),
            "findings": [{"level": f.level.name.lower(), "form": f.form, "item": f.item, "text": f.text} for f in asked.findings],
            "next_session_s": asked.next_s if known else None,
            "wait_s": max(0.0, asked.next_s - self._clock.wall_s()) if known else None,
            "virtual": self._book.answered_by == VIRTUAL,
        }

    def _tell(self, event: str, body: dict[str, Any]) -> None:
        self._audit.append(event, {"seat": self._seat, **body})
        log.warning(event, seat=self._seat, **body)
        for alarm in self.alarms():
            self._live.publish_event("alarm", self._seat, **alarm, age_s=0.0, active=True)
