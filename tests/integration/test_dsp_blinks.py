"""Blinks and other artifacts of the shared recordings and of the virtual brain, with the settings every seat runs with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import artifacts
from benchmarks.blinks import FRONTAL, MUSE, brain, load, recording
from dsp.biomarkers import band_power
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo
from simulators.brain import Brain, BrainSettings


def rows_of(x: np.ndarray, info: StreamInfo, **line: object) -> tuple[Pipeline, list[Biomarkers]]:
    pipeline = Pipeline(info, LineSettings(**line), [("band_power", band_power.Settings())])
    step = round(info.sample_rate_hz * 0.02)
    rows: list[Biomarkers] = []
    for i in range(0, len(x), step):
        rows += pipeline.push(Chunk(x[i : i + step].astype(np.float32), i, i / info.sample_rate_hz, i / info.sample_rate_hz))
    return pipeline, rows


def share(
    rows: list[Biomarkers], info: StreamInfo, span_s: tuple[float, float], reasons: set[str], channel: str | None = None
) -> float:
    """Share of the hops within a span at which a channel (or any) carries one of these reasons."""
    inside = [row for row in rows if span_s[0] < row.end_sample / info.sample_rate_hz <= span_s[1]]
    picked = range(info.n_channels) if channel is None else [info.channels.index(channel)]
    return float(np.mean([any(reasons & set(row.quality.reasons[i]) for i in picked) for row in inside]))


def test_blinks_of_all_recordings(shared_data: Path) -> None:
    """One fixed setting: at least 90 % of the 55 listed, at most 15 % false; the polarity is found."""
    counts = [recording(shared_data, name) for name in FRONTAL]
    assert sum(c.listed for c in counts) == 55
    assert sum(c.found for c in counts) >= 0.9 * 55, counts
    assert all(c.found >= 0.9 * c.listed for c in counts), counts
    assert sum(c.false for c in counts) <= 0.15 * sum(c.detected for c in counts), counts
    assert [c.polarity for c in counts] == [1, -1, 1, 1]


def test_blinks_of_the_virtual_brain() -> None:
    count = brain(seed=4, seconds=150)
    assert count.listed > 20
    assert count.found >= 0.95 * count.listed
    assert count.false <= 0.05 * count.detected


@pytest.mark.parametrize("reference", ["Fpz", "average"])
def test_blinks_do_not_depend_on_where_the_reference_sits(reference: str) -> None:
    """A headband referenced on the forehead shows 15 µV of a blink in front and 100 µV of it, upside down, at the ears."""
    count = brain(seed=1, seconds=150, montage=MUSE, reference=reference)
    assert count.listed > 12
    assert count.found >= 0.95 * count.listed
    assert count.false <= 0.05 * count.detected


@pytest.mark.parametrize(("montage", "reference", "channel"), [(None, "A1A2", "F3"), (MUSE, "Fpz", "TP9"), (MUSE, "Fpz", "AF7")])
def test_no_good_slow_power_holds_a_blink_and_alpha_goes_on(
    montage: tuple[str, ...] | None, reference: str, channel: str
) -> None:
    """A blink of 40 µV at F3 makes five times the delta that is the brain's; alpha it leaves alone.

    Compared with the same line over the brain alone, in every hop called good whose window holds a blink.
    """
    settings = BrainSettings(seed=2) if montage is None else BrainSettings(seed=2, montage=montage, reference=reference)
    plant = Brain(settings)
    pieces, alone, peaks = [], [], []
    for _ in range(120):
        pieces.append(plant.advance(250))
        truth = plant.truth()
        alone.append(truth.brain_uv)
        peaks += [event.peak_s for event in truth.events if event.kind == "blink"]
    labels = settings.montage
    info = StreamInfo("brain", "brain", 250.0, labels, ("eeg",) * len(labels))
    _, rows = rows_of(np.vstack(pieces), info)
    _, clean = rows_of(np.vstack(alone), info)
    at = np.array([row.end_sample / 250 for row in rows])
    blinks = np.array(peaks)
    # a blink's peak lies well inside the window, and the window ends when the first polarity has long been found
    holds = (at > 15) & np.array([bool(np.any((blinks > t - 1.8) & (blinks < t - 0.1))) for t in at])
    assert holds.sum() > 100
    for band in ("delta", "theta", "alpha"):
        i = rows[0].find(f"band_power.{band}", channel)
        good = holds & np.array([row.grades[i] == Grade.GOOD for row in rows])
        ratio = np.array([a.values[i] / b.values[i] for a, b in zip(rows, clean, strict=True)])
        if band != "alpha":
            assert good.sum() <= 0.05 * holds.sum(), band
            assert np.median(ratio[holds]) > 1.2, "nothing to protect from"
        elif channel != "TP9":  # what is over 60 µV spoils everything
            assert good.sum() > 0.8 * holds.sum()
            assert np.median(ratio[good]) <= 1.1


def test_jaw_blinks_and_closed_eyes_of_the_cyton(shared_data: Path) -> None:
    x, info = load(shared_data, "cyton_eo_ec_blinks_jaw_8ch")
    pipeline, rows = rows_of(x, info, notch_hz=60)
    jaw, closed = (8.3, 13.0), (30.0, 75.0)
    assert share(rows, info, jaw, {"jaw_muscle", "neck_muscle"}) > 0.7
    assert share(rows, info, jaw, {"jaw_muscle"}) > 0.5
    assert share(rows, info, closed, {"jaw_muscle", "neck_muscle", "movement", "step", "gradient"}) < 0.01
    assert share(rows, info, closed, {"blink"}) < 0.02
    blinks = [event.sample / 250 for event in pipeline.artifact_events if event.kind == "blink"]
    assert sum(14.0 < t < 16.6 for t in blinks) >= 6
    assert sum(28.5 < t < 75.0 for t in blinks) <= 2
    taps = [event for event in pipeline.artifact_events if 86 < event.sample / 250 < 88.6]
    assert not [event for event in taps if event.kind == "blink"], "taps of the whole headset are no blinks"
    assert rows[-1].quality.mains_hz == 60.0


def test_alpha_of_closed_over_open_eyes_on_clean_windows(shared_data: Path) -> None:
    """Good windows only: within 20 % of the README's x2.52 and x2.45 (28-75 s against 2-26 s)."""
    x, info = load(shared_data, "cyton_eo_ec_blinks_jaw_8ch")
    _, rows = rows_of(x, info, notch_hz=60)
    for channel, ratio in (("O1", 2.52), ("O2", 2.45)):
        column = rows[0].find("band_power.alpha", channel)
        mean = []
        for low, high in ((28.0, 75.0), (2.0, 26.0)):
            good = [
                row.values[column] for row in rows if row.grades[column] == Grade.GOOD and low + 2 < row.end_sample / 250 <= high
            ]
            assert len(good) > 50, "too few clean windows to compare"
            mean.append(np.mean(good))
        assert mean[0] / mean[1] == pytest.approx(ratio, rel=0.2), channel


def test_glitches_of_the_epoc_are_glitches(shared_data: Path) -> None:
    x, info = load(shared_data, "emotiv_eye_state_14ch")
    _, rows = rows_of(x, info)
    for sample in (898, 10386, 11509, 13179):
        row = next(row for row in rows if row.end_sample > sample)
        named = [set(reasons) for reasons in row.quality.reasons]
        assert sum("glitch" in reasons for reasons in named) >= 4, sample
        assert not any({"step", "rail", "jaw_muscle", "neck_muscle", "lost"} & reasons for reasons in named), sample


def test_the_burst_at_the_end_of_the_muse_is_no_brain(shared_data: Path) -> None:
    x, info = load(shared_data, "muse_oddball_4ch")
    _, rows = rows_of(x, info)
    artifacts = {"blink", "movement", "amplitude", "gradient", "eye_movement", "step"}
    assert share(rows, info, (117.0, 120.0), artifacts) > 0.3
    assert share(rows, info, (20.0, 80.0), artifacts) < 0.1
    good = [row.grades[row.find("band_power.delta", "AF7")] == Grade.GOOD for row in rows if row.end_sample / 256 > 118.6]
    assert not any(good)


def test_untouched_recordings_carry_no_artifact_that_they_have_not(shared_data: Path) -> None:
    """Quiet spans of all five; the mains of two are real, and so are the few blinks."""
    for name, (low, high, mains) in artifacts.RECORDINGS.items():
        x, info = artifacts.recorded(shared_data, name)
        until = x[: round((min(high, low + 40.0) + 1.0) * info.sample_rate_hz)]
        shares = artifacts.false_shares(artifacts.rows_of(until, info, mains), info, (low, high))
        allowed = {"blink": 0.04, "line_noise": 1.0 if name.startswith(("cyton", "muse")) else 0.01}
        # its pieces were joined: up to 18 of 32 channels step by 50-90 µV between two samples, five times in this span
        allowed["gradient"] = 0.01 if name.startswith("attention") else 0.001
        for reason, share in shares.items():
            assert share <= allowed.get(reason, 0.001), (name, reason, share)


@pytest.mark.parametrize("name", ["reference fault", "bridged", "stranger to its neighbors", "mains (60 µV)", "flat"])
def test_artifacts_put_into_a_recording_are_found(shared_data: Path, name: str) -> None:
    (kind,) = [kind for kind in artifacts.KINDS if kind.name == name]
    low, high, mains = artifacts.RECORDINGS["cyton_eo_ec_blinks_jaw_8ch"]
    x, info = artifacts.recorded(shared_data, "cyton_eo_ec_blinks_jaw_8ch")
    assert artifacts.found_of(kind, x, info, (low, high), mains, trials=2) == (2, 2)


@pytest.mark.long
def test_every_artifact_is_found_in_every_recording(shared_data: Path) -> None:
    found = artifacts.table(shared_data)
    for kind, by_name in found.items():
        hit, tried = (sum(counts) for counts in zip(*by_name.values(), strict=True))
        assert hit >= 0.9 * tried > 0, (kind, by_name)
