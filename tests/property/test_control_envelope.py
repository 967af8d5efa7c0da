"""S1 and S8: no request, standing or device limit whatever gets more out of the envelope than every limit allows."""

from __future__ import annotations

import dataclasses
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from control.envelope import Standing, limit
from eegloop.stim import Authority, Limit, Prescription, StimRequest
from tests.unit.test_control_seat import demo_prescription

anything = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1.0, 5.0))
sound = st.floats(0.05, 2.5)
names = st.sampled_from([field.name for field in dataclasses.fields(Standing)])
# Mostly as they are in a session, with at most one number that is not: where every number is arbitrary, nothing is ever granted.
sound_standings = st.builds(Standing, sound, sound, sound, sound, sound)
standings = st.one_of(
    sound_standings,
    sound_standings,
    st.builds(lambda standing, name, value: dataclasses.replace(standing, **{name: value}), sound_standings, names, anything),
    st.builds(Standing, anything, anything, anything, anything, anything),
)
limits = st.builds(
    Limit,
    st.sampled_from(["amplitude_ma", "frequency_hz", "other"]),
    anything,
    st.sampled_from(["mA", "uA", "Hz"]),
    st.just("device"),
)
own = st.builds(Limit, st.just("amplitude_ma"), sound, st.just("mA"), st.just("device"))
devices = st.one_of(
    own.map(lambda limit: (limit,)),
    own.map(lambda limit: (limit,)),
    st.tuples(own, limits),
    st.lists(limits, max_size=3).map(tuple),
)
requests = st.one_of(
    st.builds(StimRequest, sound, st.just(0.0), st.booleans(), st.text(max_size=5)),
    st.builds(StimRequest, sound, st.just(0.0), st.booleans(), st.text(max_size=5)),
    st.builds(StimRequest, anything, anything, st.booleans(), st.text(max_size=5)),
)
prescriptions = st.builds(
    lambda authority, most, start, pad, profile: dataclasses.replace(
        demo_prescription("virtual", 0.0), authority=authority, amplitude_ua=most, start_ua=start, pad_mm2=pad, profile=profile
    ),
    st.sampled_from([Authority.OBSERVE.value, *[Authority.LOWER_ONLY.value, Authority.WITHIN_BOUNDS.value] * 2]),
    st.one_of(st.integers(500, 2000), st.integers(0, 4000)),
    st.integers(0, 4000),
    st.integers(100, 10_000),
    st.sampled_from(["home", "clinic"]),
)


def test_never_above_any_limit() -> None:
    granted_ma: list[float] = []

    @settings(max_examples=200, deadline=None)
    @given(requests, prescriptions, standings, devices)
    def holds(request: StimRequest, prescription: Prescription, standing: Standing, device: tuple[Limit, ...]) -> None:
        granted_ma.append(granted(request, prescription, standing, device))

    holds()
    assert sum(ma > 0.0 for ma in granted_ma) > 20, "hardly anything was ever granted"


def granted(request: StimRequest, prescription: Prescription, standing: Standing, device: tuple[Limit, ...]) -> float:
    """What the envelope grants, mA, held against every limit."""
    verdict = limit(request, prescription, standing, device)
    ma = verdict.amplitude_ma
    assert math.isfinite(ma) and ma >= 0.0
    assert ma <= prescription.amplitude_ma and ma <= 2.0
    assert ma * 100.0 / prescription.pad_mm2 <= 0.08 + 1e-9
    if ma > 0.0:
        assert ma <= standing.block_ma + 0.2
        assert standing.left_s > 0.0 and standing.left_uc > 0.0
        assert prescription.authority != Authority.OBSERVE
        assert prescription.authority != Authority.LOWER_ONLY or ma <= standing.ceiling_ma
        assert any(item.field == "amplitude_ma" for item in device)
        for item in device:
            if item.field == "amplitude_ma":
                assert item.unit == "mA" and ma <= item.value
            if item.field == "frequency_hz":
                assert prescription.frequency_hz <= item.value
    wanted = standing.present_ma if request.hold or not math.isfinite(request.amplitude_ma) else request.amplitude_ma
    assert ma <= max(0.0, wanted) if math.isfinite(wanted) else ma == 0.0
    assert verdict.request is request and verdict.frequency_hz == prescription.frequency_hz
    if math.isfinite(wanted) and ma < wanted - 0.001:
        assert verdict.limits, "what was taken away is said"
    assert verdict.sentence.endswith(".")
    return ma
