"""Where raising leads: the line through what each amplitude showed, its error bar, and the proportional-integral controller that asks it."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from control.outlook import LEAST_RAISES, MEDIAN_WORTH, MOST_LEVELS, T_975, Outlook, in_vain, raises, taken_in
from eegloop.signal import F64
from tests.contract.test_controllers import check_request
from tests.unit.test_control_controllers import PI, Run

APART_S = 40.0


def watched(levels_ma: list[float], values: F64) -> Outlook:
    """A record of sense blocks of one value a second; `values` (n_blocks, n)."""
    now, t_s = Outlook(), 0.0
    for ma, block in zip(levels_ma, values, strict=True):
        t_s += APART_S
        for value in block:
            now = taken_in(now, float(value), t_s, ma, APART_S)
            t_s += 1.0
    return now


def bound(now: Outlook, baseline: tuple[float, float] | None, top_ma: float, up: bool) -> float:
    """The nearest edge that is still thought reachable, found from outside by halving."""
    low, high = -1_000.0, 1_000.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if in_vain(now, baseline, middle, top_ma, up) == up:
            high = middle
        else:
            low = middle
    return (low + high) / 2.0


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("baseline", [None, (0.3, 15.0)])
@pytest.mark.parametrize("slow", [0.0, 1.0])
@pytest.mark.parametrize("blocks", [4, 6, 30])
def test_the_bound_is_that_of_least_squares(up: bool, baseline: tuple[float, float] | None, slow: float, blocks: int) -> None:
    draw = np.random.default_rng((blocks, int(slow)))
    levels = np.linspace(0.5, 1.1, blocks)
    values = 0.2 - 0.8 * levels[:, None] + draw.normal(0, 1, (blocks, 14)) + slow * draw.normal(0, 1, (blocks, 1))
    found = bound(watched(levels.tolist(), values), baseline, 1.5, up)
    ma, weight, mean = levels, np.full(blocks, 14.0), values.mean(axis=1)
    if baseline:
        ma, weight, mean = np.append(ma, 0.0), np.append(weight, MEDIAN_WORTH * baseline[1]), np.append(mean, baseline[0])
    design = np.column_stack((np.ones(len(ma)), ma))
    inverse = np.linalg.inv(design.T @ (weight[:, None] * design))
    fitted = inverse @ design.T @ (weight * mean)
    freedom = len(ma) - 2
    between = float((weight * (mean - design @ fitted) ** 2).sum()) / freedom
    within = float(((values - values.mean(axis=1, keepdims=True)) ** 2).sum()) / (values.size - blocks)
    at = np.array([1.0, 1.5])
    margin = T_975[min(freedom, 10) - 2] * math.sqrt(max(within, between) * float(at @ inverse @ at))
    assert found == pytest.approx(float(at @ fitted) + (margin if up else -margin), rel=1e-9)


def test_the_quantiles_are_students_and_never_too_small() -> None:
    assert pytest.approx(student.ppf(0.975, range(2, 11)), abs=5e-4) == T_975
    assert T_975[-1] > student.ppf(0.975, 11)


def test_who_would_just_reach_the_band_is_given_up_at_one_look_in_no_more_than_one_of_forty() -> None:
    draw = np.random.default_rng(1)
    levels = np.linspace(0.5, 1.1, 8)
    wrong = 0
    for _ in range(600):
        values = 0.3 * (levels[:, None] - 1.5) + draw.normal(0, 1, (8, 14))
        wrong += in_vain(watched(levels.tolist(), values), (0.3 * -1.5 + draw.normal(0, 0.3), 15.0), 0.0, 1.5, True)
    assert 3 <= wrong <= 27, f"{wrong} of 600 whose line ends exactly at the band's edge"


def test_slow_noise_between_blocks_counts_as_noise() -> None:
    levels = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    steady = np.tile(np.linspace(-0.1, 0.1, 14), (6, 1))
    wandering = steady + np.array([0.5, -0.6, 0.6, -0.5, 0.6, -0.6])[:, None]
    assert in_vain(watched(levels, steady), None, 0.2, 1.0, True)
    assert not in_vain(watched(levels, wandering), None, 0.2, 1.0, True), "the values within a block agree, the blocks do not"


def test_nothing_is_concluded_from_few_raises_or_small_ones() -> None:
    def judged(*levels: float) -> bool:
        values = np.tile(np.linspace(-0.1, 0.1, 14), (len(levels), 1)) - np.array(levels)[:, None]
        return in_vain(watched(list(levels), values), None, 0.0, 1.5, True)

    assert not in_vain(Outlook(), None, 0.0, 1.5, True)
    assert judged(0.5, 0.6, 0.65, 0.7) and not judged(0.5, 0.7, 0.7, 0.9), "two raises"
    assert not judged(0.5, 0.55, 0.6, 0.69), "0.19 mA"
    assert not judged(0.5, 0.6, 0.7, 0.8, 0.6), "back down again"
    assert raises(watched([0.5, 0.7, 0.7, 0.6, 0.8], np.zeros((5, 3)))) == 2 < LEAST_RAISES


def test_a_value_belongs_to_what_was_delivered_before_its_block() -> None:
    now = taken_in(Outlook(), 1.0, 10.0, 0.5, APART_S)
    now = taken_in(now, 3.0, 11.0, 0.7, APART_S)  # decided meanwhile, delivered only after the block
    now = taken_in(now, 5.0, 25.0, 0.7, APART_S)  # a gap of the link is no stimulate block
    now = taken_in(now, 7.0, 30.0, math.nan, APART_S)
    assert [(level.ma, level.n, level.mean, level.squares) for level in now.levels] == [(0.5, 3, 3.0, 8.0)]
    now = taken_in(now, 9.0, 65.0, 0.7, APART_S)
    assert [(level.ma, level.n) for level in now.levels] == [(0.5, 3), (0.7, 1)]
    for block in range(100):
        now = taken_in(now, 0.0, 200.0 + 60.0 * block, 0.7, APART_S)
    assert len(now.levels) == MOST_LEVELS


# --- the proportional-integral controller

SIGNED: dict[str, int | str] = {**PI, "unit": "milli", "low_milli": 0, "high_milli": 200, "step_ua": 80, "average_n": 30}
BASELINE = -0.4


def session(slope: float, up: bool = True, blocks: int = 20, **changes: Any) -> tuple[Run, list[str], float]:
    """A person whose biomarker answers by `slope` per mA from -0.4 on (mirrored if not `up`), in sense blocks of 14 values.

    What was said, and the highest amplitude delivered.
    """
    sign = 1.0 if up else -1.0
    mirrored: dict[str, int | str] = {} if up else {"more_moves": "down", "low_milli": -200, "high_milli": 0}
    run = Run("proportional_integral", {**SIGNED, **mirrored})
    draw, said, highest_ma = np.random.default_rng(3), [], 0.0
    for _ in range(blocks):
        level_ma = run.snapshot.present_ma
        highest_ma = max(highest_ma, level_ma)
        for look in range(14):
            value = sign * (BASELINE + slope * level_ma + 0.3 * float(draw.normal()))
            known = {"baseline": sign * BASELINE, "baseline_sd": 0.3, **changes}
            before_ma = run.snapshot.present_ma
            request = run.see(value, wait_s=1.0 if look else 46.0, **known)
            check_request(request, dataclasses.replace(run.snapshot, present_ma=before_ma))
            said.append(request.reason)
    return run, said, highest_ma


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("baseline", [True, False])
def test_pi_gives_up_on_who_answers_the_other_way_round_before_all_is_reached(up: bool, baseline: bool) -> None:
    run, said, highest_ma = session(-0.6, up, **({} if baseline else {"baseline": None}))
    assert highest_ma < 1.0, "not even explored to the top"
    assert run.snapshot.present_ma == 0.0
    words = r"Relative alpha power at F3 did not come into its target band in [34] raises and by what they did would not "
    words += "with all that is allowed"
    first = next(i for i, sentence in enumerate(said) if "did not come into" in sentence)
    assert re.fullmatch(words + r", so 0\.08 mA less\.", said[first])
    assert re.fullmatch(words + r", but 0\.00 mA is right, so it stays\.", said[-1])
    assert all(re.match(words, sentence) for sentence in said[first:])
    assert run.moves(*[0.1] * 30) == [] and run.moves(*[-5.0] * 30) == [], "for good"


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("slope", [0.5, 0.8, 2.0])
def test_pi_goes_on_with_who_answers(slope: float, up: bool) -> None:
    run, said, _ = session(slope, up)
    assert not any("did not come into" in sentence for sentence in said)
    assert run.snapshot.present_ma > 0.1 and -0.15 < BASELINE + slope * run.snapshot.present_ma < 0.35


def test_pi_concludes_nothing_about_a_ceiling_or_a_baseline_that_is_no_number() -> None:
    _, said, _ = session(-0.6, ceiling_ma=math.nan)
    assert all("did not come into" not in sentence for sentence in said)
    run, _, highest_ma = session(-0.6, baseline=math.nan)
    assert highest_ma < 1.0 and run.snapshot.present_ma == 0.0, "the blocks alone say it"
