"""Which programs of magnetic pulses may be signed: train table, whitelisted protocols (S11; safety.md section 2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eegloop.stim import Limit, Prescription, PrescriptionError
from interlock.limits import first_breach
from interlock.pulses import LONGEST_MS, PROTOCOLS, longest_train_ms, train_ms
from tests.coil_bench import WORN, listed
from tests.interlock_bench import PULSES, make_prescription, make_program, make_pulses

# ---- what may be signed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("millihz", "percent", "seconds"),
    [
        (1_000, 90, 1350.0), (1_000, 120, 270.0), (1_000, 130, 37.5), (5_000, 130, 7.5), (10_000, 110, 3.75), (10_000, 120, 3.15),
        (10_000, 130, 2.175), (20_000, 90, 1.537), (20_000, 110, 1.2), (20_000, 120, 0.75), (20_000, 130, 0.412),
        (25_000, 100, 0.96), (25_000, 130, 0.18),
        # rounded up to the next row and column, never between
        (15_000, 112, 0.75), (10_001, 110, 1.2), (10_000, 111, 3.15), (100, 1, 1350.0), (1_001, 120, 7.5), (5_001, 91, 3.75),
        (25_001, 90, 0.0), (1_000, 131, 0.0),
    ],
)  # fmt: skip
def test_the_train_table_is_rounded_up_and_cut_by_a_quarter(millihz: int, percent: int, seconds: float) -> None:
    assert longest_train_ms(millihz, percent) == int(seconds * 1000)


def test_the_table_falls_with_frequency_and_intensity() -> None:
    for row in LONGEST_MS.values():
        assert list(row) == sorted(row, reverse=True)
    for column in zip(*LONGEST_MS.values(), strict=True):
        assert list(column) == sorted(column, reverse=True)


def breach(program: dict[str, Any] | None = None, limits: tuple[Limit, ...] = PULSES, **changes: Any) -> str:
    found = first_breach(make_pulses(make_program(**(program or {})), **changes), limits)
    return found.field.removeprefix("prescription.") if found is not None else ""


def test_a_program_inside_the_table_may_be_signed() -> None:
    assert breach() == "" and breach(**WORN) == ""


@pytest.mark.parametrize(
    ("program", "field"),
    [
        ({"train_pulses": 37}, ""),
        ({"train_pulses": 38}, "pulses.train_pulses"),
        ({"intensity_percent": 111, "train_pulses": 32}, "pulses.train_pulses"),
        ({"train_millihz": 20_000, "train_pulses": 25}, "pulses.train_pulses"),
        ({"train_millihz": 20_000, "train_pulses": 24}, ""),
        ({"interval_ms": 4_999}, "pulses.interval_ms"),
        ({"burst_pulses": 2, "burst_millihz": 50_000}, "pulses.burst_pulses"),
        ({"session_pulses": 3_000, "day_pulses": 3_000}, ""),
        ({"day_pulses": 3_001}, "pulses.day_pulses"),
        ({"session_pulses": 3_001}, "pulses.session_pulses"),
        ({"protocol": "unheard of"}, "pulses.protocol"),
        ({"waveform": "monophasic", "current": "reverse"}, ""),
        ({"motor_threshold_percent": 91}, "pulses.intensity_percent"),
        ({"motor_threshold_percent": 90}, ""),
    ],
)
def test_what_is_above_the_table_is_refused_whole(program: dict[str, Any], field: str) -> None:
    assert breach(program) == field


def test_never_at_home_and_never_on_an_unnamed_or_unknown_stimulator() -> None:
    assert breach(profile="home") == "profile"
    assert breach(**{**WORN, "device_serial": "*"}) == "device_serial"
    assert breach(limits=()) == "pulses.intensity_percent"
    assert breach(limits=(Limit("intensity_percent", 54.0, "%", "device"),)) == "pulses.intensity_percent"
    assert breach(limits=(*PULSES, Limit("intensity_percent", float("nan"), "%", "device"))) == "pulses.intensity_percent"
    assert breach(limits=(Limit("intensity_percent", 100.0, "mA", "device"),)) == "pulses.intensity_percent"
    assert breach(**{**WORN, "day_sessions": 2}) == "day_sessions"


def test_pulses_and_modality_go_together() -> None:
    current = first_breach(make_prescription(pulses=make_program()), PULSES)
    assert current is not None and current.field == "prescription.pulses"
    nothing = first_breach(make_prescription(modality="tms"), PULSES)
    assert nothing is not None and nothing.field == "prescription.pulses"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_whitelisted_protocol_goes_by_exact_match(name: str) -> None:
    mine = listed(name)
    often = {**WORN, "day_sessions": PROTOCOLS[name].day_sessions, "lockout_ms": PROTOCOLS[name].lockout_ms}
    assert breach(mine, **often) == ""
    for field in ("intensity_percent", "train_millihz", "train_pulses", "trains", "interval_ms", "session_pulses"):
        for step in (-1, 1):
            assert breach({**mine, field: mine[field] + step}) == f"pulses.{field}", (field, step)
    assert breach({**mine, "threshold": "amt" if mine["threshold"] == "rmt" else "rmt"}) == "pulses.threshold"
    assert breach({**mine, "waveform": "half_sine"}) == "pulses.waveform"
    assert breach({**mine, "current": "reverse"}) == "pulses.current"
    for field in ("day_pulses", "week_pulses", "course_pulses"):
        assert breach({**mine, field: mine[field] + 1}) == f"pulses.{field}"
        assert breach({**mine, field: mine[field] - 1}) == ""
    assert breach(mine, **{**often, "day_sessions": often["day_sessions"] + 1}) == "day_sessions"
    assert breach(mine, **{**often, "lockout_ms": often["lockout_ms"] - 1}) == "day_sessions"


def test_the_protocols_are_those_of_the_literature() -> None:
    sizes = {name: (p.program.session_pulses, train_ms(p.program)) for name, p in PROTOCOLS.items()}
    assert sizes["10hz_26s"] == sizes["10hz_11s"] == (3_000, 4_000)
    assert sizes["itbs"] == sizes["three_d"] == (600, 2_000)
    assert sizes["ctbs"] == (600, 40_000) and sizes["ctbs_300"] == (300, 20_000)
    assert sizes["snt"] == (1_800, 2_000) and PROTOCOLS["snt"].program.day_pulses == 18_000


def test_a_prescription_with_pulses_comes_back_from_its_bytes_and_one_without_is_as_before() -> None:
    for signed in (make_pulses(), make_pulses(make_program(**listed("itbs")))):
        assert Prescription.from_bytes(signed.to_bytes()) == signed
    assert b"pulses" not in make_prescription().to_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pulses": None}, "exactly"),
        ({"pulses": {}}, "exactly"),
        ({"modality": "tdcs"}, "modality 'tms'"),
        ({"amplitude_ua": 1}, "amplitude_ua 0"),
        ({"frequency_millihz": 10}, "frequency_millihz"),
        ({"pulses": {"trains": 0}}, "pulses.trains"),
        ({"pulses": {"trains": True}}, "pulses.trains"),
        ({"pulses": {"trains": 1.5}}, "must be a whole number"),
        ({"pulses": {"protocol": ""}}, "pulses.protocol"),
        ({"pulses": {"protocol": 3}}, "pulses.protocol"),
        ({"pulses": {"threshold": "mt"}}, "pulses.threshold"),
        (
            {"pulses": {"waveform": "biphasic_burst"}},
            "pulses.waveform: 'biphasic_burst' must be one of monophasic, biphasic, half_sine",
        ),
        ({"pulses": {"waveform": 1}}, "pulses.waveform"),
        ({"pulses": {"current": "left"}}, "pulses.current: 'left' must be one of normal, reverse"),
        ({"pulses": {"burst_pulses": 2, "burst_millihz": 50_000, "waveform": "monophasic"}}, "'biphasic' in a burst"),
        ({"pulses": {"burst_millihz": 50_000}}, "pulses.burst_millihz"),
        ({"pulses": {"burst_pulses": 3, "burst_millihz": 50_000}}, "whole bursts"),
        ({"pulses": {"train_millihz": 25_001}}, "pulses.train_millihz"),
    ],
)
def test_a_program_is_read_strictly(change: dict[str, Any], said: str) -> None:

    body = json.loads(make_pulses().to_bytes())
    inner = change.get("pulses")
    if isinstance(inner, dict) and inner:
        change = {"pulses": {**body["pulses"], **inner}}
    with pytest.raises(PrescriptionError, match=said):
        Prescription.from_bytes(json.dumps({**body, **change}).encode())
    del body["pulses"]
    with pytest.raises(PrescriptionError, match="pulses"):
        Prescription.from_bytes(json.dumps(body).encode())
