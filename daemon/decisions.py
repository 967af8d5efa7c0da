"""One decision as people are told it, as a page shows it, and as a row of `_decisions.tsv`. Pure."""

from __future__ import annotations

from typing import Any

from control.wording import sayable
from daemon.loop import Decision, Line
from records.tables import DecisionRow

STIMULATION, PROGRAM_ON = "stimulation", "the program was above zero"


def doubt(reason: str, blinded: bool) -> str:
    """Why a value may not be used. What the signal line calls stimulation is, in a blinded study, the program's level: not more is known."""
    return PROGRAM_ON if blinded and reason == STIMULATION else reason


def sentence(decision: Decision, blinded: bool) -> str:
    """What people are told: the controller's reason, and the envelope's where it granted less."""
    verdict = decision.verdict
    reason = sayable(verdict.request.reason)
    if blinded:
        reason = reason.replace(f": {STIMULATION}.", f": {PROGRAM_ON}.")
    return f"{reason} {verdict.sentence}" if verdict.limits else reason


def decision_view(decision: Decision, age_s: float, trial: str = "") -> dict[str, Any]:
    """`LoopState.decision` (docs/contracts.md section 8). In a blinded `trial` the numbers are the program's, delivered or not."""
    verdict = decision.verdict
    return {
        **({"blinded": True} if trial else {}),
        "sentence": sentence(decision, bool(trial)),
        "age_s": age_s,
        "proposed_ma": verdict.request.amplitude_ma,
        "granted_ma": verdict.amplitude_ma,
        "limits": [{"field": x.field, "value": x.value, "unit": x.unit, "set_by": x.set_by} for x in verdict.limits],
        "hold": verdict.request.hold,
    }


def decision_row(decision: Decision, line: Line, sequence: int, latency_ms: float | None) -> DecisionRow:
    """The row of `_decisions.tsv`: everything that led to a decision and what came of it."""
    snapshot, verdict, stim = decision.snapshot, decision.verdict, decision.snapshot.stim
    state = line.session
    return DecisionRow(
        tick=decision.tick,
        t_s=snapshot.t_s,
        end_sample=decision.end_sample,
        phase=decision.phase,
        block=state.block,
        authority=line.prescription.authority,
        controller=line.prescription.controller,
        inputs={
            **decision.target,
            "present_ma": snapshot.present_ma,
            "ceiling_ma": snapshot.ceiling_ma,
            "baseline": snapshot.baseline,
            "baseline_sd": snapshot.baseline_sd,
        },
        proposed_ma=verdict.request.amplitude_ma,
        proposed_hz=verdict.request.frequency_hz,
        hold=verdict.request.hold,
        proposal_reason=verdict.request.reason,
        limits=verdict.limits,
        granted_ma=verdict.amplitude_ma,
        granted_hz=verdict.frequency_hz,
        sequence=sequence,
        confirmed_ma=stim.confirmed_ma if stim is not None else None,
        delivered_uc=stim.delivered_uc if stim is not None else 0,
        latency_ms=latency_ms,
        sentence=sentence(decision, line.blinded),
    )
