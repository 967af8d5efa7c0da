"""However the time is cut into calls, the virtual brain gives the same samples and the same hidden states, bit for bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.brain import Brain, BrainSettings, Stimulation, Truth

SETTINGS = BrainSettings(
    seed=21, blinks_per_min=30, movements_per_min=10, clenches_per_min=10, pops_per_min=20, sample_rate_hz=128
)
# what flows until which sample; the stretches of 512 samples end inside these spans
PROGRAM = (
    (300, Stimulation()),
    (700, Stimulation(amplitude_ma=1.3)),
    (1100, Stimulation(amplitude_ma=0.7, frequency_hz=10.3, phase_rad=1.0)),
    (1300, Stimulation(pulses=(1111, 1150, 1151, 1299))),
    (1700, Stimulation()),
)
END = PROGRAM[-1][0]


def play(cuts: set[int], prepare: bool) -> tuple[np.ndarray, list[Truth]]:
    brain = Brain(SETTINGS)
    parts, truths = [], []
    edges = sorted({*cuts, *(end for end, _ in PROGRAM)})
    for edge in edges:
        stimulation = next(current for end, current in PROGRAM if brain.sample < end)
        if prepare:
            brain.prepare()
        parts.append(brain.advance(edge - brain.sample, stimulation))
        truths.append(brain.truth())
    return np.vstack(parts), truths


WHOLE, WHOLE_TRUTHS = play(set(), prepare=False)


def joined(truths: list[Truth], name: str) -> np.ndarray:
    return np.concatenate([getattr(truth, name) for truth in truths])


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, END - 1), max_size=60), prepare=st.booleans())
def test_cuts_change_nothing(cuts: set[int], prepare: bool) -> None:
    samples, truths = play(cuts, prepare)
    np.testing.assert_array_equal(samples, WHOLE)
    for field in fields(Truth):
        if field.name not in ("first_sample", "sample_rate_hz", "regions", "events"):
            np.testing.assert_array_equal(joined(truths, field.name), joined(WHOLE_TRUTHS, field.name), err_msg=field.name)
    assert [e for truth in truths for e in truth.events] == [e for truth in WHOLE_TRUTHS for e in truth.events]


def test_sample_by_sample() -> None:
    samples, _ = play(set(range(1, END)), prepare=False)
    np.testing.assert_array_equal(samples, WHOLE)
