"""The phase-locked trigger: on time, gated, and by power when the measured error makes the phase meaningless."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from control.controllers import phase_locked
from control.controllers.phase_locked import GIVE_UP_N, LEARN_N, Seen, State, measured_jitter_deg, next_time_s
from eegloop.ports import Snapshot
from eegloop.signal import BiomarkerColumn, Biomarkers, Grade, Quality
from eegloop.stim import StimRequest
from tests.unit.test_control_seat import demo_prescription

SETTINGS: dict[str, int | str] = {
    "biomarker": "relative_power.alpha", "channel": "F3", "phase_channel": "F3", "unit": "milli", "low_milli": 150,
    "high_milli": 250, "refractory_ms": 20_000,
}  # fmt: skip
COLUMNS = (
    BiomarkerColumn("relative_power.alpha", "F3", "1", 2.0),
    *(
        BiomarkerColumn(f"phase.{part}", "F3", unit, 1.0)
        for part, unit in (("angle", "deg"), ("sd", "deg"), ("frequency", "Hz"), ("amplitude", "uV"), ("snr", "dB"))
    ),
)


class Rhythm:
    """Rows 0.1 s apart of a 10.2 Hz rhythm; `turn` adds degrees to each row's phase."""

    frequency_hz = 10.2

    def __init__(self, **settings: int | str) -> None:
        self.controller = phase_locked.build(phase_locked.Settings())
        prescription = dataclasses.replace(
            demo_prescription("v", 0.0), controller="phase_locked", settings={**SETTINGS, **settings}
        )
        self.state: Any = self.controller.start(prescription)
        self.t_s, self.hop, self.power = 100.0, 0, 0.2

    def angle_deg(self, t_s: float) -> float:
        return (360.0 * self.frequency_hz * (t_s - 100.0) + 180.0) % 360.0 - 180.0

    def see(self, turn: float = 0.0, wait_s: float = 0.1, late_s: float = 0.0, **parts: float) -> StimRequest:
        self.t_s, self.hop = self.t_s + wait_s, self.hop + 1
        told = {"angle": (self.angle_deg(self.t_s) + turn + 180.0) % 360.0 - 180.0, "sd": 20.0 + 1e-6 * self.hop}
        told |= {
            "frequency": self.frequency_hz + 1e-6 * self.hop,
            "amplitude": 8.0 + 1e-6 * self.hop,
            "snr": 6.0 + 1e-6 * self.hop,
        }
        grade = Grade(int(parts.pop("grade", Grade.GOOD)))
        values = np.array([self.power + 1e-6 * self.hop, *{**told, **parts}.values()])
        row = Biomarkers(
            columns=COLUMNS, values=values, grades=np.full(len(COLUMNS), int(grade), dtype=np.uint8),
            reasons=("" if grade == Grade.GOOD else "blink",) * len(COLUMNS), hop=self.hop, end_sample=self.hop * 25, t_s=self.t_s,
            quality=Quality(np.array([True]), ((),), 1.0, np.zeros(1)),
        )  # fmt: skip
        snapshot = Snapshot(self.t_s + late_s, row, 0.4, 0.0, 1.0, 0.0, None, 0.2, 0.01)
        self.state, request = self.controller.decide(self.state, snapshot)
        return request

    def learned(self) -> Rhythm:
        for _ in range(LEARN_N + 1):
            self.see()
        return self


@pytest.mark.parametrize("phase", [0, 90, 180, 270, 359])
def test_triggers_come_at_the_signed_phase_ahead_of_time_and_never_too_soon_after_another(phase: int) -> None:
    rhythm = Rhythm(phase_deg=phase, lead_ms=20, interval_ms=500)
    due = [r.trigger_s for r in (rhythm.see() for _ in range(100)) if r.trigger_s is not None]
    assert 12 <= len(due) <= 19
    for t_s in due:
        assert abs((rhythm.angle_deg(t_s) - phase + 180.0) % 360.0 - 180.0) < 0.01
    assert all(b - a >= 0.5 - 1e-9 for a, b in itertools.pairwise(due))


def test_a_trigger_leaves_the_amplitude_alone_and_leads_the_row() -> None:
    rhythm = Rhythm(lead_ms=50).learned()
    request = next(r for r in (rhythm.see() for _ in range(10)) if r.trigger_s is not None)
    assert request.hold and request.amplitude_ma == 0.4
    assert 0.05 <= request.trigger_s - rhythm.t_s <= 0.25  # type: ignore[operator]
    assert "Would trigger at phase 0°" in request.reason and "at the same amplitude" in request.reason
    assert "nothing fires it" in request.reason, "a record may not say that a pulse was given"


def test_nothing_is_triggered_before_enough_forecasts_were_checked() -> None:
    rhythm = Rhythm()
    early = [rhythm.see() for _ in range(LEARN_N)]
    assert all(r.trigger_s is None for r in early) and "being learned" in early[-1].reason


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"amplitude": 0.5}, "too small"),
        ({"snr": -3.0}, "does not stand out"),
        ({"sd": 70.0}, "known to 70° only"),
        ({"frequency": 1.0}, "no rhythm"),
        ({"grade": 1.0}, "blink"),
        ({"late_s": 0.3}, "too old"),
        ({"late_s": math.nan}, "too old"),
        ({"angle": math.nan}, "not a number"),
    ],
)
def test_gates(parts: dict[str, float], says: str) -> None:
    rhythm = Rhythm(interval_ms=100).learned()
    request = rhythm.see(**parts)
    assert request.trigger_s is None and request.hold and says in request.reason
    assert rhythm.see().trigger_s is not None or rhythm.see().trigger_s is not None, "the next good row triggers again"


def test_the_same_row_twice_triggers_once() -> None:
    rhythm = Rhythm(interval_ms=100).learned()
    rhythm.hop -= 1
    assert "no new estimate" in rhythm.see(wait_s=0.0).reason


def test_a_phase_that_cannot_be_foretold_is_left_to_power_control_and_taken_up_again() -> None:
    rhythm = Rhythm(interval_ms=100).learned()
    random = np.random.default_rng(1)
    requests = [rhythm.see(turn=float(random.uniform(-180, 180))) for _ in range(60)]
    assert rhythm.state.by_power and all(r.trigger_s is None for r in requests[40:])
    assert "so by power" in requests[-1].reason
    rhythm.power = 0.05  # under the band: power control steps up, after its dwell
    moved = [r for r in (rhythm.see(turn=float(random.uniform(-180, 180))) for _ in range(20)) if not r.hold]
    assert len(moved) == 1 and moved[0].amplitude_ma == pytest.approx(0.45)
    rhythm.power = 0.2
    back = [rhythm.see() for _ in range(60)]
    assert not rhythm.state.by_power and any(r.trigger_s is not None for r in back)


def test_going_to_phase_and_back_does_not_shorten_the_refractory_time() -> None:
    rhythm = Rhythm(interval_ms=100).learned()
    random = np.random.default_rng(1)
    changed_s: list[float] = []

    def see(n: int, turned: bool) -> None:
        for _ in range(n):
            request = rhythm.see(turn=float(random.uniform(-180, 180)) if turned else 0.0)
            changed_s.extend([] if request.hold else [rhythm.t_s])

    rhythm.power = 0.05
    see(60, turned=True)
    assert rhythm.state.by_power and len(changed_s) == 1
    see(60, turned=False)
    assert not rhythm.state.by_power
    see(300, turned=True)
    assert rhythm.state.by_power and len(changed_s) >= 2
    assert min(b - a for a, b in itertools.pairwise(changed_s)) >= 20.0 - 1e-6


def test_a_steady_bias_of_the_forecast_is_an_error_too() -> None:
    rhythm = Rhythm()
    for i in range(60):
        rhythm.see(turn=70.0 * i)  # every row is 70 degrees off what the row before foretold
    assert rhythm.state.by_power


def test_the_stimulators_own_jitter_counts() -> None:
    good, bad = Rhythm(fire_jitter_us=1_000).learned(), Rhythm(fire_jitter_us=20_000).learned()
    assert measured_jitter_deg(good.state) == pytest.approx(3.7, abs=0.1)
    assert measured_jitter_deg(bad.state) == pytest.approx(73.4, abs=0.5) and bad.state.by_power


def test_rows_that_come_too_seldom_are_left_to_power_control() -> None:
    rhythm = Rhythm()
    requests = [rhythm.see(wait_s=1.0) for _ in range(GIVE_UP_N + 1)]
    assert rhythm.state.by_power and "Phase unknown, so by power" in requests[-1].reason


@pytest.mark.parametrize("angle", [-170.0, 0.0, 35.0, 179.9])
@pytest.mark.parametrize("earliest_s", [0.0, 0.02, 0.37, 5.0])
def test_next_time_is_the_first_at_or_after(angle: float, earliest_s: float) -> None:
    seen = Seen(10.0, angle, 9.7)
    due_s = next_time_s(seen, 90.0, 10.0 + earliest_s)
    assert due_s >= 10.0 + earliest_s - 1e-6 and due_s - (10.0 + earliest_s) <= 1 / 9.7 + 1e-9
    turned = angle + 360.0 * 9.7 * (due_s - 10.0)
    assert abs((turned - 90.0 + 180.0) % 360.0 - 180.0) < 1e-6


def test_target_is_power_controls_and_no_jitter_is_claimed_at_first() -> None:
    rhythm = Rhythm()
    state: State = rhythm.state
    assert measured_jitter_deg(state) is None
