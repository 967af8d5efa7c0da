"""When an inlet is looked into: at its own best moment while there are few, at common moments in a crowd, once every two hops among many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from daemon.clock import MachineClock
from drivers.sources.clock import SampleClock
from drivers.sources.lsl import LslSource, Settings
from drivers.sources.lsl_inlet import StreamHeader
from drivers.sources.lsl_looks import BEAT_S, CROWD, DENSE, QUARTER_S, Wakeups, step_s
from eegloop.many import MANY
from eegloop.signal import StreamInfo

RATE_HZ = 250.0


def looks(
    open_sources: int, chunk: int = 5, lag_s: float = 0.001, phase_s: float = 0.0, drift: float = 0.0, seconds: float = 4.0
) -> tuple[int, float, float]:
    """A sender's deliveries of `chunk` samples through `Wakeups`.

    Returns how many looks, how long the last second's oldest sample waited for its look after it was delivered, and how long the last
    second's ends of two hops did, s.
    """
    wakeups, now_s, n, seen = Wakeups(0.0, RATE_HZ), 0.0, 0, 0
    period_s = (1.0 + drift) / RATE_HZ
    waited, hops_waited = [0.0], [0.0]
    while now_s < seconds:
        now_s = max(wakeups.next_s(now_s, open_sources), now_s)
        n += 1
        there = max(0, int((now_s - lag_s - phase_s) / (chunk * period_s))) * chunk
        if there > seen:
            for end in range(seen + chunk, there + 1, chunk):
                if now_s > seconds - 1.0:
                    late_s = now_s - lag_s - phase_s - end * period_s
                    waited.append(late_s)
                    pair = round(BEAT_S * RATE_HZ)
                    if end // pair > (end - chunk) // pair:  # this delivery brings the end of two hops
                        hops_waited.append(late_s)
            seen = there
            wakeups.heard(now_s, phase_s + there * period_s, there)
    return n, max(waited), max(hops_waited)


@pytest.mark.parametrize("open_sources", [1, CROWD - 1])
def test_few_inlets_wait_for_nothing(open_sources: int) -> None:
    n, waited_s, _ = looks(open_sources)
    assert waited_s < 0.003 and n < 450


@pytest.mark.parametrize("open_sources", [CROWD, DENSE - 1, DENSE, MANY - 1])
@pytest.mark.parametrize("chunk", [1, 4, 5])
def test_a_crowd_waits_one_step_at_most_and_is_looked_into_once_a_step(open_sources: int, chunk: int) -> None:
    n, waited_s, _ = looks(open_sources, chunk)
    assert waited_s <= step_s(open_sources) + 0.001
    assert n <= 4.0 / step_s(open_sources) + 2


@pytest.mark.parametrize("open_sources", [MANY, 100, 256])
@pytest.mark.parametrize("chunk", [1, 4, 5, 8])
@pytest.mark.parametrize("phase_s", [0.0, 0.0071, 0.019, 0.055, 0.0931])
@pytest.mark.parametrize("drift", [0.0, 2e-3, -2e-3])
def test_among_many_two_hops_are_taken_up_soon_after_their_last_sample(
    open_sources: int, chunk: int, phase_s: float, drift: float
) -> None:
    n, waited_s, hop_waited_s = looks(open_sources, chunk, phase_s=phase_s, drift=drift)
    assert waited_s <= BEAT_S + QUARTER_S
    assert hop_waited_s <= QUARTER_S + chunk / RATE_HZ
    assert n <= 4.0 / BEAT_S * 1.4 + 5


def test_an_inlet_that_gives_nothing_is_looked_into_at_every_moment() -> None:
    """So that samples that come back are seen at once, and a loss is noticed in time."""
    wakeups = Wakeups(0.0, RATE_HZ)
    wakeups.heard(0.1, 0.09, 25)
    at_s = [0.1]
    for _ in range(20):
        at_s.append(wakeups.next_s(at_s[-1], MANY))
    assert at_s[1] == pytest.approx(0.2)  # the pair's second half has come by then
    assert all(later - earlier == pytest.approx(QUARTER_S) for earlier, later in pairwise(at_s[1:]))


def test_a_timer_that_is_early_does_not_look_twice() -> None:
    wakeups = Wakeups(0.0, RATE_HZ)
    wakeups.heard(0.0995, 0.09, 25)
    assert wakeups.next_s(0.0995, MANY) == pytest.approx(0.2)
    wakeups.heard(0.1995, 0.19, 50)
    assert wakeups.next_s(0.1995, MANY) == pytest.approx(0.4)
    wakeups.heard(0.3995, 0.39, 100)
    assert wakeups.next_s(0.3995, CROWD) == pytest.approx(0.42)


@pytest.mark.parametrize("stamp", [np.nan, np.inf, -np.inf, 1e308])
def test_stamps_that_are_no_times_are_those_of_arrival(stamp: float) -> None:
    """A broken sender's: else the next look is never, the chunk is at no time, and a quarter million samples are called lost."""
    info = StreamInfo("n", "id", 250.0, ("Cz",), ("eeg",), 0.0, "n/a", "n/a", "host")
    source = LslSource(Settings(), MachineClock())
    source._header = StreamHeader(info, "EEG", "uid", ("µV",), (1.0,), True, {})
    samples, wakeups, now_s, chunks = SampleClock(250.0), Wakeups(100.0, 250.0), 100.0, []
    for turn in range(60):
        now_s += 0.02
        stamps_s = now_s - 0.004 * np.arange(4, -1, -1)
        if 20 <= turn < 30:
            stamps_s[turn % 5 :] = stamp
        data = np.full((5, 1), turn, np.float32)
        stamps_s = source._times(stamps_s, 0.0, now_s)
        wakeups.heard(now_s, float(stamps_s[-1]), samples.next_sample)
        assert now_s < wakeups.next_s(now_s, 1) < now_s + 0.2
        chunks += source._place(data, stamps_s, 0.0, now_s, samples)
    assert [chunk.t0_s for chunk in chunks] == pytest.approx([100.004 + 0.02 * i for i in range(60)], abs=0.002)
    assert sum(chunk.lost_samples for chunk in chunks) == 0 and chunks[-1].first_sample == 295
