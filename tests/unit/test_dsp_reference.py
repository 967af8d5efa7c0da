"""What a reference takes a channel against when electrodes drop out: as near to what was asked for as can be, and said where it is not."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from dsp.electrodes import direction
from dsp.reference import Rereference, likeness
from dsp.window import Grid
from eegloop.signal import StreamInfo

RATE = 250.0
MONTAGE = ("Fp1", "Fp2", "F3", "F4", "P3", "P4", "O1", "O2")
NINETEEN = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip


def test_a_neighbor_that_is_out_is_interpolated_from_the_good_ones() -> None:
    eeg = np.ones(19, dtype=bool)
    csd = Rereference(StreamInfo("t", "t", RATE, NINETEEN, ("eeg",) * 19), "csd", Grid.of(RATE, 0.1), eeg)
    at = np.array([direction(label) for label in NINETEEN])
    rng = np.random.default_rng(2)
    smooth = (at @ rng.standard_normal((3, 25))) + rng.standard_normal(25) * 50  # a tilted potential, and one that is everywhere
    whole, gone = smooth.copy(), smooth.copy()
    bad = np.zeros(19, dtype=bool)
    csd.apply(whole, bad)
    bad[[8, 13]] = True
    gone[bad] = 1e4  # nobody looks at them
    for _ in range(6):
        x = gone.copy()
        csd.apply(x, bad)
    others = np.flatnonzero(~bad)
    np.testing.assert_allclose(csd.map[others].sum(1), 0.0, atol=1e-9)
    assert not csd.map[np.ix_(others, np.flatnonzero(bad))].any()
    assert np.abs(x[others] - whole[others]).max() < 0.1 * np.abs(whole).max(), "what is smooth hardly needs the two"


def test_likeness_falls_with_the_angle() -> None:
    angles = np.radians([0.0, 12.0, 20.0, 40.0, 60.0, 180.0])
    found = likeness(np.cos(angles))
    assert found[0] == pytest.approx(1.0)
    assert (np.diff(found[:5]) < 0).all() and 0.9 < found[1] < 0.96 and 0.55 < found[3] < 0.68
    points = np.random.default_rng(0).standard_normal((40, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.linalg.eigvalsh(likeness(np.clip(points @ points.T, -1, 1))).min() > -1e-12, "a correlation of something"


@pytest.mark.parametrize(
    ("kind", "montage", "out", "far"),
    [
        ("average", MONTAGE, ("P3",), False),
        ("average", ("AF7", "AF8", "TP9", "TP10"), ("TP9",), True),  # a third of what is left instead of a fourth
        ("average", tuple(f"E{i}" for i in range(16)), ("E3",), False),
        ("average", tuple(f"E{i}" for i in range(4)), ("E3",), True),
        ("csd", NINETEEN, ("P3",), True),
        ("bipolar", NINETEEN, ("O2",), True),
    ],
)
def test_a_channel_that_is_taken_against_something_else_says_so(
    kind: Literal["average", "csd", "bipolar"], montage: tuple[str, ...], out: tuple[str, ...], far: bool
) -> None:
    n = len(montage)
    reference = Rereference(StreamInfo("t", "t", RATE, montage, ("eeg",) * n), kind, Grid.of(RATE, 0.1), np.ones(n, dtype=bool))
    bad = np.array([label in out for label in montage])
    reference.apply(np.zeros((n, 25)), np.zeros(n, dtype=bool))
    assert not reference.far.any()
    reference.apply(np.zeros((n, 25)), bad)
    assert reference.far.any() == far, "from the first block on"
    said = 0
    for _ in range(200):
        reference.apply(np.zeros((n, 25)), np.zeros(n, dtype=bool))
        said += bool(reference.far.any())
    assert said == (49 + 5 if far else 0), "five good seconds, of which one block was the first, and half a second of fading"
    assert not reference.far.any()
