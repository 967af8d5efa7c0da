"""Laws every biomarker keeps, found by its file: cuts, scale, sign, order of channels, sample rate, number of channels."""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dsp.electrodes import POSITIONS
from dsp.pipeline import Pipeline
from eegloop import plugins
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

KINDS = plugins.kinds("biomarker")
CAP = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2")
LINE = LineSettings(hop_s=0.5, glitch_uv=None)


def smear(channels: tuple[str, ...]) -> np.ndarray:
    """(n, n): what a head does to independent noise: near electrodes share most of it, each keeps its power."""
    places = np.array([POSITIONS[label] for label in channels])
    mixing = np.exp(-(np.linalg.norm(places[:, np.newaxis] - places, axis=2) ** 2) / 0.15)
    return np.asarray(mixing / np.linalg.norm(mixing, axis=0))


@functools.lru_cache(maxsize=4)
def eeg(rate: float, seconds: float, n_channels: int, seed: int = 0) -> np.ndarray:
    """Pink noise that is the same at every rate up to 40 Hz, alpha that waxes and wanes, correlated channels; (n, channels) float64."""
    rng = np.random.default_rng(seed)
    n = round(rate * seconds)
    bins = int(40 * seconds) + 1
    half = np.zeros((n // 2 + 1, n_channels), dtype=complex)
    drawn = rng.standard_normal((bins, n_channels)) + 1j * rng.standard_normal((bins, n_channels))
    half[1:bins] = (drawn / np.sqrt(np.maximum(np.arange(bins) / seconds, 0.5))[:, np.newaxis])[1:]
    x = np.fft.irfft(half, n, axis=0) * n
    x *= 5 / 30 / math.sqrt(seconds)
    t = np.arange(n)[:, np.newaxis] / rate
    x = x @ smear(CAP) if n_channels == len(CAP) else 0.8 * x + 0.4 * np.roll(x, 1, axis=1)
    # A wave that travels over the head: neighbors stay nearly in step.
    lag = 1.0 * np.array([POSITIONS[label][1] for label in CAP]) if n_channels == len(CAP) else 0.3 * np.arange(n_channels)
    x += (5 + 4 * np.sin(2 * np.pi * 0.2 * t)) * np.cos(2 * np.pi * 10 * t + lag)
    x.flags.writeable = False
    return x


def line_of(rate: float, channels: tuple[str, ...], kinds: tuple[str, ...] = KINDS) -> Pipeline:
    info = StreamInfo("t", "t", rate, channels, ("eeg",) * len(channels))
    own = {"alpha_bursts": {"window_s": 60.0}}
    marks = [(kind, importlib.import_module(f"dsp.biomarkers.{kind}").Settings(**own.get(kind, {}))) for kind in kinds]
    return Pipeline(info, LINE, marks)


def whole(x: np.ndarray, channels: tuple[str, ...] = CAP, rate: float = 250.0) -> list[Biomarkers]:
    return line_of(rate, channels).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


@functools.lru_cache(maxsize=1)
def plain() -> Biomarkers:
    return whole(eeg(250.0, 75, len(CAP)))[-1]


def pieces(cuts: list[int]) -> list[Biomarkers]:
    """75 s with a bridged gap, a long one, and two seconds of stimulation, cut where told."""
    x = eeg(250.0, 75, len(CAP)).astype(np.float32)
    lost = [(3000, 3008), (4000, 4400)]
    clean = np.ones(len(x), dtype=bool)
    clean[1500:2000] = False
    pipeline, rows, end = line_of(250.0, CAP), [], 0
    edges = sorted({0, len(x), *(e for gap in lost for e in gap), *(c for c in cuts if 0 < c < len(x))})
    for a, b in itertools.pairwise(edges):
        if any(start <= a < stop for start, stop in lost):
            continue
        chunk = Chunk(x[a:b], a, a / 250, b / 250, a - end)
        rows += pipeline.push(chunk, None if clean[a:b].all() else clean[a:b])
        end = b
    return rows


@functools.lru_cache(maxsize=1)
def uncut() -> list[Biomarkers]:
    return pieces([])


@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.integers(1, 400), st.lists(st.integers(1, 18_749), max_size=200))
def test_no_biomarker_depends_on_cuts(stride: int, cuts: list[int]) -> None:
    found = pieces([*range(0, 18_750, stride + 4), *cuts])
    assert len(found) == len(uncut())
    seen_good = np.zeros(len(found[0].columns), dtype=bool)
    for a, b in zip(uncut(), found, strict=True):
        np.testing.assert_array_equal(a.grades, b.grades)
        assert a.reasons == b.reasons
        np.testing.assert_allclose(b.values, a.values, rtol=1e-7, atol=1e-9)
        seen_good |= a.grades == Grade.GOOD
    good_kinds = {c.name.split(".")[0] for c, good in zip(found[0].columns, seen_good, strict=True) if good}
    # Connectivity needs a minute that is whole; the others were compared on good values.
    assert good_kinds >= set(KINDS) - {"plv", "wpli", "debiased_wpli", "imaginary_coherence"}


def power_of(name: str, scale: float) -> tuple[float, float]:
    """What a column's value is multiplied by, and what is added, when the signal is multiplied by `scale`."""
    if name.startswith("band_power") or name in ("frontal_theta_alpha.alpha1", "frontal_theta_alpha.alpha2"):
        return scale**2, 0.0
    if name == "phase.amplitude":
        return abs(scale), 0.0
    if name == "aperiodic.offset":
        return 1.0, 2 * math.log10(abs(scale))
    return 1.0, 0.0


@pytest.mark.parametrize("scale", [4.0, -0.5])
def test_scale_and_sign_laws(scale: float) -> None:
    """Powers go with the square, amplitudes with the size; shares, phases, indices and entropies do not change."""
    row = whole(eeg(250.0, 75, len(CAP)) * scale)[-1]
    compared = 0
    for column, a, b in zip(row.columns, plain().values, row.values, strict=True):
        factor, shift = power_of(column.name, scale)
        if column.name == "phase.angle":
            turn = 180.0 if scale < 0 else 0.0
            assert abs((b - a - turn + 180) % 360 - 180) < 1e-4, column
        else:
            np.testing.assert_allclose(b, a * factor + shift, rtol=2e-5, atol=1e-6, err_msg=str(column))
        compared += math.isfinite(a)
    assert compared > 0.9 * len(row.columns)


def test_permuted_channels_give_permuted_values() -> None:
    order = np.random.default_rng(3).permutation(len(CAP))
    row = whole(eeg(250.0, 75, len(CAP))[:, order], tuple(CAP[i] for i in order))[-1]
    for column, value in zip(plain().columns, plain().values, strict=True):
        # Sites take turns in the montage's order, so their newest values are of other hops.
        if column.name in ("lempel_ziv", "permutation_entropy", "spectral_entropy", "theta_beta_ratio"):
            continue
        np.testing.assert_allclose(
            row.values[row.find(column.name, column.channel)], value, rtol=1e-7, atol=1e-9, err_msg=str(column)
        )


@pytest.mark.parametrize("rate", [125.0, 128.0, 200.0, 512.0, 1000.0, 2000.0])
def test_the_same_signal_at_any_rate_gives_the_same_powers(rate: float) -> None:
    """The signal ends at 40 Hz; filters and bins differ a little, and the windows end a few milliseconds apart."""
    channels = ("F3", "F4", "Fz", "Oz")
    kinds = ("band_power", "relative_power", "theta_beta_ratio", "faa", "phase", "alpha_bursts", "spectral_entropy", "lempel_ziv")
    values = {}
    for r in (250.0, rate):
        info = StreamInfo("t", "t", r, channels, ("eeg",) * 4)
        marks = [(kind, importlib.import_module(f"dsp.biomarkers.{kind}").Settings()) for kind in kinds]
        line = LineSettings(hop_s=0.5, low_pass_hz=None, notch_hz=None, glitch_uv=None)
        rows = Pipeline(info, line, marks).push(Chunk(eeg(r, 30, 4).astype(np.float32), 0, 0.0, 0.0))
        values[r] = {(c.name, c.channel): v for c, v in zip(rows[-1].columns, rows[-1].values, strict=True)}
        assert np.isfinite(list(values[r].values())).mean() > 0.7
    for key, value in values[250.0].items():
        if key[0].startswith(("band_power", "relative_power", "theta_beta")) and "gamma" not in key[0]:
            assert values[rate][key] == pytest.approx(value, rel=0.03), key
        if key[0] == "faa" and math.isfinite(value):
            assert values[rate][key] == pytest.approx(value, abs=0.03)


@pytest.mark.parametrize("rate", [125.0, 2000.0])
def test_every_biomarker_runs_at_the_ends_of_the_range_of_rates(rate: float) -> None:
    found = whole(eeg(rate, 12, len(CAP)), CAP, rate)
    for row in found:
        np.testing.assert_array_equal(np.isnan(row.values), row.grades == Grade.INVALID)
    good = {c.name.split(".")[0] for c, g in zip(found[-1].columns, found[-1].grades, strict=True) if g == Grade.GOOD}
    assert {"band_power", "phase", "spectral_entropy", "lempel_ziv", "permutation_entropy"} <= good


@pytest.mark.parametrize("n_channels", [1, 2, 5, 19, 33, 64, 256])
def test_every_biomarker_runs_on_1_to_256_channels(n_channels: int) -> None:
    labels = (*POSITIONS, *(f"E{i}" for i in range(256)))[:n_channels]
    found = whole(eeg(125.0, 10, n_channels), labels, 125.0)
    assert len(found) == 20
    names = {c.name.split(".")[0] for c in found[-1].columns}
    assert names >= set(KINDS) - {"faa"}
    powers = [g for c, g in zip(found[-1].columns, found[-1].grades, strict=True) if c.name.startswith("band_power")]
    assert len(powers) == 5 * n_channels and set(powers) == {Grade.GOOD}


@pytest.mark.long
def test_nothing_grows_with_time_with_every_biomarker_on() -> None:
    """Traced memory once the longest window (120 s) is full, and two minutes later; what differs is the interpreter's own."""
    channels = ("F3", "F4", "O1", "O2", "Pz", "Fp1")
    x = eeg(125.0, 20, len(channels)).astype(np.float32)
    pipeline = line_of(125.0, channels)
    held = []
    tracemalloc.start()
    try:
        for lap in range(19):
            assert len(pipeline.push(Chunk(x, lap * len(x), lap * 20.0, lap * 20.0))) == 40
            if lap in (12, 18):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] <= 1.02 * held[0], held
