"""Within-person change: known values, intervals that hold what they promise, honest refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dsp.change import own_change, reliable_change, retest


def test_z_of_a_known_baseline() -> None:
    """Sessions 8, 10, 12, 10: mean 10, SD 1.63299; 14 is 2.449 SD up, p from t(3) of 4 / (1.633 sqrt(1.25))."""
    found = own_change(np.array([8.0, 10, 12, 10]), 14.0)
    assert found.z == pytest.approx(4 / 1.6329932, abs=1e-6)
    assert found.p == pytest.approx(0.11613, abs=2e-4)
    assert found.z_low < found.z < found.z_high
    assert found.verdict == "no_reliable_change", "four sessions do not make 2.4 SD certain"
    assert own_change(np.array([8.0, 10, 12, 10]), 30.0).verdict == "changed_up"
    assert own_change(np.array([8.0, 10, 12, 10]), -10.0).verdict == "changed_down"


def test_refusals() -> None:
    assert own_change(np.array([1.0, 2, 3]), 9.0).verdict == "too_few_sessions"
    assert own_change(np.array([1.0, 2, 3, math.nan]), 9.0).n_sessions == 3
    assert own_change(np.array([1.0, 2, 3, 4]), math.nan).verdict == "no_value"
    assert own_change(np.array([2.0, 2, 2, 2]), 9.0).verdict == "no_spread"
    with pytest.raises(ValueError, match="measurement_sd"):
        own_change(np.array([1.0, 2, 3, 4]), 1.0, math.nan)


@pytest.mark.parametrize("n", [4, 8])
def test_intervals_hold_the_truth_95_times_in_100_and_chance_alarms_5_times(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = alarms = 0
    turns = 1500
    for _ in range(turns):
        found = own_change(rng.normal(20, 3, n), 20 + 3 * 1.5 + 0.0)
        hits += found.z_low <= 1.5 <= found.z_high
        alarms += own_change(rng.normal(20, 3, n), rng.normal(20, 3)).verdict != "no_reliable_change"
    assert hits / turns == pytest.approx(0.95, abs=0.02)
    assert alarms / turns == pytest.approx(0.05, abs=0.02)


def test_scale_shift_and_sign() -> None:
    base = np.array([3.0, 5, 4, 6, 5.5])
    one = own_change(base, 8.0)
    other = own_change(10 * base + 7, 87.0)
    minus = own_change(-base, -8.0)
    assert (other.z, other.p) == pytest.approx((one.z, one.p))
    assert (minus.z, minus.z_low, minus.z_high) == pytest.approx((-one.z, -one.z_high, -one.z_low))
    wide = own_change(base, 8.0, 2.0)
    assert wide.z == one.z and wide.p > one.p
    assert wide.z_high - wide.z_low > one.z_high - one.z_low


def test_reliable_change_index() -> None:
    """SD 10, r 0.8: a difference of two measurements has SE 10 sqrt(0.4) = 6.325."""
    found = reliable_change(np.array([30.0]), np.array([17.0]), 10.0, 0.8)
    assert found.index == pytest.approx(-13 / (10 * math.sqrt(0.4)))
    assert found.verdict == "changed_down"
    assert (found.low, found.high) == pytest.approx((-13 - 12.396, -13 + 12.396), abs=1e-3)
    assert reliable_change(np.array([30.0]), np.array([18.0]), 10.0, 0.8).verdict == "no_reliable_change"
    # Two baseline sessions: the error of a mean.
    two = reliable_change(np.array([29.0, 31.0]), np.array([18.0]), 10.0, 0.8)
    assert two.index == pytest.approx(-12 / (10 * math.sqrt(0.2 * 1.5)))
    assert two.verdict == "changed_down"
    assert reliable_change(np.array([math.nan]), np.array([1.0]), 1.0, 0.5).verdict == "no_value"
    for sd, r in ((0.0, 0.5), (math.nan, 0.5), (1.0, 1.0), (1.0, -0.1), (1.0, math.nan)):
        with pytest.raises(ValueError, match=r"cohort_sd|retest_r"):
            reliable_change(np.array([1.0]), np.array([2.0]), sd, r)


def test_retest_of_a_made_cohort_and_alarms_at_the_promised_rate() -> None:
    rng = np.random.default_rng(1)
    trait = rng.normal(0, math.sqrt(0.85), 4000)
    first, second = (trait + rng.normal(0, math.sqrt(0.15), 4000) for _ in range(2))
    found = retest(first, second)
    assert found.r == pytest.approx(0.85, abs=0.02)
    assert found.low < 0.85 < found.high
    assert found.sd == pytest.approx(1.0, abs=0.03)
    alarms = [
        reliable_change(np.array([a]), np.array([b]), found.sd, found.r).verdict != "no_reliable_change"
        for a, b in zip(first[:2000], second[:2000], strict=True)
    ]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)
    assert math.isnan(retest(np.array([1.0, 2, 3]), np.array([1.0, 2, 3])).r)
    with pytest.raises(ValueError, match="each person needs both"):
        retest(np.zeros(3), np.zeros(4))
