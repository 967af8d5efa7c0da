"""A swapped pair of electrodes is found by the head's own pattern, and another day of the same head is none (H14)."""

from __future__ import annotations

import time
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


def test_a_silent_channel_does_not_hide_a_swap_of_two_others() -> None:
    """Silent in the first session or now: it is left out, and the others are still compared."""
    reference, now = pattern(day(0)), pattern(exchanged(day(2), 2, 5))
    for silent in (reference, now):
        before = silent.copy()
        silent[7] = silent[:, 7] = np.nan
        swap = find_swap(reference, now)
        assert swap is not None and (swap.first, swap.second) == (2, 5)
        silent[:] = before


def test_where_too_few_channels_can_be_compared_it_says_so_and_blocks() -> None:
    reference = pattern(day(0))
    for silent in (1, 2, 3, 4, 6):
        reference[silent] = reference[:, silent] = np.nan
    later = fed(Placement(NAMES, RATE_HZ, (NAMES, reference)), day(2))
    assert later.finding is not None and "Only 3 of 8 channels" in later.finding.text


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("left_for", ["off", "stopped", "screen"])
def test_what_was_found_does_not_keep_the_next_session_from_the_contact(left_for: str, swapped: bool) -> None:
    """The screening goes on only without a finding: one from a contact that was left early would stay until a restart."""
    later = Placement(NAMES, RATE_HZ, (NAMES, pattern(day(0))))
    fed(later, exchanged(day(2), 2, 5) if swapped else day(2)[:500])
    assert later.finding is not None
    later.feed(left_for, chunks(day(2))[0])
    assert later.finding is None
    later.feed("contact", chunks(day(2))[0])
    assert later.finding is not None and "being compared" in later.finding.text, "it is looked at again"


def test_64_channels_do_not_hold_the_loop_up() -> None:
    """Asked every second on the thread that renews other seats' leases: 1.2 s when each pair was a turn of a Python loop."""
    mixed = np.random.default_rng(0).normal(size=(64, 64))
    products = mixed @ mixed.T
    sizes = np.sqrt(np.diag(products))
    reference = products / np.outer(sizes, sizes)
    order = [*range(10), 40, *range(11, 40), 10, *range(41, 64)]
    now = reference[np.ix_(order, order)]
    took_s = []
    for _ in range(5):
        begun_s = time.thread_time()
        swap = find_swap(reference, now)
        took_s.append(time.thread_time() - begun_s)
    assert swap is not None and (swap.first, swap.second) == (10, 40)
    assert min(took_s) < 0.05, took_s


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
