"""A whole loop in virtual time for tests: virtual brain, the real line, the real judge, and a device that does as it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from control.prescription import demo_prescription
from control.pulse_plan import PulseNews
from control.session import OperatorEvent
from daemon.loop import Conditions, Decision, Line, Tick
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.plugins import find
from eegloop.signal import Chunk, StreamInfo
from eegloop.stim import DeviceReport, Prescription, StimCommand, StimState
from interlock.effects import Entry, Order, Reply
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import rules
from interlock.told import state_of
from simulators.brain import Brain
from simulators.head import load_head
from simulators.response import Stimulation
from simulators.settings import BrainSettings
from tests.virtual_device import VirtualDevice

OCCIPITAL = load_head().regions.index("occipital_left")
BIOMARKERS = ("band_power", "relative_power", "iaf", "faa")
BOOT_NS = 5_000_000_000_000  # the virtual machine has been up this long at LSL time 0
BOOT_TO_LSL_S = -BOOT_NS * 1e-9
WALL_NS = 1_750_000_000_000_000_000


def info_of(settings: BrainSettings) -> StreamInfo:
    return StreamInfo(
        "virtual", "virtual", settings.sample_rate_hz, settings.montage, ("eeg",) * len(settings.montage), settings.rail_uv
    )


def line_for(
    info: StreamInfo, prescription: Prescription, boot_to_lsl_s: float = BOOT_TO_LSL_S, kinds: tuple[str, ...] = BIOMARKERS
) -> Line:
    biomarkers = [(kind, find("biomarker", kind).Settings()) for kind in kinds]
    settings = LineSettings()
    module = find("controller", prescription.controller)
    controller = module.build(module.Settings())
    limits = find("stimulator", "simulated").LIMITS
    pipeline = Pipeline(info, settings, biomarkers)
    return Line(info, pipeline, settings.hop_s, controller, prescription, limits, boot_to_lsl_s, 0.0)


@dataclass
class VirtualLoop(VirtualDevice):
    """Runs `seconds` of a session; keeps what was delivered (20 ms steps) and decided, and every tick for replay."""

    prescription: Prescription = field(default_factory=lambda: demo_prescription("virtual", 1_749_999_000.0))
    brain_settings: BrainSettings = field(default_factory=BrainSettings)
    samples_a_tick: int = 5
    demo: bool = True
    kinds: tuple[str, ...] = BIOMARKERS
    write_takes_ns: int = 100_000  # how long the device's driver takes to write a pulse

    def __post_init__(self) -> None:
        self.brain = Brain(self.brain_settings)
        self.info = info_of(self.brain_settings)
        self.line = line_for(self.info, self.prescription, kinds=self.kinds)
        device = find("stimulator", "simulated").LIMITS
        self.judge = Judge(rules(self.prescription, None, device), "simulated", "measured", Book("boot", True), BOOT_NS)
        self._handle(self.judge.open(BOOT_NS, WALL_NS))
        self.delivered: list[tuple[float, float]] = []
        self.decisions: list[Decision] = []
        self.phases: list[tuple[float, str, str]] = []
        self.ticks: list[Tick] = []
        self.refusals: list[dict[str, object]] = []
        self.pulses_s: list[float] = []  # LSL s at which the device gave one
        self.true_rad: list[float] = []  # the occipital alpha's own phase then
        self._news: list[PulseNews] = []
        self._sequence = 0
        self._session = ""
        self._nonce = ""
        self._states: list[StimState] = []
        self.t_s = 0.0
        self._n = 0
        self.conditions = Conditions(recording_ok=True, audit_ok=True, stream="live", demo=self.demo)
        self.events: list[OperatorEvent] = []

    def run(self, seconds: float, heartbeats: bool = True) -> None:
        for _ in range(round(seconds * self.info.sample_rate_hz / self.samples_a_tick)):
            self.step(heartbeats)

    def stop_socket(self) -> None:
        """STOP on the interlock's own socket; the daemon is not told."""
        self._handle(self.judge.stop("a person", BOOT_NS + round(self.t_s * 1e9)))

    def step(self, heartbeats: bool = True) -> None:
        rate = self.info.sample_rate_hz
        pulses = self._shoot(BOOT_NS + round((self.t_s + self.samples_a_tick / rate) * 1e9))
        stimulation = Stimulation(amplitude_ma=self.output_ma, pulses=tuple(int(at_s * rate) for at_s in pulses))
        data = self.brain.advance(self.samples_a_tick, stimulation)
        self.t_s += self.samples_a_tick / rate
        chunk = Chunk(data, self._n, self._n / rate, self.t_s)
        self._n += self.samples_a_tick
        now_ns = BOOT_NS + round(self.t_s * 1e9)
        self._handle(self.judge.tick(now_ns, WALL_NS + round(self.t_s * 1e9), now_ns))
        self._handle(self.judge.report(DeviceReport(self.output_ma, now_ns, connected=True, armed=self.armed), now_ns))
        self._states.append(state_of(self.judge, now_ns))
        states, self._states = tuple(self._states), []
        events, self.events = tuple(self.events), []
        news, self._news = tuple(self._news), []
        tick = Tick(len(self.ticks) + 1, self.t_s, chunk, states, events, self.conditions, pulses=news)
        self.ticks.append(tick)
        outcome = self.line.step(tick)
        self.decisions += outcome.decisions
        self.phases += [(self.t_s, phase, block) for phase, block, _ in outcome.changed]
        for effects in outcome.effects:
            match effects.command:
                case "arm":
                    self._session, self._nonce = f"s{tick.number}", ""
                    self._send("arm", now_ns, tick.number, halts=self.line.session.halts_seen)
                case "set":
                    self._send(
                        "set",
                        now_ns,
                        tick.number,
                        block=effects.block,
                        amplitude_ma=effects.amplitude_ma,
                        frequency_hz=effects.frequency_hz,
                    )
                case "fallback" | "end" | "stop" as kind:
                    self._send(kind, now_ns, tick.number, reason=effects.reason)
            if effects.trigger_s is not None:
                deadline_ns = BOOT_NS + round(effects.trigger_s * 1e9)
                self._send("pulse", now_ns, 0, deadline_ns=deadline_ns)
        renewed = any(effects.command == "set" for effects in outcome.effects)
        if heartbeats and not renewed and self.line.effects.heartbeat and tick.number % 3 == 0:
            self._send("heartbeat", now_ns, tick.number)
        self.delivered.append((self.t_s, self.output_ma))

    def _shoot(self, until_ns: int) -> list[float]:
        """Give the pulse that waits, if its time comes before `until_ns`; its LSL s."""
        fire_ns = self.judge.write_at_ns()
        if fire_ns is None or fire_ns > until_ns:
            return []
        before = len(self.pulses_s)
        self._now_ns = max(fire_ns, BOOT_NS + round(self.t_s * 1e9))
        self._handle(self.judge.shoot(self._now_ns))
        return self.pulses_s[before:]

    def _send(self, kind: str, now_ns: int, tick: int, **fields: object) -> None:
        self._sequence += 1
        command = StimCommand(
            kind,
            self._sequence,
            self._session,
            self._nonce,
            now_ns + 300_000_000,
            tick,
            now_ns,
            **fields,  # type: ignore[arg-type]
        )
        self._handle(self.judge.command(command, f"nonce{self._sequence}", now_ns))

    def _handle(self, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case Order(do="fire"):
                    at_ns = self._now_ns + self.write_takes_ns
                    at_s = (at_ns - BOOT_NS) * 1e-9
                    self.pulses_s.append(at_s)
                    # The hidden phase of the newest sample, and its advance since at the person's own frequency.
                    since_s = at_s - (self.t_s - 1.0 / self.info.sample_rate_hz)
                    newest_rad = self.brain.truth().alpha_phase_rad[-1, OCCIPITAL]
                    self.true_rad.append(newest_rad + 2 * math.pi * self.brain_settings.individual_alpha_hz * since_s)
                    self._handle(self.judge.fired(at_ns))
                case Order():
                    self.carry_out(effect)
                case Entry(number=number):
                    self.judge.written(number)
                case Reply(body=body):
                    if body.get("type") == "armed":
                        self._nonce = str(body["nonce"])
                    elif body.get("type") == "refused":
                        self.refusals.append(body)
                    elif body.get("type") == "pulse":
                        told = (int(body["sequence"]), str(body["outcome"]), int(body["error_us"]))  # type: ignore[call-overload]
                        self._news.append(PulseNews(*told))


def cut_again(ticks: list[Tick], cuts: Iterator[int]) -> list[Tick]:
    """The same samples, delivered in pieces of other sizes; only for loops in which no state or event matters."""
    import numpy as np

    chunks = [t.chunk for t in ticks if t.chunk is not None]
    data = np.concatenate([c.data_uv for c in chunks])
    rate = chunks[0].n_samples / (chunks[1].t0_s - chunks[0].t0_s)
    out: list[Tick] = []
    begin = 0
    while begin < len(data):
        end = min(len(data), begin + next(cuts))
        chunk = Chunk(data[begin:end], begin, begin / rate, end / rate)
        out.append(replace(ticks[0], number=len(out) + 1, t_s=end / rate, chunk=chunk, states=(), events=()))
        begin = end
    return out
