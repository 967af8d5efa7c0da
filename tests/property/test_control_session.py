"""S4, S6, S8, S10, S13 against arbitrary inputs: what a session may never do, whatever it is told."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from control import session
from control.session import Inputs, OperatorEvent
from control.state import Effects
from control.transitions import ALLOWED
from eegloop.signal import Grade
from eegloop.stim import Authority, Phase, StimRequest, Verdict
from tests.unit.test_control_seat import Seat, demo_prescription, rows, state_of

anything = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.0, 3.0))
ages = st.one_of(st.sampled_from([0.0, 0.1, 0.1, 0.1, 0.5, 2.0, 20.0, math.inf, math.nan, -1.0]))
machine_events = st.lists(
    st.builds(OperatorEvent, st.sampled_from(["rearm", "start", "screened", "end", "dance"]), st.just("")), max_size=2
)
all_events = st.lists(
    st.builds(
        OperatorEvent, st.sampled_from(["rearm", "start", "screened", "end", "stop", "dance"]), st.sampled_from(["", "Ann"])
    ),
    max_size=2,
)
stims = st.one_of(
    st.none(),
    st.builds(
        lambda mode, reason, granted, commanded, zero, ceiling, ms, uc: state_of(
            mode=mode, reason=reason, granted_ma=granted, commanded_ma=commanded, zero_since_ns=zero, ceiling_ma=ceiling,
            delivered_ms=ms, delivered_uc=uc,
        ),
        st.sampled_from(["stopped", "armed", "armed", "fallback", "odd"]),
        st.sampled_from(["session ended", "lease over", ""]),
        anything, anything, st.sampled_from([0, 1]), anything, st.integers(0, 2_000_000), st.integers(0, 2_000_000),
    ),
)  # fmt: skip
biomarkers = st.one_of(
    st.none(),
    st.builds(
        lambda value, hop, t_s, grade, good: rows(value, hop, t_s, grade, good),
        anything, st.integers(0, 50), st.one_of(st.floats(90.0, 400.0), anything), st.sampled_from(list(Grade)),
        st.sampled_from([(True, True), (True, False), ()]),
    ),
)  # fmt: skip


def inputs_of(events: st.SearchStrategy[list[OperatorEvent]]) -> st.SearchStrategy[Inputs]:
    return st.builds(
        Inputs,
        t_s=st.just(0.0), biomarkers=biomarkers, stim=stims, stim_age_s=ages, sample_age_s=ages, supervised_age_s=ages,
        stream=st.sampled_from(["live", "delayed", "lost"]), recording_ok=st.booleans(), audit_ok=st.booleans(),
        demo=st.booleans(),
        channels=st.just(("F3", "F4")), events=events.map(tuple),
    )  # fmt: skip


waits = st.sampled_from([0.0, 0.1, 0.1, 1.0, 6.0, 30.0, -1.0, math.nan])
authorities = st.sampled_from([a.value for a in Authority])
verdict_numbers = st.tuples(anything, anything, st.booleans())


INPUTS = tuple(field.name for field in dataclasses.fields(Inputs) if field.name not in ("t_s", "demo", "channels"))
# Which inputs of a tick are arbitrary: none, one, or all. Where all always are, no session ever arms, sets or decides.
spoiled = st.one_of(st.just(()), st.just(()), st.tuples(st.sampled_from(INPUTS)), st.just(INPUTS))
mostly_no_wait = st.one_of(st.just(0.0), st.just(0.0), st.just(0.0), waits)
SHORT = {"baseline_ms": 1_000, "stimulate_ms": 4_000, "sense_ms": 6_000}


def test_whatever_comes_the_rules_hold() -> None:
    done: collections.Counter[str] = collections.Counter()

    @settings(max_examples=60, deadline=None)
    @given(
        phase=st.sampled_from(["stopped", "contact", "baseline", "baseline", "on", "on"]),
        authority=authorities,
        seen=st.lists(
            st.tuples(inputs_of(all_events), spoiled, mostly_no_wait, st.sampled_from([1, 20, 60, 80]), verdict_numbers),
            min_size=1, max_size=12,
        ),
    )  # fmt: skip
    def hold(
        phase: str,
        authority: str,
        seen: list[tuple[Inputs, tuple[str, ...], float, int, tuple[float, float, bool]]],
    ) -> None:
        seat = Seat(dataclasses.replace(demo_prescription("virtual", 0.0), authority=authority, **SHORT), demo=True).until(phase)
        seat.demo = False
        for arbitrary, names, wait_s, n_ticks, verdict in seen:
            if seat.state.phase == Phase.STOPPED and phase != "stopped":
                seat.begin()  # only a person brings it back
            if wait_s > 0.0:
                seat.t_s += wait_s
            for number in range(n_ticks):  # the arbitrary tick first, then orderly ones
                inputs = seat.inputs()
                if number == 0:
                    t_s = math.nan if math.isnan(wait_s) else max(0.0, seat.t_s + min(0.0, wait_s))
                    parts = {name: getattr(arbitrary, name) for name in names}
                    inputs = dataclasses.replace(inputs, t_s=t_s, **parts)
                effects = checked(seat, inputs, verdict)
                done.update([effects.command, "decide" if effects.decide else ""])
                seat.follow(effects)

    hold()
    assert min(done["arm"], done["set"], done["decide"], done["stop"]) > 3, f"hardly anything ever happened: {done}"


def checked(seat: Seat, inputs: Inputs, verdict_of: tuple[float, float, bool]) -> Effects:
    """One tick of the session and a verdict, held against every rule."""
    prescription, authority, before = seat.prescription, seat.prescription.authority, seat.state
    asked, granted, hold = verdict_of
    state, effects = session.step(before, inputs, prescription)
    json.dumps([dataclasses.asdict(state), dataclasses.asdict(effects)], allow_nan=False)
    assert before.phase == state.phase or (before.phase, state.phase) in ALLOWED
    named = {e.kind for e in inputs.events if e.who}
    kinds = {e.kind for e in inputs.events}
    # S2: STOP is taken at once, whatever else
    if "stop" in kinds or math.isnan(inputs.t_s):
        assert state.phase == Phase.STOPPED and effects.command == "stop"
    # S10: nothing leaves stopped or fallback upwards without a named person
    if before.phase == Phase.STOPPED:
        assert state.phase == Phase.STOPPED or (state.phase == Phase.OFF and "rearm" in named)
    if before.phase == Phase.FALLBACK:
        assert state.phase in (Phase.FALLBACK, Phase.STOPPED) or (state.phase == Phase.CONTACT and "rearm" in named)
    # S6, S13, S4: nothing arms or sets without record, audit trail, supervision and samples
    if effects.command in ("arm", "set"):
        assert inputs.recording_ok and inputs.audit_ok
        assert 0.0 <= inputs.supervised_age_s <= 15.0 and 0.0 <= inputs.sample_age_s <= 10.0
        assert authority != Authority.OBSERVE
    if effects.command == "set":
        assert state.armed and state.phase in (Phase.RAMP_UP, Phase.ON)
        assert 0.0 <= effects.amplitude_ma <= prescription.amplitude_ma
        assert effects.block == "stimulate" or effects.amplitude_ma == 0.0
    # S7: asked only in a sense block with zero confirmed since before the window
    if effects.decide:
        assert state.phase == Phase.ON and state.block == "sense"
        assert inputs.biomarkers is not None and state.quiet_since_s is not None
        assert inputs.biomarkers.t_s - 2.0 >= state.quiet_since_s >= 0.0
        session.snapshot(state, inputs, prescription)
    session.standing(state, inputs, prescription)
    verdict = Verdict(StimRequest(asked, 0.0, hold, "x"), granted, 0.0, (), "x")
    after = session.permit(state, verdict, inputs, prescription)
    # S8, S4: whatever a verdict says
    assert 0.0 <= after.present_ma <= prescription.amplitude_ma
    if authority == Authority.LOWER_ONLY:
        assert after.present_ma <= state.present_ma
    if not state.watch.usable or hold:
        assert after.present_ma <= state.present_ma
    if not state.watch.usable and not hold and authority != Authority.LOWER_ONLY and state.phase != Phase.ON:
        assert after.present_ma == state.present_ma
    seat.state = after
    return effects


@settings(max_examples=25, deadline=None)
@given(phase=st.sampled_from(["stopped", "fallback"]), seen=st.lists(st.tuples(inputs_of(machine_events), waits), max_size=30))
def test_no_machine_leaves_stopped_or_fallback(phase: str, seen: list[tuple[Inputs, float]]) -> None:
    seat = Seat(demo=True).until("on")
    if phase == "stopped":
        seat.tick(OperatorEvent("stop", "Ann"))
    else:
        seat.inputs_changes = {"supervised_age_s": 16.0}
        seat.tick()
    state, t_s = seat.state, seat.t_s
    for inputs, wait_s in seen:
        t_s = max(t_s, t_s + wait_s)
        state, effects = session.step(state, dataclasses.replace(inputs, t_s=t_s, demo=True), seat.prescription)
        assert state.phase in (Phase.STOPPED, Phase.FALLBACK) and effects.command in ("", "stop", "fallback")


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    authority=authorities,
    kind=st.sampled_from(["noise", "nan", "frozen", "suspect", "extreme"]),
)
def test_s4_bad_biomarkers_never_move_the_dose(seed: int, authority: str, kind: str) -> None:
    rng = np.random.default_rng(seed)
    seat = Seat(dataclasses.replace(demo_prescription("virtual", 0.0), authority=authority), demo=True).until("on")
    level = float(rng.uniform(0.0, 0.15))
    if kind == "nan":
        seat.grade = lambda t_s: Grade.INVALID
    elif kind == "suspect":
        seat.value, seat.grade = (lambda t_s: float(rng.uniform(0, 1))), (lambda t_s: Grade.SUSPECT)
    elif kind == "frozen":
        seat.value = lambda t_s: level
    elif kind == "extreme":
        seat.value = lambda t_s: float(rng.choice([1e3, -1e9, 1e300]))
    else:
        seat.value = lambda t_s: float(rng.uniform(0.0, 1.0))
    start_ma = seat.state.present_ma
    for _ in range(600):
        seat.tick()
        if kind != "noise":
            assert seat.state.present_ma == start_ma
        assert 0.0 <= seat.state.present_ma <= 1.0
        if authority == Authority.LOWER_ONLY:
            assert seat.state.present_ma <= start_ma
        assert max(ma for _, ma in seat.delivered[-1:]) <= 1.0 + 1e-9
    if kind != "noise":
        assert seat.state.phase in (Phase.ON, Phase.FALLBACK)


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_s8_lower_only_never_delivers_more_than_before(seed: int) -> None:
    """Judged by an oracle on what the interlock model delivered, not by the session's own numbers."""
    rng = np.random.default_rng(seed)
    seat = Seat(dataclasses.replace(demo_prescription("virtual", 0.0), authority="lower_only"), demo=True)
    seat.value = lambda t_s: 0.2 if t_s < 121 else float(rng.choice([0.1, 0.3]) + rng.normal(0, 0.01))
    seat.run(240)
    ma = [m for _, m in seat.delivered]
    peaks = [b for a, b, c in zip(ma, ma[1:], ma[2:], strict=False) if b > a and b >= c]
    assert max(ma) <= 0.4 + 1e-9 and all(b <= a + 1e-9 for a, b in itertools.pairwise(peaks))
