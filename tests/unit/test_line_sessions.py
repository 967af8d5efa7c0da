"""A line outlives its sessions: what a controller remembers of one moves nothing in the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.prescription import demo_prescription
from control.session import OperatorEvent
from daemon.loop import Decision
from tests.virtual_loop import VirtualLoop

PROGRAM = {"baseline_ms": 3_000, "sense_ms": 13_000, "stimulate_ms": 4_000, "session_ms": 40_000}


def counts(decisions: list[Decision]) -> list[int]:
    """Of how many values each decision's estimate was the median, doubtful ones left out."""
    return [n for decision in decisions if isinstance(n := decision.target["estimate_n"], int) and n]


@pytest.mark.parametrize("controller", ["dual_threshold", "proportional_integral"])
def test_a_new_session_decides_on_its_own_values_only(controller: str) -> None:
    """S4: a service runs for weeks, and yesterday's estimates, counts and whether it gave up are stale."""
    signed = demo_prescription("virtual", 1_749_999_000.0)
    settings = {**signed.settings, "average_n": 5}
    if controller == "proportional_integral":
        keep = ("biomarker", "channel", "unit", "low_milli", "high_milli", "more_moves", "average_n", "refractory_ms")
        settings = {k: v for k, v in settings.items() if k in keep} | {"kp_ua": 10, "ki_ua_per_min": 10}
    loop = VirtualLoop(replace(signed, controller=controller, settings=settings, **PROGRAM), samples_a_tick=25, kinds=("faa",))
    loop.run(80.0)
    assert loop.line.session.phase == "post"
    first = counts(loop.decisions)
    assert first[:2] == [1, 2]
    for kind in ("start", "screened"):
        loop.events.append(OperatorEvent(kind, "Ann"))
        loop.run(0.5)
    loop.run(45.0)
    assert counts(loop.decisions)[len(first) :][:2] == [1, 2]
