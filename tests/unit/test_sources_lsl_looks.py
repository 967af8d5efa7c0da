"""When an inlet is looked into: at its own best moment while there are few, on a common grid that grows with their number."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.clock import MachineClock
from drivers.sources.clock import SampleClock
from drivers.sources.lsl import COARSEST_S, CROWD, GRID_S, LslSource, Settings, _Wakeups
from drivers.sources.lsl_inlet import StreamHeader
from eegloop.signal import StreamInfo


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


@pytest.mark.parametrize("stamp", [np.nan, np.inf, -np.inf, 1e308])
def test_stamps_that_are_no_times_are_those_of_arrival(stamp: float) -> None:
    """A broken sender's: else the next look is never, the chunk is at no time, and a quarter million samples are called lost."""
    info = StreamInfo("n", "id", 250.0, ("Cz",), ("eeg",), 0.0, "n/a", "n/a", "host")
    source = LslSource(Settings(), MachineClock())
    source._header = StreamHeader(info, "EEG", "uid", ("µV",), (1.0,), True, {})
    samples, wakeups, now_s, chunks = SampleClock(250.0), _Wakeups(100.0), 100.0, []
    for turn in range(60):
        now_s += 0.02
        stamps_s = now_s - 0.004 * np.arange(4, -1, -1)
        if 20 <= turn < 30:
            stamps_s[turn % 5 :] = stamp
        data = np.full((5, 1), turn, np.float32)
        stamps_s = source._times(stamps_s, 0.0, now_s)
        wakeups.heard(now_s, float(stamps_s[-1]))
        assert now_s < wakeups.next_s(now_s, 1) < now_s + 0.2
        chunks += source._place(data, stamps_s, 0.0, now_s, samples)
    assert [chunk.t0_s for chunk in chunks] == pytest.approx([100.004 + 0.02 * i for i in range(60)], abs=0.002)
    assert sum(chunk.lost_samples for chunk in chunks) == 0 and chunks[-1].first_sample == 295
