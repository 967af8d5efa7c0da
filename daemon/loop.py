"""The straight line, in the order of DESIGN.md's picture: a chunk comes in, a command to the interlock comes out.

`Line.step` is pure: clock, sockets and files are outside, time comes in with the tick. The same object runs live (`daemon/seat.py`),
in `replay` and in `study`, and gives the same decisions for the same ticks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from control import envelope, exposure, session
from control.exploration import bounded
from control.exposure import Exposure
from control.pulse_plan import PulseNews
from control.screening import Finding
from control.session import Effects, Inputs, OperatorEvent, SessionState
from control.transitions import SCREEN
from dsp.pipeline import Pipeline
from eegloop.ports import Controller, Snapshot
from eegloop.signal import Biomarkers, Chunk, StreamInfo
from eegloop.stim import Authority, Block, Limit, Prescription, StimState, Verdict

LATEST_STEP_S = 0.25  # the session looks at the world at least this often


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the world around the line says: true or not until it says otherwise. Recorded whenever it changes."""

    recording_ok: bool = False
    audit_ok: bool = False
    stream: str = "live"
    demo: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything the line gets at once.

    Attributes
    ----------
    number : int
        Counts up by one.
    t_s : float
        LSL seconds at which this tick was made; a tick with a chunk has the chunk's arrival.
    chunk : Chunk or None
        None when nothing came (so that age can be noticed).
    states : tuple of StimState
        What the interlock said since the last tick.
    events : tuple of OperatorEvent
        What people did since the last tick.
    supervised_s : float
        LSL seconds at which a supervising page last answered; -inf = never, inf = none is needed (demo, replay of other files).
    pulses : tuple of PulseNews
        What the interlock said became of pulses since the last tick.
    boot_to_lsl_s : float or None
        The new difference of the two clocks after the machine slept; None = as before.
    pulses_s : tuple of float
        When magnetic pulses (or bursts) begin that the interlock may give or has given, LSL s, as told since the last tick.
    """

    number: int
    t_s: float
    chunk: Chunk | None
    states: tuple[StimState, ...] = ()
    events: tuple[OperatorEvent, ...] = ()
    conditions: Conditions = Conditions()
    supervised_s: float = math.inf
    boot_to_lsl_s: float | None = None
    pulses_s: tuple[float, ...] = ()
    pulses: tuple[PulseNews, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision with all that led to it: inputs, proposal, every limit that applied, verdict, sentence."""

    tick: int
    t_s: float
    end_sample: int
    number: int
    target: dict[str, float | str | None]
    snapshot: Snapshot
    verdict: Verdict
    phase: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one tick led to, in order."""

    rows: tuple[Biomarkers, ...]
    decisions: tuple[Decision, ...]
    effects: tuple[Effects, ...]
    changed: tuple[tuple[str, str, str], ...]  # (phase, block, reason) of every change of either

    @property
    def last(self) -> Effects | None:
        return self.effects[-1] if self.effects else None


NOTHING = Outcome((), (), (), ())


class Line:
    """One person's line: quality ► filters ► biomarkers ► decide ► limit ► permit ► command.

    Parameters
    ----------
    boot_to_lsl_s : float
        LSL clock minus CLOCK_BOOTTIME, s; measured once at start and recorded.
    device : tuple of Limit
        The stimulator's own limits.
    blinded : bool
        The program of a blinded study: sentences say nothing of what is delivered.
    """

    def __init__(
        self,
        info: StreamInfo,
        pipeline: Pipeline,
        hop_s: float,
        controller: Controller,
        prescription: Prescription,
        device: tuple[Limit, ...],
        boot_to_lsl_s: float,
        started_s: float,
        blinded: bool = False,
    ) -> None:
        self.info = info
        self.pipeline = pipeline
        self.prescription = prescription
        self.controller = bounded(controller)
        self.boot_to_lsl_s = boot_to_lsl_s
        self.blinded = blinded
        self._hop_s = hop_s
        self._device = device
        self._controller_state = self.controller.start(prescription)
        self.session: SessionState = session.initial(started_s)
        self.exposure = Exposure()
        self.row: Biomarkers | None = None
        self.stim: StimState | None = None
        self.sample_s = -math.inf
        self._pulses_s: list[float] = []  # told, and not placed among the samples yet
        self._conditions = Conditions()
        self.effects = Effects(reason=self.session.reason, sentence=self.session.reason)

    def step(self, tick: Tick) -> Outcome:
        """Run the line over one tick."""
        result = _Collected()
        if tick.boot_to_lsl_s is not None:
            self._suspended(tick.boot_to_lsl_s)
        news = False
        self.session = session.heard_pulses(self.session, tick.pulses)
        for state in tick.states:
            news = news or self.stim is None or _newsworthy(state) != _newsworthy(self.stim)
            self.stim = state
            self.exposure = exposure.heard(self.exposure, state, self.boot_to_lsl_s)
        self.exposure = exposure.silence(self.exposure, tick.t_s)
        late = self._now(tick) - self.session.t_s >= LATEST_STEP_S  # hops may be far apart
        changed = tick.conditions is not self._conditions and tick.conditions != self._conditions
        if tick.events or tick.chunk is None or news or late or changed:
            self._conditions = tick.conditions
            self._session(tick, tick.events, self._now(tick), result)
        if tick.pulses_s:
            for at_s in tick.pulses_s:
                self.exposure = exposure.came(self.exposure, at_s)
            self._pulses_s += [at_s for begin_s in tick.pulses_s for at_s in _burst(begin_s, self.prescription)]
        if tick.chunk is not None:
            if self._pulses_s:
                self._place_pulses(tick.chunk)
            # A decision can only change what the following samples are if something may be delivered.
            delivers = self.prescription.authority != Authority.OBSERVE
            parts = _at_hops(tick.chunk, self._hop_s, self.info.sample_rate_hz) if delivers else [tick.chunk]
            self.sample_s = tick.chunk.t0_s + tick.chunk.n_samples / self.info.sample_rate_hz
            for part in parts:
                clean = exposure.clean(self.exposure, part, self.info.sample_rate_hz)
                for row in self.pipeline.push(part, clean):
                    result.rows.append(row)
                    self.row = Biomarkers(
                        row.columns, row.values, row.grades, row.reasons, row.hop, row.end_sample, _on_grid(row.t_s), row.quality
                    )
                    self._session(tick, (), max(self.session.t_s, self.row.t_s), result)
        if not (result.rows or result.effects):
            return NOTHING
        return Outcome(tuple(result.rows), tuple(result.decisions), tuple(result.effects), tuple(result.changed))

    def _place_pulses(self, chunk: Chunk) -> None:
        """Tell the signal line which samples a pulse falls on, by the newest chunk's clock: it cuts them out before any filter."""
        rate_hz = self.info.sample_rate_hz
        for at_s in self._pulses_s:
            self.pipeline.pulse(chunk.first_sample + math.floor((at_s - chunk.t0_s) * rate_hz))
        self._pulses_s.clear()

    def _suspended(self, boot_to_lsl_s: float) -> None:
        """The machine slept: the clocks' difference is another one, and nothing before counts as proof of zero."""
        self.boot_to_lsl_s = boot_to_lsl_s
        self.stim = None
        self.exposure = Exposure(clean_from_s=math.inf)

    def target(self) -> dict[str, float | str | None]:
        """The biomarker that is kept in its band, as the page draws it; empty before the first row."""
        if self.row is None:
            return {}
        return self.controller.target(
            self._controller_state, session.snapshot(self.session, self._inputs_now(self.row), self.prescription)
        )

    def carried(self) -> str:
        """`settings.history` for the next prescription of a controller whose trials span sessions; "" for any other."""
        return self.controller.carried(self._controller_state)

    def _session(self, tick: Tick, events: tuple[OperatorEvent, ...], now_s: float, result: _Collected) -> None:
        inputs = self._inputs(tick, events, now_s)
        before = (self.session.phase, self.session.block)
        self.session, effects = session.step(self.session, inputs, self.prescription)
        if before[0] != SCREEN == self.session.phase and self.session.begun_s is None:
            # A new session: what was averaged, counted or given up days ago is stale. One that goes on after a STOP keeps it.
            self._controller_state = self.controller.anew(self._controller_state, self.prescription)
        if effects.decide and self.row is not None:
            snapshot = session.snapshot(self.session, inputs, self.prescription)
            self._controller_state, request = self.controller.decide(self._controller_state, snapshot)
            standing = session.standing(self.session, inputs, self.prescription)
            verdict = envelope.limit(request, self.prescription, standing, self._device)
            self.session = session.permit(self.session, verdict, inputs, self.prescription)
            self.session, at_s, verdict = session.trigger(self.session, verdict, tick.t_s, self.prescription)
            if at_s is not None:
                effects = replace(effects, trigger_s=at_s)
                self.exposure = exposure.pulsed(self.exposure, at_s)
            target = self.controller.target(self._controller_state, snapshot)
            result.decisions.append(
                Decision(
                    tick.number, now_s, self.row.end_sample, self.session.decisions, target, snapshot, verdict, self.session.phase
                )
            )
        if effects.command == "set" and effects.block == Block.STIMULATE:
            self.exposure = exposure.commanded(self.exposure, max(now_s, tick.t_s))
        if (self.session.phase, self.session.block) != before:
            result.changed.append((self.session.phase, self.session.block, self.session.reason))
        self.effects = effects
        result.effects.append(effects)

    def _now(self, tick: Tick) -> float:
        """The session's clock: the time of the newest sample while samples come, else the tick's; never backwards."""
        if tick.chunk is None:
            now_s = tick.t_s
        else:
            now_s = self.sample_s if math.isfinite(self.sample_s) else tick.chunk.t0_s
        return max(self.session.t_s, _on_grid(now_s))

    def _inputs(self, tick: Tick, events: tuple[OperatorEvent, ...], now_s: float) -> Inputs:
        conditions = tick.conditions
        return Inputs(
            t_s=now_s,
            biomarkers=self.row,
            stim=self.stim,
            stim_age_s=math.inf if self.stim is None else max(0.0, tick.t_s - (self.stim.boot_ns * 1e-9 + self.boot_to_lsl_s)),
            sample_age_s=max(0.0, tick.t_s - self.sample_s),
            supervised_age_s=max(0.0, tick.t_s - tick.supervised_s),
            stream=conditions.stream,
            recording_ok=conditions.recording_ok,
            audit_ok=conditions.audit_ok,
            demo=conditions.demo,
            channels=self.info.channels,
            events=events,
            findings=conditions.findings,
            blinded=self.blinded,
        )

    def _inputs_now(self, row: Biomarkers) -> Inputs:
        return Inputs(self.session.t_s, row, self.stim, 0.0, 0.0, 0.0, channels=self.info.channels)


def _burst(begin_s: float, prescription: Prescription) -> list[float]:
    """The pulses of one firing: a theta burst is three, each of which leaves its own artifact."""
    program = prescription.pulses
    if program is None or program.burst_millihz <= 0:
        return [begin_s]
    return [begin_s + i * 1000.0 / program.burst_millihz for i in range(program.burst_pulses)]


def _newsworthy(state: StimState) -> tuple[object, ...]:
    """What must reach the session at once, not with the next hop."""
    return state.mode, state.refused, state.halts


def _on_grid(t_s: float) -> float:
    """Time on a grid of 2^-10 s: the same instant reached by other cuts differs in its last bits, and on the grid no
    longer; and differences of grid times are exact, so `a - b >= 1.0` means what it says."""
    return round(t_s * 1024.0) / 1024.0


class _Collected:
    def __init__(self) -> None:
        self.rows: list[Biomarkers] = []
        self.decisions: list[Decision] = []
        self.effects: list[Effects] = []
        self.changed: list[tuple[str, str, str]] = []


def _at_hops(chunk: Chunk, hop_s: float, sample_rate_hz: float) -> list[Chunk]:
    """Cut a chunk where hops end, so that a decision can act on the samples after it; usually one piece."""
    parts: list[Chunk] = []
    start = chunk.first_sample
    k = math.floor(start / (hop_s * sample_rate_hz)) + 1
    begin = 0
    while True:
        end = math.ceil(round(k * hop_s * sample_rate_hz, 6)) - start
        k += 1
        if end <= begin:
            continue
        if end >= chunk.n_samples:
            break
        parts.append(_part(chunk, begin, end, sample_rate_hz))
        begin = end
    parts.append(_part(chunk, begin, chunk.n_samples, sample_rate_hz))
    return parts


def _part(chunk: Chunk, begin: int, end: int, sample_rate_hz: float) -> Chunk:
    if begin == 0 and end == chunk.n_samples:
        return chunk
    return replace(
        chunk,
        data_uv=chunk.data_uv[begin:end],
        first_sample=chunk.first_sample + begin,
        t0_s=chunk.t0_s + begin / sample_rate_hz,
        lost_samples=chunk.lost_samples if begin == 0 else 0,
    )
