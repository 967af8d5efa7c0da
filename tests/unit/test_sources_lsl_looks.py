"""When an inlet is looked into: at its own best moment while there are few, on a common grid that grows with their number."""

from __future__ import annotations

import pytest

from drivers.sources.lsl import COARSEST_S, CROWD, GRID_S, _Wakeups


def looks(open_sources: int, seconds: float = 4.0, period_s: float = 0.02, lag_s: float = 0.001) -> tuple[int, float]:
    """A sender's deliveries, one every `period_s`, through `_Wakeups`: how many looks, and how long the last second's waited."""
    wakeups, now_s, n, seen = _Wakeups(0.0), 0.0, 0, 0
    waited: list[float] = []
    while now_s < seconds:
        now_s = max(wakeups.next_s(now_s, open_sources), now_s)
        n += 1
        there = int((now_s - lag_s) / period_s)
        if there > seen:
            waited += [now_s - lag_s - i * period_s for i in range(seen + 1, there + 1) if now_s > seconds - 1.0]
            seen = there
            wakeups.heard(now_s, there * period_s)
    return n, max(waited)


@pytest.mark.parametrize("open_sources", [1, CROWD - 1])
def test_few_inlets_wait_for_nothing(open_sources: int) -> None:
    n, waited_s = looks(open_sources)
    assert waited_s < 0.003 and n < 450


@pytest.mark.parametrize("open_sources", [40, 60, 100, 256])
def test_a_crowd_waits_one_step_of_the_grid_at_most_and_is_looked_into_once_a_step(open_sources: int) -> None:
    grid_s = min(GRID_S * open_sources, COARSEST_S)
    n, waited_s = looks(open_sources)
    assert waited_s <= grid_s + 0.003
    assert n <= 4.0 / grid_s + 8
