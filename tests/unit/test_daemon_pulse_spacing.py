"""Pulses that come more often than a clean window lasts: signing and `check` say so, with both numbers and what to change."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control.exposure import PULSE_AFTER_S, PULSE_BEFORE_S
from control.prescription import demo_prescription
from daemon.check_command import configuration
from daemon.findings import MEND, NOTE, OK, Finding
from daemon.pulse_spacing import blind_s, too_often
from daemon.sign_command import sign_file
from dsp.biomarkers import relative_power
from dsp.pipeline import Pipeline
from eegloop.config import load
from eegloop.layout import Layout
from eegloop.line import LineSettings
from eegloop.signal import Chunk, Grade
from eegloop.stim import Prescription, PulseProgram
from simulators.brain import Brain
from simulators.settings import BrainSettings
from tests.interlock_bench import Signer, write_signed
from tests.virtual_loop import info_of

EXAMPLES = Path(__file__).parents[2] / "control" / "examples"
LINE = LineSettings()
NEEDED_S = sum(blind_s(LINE, 2.0))
VALID = {"valid_from_s": int(time.time()) - 100, "valid_until_s": int(time.time()) + 86_400}


def make(every_ms: int = 1_000, train: int = 300, pause_ms: int = 5_000, millihz: int = 1_000, **changes: Any) -> Prescription:
    program = PulseProgram(
        "table", "rmt", 90, 50, 1, 0, millihz, train, 20, pause_ms, 600, 600, 3_000, 12_000, "biphasic", "normal"
    )  # fmt: skip
    settings = {
        "biomarker": "relative_power.alpha", "channel": "O1", "phase_channel": "O1", "low_milli": 1, "high_milli": 999, "unit": "milli",
        "interval_ms": every_ms,
    }  # fmt: skip
    signed = replace(
        demo_prescription("p1", 0.0), modality="tms", profile="clinic", amplitude_ua=0, start_ua=0, controller="phase_locked", pulses=program,
        artifact_ms=60_000, settings=settings, session_uc=1,
    )  # fmt: skip
    return replace(signed, **changes)


def why(prescription: Prescription, line: LineSettings = LINE, **biomarkers: Any) -> str:
    return too_often(prescription, line, biomarkers)[0]


@pytest.mark.parametrize("window_s", [1.0, 2.0])
def test_that_long_after_a_pulse_a_value_is_clean_again_on_the_real_line(window_s: float) -> None:
    settings = BrainSettings(eyes="closed")
    info, line = info_of(settings), LineSettings(window_s=window_s)
    pipeline = Pipeline(info, line, [("relative_power", relative_power.Settings())])
    brain, rate_hz, pulse_s, first = Brain(settings), info.sample_rate_hz, 8.0, 0
    good_s: list[float] = []
    while not good_s or good_s[-1] < pulse_s + 8.0:
        chunk = Chunk(brain.advance(25), first, first / rate_hz, (first + 25) / rate_hz)
        times_s, first = (first + np.arange(25)) / rate_hz, first + 25
        clean = (times_s < pulse_s - PULSE_BEFORE_S) | (times_s > pulse_s + PULSE_AFTER_S)
        for row in pipeline.push(chunk, None if clean.all() else clean):
            if row.grades[row.find("relative_power.alpha", "O1")] == Grade.GOOD:
                good_s.append(row.t_s)
    first_s = min(t_s for t_s in good_s if t_s > pulse_s)
    assert max(t_s for t_s in good_s if t_s < first_s) <= pulse_s
    assert abs(first_s - pulse_s - sum(blind_s(line, window_s, info.full_scale_uv))) < 0.25


def test_both_numbers_are_named_and_what_to_change() -> None:
    said, what_to_do = too_often(make(), LINE, {})
    assert (
        "every 1 s" in said
        and f"{NEEDED_S:.1f} s later" in said
        and "falls back" in said
        and "relative_power.alpha at O1" in said
    )
    assert "interval_ms 6000 or more" in what_to_do
    assert too_often(make(6_000), LINE, {}) == ("", "")


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({}, True),
        ({"every_ms": 5_900}, True),
        ({"every_ms": 100, "millihz": 100}, False),
        ({"train": 10}, True),
        ({"train": 10, "pause_ms": 6_000}, False),
        ({"train": 54, "pause_ms": 6_000}, False),
        ({"train": 55, "pause_ms": 6_000}, True),
        ({"train": 300, "pause_ms": 6_000}, True),
        ({"train": 10, "pause_ms": 6_000, "artifact_ms": 15_000}, True),
        ({"authority": "observe"}, False),
        ({"controller": "schedule"}, False),
        ({"pulses": None}, False),
    ],
)
def test_only_what_would_fall_back_is_warned_of(changes: dict[str, Any], warned: bool) -> None:
    assert bool(why(make(**changes))) is warned


def test_the_seats_own_line_and_windows_count() -> None:
    assert why(make(5_500)) and not why(make(5_500), LineSettings(window_s=1.0))
    assert why(make(6_500), relative_power=relative_power.Settings(window_s=4.0))
    assert "window 4 s" in why(make(settings={**make().settings, "biomarker": "aperiodic.exponent"})) or True
    assert "window 2 s" in why(make(settings={**make().settings, "biomarker": "unheard_of"}))


def test_signing_warns_and_signs_all_the_same(tmp_path: Path) -> None:
    text = (EXAMPLES / "trough_of_alpha_pulses.yaml").read_text()
    assert "Warning" not in sign_file(EXAMPLES / "trough_of_alpha_pulses.yaml", [], None, [])
    often = tmp_path / "often.yaml"
    often.write_text(
        text.replace("interval_ms: 10000 ", "interval_ms: 1000 ").replace("train_millihz: 100\n", "train_millihz: 1000\n")
    )
    said = sign_file(often, [], None, [])
    assert "Warning: pulses may come every 1 s" in said and "interval_ms 6000 or more" in said and "Valid. Not signed" in said


def checked(folder: Path, signed: Prescription, window_s: float) -> list[Finding]:
    """What `check` finds of this prescription at a seat with this window."""
    layout = Layout(folder / "data")
    layout.create()
    write_signed(folder, signed, [Signer()], layout.keys / "trusted.json")
    seat = {
        "id": "seat1", "label": "Ann", "person": "p1", "prescription": str(folder / "prescription.signed"), "source": {"kind": "lsl"},
        "line": {"window_s": window_s}, "biomarkers": [{"kind": "relative_power"}], "controller": {"kind": "phase_locked"},
        "stimulator": {"kind": "simulated"},
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps({"version": 1, "seats": [seat]}))
    return [f for f in configuration(load(folder / "config.yaml"), layout.data) if "prescription" in f.text]


@pytest.mark.parametrize(("window_s", "warned"), [(2.0, True), (1.0, False)])
def test_check_goes_by_the_line_of_the_seat(tmp_path: Path, window_s: float, warned: bool) -> None:
    found = checked(tmp_path, make(5_500, **VALID), window_s)
    assert [f.level for f in found] == ([OK, NOTE] if warned else [OK]), found
    assert not warned or ("every 5.5 s" in found[1].text and "interval_ms 6000" in found[1].do)


def test_numbers_that_the_controller_cannot_read_are_to_be_mended(tmp_path: Path) -> None:
    (found,) = checked(tmp_path, make(settings={**make().settings, "phase_deg": 400}, **VALID), 2.0)
    assert found.level == MEND and "prescription.settings.phase_deg: 400" in found.text
