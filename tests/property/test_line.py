"""The line as a whole: however the stream is cut, whatever stimulation adds to the signal, the decisions stay."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_loop import VirtualLoop, cut_again, line_for

from control.prescription import demo_prescription
from control.session import OperatorEvent
from daemon.loop import Decision, Outcome
from daemon.replay import handed_on
from simulators.settings import BrainSettings


def facts(decisions: list[Decision]) -> list[tuple[object, ...]]:
    return [(d.end_sample, d.number, d.verdict, d.phase, d.target) for d in decisions]


@pytest.fixture(scope="module")
def watched() -> VirtualLoop:
    """75 s of a virtual person whose session delivers nothing."""
    loop = VirtualLoop(prescription=replace(demo_prescription("virtual", 1_749_999_000.0), authority="observe"))
    loop.run(75)
    return loop


def watch(loop: VirtualLoop, sizes: list[int]) -> list[Outcome]:
    """The same samples in chunks of these sizes, over and over, through a new line."""
    line = line_for(loop.info, loop.prescription)
    return [line.step(tick) for tick in cut_again(loop.ticks, itertools.cycle(sizes))]


@pytest.fixture(scope="module")
def watched_decisions(watched: VirtualLoop) -> list[Decision]:
    decisions = [d for outcome in watch(watched, [5]) for d in outcome.decisions]
    assert len(decisions) >= 8
    return decisions


@pytest.fixture(scope="module")
def delivered() -> VirtualLoop:
    """150 s of a demo session with stimulation."""
    loop = VirtualLoop()
    loop.run(150)
    assert max(ma for _, ma in loop.delivered) >= 0.3 and len(loop.decisions) >= 10
    return loop


@settings(max_examples=6, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_decisions_do_not_depend_on_how_the_stream_is_cut(
    watched: VirtualLoop, watched_decisions: list[Decision], sizes: list[int]
) -> None:
    outcomes = watch(watched, sizes)
    again = [d for outcome in outcomes for d in outcome.decisions]
    assert facts(again) == facts(watched_decisions)
    rows = [row for outcome in outcomes for row in outcome.rows]
    assert [row.hop for row in rows] == list(range(1, len(rows) + 1))


def test_the_same_ticks_give_the_same_decisions_bit_for_bit(delivered: VirtualLoop) -> None:
    line = line_for(delivered.info, delivered.prescription)
    again = [d for tick in delivered.ticks for d in line.step(tick).decisions]
    assert facts(again) == facts(delivered.decisions)
    assert line.session == delivered.line.session


def test_what_stimulation_adds_to_the_signal_never_reaches_a_decision(delivered: VirtualLoop) -> None:
    """Rubbish of 80 mV wherever current flows (and 100 ms after): not one decision changes (hazard 8)."""
    line = line_for(delivered.info, delivered.prescription)
    random = np.random.default_rng(1)
    flowing_until_s = -1.0
    again = []
    for tick, (t_s, output_ma) in zip(delivered.ticks, delivered.delivered, strict=True):
        assert tick.chunk is not None
        if output_ma > 0:
            flowing_until_s = t_s
        if tick.chunk.t0_s < flowing_until_s + 0.05:
            noise = random.normal(0.0, 80_000.0, tick.chunk.data_uv.shape).astype(np.float32)
            tick = replace(tick, chunk=replace(tick.chunk, data_uv=tick.chunk.data_uv + noise))
        again += line.step(tick).decisions
    assert facts(again) == facts(delivered.decisions)


def test_no_decision_looks_at_samples_taken_under_current(delivered: VirtualLoop) -> None:
    """S7, from the record of the output: the window behind each decision lies wholly in zero output."""
    times = np.array([t for t, _ in delivered.delivered])
    output = np.array([ma for _, ma in delivered.delivered])
    for decision in delivered.decisions:
        end_s = decision.end_sample / delivered.info.sample_rate_hz
        touched = output[(times > end_s - 2.0) & (times <= end_s)]
        assert touched.size and not touched.any()


def test_an_inverted_patient_is_bounded() -> None:
    """Never above the signed ceiling, whichever way the brain answers (hazard 9)."""
    loop = VirtualLoop(brain_settings=BrainSettings(response_gain=-1.0))
    loop.run(150)
    assert loop.decisions
    assert max(ma for _, ma in loop.delivered) <= loop.prescription.amplitude_ma


def test_an_exploration_in_vain_ends_at_zero_whatever_the_controller_would_do() -> None:
    """Hazard 9: the line's own count of looks, whichever way the brain answers; the controller itself would go on."""
    demo = demo_prescription("virtual", 1_749_999_000.0)
    unreachable = {"low_milli": 5_000, "high_milli": 6_000, "explore_n": 20, "give_up_n": 3_600, "average_n": 1, "step_ua": 200}
    loop = VirtualLoop(prescription=replace(demo, settings={**demo.settings, **unreachable}), kinds=("faa",))
    loop.run(190)
    said = [decision.verdict.request.reason for decision in loop.decisions]
    ended = next(number for number, sentence in enumerate(said) if "did not come into its target band in 20 looks" in sentence)
    assert max(ma for _, ma in loop.delivered) > 0.4, "it had raised"
    assert all("did not come into" in sentence or sentence.startswith("Held") for sentence in said[ended:])
    assert loop.line.session.present_ma == 0.0 and loop.delivered[-1][1] == 0.0
    granted_ma = [decision.verdict.amplitude_ma for decision in loop.decisions[ended:]]
    assert granted_ma == sorted(granted_ma, reverse=True) and granted_ma[-1] == 0.0

    n_first = len(loop.decisions)
    for event, phase in (("end", "post"), ("start", "contact")):  # a new session begins as signed, with nothing of the one before
        loop.events = [OperatorEvent(event, "Ann")]
        loop.run(1.0)
        assert loop.line.session.phase == phase
    loop.run(55)
    again = [decision.verdict.request.reason for decision in loop.decisions[n_first:]]
    assert len(again) > 5 and not any("did not come into" in sentence for sentence in again)
    assert demo.start_ua / 1000 in [ma for t, ma in loop.delivered if t > 193.0], "and it begins where it is signed to"


def test_trials_of_a_search_are_handed_on_as_the_log_has_them() -> None:
    """Trials may span sessions: what a session measured is what `eegloop replay` prints for the next prescription."""
    search: dict[str, int | str] = {
        "biomarker": "faa", "channel": "F3-F4", "unit": "milli", "low_ua": 300, "high_ua": 500, "floor_milli": -5_000, "prior_milli": 0,
        "length_ua": 500, "spread_milli": 500, "noise_milli": 300, "trial_n": 3, "refractory_ms": 20_000, "step_ua": 200,
    }  # fmt: skip
    demo = demo_prescription("virtual", 1_749_999_000.0)
    loop = VirtualLoop(prescription=replace(demo, controller="safe_bayes", settings=search), kinds=("faa",))
    assert loop.line.carried() == "" and handed_on(loop.line) == ""
    loop.run(110)
    said = [re.match(r"Trial \d+ at ([\d.]+) mA gave (-?[\d.]+) where", d.verdict.request.reason) for d in loop.decisions]
    trials = [(float(one[1]), float(one[2])) for one in said if one]
    handed = [(int(ua) / 1000, int(milli) / 1000) for ua, milli in (pair.split(":") for pair in loop.line.carried().split())]
    assert trials and handed == [pytest.approx(trial, abs=0.006) for trial in trials]
    assert handed_on(loop.line).endswith(f'next prescription: settings.history: "{loop.line.carried()}"')
    again = line_for(loop.info, replace(loop.prescription, settings={**search, "history": loop.line.carried()}), kinds=("faa",))
    assert again.carried() == loop.line.carried()


def test_without_heartbeats_the_output_is_zero_within_a_second() -> None:
    loop = VirtualLoop()
    loop.run(40)
    assert loop.output_ma > 0.3
    cut_s = loop.t_s
    loop.run(3, heartbeats=False)
    assert max((t for t, ma in loop.delivered if ma > 0), default=0.0) <= cut_s + 1.0
    loop.run(20)
    assert loop.output_ma == 0.0, "nothing but a person starts it again"


@pytest.mark.parametrize("at_s", [0.06, 0.5, 4.0, 12.0, 23.0, 24.0])
def test_a_stop_that_bypasses_the_daemon_latches_in_every_phase(at_s: float) -> None:
    """S2: the interlock's own stop socket, pressed in screen, contact, baseline, before and after the arm: no output follows."""
    loop = VirtualLoop()
    loop.run(at_s)
    loop.stop_socket()
    stopped_s = loop.t_s
    loop.run(45)
    assert not any(ma for t, ma in loop.delivered if t > stopped_s + 0.04)
    assert loop.line.session.phase == "stopped"


def test_a_recording_that_fails_stops_at_once_however_far_apart_hops_are(delivered: VirtualLoop) -> None:
    """S6: not with the next hop; the tick that brings the news already says stop."""
    loop = VirtualLoop()
    loop.run(40)
    assert loop.output_ma > 0.3
    loop.conditions = replace(loop.conditions, recording_ok=False)
    loop.run(0.1)
    assert loop.output_ma == 0.0
