"""A packet counter is believed only when it is understood."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.sources.clock import Counter, SampleClock
from drivers.sources.counters import CounterFinder


def cut(counts: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    out, at, i = [], 0, 0
    while at < len(counts):
        out.append(counts[at : at + sizes[i % len(sizes)]].astype(np.int64))
        at, i = at + sizes[i % len(sizes)], i + 1
    return out


@settings(max_examples=50, deadline=None)
@given(
    modulus=st.integers(16, 1000),
    step=st.integers(1, 3),
    start=st.integers(0, 5000),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_a_regular_counter_is_found_however_it_is_cut(modulus: int, step: int, start: int, sizes: list[int]) -> None:
    finder = CounterFinder()
    counts = (np.arange(start, start + 6 * modulus) % modulus) * step
    found = [c for part in cut(counts, sizes) if (c := finder.look(part)) is not None]
    assert found and found[0] == Counter(modulus * step, step)


@pytest.mark.parametrize(
    "counts",
    [
        np.repeat(np.arange(4000), 12) % 256,  # a Muse: twelve samples a packet
        np.arange(20_000),  # never turns
        np.zeros(5000),
        np.random.default_rng(1).integers(0, 256, 20_000),
        np.concatenate([np.arange(n % 50 + 40) for n in range(300)]),  # turns of every length
        np.delete(np.arange(20_000), np.arange(0, 20_000, 500)) % 256,  # losses in every other turn
    ],
    ids=["repeats", "endless", "zero", "random", "irregular", "lossy"],
)
def test_a_counter_that_is_not_understood_is_left_alone(counts: np.ndarray) -> None:
    finder = CounterFinder()
    assert all(finder.look(part) is None for part in cut(counts, [7, 30]))


def test_losses_are_exact_once_it_is_found() -> None:
    finder, clock = CounterFinder(), SampleClock(500.0)
    index = np.delete(np.arange(6000), np.arange(4000, 4090))
    chunks = []
    rng = np.random.default_rng(3)
    for part in np.split(index, range(10, len(index), 10)):
        stamps = 100.0 + part / 500.0 + rng.uniform(0.0, 0.02)
        if clock.counter is None:
            clock.counter = finder.look((part % 128).astype(np.int64))
        chunks += clock.feed(part[:, None].astype(np.float32), stamps, float(stamps[-1]), (part % 128).astype(np.int64))
    assert clock.counter == Counter(128) and clock.lost_samples == 90
    assert all(int(c.data_uv[0, 0]) == c.first_sample for c in chunks)
