"""Blinks where no electrode is on the forehead, how far they reach behind it, and what is said where they cannot be told."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from daemon.view import eyes_untold
from dsp.biomarkers import band_power
from dsp.electrodes import POSITIONS, direction, places
from dsp.eyes import ears, frontal, untold
from dsp.nets import nearest
from dsp.pipeline import Pipeline
from dsp.spread import LEARNED_FROM, Spread
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
BACK = ("C3", "C4", "P3", "P4", "O1", "O2")
BLINKS_S = (14.0, 17.5, 21.5, 25.0, 29.0, 32.5, 36.0, 40.0, 43.5, 47.5)
EYES = np.array([0.0, 0.985, -0.17])


def info(labels: tuple[str, ...], rate: float = RATE) -> StreamInfo:
    return StreamInfo("t", "t", rate, labels, ("eeg",) * len(labels), full_scale_uv=187_500.0)


def head(labels: tuple[str, ...], seconds: float = 52.0, rms_uv: float = 6.0, seed: int = 1) -> np.ndarray:
    """(n, channels) µV: 1/f activity, half of it shared, and alpha that waxes and wanes."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    frequency = np.fft.rfftfreq(n, 1 / RATE)
    weight = np.where((frequency >= 0.5) & (frequency < 50), np.maximum(frequency, 0.5) ** -0.6, 0.0)[:, np.newaxis]
    own, shared = (np.fft.irfft(weight * np.fft.rfft(rng.standard_normal((n, c)), axis=0), n, axis=0) for c in (len(labels), 1))
    t = np.arange(n) / RATE
    alpha = 5 * np.sin(2 * np.pi * 10 * t) * (1 + 0.5 * np.sin(2 * np.pi * 0.2 * t))
    x = own / own.std(0) + shared / shared.std()
    return rms_uv * x / x.std(0) + alpha[:, np.newaxis]


def shares(labels: tuple[str, ...]) -> np.ndarray:
    """Of a blink on the forehead, by the distance from the eyes: 0.4 at F3, 0.15 at C3."""
    at = np.array([direction(label) for label in labels])
    return np.exp(-np.maximum(0, np.linalg.norm(at - EYES, axis=1) - 0.2) / 0.65)


def bump(n: int, at_s: float, width_s: float = 0.3) -> np.ndarray:
    t = (np.arange(n) / RATE - at_s) / width_s
    return np.where(np.abs(t) < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * t), 0.0)


def blinking(labels: tuple[str, ...], height_uv: float, seen: np.ndarray | None = None, **more: float) -> np.ndarray:
    x = head(labels, **more)
    of_it = shares(labels) if seen is None else seen
    return x + height_uv * sum(bump(len(x), at) for at in BLINKS_S)[:, np.newaxis] * of_it


def run(x: np.ndarray, labels: tuple[str, ...]) -> tuple[Pipeline, list[Biomarkers]]:
    pipeline = Pipeline(info(labels), LineSettings(), [("band_power", band_power.Settings())])
    step = int(RATE)
    rows: list[Biomarkers] = []
    for i in range(0, len(x), step):
        rows += pipeline.push(Chunk(x[i : i + step].astype(np.float32), i, i / RATE, i / RATE))
    return pipeline, rows


def good(rows: list[Biomarkers], name: str, channel: str, holding: bool) -> float:
    """Share of good values among the hops whose window of 2 s does, or does not, hold one of the later blinks."""
    column = rows[0].find(name, channel)
    later = BLINKS_S[LEARNED_FROM:]
    found = []
    for row in rows:
        t = row.end_sample / RATE
        if t < later[0] - 1.0 or t > later[-1] + 4:
            continue
        inside = any(0.7 <= t - at <= 1.8 for at in later)
        apart = not any(-0.4 < t - at < 2.6 for at in BLINKS_S)
        if inside if holding else apart:
            found.append(row.grades[column] == Grade.GOOD)
    assert len(found) > 10
    return float(np.mean(found))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("front", [("F3", "F4"), ("F7", "F8"), ("Fz",)])
def test_blinks_are_found_on_the_f_row_where_nothing_is_on_the_forehead(front: tuple[str, ...], sign: int) -> None:
    labels = (*front, *BACK)
    pipeline, rows = run(blinking(labels, sign * 220.0), labels)
    told = [event.sample / RATE for event in pipeline.artifact_events if event.kind == "blink"]
    assert sum(any(abs(t - at) < 0.15 for t in told) for at in BLINKS_S) >= 0.8 * len(BLINKS_S)
    assert all(any(abs(t - at) < 0.15 for at in BLINKS_S) for t in told)
    for channel in (*front, "C3", "C4"):
        assert good(rows, "band_power.delta", channel, holding=True) == 0
    assert good(rows, "band_power.delta", front[0], holding=False) > 0.9
    assert good(rows, "band_power.alpha", "O1", holding=True) == 1


@pytest.mark.parametrize("hz", [2.5, 5.0, 6.5])
def test_bursts_of_slow_waves_on_the_f_row_are_no_blinks(hz: float) -> None:
    labels = ("F3", "F4", *BACK)
    x = head(labels)
    for at in BLINKS_S:
        x += 45 * (bump(len(x), at, 1.6) * np.sin(2 * np.pi * hz * (np.arange(len(x)) / RATE - at) + at))[:, np.newaxis] * [
            1.0, 1.0, 0.5, 0.5, 0.2, 0.2, 0.1, 0.1]  # fmt: skip
    pipeline, _ = run(x, labels)
    assert [event for event in pipeline.artifact_events if event.kind == "blink"] == []


def test_a_blink_on_the_forehead_costs_every_electrode_that_it_reaches_its_slow_values() -> None:
    """110 µV at Fp1 are 20 µV at C3, several times its delta."""
    labels = ("Fp1", "Fp2", *BACK)
    seen = np.array([1.0, 1.0, 0.18, 0.18, 0.07, 0.07, 0.0, 0.0])
    _, rows = run(blinking(labels, 110.0, seen), labels)
    for channel in ("Fp1", "C3", "C4"):
        assert good(rows, "band_power.delta", channel, holding=True) == 0
        assert good(rows, "band_power.theta", channel, holding=True) == 0
    assert good(rows, "band_power.delta", "C3", holding=False) > 0.9
    assert good(rows, "band_power.alpha", "C3", holding=True) == 1


def test_the_spread_is_the_heads_until_it_is_the_persons() -> None:
    labels = ("Fp1", "Fp2", "Cz", "O1", "X9")
    spread = Spread([direction(label) for label in labels], np.ones(5, dtype=np.bool_), [0, 1])
    bears = np.full(5, 10.0)
    assert spread.reached(-120.0, bears).tolist() == [True, True, True, False, True]  # nobody knows where X9 is
    for _ in range(LEARNED_FROM):
        spread.take(-np.array([120.0, 80.0, 2.0, 30.0, 1.0]))
    assert spread.shares == pytest.approx([1.2, 0.8, 0.02, 0.3, 0.01])
    assert spread.reached(100.0, bears).tolist() == [True, True, False, True, False]
    spread.take(np.array([5.0, 5.0, 50.0, 50.0, 50.0]))  # no blink of its own: teaches nothing
    assert spread.shares[2] == pytest.approx(0.02)


def test_an_electrode_that_was_dead_is_reached_by_blinks_when_it_is_back() -> None:
    labels = ("Fp1", "Fp2", "Cz")
    spread = Spread([direction(label) for label in labels], np.ones(3, dtype=np.bool_), [0, 1])
    of_heads = spread.shares[2]
    for _ in range(3 * LEARNED_FROM):
        spread.take(np.array([100.0, 100.0, 0.0]))
    assert spread.shares[2] == pytest.approx(of_heads)
    for _ in range(4 * LEARNED_FROM):
        spread.take(np.array([100.0, 100.0, 2.0]))
    assert spread.shares[2] == pytest.approx(0.02)


def test_a_loud_front_without_blinks_keeps_its_slow_values() -> None:
    """12 µV RMS on each side: no small blinks and no small gaze steps are made of it."""
    labels = ("Fp1", "Fp2", *BACK)
    _, rows = run(head(labels, 100.0, rms_uv=12.0, seed=4), labels)
    for channel in ("Fp1", "Fp2"):
        column = rows[0].find("band_power.theta", channel)
        assert np.mean([row.grades[column] == Grade.GOOD for row in rows if row.end_sample / RATE > 15]) > 0.9


def test_without_one_known_place_no_channel_is_good_for_slow_values_through_a_large_blink() -> None:
    known = ("Fp1", "Fp2", "F3", "F4", *BACK)
    labels = tuple(f"Ch{i + 1}" for i in range(len(known)))
    pipeline, rows = run(blinking(labels, 200.0, shares(known)), labels)
    for channel in labels:
        assert good(rows, "band_power.delta", channel, holding=True) == 0
        assert good(rows, "band_power.delta", channel, holding=False) > 0.9
    assert "no channel's name is a known place" in pipeline.eyes_untold


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (("Fp1", "O1"), ""),
        (("AF7", "AF8", "TP9", "TP10"), ""),
        (("Fpz",), ""),
        (("F3", "F4", "O1"), ""),
        (("Cz",), "no electrode is on the forehead or in the F row"),
        (("C3", "C4", "Pz"), "no electrode is on the forehead or in the F row"),
        (("P3", "P4", "Oz"), "behind the ears"),
        (("Ch1", "Ch2"), "no channel's name is a known place"),
    ],
)
def test_what_cannot_be_known_of_the_eyes_is_said(labels: tuple[str, ...], says: str) -> None:
    assert (untold(info(labels)) == "") == (says == "") and says in untold(info(labels))
    alarms = eyes_untold(untold(info(labels)))
    assert [alarm["priority"] for alarm in alarms] == (["technical"] if says else [])
    off = LineSettings(quality=QualitySettings(blink_uv=None))
    assert Pipeline(info(labels), off, []).eyes_untold == ""  # who asks for no blinks misses none


NETS = ("GSN-HydroCel-128", "GSN-HydroCel-256", "biosemi64", "biosemi128", "biosemi160", "biosemi256")


@pytest.mark.parametrize("net", NETS)
def test_numbered_nets_have_their_electrodes_where_mne_has_them(net: str) -> None:
    montage = mne.channels.make_standard_montage(net)
    where = montage.get_positions()["ch_pos"]
    labels = list(where)
    if net == "biosemi64":  # shipped under 10-10 names, in the order of the connectors A1 to B32
        assert list(where)[:3] == ["Fp1", "AF7", "AF3"]
        labels = [f"{letter}{i}" for letter in "AB" for i in range(1, 33)]
    points = np.array(list(where.values()))
    middle = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0][:3]
    unit = (points - middle) / np.linalg.norm(points - middle, axis=1, keepdims=True)
    found = [(place, at) for place, at in zip(nearest(labels), unit, strict=True) if place is not None]
    assert len(found) >= 15
    for place, at in found:
        assert np.linalg.norm(at - POSITIONS[place]) < 0.55, place
    stream = info(tuple(labels))
    assert len(frontal(stream)) >= 2 and all(places(labels)[i][1] > 0.8 for i in frontal(stream))
    assert len(ears(stream)) == 2 and untold(stream) == ""


def test_names_that_are_only_part_of_a_net_are_no_net() -> None:
    assert nearest([f"E{i}" for i in range(1, 20)]) == [None] * 19
    assert nearest([f"E{i}" for i in range(1, 65)]) == [None] * 64  # any amplifier's
    assert nearest(["A1", "A2", "Fp1", "Cz"]) == [None] * 4
