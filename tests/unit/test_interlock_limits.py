"""The interlock's hard limits: each field just inside passes, just outside is named and refused, nothing is lowered to fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from eegloop import plugins
from eegloop.stim import Limit
from interlock.limits import ALONE_MS, EMULATOR_ONLY, HARD, device_amplitude_ma, first_breach, rules
from tests.interlock_bench import DEVICE, make_prescription, make_pulses

WORN = {
    "device": "pulse_pal",
    "device_serial": "1234",
    "day_sessions": 1,
    "week_sessions": 5,
    "lockout_ms": 43_200_000,
    "authority": "lower_only",
}
TACS = {"modality": "tacs", "frequency_millihz": 10_000}
SLOW = {**TACS, "amplitude_ua": 500, "start_ua": 1}
PAD = {"pad_mm2": 2500, "start_ua": 0}
CLINIC = {**TACS, "profile": "clinic"}


@pytest.mark.parametrize(
    ("inside", "outside", "field", "set_by"),
    [
        ({"amplitude_ua": 2000}, {"amplitude_ua": 2001}, "amplitude_ua", "interlock"),
        ({**TACS, "amplitude_ua": 1000}, {**TACS, "amplitude_ua": 1001}, "amplitude_ua", "interlock"),
        ({**CLINIC, "amplitude_ua": 2000}, {**CLINIC, "amplitude_ua": 2001}, "amplitude_ua", "interlock"),
        ({"start_ua": 2000, "amplitude_ua": 2000}, {"start_ua": 2001}, "start_ua", "interlock"),
        ({"session_ms": 1_800_000}, {"session_ms": 1_800_001}, "session_ms", "interlock"),
        ({"session_uc": 3_600_000}, {"session_uc": 3_600_001}, "session_uc", "interlock"),
        ({"ramp_ua_per_s": 100}, {"ramp_ua_per_s": 101}, "ramp_ua_per_s", "interlock"),
        ({"fallback_ms": 5000}, {"fallback_ms": 5001}, "fallback_ms", "interlock"),
        ({**SLOW, "frequency_millihz": 45_000}, {**SLOW, "frequency_millihz": 45_001}, "frequency_millihz", "interlock"),
        ({**SLOW, "frequency_millihz": 500}, {**SLOW, "frequency_millihz": 499}, "frequency_millihz", "interlock"),
        ({"pad_mm2": 2500}, {"pad_mm2": 2499}, "pad_mm2", "interlock"),
        ({**PAD, "amplitude_ua": 2000}, {**PAD, "amplitude_ua": 2001}, "amplitude_ua", "interlock"),
        ({**WORN}, {**WORN, "day_sessions": 2}, "day_sessions", "interlock"),
        ({**WORN}, {**WORN, "week_sessions": 6}, "week_sessions", "interlock"),
        ({**WORN}, {**WORN, "lockout_ms": 43_199_999}, "lockout_ms", "interlock"),
        ({**WORN}, {**WORN, "device_serial": "*"}, "device_serial", "interlock"),
        (
            {**WORN, "profile": "clinic", "authority": "within_bounds"},
            {**WORN, "authority": "within_bounds"},
            "authority",
            "interlock",
        ),
    ],
)  # fmt: skip
def test_each_hard_limit(inside: dict[str, Any], outside: dict[str, Any], field: str, set_by: str) -> None:
    inside.setdefault("start_ua", 0)
    assert first_breach(make_prescription(**inside), DEVICE) is None
    breach = first_breach(make_prescription(**outside), DEVICE)
    assert breach is not None and (breach.field, breach.set_by) == (f"prescription.{field}", set_by)


def test_density_of_a_smaller_pad(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.08 mA/cm² over 25 cm² is exactly 2 mA; with the amplitude limit out of the way density alone refuses."""
    monkeypatch.setitem(HARD, ("tdcs", "home"), replace(HARD["tdcs", "home"], amplitude_ua=4000))
    device = (Limit("amplitude_ma", 4.0, "mA", "device"),)
    assert first_breach(make_prescription(amplitude_ua=2000, pad_mm2=2500), device) is None
    breach = first_breach(make_prescription(amplitude_ua=2001, pad_mm2=2500), device)
    assert breach is not None and breach.limit == 2000 and "density" in breach.reason


def test_device_limit() -> None:
    small = (Limit("amplitude_ma", 1.0, "mA", "device"),)
    assert first_breach(make_prescription(amplitude_ua=1000), small) is None
    breach = first_breach(make_prescription(amplitude_ua=1001), small)
    assert breach is not None and (breach.field, breach.limit, breach.set_by) == ("prescription.amplitude_ua", 1000, "device")


@pytest.mark.parametrize(
    "limits",
    [
        (),
        (Limit("amplitude_ma", float("nan"), "mA", "device"),),
        (Limit("amplitude_ma", -1.0, "mA", "device"), Limit("amplitude_ma", 2.0, "mA", "device")),
        (Limit("amplitude_ma", 2.0, "uA", "device"),),
        (Limit("frequency_hz", 2.0, "mA", "device"),),
    ],
)
def test_a_missing_or_broken_device_limit_is_zero(limits: tuple[Limit, ...]) -> None:
    assert device_amplitude_ma(limits) == 0.0
    assert first_breach(make_prescription(), limits) is not None


def test_unknown_modality_has_no_limits_and_is_refused() -> None:
    p = make_prescription(modality="tus")
    breach = first_breach(p, DEVICE)
    assert breach is not None and breach.field == "prescription.modality"
    assert rules(p, None, DEVICE).amplitude_ma == 0.0


def test_without_a_prescription_everything_is_zero() -> None:
    none = rules(None, None, DEVICE)
    assert none.refusal is not None and none.amplitude_ma == 0.0 and none.ceiling_ma == 0.0 and none.session_ms == 0


@pytest.mark.parametrize(("authority", "ceiling_ma"), [("observe", 0.0), ("lower_only", 1.0), ("within_bounds", 1.5)])
def test_first_ceiling(authority: str, ceiling_ma: float) -> None:
    assert rules(make_prescription(authority=authority), None, DEVICE).ceiling_ma == ceiling_ma


def test_current_on_a_person_only_from_kinds_that_end_within_a_second() -> None:
    """The table says of each kind what its driver declares; TMS coils fire nothing alone, but may give no current."""
    for kind, alone_ms in ALONE_MS.items():
        declared_s = plugins.find("stimulator", kind).STOPS_ALONE_S
        assert declared_s * 1000.0 == pytest.approx(alone_ms), kind
        if kind != "simulated":
            breach = first_breach(make_prescription(**{**WORN, "start_ua": 0, "device": kind}), DEVICE)
            ends = kind in ("mqtt", "pulse_pal")
            observed = make_prescription(**{**WORN, "start_ua": 0, "device": kind, "authority": "observe"})
            assert first_breach(observed, DEVICE) is None, "who only observes gives nothing"
            assert (breach is None) if ends else (breach is not None and breach.field == "prescription.device"), kind


def test_a_kind_that_is_not_known_gives_no_current_to_a_person() -> None:
    """Nobody has shown that it ends by itself; the refusal can be written as JSON."""
    for kind, value in (("magventure", "inf"), ("magstim", 1_010.0)):
        breach = first_breach(make_prescription(**{**WORN, "start_ua": 0, "device": kind}), DEVICE)
        assert breach is not None and (breach.field, breach.value) == ("prescription.device", value)
        json.dumps([breach.value, breach.limit], allow_nan=False)


@pytest.mark.parametrize("authority", ["observe", "lower_only", "within_bounds"])
@pytest.mark.parametrize("kind", EMULATOR_ONLY)
def test_what_is_not_covered_is_refused_by_name_under_every_authority(kind: str, authority: str) -> None:
    """Also as pulses, also far below every limit: a person reads why, and what to do."""
    for prescription in (
        make_prescription(**{**WORN, "amplitude_ua": 1, "start_ua": 0, "device": kind, "authority": authority}),
        make_pulses(device=kind, device_serial="1", authority=authority),
    ):
        breach = first_breach(prescription, DEVICE)
        assert breach is not None and (breach.field, breach.value, breach.set_by) == ("prescription.device", kind, "interlock")
        assert "emulator only" in breach.reason and "prescribe another device" in breach.reason
        judged = rules(prescription, None, DEVICE)
        assert judged.refusal == breach
