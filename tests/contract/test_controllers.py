"""What every controller in control/controllers must be: found by its file, bounded, deterministic, honest in its sentence."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.watch import FROZEN_HOPS
from eegloop.plugins import find, kinds
from eegloop.ports import Snapshot
from eegloop.signal import Grade
from eegloop.stim import Prescription, PrescriptionError, StimRequest
from tests.unit.test_control_seat import demo_prescription, rows, state_of

KINDS = kinds("controller")
# Controllers that need no biomarker: they may move on their own clock, whatever the signal is.
OPEN_LOOP = {kind for kind in KINDS if "biomarker" not in find("controller", kind).EXAMPLE}


# Controllers whose sentence must not tell what the biomarker does, and whose prescription allows nothing.
BLINDED = {"sham"}


def signed(kind: str) -> Prescription:
    nothing = {"amplitude_ua": 0, "start_ua": 0} if kind in BLINDED else {}
    settings = dict(find("controller", kind).EXAMPLE)
    return dataclasses.replace(demo_prescription("virtual", 0.0), controller=kind, settings=settings, **nothing)


def start(kind: str) -> tuple[Any, Any]:
    module = find("controller", kind)
    controller = module.build(module.Settings())
    return controller, controller.start(signed(kind))


def snap(value: float, hop: int, t_s: float, present_ma: float, **changes: Any) -> Snapshot:
    grade = changes.pop("grade", Grade.GOOD)
    row = rows(value, hop, changes.pop("row_s", t_s), grade, reason="" if grade == Grade.GOOD else "blink")
    usual = Snapshot(t_s, row, present_ma, 0.0, 1.0, 0.0, state_of(mode="armed"), 0.2, 0.01)
    return dataclasses.replace(usual, **changes)


def check_request(request: StimRequest, snapshot: Snapshot) -> None:
    """Bounded, and a sentence that fits what is asked."""
    assert math.isfinite(request.amplitude_ma) and request.amplitude_ma >= 0.0
    sentence = request.reason
    assert 10 <= len(sentence) <= 240 and sentence[0].isupper() and sentence.endswith(".") and "\n" not in sentence
    assert len(re.findall(r"[.!?](\s|$)", sentence)) == 1, f"one sentence: {sentence}"
    assert "nan" not in sentence.lower().split() and "inf" not in sentence.lower().split()
    more, less = re.search(r"([\d.]+) mA more\.$", sentence), re.search(r"([\d.]+) mA less\.$", sentence)
    if request.hold:
        assert not more and not less, sentence
        return
    assert request.amplitude_ma <= max(0.0, snapshot.ceiling_ma) + 1e-12
    change = request.amplitude_ma - snapshot.present_ma
    assert bool(more) == (change > 0) and bool(less) == (change < 0), f"{sentence} but {change:+.3f} mA"
    said = float((more or less).group(1))  # type: ignore[union-attr]
    assert said == pytest.approx(abs(change), abs=0.006)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_folder_is_not_empty() -> None:
    assert {
        "dual_threshold",
        "on_off",
        "proportional_integral",
        "schedule",
        "sham",
        "shadow",
        "phase_locked",
        "safe_bayes",
    } <= set(KINDS)


def test_settings_from_config_are_closed_and_have_defaults(kind: str) -> None:
    module = find("controller", kind)
    module.Settings()
    with pytest.raises(ValueError, match="colour"):
        module.Settings(colour="red")
    for field in dataclasses.fields(module.Program):
        assert field.name in "".join(str(base.__doc__) for base in module.Program.__mro__[:-1]), f"{field.name} is not documented"


def test_signed_numbers_are_read_strictly(kind: str) -> None:
    module = find("controller", kind)
    controller = module.build(module.Settings())
    prescription = signed(kind)
    with pytest.raises(PrescriptionError, match="colour"):
        controller.start(dataclasses.replace(prescription, settings={**prescription.settings, "colour": "red"}))


def test_target_is_what_the_page_draws(kind: str) -> None:
    controller, state = start(kind)
    for grade in Grade:
        target = controller.target(state, snap(0.2, 1, 10.0, 0.4, grade=grade))
        assert set(target) == {
            "biomarker",
            "channel",
            "unit",
            "value",
            "estimate",
            "estimate_n",
            "estimate_spread",
            "low",
            "high",
        }
        json.dumps(target, allow_nan=False)
        if grade != Grade.GOOD:
            assert target["value"] is None


estimates = st.lists(
    st.tuples(
        st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.05, 0.2, 0.5, math.nan, math.inf, -math.inf, 1e300])),
        st.sampled_from([Grade.GOOD, Grade.GOOD, Grade.GOOD, Grade.SUSPECT, Grade.INVALID]),
        st.sampled_from([0.0, 1.0, 1.0, 1.0, 20.0, 100.0]),  # s since the last
        st.sampled_from([0, 1, 1, 1, 50]),  # hops since the last: 0 = no new row, 50 = a gap
        st.sampled_from([0.0, 0.0, 0.0, 30.0, -30.0, math.nan]),  # age of the row
    ),
    max_size=40,
)
broken = st.sampled_from(
    [{}, {}, {"baseline": None}, {"baseline": math.nan}, {"ceiling_ma": 0.3}, {"ceiling_ma": math.nan}, {"floor_ma": math.nan},
     {"present_ma": math.nan}, {"stim": None}, {"baseline_sd": 0.0}]
)  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=estimates, change=broken, present=st.sampled_from([0.0, 0.4, 1.0]))
def test_always_bounded_deterministic_and_honest(
    kind: str, seen: list[tuple[float, Grade, float, int, float]], change: dict[str, Any], present: float
) -> None:
    first = play(kind, seen, change, present)
    assert first == play(kind, seen, change, present), "the same snapshots must give the same requests"


def play(
    kind: str, seen: list[tuple[float, Grade, float, int, float]], change: dict[str, Any], present: float
) -> list[StimRequest]:
    controller, state = start(kind)
    t_s, hop, requests = 100.0, 1, []
    for value, grade, wait_s, hops, age_s in seen:
        t_s, hop = t_s + wait_s, hop + hops
        snapshot = dataclasses.replace(snap(value, hop, t_s, present, grade=grade, row_s=t_s - age_s), **change)
        before = state
        state, request = controller.decide(state, snapshot)
        hash(before), hash(state)
        json.dumps(dataclasses.asdict(state), allow_nan=False)
        assert controller.decide(before, snapshot) == (state, request), "decide must not remember anything by itself"
        check_request(request, snapshot)
        new = hops or not requests  # the first row is new to whoever has seen none
        usable = grade == Grade.GOOD and math.isfinite(value) and abs(value) <= 100 and new and abs(age_s) < 3
        if kind not in OPEN_LOOP and not usable:
            assert request.hold, f"moved on {value}, {grade.name}, {hops} new hops, {age_s} s old: {request.reason}"
        if not request.hold:
            present = request.amplitude_ma
        requests.append(request)
    return requests


@pytest.mark.parametrize("value", [0.01, 0.2, 0.9])
def test_a_frozen_biomarker_moves_nothing(kind: str, value: float) -> None:
    if kind in OPEN_LOOP:
        return
    controller, state = start(kind)
    present = 0.4
    for hop in range(1, 200):
        state, request = controller.decide(state, snap(value, hop, 100.0 + hop, present))
        assert request.hold or hop < FROZEN_HOPS, f"moved on the {hop}th identical value"
        present = present if request.hold else request.amplitude_ma


def test_a_clock_that_is_no_number_moves_nothing(kind: str) -> None:
    for t_s in (math.nan, math.inf, -math.inf):
        controller, state = start(kind)
        for hop in range(1, 6):
            snapshot = snap(0.05 + 0.001 * hop, hop, t_s, 0.4, row_s=10.0 + hop)
            state, request = controller.decide(state, snapshot)
            check_request(request, snapshot)
            assert request.hold and request.trigger_s is None


@pytest.mark.parametrize("grade", [Grade.SUSPECT, Grade.INVALID])
def test_artifacts_move_nothing(kind: str, grade: Grade) -> None:
    if kind in OPEN_LOOP:
        return
    controller, state = start(kind)
    for hop in range(1, 100):
        state, request = controller.decide(state, snap(0.01 + hop * 1e-5, hop, 100.0 + hop, 0.4, grade=grade))
        assert request.hold and ("blink" in request.reason or kind in BLINDED)
