"""Safe Bayesian optimization of the amplitude: trial by trial towards the best response, never where it is not proven safe.

A trial is one amplitude, delivered in stimulate blocks and measured in the sense blocks after them: the median of `trial_n`
estimates. What may be tried next comes from `control/safe_search.py`: only amplitudes at which the response stays above the signed
floor with margin, growing outward from the signed start. Each trial is kept with what had been expected (its posterior) and is
part of the state; trials of earlier sessions are signed along as `history`. When done it stays at the best amplitude; if nothing
is proven safe, not even the signed start, it lowers to nothing.
Search over up to four parameters is in `control/safe_search.py`; the interlock lets amplitude vary alone, so that is what is varied.
"""

from __future__ import annotations

import functools
import re
import statistics
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from control.estimate import Memory, drawn, estimate
from control.gaussian_process import Kernel
from control.program import STRICT, Target, read_program
from control.safe_search import Domain, Proposal, Search, Trial, posterior, propose, tried
from control.steps import SAME_MA, doubted, go_to, hold
from eegloop.closed import Closed
from eegloop.ports import Snapshot
from eegloop.stim import Prescription, PrescriptionError, StimRequest, finite

_MOST_HISTORY = 100
LEAST_N = 3  # usable estimates before anything is changed


@pydantic_dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Program(Target):
    """What a clinician signs for this controller, beside biomarker and unit (the target band is only drawn).

    The response is the biomarker in the target's unit (thousandths of the baseline, of its SD, or of its own unit), so that more
    is better if `more_moves` is "up" and less is better if it is "down".

    Attributes
    ----------
    low_ua, high_ua : int
        The range searched, µA; the start is the prescription's `start_ua` and must lie inside.
    floor_milli : int
        The response must not get worse than this (with `more_moves` "down": not higher).
    length_ua : int
        Over how many µA the response is assumed to be alike, 20-4000; believed a third shorter, to be on the safe side.
    spread_milli : int
        SD of the response over the range as assumed beforehand, 1-1,000,000.
    noise_milli : int
        SD of one trial's measurement, 1-1,000,000.
    prior_milli : int
        The response assumed beforehand (that of the signed start), -1,000,000 to 1,000,000.
    trial_n : int
        Estimates behind one trial, 3-60.
    most_n : int
        Trials in all, sessions before included, 1-100.
    refractory_ms : int
        From a change to the first estimate that may show it, 0-3,600,000 ms; at least the prescription's `stimulate_ms`, so that
        what is measured has been delivered, and 60,000 on a real stimulator.
    step_ua : int
        The most one decision changes, 1-200 µA; a trial further away is reached in several blocks.
    history : str
        Trials of earlier sessions, "MICROAMPERES:MILLI" pairs as the log has them: "400:1010 450:1060"; "" = none. Each within
        `low_ua` to `high_ua`.
    """

    low_ua: Annotated[int, Field(ge=0, le=4_000)] = 0
    high_ua: Annotated[int, Field(ge=1, le=4_000)]
    floor_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
    length_ua: Annotated[int, Field(ge=20, le=4_000)]
    spread_milli: Annotated[int, Field(ge=1, le=1_000_000)]
    noise_milli: Annotated[int, Field(ge=1, le=1_000_000)]
    prior_milli: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 1_000
    trial_n: Annotated[int, Field(ge=3, le=60)] = 5
    most_n: Annotated[int, Field(ge=1, le=100)] = 40
    refractory_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 60_000
    step_ua: Annotated[int, Field(ge=1, le=200)] = 100
    history: Annotated[str, Field(pattern=r"^(\d{1,4}:-?\d{1,7}( \d{1,4}:-?\d{1,7})*)?$", max_length=1_300)] = ""


# A valid example, which the contract tests run.
EXAMPLE: dict[str, int | str] = {
    "biomarker": "relative_power.alpha", "channel": "F3", "high_ua": 1_000, "floor_milli": 800, "length_ua": 500,
    "spread_milli": 200, "noise_milli": 50, "trial_n": 3, "refractory_ms": 20_000,
}  # fmt: skip


class Settings(Closed):
    """Nothing: every number of this controller is part of the signed prescription."""


@dataclass(frozen=True, slots=True)
class State:
    """What it remembers: the trials so far (each with what was expected), the amplitude being tried (µA; None = done or none
    chosen yet), estimates since the last change, why it ended ("" = it goes on), and when the amplitude was last changed."""

    program: Program
    search: Search
    memory: Memory
    trials: tuple[Trial, ...] = ()
    trying_ua: int | None = None
    values: tuple[float, ...] = field(default=())
    done: str = ""
    changed_s: float | None = None


@functools.lru_cache(maxsize=16)
def domain_of(search: Search) -> Domain:
    """The amplitudes that may be tried, on 0-1."""
    return Domain(search)


@dataclass(frozen=True, slots=True)
class SafeBayes:
    """See the module."""

    def start(self, prescription: Prescription) -> State:
        program = read_program(Program, prescription)
        low, high, start = program.low_ua, program.high_ua, prescription.start_ua
        if not low <= start <= high or low >= high:
            raise PrescriptionError(
                f"prescription.settings.low_ua: {low} to high_ua {high} must hold start_ua {start}; the search begins there"
            )
        if high > prescription.amplitude_ua:
            raise PrescriptionError(f"prescription.settings.high_ua: {high} is above amplitude_ua {prescription.amplitude_ua}")
        if program.refractory_ms < prescription.stimulate_ms:
            raise PrescriptionError(
                f"prescription.settings.refractory_ms: {program.refractory_ms} must be at least stimulate_ms {prescription.stimulate_ms}"
            )
        sign = 1.0 if program.more_moves == "up" else -1.0
        if sign * program.prior_milli <= sign * program.floor_milli:
            raise PrescriptionError(
                f"prescription.settings.floor_milli: {program.floor_milli} must be worse than prior_milli {program.prior_milli}"
            )
        search = Search(
            dimensions=1,
            start=((start - low) / (high - low),),
            floor=sign * program.floor_milli / 1000.0,
            kernel=Kernel(program.length_ua / (high - low), program.spread_milli / 1000.0, program.noise_milli / 1000.0),
            prior_mean=sign * program.prior_milli / 1000.0,
            enough_sd=program.noise_milli / 2000.0,
            most_n=program.most_n,
        )
        return State(program, search, Memory(), _earlier(program, search, sign))

    def decide(self, state: object, snapshot: Snapshot) -> tuple[State, StimRequest]:
        """One estimate: towards the amplitude being tried, or part of its measurement, or the next trial."""
        assert isinstance(state, State)
        memory, seen = estimate(state.memory, state.program, snapshot)
        state = replace(state, memory=memory)
        if seen.doubt:
            return state, doubted(snapshot, seen.doubt)
        if state.trying_ua is None and not state.done:
            state, proposal = _next(state, snapshot)
            if proposal.index is None:
                state = replace(state, done=proposal.reason)
        trying_ua = state.trying_ua
        if trying_ua is None:
            return _stay_at_best(state, snapshot, seen.t_s)
        wait_s = 0.0 if state.changed_s is None else state.program.refractory_ms / 1000.0 - (seen.t_s - state.changed_s)
        if wait_s > 0.0:
            return state, hold(snapshot, f"The last change needs {wait_s:.0f} s more to show, so it stays.")
        state = replace(state, values=(*state.values, _response(memory.recent[-1], state.program, snapshot)))
        if not finite(snapshot.present_ma) or abs(snapshot.present_ma * 1000.0 - trying_ua) > SAME_MA * 1000.0:
            if len(state.values) < LEAST_N:
                return state, hold(
                    snapshot, f"Trial {len(state.trials) + 1} is at {trying_ua / 1000:.2f} mA, but it stays for now."
                )
            return _go(state, snapshot, seen.t_s)
        if len(state.values) < state.program.trial_n:
            so_far = f"{len(state.values)} of {state.program.trial_n} estimates"
            return state, hold(
                snapshot, f"Trial {len(state.trials) + 1} at {trying_ua / 1000:.2f} mA is being measured ({so_far})."
            )
        state, words = _measured(state, trying_ua)
        state, proposal = _next(state, snapshot)
        if proposal.index is None:
            state = replace(state, done=proposal.reason)
            return state, hold(snapshot, f"{words}, and the search is over: {proposal.reason}.")
        return _go(state, snapshot, seen.t_s, words)

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        assert isinstance(state, State)
        return drawn(state.memory, state.program, snapshot)

    def carried(self, state: State) -> str:
        """The trials so far, for the next session's prescription."""
        return history_of(state)


def history_of(state: State) -> str:
    """The trials as `history` of the next session's prescription."""
    sign = 1.0 if state.program.more_moves == "up" else -1.0
    return " ".join(f"{_ua(state, trial.index)}:{round(sign * trial.value * 1000)}" for trial in state.trials)


def _earlier(program: Program, search: Search, sign: float) -> tuple[Trial, ...]:
    """Trials of earlier sessions, each with what had been expected; raises PrescriptionError naming one outside the range."""
    domain, trials = domain_of(search), []
    believed = posterior(search, domain, ())
    for ua, milli in re.findall(r"(\d+):(-?\d+)", program.history)[:_MOST_HISTORY]:
        if not program.low_ua <= int(ua) <= program.high_ua:  # not booked at the edge: it says nothing about it
            raise PrescriptionError(
                f"prescription.settings.history: {ua}:{milli} is outside low_ua {program.low_ua} to high_ua {program.high_ua}; "
                "leave it out, or widen the range"
            )
        place = (int(ua) - program.low_ua) / (program.high_ua - program.low_ua)
        index = int(np.abs(domain.points[:, 0] - place).argmin())
        trial = tried(believed, index, sign * int(milli) / 1000.0)
        believed.add(index, trial.value)
        trials.append(trial)
    return tuple(trials)


def _ua(state: State, index: int) -> int:
    program = state.program
    return round(program.low_ua + float(domain_of(state.search).points[index, 0]) * (program.high_ua - program.low_ua))


def _response(value: float, program: Program, snapshot: Snapshot) -> float:
    """The biomarker in the target's unit, so that more is better."""
    offset, size = program.scale(snapshot) or (0.0, 1.0)
    return (value - offset) / size if program.more_moves == "up" else -(value - offset) / size


def _next(state: State, snapshot: Snapshot) -> tuple[State, Proposal]:
    """Choose the next amplitude among those that the ceiling permits now."""
    domain = domain_of(state.search)
    levels_ua = [_ua(state, i) for i in range(len(domain.points))]
    most_ua = snapshot.ceiling_ma * 1000.0 if finite(snapshot.ceiling_ma) else 0.0
    allowed = np.array([ua <= most_ua + 0.5 for ua in levels_ua])
    proposal = propose(state.search, domain, state.trials, posterior(state.search, domain, state.trials), allowed)
    trying_ua = None if proposal.index is None else levels_ua[proposal.index]
    return replace(state, trying_ua=trying_ua, values=()), proposal


def _measured(state: State, tried_ua: int) -> tuple[State, str]:
    """The trial is over: keep it with what had been expected."""
    domain = domain_of(state.search)
    levels_ua = [_ua(state, i) for i in range(len(domain.points))]
    index = levels_ua.index(tried_ua)
    trial = tried(posterior(state.search, domain, state.trials), index, statistics.median(state.values))
    number = len(state.trials) + 1
    words = (
        f"Trial {number} at {levels_ua[index] / 1000:.2f} mA gave {trial.value:.2f} "
        f"where {trial.mean:.2f} ± {trial.sd:.2f} was expected"
    )
    return replace(state, trials=(*state.trials, trial), trying_ua=None, values=()), words


def _go(state: State, snapshot: Snapshot, t_s: float, because: str = "") -> tuple[State, StimRequest]:
    """A step towards the amplitude being tried; one that cannot be reached (the ceiling fell) is given up."""
    wanted_ma, step_ma = (state.trying_ua or 0) / 1000.0, state.program.step_ua / 1000.0
    if not finite(snapshot.present_ma, snapshot.ceiling_ma) or wanted_ma > snapshot.ceiling_ma + SAME_MA:
        return replace(state, trying_ua=None, values=()), hold(
            snapshot, "The amplitude to be tried is above what is allowed now."
        )
    towards_ma = min(max(wanted_ma, snapshot.present_ma - step_ma), snapshot.present_ma + step_ma)
    words = because or f"Trial {len(state.trials) + 1} is at {wanted_ma:.2f} mA"
    request = go_to(snapshot, towards_ma, words)
    if request.hold:
        return state, request
    return replace(state, values=(), changed_s=t_s, memory=replace(state.memory, recent=())), request


def _stay_at_best(state: State, snapshot: Snapshot, t_s: float) -> tuple[State, StimRequest]:
    """Done: to the best amplitude that is proven safe, in steps."""
    domain = domain_of(state.search)
    proposal = propose(state.search, domain, state.trials, posterior(state.search, domain, state.trials))
    if proposal.safe_n == 0:
        # Not even the start is proven: every usable estimate lowers by a step, without waiting for the last change to show.
        lower_ma = snapshot.present_ma - state.program.step_ua / 1000.0
        towards_ma = lower_ma if lower_ma > SAME_MA else 0.0
        request = go_to(snapshot, towards_ma, f"The search is over without an amplitude that it could rely on ({state.done})")
        return (state if request.hold else replace(state, changed_s=t_s)), request
    best_ma, step_ma = _ua(state, proposal.best) / 1000.0, state.program.step_ua / 1000.0
    waiting = state.changed_s is not None and t_s - state.changed_s < state.program.refractory_ms / 1000.0
    state = replace(state, values=(*state.values, 0.0)[-LEAST_N:])
    if waiting or len(state.values) < LEAST_N:
        return state, hold(snapshot, f"The search is over ({state.done}), the best is {best_ma:.2f} mA, and it stays for now.")
    towards_ma = min(max(best_ma, snapshot.present_ma - step_ma), snapshot.present_ma + step_ma)
    request = go_to(snapshot, towards_ma, f"The search is over ({state.done}) and the best is {best_ma:.2f} mA")
    return (state if request.hold else replace(state, changed_s=t_s)), request


def build(settings: Settings) -> SafeBayes:
    """The controller; its numbers come with the prescription."""
    return SafeBayes()
