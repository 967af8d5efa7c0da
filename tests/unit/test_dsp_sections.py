"""Second-order sections against `scipy.signal`: design, response, steady state, filtering, Savitzky-Golay."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from dsp import sections

RATES = st.sampled_from([125.0, 128.0, 250.0, 500.0, 1000.0, 2000.0])


@given(
    RATES, st.integers(1, 6), st.floats(0.1, 20.0), st.floats(21.0, 58.0), st.sampled_from(["bandpass", "highpass", "lowpass"])
)
def test_butterworth_is_scipys(rate: float, order: int, low: float, high: float, kind: str) -> None:
    edges = {"bandpass": [low, high], "highpass": low, "lowpass": high}[kind]
    theirs = signal.butter(order, edges, kind, fs=rate, output="sos")
    ours = sections.butterworth(order, None if kind == "lowpass" else low, None if kind == "highpass" else high, rate)
    assert ours.shape == theirs.shape
    assert np.all(np.abs(np.concatenate([np.roots(section[3:]) for section in ours])) < 1)
    frequency = np.linspace(0, rate / 2, 97)
    expected = signal.freqz_sos(theirs, worN=frequency, fs=rate)[1]
    np.testing.assert_allclose(sections.response(ours, frequency, rate), expected, rtol=1e-6, atol=1e-9)


@given(RATES, st.floats(40.0, 60.0), st.floats(5.0, 60.0))
def test_notch_is_scipys(rate: float, frequency: float, q: float) -> None:
    theirs = signal.tf2sos(*signal.iirnotch(frequency, q, fs=rate))
    np.testing.assert_allclose(sections.notch(frequency, q, rate), theirs, rtol=1e-9, atol=1e-12)


def test_edges_out_of_order_are_refused() -> None:
    for low, high in ((10.0, 5.0), (0.0, 5.0), (5.0, 125.0), (None, None), (None, 200.0)):
        with pytest.raises(ValueError, match="must rise within 0-125 Hz"):
            sections.butterworth(2, low, high, 250.0)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_filtering_is_scipys(order: int, n_channels: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sos = np.vstack([sections.butterworth(order, 0.75, 45.0, 250.0), sections.notch(50.0, 30.0, 250.0)])
    x = rng.standard_normal((n_channels, n)) * 50
    state = rng.standard_normal((n_channels, len(sos), 2))
    before = x.copy()
    expected, end = (
        signal.sosfilt(sos, x, axis=-1, zi=state.transpose(1, 0, 2).copy()) if n else (x, state.transpose(1, 0, 2).copy())
    )
    np.testing.assert_array_equal(sections.run_sections(sos, x, state), expected)
    np.testing.assert_array_equal(state, end.transpose(1, 0, 2))
    np.testing.assert_array_equal(x, before)


def test_a_state_that_is_a_view_is_written_through() -> None:
    sos = sections.butterworth(2, None, 30.0, 250.0)
    wide = np.zeros((3, 10))
    x = np.ones((3, 5))
    sections.run_sections(sos, x, wide[:, :2].reshape(3, 1, 2))
    state = wide[:, 2:4].reshape(3, 1, 2, copy=False)
    sections.run_sections(sos, x, state)
    assert np.any(wide[:, 2:4] != 0)


@given(st.integers(1, 6), st.sampled_from([None, 0.75]))
def test_steady_state_and_dc_gain_are_scipys(order: int, high_pass_hz: float | None) -> None:
    sos = sections.butterworth(order, high_pass_hz, 45.0, 250.0)
    np.testing.assert_allclose(sections.steady_state(sos), signal.sosfilt_zi(sos), rtol=1e-6, atol=1e-9)
    assert sections.dc_gain(sos) == pytest.approx(0.0 if high_pass_hz else 1.0, abs=1e-9)


@given(st.integers(15, 40), st.sampled_from([(5, 2), (11, 5), (13, 3)]), st.integers(0, 2), st.floats(0.05, 2.0))
def test_savitzky_golay_is_scipys(n: int, shape: tuple[int, int], derivative: int, spacing: float) -> None:
    bins, order = shape
    expected = signal.savgol_filter(np.eye(n), bins, order, deriv=derivative, delta=spacing, axis=-1)
    ours = sections.savitzky_golay(n, bins, order, derivative, spacing)
    np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_the_filter_loop_comes_without_the_slow_package() -> None:
    """The start waits for this import: `scipy.signal` would add seconds."""
    code = "import sys, dsp.filters, dsp.pipeline; sys.exit('scipy.stats' in sys.modules or 'scipy.interpolate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
