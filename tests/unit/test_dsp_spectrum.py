"""Densities of windows made of whole blocks, against the plain definition, and the alpha peak's rule as it was written first."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from dsp.biomarkers.iaf import AlphaPeak, Settings, alpha_peaks
from dsp.pipeline import Pipeline
from dsp.sections import savitzky_golay
from dsp.spectrum import BlockSpectrum, SpectrumNeed, bin_frequencies, psd
from dsp.window import Grid
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Chunk, StreamInfo

F64 = NDArray[np.float64]
CHANNELS = 3


def samples(n: int) -> F64:
    """Pink-like noise with offsets: low bins outweigh high ones by far."""
    rng = np.random.default_rng(7)
    return np.cumsum(rng.standard_normal((CHANNELS, n)), axis=1) * 0.2 + rng.standard_normal((CHANNELS, n)) + 40.0


def densities(grid: Grid, need: SpectrumNeed, x: F64, blocks: range, missing: range = range(0)) -> dict[int, F64]:
    """The engine's density after every block of whole windows, by the window's end."""
    engine = BlockSpectrum(need, grid, CHANNELS)
    since, found = blocks.start - 1, {}
    for block in blocks:
        if block in missing:
            since = block
            continue
        start, end = grid.block_end(block - 1), grid.block_end(block)
        engine.add(block, start, np.ascontiguousarray(x[:, start:end]))
        density = engine.density(block, end, None)
        if block - since >= grid.whole_blocks(need.n_samples):
            found[end] = density
    return found


def assert_plain(found: dict[int, F64], need: SpectrumNeed, rate_hz: float, x: F64) -> None:
    for end, density in found.items():
        wanted = psd(x[:, end - need.n_samples : end], need, rate_hz)
        np.testing.assert_allclose(density, wanted[:, : density.shape[1]], rtol=1e-12, atol=1e-12 * wanted.max())


@pytest.mark.parametrize(("taper", "detrend"), list(product(("hann", "hamming", "boxcar"), ("constant", "none"))))
@pytest.mark.parametrize(("rate_hz", "window_s"), [(250.0, 2.0), (128.0, 2.5), (500.0, 1.0), (100.0, 0.5)])
def test_every_window_is_the_plain_density(rate_hz: float, window_s: float, taper: str, detrend: str) -> None:
    """To the last digits, wherever the window begins on the grid, up to half the sample rate (the highest bin counts once)."""
    grid = Grid.of(rate_hz, 0.1)
    need = SpectrumNeed(grid.window_samples(window_s), rate_hz / 2, taper, detrend)  # type: ignore[arg-type]
    blocks = range(41, 41 + 3 * grid.whole_blocks(need.n_samples))
    x = samples(grid.block_end(blocks.stop))
    found = densities(grid, need, x, blocks)
    assert len(found) == len(blocks) - grid.whole_blocks(need.n_samples) + 1
    assert_plain(found, need, rate_hz, x)


@pytest.mark.parametrize("first_missing", range(15, 40, 6))
@pytest.mark.parametrize("n_missing", [1, 9, 10, 35])
def test_windows_after_missing_blocks_hold_nothing_of_what_was_before(first_missing: int, n_missing: int) -> None:
    grid = Grid.of(250.0, 0.1)
    need = SpectrumNeed(250, 45.0)
    x = samples(25 * 110)
    x[:, : 25 * first_missing] *= 1e6
    missing = range(first_missing, first_missing + n_missing)
    found = densities(grid, need, x, range(1, 110), missing)
    after = {end: density for end, density in found.items() if end > 25 * missing.stop}
    assert len(after) == 110 - missing.stop - 9
    assert_plain(after, need, 250.0, x)


def test_a_rail_leaves_nothing_behind_when_it_has_left_the_window() -> None:
    """What a sum that runs on for ever would keep: the rounding of 187 mV beside microvolts."""
    grid = Grid.of(250.0, 0.1)
    need = SpectrumNeed(250, 45.0)
    x = samples(25 * 60)
    x[:, 25 * 22 : 25 * 23] = 187_500.0
    found = {end: density for end, density in densities(grid, need, x, range(1, 60)).items() if not 25 * 22 < end < 25 * 33}
    assert len(found) == 50 - 10
    assert_plain(found, need, 250.0, x)


# -- the alpha peak, plainly ----------------------------------------------------------------------


def plain_peak(f: F64, density: F64, settings: Settings) -> AlphaPeak | None:
    """Corcoran's rule with a least-squares solution of every density, arrays throughout."""
    inside = (f >= 1.0) & (f <= 40.0)
    f, p = f[inside], density[inside]
    if not np.all(p > 0):
        return None
    p, spacing = p / p.mean(), float(f[1] - f[0])
    smooth, slope, bend = (
        p @ savitzky_golay(len(f), settings.smoothing_bins, settings.smoothing_order, derivative, spacing)
        for derivative in range(3)
    )
    basis = np.column_stack([np.ones_like(f), f])
    line = basis @ np.linalg.lstsq(basis, np.log10(p), rcond=None)[0]
    residual, away = np.log10(p) - line, (f - f.mean()) ** 2
    sd = np.sqrt((residual**2).sum() / (len(f) - 2)) * np.sqrt(1 + 1 / len(f) + away / away.sum())
    threshold = 10 ** (line + settings.least_sd * sd)
    falls = np.flatnonzero((slope[:-1] > 0) & (slope[1:] <= 0))
    tops = np.where(smooth[falls] >= smooth[falls + 1], falls, falls + 1)
    tops = tops[(f[tops] >= settings.search_hz[0]) & (f[tops] <= settings.search_hz[1])]
    if not tops.size:
        return None
    by_height = tops[np.argsort(smooth[tops], kind="stable")[::-1]]
    top = int(by_height[0])
    if smooth[top] <= threshold[top]:
        return None
    own = tops[(smooth[tops] > threshold[tops]) | (smooth[tops] > 0.5 * smooth[top])]
    left, right = plain_foot(slope, int(own.min()), -1, spacing), plain_foot(slope, int(own.max()), 1, spacing)
    if len(by_height) > 1 and smooth[top] * (1 - settings.least_excess) <= smooth[by_height[1]]:
        return AlphaPeak(float("nan"), float(f[left]), float(f[right]), 0.0)
    inner = outer = top
    while inner > 0 and bend[inner] < 0:
        inner -= 1
    while outer < len(bend) - 1 and bend[outer] < 0:
        outer += 1
    width = max(spacing, (outer - inner) * spacing)
    return AlphaPeak(float(f[top]), float(f[left]), float(f[right]), float(smooth[inner : outer + 1].sum()) * spacing / width)


def plain_foot(slope: F64, top: int, step: int, spacing: float) -> int:
    level, needed, i = 0, max(1, round(1.0 / spacing)), top + step
    while 0 < i < len(slope) - 1:
        beyond = (i - top) * step > 1
        if slope[i] * step > 0 and beyond:
            return i - step
        level = level + 1 if abs(slope[i]) < 1.0 and beyond else 0
        if level >= needed:
            return i - step * (needed - 1)
        i += step
    return i


def test_the_alpha_peak_is_that_of_the_plain_rule() -> None:
    """Two hundred densities of two minutes: humps of any height anywhere in 5-15 Hz, none, one or two."""
    rng, settings, f = np.random.default_rng(3), Settings(), np.arange(0, 45, 250 / 1024)
    density = 20 / np.maximum(f, 0.5) * rng.gamma(40.0, 1 / 40, (200, len(f)))
    for row in density:
        for _ in range(int(rng.integers(0, 3))):
            row += rng.uniform(0.2, 6.0) * np.exp(-0.5 * ((f - rng.uniform(5, 15)) / rng.uniform(0.4, 1.2)) ** 2)
    density[17, 30] = 0.0
    found, wanted = alpha_peaks(f, density, settings), [plain_peak(f, row, settings) for row in density]
    assert sum(peak is None for peak in wanted) > 20 < sum(peak is not None for peak in wanted)
    assert [peak is None for peak in found] == [peak is None for peak in wanted]
    for ours, plain in zip(found, wanted, strict=True):
        if ours is not None and plain is not None:
            np.testing.assert_allclose(
                (ours.peak_hz, ours.low_hz, ours.high_hz, ours.sharpness),
                (plain.peak_hz, plain.low_hz, plain.high_hz, plain.sharpness),
                rtol=1e-12,
            )


def test_the_alpha_peak_is_that_of_the_mean_over_all_segments() -> None:
    """Through the line, filters off: the last half minute and more, segments of 4 s every 2 s, each zero-padded to 1024 samples."""
    rate, seconds, labels = 250.0, 61, ("O1", "O2", "Pz")
    x = samples(int(rate) * seconds)
    x += 6.0 * np.sin(2 * np.pi * 10.3 * np.arange(x.shape[1]) / rate)
    x = x.astype(np.float32).astype(np.float64)
    off = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None, quality=QualitySettings(amplitude_uv=100_000.0))
    pipeline = Pipeline(StreamInfo("t", "t", rate, labels, ("eeg",) * 3), off, [("iaf", Settings(window_s=40.0))])
    row = pipeline.push(Chunk(np.ascontiguousarray(x.T, dtype=np.float32), 0, 0.0, 0.0))[-1]
    need = SpectrumNeed(1000, 40.0, "hamming", "constant", n_fft=1024)
    ends = [int(rate) * second for second in range(24, 62, 2)]
    mean = np.mean([psd(x[:, end - 1000 : end], need, rate) for end in ends], axis=0)
    peaks = [peak for peak in alpha_peaks(bin_frequencies(need, rate), mean, Settings()) if peak is not None]
    assert len(peaks) == 3
    values = {(column.name, column.channel): value for column, value in zip(row.columns, row.values, strict=True)}
    assert [values["iaf.peak", label] for label in labels] == pytest.approx([peak.peak_hz for peak in peaks], rel=1e-12)
    whole = np.average([peak.peak_hz for peak in peaks], weights=[peak.sharpness for peak in peaks])
    assert values["iaf.peak", "n/a"] == pytest.approx(whole, rel=1e-12)
