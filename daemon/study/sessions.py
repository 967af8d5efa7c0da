"""Runs one session in virtual time: at biomarker level (one measured row a second) or at sample level (the whole line on virtual EEG).

Both go through the live code: session, controller, envelope and permit, and the interlock's judge (`judged.py`).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cache, lru_cache

import numpy as np

from control import envelope, session
from control.exploration import bounded
from control.session import Inputs
from daemon.loop import Conditions, Line, Outcome, Tick
from daemon.study.cells import ARMS, MONTAGE, TARGET, WALL_S, lasting
from daemon.study.compiled import running
from daemon.study.judged import BOOT_TO_LSL_S, JudgedOutput
from daemon.study.metrics import Collector, Job, Result, largest_step, limit_cycle
from dsp.pipeline import Pipeline
from eegloop import plugins
from eegloop.line import LineSettings
from eegloop.signal import BiomarkerColumn, Biomarkers, Chunk, Grade, Quality, StreamInfo
from eegloop.stim import Block, Phase, Prescription
from simulators.biomarker_plant import Answers, BiomarkerPlant, Profile
from simulators.brain import Brain
from simulators.faults import Faults, Packet, parse
from simulators.patients import Patient, individual
from simulators.response import Stimulation

find = cache(plugins.find)
"""Thousands of sessions ask for the same few parts."""
SPARE_S = 150
"""Screening, contact, baseline and the way down, beside the session itself."""
CHUNK_S = 0.1
_COLUMNS = (BiomarkerColumn("faa", "F3-F4", "1", 2.0),)
_GOOD = np.array([True, True])
_QUALITY = Quality(_GOOD, ((), ()), 1.0, _GOOD)
_GRADES = {good: np.array([Grade.GOOD if good else Grade.INVALID], dtype=np.uint8) for good in (True, False)}


def run_job(job: Job, profile: Profile, prescription: Prescription | None = None) -> Result:
    """One session of one person under one arm; `prescription` replaces the arm's."""
    signed = lasting(prescription or ARMS[job.arm].prescription, job.session_s)
    begun = time.process_time()
    run = biomarker_level if job.level == "biomarker" else sample_level
    output, collected, seconds = run(job, profile, signed)
    violations = output.end()
    account = output.judge.account
    return Result(
        job=job,
        in_range=collected.share(),
        error=collected.error(),
        measured_in_range=collected.measured(),
        charge_mc=output.oracle.charge_uc / 1000.0,
        on_s=account.on_ns * 1e-9,
        decisions=collected.decisions,
        holds=collected.holds,
        hold_reasons=dict(collected.reasons),
        fallbacks=tuple(collected.fallbacks),
        trips=tuple(output.trips),
        given_up_s=collected.given_up_s,
        largest_step_ma=largest_step(collected.blocks_ma),
        limit_cycle=limit_cycle(collected.blocks_ma),
        last_ma=collected.blocks_ma[-1] if collected.blocks_ma else 0.0,
        largest_ma=output.oracle.largest_ma,
        violations=violations,
        seconds=seconds,
        cpu_s=time.process_time() - begun,
        compiled=running(),
    )


def _collector() -> Collector:
    return Collector(TARGET["low_milli"] / 1000.0, TARGET["high_milli"] / 1000.0)


def _obey(output: JudgedOutput, effects: session.Effects, halts: int) -> bool:
    """Send what the session wants; True if that renewed the lease."""
    if effects.command == "arm":
        output.send("arm", halts=halts)
    elif effects.command == "set":
        output.send("set", block=effects.block, amplitude_ma=effects.amplitude_ma, frequency_hz=effects.frequency_hz)
        return True
    elif effects.command:
        output.send(effects.command, reason=effects.reason)
    return False


@lru_cache(maxsize=1_000)
def _person(name: str, seed: int, profile: Profile) -> tuple[Patient, Answers]:
    """The same person comes again under every arm."""
    person = individual(name, seed)
    return person, Answers(person, profile)


def biomarker_level(job: Job, profile: Profile, signed: Prescription) -> tuple[JudgedOutput, Collector, float]:
    """One row of biomarkers a second. In a stimulate block nothing is looked at: the session is stepped where the block ends."""
    person, answers = _person(job.person, job.seed, profile)
    plant = BiomarkerPlant(person, profile, seed=job.seed, rows=job.session_s + SPARE_S + 5, answers=answers)
    left, right = plant.channels.index("F3"), plant.channels.index("F4")
    at_ma, means = answers.asymmetry(left, right)
    output, collected = JudgedOutput(signed, WALL_S), _collector()
    module = find("controller", signed.controller)
    controller = bounded(module.build(module.Settings()))
    memory = controller.start(signed)
    state, effects = session.initial(0.0), session.Effects()
    limits = find("stimulator", "simulated").LIMITS
    t_s, hop, begun = 0.0, 0, False
    while state.phase != Phase.POST and t_s < job.session_s + SPARE_S:
        t_s += 1.0
        hop += 1
        mean_ma = output.advance(t_s, effects.heartbeat)
        reading = plant.step(mean_ma)
        begun = begun or mean_ma > 0.0 or state.phase == Phase.ON
        if begun:
            collected.true.append(_between(reading.effect_ma, at_ma, means))
        steady = state.phase == Phase.ON and state.block == Block.STIMULATE and output.goes_on
        if steady and t_s - state.block_since_s < signed.stimulate_ms / 1000 - 0.5:
            continue
        value = reading.ln_alpha[right] - reading.ln_alpha[left]
        good = math.isfinite(value)
        row = Biomarkers(
            _COLUMNS, np.array([value]), _GRADES[good], ("" if good else "artifact",), hop, hop * 250, t_s, _QUALITY
        )  # fmt: skip
        inputs = Inputs(t_s, row, output.state(), 0.0, 0.0, 0.0, "live", True, True, True, MONTAGE)
        before = state
        state, effects = session.step(state, inputs, signed)
        if effects.decide:
            snapshot = session.snapshot(state, inputs, signed)
            memory, request = controller.decide(memory, snapshot)
            verdict = envelope.limit(request, signed, session.standing(state, inputs, signed), limits)
            state = session.permit(state, verdict, inputs, signed)
            collected.decided(request.hold, request.reason)
            if good:
                collected.looked(value)
        _obey(output, effects, state.halts_seen)
        _note(collected, before, state)
        if effects.command == "arm" or state.phase == Phase.RAMP_UP:
            # What the interlock answers at once is taken in at once, as live.
            state, effects = session.step(state, replace(inputs, stim=output.state()), signed)
            _obey(output, effects, state.halts_seen)
        if state.phase in (Phase.FALLBACK, Phase.STOPPED) and output.output_ma == 0.0 and begun:
            break
    return output, collected, t_s


def _note(collected: Collector, before: session.SessionState, state: session.SessionState) -> None:
    if state.blocks > before.blocks:
        collected.blocks_ma.append(state.block_ma)
    if state.phase != before.phase and state.phase in (Phase.FALLBACK, Phase.STOPPED):
        collected.fallbacks.append(state.reason)


def _between(x: float, at: list[float], values: list[float]) -> float:
    """Linear interpolation on a regular grid."""
    place = min(max((x - at[0]) / (at[1] - at[0]), 0.0), len(at) - 1.0)
    i = min(int(place), len(at) - 2)
    return values[i] + (values[i + 1] - values[i]) * (place - i)


def sample_level(job: Job, profile: Profile, signed: Prescription) -> tuple[JudgedOutput, Collector, float]:
    """The whole line on virtual EEG, 8 channels at 250 Hz, headset faults included."""
    person, answers = _person(job.person, job.seed, profile)
    settings = person.settings()
    brain = Brain(settings)
    rate = settings.sample_rate_hz
    info = StreamInfo("virtual", "virtual", rate, settings.montage, ("eeg",) * len(settings.montage), settings.rail_uv)
    line_settings = LineSettings(hop_s=0.5)
    faa = find("biomarker", "faa")
    module = find("controller", signed.controller)
    line = Line(
        info, Pipeline(info, line_settings, [("faa", faa.Settings())]), line_settings.hop_s, module.build(module.Settings()), signed,
        find("stimulator", "simulated").LIMITS, BOOT_TO_LSL_S, 0.0,
    )  # fmt: skip
    left, right = profile.channels.index("F3"), profile.channels.index("F4")
    at_ma, means = answers.asymmetry(left, right)
    output, collected = JudgedOutput(signed, WALL_S), _collector()
    faults = Faults([parse(text) for text in person.faults], settings.montage)
    conditions = Conditions(recording_ok=True, audit_ok=True, stream="live", demo=True)
    t_s, n, number, lost, begun = 0.0, 0, 0, 0, False
    each = round(CHUNK_S * rate)
    while line.session.phase != Phase.POST and t_s < job.session_s + SPARE_S:
        pieces = []
        for samples in (each // 2, each - each // 2):
            pieces.append(brain.advance(samples, Stimulation(output.output_ma)))
            t_s = (n + sum(len(p) for p in pieces)) / rate
            output.advance(t_s, line.effects.heartbeat)
        data = np.concatenate(pieces)
        delivered = faults.deliver(Packet(n / rate, data, t_s, t_s, settings.montage))
        chunk = Chunk(delivered[0].data_uv, n, n / rate, t_s, lost_samples=lost) if delivered else None
        lost = 0 if delivered else lost + each
        n += each
        number += 1
        before = line.session
        outcome = line.step(Tick(number, t_s, chunk, (output.state(),), (), conditions))
        for effects in outcome.effects:
            _obey(output, effects, line.session.halts_seen)
        _collect(collected, outcome)
        _note(collected, before, line.session)
        begun = begun or output.output_ma > 0.0 or line.session.phase == Phase.ON
        if begun and number % 10 == 0:
            collected.true.append(_between(float(brain.truth().effect_ma[-1]), at_ma, means))
        if line.session.phase in (Phase.FALLBACK, Phase.STOPPED) and output.output_ma == 0.0 and begun:
            break
    return output, collected, t_s


def _collect(collected: Collector, outcome: Outcome) -> None:
    for decision in outcome.decisions:
        request = decision.verdict.request
        collected.decided(request.hold, request.reason)
        row = decision.snapshot.biomarkers
        column = row.find("faa", "F3-F4")
        if int(row.grades[column]) == Grade.GOOD:
            collected.looked(float(row.values[column]))
