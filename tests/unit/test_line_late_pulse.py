"""A pulse that comes long after its time, because the interlock hung in the very write of it: nothing it touched is ever good (S7)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from control import exposure
from control.prescription import demo_prescription
from daemon.loop import Conditions, Tick
from eegloop.signal import Biomarkers, Chunk, Grade
from eegloop.stim import StimState
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import rules
from interlock.told import state_of
from simulators.brain import Brain
from simulators.response import Stimulation
from simulators.settings import BrainSettings
from tests.interlock_bench import DEVICE, make_program
from tests.virtual_loop import BOOT_NS, info_of, line_for

RATE, CHUNK = 250, 10
ASKED_S, SECONDS = 8.0, 24
HANGS_S = 0.8  # the write returns so long after the pulse, and only then is anybody told
SETTINGS = BrainSettings(seed=2, eyes="closed", clenches_per_min=0, pops_per_min=0, pulse_artifact_s=0.002)
SIGNED = replace(demo_prescription("virtual", 0.0), authority="observe", pulses=make_program())


def state(at_s: float) -> StimState:
    now_ns = BOOT_NS + round(at_s * 1e9)
    judge = Judge(rules(SIGNED, None, DEVICE), "simulated", "measured", Book("boot", True), now_ns)
    return replace(state_of(judge, now_ns), confirmed_ma=0.0, zero_since_ns=BOOT_NS)


def run(late_s: float) -> list[Biomarkers]:
    """The pulse comes `late_s` after it was asked for; the interlock is silent from its time until `HANGS_S` after it came."""
    line = line_for(info_of(SETTINGS), SIGNED)
    brain, came_s = Brain(SETTINGS), ASKED_S + late_s
    rows: list[Biomarkers] = []
    for number, start in enumerate(range(0, SECONDS * RATE, CHUNK), 1):
        t0_s, t_s = start / RATE, (start + CHUNK) / RATE
        fired = (round(came_s * RATE),) if t0_s <= came_s < t_s else ()
        data_uv = brain.advance(CHUNK, Stimulation(pulses=fired)).astype(np.float32)
        if t0_s <= ASKED_S - 0.06 < t_s:
            line.exposure = exposure.pulsed(line.exposure, ASKED_S)
        told = tuple(s for at_s, s in ((ASKED_S - 0.06, ASKED_S), (came_s + HANGS_S, came_s)) if t0_s <= at_s < t_s)
        states = () if ASKED_S <= t_s < came_s + HANGS_S else (state(t_s),)
        conditions = Conditions(recording_ok=True, audit_ok=True, demo=True)
        chunk = Chunk(data_uv, start, t0_s, t_s)
        rows += line.step(Tick(number, t_s, chunk, states, conditions=conditions, pulses_s=told)).rows
    return rows


@pytest.mark.parametrize("late_s", [0.35, 7.0])
def test_no_value_is_good_that_saw_a_pulse_however_late_it_came(late_s: float) -> None:
    rows = run(late_s)
    column = rows[0].find("band_power.alpha", "O1")
    good_s = [row.end_sample / RATE for row in rows if row.grades[column] == Grade.GOOD]
    came_s = ASKED_S + late_s
    unproven = [at_s for at_s in good_s if ASKED_S < at_s < came_s + 1.0 + exposure.PULSE_AFTER_S]
    assert unproven == [], "good, with a pulse in its window that came or may have come, or the amplifier's recovery from it"
    assert max(at_s for at_s in good_s if at_s <= ASKED_S) > ASKED_S - 0.5 and max(good_s) > SECONDS - 0.5
