"""A swapped pair of electrodes is found by the head's own pattern, and another day of the same head is none (H14)."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.placement import Placement, kept_pattern, read_pattern
from dsp.signature import LEAST_S, Pattern, add, correlations, find_swap
from eegloop.signal import Chunk
from simulators.brain import Brain
from simulators.settings import BrainSettings

NAMES = BrainSettings().montage
RATE_HZ = 250.0


@cache
def day(seed: int) -> NDArray[np.float32]:
    """20 s of the virtual head, another day for each seed, eyes open or closed."""
    return Brain(BrainSettings(seed=seed, eyes="closed" if seed % 2 else "open")).advance(5_000)


def pattern(data: NDArray[np.float32]) -> NDArray[np.float64]:
    found = correlations(add(Pattern(), data, RATE_HZ))
    assert found is not None
    return found


def exchanged(data: NDArray[np.float32], i: int, j: int) -> NDArray[np.float32]:
    order = list(range(data.shape[1]))
    order[i], order[j] = j, i
    return data[:, order]


def test_another_day_is_no_swap_and_a_swap_is_found_by_name() -> None:
    reference = pattern(day(0))
    found = tried = 0
    for seed in range(1, 7):
        assert find_swap(reference, pattern(day(seed))) is None, f"day {seed}"
        for i, j in combinations(range(len(NAMES)), 2):
            swap = find_swap(reference, pattern(exchanged(day(seed), i, j)))
            tried += 1
            found += swap is not None and (swap.first, swap.second) == (i, j)
    assert found >= 0.8 * tried, f"{found} of {tried}"


def test_too_little_silence_and_strangers_say_nothing() -> None:
    assert correlations(Pattern()) is None
    assert correlations(add(Pattern(), day(0)[: round((LEAST_S - 2) * RATE_HZ)], RATE_HZ)) is None
    reference = pattern(day(0))
    dead = day(1).copy()
    dead[:, 2] = 0.0
    assert find_swap(reference, pattern(dead)) is None
    assert find_swap(reference[:3, :3], reference[:3, :3]) is None
    assert find_swap(reference, reference[:5, :5]) is None
    assert add(Pattern(), np.full((5_000, 8), np.nan, np.float32), RATE_HZ).products is None


def chunks(data: NDArray[np.float32]) -> list[Chunk]:
    return [Chunk(data[n : n + 5], n, n / RATE_HZ, n / RATE_HZ) for n in range(0, len(data), 5)]


def fed(placement: Placement, data: NDArray[np.float32], phase: str = "contact") -> Placement:
    for chunk in chunks(data):
        placement.feed(phase, chunk)
    return placement


def test_swapped_channels_are_refused_until_they_are_put_right() -> None:
    first = fed(Placement(NAMES, RATE_HZ), day(0))
    assert first.finding is None and first.newest is not None
    reference = read_pattern(kept_pattern(NAMES, first.newest, 0.0))
    later = Placement(NAMES, RATE_HZ, reference)
    later.feed("contact", chunks(day(2))[0])
    assert later.finding is not None and "being compared" in later.finding.text, "nothing begins before it was looked at"
    fed(later, exchanged(day(2), 2, 5))
    assert later.finding is not None and later.finding.item == "F3-P4" and "F3 and P4 look exchanged" in later.finding.text
    fed(later, day(2))
    assert later.finding is None
    fed(later, exchanged(day(2), 2, 5), phase="on")
    assert later.finding is None, "under stimulation nothing is compared"


@pytest.mark.parametrize("channels", [NAMES[:4], (*NAMES[:7], "Oz")])
def test_another_headset_is_refused_by_name(channels: tuple[str, ...]) -> None:
    later = Placement(channels, RATE_HZ, (NAMES, pattern(day(0))))
    fed(later, day(1)[:, : len(channels)])
    assert later.finding is not None and later.finding.item == "channels" and NAMES[0] in later.finding.text
