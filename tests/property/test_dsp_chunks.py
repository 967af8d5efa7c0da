"""However a stream is cut into chunks, gaps and unclean stretches included, every row is the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dsp.biomarkers import band_power, faa, iaf, relative_power
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

CHANNELS = ("F3", "F4", "O1", "O2", "Pz")
MARKS = [
    ("band_power", band_power.Settings()),
    ("relative_power", relative_power.Settings()),
    ("faa", faa.Settings()),
    ("iaf", iaf.Settings(window_s=8)),
]


def eeg(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Something like EEG: drift, alpha, noise, mains, an electrode offset; (n, channels) float32 µV."""
    rng = np.random.default_rng(seed)
    n = int(rate * seconds)
    t = np.arange(n)[:, np.newaxis] / rate
    x = 10 * rng.standard_normal((n, len(CHANNELS))) + np.cumsum(rng.standard_normal((n, len(CHANNELS))), 0)
    x += 15 * np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6, len(CHANNELS))) + 20 * np.sin(2 * np.pi * 50 * t)
    return (x + rng.uniform(-40_000, 40_000, len(CHANNELS))).astype(np.float32)


def run(
    rate: float, line: LineSettings, pieces: list[tuple[int, np.ndarray, np.ndarray, int]], cuts: list[int]
) -> list[Biomarkers]:
    """Push pieces (first sample, data, clean, segment), each cut again at the given absolute samples."""
    info = StreamInfo("test", "test", rate, CHANNELS, ("eeg",) * len(CHANNELS), full_scale_uv=187_500.0)
    pipeline = Pipeline(info, line, MARKS)
    rows: list[Biomarkers] = []
    end = None
    for first, data, clean, segment in pieces:
        edges = [first, *sorted({c for c in cuts if first < c < first + len(data)}), first + len(data)]
        for a, b in itertools.pairwise(edges):
            lost = 0 if end is None else a - end
            chunk = Chunk(data[a - first : b - first], a, a / rate, b / rate, lost, segment)
            rows += pipeline.push(chunk, None if clean.all() else clean[a - first : b - first])
            end = b
    return rows


def assert_same(whole: list[Biomarkers], cut: list[Biomarkers]) -> None:
    assert [r.hop for r in whole] == [r.hop for r in cut]
    for a, b in zip(whole, cut, strict=True):
        assert a.end_sample == b.end_sample
        assert a.t_s == pytest.approx(b.t_s, abs=1e-9)
        np.testing.assert_array_equal(a.grades, b.grades)
        assert a.reasons == b.reasons
        np.testing.assert_allclose(a.values, b.values, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(np.isnan(a.values), a.grades == Grade.INVALID)
        assert a.quality.reasons == b.quality.reasons
        assert a.quality.clean_fraction == b.quality.clean_fraction
        np.testing.assert_allclose(a.quality.line_ratio, b.quality.line_ratio, rtol=1e-9)


@st.composite
def streams(draw: st.DrawFn) -> tuple[float, LineSettings, list[tuple[int, np.ndarray, np.ndarray, int]], list[int]]:
    rate = draw(st.sampled_from([125.0, 128.0, 250.0, 256.0, 500.0]))
    line = LineSettings(
        hop_s=draw(st.sampled_from([0.05, 0.1, 0.25, 0.3])),
        window_s=draw(st.sampled_from([0.5, 1.0, 2.0])),
        notch_hz=draw(st.sampled_from([50, 60, None])),
        high_pass_hz=draw(st.sampled_from([None, 1.0, 4.0])),
        taper=draw(st.sampled_from(["hann", "hamming", "boxcar"])),
    )
    seed = draw(st.integers(0, 1000))
    x = eeg(rate, 14, seed)
    start = draw(st.integers(0, 10_000))
    pieces: list[tuple[int, np.ndarray, np.ndarray, int]] = []
    at = segment = 0
    short = int(0.05 * rate)
    while at < len(x):
        n = draw(st.integers(1, len(x)))
        clean = np.ones(min(n, len(x) - at), dtype=bool)
        if draw(st.booleans()):
            a = draw(st.integers(0, len(clean) - 1))
            clean[a : a + draw(st.integers(1, len(clean)))] = False
        pieces.append((start + at, x[at : at + n].copy(), clean, segment))
        lost = draw(st.sampled_from([1, short, short + 1, int(rate)]))
        segment += draw(st.integers(0, 4)) == 0
        at += n + lost
    if draw(st.booleans()):  # a channel that dies and comes back, a corrupt sample, a flat stretch
        data = pieces[0][1]
        a = draw(st.integers(0, len(data) - 1))
        data[a : a + draw(st.sampled_from([1, short, 3 * short])), 1] = draw(st.sampled_from([np.nan, np.inf, 1e30]))
        data[draw(st.integers(0, len(data) - 1))] += 50_000
        data[a // 2 : a, 2] = data[a // 2, 2]
    cuts = draw(st.lists(st.integers(start, start + len(x)), max_size=60))
    return rate, line, pieces, cuts


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking a stream costs minutes and shows little
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(streams())
def test_rows_do_not_depend_on_cuts(
    stream: tuple[float, LineSettings, list[tuple[int, np.ndarray, np.ndarray, int]], list[int]],
) -> None:
    rate, line, pieces, cuts = stream
    assert_same(run(rate, line, pieces, []), run(rate, line, pieces, cuts))


@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_single_samples_to_whole_seconds(chunk: int) -> None:
    line = LineSettings(window_s=1.0)
    x = eeg(250.0, 18, 5)
    pieces = [(0, x, np.ones(len(x), dtype=bool), 0)]
    whole = run(250.0, line, pieces, [])
    assert any((row.grades == Grade.GOOD).all() for row in whole), "nothing good to compare"
    assert_same(whole, run(250.0, line, pieces, list(range(0, len(x), chunk))))


@settings(max_examples=12, deadline=None)
@given(st.floats(0.01, 100), st.permutations(range(len(CHANNELS))), st.integers(0, 50))
def test_scale_and_permutation_laws(scale: float, order: list[int], seed: int) -> None:
    """Amplitude times s: power times s², shares unchanged; channels permuted: values permuted."""
    rate, line = 250.0, LineSettings(window_s=1.0, hop_s=0.5, glitch_uv=None)
    x = eeg(rate, 6, seed)
    x -= x.mean(0)
    info = StreamInfo("a", "a", rate, CHANNELS, ("eeg",) * 5)
    moved = StreamInfo("b", "b", rate, tuple(CHANNELS[i] for i in order), ("eeg",) * 5)
    marks = MARKS[:2]
    a = Pipeline(info, line, marks).push(Chunk(x, 0, 0.0, 0.0))[-1]
    b = Pipeline(moved, line, marks).push(Chunk((x[:, order] * np.float32(scale)).astype(np.float32), 0, 0.0, 0.0))[-1]
    for i, column in enumerate(a.columns):
        j = b.find(column.name, column.channel)
        factor = float(np.float32(scale)) ** 2 if column.name.startswith("band_power") else 1.0
        assert b.values[j] == pytest.approx(a.values[i] * factor, rel=1e-4)
