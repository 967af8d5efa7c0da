"""Artifacts, corrections and references: the same whatever the cuts, for any order of channels, at any rate and number of channels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dsp.asr import ArtifactSubspace
from dsp.biomarkers import band_power
from dsp.contact import TURNS_AFTER, Lasting
from dsp.correction import LineTracker
from dsp.eyes import Eyes
from dsp.pipeline import Pipeline
from dsp.reference import Rereference
from dsp.window import Grid
from eegloop.line import CorrectionSettings, LineSettings
from eegloop.signal import Biomarkers, Chunk, StreamInfo

LABELS = ("Fp1", "Fp2", "F7", "F8", "Fz", "C3", "C4", "O1", "O2")
ABOVE_EYES = ("AF3", "AF4", "C3", "C4", "T7", "T8", "O1", "O2")  # nothing beside the eyes, something by the ears
QUICK = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def eventful(rate: float, seconds: float, seed: int, labels: tuple[str, ...] = LABELS) -> np.ndarray:
    """(n, channels) µV with blinks, gaze steps, muscle, pops, mains and a bridge, at random."""
    rng = np.random.default_rng(seed)
    n, c = int(rate * seconds), len(labels)
    t = np.arange(n) / rate
    x = 4 * rng.standard_normal((n, 1)) + 3 * rng.standard_normal((n, c)) + 12 * np.sin(2 * np.pi * 10 * t)[:, np.newaxis]
    x += 5 * np.sin(2 * np.pi * 50 * t)[:, np.newaxis] + rng.uniform(-20_000, 20_000, c)
    front = np.exp(-np.arange(c) / 2.0)
    for at in rng.uniform(0, seconds, 8):
        x += 120 * np.exp(-(((t - at) / 0.08) ** 2))[:, np.newaxis] * front
    for at in rng.uniform(0, seconds, 4):
        x[:, 2 % c] += 50 * (t > at)
        x[:, 3 % c] -= 50 * (t > at)
    for at in rng.uniform(0, seconds, 3):
        part = (t > at) & (t < at + 0.7)
        x[part] += 40 * rng.standard_normal((int(part.sum()), c)) * rng.uniform(0, 1, c)
    x[:, rng.integers(c)] += np.where(t > seconds / 2, 300.0, 0.0)
    return x.astype(np.float32)


def run(x: np.ndarray, rate: float, line: LineSettings, cuts: list[int], lost: list[tuple[int, int]], labels=LABELS, pulses=()):
    info = StreamInfo("t", "t", rate, labels, ("eeg",) * len(labels), 187_500.0)
    pipeline = Pipeline(info, line, [("band_power", band_power.Settings())])
    for pulse in pulses:
        pipeline.pulse(pulse)
    rows: list[Biomarkers] = []
    holes = [edge for a, b in lost for edge in (a, b)]
    end = 0
    for a, b in itertools.pairwise(sorted({0, len(x), *cuts, *holes})):
        if any(low <= a < high for low, high in lost):
            continue
        rows += pipeline.push(Chunk(x[a:b], a, a / rate, b / rate, a - end))
        end = b
    return pipeline, rows


@QUICK
@given(st.data())
def test_cuts_change_nothing_with_everything_on(data: st.DataObject) -> None:
    rate = data.draw(st.sampled_from([125.0, 128.0, 250.0, 500.0]))
    labels = data.draw(st.sampled_from([LABELS, ABOVE_EYES]))
    x = eventful(rate, 24, data.draw(st.integers(0, 999)), labels)
    line = LineSettings(
        hop_s=data.draw(st.sampled_from([0.05, 0.1, 0.25])),
        window_s=1.0,
        notch_hz=None,
        reference=data.draw(st.sampled_from(["recorded", "average", "csd", "bipolar"])),
        correction=CorrectionSettings(
            blink_above_uv=data.draw(st.sampled_from([None, 15.0])),
            subspace_cutoff=data.draw(st.sampled_from([None, 5.0])),
            subspace_calibration_s=20.0,
            track_line_hz=data.draw(st.sampled_from([None, 50])),
        ),
    )
    n = len(x)
    cuts = data.draw(st.lists(st.integers(1, n - 1), max_size=40))
    at = data.draw(st.integers(1, n - 2))
    lost = (
        [(at, min(n - 1, at + data.draw(st.sampled_from([1, int(0.04 * rate), int(rate)]))))] if data.draw(st.booleans()) else []
    )
    pulses = data.draw(st.lists(st.integers(0, n - 1), max_size=3))
    whole, a = run(x, rate, line, [], lost, labels, pulses)
    cut, b = run(x, rate, line, cuts, lost, labels, pulses)
    assert whole.artifact_events == cut.artifact_events
    assert whole.blink_polarity == cut.blink_polarity
    assert len(a) == len(b)
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p.grades, q.grades)
        assert p.reasons == q.reasons
        assert p.quality.reasons == q.quality.reasons
        assert p.quality.worst == q.quality.worst
        assert p.quality.lost_fraction == q.quality.lost_fraction
        np.testing.assert_allclose(p.values, q.values, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(p.quality.contact, q.quality.contact, rtol=1e-9)


@QUICK
@given(st.permutations(range(len(LABELS))), st.integers(0, 99), st.sampled_from(["recorded", "average", "csd"]))
def test_channels_in_another_order_are_judged_alike(order: list[int], seed: int, reference: str) -> None:
    x = eventful(250.0, 14, seed)
    line = LineSettings(window_s=1.0, hop_s=0.5, reference=reference)
    moved_labels = tuple(LABELS[i] for i in order)
    one, a = run(x, 250.0, line, [], [])
    other, b = run(np.ascontiguousarray(x[:, order]), 250.0, line, [], [], labels=moved_labels)
    assert [e.sample for e in one.artifact_events] == [e.sample for e in other.artifact_events]
    for p, q in zip(a, b, strict=True):
        assert [p.quality.reasons[i] for i in order] == list(q.quality.reasons)
        for i, column in enumerate(p.columns):
            j = q.find(column.name, column.channel)
            assert p.grades[i] == q.grades[j]
            np.testing.assert_allclose(p.values[i], q.values[j], rtol=1e-6)


@QUICK
@given(st.floats(0.1, 10), st.integers(0, 99))
def test_eyes_scale_with_their_thresholds(scale: float, seed: int) -> None:
    """Signal and thresholds times s: the same events, s times as high."""
    x = np.ascontiguousarray(eventful(250.0, 12, seed).astype(float).T)
    x -= x[:, :1]
    info = StreamInfo("t", "t", 250.0, LABELS, ("eeg",) * len(LABELS))
    found = []
    for s in (1.0, scale):
        eyes = Eyes(info, 30.0 * s, 60.0 * s, "positive", 25)
        for block in range(x.shape[1] // 25):
            eyes.take(block, block * 25, s * x[:, block * 25 : block * 25 + 25])
        found.append(list(eyes.log))
    assert [(e.kind, e.sample) for e in found[0]] == [(e.kind, e.sample) for e in found[1]]
    np.testing.assert_allclose([e.height_uv * scale for e in found[0]], [e.height_uv for e in found[1]], rtol=1e-6)


@QUICK
@given(st.floats(0.01, 100), st.integers(0, 99))
def test_subspaces_and_references_scale(scale: float, seed: int) -> None:
    grid = Grid.of(250.0, 0.1)
    info = StreamInfo("t", "t", 250.0, LABELS, ("eeg",) * len(LABELS))
    eeg = np.ones(len(LABELS), dtype=bool)
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((len(LABELS), 25)) * (1 if k < 250 else 1 + 30 * (k % 7 == 0)) for k in range(300)]
    out = []
    for s in (1.0, scale):
        subspace, line = ArtifactSubspace(grid, eeg, 5.0, 20.0), LineTracker(grid, len(LABELS), 50.0)
        reference = Rereference(info, "csd", grid, eeg)
        last = []
        for k, block in enumerate(blocks):
            x = s * block
            line.apply(k + 1, 25 * (k + 1), x)
            subspace.apply(x, k < 250)
            reference.apply(x, np.zeros(len(LABELS), dtype=bool))
            last.append(x)
        assert subspace.calibrated
        out.append(np.concatenate(last[-40:], axis=1))
    np.testing.assert_allclose(out[1], scale * out[0], rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize(("rate", "channels"), [(125.0, 1), (250.0, 3), (1000.0, 32), (2000.0, 8), (250.0, 256)])
def test_any_rate_and_any_number_of_channels_with_everything_on(rate: float, channels: int) -> None:
    labels = (*LABELS, *(f"E{i}" for i in range(channels)))[:channels]
    x = eventful(rate, 5, 3, labels)
    line = LineSettings(
        window_s=1.0,
        reference="average",
        correction=CorrectionSettings(blink_above_uv=15.0, subspace_cutoff=20.0, subspace_calibration_s=20.0, track_line_hz=50),
    )
    _, rows = run(x, rate, line, [], [], labels)
    assert len(rows) == 50
    assert all(len(row.quality.reasons) == channels for row in rows)


@QUICK
@given(st.lists(st.sampled_from("bg-"), max_size=80))
def test_a_verdict_needs_a_run_to_turn(looks: list[str]) -> None:
    lasting, on, run_of = Lasting((1,)), False, 0
    for look in looks:
        run_of = run_of + 1 if look == ("g" if on else "b") else 0
        if run_of == TURNS_AFTER:
            on, run_of = not on, 0
        assert lasting.take(np.array([look == "b"]), np.array([look == "g"]))[0] == on
