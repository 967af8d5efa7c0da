"""Every biomarker there is, found by its file, keeps the port's promises."""

from __future__ import annotations

import functools
import importlib

import numpy as np
import pytest
from pydantic import ValidationError

from dsp.hop import Hop
from dsp.pipeline import Pipeline
from eegloop import plugins
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

CAP = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2")
HEADSETS = {
    "cap": CAP,
    "muse": ("TP9", "AF7", "AF8", "TP10"),
    "one": ("Oz",),
    "unknown labels": ("a", "b"),
}
KINDS = plugins.kinds("biomarker")
STIMULATED = slice(15_000, 16_000)


def rows(kind: str, channels: tuple[str, ...], x: np.ndarray) -> tuple[Pipeline, list[Biomarkers]]:
    info = StreamInfo("t", "t", 250.0, channels, ("eeg",) * len(channels))
    settings = importlib.import_module(f"dsp.biomarkers.{kind}").Settings()
    pipeline = Pipeline(info, LineSettings(hop_s=0.5), [(kind, settings)])
    return pipeline, pipeline.push(Chunk(x[:, : len(channels)].astype(np.float32), 0, 0.0, 0.0))


@functools.cache
def eeg(seconds: float = 75, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(seconds * 250)
    spectrum = np.fft.rfft(rng.standard_normal((len(CAP), n))) / np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / 250), 0.5))
    pink = np.fft.irfft(spectrum, n)
    x = (pink * (8 / pink.std())).T + 12 * np.sin(2 * np.pi * 10 * np.arange(n) / 250)[:, np.newaxis]
    x.flags.writeable = False
    return np.asarray(x)


@functools.cache
def plain(kind: str, headset: str) -> tuple[Pipeline, list[Biomarkers]]:
    """Every row of a kind of biomarker alone on a headset, in a minute and a quarter that nothing disturbs."""
    return rows(kind, HEADSETS[headset], eeg())


@functools.cache
def every(what: str) -> tuple[Pipeline, list[Biomarkers]]:
    """Every kind at once on the cap; a kind's own columns are as if it were alone, which a test below proves."""
    info = StreamInfo("t", "t", 250.0, CAP, ("eeg",) * len(CAP))
    marks = [(kind, importlib.import_module(f"dsp.biomarkers.{kind}").Settings()) for kind in KINDS]
    pipeline = Pipeline(info, LineSettings(hop_s=0.5), marks)
    x = np.zeros((15_000, len(CAP))) if what == "zeros" else eeg()
    clean = None
    if what == "stimulated":
        clean = np.ones(len(x), dtype=bool)
        clean[STIMULATED] = False
    return pipeline, pipeline.push(Chunk(x.astype(np.float32), 0, 0.0, 0.0), clean)


def own(kind: str, row: Biomarkers) -> list[int]:
    """Numbers of the columns that a kind gives."""
    found = [i for i, c in enumerate(row.columns) if c.name.split(".")[0] == kind]
    if kind == "faa":
        found += [i for i, c in enumerate(row.columns) if c.name == "prefrontal_asymmetry"]
    assert found, f"{kind}: no column of its own"
    return found


def test_there_are_biomarkers() -> None:
    assert {"band_power", "relative_power", "iaf", "faa"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_closed_with_units_and_defaults(kind: str) -> None:
    settings = importlib.import_module(f"dsp.biomarkers.{kind}").Settings
    assert issubclass(settings, Closed)
    settings()
    with pytest.raises(ValidationError, match="no_such_key"):
        settings(no_such_key=1)
    for name, field in settings.model_fields.items():
        assert field.description, f"{kind}.{name} has no description with unit and range"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headset", HEADSETS)
def test_rows_keep_their_promises_on_any_headset(kind: str, headset: str) -> None:
    pipeline, found = plain(kind, headset)
    assert pipeline.columns, "a biomarker without columns"
    for column in pipeline.columns:
        assert column.name.split(".")[0] == kind or column.name == "prefrontal_asymmetry"
        assert column.unit
        assert column.window_s > 0
    for row in found:
        assert len(row.values) == len(row.grades) == len(row.reasons) == len(row.columns)
        np.testing.assert_array_equal(np.isnan(row.values), row.grades == Grade.INVALID)
        assert not np.isinf(row.values).any()
        for grade, reason in zip(row.grades, row.reasons, strict=True):
            assert (reason == "") == (grade == Grade.GOOD)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_cap_gives_at_least_one_good_value(kind: str) -> None:
    _, found = plain(kind, "cap")
    assert (found[-1].grades == Grade.GOOD).any(), found[-1].reasons


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_good_while_stimulation_is_on_or_settling(kind: str) -> None:
    pipeline, found = every("stimulated")
    columns = own(kind, found[0])
    touched = [row for row in found if STIMULATED.start < row.end_sample <= STIMULATED.stop + pipeline.settle_samples]
    assert len(touched) >= 8
    for row in touched:
        assert (row.grades[columns] == Grade.INVALID).all(), (row.end_sample, row.reasons)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_give_no_good_value_and_no_exception(kind: str) -> None:
    _, found = every("zeros")
    assert not (found[-1].grades[own(kind, found[-1])] == Grade.GOOD).any()


def test_together_they_give_what_each_gives_alone() -> None:
    """Shared spectra are computed once; who else asks must not change a value."""
    together = every("plain")[1][-1]
    for kind in KINDS:
        _, found = plain(kind, "cap")
        assert len(found[-1].columns) == len(own(kind, together))
        for i, column in enumerate(found[-1].columns):
            j = together.find(column.name, column.channel)
            np.testing.assert_allclose(together.values[j], found[-1].values[i], rtol=1e-9)
            assert together.reasons[j] == found[-1].reasons[i]


def test_the_port_is_what_the_pipeline_hands_over() -> None:
    assert {"density", "codes", "frequencies", "whole"} <= set(dir(Hop))
