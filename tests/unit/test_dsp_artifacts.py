"""Artifacts of body and electrodes: each recognized where it is, on its channels, and nowhere in a clean signal."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dsp.biomarkers import band_power
from dsp.electrodes import direction
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
MONTAGE = ("Fp1", "Fp2", "F7", "F8", "C3", "C4", "O1", "O2")


def head(seconds: float = 20, rate: float = RATE, labels: tuple[str, ...] = MONTAGE, seed: int = 1) -> np.ndarray:
    """(n, channels) µV: 1/f activity and alpha that near electrodes share, a little noise of each one's own."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / rate), 0.5)
    sources = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, 3)), axis=0) / frequency[:, np.newaxis] ** 0.5, n, axis=0)
    sources *= 8 / sources.std()
    alpha = 8 * np.sin(2 * np.pi * 10 * np.arange(n) / rate)
    place = np.linspace(0, 1, len(labels))
    mixing = np.array([1 - place, place, 0.7 * np.ones_like(place)])
    return sources @ mixing + alpha[:, np.newaxis] * (0.4 + 0.6 * place) + 1.0 * rng.standard_normal((n, len(labels)))


def run(
    x: np.ndarray, labels: tuple[str, ...] = MONTAGE, rate: float = RATE, quality: QualitySettings | None = None, **chunk: object
) -> tuple[Pipeline, list[Biomarkers]]:
    info = StreamInfo("t", "t", rate, labels, ("eeg",) * len(labels), full_scale_uv=187_500.0)
    line = LineSettings(quality=quality or QualitySettings())
    pipeline = Pipeline(info, line, [("band_power", band_power.Settings())])
    step = round(rate * 0.02)
    rows: list[Biomarkers] = []
    for i in range(0, len(x), step):
        rows += pipeline.push(Chunk(x[i : i + step].astype(np.float32), i, i / rate, i / rate, **chunk))
    return pipeline, rows


def named(rows: list[Biomarkers], reason: str, labels: tuple[str, ...] = MONTAGE, rate: float = RATE) -> dict[str, list[float]]:
    """Channel: times (s, ends of hops) at which it carries this reason."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for label, reasons in zip(labels, row.quality.reasons, strict=True):
            if reason in reasons:
                found.setdefault(label, []).append(row.end_sample / rate)
    return found


def bump(n: int, at_s: float, width_s: float, rate: float = RATE) -> np.ndarray:
    t = (np.arange(n) / rate - at_s) / width_s
    return np.where(np.abs(t) < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * t), 0.0)


def test_a_clean_head_has_no_artifact() -> None:
    pipeline, rows = run(head())
    seen = Counter(reason for row in rows for reasons in row.quality.reasons for reason in reasons)
    assert set(seen) <= {"settling"}
    assert not pipeline.artifact_events
    assert (rows[-1].quality.contact > 0.9).all()
    assert rows[-1].quality.worst == -1


@pytest.mark.parametrize("rate", [125.0, 128.0, 250.0, 500.0, 1000.0, 2000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_blinks_of_either_polarity_at_any_rate(rate: float, sign: int) -> None:
    x = head(16, rate)
    peaks = [7.03, 9.5, 12.21]
    share = np.array([1.0, 1.0, 0.5, 0.5, 0.15, 0.15, 0.05, 0.05])
    for at in peaks:
        x += sign * 120 * bump(len(x), at, 0.3, rate)[:, np.newaxis] * share
    pipeline, rows = run(x, rate=rate)
    blinks = [event for event in pipeline.artifact_events if event.kind == "blink"]
    assert [event.sample / rate for event in blinks] == pytest.approx(peaks, abs=0.03)
    assert pipeline.blink_polarity == sign
    assert all(np.sign(event.height_uv) == sign for event in blinks)
    where = named(rows, "blink", rate=rate)
    assert {"Fp1", "Fp2"} <= set(where)
    assert not {"C3", "C4", "O1", "O2"} & set(where)
    assert all(row.quality.good.all() for row in rows if row.end_sample / rate > 8), "a blink is no fault of an electrode"
    last = next(row for row in rows if abs(row.end_sample / rate - 13.0) < 0.06)
    assert last.grades[last.find("band_power.delta", "Fp1")] == Grade.SUSPECT
    assert last.reasons[last.find("band_power.delta", "Fp1")] == "blink"
    assert last.grades[last.find("band_power.delta", "O1")] == Grade.GOOD


@pytest.mark.parametrize(("height", "lasts"), [(120.0, 0.4), (250.0, 0.5), (400.0, 0.6)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_flanks_of_wide_blinks_are_no_blinks_of_the_other_polarity(height: float, lasts: float, sign: int) -> None:
    """Steep up and slow down, as blinks are: what the look for them makes of that has a flank on each side, the first one comes first."""
    x = head(24)
    peaks = []
    for at in (6.0, 9.1, 12.6, 15.2, 18.4, 21.3):
        t = np.clip((np.arange(len(x)) / RATE - at) / lasts, 0, 1)
        blink = t**1.2 * (1 - t) ** 2.4
        peaks.append(int(np.argmax(blink)) / RATE)
        x += sign * height * (blink / blink.max())[:, np.newaxis] * np.array([1.0, 0.95, 0.4, 0.4, 0.1, 0.1, 0.0, 0.0])
    pipeline, _ = run(x)
    blinks = [event for event in pipeline.artifact_events if event.kind == "blink"]
    assert [event.sample / RATE for event in blinks] == pytest.approx(peaks, abs=0.06)
    assert pipeline.blink_polarity == sign


def test_a_pop_of_one_frontal_electrode_is_no_blink() -> None:
    x = head()
    n = len(x)
    t = np.arange(n) / RATE
    x[:, 0] += np.where(t >= 10.0, 150 * np.exp(-np.maximum(t - 10.0, 0) / 0.4), 0)
    pipeline, rows = run(x)
    assert not [event for event in pipeline.artifact_events if event.kind == "blink"]
    assert set(named(rows, "gradient")) == {"Fp1"}


def test_a_movement_of_all_is_no_blink() -> None:
    x = head()
    x += 150 * bump(len(x), 10.0, 0.35)[:, np.newaxis]
    pipeline, rows = run(x)
    assert [event.kind for event in pipeline.artifact_events] == ["movement"]
    assert set(named(rows, "movement")) == set(MONTAGE)


MUSE = ("TP9", "AF7", "AF8", "TP10")
# What a blink of 100 µV leaves of itself at the electrodes against one on the forehead, in its middle.
MUSE_BLINK = np.array([-100.0, -15.0, -15.0, -100.0])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_blink_in_the_reference_is_found_at_the_ears(sign: int) -> None:
    x = head(labels=MUSE)
    peaks = [7.0, 9.5, 12.2]
    for at in peaks:
        x += sign * MUSE_BLINK * bump(len(x), at, 0.3)[:, np.newaxis]
    pipeline, rows = run(x, MUSE)
    blinks = [event.sample / RATE for event in pipeline.artifact_events if event.kind == "blink"]
    assert blinks == pytest.approx(peaks, abs=0.03)
    assert len(pipeline.artifact_events) == len(peaks)
    assert {"TP9", "TP10"} <= set(named(rows, "blink", MUSE))
    last = next(row for row in rows if abs(row.end_sample / RATE - 13.0) < 0.06)
    assert last.reasons[last.find("band_power.delta", "TP9")] == "blink"


EPOC = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
# What a blink leaves of its height at AF3 at each of them, against ears that see nothing of it.
EPOC_BLINK = np.array([1.0, 0.5, 0.5, 0.2, 0.1, 0.02, 0.0, 0.0, 0.02, 0.1, 0.2, 0.5, 0.5, 1.0])


def not_good(rows: list[Biomarkers], at_s: float, name: str, channel: str) -> bool:
    """Whether no window of 2 s that has known this instant for 0.7 s gives a good value."""
    inside = [row for row in rows if 0.7 <= row.end_sample / RATE - at_s <= 1.9]
    assert len(inside) > 10
    return all(row.grades[row.find(name, channel)] != Grade.GOOD for row in inside)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_may_be_a_small_blink_is_none_but_slow_values_do_not_lean_on_it(sign: int) -> None:
    """An average reference on few electrodes: what is left of a blink stays below the limit."""
    x = head(labels=EPOC)
    for at, height in ((6.0, 160.0), (10.0, 52.0), (14.0, 52.0)):
        x += sign * height * EPOC_BLINK * bump(len(x), at, 0.3)[:, np.newaxis]
    pipeline, rows = run(x - x.mean(1, keepdims=True), EPOC)
    assert [event.sample / RATE for event in pipeline.artifact_events] == pytest.approx([6.0], abs=0.03)
    for at in (6.0, 10.0, 14.0):
        assert not_good(rows, at, "band_power.delta", "AF3")
    for name, channel in (("band_power.alpha", "AF3"), ("band_power.delta", "O1")):
        assert not any(not_good(rows, at, name, channel) for at in (10.0, 14.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_slow_values_lean_on_no_peak_of_which_nobody_knows_yet_whether_it_is_a_blink(sign: int) -> None:
    """The first small blinks say too little of this person's polarity to be told."""
    x = head()
    for label, share in (("Fp1", 1.0), ("Fp2", 1.0), ("F7", 0.4), ("F8", 0.4)):
        x[:, MONTAGE.index(label)] += sign * 75 * share * bump(len(x), 7.0, 0.3)
    pipeline, rows = run(x)
    assert not pipeline.artifact_events and pipeline.blink_polarity == 0
    assert not_good(rows, 7.0, "band_power.delta", "Fp1")


NO_EARS_BLINK = np.array([1.0, 1.0, 0.4, 0.4, 0.1, 0.1, 0.0, 0.0])


@pytest.mark.parametrize("reference", ["recorded", "average"])
@pytest.mark.parametrize("sign", [1, -1])
def test_slow_values_lean_on_no_small_blink_where_no_electrode_is_by_the_ears(sign: int, reference: str) -> None:
    """Blinks of 45 µV are too small to be told, and make ten times the delta of a calm front."""
    x = 0.6 * head(40)
    for at in (20.0, 24.0, 28.0, 33.0):
        x += sign * 45 * NO_EARS_BLINK * bump(len(x), at, 0.3)[:, np.newaxis]
    if reference == "average":
        x -= x.mean(1, keepdims=True)
    _, rows = run(x)
    for at in (20.0, 24.0, 28.0, 33.0):
        assert not_good(rows, at, "band_power.delta", "Fp1")
    assert not not_good(rows, 24.0, "band_power.alpha", "Fp1")
    calm = [row for row in rows if row.end_sample / RATE > 35.6]
    assert all(row.grades[row.find("band_power.delta", "Fp1")] == Grade.GOOD for row in calm)


def test_a_loud_but_calm_front_keeps_its_slow_values() -> None:
    """Alpha and slow waves together pass 30 µV time and again without a blink; a blink of 60 µV still costs the grade."""
    x = 1.4 * head(60, seed=3)
    x += 60 * NO_EARS_BLINK * bump(len(x), 50.0, 0.3)[:, np.newaxis]
    _, rows = run(x)
    theta = rows[0].find("band_power.theta", "Fp1")
    calm = [row.grades[theta] == Grade.GOOD for row in rows if 15 < row.end_sample / RATE < 49.5]
    assert np.mean(calm) > 0.8
    assert not_good(rows, 50.0, "band_power.theta", "Fp1")


def test_front_and_ears_apart_is_a_blink_and_together_a_movement() -> None:
    """Three blinks with the reference between the two, then the whole band knocked: three events of one kind, one of the other."""
    x = head(24, labels=MUSE)
    for at in (7.0, 9.5, 12.2):
        x += np.array([-180.0, 90.0, 110.0, -180.0]) * bump(len(x), at, 0.3)[:, np.newaxis]
    x += np.array([150.0, 140.0, 150.0, 160.0]) * bump(len(x), 18.0, 0.3)[:, np.newaxis]
    pipeline, _ = run(x, MUSE)
    assert [event.kind for event in pipeline.artifact_events] == ["blink"] * 3 + ["movement"]


@pytest.mark.parametrize("where", [0, 3])
def test_one_ears_own_trouble_is_no_blink(where: int) -> None:
    x = head(24, labels=MUSE)
    for at in (7.0, 9.5, 12.2):
        x += MUSE_BLINK * bump(len(x), at, 0.3)[:, np.newaxis]
    x[:, where] -= 200 * bump(len(x), 18.0, 0.3)
    pipeline, _ = run(x, MUSE)
    assert [round(event.sample / RATE) for event in pipeline.artifact_events] == [7, 10, 12]


def test_a_gaze_step_moves_the_sides_apart() -> None:
    x = head()
    at = round(10.0 * RATE)
    gaze = np.clip((np.arange(len(x)) - at) / 10, 0, 1) * 60
    x += gaze[:, np.newaxis] * np.array([0.3, -0.3, 1.0, -1.0, 0, 0, 0, 0])
    pipeline, rows = run(x)
    movements = [event for event in pipeline.artifact_events if event.kind == "eye_movement"]
    assert [event.sample / RATE for event in movements] == pytest.approx([10.02], abs=0.05)
    assert {"F7", "F8"} <= set(named(rows, "eye_movement"))


ABOVE_EYES = {"Fp": ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2"), "AF": ("AF3", "AF4", "C3", "C4", "P7", "P8", "O1", "O2")}


def gaze(x: np.ndarray, at_s: tuple[float, ...], step_uv: float) -> np.ndarray:
    """The eyes to one side at each of these times and back a second later; `step_uv` apart at the first two channels."""
    t = np.arange(len(x)) / RATE
    for at in at_s:
        aside = np.clip((t - at) / 0.05, 0, 1) - np.clip((t - at - 1.0) / 0.05, 0, 1)
        x = x + step_uv / 2 * aside[:, np.newaxis] * np.array([1.0, -1.0, 0.1, -0.1, 0, 0, 0, 0])
    return x


@pytest.mark.parametrize("front", ["Fp", "AF"])
def test_gaze_is_found_above_the_eyes_where_nothing_is_beside_them(front: str) -> None:
    """50 µV apart above the eyes; mains that differ between the two by more than gaze are none."""
    labels = ABOVE_EYES[front]
    x = head(34, labels=labels)
    x[:, 0] += 200 * np.sin(2 * np.pi * 60 * np.arange(len(x)) / RATE)
    pipeline, rows = run(gaze(x, (16.0, 22.0, 27.0), 50.0), labels)
    moved = [event.sample / RATE for event in pipeline.artifact_events if event.kind == "eye_movement"]
    assert moved == pytest.approx([16.03, 17.03, 22.03, 23.03, 27.03, 28.03], abs=0.05)
    assert {event.kind for event in pipeline.artifact_events} == {"eye_movement"}
    for at in (16.0, 22.0, 27.0):
        assert not_good(rows, at, "band_power.delta", labels[0])


def test_sides_that_drift_apart_all_the_time_are_no_gaze() -> None:
    """A random walk of 20 µV a root second on every electrode, as sweat makes it: steps of any size, one after the other."""
    labels = ABOVE_EYES["Fp"]
    for seed in range(2):
        x = head(60, labels=labels, seed=seed)
        x += 20 * np.cumsum(np.random.default_rng(seed).standard_normal(x.shape), axis=0) / np.sqrt(RATE)
        assert not [event for event in run(x, labels)[0].artifact_events if event.kind == "eye_movement"]
    pipeline, _ = run(gaze(x, (50.0,), 160.0), labels)
    assert {round(event.sample / RATE) for event in pipeline.artifact_events if event.kind == "eye_movement"} >= {50, 51}


@pytest.mark.parametrize(("labels", "step_uv"), [(ABOVE_EYES["Fp"], 18.0), (("F7", "F8", *MONTAGE[4:], "P3", "P4"), 40.0)])
def test_slow_values_lean_on_no_small_gaze_step(labels: tuple[str, ...], step_uv: float) -> None:
    """Too small to be told of; delta at a calm front is several times too large."""
    x = 0.5 * head(36, labels=labels)
    pipeline, rows = run(gaze(x, (20.0, 26.0), step_uv), labels)
    assert not pipeline.artifact_events
    for at in (20.0, 26.0):
        assert not_good(rows, at, "band_power.delta", labels[0])
        assert not not_good(rows, at, "band_power.alpha", labels[0])
        assert not not_good(rows, at, "band_power.delta", "O1")
    assert all(row.grades[row.find("band_power.delta", labels[0])] == Grade.GOOD for row in rows if row.end_sample / RATE > 30)


@pytest.mark.parametrize(("where", "reason"), [(("F7", "F8"), "jaw_muscle"), (("O1", "O2"), "neck_muscle")])
def test_muscle_is_named_by_where_it_is_strongest(where: tuple[str, str], reason: str) -> None:
    x = head()
    rng = np.random.default_rng(3)
    part = slice(round(12 * RATE), round(13.5 * RATE))
    for label in where:
        x[part, MONTAGE.index(label)] += 60 * rng.standard_normal(part.stop - part.start)
    _, rows = run(x)
    found = named(rows, reason)
    assert set(found) == set(where)
    for label in where:
        assert 12.0 < min(found[label]) <= 12.21
        assert 13.4 < max(found[label]) <= 13.71
    last = next(row for row in rows if row.end_sample / RATE > 13.55)
    assert last.grades[last.find("band_power.gamma", where[0])] == Grade.SUSPECT
    assert last.grades[last.find("band_power.gamma", "C3")] == Grade.GOOD


def test_a_short_clench_costs_fast_values_their_grade_and_alpha_none() -> None:
    """Half a second of weak muscle in a window of two: beta and gamma are many times too large, alpha is what it was."""
    x = head(24)
    calm = x.copy()
    rng = np.random.default_rng(4)
    for at in (12.0, 17.0):
        span = slice(int(at * RATE), int((at + 0.5) * RATE))
        burst = rng.standard_normal((x[span].shape[0], len(MONTAGE)))
        x[span] += 28 * np.diff(burst, axis=0, prepend=0) / np.sqrt(2)
    _, quiet = run(calm)
    _, rows = run(x)
    column = rows[0].find("band_power.gamma", "C3")
    for row, other in zip(rows, quiet, strict=True):
        if row.end_sample > 10 * RATE and row.grades[column] == Grade.GOOD:
            assert row.values[column] < 1.5 * other.values[column]
    in_it = next(row for row in rows if row.end_sample >= 13.5 * RATE)
    assert in_it.reasons[column] in ("jaw_muscle", "neck_muscle")
    assert in_it.grades[in_it.find("band_power.alpha", "C3")] == Grade.GOOD
    assert rows[-1].grades[column] == Grade.GOOD


def test_a_step_is_a_level_that_stays() -> None:
    x = head()
    x[round(10 * RATE) :, 4] += 400
    _, rows = run(x, quality=QualitySettings(amplitude_uv=10_000))
    assert set(named(rows, "step")) == {"C3"}
    assert all(9.9 < t < 10.5 for t in named(rows, "step")["C3"])


def test_slow_values_lean_on_no_lone_slow_wave_but_on_those_that_come_again_and_again() -> None:
    """One of 80 µV in a calm half minute is a movement or sweat for all anybody knows; one a second are the person's delta."""
    x = head(40)
    x[:, 4:] += 80 * bump(len(x), 30.0, 1.0)[:, np.newaxis]
    _, rows = run(x)
    for channel in ("C3", "O2"):
        assert not_good(rows, 30.1, "band_power.delta", channel)
        assert not not_good(rows, 30.1, "band_power.alpha", channel)
    column = rows[0].find("band_power.delta", "C3")
    lone = next(row for row in rows if row.end_sample >= 31.0 * RATE)
    assert lone.reasons[column] == "movement" and lone.quality.good[4]
    assert rows[-1].grades[column] == Grade.GOOD
    asleep = head(40)
    asleep[:, 4:] += 40 * np.sin(2 * np.pi * np.arange(len(x)) / RATE + np.array([[0.0, 0.4, 0.8, 1.2]]).T).T  # it travels
    _, rows = run(asleep)
    assert all(row.grades[column] == Grade.GOOD for row in rows if row.end_sample > 12 * RATE)


def test_a_movement_of_most_electrodes_costs_those_that_show_it_little_their_slow_values_too() -> None:
    x = head(40, seed=4)
    swing = 150 * np.sin(2 * np.pi * 1.3 * np.arange(len(x)) / RATE)
    part = slice(round(25 * RATE), round(26.5 * RATE))
    x[part] += swing[part, np.newaxis] * np.array([1.0, 0.1, 0.9, 1.1, 0.8, 1.0, 0.1, 1.0])
    _, rows = run(x)
    for channel in ("Fp2", "O1"):
        assert not_good(rows, 26.0, "band_power.delta", channel)
    assert not not_good(rows, 22.0, "band_power.delta", "O1")


def test_a_rhythm_that_sets_in_is_no_row_of_events() -> None:
    """Theta of a person who falls asleep stands out of the last minute; six seconds on it is what this person's brain does."""
    x = 0.5 * head(44)
    t = np.arange(len(x)) / RATE
    x += np.where(t >= 25, 20.0, 0.0)[:, np.newaxis] * np.sin(2 * np.pi * 4.3 * t[:, np.newaxis] + 0.3 * np.arange(len(MONTAGE)))
    _, rows = run(x)
    for channel in ("C3", "O2"):  # in front it passes the limit of a blink
        theta = rows[0].find("band_power.theta", channel)
        assert all(row.grades[theta] == Grade.GOOD for row in rows if row.end_sample / RATE > 25 + 6.0 + 2.2)


def test_a_pops_tail_costs_slow_values_their_grade() -> None:
    """What a high pass makes of a level that decays for a second goes on long after the step itself."""
    t = np.arange(34 * int(RATE)) / RATE
    x = head(34)
    calm = run(x.copy())[1]
    x[:, 6] += np.where(t >= 20, 250 * np.exp(-np.maximum(t - 20, 0) / 0.8), 0.0)
    rows = run(x)[1]
    column = rows[0].find("band_power.delta", "O1")
    for row, other in zip(rows, calm, strict=True):
        if row.grades[column] == Grade.GOOD and row.end_sample > 12 * RATE:
            assert row.values[column] < 2.5 * other.values[column]


def test_drift_takes_five_seconds_to_be_one_and_five_to_be_none() -> None:
    x = head(40)
    t = np.arange(len(x)) / RATE
    x[:, 5] += np.clip(t - 10, 0, 10) * 1000
    _, rows = run(x)
    found = named(rows, "drift")
    assert set(found) == {"C4"}
    assert 14.5 < min(found["C4"]) < 17.0
    assert 24.0 < max(found["C4"]) < 27.0


def test_bridged_electrodes_are_named_and_only_they() -> None:
    x = head(14)
    x[:, 5] = x[:, 4] + 0.05 * np.random.default_rng(0).standard_normal(len(x))
    _, rows = run(x)
    assert set(named(rows, "bridged")) == {"C3", "C4"}
    assert rows[-1].reasons[rows[-1].find("band_power.alpha", "C3")] == "bridged"


def test_all_channels_alike_is_a_fault_of_the_reference() -> None:
    x = head(14)
    rng = np.random.default_rng(2)
    x = x[:, :1] * 5 + 0.3 * rng.standard_normal(x.shape)
    _, rows = run(x)
    assert set(named(rows, "reference_fault")) == set(MONTAGE)
    assert not named(rows, "bridged")


def test_a_reference_off_the_head_is_named_however_loud_it_is() -> None:
    """100 µV in every channel look like blinks all the time; what never stops is none."""
    x = head(24)
    rng = np.random.default_rng(4)
    common = np.fft.irfft(np.fft.rfft(rng.standard_normal(len(x))) * (np.fft.rfftfreq(len(x), 1 / RATE) < 20), len(x))
    x[8 * 250 :] += (100 * common / common.std())[8 * 250 :, np.newaxis]
    _, rows = run(x)
    where = named(rows, "reference_fault")
    assert set(where) == set(MONTAGE)
    assert max(min(times) for times in where.values()) <= 18.0


def test_a_loose_electrode_is_the_worst_contact_though_it_looks_like_muscle_all_the_time() -> None:
    x = head(30)
    x[8 * 250 :, 5] += 80 * np.random.default_rng(4).standard_normal(len(x) - 8 * 250)
    _, rows = run(x)
    assert set(named(rows, "contact")) == {"C4"}
    assert min(named(rows, "contact")["C4"]) <= 18.0
    assert rows[-1].quality.worst == 5


def test_a_channel_that_its_neighbors_do_not_know() -> None:
    labels = ("F3", "Fz", "F4", "C3", "Cz", "C4", "Pz")
    x = head(14, labels=labels)
    x[:, 1] = np.random.default_rng(5).standard_normal(len(x)) * 8
    _, rows = run(x, labels, quality=QualitySettings(muscle_uv=None))
    assert set(named(rows, "disagrees", labels)) == {"Fz"}


PARIETAL = ("P7", "P3", "Pz", "P4", "P8", "POz")


def parietal(seconds: float = 40, labels: tuple[str, ...] = PARIETAL) -> np.ndarray:
    """(n, channels) µV: what each two places share falls off with the distance between them, and all share some."""
    rng = np.random.default_rng(3)
    at = np.array([direction(label) for label in labels], dtype=np.float64)
    shared = 20.0 * np.exp(-(np.linalg.norm(at[:, np.newaxis] - at, axis=2) ** 2) / 0.6) + 40.0
    n = int(seconds * RATE)
    white = np.fft.rfft(rng.standard_normal((n, len(labels))), axis=0)
    sources = np.fft.irfft(white / np.maximum(np.fft.rfftfreq(n, 1 / RATE), 1.0)[:, np.newaxis] ** 0.5, n, axis=0)
    return sources / sources.std(0) @ np.linalg.cholesky(shared).T + rng.standard_normal((n, len(labels)))


def test_an_average_of_few_channels_makes_no_stranger_and_hides_none() -> None:
    """It takes off what neighbors share, and puts a bad electrode's signal on all others."""
    x = parietal()
    rows = run(x - x.mean(1, keepdims=True), PARIETAL)[1]
    assert not named(rows, "disagrees", PARIETAL)
    assert all((row.grades == Grade.GOOD).all() for row in rows if row.end_sample / RATE > 12)
    x[:, 1] = np.roll(x[:, 1], len(x) // 2)  # as before in all but that it is another place's
    rows = run(x - x.mean(1, keepdims=True), PARIETAL)[1]
    assert set(named(rows, "disagrees", PARIETAL)) == {"P3"}
    assert len(named(rows, "disagrees", PARIETAL)["P3"]) > 250


MANY = (
    *(
        "Fp1",
        "Fp2",
        "AF3",
        "AF4",
        "F7",
        "F3",
        "Fz",
        "F4",
        "F8",
        "FC5",
        "FC1",
        "FC2",
        "FC6",
        "T7",
        "C3",
        "Cz",
        "C4",
        "T8",
        "CP5",
        "CP1",
    ),
    *("CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "Oz", "O2"),
)


def test_a_stranger_among_many_under_their_average_is_found_though_the_rest_is_louder() -> None:
    """Against thirds that are louder than itself everybody looks like everybody; in an average of many, neighbors still look alike."""
    x = parietal(26, MANY)
    behind = np.clip([-direction(label)[1] for label in MANY], 0, 1)
    x += 25 * np.sin(2 * np.pi * 10 * np.arange(len(x)) / RATE)[:, np.newaxis] * behind
    for where in (None, "F4", "Pz"):
        y = x.copy()
        if where is not None:
            y[:, MANY.index(where)] = 0.7 * np.roll(y[:, MANY.index(where)], len(x) // 2)
        found = named(run(y - y.mean(1, keepdims=True), MANY)[1], "disagrees", MANY)
        assert set(found) == ({where} if where else set())
        assert where is None or len(found[where]) > 100


def test_the_worst_contact_is_named_after_five_seconds_and_forgiven_after_five() -> None:
    x = head(50)
    rng = np.random.default_rng(8)
    t = np.arange(len(x)) / RATE
    bad = (t > 15) & (t < 28)
    x[bad, 6] += 14 * rng.standard_normal(int(bad.sum())) + 60 * np.sin(2 * np.pi * 50 * t[bad])
    _, rows = run(x, quality=QualitySettings(muscle_uv=None))
    found = named(rows, "contact")
    assert set(found) == {"O1"}
    assert 19.5 < min(found["O1"]) < 22.5
    assert 32.0 < max(found["O1"]) < 35.5
    worst = next(row for row in rows if row.end_sample / RATE > 25).quality
    assert worst.worst == 6
    assert worst.contact[6] < 0.5
    assert rows[-1].quality.worst == -1


@pytest.mark.parametrize("broken", [np.inf, -np.inf, -1.0])
def test_an_infinite_or_negative_impedance_is_the_worst_contact_not_an_unknown_one(broken: float) -> None:
    _, rows = run(head(16), impedance_kohm=np.array([5.0, 8, 10, 12, 9, 7, broken, np.nan]))
    assert rows[-1].quality.worst == 6 and rows[-1].quality.contact[6] == 0.0
    assert set(named(rows, "contact")) == {"O1"}


def test_impedance_counts_where_the_source_has_it() -> None:
    kohm = np.array([5.0, 8, 10, 12, 9, 7, 400, np.nan])
    _, rows = run(head(16), impedance_kohm=kohm)
    assert rows[-1].quality.worst == 6
    assert rows[-1].quality.impedance_kohm is kohm
    assert set(named(rows, "contact")) == {"O1"}


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_mains_are_found_by_themselves(mains: float) -> None:
    x = head(12)
    assert np.isnan(run(x)[1][-1].quality.mains_hz)
    x += 5 * np.sin(2 * np.pi * mains * np.arange(len(x)) / RATE)[:, np.newaxis]
    assert run(x)[1][-1].quality.mains_hz == mains


def test_packet_loss_is_said_with_its_share() -> None:
    x = head(20).astype(np.float32)
    info = StreamInfo("t", "t", RATE, MONTAGE, ("eeg",) * 8)
    pipeline = Pipeline(info, LineSettings(), [("band_power", band_power.Settings())])
    rows: list[Biomarkers] = []
    for i in range(0, len(x), 50):  # 5 of 50 samples never come
        rows += pipeline.push(Chunk(x[i : i + 45], i, i / RATE, i / RATE, 5 if i else 0))
    quality = rows[-1].quality
    assert quality.lost_fraction == pytest.approx(0.1, abs=0.005)
    assert all("packet_loss" in reasons for reasons in quality.reasons)


def test_what_is_off_is_silent() -> None:
    x = head()
    x += 120 * bump(len(x), 10.0, 0.3)[:, np.newaxis] * np.array([1, 1, 0.5, 0.5, 0.1, 0.1, 0, 0])
    off = QualitySettings(gradient_uv=None, step_uv=None, drift_uv_per_s=None, blink_uv=None, eye_uv=None, muscle_uv=None)
    pipeline, rows = run(x, quality=off)
    assert not pipeline.artifact_events
    assert not named(rows, "blink")


@pytest.mark.parametrize("channels", [1, 2, 64, 256])
def test_any_number_of_channels(channels: int) -> None:
    labels = tuple(f"E{i}" for i in range(channels))
    _, rows = run(head(8, labels=labels), labels)
    assert len(rows[-1].quality.contact) == channels
    assert (rows[-1].grades != Grade.INVALID).all()


@pytest.mark.parametrize("dead_uv", [0.0, 187_500.0])
def test_a_headset_that_was_dead_until_now_does_not_make_eeg_stand_out(dead_uv: float) -> None:
    """Zeros or a rail for 25 s say nothing of what the person usually has: no blink, gaze or movement is seen in what follows."""
    x = head(50)
    _, calm = run(x)
    _, rows = run(np.vstack([np.full((25 * 250, len(MONTAGE)), dead_uv), x]))
    late = [row for row in rows if row.end_sample > 36 * 250]
    shares = [np.mean([row.grades == Grade.GOOD for row in some]) for some in (late, calm[-len(late) :])]
    assert shares[0] > shares[1] - 0.03, shares
    assert not {reason for row in late for reason in row.reasons} & {"blink", "eye_movement"}
