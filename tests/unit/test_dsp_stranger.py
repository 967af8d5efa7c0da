"""Electrodes that show no head, under an average reference: found, and no other one is taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from dsp.contact import Contact
from dsp.derivation import likeness
from dsp.electrodes import POSITIONS
from dsp.stranger import FORETOLD, Strangers
from eegloop.signal import F64, Bool, StreamInfo
from simulators.brain import Brain, BrainSettings

RATE = 250
EIGHT = ("Fp1", "Fp2", "F3", "F4", "P3", "P4", "O1", "O2")
NINETEEN = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip
LENGTH = 5 * RATE // 2


def recorded(labels: tuple[str, ...], strangers: tuple[str, ...], seed: int) -> np.ndarray:
    """(n, n_channels) µV against the electrodes' own average; a stranger's signal has a head's spectrum and size, but comes from nowhere."""
    plant = Brain(
        BrainSettings(
            seed=seed, montage=labels, clenches_per_min=0, pops_per_min=0, blinks_per_min=0, saccades_per_min=0, line_uv=0.0
        )
    )
    x = np.vstack([plant.advance(RATE) for _ in range(34)]).astype(float)
    x = sosfilt(butter(2, (1, 45), "bandpass", fs=RATE, output="sos"), x - x[0], axis=0)[4 * RATE :]
    rng = np.random.default_rng(seed)
    for label in strangers:
        k = labels.index(label)
        spectrum = np.fft.rfft(x[:, k])
        other = np.fft.irfft(np.abs(spectrum) * np.exp(1j * rng.uniform(0, 2 * np.pi, len(spectrum))), len(x))
        x[:, k] = other
    return x - x.mean(1, keepdims=True)


def info(labels: tuple[str, ...]) -> StreamInfo:
    return StreamInfo("t", "t", RATE, labels, ("eeg",) * len(labels))


@pytest.mark.parametrize(
    ("labels", "strangers"),
    [(EIGHT, ()), (EIGHT, ("P3",)), (EIGHT, ("Fp2",)), (NINETEEN, ()), (NINETEEN, ("Cz",)), (NINETEEN, ("F7", "P4"))],
)
def test_strangers_are_found_in_an_average_of_few_and_nobody_else(labels: tuple[str, ...], strangers: tuple[str, ...]) -> None:
    n = len(labels)
    contact = Contact(info(labels), np.ones(n, dtype=bool), None)
    x = recorded(labels, strangers, 3)
    for i in range(0, len(x) - LENGTH, LENGTH):
        part = x[i : i + LENGTH].T
        steps = np.diff(part, axis=1)
        contact.stretch(part @ part.T, np.mean(steps**2, axis=1), np.zeros(n), np.zeros(n), None, None)
    assert {label for label, odd in zip(labels, contact.disagrees, strict=True) if odd} == set(strangers)


def test_what_reference_there_is_makes_no_difference() -> None:
    x = recorded(NINETEEN, ("T8",), 5)[:LENGTH].T
    alive = np.ones(19, dtype=bool)
    found = []
    for common in (np.zeros(LENGTH), x[4], 500 * np.random.default_rng(0).standard_normal(LENGTH)):
        y = x - common
        strangers = Strangers(info(NINETEEN))
        found.append(strangers.agreement(y @ y.T / 1e3, alive))
    np.testing.assert_allclose(found[1], found[0], atol=1e-9)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
    assert found[0][11] < FORETOLD
    assert (np.delete(found[0], 11) >= FORETOLD).all()


def test_a_channel_without_place_or_life_is_not_judged_and_moves_nobody() -> None:
    x = recorded(NINETEEN, (), 6)[:LENGTH].T
    labels = (*NINETEEN[:18], "E1")
    y = x.copy()
    y[18] = 1000 * np.random.default_rng(1).standard_normal(LENGTH)
    alive = np.ones(19, dtype=bool)
    alive[3] = False
    found = Strangers(info(labels)).agreement(y @ y.T, alive)
    assert found[18] == 0.0 and found[3] == 0.0
    assert (np.delete(found, [3, 18]) >= FORETOLD).all()


def test_a_headset_on_no_head_makes_nobody_a_stranger_and_takes_no_time() -> None:
    """Noise of its own at each of 64 electrodes: nobody is foretold by anybody, and no electrode is tried."""
    labels = tuple(label for label in POSITIONS if label not in ("T9", "T10"))[:64]
    strangers = Strangers(info(labels))
    tried: list[int] = []
    inverse = strangers._rows_of

    def counted(trusted: Bool) -> tuple[F64, F64]:
        tried.append(int(trusted.sum()))
        return inverse(trusted)

    strangers._rows_of = counted  # type: ignore[method-assign]
    y = np.random.default_rng(5).standard_normal((64, 600))
    y -= y.mean(0)
    found = strangers.agreement(y @ y.T, np.ones(64, dtype=bool))
    assert (found == 1.0).all()
    assert set(tried) == {64}, "the costly part is not begun"


def test_tries_are_few_where_each_is_costly() -> None:
    labels = tuple(label for label in POSITIONS if label not in ("T9", "T10"))
    strangers = Strangers(info(labels))
    at = np.array([POSITIONS[label] for label in labels])
    rng = np.random.default_rng(6)
    at /= np.linalg.norm(at, axis=1, keepdims=True)
    root = np.linalg.cholesky(likeness(np.clip(at @ at.T, -1, 1)) + 1e-3 * np.eye(len(at)))
    x = root @ rng.standard_normal((len(at), 2500))
    x[::5] = rng.standard_normal((len(x[::5]), 2500))  # a fifth are strangers
    x -= x.mean(0)
    made: list[bytes] = []
    inverse = strangers._rows_of

    def counted(trusted: Bool) -> tuple[F64, F64]:
        made.append(trusted.tobytes())
        return inverse(trusted)

    strangers._rows_of = counted  # type: ignore[method-assign]
    strangers.agreement(x @ x.T, np.ones(len(at), dtype=bool))
    assert len(made) <= 2 * (2 + 1e7 / len(at) ** 3), len(made)


def test_channels_without_a_place_cost_nothing() -> None:
    """A net of 128 of which a third have 10-10 names: what is multiplied and kept is of these alone."""
    labels = (*NINETEEN, *(f"E{i}" for i in range(109)))
    strangers = Strangers(info(labels))
    x = np.random.default_rng(7).standard_normal((128, LENGTH))
    x[:19] = recorded(NINETEEN, ("Cz",), 3)[:LENGTH].T
    alive = np.ones(128, dtype=bool)
    found = strangers.agreement(x @ x.T, alive)
    alone = Strangers(info(NINETEEN)).agreement(x[:19] @ x[:19].T, alive[:19])
    np.testing.assert_allclose(found, np.concatenate((alone, np.zeros(109))), atol=1e-9)
    assert {rows.shape for pair in strangers._rows.values() for rows in pair} == {(19, 19)}
