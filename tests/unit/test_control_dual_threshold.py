"""The dual threshold controller: band, dwell, hysteresis, refractory time, direction, and its sentence."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from control.controllers.dual_threshold import DualThreshold, Settings, build
from eegloop.ports import Snapshot
from eegloop.signal import Grade
from eegloop.stim import PrescriptionError, StimRequest
from tests.unit.test_control_seat import demo_prescription, rows

NUMBERS: dict[str, int | str] = {
    "biomarker": "relative_power.alpha", "channel": "F3", "unit": "baseline_milli", "low_milli": 900, "high_milli": 1100,
    "more_moves": "up", "dwell_n": 3, "step_ua": 50, "refractory_ms": 20_000,
}  # fmt: skip


class Run:
    """Estimates one second apart; the requested amplitude becomes the present one."""

    def __init__(self, **settings: int | str) -> None:
        self.controller: DualThreshold = build(Settings())
        prescription = dataclasses.replace(demo_prescription("virtual", 0.0), settings={**NUMBERS, **settings})
        self.state: object = self.controller.start(prescription)
        self.t_s, self.hop = 10.0, 0
        self.snapshot = Snapshot(0.0, rows(0.0, 1, 0.0), 0.4, 0.0, 1.0, 0.0, None, 0.2, 0.01)

    def see(self, value: float, grade: Grade = Grade.GOOD, **changes: Any) -> StimRequest:
        self.t_s, self.hop = self.t_s + 1.0, self.hop + 1
        biomarkers = rows(value + 1e-6 * self.hop, self.hop, self.t_s, grade, reason="blink" if grade else "")
        self.snapshot = dataclasses.replace(self.snapshot, **{"t_s": self.t_s, "biomarkers": biomarkers, **changes})
        self.state, request = self.controller.decide(self.state, self.snapshot)
        if not request.hold:
            self.snapshot = dataclasses.replace(self.snapshot, present_ma=request.amplitude_ma)
        return request


def moves(requests: list[StimRequest]) -> list[float]:
    return [round(r.amplitude_ma, 6) for r in requests if not r.hold]


def test_inside_the_band_nothing_moves() -> None:
    run = Run()
    requests = [run.see(0.2) for _ in range(60)]
    assert moves(requests) == [] and "in its target band" in requests[0].reason


@pytest.mark.parametrize(
    ("value", "direction", "becomes"), [(0.1, "up", 0.45), (0.1, "down", 0.35), (0.3, "up", 0.35), (0.3, "down", 0.45)]
)
def test_direction(value: float, direction: str, becomes: float) -> None:
    run = Run(more_moves=direction)
    requests = [run.see(value) for _ in range(3)]
    assert moves(requests) == [becomes]
    word = "more" if becomes > 0.4 else "less"
    assert requests[-1].reason.endswith(f"so 0.05 mA {word}.")
    assert ("under target" if value < 0.2 else "over target") in requests[-1].reason


def test_the_sentence_says_how_far_and_how_long() -> None:
    run = Run()
    request = [run.see(0.1476) for _ in range(7)][2]
    assert request.reason == "Relative alpha power at F3 18 % under target for 2 s, so 0.05 mA more."


def test_dwell_counts_agreeing_estimates_in_a_row() -> None:
    run = Run(dwell_n=4)
    seen = [run.see(v) for v in (0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1)]
    assert moves(seen) == []
    assert "(3 of 4 estimates)" in seen[-1].reason
    assert moves([run.see(0.1)]) == [0.45]


def test_a_bad_estimate_starts_the_count_anew() -> None:
    run = Run()
    seen = [run.see(0.1), run.see(0.1), run.see(0.1, Grade.SUSPECT), run.see(0.1), run.see(0.1)]
    assert moves(seen) == [] and seen[2].reason == "Held at 0.40 mA: blink."
    assert moves([run.see(0.1)]) == [0.45]


def test_refractory_time_between_steps() -> None:
    run = Run()
    times = []
    for _ in range(100):
        if not run.see(0.1).hold:
            times.append(run.t_s)
    assert len(times) == 5 and min(b - a for a, b in itertools.pairwise(times)) >= 20.0
    assert "may come in" in run.see(0.1).reason


def test_the_median_of_a_few_estimates_decides_and_starts_anew_after_a_step() -> None:
    run = Run(average_n=5, dwell_n=3, refractory_ms=0)
    assert moves([run.see(v) for v in (0.2, 0.2, 0.2, 0.1, 0.2, 0.9, 0.1, 0.2, 0.2, 0.2)]) == []
    assert moves([run.see(0.1) for _ in range(4)]) == [] and moves([run.see(0.1)]) == [0.45]
    assert run.state.excursion.memory.recent == ()  # type: ignore[attr-defined]


def test_near_zero_edges_are_said_in_band_widths() -> None:
    run = Run(unit="milli", low_milli=-100, high_milli=300)
    assert "0.5 band widths under target" in run.see(-0.3, baseline=None).reason


def test_hysteresis_keeps_an_excursion_until_well_back() -> None:
    run = Run(hysteresis_milli=50, refractory_ms=0)
    assert moves([run.see(0.17), run.see(0.17), run.see(0.17)]) == [0.45]
    back = [run.see(0.185) for _ in range(3)]
    assert moves(back) == [0.5] and "only just back from under target" in back[-1].reason
    assert "in its target band" in run.see(0.195).reason
    assert moves([run.see(0.185) for _ in range(5)]) == []
    over = [run.see(0.23), run.see(0.215), run.see(0.215)]
    assert moves(over) == [0.45]


def test_at_a_bound_it_stays_and_says_why() -> None:
    run = Run(refractory_ms=0, give_up_n=3_600)
    for _ in range(100):
        request = run.see(0.1)
    assert run.snapshot.present_ma == 1.0
    for _ in range(3):
        request = run.see(0.1)
    assert request.hold and "1.00 mA is as much as is allowed" in request.reason
    for _ in range(100):
        request = run.see(0.3)
        assert request.amplitude_ma >= 0.0
    for _ in range(3):
        request = run.see(0.3)
    assert run.snapshot.present_ma == 0.0 and "0.00 mA is as little as is allowed" in request.reason


def test_small_last_step() -> None:
    run = Run(refractory_ms=0)
    assert [run.see(0.1, ceiling_ma=0.415) for _ in range(3)][-1].reason.endswith("so 0.015 mA more.")


def test_units() -> None:
    own = Run(unit="milli", low_milli=100, high_milli=150)
    assert "in its target band" in own.see(0.12, baseline=None).reason
    assert own.controller.target(own.state, own.snapshot)["low"] == 0.1
    spread = Run(unit="sd_milli", low_milli=-1000, high_milli=1000)
    assert "in its target band" in spread.see(0.195).reason
    assert "under target" in spread.see(0.185).reason
    target = spread.controller.target(spread.state, spread.snapshot)
    assert target["low"] == pytest.approx(0.19) and target["high"] == pytest.approx(0.21)


@pytest.mark.parametrize("baseline", [None, math.nan, 0.0, -0.2, math.inf])
def test_without_a_baseline_it_holds(baseline: float | None) -> None:
    run = Run()
    for _ in range(5):
        request = run.see(0.1, baseline=baseline)
        assert request.hold and "no baseline" in request.reason
    assert run.controller.target(run.state, run.snapshot)["low"] is None


def test_old_repeated_and_future_rows_hold() -> None:
    run = Run()
    for _ in range(5):
        assert "is 5 s old" in run.see(0.1, t_s=run.t_s + 6.0).reason
    for _ in range(5):
        assert run.see(0.1, t_s=run.t_s - 60.0).hold
    for _ in range(5):
        request = run.controller.decide(run.state, dataclasses.replace(run.snapshot, t_s=run.t_s))[1]
        assert request.hold and "no new estimate" in request.reason


def test_broken_amplitudes_hold() -> None:
    for field in ("present_ma", "ceiling_ma", "floor_ma"):
        run = Run()
        request = [run.see(0.1, **{field: math.nan}) for _ in range(3)][-1]
        assert request.hold and math.isfinite(request.amplitude_ma) and "missing" in request.reason


def test_target_for_the_page() -> None:
    run = Run()
    run.see(0.21)
    target = run.controller.target(run.state, run.snapshot)
    assert target["value"] == pytest.approx(0.21, abs=1e-4)
    assert (target["biomarker"], target["channel"], target["unit"]) == ("relative_power.alpha", "F3", "1")
    assert (target["low"], target["high"]) == (pytest.approx(0.18), pytest.approx(0.22))


@pytest.mark.parametrize(
    ("biomarker", "channel", "words"),
    [
        ("band_power.theta", "Fz", "Theta power at Fz"),
        ("iaf.cog", "n/a", "Alpha frequency"),
        ("faa", "F3-F4", "Frontal alpha asymmetry at F3-F4"),
        ("theta_beta_ratio", "Cz", "Theta beta ratio at Cz"),
    ],
)
def test_plain_words(biomarker: str, channel: str, words: str) -> None:
    run = Run(biomarker=biomarker, channel=channel)
    assert run.state.program.words() == words  # type: ignore[attr-defined]
    assert "no biomarker" in run.see(0.1).reason or biomarker.startswith("iaf")


def test_numbers_are_read_strictly() -> None:
    for wrong in (
        {"dwell_n": 2},
        {"step_ua": 201},
        {"step_ua": "50"},
        {"more_moves": "sideways"},
        {"unit": "x"},
        {"low_milli": 1200},
    ):
        with pytest.raises(PrescriptionError, match=next(iter(wrong))):
            Run(**wrong)  # type: ignore[arg-type]
