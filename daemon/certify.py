"""What this PC can be trusted with: source → decision → interlock → output, measured on the real parts, and said in plain words.

The parts are the service's own: a headset over real LSL (virtual, or a seat's own source), the line as configured, the
interlock and the simulated stimulator as processes. At every hop the amplitude's direction is turned round by a real command,
so every command can be found again in the stimulator's own record of its output: that is the loopback.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from control.prescription import demo_prescription, sign
from daemon import build
from daemon.clock import MachineClock
from daemon.findings import MEND, NOTE, OK, Finding
from daemon.interlock_link import InterlockLink
from daemon.loop import Conditions, Line, Tick
from daemon.private_file import write_private
from daemon.processes import NICE_INTERLOCK, NICE_LOOP, Child, prefer, python
from dsp.pipeline import Pipeline
from eegloop import launch
from eegloop.config import Seat
from eegloop.errors import SetupError
from eegloop.layout import Layout
from eegloop.line import LineSettings
from eegloop.plugins import find
from eegloop.ports import EegSource
from eegloop.signal import Chunk, StreamInfo
from eegloop.stim import StimState

SEAT = "certify"
SETTLE_S = 2.0
SAMPLE = struct.Struct("<qd")
RAMP_END_MA = 1.0
STAGES = ("source", "decision", "interlock", "output", "total")
WORDS = {
    "source": "newest sample → chunk in hand",
    "decision": "chunk in hand → command sent",
    "interlock": "command sent → accepted",
    "output": "accepted → output moves",
    "total": "newest sample → output moves",
}
LEASE_MS = 400.0
DEADLINE_MS = 250.0
GATED_MS = 100.0
PHASE_JITTER_MS = 5.0  # 18° of a 10 Hz rhythm
PHASE_AHEAD_MS = 50.0  # phase can be foretold about half a cycle of 10 Hz ahead
Progress = Callable[[str], None] | None


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to use the loop: allowed on this PC or not, and why in plain words."""

    name: str
    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """Delays of every command, ms: one array a stage of `STAGES`, NaN where a command was never seen in the output.

    `headset` is what was listened to; `lost_samples` what the source lost meanwhile; `commands` how many were sent.
    """

    headset: str
    seconds: float
    commands: int
    lost_samples: int
    delays_ms: dict[str, np.ndarray]

    def of(self, stage: str) -> dict[str, float]:
        """Median, 99th percentile, worst, and jitter (99 % of the delays lie within so much of their median), ms."""
        x = self.delays_ms[stage]
        x = x[np.isfinite(x)]
        if not len(x):
            return dict.fromkeys(("median", "p99", "worst", "jitter"), float("inf"))
        median = float(np.median(x))
        jitter = float(np.percentile(np.abs(x - median), 99))
        return {"median": median, "p99": float(np.percentile(x, 99)), "worst": float(x.max()), "jitter": jitter}

    @property
    def seen(self) -> float:
        """Share of the commands that the stimulator's record shows."""
        return float(np.isfinite(self.delays_ms["total"]).mean()) if self.commands else 0.0

    def modes(self) -> tuple[Mode, ...]:
        """What may be done on this PC."""
        total, decision = self.of("total"), self.of("decision")
        held = decision["worst"] <= DEADLINE_MS and self.seen >= 0.99
        deadline = (
            f"slowest tick {decision['worst']:.0f} ms (at most {DEADLINE_MS:.0f}), {self.seen:.1%} of the commands carried out"
        )
        gated = total["p99"] <= GATED_MS and held
        phase = total["jitter"] <= PHASE_JITTER_MS and total["p99"] <= PHASE_AHEAD_MS and held
        late = f"99 % within {total['p99']:.0f} ms (at most {GATED_MS:.0f})"
        if total["jitter"] > PHASE_JITTER_MS:
            why = f"jitter {total['jitter']:.0f} ms (at most {PHASE_JITTER_MS:.0f})"
        else:
            why = f"jitter {total['jitter']:.1f} ms, 99 % within {total['p99']:.0f} ms (at most {PHASE_AHEAD_MS:.0f})"
        return (
            Mode("slow control, a decision a second", held, deadline),
            Mode("bursts switched by a rhythm's power", gated, late),
            Mode("phase-locked pulses", phase, why),
        )

    def findings(self) -> Iterator[Finding]:
        """One line a mode; only slow control must work."""
        for number, mode in enumerate(self.modes()):
            level = OK if mode.allowed else NOTE if number else MEND
            do = "" if mode.allowed else "end other programs, use a faster PC, or leave this mode out"
            yield Finding("loop", level, f"{mode.name}: {'yes' if mode.allowed else 'no'}, {mode.why}", do)
        if self.lost_samples:
            yield Finding(
                "loop",
                NOTE,
                f"{self.lost_samples} samples were lost in {self.seconds:.0f} s",
                "see what loses them before a session",
            )

    def table(self) -> str:
        """The distribution of every stage."""
        lines = [f"{self.commands} commands in {self.seconds:.0f} s, headset: {self.headset}"]
        lines.append(f"  {'ms':34}{'median':>8}{'99 %':>8}{'worst':>8}{'jitter':>8}")
        for stage in STAGES:
            row = self.of(stage)
            lines.append(f"  {WORDS[stage]:34}" + "".join(f"{row[k]:8.1f}" for k in ("median", "p99", "worst", "jitter")))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready; unknown numbers are None."""
        stages = {s: {k: round(v, 3) if np.isfinite(v) else None for k, v in self.of(s).items()} for s in STAGES}
        modes = [{"name": m.name, "allowed": m.allowed, "why": m.why} for m in self.modes()]
        return {
            "headset": self.headset, "seconds": self.seconds, "commands": self.commands, "commands_seen": round(self.seen, 4),
            "lost_samples": self.lost_samples, "delays_ms": stages, "modes": modes,
        }  # fmt: skip


def certify(seconds: float, seat: Seat | None, progress: Progress = None) -> Certificate:
    """Measure for `seconds`; with a seat its own headset and line, else a virtual headset and the standard line.

    Raises
    ------
    EegloopError
        If a part cannot be started or the headset does not send.
    """
    folder = Path(tempfile.mkdtemp(prefix="eegloop-check-"))
    layout = Layout(folder / "data")
    try:
        layout.create()
        prefer(os.getpid(), NICE_LOOP)
        return asyncio.run(_Certification(layout, seconds, seat, progress).run())
    finally:
        shutil.rmtree(layout.run, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class _Command:
    sequence: int
    sample_s: float  # LSL seconds of the end of the newest sample
    arrival_s: float
    sent_s: float
    rises: bool
    accepted_s: float = float("nan")


class _Certification:
    def __init__(self, layout: Layout, seconds: float, seat: Seat | None, progress: Progress) -> None:
        self._layout = layout
        self._seconds = seconds
        self._seat = seat
        self._say = progress or (lambda text: None)
        self._clock = MachineClock()
        self._children: list[Child] = []
        self._commands: list[_Command] = []
        self._unaccepted: list[_Command] = []
        self._boot_to_lsl_s = self._clock.lsl_s() - self._clock.boot_ns() * 1e-9
        self._lost = 0

    async def run(self) -> Certificate:
        layout, clock = self._layout, self._clock
        layout.seat(SEAT).mkdir(parents=True, mode=0o700)
        prescription = demo_prescription("check", clock.wall_s())
        signed = layout.seat(SEAT) / "prescription.json"
        write_private(signed, sign(prescription, [build.demo_key(layout, clock.wall_s())]))
        data = ["--data", str(layout.data), "--seat", SEAT]
        try:
            await self._start(
                "stimulator", python("-m", "simulators.stimulators.simulated", *data, "--exit-alone-s", "5"), NICE_INTERLOCK
            )
            argv = launch.interlock_argv(layout.data, SEAT, "check", signed, "simulated", {}, take_over=False)
            await self._start("interlock", argv, NICE_INTERLOCK)
            source, headset = await self._headset(data)
            link = InterlockLink(layout.control_socket(SEAT), clock)
            await link.connect(15.0)
            try:
                await self._measure(source, link, lambda info: self._line(info, prescription))
            finally:
                link.stop("certified")
                link.close()
        finally:
            for child in reversed(self._children):  # the interlock before its device
                await child.end(3.0)
        return Certificate(headset, self._seconds, len(self._commands), self._lost, self._delays())

    async def _start(self, name: str, argv: list[str], nice: int) -> None:
        child = Child(name, argv, self._layout.data / f"{name}.out", nice=nice)
        await child.start()
        self._children.append(child)

    async def _headset(self, data: list[str]) -> tuple[EegSource, str]:
        if self._seat is not None:
            return build.source(self._seat, self._clock, None), f"seat {self._seat.id} ({self._seat.source.kind})"
        name = f"eegloop-check-{os.getpid()}"
        await self._start("board", python("-m", "simulators.board", *data, "--name", name), NICE_LOOP)
        module = find("source", "lsl")
        settings = module.Settings(name=name, host=socket.gethostname(), wait_s=30.0)
        source: EegSource = module.build(settings, self._clock)
        return source, "virtual, 8 channels at 250 Hz, over LSL on this machine"

    def _line(self, info: StreamInfo, prescription: object) -> Line:
        """The seat's line, watching only: it computes and decides as in a session, the commands are this file's own."""
        clock = self._clock
        seat = self._seat
        settings = seat.line if seat is not None else LineSettings()
        kinds = [(b.kind, b.settings) for b in seat.biomarkers] if seat is not None else [
            (kind, find("biomarker", kind).Settings()) for kind in ("band_power", "relative_power", "iaf", "faa")
        ]  # fmt: skip
        watching = replace(demo_prescription("check", clock.wall_s()), authority="observe")
        module = find("controller", watching.controller)
        return Line(
            info, Pipeline(info, settings, kinds), settings.hop_s, module.build(module.Settings()), watching,
            find("stimulator", "simulated").LIMITS, self._boot_to_lsl_s, clock.lsl_s(),
        )  # fmt: skip

    async def _measure(self, source: EegSource, link: InterlockLink, make_line: Callable[[StreamInfo], Line]) -> None:
        clock = self._clock
        async with source:
            line = make_line(source.info)
            rate = source.info.sample_rate_hz
            began_s, arm_due_s, tick, rises = clock.lsl_s(), 0.0, 0, False
            async for item in source.chunks():
                if not isinstance(item, Chunk):
                    continue
                tick += 1
                made_ns = clock.boot_ns()
                states = link.take()
                outcome = line.step(Tick(tick, item.arrival_s, item, states, (), Conditions(True, True, "live", True)))
                self._accepted(states)
                past_s = clock.lsl_s() - began_s
                if past_s > SETTLE_S + self._seconds:
                    return
                if past_s < SETTLE_S:
                    continue
                self._lost += item.lost_samples
                if not link.armed_session:
                    self._refused(link)
                    if clock.lsl_s() >= arm_due_s:  # refused until the disk has taken the first lines of its logs
                        link.arm("certify", link.state.halts if link.state is not None else 0)
                        arm_due_s = clock.lsl_s() + 1.0
                    continue
                if outcome.rows:
                    rises = not rises
                    end_s, sent_s = item.t0_s + item.n_samples / rate, clock.lsl_s()
                    link.set(tick, made_ns, "stimulate", RAMP_END_MA if rises else 0.0, 0.0)
                    command = _Command(link.sequence, end_s, item.arrival_s, sent_s, rises)
                    self._commands.append(command)
                    self._unaccepted.append(command)
                    self._say(f"certifying: {past_s - SETTLE_S:4.0f} of {self._seconds:.0f} s ")
                else:
                    link.heartbeat(tick, made_ns)

    def _refused(self, link: InterlockLink) -> None:
        if self._commands and link.state is not None and link.state.mode == "stopped":
            raise SetupError(f"the interlock stopped while it was certified: {link.state.reason}")

    def _accepted(self, states: Iterable[StimState]) -> None:
        """States tell the number of the last command that the interlock took, and when: the first one that names it counts."""
        for state in states:
            while self._unaccepted and state.sequence >= self._unaccepted[0].sequence:
                self._unaccepted.pop(0).accepted_s = state.boot_ns * 1e-9 + self._boot_to_lsl_s

    def _delays(self) -> dict[str, np.ndarray]:
        """From the commands and the stimulator's own record: where the output first moved the way it was told to."""
        record = (self._layout.seat(SEAT) / "stimulator" / "output.bin").read_bytes()
        samples = np.array(list(SAMPLE.iter_unpack(record[: len(record) // SAMPLE.size * SAMPLE.size])))
        if not len(samples):
            raise SetupError("the stimulator recorded nothing; run `eegloop check --loop` again")
        times_s = samples[1:, 0] * 1e-9 + self._boot_to_lsl_s
        steps = np.diff(samples[:, 1])
        rows: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for number, command in enumerate(self._commands):
            until_s = self._commands[number + 1].sent_s if number + 1 < len(self._commands) else command.sent_s + 0.5
            moved = np.flatnonzero(
                (times_s >= command.sent_s - 0.001) & (times_s < until_s) & ((steps > 0) == command.rises) & (steps != 0)
            )
            moved_s = float(times_s[moved[0]]) if len(moved) else float("nan")
            rows["source"].append(command.arrival_s - command.sample_s)
            rows["decision"].append(command.sent_s - command.arrival_s)
            rows["interlock"].append(command.accepted_s - command.sent_s)
            rows["output"].append(moved_s - command.accepted_s)
            rows["total"].append(moved_s - command.sample_s)
        return {stage: np.array(values) * 1000 for stage, values in rows.items()}
