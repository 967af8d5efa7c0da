"""The envelope and the dose arithmetic: every limit alone, and what a verdict says of it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from control import dose
from control.envelope import Standing, limit
from eegloop.stim import Limit, StimRequest
from tests.unit.test_control_seat import demo_prescription

FREE = Standing(present_ma=0.4, block_ma=0.4, ceiling_ma=0.4, left_s=600.0, left_uc=1e6)
DEVICE = (Limit("amplitude_ma", 2.0, "mA", "device"),)


def signed(**changes: Any):
    return dataclasses.replace(demo_prescription("virtual", 0.0), **changes)


def ask(ma: float, hold: bool = False, hz: float = 0.0) -> StimRequest:
    return StimRequest(ma, hz, hold, "test")


def test_a_request_inside_every_limit_is_granted_as_it_is() -> None:
    verdict = limit(ask(0.45), signed(), FREE, DEVICE)
    assert (verdict.amplitude_ma, verdict.limits, verdict.sentence) == (0.45, (), "Granted 0.45 mA.")


@pytest.mark.parametrize(
    ("changes", "standing", "device", "asked", "granted", "field", "set_by"),
    [
        ({"amplitude_ua": 500}, {}, DEVICE, 0.55, 0.5, "amplitude_ma", "prescription"),
        ({}, {}, DEVICE, 0.7, 0.6, "step_ma", "profile"),
        ({}, {"block_ma": 0.3}, DEVICE, 0.55, 0.5, "step_ma", "profile"),
        ({"pad_mm2": 500}, {}, DEVICE, 0.45, 0.4, "density_ma_per_cm2", "profile"),
        ({"amplitude_ua": 3000}, {"block_ma": 2.0}, (Limit("amplitude_ma", 4.0, "mA", "device"),),
         2.1, 2.0, "amplitude_ma", "profile"),
        (
            {"amplitude_ua": 3000, "modality": "tacs", "profile": "home", "frequency_millihz": 10_000},
            {"block_ma": 1.0}, DEVICE, 1.1, 1.0, "amplitude_ma", "profile",
        ),
        ({"profile": "spa"}, {}, DEVICE, 0.4, 0.0, "amplitude_ma", "profile"),
        ({}, {"left_s": 0.0}, DEVICE, 0.4, 0.0, "session_s", "prescription"),
        ({}, {"left_uc": -1.0}, DEVICE, 0.4, 0.0, "session_uc", "prescription"),
        ({}, {"left_uc": math.nan}, DEVICE, 0.4, 0.0, "session_uc", "prescription"),
        ({"authority": "lower_only"}, {}, DEVICE, 0.45, 0.4, "ceiling_ma", "authority"),
        ({"authority": "lower_only"}, {"ceiling_ma": math.inf}, DEVICE, 0.45, 0.0, "ceiling_ma", "authority"),
        ({"authority": "observe"}, {}, DEVICE, 0.4, 0.0, "amplitude_ma", "authority"),
        ({}, {}, (), 0.4, 0.0, "amplitude_ma", "device"),
        ({}, {}, (Limit("amplitude_ma", 0.25, "mA", "device"),), 0.4, 0.25, "amplitude_ma", "device"),
        ({}, {}, (Limit("amplitude_ma", 250.0, "uA", "device"),), 0.4, 0.0, "amplitude_ma", "device"),
        ({}, {}, (Limit("amplitude_ma", math.inf, "mA", "device"),), 0.4, 0.0, "amplitude_ma", "device"),
        ({}, {}, (*DEVICE, Limit("frequency_hz", -1.0, "Hz", "device")), 0.4, 0.0, "frequency_hz", "device"),
    ],
)  # fmt: skip
def test_the_tightest_limit_wins_and_says_so(
    changes: dict[str, Any],
    standing: dict[str, Any],
    device: tuple[Limit, ...],
    asked: float,
    granted: float,
    field: str,
    set_by: str,
) -> None:
    verdict = limit(ask(asked), signed(**changes), dataclasses.replace(FREE, **standing), device)
    assert verdict.amplitude_ma == granted
    assert (verdict.limits[0].field, verdict.limits[0].set_by) == (field, set_by)
    assert f"{granted:.2f} mA" in verdict.sentence
    if field != "frequency_hz":
        assert "limited by" in verdict.sentence and field in verdict.sentence and set_by in verdict.sentence


def test_every_limit_that_applied_is_kept_tightest_first() -> None:
    verdict = limit(ask(9.0), signed(authority="lower_only"), FREE, DEVICE)
    assert [item.set_by for item in verdict.limits] == ["authority", "profile", "prescription", "profile", "device", "profile"]
    assert verdict.amplitude_ma == 0.4
    assert [item.value for item in verdict.limits] == [0.4, 0.2, 1.0, 2.0, 2.0, 0.08]


def test_a_device_that_allows_the_frequency_limits_nothing() -> None:
    tacs = signed(modality="tacs", frequency_millihz=10_000)
    device = (*DEVICE, Limit("frequency_hz", 40.0, "Hz", "device"), Limit("colour", 0.0, "1", "device"))
    verdict = limit(ask(0.4, hz=10.0), tacs, FREE, device)
    assert (verdict.amplitude_ma, verdict.frequency_hz, verdict.limits) == (0.4, 10.0, ())
    other = limit(ask(0.4, hz=12.0), tacs, FREE, device)
    assert (other.frequency_hz, other.amplitude_ma) == (10.0, 0.4)
    assert [item.field for item in other.limits] == ["frequency_hz"] and other.sentence == "Granted 0.40 mA."


def test_hold_keeps_the_present_amplitude_and_is_itself_limited() -> None:
    assert limit(ask(0.9, hold=True), signed(), FREE, DEVICE).amplitude_ma == 0.4
    over = dataclasses.replace(FREE, present_ma=1.5, block_ma=1.5)
    assert limit(ask(0.9, hold=True), signed(), over, DEVICE).amplitude_ma == 1.0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_request_that_is_no_number_holds(broken: float) -> None:
    verdict = limit(ask(broken), signed(), FREE, DEVICE)
    assert verdict.amplitude_ma == 0.4 and "not a number" in verdict.sentence
    assert limit(ask(0.3, hz=broken), signed(), FREE, DEVICE).amplitude_ma == 0.3
    nothing = dataclasses.replace(FREE, present_ma=broken)
    assert limit(ask(0.0, hold=True), signed(), nothing, DEVICE).amplitude_ma == 0.0
    assert limit(ask(0.3), signed(), dataclasses.replace(FREE, left_s=math.nan), DEVICE).amplitude_ma == 0.0
    assert limit(ask(0.3), signed(), dataclasses.replace(FREE, block_ma=math.nan), DEVICE).amplitude_ma == 0.0


def test_below_zero_is_zero_and_parts_of_a_microampere_are_dropped() -> None:
    low = limit(ask(-0.1), signed(), FREE, DEVICE)
    assert low.amplitude_ma == 0.0 and math.copysign(1.0, low.amplitude_ma) == 1.0
    assert limit(ask(0.4507), signed(), FREE, DEVICE).amplitude_ma == 0.45
    assert limit(ask(0.1 + 0.2 + 0.15), signed(), FREE, DEVICE).amplitude_ma == 0.45
    odd = (Limit("amplitude_ma", 0.4499999, "mA", "device"),)
    assert limit(ask(0.5), signed(), FREE, odd).amplitude_ma <= 0.4499999


def test_dose_arithmetic() -> None:
    assert dose.charge_uc(2.0, 1800.0) == 3_600_000.0
    assert dose.density_ma_per_cm2(2.0, 3500) == pytest.approx(0.0571, abs=1e-4)
    assert dose.density_cap_ma(0.08, 2500) == pytest.approx(2.0)
    assert dose.ramp_s(0.0, 2.0, 100) == 20.0 and dose.ramp_s(2.0, 0.5, 100) == 15.0
    assert dose.ramp_uc(0.0, 2.0, 100) == 20_000.0 and dose.ramp_uc(1.0, 2.0, 100) == 15_000.0
    assert dose.planned_uc(signed(amplitude_ua=1000, ramp_ua_per_s=100, session_ms=120_000)) == 110_000.0
    assert dose.planned_uc(signed(amplitude_ua=1000, ramp_ua_per_s=100, session_ms=10_000)) == 10_000.0


def test_what_is_left_is_the_least_of_all_accounts_and_nothing_when_one_is_broken() -> None:
    assert dose.left(10.0) == 10.0 and dose.left(10.0, 3.0, 4.0) == 6.0 and dose.left(10.0, 11.0) == 0.0
    for broken in (math.nan, math.inf, -1.0):
        assert dose.left(10.0, 1.0, broken) == 0.0


def test_a_limit_that_is_just_met_did_not_lower_anything() -> None:
    assert limit(ask(0.5), signed(amplitude_ua=500), FREE, DEVICE).limits == ()


@pytest.mark.parametrize("budget", ["left_s", "left_uc"])
def test_an_empty_budget_grants_nothing_however_much_is_asked(budget: str) -> None:
    for left in (0.0, -1.0):
        standing = dataclasses.replace(FREE, block_ma=2.0, **{budget: left})
        verdict = limit(ask(2.0), signed(amplitude_ua=2000), standing, DEVICE)
        assert verdict.amplitude_ma == 0.0 and verdict.limits[0].value == left


@pytest.mark.parametrize("budget", ["left_s", "left_uc"])
def test_the_last_of_a_budget_is_a_budget(budget: str) -> None:
    assert limit(ask(0.45), signed(), dataclasses.replace(FREE, **{budget: 0.5}), DEVICE).amplitude_ma == 0.45


def test_limits_of_zero_say_zero() -> None:
    watching = limit(ask(0.4), signed(authority="observe"), FREE, DEVICE).limits[0]
    silent = limit(ask(0.4), signed(), FREE, ()).limits[0]
    assert (watching.value, silent.value) == (0.0, 0.0)


def test_nothing_spent_leaves_everything() -> None:
    assert dose.left(10.0, 0.0) == 10.0 == dose.left(10.0)
