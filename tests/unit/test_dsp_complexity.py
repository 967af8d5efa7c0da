"""Complexity and entropy: the published vectors, antropy as an independent implementation, and the columns."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import lempel_ziv, permutation_entropy, spectral_entropy
from dsp.complexity import lempel_ziv as lz
from dsp.complexity import lempel_ziv_phrases
from dsp.complexity import permutation_entropy as pe
from dsp.complexity import spectral_entropy as se
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Chunk, StreamInfo


def test_lempel_ziv_vectors() -> None:
    text = "0001101001000101"
    assert lempel_ziv_phrases(text) == 6
    assert lempel_ziv_phrases(text) * np.log2(16) / 16 == 1.5
    assert lempel_ziv_phrases("0" * 40) == 2
    rng = np.random.default_rng(0)
    assert 1.0 < np.mean([lz(rng.standard_normal(1000)) for _ in range(20)]) < 1.1


@pytest.mark.parametrize("seed", range(5))
def test_against_antropy(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Half a thousand samples: compiling antropy takes hundreds of times longer than interpreting it.
    monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", True)
    antropy = pytest.importorskip("antropy")
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.standard_normal(500))
    bits = "".join("1" if v > np.median(x) else "0" for v in x)
    assert lempel_ziv_phrases(bits) == antropy.lziv_complexity(bits, normalize=False)
    assert pe(x, 3, 1) == pytest.approx(antropy.perm_entropy(x, order=3, delay=1), abs=1e-12)
    assert pe(x, 4, 2) == pytest.approx(antropy.perm_entropy(x, order=4, delay=2), abs=1e-12)


def test_permutation_entropy_vectors() -> None:
    x = np.array([4.0, 7, 9, 10, 6, 11, 3])
    assert pe(x, 2, 1) == pytest.approx(0.918296, abs=1e-6)
    assert pe(x, 3, 1) == pytest.approx(1.521928, abs=1e-6)
    assert np.isnan(pe(x, 3, 5))


def test_spectral_entropy_vectors() -> None:
    assert se(np.ones(50)) == pytest.approx(1.0)
    assert se(np.eye(1, 50)[0]) == 0.0
    assert np.isnan(se(np.zeros(50)))


def test_columns_equal_the_plain_functions_on_the_same_samples() -> None:
    rng = np.random.default_rng(1)
    x = (10 * rng.standard_normal((3000, 2))).astype(np.float32)
    info = StreamInfo("t", "t", 250.0, ("Fz", "Oz"), ("eeg",) * 2)
    line = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None)
    marks = [
        (k, m.Settings())
        for k, m in (
            ("lempel_ziv", lempel_ziv),
            ("permutation_entropy", permutation_entropy),
            ("spectral_entropy", spectral_entropy),
        )
    ]
    row = Pipeline(info, line, marks).push(Chunk(x, 0, 0.0, 0.0))[-1]
    taper = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1000) / 1000))[:, np.newaxis]
    for i, site in enumerate(info.channels):
        end = 3000 - 25 * i  # sites take turns: the second one's newest value is a hop older
        span = x[end - 1000 : end].astype(np.float64)
        density = np.abs(np.fft.rfft((span - span.mean(0)) * taper, axis=0)) ** 2
        assert row.values[row.find("lempel_ziv", site)] == pytest.approx(lz(span[:, i]))
        assert row.values[row.find("permutation_entropy", site)] == pytest.approx(pe(span[:, i], 3, 1) / np.log2(6))
        assert row.values[row.find("spectral_entropy", site)] == pytest.approx(se(density[4:160, i]), rel=1e-9)
