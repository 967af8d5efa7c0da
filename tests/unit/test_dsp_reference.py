"""What a reference takes a channel against when electrodes drop out: as near to what was asked for as can be, and said where it is not."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfilt

from dsp.derivation import Derivation, likeness
from dsp.electrodes import direction
from dsp.reference import Rereference
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


def sources(labels: tuple[str, ...], n: int, shared: float, seed: int) -> np.ndarray:
    """(n_channels, n): smooth potentials of sources everywhere, a rhythm of 10 Hz that all share, and a little noise of each electrode."""
    rng = np.random.default_rng(seed)
    at = np.array([direction(label) for label in labels])
    root = np.linalg.cholesky(likeness(np.clip(at @ at.T, -1, 1)) + 1e-3 * np.eye(len(labels)))
    rhythm = np.sin(2 * np.pi * 10 * np.arange(n) / RATE) * (1 + at[:, :1])
    return root @ rng.standard_normal((len(labels), n)) + shared * rhythm


@pytest.mark.parametrize(("labels", "out"), [(MONTAGE, ("P3",)), (NINETEEN, ("P3", "F4"))])
def test_an_average_keeps_its_middle_when_electrodes_drop_out(labels: tuple[str, ...], out: tuple[str, ...]) -> None:
    n = len(labels)
    average = Rereference(StreamInfo("t", "t", RATE, labels, ("eeg",) * n), "average", Grid.of(RATE, 0.1), np.ones(n, dtype=bool))
    bad = np.array([label in out for label in labels])
    x = sources(labels, 5000, 3.0, 1)
    whole = x - x.mean(0)
    plain = x - x[~bad].mean(0)
    for i in range(0, 5000, 25):
        average.apply(x[:, i : i + 25], bad)
    late = slice(1000, None)
    error = np.sqrt(np.mean((x[~bad, late] - whole[~bad, late]) ** 2))
    assert error < 0.8 * np.sqrt(np.mean((plain[~bad, late] - whole[~bad, late]) ** 2))
    np.testing.assert_allclose(average.map[~bad].sum(1), 0.0, atol=1e-9)


def test_the_person_s_own_past_says_what_no_model_can() -> None:
    """P3 holds a rhythm that no other electrode has: no interpolation knows it, and an eighth of it was in all others' average."""
    said = []
    for own_uv in (0.0, 30.0):
        average = Rereference(
            StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * 8), "average", Grid.of(RATE, 0.1), np.ones(8, dtype=bool)
        )
        x = sources(MONTAGE, 5025, 1.0, 4)
        x[4] += own_uv * np.sin(2 * np.pi * 10 * np.arange(5025) / RATE)
        for i in range(0, 5025, 25):
            average.apply(x[:, i : i + 25], np.arange(8) == (4 if i == 5000 else -1))
        said.append(average.far.tolist())
    assert not any(said[0])
    assert np.delete(said[1], 4).all()


def test_the_past_that_a_change_is_judged_by_is_as_small_at_every_rate() -> None:
    """It is judged where leases are renewed: 16 s of samples at 2 kHz would be 600 ms of 128 channels."""
    rng = np.random.default_rng(11)
    chord = np.full((8, 8), np.nan)
    eeg = np.ones(8, dtype=bool)
    coarse = sosfilt(butter(4, 40, fs=250.0, output="sos"), np.cumsum(rng.standard_normal((8, 4000)), axis=1))
    coarse += rng.standard_normal((8, 1)) * sosfilt(
        butter(4, (8, 12), "bandpass", fs=250.0, output="sos"), rng.standard_normal(4000)
    )
    fine = resample_poly(coarse, 8, 1, axis=1)
    asked = np.eye(8) - 1 / 8
    changed = np.eye(8) - np.where(np.arange(8) > 0, 1 / 7, 0.0)
    judged = []
    for x, rate in ((coarse, 250.0), (fine, 2000.0)):
        derivation = Derivation(chord, Grid.of(rate, 0.1), eeg)
        for block in np.split(x, 160, axis=1):
            derivation.take(block)
        assert derivation._past_bins(8).shape == (8, 8 * 90), "up to 45 Hz"
        judged.append(derivation.too_far(changed, asked))
    np.testing.assert_array_equal(judged[0], judged[1])


@pytest.mark.parametrize("kind", ["csd", "bipolar", "average"])
def test_two_labels_of_one_place_are_no_neighbors(kind: Literal["csd", "bipolar", "average"]) -> None:
    montage = ("Fp1", "T3", "T7", "Cz", "Pz", "O1", "O2", "C3", "C4")
    reference = Rereference(StreamInfo("t", "t", RATE, montage, ("eeg",) * 9), kind, Grid.of(RATE, 0.1), np.ones(9, dtype=bool))
    assert np.isfinite(reference.map).all()
    if kind != "average":
        assert not reference.map[1, 2] and not reference.map[2, 1]
        assert not reference.lacking.any()
    x = np.random.default_rng(3).standard_normal((9, 25))
    reference.apply(x, np.array([label == "T7" for label in montage]))
    assert np.isfinite(x).all()
