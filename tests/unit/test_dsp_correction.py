"""Corrections give back what was under the artifact, say that they did, and leave everything else alone; references re-form smoothly."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import band_power
from dsp.hop import SampleNeed
from dsp.pipeline import Pipeline
from dsp.reference import Rereference
from dsp.window import Grid, SampleRing
from eegloop.errors import ConfigError
from eegloop.line import CorrectionSettings, LineSettings, QualitySettings
from eegloop.plugins import find
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo
from simulators.brain import Brain, BrainSettings, Stimulation

RATE = 250.0
MONTAGE = ("Fp1", "Fp2", "F3", "F4", "P3", "P4", "O1", "O2")


class Samples:
    """Collects the samples that biomarkers see, hop by hop."""

    columns = ()
    needs = (SampleNeed(25),)

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []

    def compute(self, hop, values, grades):
        self.pieces.append(hop.window(25).copy())
        return ()


def run(x: np.ndarray, labels: tuple[str, ...] = MONTAGE, pulses: tuple[int, ...] = (), **line: object):
    """The rows, and the (n_channels, n) samples after all corrections."""
    info = StreamInfo("t", "t", RATE, labels, ("eeg",) * len(labels), full_scale_uv=187_500.0)
    pipeline = Pipeline(info, LineSettings(window_s=1.0, **line), [("band_power", band_power.Settings())])
    seen = Samples()
    pipeline._samples = pipeline._hop.samples = SampleRing(len(labels), 25)
    pipeline._biomarkers.append(seen)
    pipeline._slices.append(slice(pipeline._n_columns, pipeline._n_columns))
    for sample in pulses:
        pipeline.pulse(sample)
    rows: list[Biomarkers] = []
    for i in range(0, len(x), 50):
        rows += pipeline.push(Chunk(x[i : i + 50].astype(np.float32), i, i / RATE, i / RATE))
    return rows, np.concatenate(seen.pieces, axis=1)


def brain(seconds: int, **settings: object) -> tuple[np.ndarray, np.ndarray]:
    """(delivered, without its artifacts), (n, channels) µV."""
    plant = Brain(BrainSettings(seed=5, clenches_per_min=0, pops_per_min=0, **settings))
    both = [(plant.advance(250), plant.truth().brain_uv) for _ in range(seconds)]
    return np.vstack([a for a, _ in both]).astype(float), np.vstack([b for _, b in both])


def test_blinks_are_taken_out_by_regression_and_said() -> None:
    x, _ = brain(36, saccades_per_min=0, blinks_per_min=40)
    plain_rows, plain = run(x)
    rows, fixed = run(x, correction=CorrectionSettings(blink_above_uv=20.0))
    blinking = np.abs(plain[:2].mean(0)) > 50
    blinking[: 18 * 250] = False
    f3 = MONTAGE.index("F3")
    assert blinking.sum() > 100
    assert np.sqrt(np.mean(fixed[f3, blinking] ** 2)) < 0.6 * np.sqrt(np.mean(plain[f3, blinking] ** 2))
    quiet = np.abs(plain[:2].mean(0)) <= 20
    np.testing.assert_array_equal(fixed[:, quiet], plain[:, quiet])
    column = rows[0].find("band_power.delta", "F3")
    said = [row for row in rows if row.reasons[column] == "corrected"]
    assert said
    assert all(row.grades[column] == Grade.SUSPECT for row in said)
    assert not any("corrected" in reasons for row in plain_rows for reasons in row.quality.reasons)


def test_asr_brings_back_the_power_under_a_loud_artifact_and_leaves_the_rest() -> None:
    x, _ = brain(44, eyes="closed", saccades_per_min=0)
    rng = np.random.default_rng(1)
    _clean_rows, clean = run(x)
    part = slice(40 * 250, 42 * 250)
    x[part] += np.outer(70 * np.sin(2 * np.pi * 6 * np.arange(500) / RATE), rng.standard_normal(8))
    _, plain = run(x)
    rows, fixed = run(x, correction=CorrectionSettings(subspace_cutoff=20.0, subspace_calibration_s=20.0))
    n = clean.shape[1]
    error = lambda y: float(np.sqrt(np.mean((y[:, part.start + 60 : part.stop] - clean[:, part.start + 60 : part.stop]) ** 2)))  # noqa: E731
    assert error(fixed) < 0.25 * error(plain)
    before = slice(30 * 250, 39 * 250)
    assert np.sqrt(np.mean((fixed[:, before] - clean[:, before]) ** 2)) < 0.02 * np.sqrt(np.mean(clean[:, before] ** 2))
    assert n == len(x)
    during = next(row for row in rows if row.end_sample == 41 * 250)
    assert set(during.reasons) >= {"corrected"} or "amplitude" in set(during.reasons)
    assert (during.grades == Grade.SUSPECT).any()


@pytest.mark.parametrize("mains", [49.8, 50.0, 50.3])
def test_mains_are_followed_and_taken_out(mains: float) -> None:
    x, _ = brain(20, line_uv=0.0)
    line = {"notch_hz": None, "low_pass_hz": None, "high_pass_hz": 1.0}
    _, clean = run(x, **line)
    x += 40 * np.sin(2 * np.pi * mains * np.arange(len(x)) / RATE + 0.4)[:, np.newaxis]
    rows, fixed = run(x, correction=CorrectionSettings(track_line_hz=50), **line)
    late = slice(14 * 250, None)
    left = np.sqrt(np.mean((fixed[:, late] - clean[:, late]) ** 2))
    assert left < 0.05 * 40 / np.sqrt(2)
    assert all("corrected" in reasons for reasons in rows[-1].quality.reasons)
    alpha = rows[0].find("band_power.alpha", "O1")
    settled = [row for row in rows if row.end_sample > 14 * 250]
    assert {row.reasons[alpha] for row in settled} == {""}, "what is left of the mains is what counts"
    untracked, _ = run(x, **line)
    assert "" not in {row.reasons[alpha] for row in untracked if row.end_sample > 14 * 250}


def test_mains_that_the_tracker_cannot_follow_are_said() -> None:
    """A generator's mains that wander by more than a hertz, too weak to be steep: what is left of them is measured."""
    x, _ = brain(24, line_uv=0.0)
    t = np.arange(len(x)) / RATE
    x += 16 * np.sin(2 * np.pi * 50 * t + 4 * np.sin(2 * np.pi * 0.3 * t))[:, np.newaxis]
    rows, _ = run(x, correction=CorrectionSettings(track_line_hz=50), notch_hz=None, low_pass_hz=None, high_pass_hz=1.0)
    alpha = rows[0].find("band_power.alpha", "Fp1")
    assert "line_noise" in {row.reasons[alpha] for row in rows if row.end_sample > 14 * 250}


def test_magnetic_pulses_are_cut_before_any_filter_and_their_windows_are_suspect() -> None:
    x, _ = brain(30)
    _, clean = run(x)
    pulses = (20 * 250 + 3, 20 * 250 + 24, 25 * 250 - 1)
    for at in pulses:
        x[at : at + 3] += np.array([30_000, -20_000, 4000])[:, np.newaxis]
    rows, raw = run(x)
    rows, fixed = run(x, pulses=pulses)
    late = slice(19 * 250, 27 * 250)
    assert np.abs(raw[:, late] - clean[:, late]).max() > 1000
    assert np.abs(fixed[:, late] - clean[:, late]).max() < 60
    column = rows[0].find("band_power.alpha", "O1")
    for row in rows:
        if row.end_sample > 10 * 250:
            holds = any(row.end_sample - 250 < at < row.end_sample for at in pulses)
            if holds:
                assert row.grades[column] != Grade.GOOD, row.end_sample
                assert row.reasons[column] in ("pulse", "amplitude"), row.reasons[column]
    assert rows[-1].grades[column] == Grade.GOOD


def test_a_pulse_told_late_or_twice_still_makes_every_window_that_holds_it_suspect() -> None:
    x, _ = brain(20, blinks_per_min=0, saccades_per_min=0)
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * len(MONTAGE), full_scale_uv=187_500.0)
    told_after: dict[int, list[Biomarkers]] = {}
    for late in (0, 40, 260):  # samples after the pulse; 260: more than a second, hops have ended on it meanwhile
        pipeline = Pipeline(info, LineSettings(window_s=1.0), [("band_power", band_power.Settings())])
        at, rows = 15 * 250 + 3, []
        for i in range(0, len(x), 10):
            if i <= at + late < i + 10:
                pipeline.pulse(at)
                pipeline.pulse(at)
            rows += pipeline.push(Chunk(x[i : i + 10].astype(np.float32), i, i / RATE, i / RATE))
        told_after[late] = rows
    column = told_after[0][0].find("band_power.alpha", "O1")
    for late, rows in told_after.items():
        for row in rows:
            if row.end_sample - 250 <= at < row.end_sample and row.end_sample > at + late + 10:
                assert (row.grades[column], row.reasons[column]) == (Grade.SUSPECT, "pulse"), (late, row.end_sample)
            elif row.end_sample > 17 * 250:
                assert row.grades[column] == Grade.GOOD, (late, row.end_sample, row.reasons[column])


@pytest.mark.parametrize(("uv", "tail_s"), [(2000.0, 0.02), (300.0, 0.15)])
def test_no_value_is_good_while_the_amplifier_recovers_from_a_pulse(uv: float, tail_s: float) -> None:
    """A tail of any length behind the cut: what is good afterwards is what it is without the pulses, phase and long windows included."""
    x, _ = brain(70, blinks_per_min=0, saccades_per_min=0)
    kinds = ("band_power", "phase", "iaf", "plv", "alpha_bursts", "aperiodic")
    pulses = (50 * 250 + 3, 55 * 250 + 24, 60 * 250 - 1)
    disturbed = x.copy()
    for at in pulses:
        disturbed[at:] += uv * np.exp(-np.arange(len(x) - at) / 250 / tail_s)[:, np.newaxis]
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * len(MONTAGE), full_scale_uv=187_500.0)
    found = []
    for data, at in ((x, ()), (disturbed, pulses)):
        settings = [(kind, find("biomarker", kind).Settings()) for kind in kinds]
        pipeline = Pipeline(info, LineSettings(), settings)
        for sample in at:
            pipeline.pulse(sample)
        found.append(
            [
                row
                for i in range(0, len(x), 25)
                for row in pipeline.push(Chunk(data[i : i + 25].astype(np.float32), i, i / RATE, i / RATE))
            ]
        )
    calm, rows = found
    delta, peak = rows[0].find("band_power.delta", "O1"), rows[0].find("iaf.maximum", "O1")
    angle, amplitude = rows[0].find("phase.angle", "O1"), rows[0].find("phase.amplitude", "O1")
    for before, row in zip(calm, rows, strict=True):
        if any(at < row.end_sample <= at + 250 for at in pulses):
            assert Grade.GOOD not in row.grades, "good within a second of a pulse"
        if row.grades[delta] == Grade.GOOD:
            assert abs(np.log2(row.values[delta] / before.values[delta])) < 0.1
        if row.grades[angle] == Grade.GOOD and before.values[amplitude] > 10:
            assert abs((row.values[angle] - before.values[angle] + 180) % 360 - 180) < 15
    between = [row for row in rows if 54 * 250 < row.end_sample <= 55 * 250]
    assert all(row.grades[peak] == Grade.GOOD for row in between)
    assert all(row.grades[delta] == Grade.GOOD for row in rows if row.end_sample > 66 * 250)


def test_pulses_of_the_virtual_brain_leave_brain_behind() -> None:
    """Pulses into the plant: the amplifier at its rail, then a tail of milliseconds; half a second after the cut only brain is left."""
    plant = Brain(BrainSettings(seed=2, eyes="closed", clenches_per_min=0, pops_per_min=0, pulse_artifact_s=0.002))
    pulses = (16 * 250 + 7, 17 * 250 + 11)
    delivered, clean = [], []
    for _ in range(20):
        delivered.append(plant.advance(250, Stimulation(pulses=pulses)))
        clean.append(plant.truth().clean_uv)
    x, undisturbed = np.vstack(delivered).astype(float), np.vstack(clean)
    assert np.abs(x - undisturbed).max() > 1000, "the plant was not disturbed"
    _, truth = run(undisturbed)
    _, fixed = run(x, pulses=pulses)
    after = slice(18 * 250, 20 * 250)
    assert np.sqrt(np.mean((fixed[:, after] - truth[:, after]) ** 2)) < 0.1 * np.sqrt(np.mean(truth[:, after] ** 2))


@pytest.mark.parametrize("kind", ["average", "csd", "bipolar"])
def test_a_channel_that_drops_out_makes_no_jump_in_the_others(kind: str) -> None:
    x, _ = brain(40, line_uv=0.0, saccades_per_min=0, blinks_per_min=0)
    _, whole = run(x, reference=kind)
    lost = x.copy()
    lost[15 * 250 : 22 * 250, 4] = np.nan
    rows, dropped = run(lost, reference=kind)
    others = [i for i in range(8) if i != 4]
    for y in (whole, dropped):
        steps = np.abs(np.diff(y[others, 12 * 250 : 35 * 250], axis=1))
        assert steps.max() < 25, steps.max()
    np.testing.assert_allclose(dropped[others, : 15 * 250], whole[others, : 15 * 250], atol=1e-9)
    np.testing.assert_allclose(dropped[others, -500:], whole[others, -500:], atol=1e-6)
    during = next(row for row in rows if row.end_sample == 20 * 250)
    assert during.grades[during.find("band_power.alpha", "F4")] == Grade.GOOD
    assert during.grades[during.find("band_power.alpha", "P3")] == Grade.INVALID
    # O1 lies between P3 and O2: without P3 its Laplacian is another one, which stands there while a window holds any of it
    o1 = during.find("band_power.alpha", "O1")
    assert during.reasons[o1] == ("rereferenced" if kind == "csd" else "")
    assert "rereferenced" not in during.quality.reasons[MONTAGE.index("F4")] and during.quality.good[MONTAGE.index("O1")]
    said = [row.end_sample for row in rows if row.reasons[o1] == "rereferenced"]
    if kind == "csd":
        back = next(
            i
            for i, row in enumerate(rows)
            if row.end_sample > 23 * 250 and row.grades[rows[0].find("band_power.alpha", "P3")] == Grade.GOOD
        )
        assert 15 * 250 < said[0] <= 16 * 250 and rows[back].end_sample < said[-1] <= rows[back].end_sample + 8 * 250
        assert rows[-1].reasons[o1] == ""


def test_the_average_is_that_of_the_good_channels() -> None:
    grid = Grid.of(RATE, 0.1)
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * 7 + ("misc",))
    eeg = np.array([True] * 7 + [False])
    reference = Rereference(info, "average", grid, eeg)
    rng = np.random.default_rng(0)
    bad = np.zeros(8, dtype=bool)
    bad[2] = True
    for _ in range(10):
        x = rng.standard_normal((8, 25))
        kept = x.copy()
        reference.apply(x, bad)
    good = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(x[:7], kept[:7] - kept[good].mean(0), atol=1e-12)
    np.testing.assert_array_equal(x[7], kept[7])


def test_csd_ignores_what_is_everywhere() -> None:
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * 8)
    reference = Rereference(info, "csd", Grid.of(RATE, 0.1), np.ones(8, dtype=bool))
    x = np.tile(np.random.default_rng(1).standard_normal(25), (8, 1))
    reference.apply(x, np.zeros(8, dtype=bool))
    np.testing.assert_allclose(x, 0.0, atol=1e-12)


def test_what_is_off_changes_nothing() -> None:
    x, _ = brain(12)
    _, a = run(x)
    _, b = run(x, correction=CorrectionSettings(), quality=QualitySettings())
    np.testing.assert_array_equal(a, b)


def test_rest_is_mne_s_and_re_forms_over_the_good_channels() -> None:
    """Against MNE's REST with the same forward solution, with all electrodes and with one gone."""
    import mne

    from dsp.inverse import forward_solution, template
    from dsp.reference import Rereference
    from dsp.window import Grid

    labels = (
        "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz",
        "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2", "Oz",
    )  # fmt: skip
    info = StreamInfo("t", "t", RATE, (*labels, "ECG"), ("eeg",) * 20 + ("misc",))
    eeg = np.array([True] * 20 + [False])
    x = np.random.default_rng(3).standard_normal((21, 25)) * 20
    forward = forward_solution(template(labels)[0])

    def expected(picked: list[int]) -> np.ndarray:
        names = [labels[i] for i in picked]
        raw = mne.io.RawArray(x[picked], mne.create_info(names, RATE, "eeg"), verbose="error")
        raw.set_montage(template(labels)[1])
        return np.asarray(raw.set_eeg_reference("REST", forward=forward, verbose="error").get_data())

    rest = Rereference(info, "rest", Grid.of(RATE, 0.1), eeg)
    y = x.copy()
    rest.apply(y, np.zeros(21, dtype=bool))
    np.testing.assert_allclose(y[:20], expected(list(range(20))), atol=1e-6)
    np.testing.assert_array_equal(y[20], x[20])
    moved = x.copy()
    moved[:20] += 7.0  # another recorded reference
    rest.apply(moved, np.zeros(21, dtype=bool))
    np.testing.assert_allclose(moved[:20], y[:20], atol=1e-9)
    gone = np.zeros(21, dtype=bool)
    gone[3] = True
    for _ in range(6):  # half a second of fading
        y = x.copy()
        rest.apply(y, gone)
    others = [i for i in range(20) if i != 3]
    np.testing.assert_allclose(y[others], expected(others), atol=1e-6)
    assert not rest.far.any()
    gone[[5, 7]] = True
    rest.apply(x.copy(), gone)
    assert not rest.lacking.any() and not rest.far.any(), "a montage of 20 electrodes can do without three"
    gone[1:20] = True
    rest.apply(x.copy(), gone)
    assert rest.lacking[:20].all(), "nothing is left"


def test_rest_is_refused_where_it_cannot_be() -> None:
    few = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * len(MONTAGE))
    with pytest.raises(ConfigError, match="needs 19 electrodes"):
        Pipeline(few, LineSettings(reference="rest"), [])
    nameless = StreamInfo("t", "t", RATE, tuple(f"E{i}" for i in range(20)), ("eeg",) * 20)
    with pytest.raises(ConfigError, match="10-10 names"):
        Pipeline(nameless, LineSettings(reference="rest"), [])
