"""Pulses from command to the signal line: asked of the real interlock, given by the simulated stimulator, cut out of the EEG."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from virtual_loop import info_of, line_for

from control.prescription import demo_prescription
from daemon.clock import MachineClock
from daemon.interlock_link import InterlockLink
from daemon.loop import Conditions, Line, Tick
from eegloop.signal import Biomarkers, Chunk, Grade
from simulators.brain import Brain
from simulators.response import Stimulation
from simulators.settings import BrainSettings
from tests.interlock_bench import make_program, make_pulses, valid_now
from tests.interlock_rig import SEAT, Rig, boot_ns, wait_for

MS = 1_000_000
RATE = 250
CHUNK = 10
BEFORE_S, AFTER_S = 8, 5  # around the pulses: filters settle, windows empty


async def give(machine: Rig, pulses: int, period_ms: int) -> tuple[int, ...]:
    """Ask for pulses through the daemon's own link, one after the other; returns what it tells the line, CLOCK_BOOTTIME ns."""
    link = InterlockLink(machine.layout.control_socket(SEAT), MachineClock())
    await link.connect(5.0)
    try:
        until_s = time.monotonic() + 10.0
        tick, asked, told = 0, 0, []
        link.arm("s1", 0)
        ready_ns = next_ns = 0
        while asked < pulses or boot_ns() < next_ns + 100 * MS:
            assert time.monotonic() < until_s, link.state
            tick += 1
            link.heartbeat(tick, boot_ns())
            link.take()
            told += link.take_pulse_times()
            assert link.take_refusals() == ()
            if link.armed_session and ready_ns == 0:
                ready_ns = boot_ns()
            # Half a second: the ledger's first slice is on the disk by then.
            if asked < pulses and ready_ns and boot_ns() > max(ready_ns + 500 * MS, next_ns):
                next_ns = boot_ns() + period_ms * MS
                assert link.pulse(next_ns)
                asked += 1
                next_ns += 20 * MS  # asked for again when this one is over
            await asyncio.sleep(0.01)
        told += link.take_pulse_times()
        return tuple(told)
    finally:
        link.close()


def delivered(first_ns: int, pulses_ns: list[int], seconds: int) -> np.ndarray:
    """(n, channels) float32 µV of the virtual person under these pulses."""
    plant = Brain(BrainSettings(seed=2, eyes="closed", clenches_per_min=0, pops_per_min=0, pulse_artifact_s=0.002))
    fired = tuple(round((at - first_ns) * 1e-9 * RATE) for at in pulses_ns)
    return np.vstack([plant.advance(RATE, Stimulation(pulses=fired)) for _ in range(seconds)]).astype(np.float32)


def run(line: Line, first_ns: int, data_uv: np.ndarray, told_ns: tuple[int, ...]) -> list[Biomarkers]:
    """Through the line, chunk by chunk, each pulse told with the chunk before it."""
    conditions = Conditions(recording_ok=True, audit_ok=True, demo=True)
    rows: list[Biomarkers] = []
    waiting = sorted(told_ns)
    for number, start in enumerate(range(0, len(data_uv), CHUNK), 1):
        t0_s = first_ns * 1e-9 + start / RATE
        arrival_s = t0_s + CHUNK / RATE
        now = [at for at in waiting if at * 1e-9 < arrival_s + CHUNK / RATE]
        waiting = waiting[len(now) :]
        chunk = Chunk(data_uv[start : start + CHUNK], start, t0_s, arrival_s)
        tick = Tick(number, arrival_s, chunk, conditions=conditions, pulses_s=tuple(at * 1e-9 for at in now))
        rows += line.step(tick).rows
    return rows


def test_pulses_that_the_interlock_gives_are_cut_out_and_their_windows_are_suspect(tmp_path: Path) -> None:
    valid = valid_now()
    signed = make_pulses(make_program(), valid_from_s=valid.valid_from_s, valid_until_s=valid.valid_until_s)
    with Rig(tmp_path, prescription=signed) as machine:
        told_ns = asyncio.run(give(machine, 6, 150))
        wait_for(lambda: machine.event_names().count("pulse") == 6)
        fired_ns = machine.pulses_ns()
    assert len(told_ns) >= 6 and fired_ns, told_ns
    for at in fired_ns:
        # They are 150 ms apart; the record is another process's, which a busy machine may wake late.
        assert min(abs(at - told) for told in told_ns) < 20 * MS, "a pulse came that the line was not told of"
    first_ns = min(told_ns) - BEFORE_S * 10**9
    last_s = (max(fired_ns) - first_ns) * 1e-9
    seconds = int(last_s) + AFTER_S
    # The controller's side only watches here; its own program is not that of the pulses.
    prescription = replace(demo_prescription("virtual", 0.0), authority="observe", pulses=signed.pulses)
    info = info_of(BrainSettings())
    disturbed = delivered(first_ns, fired_ns, seconds)
    blind = run(line_for(info, prescription, 0.0), first_ns, disturbed, ())
    told = run(line_for(info, prescription, 0.0), first_ns, disturbed, told_ns)
    calm = run(line_for(info, prescription, 0.0), first_ns, delivered(first_ns, [], seconds), ())
    column = told[0].find("band_power.alpha", "O1")
    held = [
        i
        for i, row in enumerate(told)
        if any(row.end_sample / RATE - 1.0 < (at - first_ns) * 1e-9 < row.end_sample / RATE - 0.02 for at in fired_ns)
    ]
    assert held
    for i in held:
        end_ns = first_ns + told[i].end_sample * 10**9 // RATE
        assert told[i].grades[column] != Grade.GOOD, told[i].end_sample
        # At a window's edge the pulse may lie inside it, and what the line was told of it outside.
        if any(end_ns - 10**9 < at < end_ns - 20 * MS for at in told_ns):
            assert "pulse" in told[i].quality.reasons[0] or told[i].reasons[column] == "pulse"
    wrong = [np.median([abs(np.log(rows[i].values[column] / calm[i].values[column])) for i in held]) for rows in (blind, told)]
    # The brain's own answer to the pulse is real and stays; the amplifier's jump, sixty times its power, does not.
    assert wrong[0] > 3 * wrong[1], "cutting changes nothing: is the line told in time?"
    after = [row for row in told if row.end_sample / RATE > last_s + 3.0]
    assert after and any(row.grades[column] == Grade.GOOD for row in after)
