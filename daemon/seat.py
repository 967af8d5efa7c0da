"""One seat live: acquire → line → interlock, recording and viewers; every task named, every wait bounded."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import structlog

from control.alarm_board import Standing
from control.screening import Finding
from control.session import OperatorEvent
from daemon.aside import aside
from daemon.asking import Asking
from daemon.audit import AuditTrail
from daemon.decisions import decision_row, decision_view
from daemon.interlock_link import InterlockLink
from daemon.live import LiveServer, SeatInfo
from daemon.loop import Conditions, Decision, Line, Outcome, Tick
from daemon.record import SessionRecorder
from eegloop.errors import SourceError
from eegloop.ports import Clock, EegSource
from eegloop.signal import Chunk, Grade, SideChunk, SourceNews, StreamInfo
from eegloop.stim import Phase
from records.session import contact_data

log = structlog.get_logger()

DEADLINE_S = 0.25  # a tick that took longer than this to be worked off renews no lease (S3)
HEARTBEAT_EVERY_S = 0.045
IDLE_TICK_S = 0.1
# The same where nothing flows and nobody has asked for anything; a chunk of a crowd (0.2 s) makes every tick there.
QUIET_TICK_S = 0.25
DELAYED_AFTER_S, LOST_AFTER_S = 0.6, 2.0
RETRY_S = (1.0, 2.0, 4.0, 8.0)
HISTORY_S = 120
Answer = Callable[[bool, str], None]  # did it happen; why not
CLOCKS_PART_S = 0.1


@dataclass(slots=True)
class Vitals:
    """What viewers are told beside the line's own state."""

    sample_at_s: float = -math.inf
    samples: int = 0
    lost_samples: int = 0
    segment: int = 0
    since_s: float = math.nan
    message: str = ""
    decision: Decision | None = None
    decision_at_s: float = -math.inf
    row_at_s: float = -math.inf
    tick_ms_worst: float = 0.0
    alarm_board: tuple[Standing, ...] = ()
    history: deque[tuple[float, float | None]] = field(default_factory=lambda: deque(maxlen=HISTORY_S))


class SeatLoop:
    """Runs one seat until cancelled.

    Parameters
    ----------
    make_line, make_recorder : callables
        Called once the source has said what it is.
    demo : bool
        The virtual person's seat: it may start itself, and needs no supervising page.
    trial : str
        The blinded trial that this person is in, "" = none: then nothing that viewers are told may differ between its arms.
    """

    def __init__(
        self,
        seat: str,
        index: int,
        label: str,
        demo: bool,
        source: EegSource,
        make_line: Callable[[StreamInfo], Line],
        make_recorder: Callable[[StreamInfo, Line], SessionRecorder | None],
        link: InterlockLink,
        audit: AuditTrail,
        live: LiveServer,
        clock: Clock,
        asking: Asking,
        trial: str = "",
    ) -> None:
        self.seat = seat
        self.trial = trial
        self.index = index
        self.label = label
        self.demo = demo
        self._starts_itself = demo
        self.link = link
        self.line: Line | None = None
        self.recorder: SessionRecorder | None = None
        self.vitals = Vitals()
        self._source = source
        self._make_line = make_line
        self._make_recorder = make_recorder
        self._audit = audit
        self._live = live
        self._clock = clock
        self._events: list[OperatorEvent] = []
        self._asked: list[tuple[str, Answer]] = []
        self._conditions = Conditions()
        self._supervised_s = -math.inf
        self._tick = 0
        self._heartbeat_s = -math.inf
        self._worked_s = -math.inf
        self._sessions = 0
        self._failures = 0
        self.broke = ""  # why the line before this one ended, "" = there was none
        self._started_s = int(clock.wall_s())
        self._news_lost = False
        self.asking = asking

    @property
    def info(self) -> SeatInfo | None:
        if self.line is None:
            return None
        stream = self.line.info
        return SeatInfo(self.seat, self.index, self.label, stream.channels, stream.kinds, stream.sample_rate_hz)

    @property
    def stream_status(self) -> str:
        age_s = self._clock.lsl_s() - self.vitals.sample_at_s
        if self._news_lost or age_s > LOST_AFTER_S:
            return "lost"
        return "delayed" if age_s > DELAYED_AFTER_S else "live"

    def person(self, kind: str, who: str, detail: str = "", answer: Answer | None = None) -> None:
        """A person did something at this machine: "start", "screened", "end", "rearm" or "stop".

        `answer` hears what came of it: at the next tick, at the latest 0.1 s from now; at once where there is no headset yet.
        """
        self._audit.append("operator", {"seat": self.seat, "kind": kind, "who": who, "detail": detail})
        if self.line is None and kind != "stop":  # not kept: nobody expects it to happen when a headset comes at last
            if answer is not None:
                answer(False, self.vitals.message or "The headset is not connected yet.")
            return
        if answer is not None:
            self._asked.append((kind, answer))
        self._events.append(OperatorEvent(kind, who, detail))

    def filled_in(self, form: str, values: tuple[int | None, ...], who: str) -> str:
        """A person has answered a form: weighed at once, the session hears of it with the next tick; "" or why it was not taken."""
        error = self.asking.answered(form, values, who)
        if not error and self.line is not None:
            self._events.append(OperatorEvent("answer", who, form))
        return error

    async def say_kept(self, answer: Answer) -> None:
        """Tell whoever answered a form that it is kept, once it is on the disk, which may take a second."""
        kept = await asyncio.to_thread(self.asking.on_disk, 1.0)
        answer(kept, "" if kept else "The answers are not on the disk yet; look whether it is full, and answer again.")

    async def acquire(self) -> None:
        """Connect, and work off every chunk as it comes; a source that cannot be opened is tried again."""
        attempt = 0
        while True:
            try:
                async with self._source as source:
                    attempt = 0
                    await self._connected(source.info)
                    async for item in source.chunks():
                        if isinstance(item, Chunk):
                            self._chunk(item)
                        elif isinstance(item, SideChunk):
                            if self.recorder is not None:
                                self.recorder.side(item)
                        else:
                            self._source_news(item)
                    self.vitals.message = "The recording has ended."
                    self._news_lost = True
                    return
            except SourceError as error:
                wait_s = RETRY_S[min(attempt, len(RETRY_S) - 1)]
                attempt += 1
                self.vitals.message = str(error)
                self._news_lost = True
                log.warning("source", seat=self.seat, error=str(error), retry_s=wait_s)
                await asyncio.sleep(wait_s)

    async def idle(self) -> None:
        """Ticks while no chunk comes, so that age is noticed and people are heard."""
        while True:
            await asyncio.sleep(IDLE_TICK_S)
            if self.line is None:
                self.asking.look(None, (), self._clock.lsl_s())  # an alert goes on to the next contact also without a headset
            elif self._clock.lsl_s() - self._worked_s > self.idle_tick_s:
                self._work(None, self._clock.lsl_s(), self._clock.boot_ns())

    @property
    def idle_tick_s(self) -> float:
        """How long no tick may be missing now, s."""
        waits = self._events or self.link.armed_session or (self.line is not None and self.line.session.armed)
        return IDLE_TICK_S if waits else QUIET_TICK_S

    def fail(self, reason: str) -> None:
        """Something in this seat broke: zero, and a new line in a new run, which begins in `stopped`."""
        self.link.stop(reason)
        self._starts_itself = False  # only a person starts again, also in the demo
        for _, answer in self._asked:
            answer(False, f"Stopped: {reason}.")
        self._asked, self._events = [], []
        if self.recorder is not None:
            self.close(reason)
        self.line = self.recorder = None
        self._failures += 1
        self.broke = f"Stopped: {reason}."
        self.asking.broken()
        # The dose goes on past a line that ended, so what was decided last is still worth its age.
        last = self.vitals
        self.vitals = Vitals(
            sample_at_s=last.sample_at_s,
            message=self.broke,
            decision=last.decision,
            decision_at_s=last.decision_at_s,
        )
        self._news_lost = True

    def close(self, reason: str) -> None:
        """Record the end; the caller has stopped the stimulation."""
        if self.recorder is not None:
            self.recorder.event(self._tick, self._clock.lsl_s(), "closed", reason, {})
            self.recorder.begin_close()  # the writer waits for it, bounded, when the service ends

    async def _connected(self, info: StreamInfo) -> None:
        """A line first, then its recorder, then chunks. Building a line may take seconds, which no other seat's lease has."""
        self._news_lost = False
        self.vitals.message = ""
        if self.line is None:
            failures = self._failures
            line = await aside(f"line {self.seat}", partial(self._make_line, info))
            if failures != self._failures:
                raise SourceError(f"seat {self.seat}: it was stopped while its line was being built; it connects again by itself")
            self.line = line  # from here to the recorder nobody else runs: a tick finds both or none
            self.recorder = self._make_recorder(info, self.line)
            self.vitals.since_s = self._clock.lsl_s()
        elif info != self.line.info:
            raise SourceError(
                f"seat {self.seat}: the stream changed (now {info.n_channels} channels at {info.sample_rate_hz:g} Hz, "
                f"before {self.line.info.n_channels} at {self.line.info.sample_rate_hz:g}); restart eegloop to use it"
            )
        self._audit.append(
            "source", {"seat": self.seat, "name": info.name, "source_id": info.source_id, "channels": list(info.channels)}
        )

    def _source_news(self, news: SourceNews) -> None:
        self._news_lost = news.kind in ("lost", "ended") or (self._news_lost and news.kind not in ("connected", "restarted"))
        if news.kind != "marker":
            self.vitals.message = news.text if self._news_lost else ""
            log.info("source", seat=self.seat, kind=news.kind, text=news.text)
        if self.recorder is not None:
            self.recorder.event(self._tick, news.t_s, news.kind, news.text, news.data)
        self._live.publish_event("event", self.seat, name=news.kind, text=news.text)

    def _chunk(self, chunk: Chunk) -> None:
        self._news_lost = False
        vitals = self.vitals
        vitals.sample_at_s = chunk.arrival_s
        vitals.samples += chunk.n_samples
        vitals.lost_samples += chunk.lost_samples
        vitals.segment = chunk.segment
        if self.line is not None:
            self.asking.samples(self.line.session, chunk, self.line.info)
        self._work(chunk, max(chunk.arrival_s, self._worked_s), self._clock.boot_ns())
        if self.line is None or not self.trial or self.line.session.quiet_since_s is not None:
            self._live.publish_chunk(self.index, chunk)  # blinded: current in the samples would tell the arms apart

    def _work(self, chunk: Chunk | None, t_s: float, made_ns: int) -> None:
        """One tick: the line, then what it wants done, then what is written down."""
        line = self.line
        assert line is not None
        self._tick += 1
        self._worked_s = t_s
        events, self._events = tuple(self._events), []
        recorder = self.recorder
        findings = self.asking.look(line.session, events, t_s).findings
        recording_ok = recorder is not None and recorder.ok
        conditions = self._conditions_now(recording_ok, self._audit.ok and self.asking.ok, self.stream_status, findings)
        tick = Tick(
            self._tick,
            t_s,
            chunk,
            self.link.take(),
            events,
            conditions,
            self._supervised(recorder, t_s),
            self._slept(line, recorder, t_s),
            tuple([at_ns * 1e-9 + line.boot_to_lsl_s for at_ns in self.link.take_pulse_times()]),
            self.link.take_pulses(),
        )
        outcome = line.step(tick)
        self._command(line, outcome, made_ns)
        if recorder is not None:
            self._write(recorder, line, tick, outcome)
        self._remember(line, outcome, t_s)
        if events:
            self._answer(events, outcome)
        self.vitals.tick_ms_worst = max(self.vitals.tick_ms_worst * 0.999, (self._clock.boot_ns() - made_ns) * 1e-6)

    def _conditions_now(self, recording_ok: bool, audit_ok: bool, stream: str, findings: tuple[Finding, ...]) -> Conditions:
        """The same object while nothing has changed."""
        last = self._conditions
        if (
            recording_ok is last.recording_ok
            and audit_ok is last.audit_ok
            and stream == last.stream
            and self._starts_itself is last.demo
            and findings == last.findings
        ):
            return last
        return Conditions(recording_ok, audit_ok, stream, self._starts_itself, findings)

    def _answer(self, events: tuple[OperatorEvent, ...], outcome: Outcome) -> None:
        """Tell whoever asked what came of it. Asked in vain: the sentence that says why stands for this one tick only, too
        short for a viewer's 4 Hz."""
        why = outcome.effects[0].sentence
        in_vain = self.asking.in_vain
        done = (
            "stop",
            "answer",
            *(("screened",) if self.asking.virtual and not in_vain else ()),
        )  # the virtual person has answered
        if not outcome.changed and any(event.kind not in done for event in events):
            self._live.publish_event("event", self.seat, name="refused", text=why)
        asked, self._asked = self._asked, []
        for kind, answer in asked:
            took = kind in done or bool(outcome.changed)
            answer(took, "" if took else in_vain if kind == "screened" and in_vain else why)

    def _slept(self, line: Line, recorder: SessionRecorder | None, t_s: float) -> float | None:
        """After a suspend the two clocks have parted: stop (S3), and take times by the new difference from here on."""
        boot_to_lsl_s = self._clock.lsl_s() - self._clock.boot_ns() * 1e-9
        if abs(boot_to_lsl_s - line.boot_to_lsl_s) <= CLOCKS_PART_S:
            return None
        self.link.stop("the machine was suspended")
        if recorder is not None:
            recorder.event(self._tick, t_s, "clock", "the machine was suspended", {"boot_to_lsl_s": boot_to_lsl_s})
        return boot_to_lsl_s

    def _supervised(self, recorder: SessionRecorder | None, t_s: float) -> float:
        """When a page that somebody looks at last answered, LSL s (S13). The demo is watched by the terminal it runs in."""
        if self.demo:
            return math.inf
        age_s = self._live.supervision_age_s
        at_s = -math.inf if age_s is None else round(self._clock.lsl_s() - age_s, 2)
        if at_s > self._supervised_s + 0.1 or not math.isfinite(self._supervised_s):
            self._supervised_s = at_s
            if recorder is not None and math.isfinite(at_s):
                recorder.event(self._tick, t_s, "supervised", "", {"supervised_s": at_s})
        return self._supervised_s

    def _command(self, line: Line, outcome: Outcome, made_ns: int) -> None:
        for phase, _block, _reason in outcome.changed:
            if phase == Phase.SCREEN and line.session.used_s == 0.0:
                self._sessions += 1  # dose already used: the session goes on under its name and budget
        renewed = False
        in_time = not outcome.effects or self._clock.boot_ns() - made_ns <= DEADLINE_S * 1e9
        for effects in outcome.effects:
            match effects.command:
                case "arm" if in_time:
                    # The same name for every arm of a session: a re-arm goes on with its budget.
                    self.link.arm(f"{self.seat}-{self._started_s}-{self._sessions}", line.session.halts_seen)
                case "set" if in_time:
                    # A set renews the lease like a heartbeat, and one tick may renew it once.
                    renewed = self.link.set(self._tick, made_ns, effects.block, effects.amplitude_ma, effects.frequency_hz)
                case "fallback":
                    self.link.fallback(effects.reason)
                case "end":
                    self.link.end()
                case "stop":
                    self.link.stop(effects.reason)
            if effects.trigger_s is not None and in_time:
                self.link.pulse(round((effects.trigger_s - line.boot_to_lsl_s) * 1e9))
                self._audit.append("pulse", {"seat": self.seat, "tick": self._tick, "trigger_s": effects.trigger_s})
            if effects.command:
                self._audit.append(
                    "command",
                    {"seat": self.seat, "tick": self._tick, "kind": effects.command, "block": effects.block,
                     "amplitude_ma": effects.amplitude_ma, "reason": effects.reason,
                     **({"blinded": self.trial} if self.trial else {})},
                )  # fmt: skip
        if not renewed and line.effects.heartbeat:
            now_ns = self._clock.boot_ns()
            in_time = now_ns - made_ns <= DEADLINE_S * 1e9
            if in_time and now_ns * 1e-9 - self._heartbeat_s >= HEARTBEAT_EVERY_S:
                self._heartbeat_s = now_ns * 1e-9
                self.link.heartbeat(self._tick, made_ns)
        for refusal in self.link.take_refusals():
            self._audit.append("refused", {"seat": self.seat, **refusal})
            log.warning("interlock refused", seat=self.seat, **refusal)

    def _write(self, recorder: SessionRecorder, line: Line, tick: Tick, outcome: Outcome) -> None:
        if tick.conditions is not self._conditions:
            self._conditions = tick.conditions
            recorder.event(tick.number, tick.t_s, "conditions", "", _fields(tick.conditions))
        for event in tick.events:
            recorder.event(tick.number, tick.t_s, "operator", event.kind, _fields(event))
        for pulse in tick.pulses:
            recorder.event(tick.number, tick.t_s, "pulse", pulse.outcome, _fields(pulse))
        for state in tick.states:
            recorder.stim(tick.number, state)
        if tick.pulses_s:
            recorder.event(tick.number, tick.t_s, "pulses", "", {"at_s": list(tick.pulses_s)})
        if tick.chunk is not None and tick.chunk.impedance_kohm is not None:
            recorder.event(tick.number, tick.t_s, "contact", "", contact_data(line.info, tick.chunk.impedance_kohm))
        if tick.chunk is not None:
            recorder.chunk(tick.number, tick.chunk)
        else:
            recorder.idle(tick.number, tick.t_s)
        for row in outcome.rows:
            recorder.biomarkers(row)
        for decision in outcome.decisions:
            latency_ms = (self._clock.lsl_s() - tick.chunk.arrival_s) * 1000 if tick.chunk is not None else None
            recorder.decision(decision_row(decision, line, self.link.sequence, latency_ms))
        for phase, block, reason in outcome.changed:
            recorder.event(tick.number, tick.t_s, "phase", f"{phase}/{block}" if block else phase, {"reason": reason})

    def _remember(self, line: Line, outcome: Outcome, t_s: float) -> None:
        self.asking.follow(line.session)
        for phase, block, reason in outcome.changed:
            log.info("phase", seat=self.seat, phase=phase, block=block, reason=reason)
            self._audit.append("phase", {"seat": self.seat, "phase": phase, "block": block, "reason": reason})
            self._live.publish_event("event", self.seat, name="phase", text=reason, phase=phase, block=block)
        for decision in outcome.decisions:
            self.vitals.decision = decision
            self.vitals.decision_at_s = t_s
            if self._live.n_connections:
                self._live.publish_event("decision", self.seat, **decision_view(decision, 0.0, self.trial))
        if outcome.rows:
            self.vitals.row_at_s = t_s
            second = math.floor(outcome.rows[-1].t_s)
            if not self.vitals.history or math.floor(self.vitals.history[-1][0]) != second:
                value = line.target().get("value")
                self.vitals.history.append(
                    (outcome.rows[-1].t_s, value if isinstance(value, float) and math.isfinite(value) else None)
                )


def _fields(thing: Any) -> dict[str, Any]:
    return asdict(thing)


GRADES = {Grade.GOOD: "good", Grade.SUSPECT: "suspect", Grade.INVALID: "n/a"}
