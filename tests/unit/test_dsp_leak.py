"""An artifact that reaches other channels through the reference made of them: it is kept out, or said; never a good value."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.artifacts import Finding
from dsp.biomarkers import band_power
from dsp.codes import Code
from dsp.leak import Leak
from dsp.pipeline import Pipeline
from dsp.reference import Rereference
from dsp.window import Grid
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo
from simulators.brain import Brain, BrainSettings

RATE = 250.0
MONTAGE = ("Fp1", "Fp2", "F3", "F4", "P3", "P4", "O1", "O2")
TIMES_S = (14.0, 21.0, 28.0)


def calm(seconds: int = 36) -> np.ndarray:
    """(n, 8) µV without blinks, gaze, clenches and pops."""
    plant = Brain(BrainSettings(seed=7, clenches_per_min=0, pops_per_min=0, blinks_per_min=0, saccades_per_min=0, line_uv=0.0))
    return np.vstack([plant.advance(250) for _ in range(seconds)]).astype(float)


def run(x: np.ndarray, reference: str) -> list[Biomarkers]:
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * 8, full_scale_uv=187_500.0)
    pipeline = Pipeline(info, LineSettings(reference=reference), [("band_power", band_power.Settings())])
    rows: list[Biomarkers] = []
    for i in range(0, len(x), 50):
        rows += pipeline.push(Chunk(x[i : i + 50].astype(np.float32), i, i / RATE, i / RATE))
    return rows


def disturbed(x: np.ndarray, kind: str) -> np.ndarray:
    """P3 rails for 0.3 s, swings by 400 µV for 1.5 s, pops by 140 and 1500 µV; or both eyes' channels show blinks of 140 µV."""
    y = x.copy()
    t = np.arange(len(x)) / RATE
    for at in TIMES_S:
        rising = np.where(t >= at, t - at, np.inf)
        if kind == "rail":
            y[(t >= at) & (t < at + 0.3), 4] = 187_500.0
        elif kind == "wave":
            part = (t >= at) & (t < at + 1.5)
            y[part, 4] += 400 * np.sin(4 * np.pi * (t[part] - at))
        elif kind == "pop":
            y[:, 4] += 140 * np.exp(-rising / 0.25)
        elif kind == "large pop":
            y[:, 4] += 1500 * np.exp(-rising / 0.25)
        else:
            y[:, :2] += 140 * (np.sin(np.pi * np.minimum(rising, 0.3) / 0.3) ** 2)[:, np.newaxis] * (rising < 0.3)[:, np.newaxis]
    return y


@pytest.mark.parametrize("kind", ["rail", "wave", "pop", "large pop", "blink"])
@pytest.mark.parametrize("reference", ["average", "csd"])
def test_no_good_value_of_another_channel_holds_the_artifact(kind: str, reference: str) -> None:
    x = calm()
    clean, spoilt = run(x, reference), run(disturbed(x, kind), reference)
    columns = clean[0].columns
    others = [i for i, c in enumerate(columns) if c.channel in {"P4", "O1", "O2"}]
    least = {i: np.median([row.values[i] for row in clean[120:]]) for i in others}  # a quiet moment's ratio says little
    worst = 0.0
    for a, b in zip(clean, spoilt, strict=True):
        for i in others:
            if b.grades[i] == Grade.GOOD and a.grades[i] == Grade.GOOD:
                worst = max(worst, b.values[i] / max(a.values[i], least[i]))
    assert worst < (2.5 if reference == "average" else 3.0), worst
    late = [row for row in spoilt if row.end_sample > 12 * RATE]
    # a Laplacian beside P3 is another Laplacian while P3 is out, and says so
    stays = columns.index(
        next(c for c in columns if c.name == "band_power.alpha" and c.channel == ("O2" if reference == "average" else "F4"))
    )
    assert np.mean([row.grades[stays] == Grade.GOOD for row in late]) > 0.4, "most of the recording stays usable"
    if reference == "csd" and kind == "rail":
        beside = next(i for i in others if columns[i].channel == "O1")
        assert {row.reasons[beside] for row in late if row.grades[beside] != Grade.GOOD} >= {"rereferenced"}


def test_a_blink_is_said_where_the_average_puts_it_and_alpha_stays_good() -> None:
    rows = run(disturbed(calm(), "blink"), "average")
    held = [row for row in rows if 21.9 * RATE < row.end_sample <= 22.9 * RATE]
    delta, alpha = held[0].find("band_power.delta", "O1"), held[0].find("band_power.alpha", "O1")
    assert {row.reasons[delta] for row in held} == {"blink"}
    assert all(row.grades[delta] == Grade.SUSPECT and row.grades[alpha] == Grade.GOOD for row in held)


def test_a_loud_electrode_leaves_the_average_and_a_single_loud_block_does_not() -> None:
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * 8)
    reference = Rereference(info, "average", Grid.of(RATE, 0.1), np.ones(8, dtype=bool))
    none, loud = np.zeros(8, dtype=bool), np.arange(8) == 3
    rng = np.random.default_rng(0)
    for _ in range(3):
        reference.apply(rng.standard_normal((8, 25)), none, loud)
        reference.apply(rng.standard_normal((8, 25)), none, none)
        assert reference.good.all()
    for _ in range(4):
        reference.apply(rng.standard_normal((8, 25)), none, loud)
    assert reference.good.tolist() == [True] * 3 + [False] + [True] * 4
    assert reference.moving.tolist() == loud.tolist()
    for _ in range(70):
        x = rng.standard_normal((8, 25))
        x[3] *= 1e6
        kept = x.copy()
        reference.apply(x, none, loud)
    np.testing.assert_allclose(x[0], kept[0] - np.delete(kept, 3, 0).mean(0), atol=1e-9)
    for _ in range(70):
        reference.apply(rng.standard_normal((8, 25)), none, none)
    assert reference.good.all()


def test_marks_are_shared_by_how_much_arrives() -> None:
    grid = Grid.of(RATE, 0.1)
    leak = Leak(QualitySettings(), grid, np.ones(4, dtype=bool))
    x = np.zeros((4, 25))
    x[0] = 200 * np.sin(np.pi * np.arange(25) / 25)
    third = np.eye(4)
    third[1, 0], third[2, 0], third[3, 0] = -0.2, -0.04, 0.0  # 40, 8 and 0 µV
    leak.take(7, x, third, third)
    source = np.arange(4) == 0
    none = np.zeros(4, dtype=bool)
    shared = list(leak.findings([Finding(Code.BLINK, 6, 7, source, spoils=True)], none, none))
    assert [(f.code, f.first, f.last, f.spoils, f.only) for f in shared] == [
        (Code.BLINK, 7, 7, False, "slow"),
        (Code.BLINK, 7, 7, True, ""),
    ]
    assert all(f.channels.tolist() == [False, True, False, False] for f in shared)
    assert not list(leak.findings([Finding(Code.BLINK, 1, 6, source, spoils=True)], none, none)), "a block that is not kept"
    electrode = next(leak.findings([Finding(Code.STEP, 7, 7, source, spoils=True)], none, none))
    assert electrode.code == Code.REFERENCE_FAULT
    x[0] = 60 * (-1.0) ** np.arange(25)
    leak.take(8, x, third, third)
    muscle = list(leak.findings([Finding(Code.JAW_MUSCLE, 8, 8, source, spoils=False)], none, none))
    assert [f.only for f in muscle] == ["fast", ""]
    assert muscle[0].channels.tolist() == [False, True, True, False]
    leak.restart()
    leak.take(9, np.zeros((4, 25)), third, third)
    assert not list(leak.findings([Finding(Code.BLINK, 8, 9, source, spoils=True)], none, none))
