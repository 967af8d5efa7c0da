"""Artifact subspaces on many kinds of artifacts, channel counts and rates: what is left of them, and that calm signal stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.asr import ArtifactSubspace
from dsp.derivation import likeness
from dsp.window import Grid

CALIBRATION_S = 20.0
CALM_S, SECONDS = 26.0, 34
TIMES_S = (26.0, 30.0)
LASTS_S = 1.5


def calm(channels: int, rate: float, seed: int) -> np.ndarray:
    """(n_channels, n) µV below 40 Hz that neighbors share: half a second of it holds 40 independent samples, however many channels there are."""
    rng = np.random.default_rng(seed)
    at = rng.standard_normal((channels, 3))
    at /= np.linalg.norm(at, axis=1, keepdims=True)
    root = np.linalg.cholesky(likeness(np.clip(at @ at.T, -1, 1)) + 0.01 * np.eye(channels))
    n = int(SECONDS * rate)
    frequency = np.fft.rfftfreq(n, 1 / rate)
    shape = np.where((frequency > 1) & (frequency < 40), 1 / np.sqrt(np.maximum(frequency, 1.0)), 0.0)
    sources = np.fft.irfft(np.fft.rfft(rng.standard_normal((channels, n)), axis=1) * shape, n, axis=1)
    return np.asarray(10 * root @ (sources / sources.std()))


def artifact(kind: str, channels: int, rate: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(int(SECONDS * rate)) / rate
    y = np.zeros((channels, len(t)))
    for at in TIMES_S:
        since = t - at
        during = (since >= 0) & (since < LASTS_S)
        if kind == "wave":
            y += np.outer(rng.standard_normal(channels), 70 * np.sin(2 * np.pi * 6 * since) * during)
        elif kind == "movement":
            y += np.outer(rng.standard_normal(channels), 150 * np.sin(2 * np.pi * 1.3 * since) * during)
        elif kind == "pop":
            y[rng.integers(channels)] += np.where(since >= 0, 400 * np.exp(-np.maximum(since, 0) / 0.3), 0.0)
        elif kind == "two at once":
            y += np.outer(rng.standard_normal(channels), 60 * np.sin(2 * np.pi * 3 * since) * during)
            y += np.outer(rng.standard_normal(channels), 60 * np.cos(2 * np.pi * 4.3 * since) * during)
        else:
            y[rng.integers(channels)] += 120 * rng.standard_normal(len(t)) * during
    return y


def corrected(x: np.ndarray, rate: float, hop_s: float = 0.1) -> np.ndarray:
    grid = Grid.of(rate, hop_s)
    subspace = ArtifactSubspace(grid, np.ones(len(x), dtype=bool), 20.0, CALIBRATION_S)
    y, block = x.copy(), 1
    while grid.block_end(block) <= x.shape[1]:
        part = slice(grid.block_end(block - 1), grid.block_end(block))
        piece = y[:, part]
        subspace.apply(piece, True)
        y[:, part] = piece
        block += 1
    assert subspace.calibrated
    return y


@pytest.mark.parametrize(
    ("kind", "channels", "rate", "averaged", "left"),
    [
        ("wave", 8, 125.0, False, 0.2),
        ("movement", 8, 250.0, False, 0.2),
        ("pop", 19, 250.0, False, 0.35),
        ("two at once", 19, 500.0, False, 0.25),
        ("noise", 32, 250.0, False, 0.4),
        ("wave", 19, 250.0, True, 0.2),
        ("pop", 8, 250.0, True, 0.45),
        ("wave", 64, 1000.0, False, 0.2),
    ],
)
def test_most_of_an_artifact_goes_and_calm_signal_stays(
    kind: str, channels: int, rate: float, averaged: bool, left: float
) -> None:
    x, loud = calm(channels, rate, 1), artifact(kind, channels, rate, 2)
    if averaged:  # one direction without any power
        x, loud = x - x.mean(0), loud - loud.mean(0)
    y = corrected(x + loud, rate)
    assert np.isfinite(y).all()
    before = slice(int(CALIBRATION_S * rate), int(CALM_S * rate) - int(0.1 * rate))
    np.testing.assert_array_equal(y[:, before], x[:, before])
    t = np.arange(x.shape[1]) / rate
    during = np.logical_or.reduce([(t >= at) & (t < at + LASTS_S) for at in TIMES_S])
    error, was = (np.sqrt(np.mean(z[:, during] ** 2)) for z in (y - x, loud))
    assert error < left * was, error / was


def test_a_calibration_that_holds_some_artifacts_still_corrects() -> None:
    x, loud = calm(19, 250.0, 3), artifact("wave", 19, 250.0, 4)
    gain = np.random.default_rng(5).standard_normal(19)
    t = np.arange(x.shape[1]) / 250.0
    dirty = np.outer(gain, 70 * np.sin(2 * np.pi * 5 * t) * ((t % 5 < 1) & (t < CALIBRATION_S)))  # a fifth of the time
    y = corrected(x + loud + dirty, 250.0)
    during = np.logical_or.reduce([(t >= at) & (t < at + LASTS_S) for at in TIMES_S])
    assert np.sqrt(np.mean((y - x)[:, during] ** 2)) < 0.25 * np.sqrt(np.mean(loud[:, during] ** 2))
