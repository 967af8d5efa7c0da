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

from dsp.electrodes import OLDER, POSITIONS
from dsp.pipeline import Pipeline
from eegloop import plugins
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

KINDS = plugins.kinds("biomarker")
CAP = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2")
LINE = LineSettings(hop_s=0.5, glitch_uv=None)
SPARSE = LineSettings(hop_s=1.0, glitch_uv=None)  # where only the last row is looked at


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


def line_of(
    rate: float, channels: tuple[str, ...], kinds: tuple[str, ...] = KINDS, every_hop: bool = False, line: LineSettings = LINE
) -> Pipeline:
    """`every_hop`: what is renewed site by site in turn is renewed for all at every hop."""
    info = StreamInfo("t", "t", rate, channels, ("eeg",) * len(channels))
    own: dict[str, dict[str, float]] = {"alpha_bursts": {"window_s": 60.0}}
    if every_hop:
        for kind in kinds:
            if "every_s" in importlib.import_module(f"dsp.biomarkers.{kind}").Settings.model_fields:
                own.setdefault(kind, {})["every_s"] = line.hop_s
    marks = [(kind, importlib.import_module(f"dsp.biomarkers.{kind}").Settings(**own.get(kind, {}))) for kind in kinds]
    return Pipeline(info, line, marks)


def whole(x: np.ndarray, channels: tuple[str, ...] = CAP, rate: float = 250.0) -> list[Biomarkers]:
    return line_of(rate, channels).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def last(x: np.ndarray, channels: tuple[str, ...] = CAP, every_hop: bool = False, line: LineSettings = SPARSE) -> Biomarkers:
    """The row at the end of 75 s, in which every kind has a good value."""
    row = line_of(250.0, channels, every_hop=every_hop, line=line).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))[-1]
    assert row.end_sample == 18_750
    assert {c.name.split(".")[0] for c, g in zip(row.columns, row.grades, strict=True) if g == Grade.GOOD} >= set(KINDS)
    return row


@functools.lru_cache(maxsize=1)
def plain() -> Biomarkers:
    return last(eeg(250.0, 75, len(CAP)))


def pieces(seconds: int, cuts: list[int], lost: list[tuple[int, int]], unclean: list[tuple[int, int]]) -> list[Biomarkers]:
    """So many seconds with samples that never come and samples nobody may look at, cut where told."""
    x = eeg(250.0, seconds, len(CAP)).astype(np.float32)
    clean = np.ones(len(x), dtype=bool)
    for start, stop in unclean:
        clean[start:stop] = False
    here = np.ones(len(x), dtype=bool)
    for start, stop in lost:
        here[start:stop] = False
    pipeline, rows, end = line_of(250.0, CAP), [], 0
    holes = np.flatnonzero(np.diff(here)) + 1
    edges = sorted({0, len(x), *holes.tolist(), *(c for c in cuts if 0 < c < len(x))})
    for a, b in itertools.pairwise(edges):
        if here[a]:
            chunk = Chunk(x[a:b], a, a / 250, b / 250, a - end)
            rows += pipeline.push(chunk, None if clean[a:b].all() else clean[a:b])
            end = b
    return rows


@st.composite
def stretches(draw: st.DrawFn, n: int, lengths: list[int]) -> list[tuple[int, int]]:
    starts = draw(st.lists(st.integers(1, n - 2), max_size=3))
    return [(start, min(n - 1, start + draw(st.sampled_from(lengths)))) for start in starts]


def assert_same_whatever_the_cuts(
    seconds: int, stride: int, cuts: list[int], lost: list[tuple[int, int]], unclean: list[tuple[int, int]]
) -> set[str]:
    """The kinds that had a good value to compare."""
    n = 250 * seconds
    # the stretches' own edges are cuts of the one too: a gap is always one
    whole_rows = pieces(seconds, [], lost, unclean)
    found = pieces(seconds, [*range(0, n, stride + 4), *cuts], lost, unclean)
    assert len(found) == len(whole_rows)
    seen_good = np.zeros(len(found[0].columns), dtype=bool)
    for a, b in zip(whole_rows, found, strict=True):
        np.testing.assert_array_equal(a.grades, b.grades)
        assert a.reasons == b.reasons
        np.testing.assert_allclose(b.values, a.values, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(np.isnan(b.values), b.grades == Grade.INVALID)
        seen_good |= a.grades == Grade.GOOD
    return {c.name.split(".")[0] for c, good in zip(found[0].columns, seen_good, strict=True) if good}


FEW = settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SHORT, LONG = 60, 240
LOST = [1, 8, 12, 13, 40, 400, 2000]  # up to 12 are bridged at 250 Hz


@FEW
@given(
    st.integers(1, 400),
    st.lists(st.integers(1, 250 * SHORT - 1), max_size=200),
    stretches(250 * SHORT, LOST),
    stretches(250 * SHORT, [1, 30, 500]),
)
def test_no_biomarker_depends_on_cuts(
    stride: int, cuts: list[int], lost: list[tuple[int, int]], unclean: list[tuple[int, int]]
) -> None:
    """Gaps and stretches of stimulation anywhere: compared are values, grades and reasons of every biomarker there is."""
    assert assert_same_whatever_the_cuts(SHORT, stride, cuts, lost, unclean) <= set(KINDS)


@pytest.mark.long
@pytest.mark.timeout(900)  # a minute alone, several at load
@settings(FEW, max_examples=8)
@given(
    st.integers(1, 400),
    st.lists(st.integers(1, 250 * LONG - 1), max_size=200),
    stretches(25_000, LOST),
    stretches(25_000, [1, 30, 500]),
)
def test_every_good_value_is_the_same_whatever_the_cuts(
    stride: int, cuts: list[int], lost: list[tuple[int, int]], unclean: list[tuple[int, int]]
) -> None:
    """Four minutes, disturbed in the first of them only: no biomarker is left that had nothing good to compare."""
    assert assert_same_whatever_the_cuts(LONG, stride, cuts, lost, unclean) == set(KINDS)


def test_every_biomarker_has_good_values_to_compare_in_an_undisturbed_minute_and_a_half() -> None:
    assert assert_same_whatever_the_cuts(75, 25, [], [], []) == set(KINDS)


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
    """Powers go with the square, amplitudes with the size; shares, phases, indices and entropies do not change.

    What counts as an artifact is so many µV, and goes with the size too.
    """
    limits = ("flat_uv", "amplitude_uv", "gradient_uv", "step_uv", "drift_uv_per_s", "blink_uv", "eye_uv", "muscle_uv")
    quality = QualitySettings(**{name: abs(scale) * getattr(LINE.quality, name) for name in limits})
    row = last(eeg(250.0, 75, len(CAP)) * scale, line=SPARSE.model_copy(update={"quality": quality}))
    np.testing.assert_array_equal(row.grades, plain().grades)
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
    """Every biomarker, none left out."""
    order = np.random.default_rng(3).permutation(len(CAP))
    x = eeg(250.0, 75, len(CAP))
    one = last(x, every_hop=True)
    other = last(np.ascontiguousarray(x[:, order]), tuple(CAP[i] for i in order), every_hop=True)
    for i, column in enumerate(one.columns):
        j = other.find(column.name, column.channel)
        assert one.grades[i] == other.grades[j], column
        np.testing.assert_allclose(other.values[j], one.values[i], rtol=1e-7, atol=1e-9, err_msg=str(column))


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
    x, placed = eeg(125.0, 10, n_channels).copy(), labels[: len(POSITIONS)]
    if n_channels > 8:
        x[:, : len(placed)] = x[:, : len(placed)] @ smear(placed)  # places say what a head shows there
    found = whole(x, labels, 125.0)
    assert len(found) == 20
    names = {c.name.split(".")[0] for c in found[-1].columns}
    assert names >= set(KINDS) - {"faa"}
    powers = [g for c, g in zip(found[-1].columns, found[-1].grades, strict=True) if c.name.startswith("band_power")]
    assert len(powers) == 5 * n_channels and set(powers) == {Grade.GOOD}


def spoiled(kind: str) -> np.ndarray:
    """20 s of a whole cap with something in it that no head makes."""
    x = eeg(250.0, 20, len(CAP)).copy()
    if kind == "offsets of 180 mV":
        x += np.where(np.arange(len(CAP)) % 2, 180_000.0, -180_000.0)
    elif kind == "a channel that never was":
        x[:, 3] = np.nan
    elif kind == "a channel that dies":
        x[2500:, 3] = np.nan
    elif kind == "all die":
        x[2500:] = np.nan
    elif kind == "every seventh sample missing":
        x[::7, 4] = np.nan
    elif kind == "numbers beyond all":
        x[2000:2100], x[3000, 2], x[3500, 5] = np.inf, -3e38, 1e30
    elif kind == "volts taken for microvolts":
        x *= 1e-6
    elif kind == "one signal everywhere":
        x[:] = x[:, :1]
    elif kind == "mains of 5 mV":
        x += 5000 * np.sin(2 * np.pi * 60 * np.arange(len(x))[:, np.newaxis] / 250)
    else:
        assert kind == "a first sample at the rail"
        x[0] = 187_500.0
    return x


SPOILED = {  # and whether anything good may be told at the end
    "offsets of 180 mV": True,
    "a channel that never was": True,
    "a channel that dies": True,
    "all die": False,
    "every seventh sample missing": True,
    "numbers beyond all": True,
    "volts taken for microvolts": False,
    "one signal everywhere": False,
    "mains of 5 mV": False,
    "a first sample at the rail": True,
}


@pytest.mark.parametrize("kind", SPOILED)
def test_every_biomarker_survives_what_no_head_makes(kind: str) -> None:
    found = whole(spoiled(kind))
    for row in found:
        np.testing.assert_array_equal(np.isnan(row.values), row.grades == Grade.INVALID)
        assert not np.isinf(row.values).any()
        assert all((reason == "") == (grade == Grade.GOOD) for grade, reason in zip(row.grades, row.reasons, strict=True))
    good = (found[-1].grades == Grade.GOOD).mean()
    assert (good > 0.5) == SPOILED[kind], good
    assert SPOILED[kind] or good == 0
    if "channel that" in kind:
        dead = [g for c, g in zip(found[-1].columns, found[-1].grades, strict=True) if CAP[3] in c.channel.split("-")]
        assert dead
        assert set(dead) == {Grade.INVALID}


def test_every_biomarker_says_what_it_needs_where_there_is_no_eeg() -> None:
    info = StreamInfo("t", "t", 250.0, ("HEOG", "acc", "trigger"), ("eog", "misc", "misc"))
    marks = [(kind, importlib.import_module(f"dsp.biomarkers.{kind}").Settings()) for kind in KINDS]
    rows = Pipeline(info, LINE, marks).push(Chunk(eeg(250.0, 12, 3).astype(np.float32), 0, 0.0, 0.0))
    assert len(rows) == 24
    for column, grade, reason in zip(rows[-1].columns, rows[-1].grades, rows[-1].reasons, strict=True):
        assert grade == Grade.INVALID or column.channel == "HEOG"
        assert grade == Grade.GOOD or reason


def test_older_names_of_electrodes_are_the_same_places() -> None:
    """T3, T4, T5, T6 are T7, T8, P7, P8: every value is the same, whatever the montage calls them."""
    older = {new: old for old, new in OLDER.items()}
    labels = tuple(older.get(label, label) for label in CAP)
    renamed = last(eeg(250.0, 75, len(CAP)), labels)
    for column, value, other in zip(plain().columns, plain().values, renamed.values, strict=True):
        np.testing.assert_array_equal(value, other, err_msg=str(column))


@pytest.mark.parametrize("dress", ["EEG {}-REF", "{}.."])
def test_what_a_file_adds_to_names_changes_no_value(dress: str) -> None:
    """Files call F3 "EEG F3-REF" or "F3..": it is F3 for every biomarker, and its blinks are blinks."""
    labels = tuple(dress.format(label.upper()) for label in CAP)
    dressed = last(eeg(250.0, 75, len(CAP)), labels)
    assert len(dressed.columns) == len(plain().columns)
    for column, value, other in zip(plain().columns, plain().values, dressed.values, strict=True):
        np.testing.assert_array_equal(value, other, err_msg=str(column))


def test_two_channels_of_one_place_count_once() -> None:
    """A montage that holds an electrode twice, against different ears, still gets what needs a whole cap."""
    labels = (*(f"{label}-A1" for label in CAP), "F3-A2")
    x = eeg(250.0, 75, len(CAP))
    again = x[:, CAP.index("F3")] + 2.0 * np.random.default_rng(5).standard_normal(len(x))
    twice, once = last(np.column_stack([x, again]), labels), last(x, labels[:-1])
    for name in ("theta_cordance.prefrontal", "source_theta.racc"):
        assert twice.grades[twice.find(name)] == Grade.GOOD
        assert twice.values[twice.find(name)] == once.values[once.find(name)]


@pytest.mark.long
def test_nothing_grows_with_time_with_every_biomarker_on() -> None:
    """What lines of dsp/ hold once the longest window (120 s) is full, and two minutes later."""
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
                snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/dsp/*")])
                held.append(sum(trace.size for trace in snapshot.traces))
    finally:
        tracemalloc.stop()
    assert held[0] > 100_000 and held[1] <= 1.01 * held[0], held
