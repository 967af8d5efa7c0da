"""The filter chain: response, settling, restarts, and block maps that equal sample-by-sample filtering."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from dsp.filters import DEFAULT_FULL_SCALE_UV, FilterChain, design, power_response, settle_samples
from eegloop.errors import ConfigError
from eegloop.line import LineSettings


@pytest.mark.parametrize("rate", [125.0, 128.0, 250.0, 256.0, 500.0, 1000.0, 2000.0])
def test_response(rate: float) -> None:
    sos = design(LineSettings(high_pass_hz=1.0), rate)
    power = power_response(sos, rate, np.array([0.1, 1.0, 10.0, 45.0, 50.0]))
    assert power[0] < 2e-4
    assert power[1] == pytest.approx(0.5, rel=1e-2)
    assert power[2] == pytest.approx(1.0, rel=1e-2)
    assert power[3] == pytest.approx(0.5, rel=0.1)
    assert power[4] < 1e-6


def test_notch_above_half_the_rate_is_left_out() -> None:
    with_notch = design(LineSettings(notch_hz=60, low_pass_hz=45), 125.0)
    without = design(LineSettings(notch_hz=60, low_pass_hz=None, high_pass_hz=None), 110.0)
    assert len(with_notch) == 3
    assert len(without) == 0


def test_low_pass_above_half_the_rate_is_refused_with_the_key() -> None:
    with pytest.raises(
        ConfigError, match=r"line\.low_pass_hz: 70 Hz needs a stream of more than 140 samples per second, this one has 125"
    ):
        design(LineSettings(low_pass_hz=70), 125.0)


@pytest.mark.parametrize("rate", [125.0, 250.0, 1000.0])
@pytest.mark.parametrize("high_pass", [0.1, 1.0, 5.0])
def test_settling_is_what_a_step_needs(rate: float, high_pass: float) -> None:
    sos = design(LineSettings(high_pass_hz=high_pass), rate)
    settle = settle_samples(sos, DEFAULT_FULL_SCALE_UV)
    step = signal.sosfilt(sos, np.full(settle * 3, DEFAULT_FULL_SCALE_UV))
    assert np.abs(step[settle:]).max() < 1.0
    assert abs(step[settle - 1]) >= 1.0


def test_a_chain_that_passes_dc_starts_at_its_level() -> None:
    sos = design(LineSettings(high_pass_hz=None), 250.0)
    chain = FilterChain(sos, 1, (25,))
    chain.restart(np.array([5_000.0]))
    np.testing.assert_allclose(chain.run(np.full((1, 300), 5_000.0)), 5_000.0, rtol=1e-9)


def test_no_filters_need_no_settling() -> None:
    assert settle_samples(design(LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None), 250.0), 1e5) == 0


def test_block_maps_equal_sample_by_sample_filtering() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 2560)) * 20 + rng.uniform(-6e4, 6e4, (5, 1))
    sos = design(LineSettings(), 256.0)
    chain = FilterChain(sos, 5, (25, 26))
    chain.restart(x[:, 0])
    out, at = [], 0
    for n in [25, 26, 26, 7, 25, 1, 26] * 18:
        if n in (25, 26):
            chain.block[:, :n] = x[:, at : at + n]
            out.append(chain.run_block(n).copy())
        else:
            out.append(chain.run(x[:, at : at + n]))
        at += n
    expected = signal.sosfilt(
        sos, x[:, :at] - x[:, :1], axis=-1
    )  # what a chain without DC gain gives for x, started at its first level
    np.testing.assert_allclose(np.hstack(out), expected, rtol=0, atol=1e-9 * expected.std())


def test_an_offset_makes_no_start_transient() -> None:
    chain = FilterChain(design(LineSettings(), 250.0), 2, (25,))
    offset = np.array([62_000.0, -40_000.0])
    chain.restart(offset)
    assert np.abs(chain.run(np.repeat(offset[:, np.newaxis], 500, axis=1))).max() < 1e-6


def test_one_channel_restarts_without_the_others() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 200))
    sos = design(LineSettings(), 250.0)
    one, other = FilterChain(sos, 3, (25,)), FilterChain(sos, 3, (25,))
    for chain in (one, other):
        chain.restart(x[:, 0])
        chain.run(x[:, :100])
    one.restart(np.full(3, 7.0), np.array([False, True, False]))
    a, b = one.run(x[:, 100:]), other.run(x[:, 100:])
    np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])
    assert not np.allclose(a[1], b[1])
