"""Gaps, restarts, unclean samples, broken values and huge gaps, through the whole line."""

from __future__ import annotations

import time

import numpy as np
import pytest

from dsp.biomarkers import band_power, faa
from dsp.pipeline import MOST_GAP_ROWS, Pipeline
from dsp.repair import Repair
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
CHANNELS = ("F3", "F4", "O1", "O2")
LINE = LineSettings(window_s=1.0)


def make(line: LineSettings = LINE, rate: float = RATE, full_scale_uv: float = 187_500.0) -> Pipeline:
    info = StreamInfo("test", "test", rate, CHANNELS, ("eeg",) * 4, full_scale_uv=full_scale_uv)
    return Pipeline(info, line, [("band_power", band_power.Settings()), ("faa", faa.Settings())])


def eeg(seconds: float, rate: float = RATE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    x = 5 * rng.standard_normal((n, 4)) + 15 * np.sin(2 * np.pi * 10 * np.arange(n) / rate)[:, np.newaxis]
    return (x + np.array([50_000, -3_000, 20, 0])).astype(np.float32)


def push(pipeline: Pipeline, x: np.ndarray, first: int, segment: int = 0, clean: np.ndarray | None = None) -> list[Biomarkers]:
    return pipeline.push(Chunk(x, first, first / RATE, first / RATE, 0, segment), clean)


def test_hops_end_on_the_absolute_grid() -> None:
    for rate in (125.0, 128.0, 250.0, 256.0, 333.0):
        for hop_s in (0.1, 0.07, 0.3):
            info = StreamInfo("t", "t", rate, ("Cz",), ("eeg",))
            pipeline = Pipeline(info, LineSettings(hop_s=hop_s, window_s=1.0), [])
            start = 12_345
            rows = pipeline.push(Chunk(np.zeros((int(rate * 3), 1), np.float32), start, 100.0, 0.0))
            first = next(k for k in range(10**6) if -(-k * round(hop_s * 100) * round(rate) // 100) > start)
            assert [row.hop for row in rows] == list(range(first, first + len(rows)))
            for row in rows:
                assert row.end_sample == -(-row.hop * round(hop_s * 100) * round(rate) // 100)
                assert row.t_s == pytest.approx(100.0 + (row.end_sample - start) / rate, abs=1e-9)


def test_windows_become_valid_when_settling_and_window_are_past() -> None:
    pipeline = make()
    rows = push(pipeline, eeg(8), 1000)
    ready = 1000 + pipeline.settle_samples + 250
    for row in rows:
        assert (row.grades == (Grade.GOOD if row.end_sample >= ready else Grade.INVALID)).all(), row.hop
        assert np.isnan(row.values).any() == (row.end_sample < ready)
        assert set(row.reasons) == ({""} if row.end_sample >= ready else {"settling"})
        assert row.columns is pipeline.columns
    assert any(row.end_sample >= ready for row in rows)


def test_an_offset_of_50_mv_does_not_disturb_the_first_windows() -> None:
    x = eeg(8)
    plain = x - np.float32([50_000, -3_000, 20, 0])
    for a, b in zip(push(make(), x, 0), push(make(), plain, 0), strict=True):
        np.testing.assert_allclose(a.values[:20], b.values[:20], rtol=1e-3)


def test_a_short_gap_is_bridged_and_counted() -> None:
    x = eeg(10)
    pipeline = make()
    push(pipeline, x[:1500], 0)
    rows = push(pipeline, x[1512:], 1512)  # 12 samples = 48 ms
    assert all((row.grades == Grade.GOOD).all() for row in rows), "4.8 % of a 1 s window may be bridged"
    assert "lost" in rows[0].quality.reasons[0]
    assert rows[0].quality.clean_fraction < 1.0
    assert rows[-1].quality.clean_fraction == 1.0


def test_two_short_gaps_in_a_window_are_too_much() -> None:
    x = eeg(10)
    pipeline = make()
    push(pipeline, x[:1500], 0)
    push(pipeline, x[1512:1600], 1512)
    rows = push(pipeline, x[1612:], 1612)
    bad = [row for row in rows if (row.grades == Grade.INVALID).all()]
    assert [row.end_sample for row in bad] == list(range(1625, 1751, 25))
    assert set(bad[0].reasons) == {"lost"}
    assert (rows[-1].grades == Grade.GOOD).all()


def test_bridging_is_a_straight_line() -> None:
    ramp = np.repeat(np.arange(2000, dtype=np.float32)[:, np.newaxis], 4, axis=1)
    a, b = make(), make()
    whole = push(a, ramp, 0)
    rows = push(b, ramp[:1010], 0) + push(b, ramp[1020:], 1020)
    for one, other in zip(whole, rows, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("segment", "lost", "reason"), [(0, 13, "gap"), (1, 0, "segment"), (1, 500, "segment")])
def test_a_long_gap_or_a_new_segment_starts_the_filters_anew(segment: int, lost: int, reason: str) -> None:
    x = eeg(20)
    pipeline = make()
    push(pipeline, x[:1500], 0)
    at = 1500 + lost
    rows = push(pipeline, x[at:], at, segment)
    ready = at + pipeline.settle_samples + 250
    for row in rows:
        assert (row.grades == (Grade.GOOD if row.end_sample >= ready else Grade.INVALID)).all()
        if row.end_sample < ready:
            assert set(row.reasons) == {reason}
    fresh = push(make(), x[at:], at)
    for one, other in zip(reversed(rows), reversed(fresh), strict=False):
        if one.end_sample < ready:
            break
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("cut", [7500, 7510])
def test_nothing_is_concluded_from_a_gap_wherever_it_begins(cut: int) -> None:
    """An electrode without contact stays one: nobody has seen it since."""
    pipeline = make()
    x = eeg(60)
    x[:, 0] = 0.0
    before = push(pipeline, x[:cut], 0)[-1].quality
    after = push(pipeline, x[cut : cut + 100], cut + 25 * 250)[-1].quality
    assert before.contact is not None and after.contact is not None
    assert before.contact[0] == 0.0
    np.testing.assert_array_equal(after.contact, before.contact)
    assert "contact" in after.reasons[0]


def test_hops_in_a_gap_are_emitted_when_samples_return() -> None:
    x = eeg(12)
    pipeline = make()
    before = push(pipeline, x[:1500], 0)
    rows = push(pipeline, x[2000:2001], 2000)
    assert [row.hop for row in rows] == list(range(before[-1].hop + 1, before[-1].hop + 21))
    for row in rows:
        assert (row.grades == Grade.INVALID).all()
        assert "gap" in row.quality.reasons[0]
        assert not row.quality.good.any()
        assert row.t_s == pytest.approx(row.end_sample / RATE, abs=1e-9)


def test_a_gap_of_a_year_gives_a_bounded_number_of_rows() -> None:
    x = eeg(12)
    pipeline = make()
    push(pipeline, x[:1500], 0)
    year = int(365 * 86400 * RATE)
    rows = push(pipeline, x[:1500], year)
    gap_rows = [row for row in rows if row.end_sample <= year]
    # The last rows of the gap; in other cases also that of the hop in which it began.
    assert len(gap_rows) in (MOST_GAP_ROWS, MOST_GAP_ROWS + 1)
    hops = [row.hop for row in rows if row.end_sample > 1525]
    assert hops == list(range(hops[0], hops[0] + len(hops)))
    assert rows[-1].end_sample == year + 1500
    assert (rows[-1].grades == Grade.GOOD).all()
    fresh = push(make(), x[:1500], year)
    np.testing.assert_array_equal(rows[-1].values, fresh[-1].values)


def test_unclean_samples_are_never_looked_at() -> None:
    x = eeg(20)
    clean = np.ones(len(x), dtype=bool)
    clean[2000:2600] = False
    poisoned = x.copy()
    poisoned[2000:2600] = 1e6
    a, b = push(make(), x, 0, clean=clean), push(make(), poisoned, 0, clean=clean)
    pipeline = make()
    ready = 2600 + pipeline.settle_samples + 250
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        touched = 2000 < one.end_sample < ready
        if touched:
            assert (one.grades == Grade.INVALID).all()
            assert set(one.reasons) == {"stimulation"}
    assert (a[-1].grades == Grade.GOOD).all()


def test_one_unclean_sample_is_enough() -> None:
    x = eeg(20)
    clean = np.ones(len(x), dtype=bool)
    clean[2510] = False
    rows = push(make(), x, 0, clean=clean)
    settle = make().settle_samples
    invalid = [row.end_sample for row in rows if row.end_sample > 1500 and (row.grades == Grade.INVALID).any()]
    assert invalid == list(range(2525, 2511 + settle + 250, 25))


def test_no_bridge_over_a_gap_beside_unclean_samples() -> None:
    """What is lost while stimulation may have been on is not interpolated into a clean window."""
    x = eeg(20)
    pipeline = make()
    push(pipeline, x[:2500], 0, clean=np.arange(2500) < 2495)
    rows = push(pipeline, x[2505:3000], 2505)
    assert all((row.grades == Grade.INVALID).all() for row in rows)
    pipeline = make()
    push(pipeline, x[:2500], 0)
    rows = push(pipeline, x[2505:3000], 2505, clean=np.arange(495) > 3)
    assert all((row.grades == Grade.INVALID).all() for row in rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_one_broken_channel_leaves_the_others_alone(value: float) -> None:
    x = eeg(20)
    broken = x.copy()
    broken[1500:2000, 1] = value
    a, b = push(make(), x, 0), push(make(), broken, 0)
    others = [i for i, c in enumerate(a[0].columns) if "F4" not in c.channel]
    mine = [i for i, c in enumerate(a[0].columns) if "F4" in c.channel]
    ready = 2000 + make().settle_samples + 250
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one.values[others], other.values[others], rtol=1e-9)
        np.testing.assert_array_equal(one.grades[others], other.grades[others])
        if 1525 <= other.end_sample < ready:
            assert (other.grades[mine] == Grade.INVALID).all(), other.end_sample
            assert {other.reasons[i] for i in mine} == {"lost"}
        if 1500 < other.end_sample <= 2000:
            assert not other.quality.good[1]
            assert "lost" in other.quality.reasons[1]
            assert other.quality.good[0]
    assert (b[-1].grades == Grade.GOOD).all()
    np.testing.assert_allclose(a[-1].values, b[-1].values, rtol=1e-3)


def test_a_channel_dead_from_the_start_is_lost_and_the_rest_works() -> None:
    x = eeg(10)
    x[:, 2] = np.nan
    rows = push(make(), x, 0)
    last = rows[-1]
    for i, column in enumerate(last.columns):
        assert last.grades[i] == (Grade.INVALID if column.channel == "O1" else Grade.GOOD)
    assert last.quality.good.tolist() == [True, True, False, True]


def test_a_corrupt_sample_is_interpolated_in_every_channel() -> None:
    x = eeg(20)
    broken, mended = x.copy(), x.copy()
    broken[2010] += np.float32([3e5, -2600, 2500, 40])
    mended[2010] = (x[2009] + x[2011]) / 2
    for one, other in zip(push(make(), broken, 0), push(make(), mended, 0), strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4)
        np.testing.assert_array_equal(one.grades, other.grades)


def test_a_real_step_is_not_taken_for_a_glitch() -> None:
    x = eeg(20)
    x[2510:, 0] += 20_000
    rows = push(make(), x, 0)
    hit = [row for row in rows if 2511 <= row.end_sample <= 2750]
    assert all("amplitude" in row.quality.reasons[0] for row in hit[:3])
    assert all(row.grades[row.find("band_power.delta", "F3")] == Grade.SUSPECT for row in hit)
    assert all(row.grades[row.find("band_power.delta", "O1")] == Grade.GOOD for row in hit)


def test_overlapping_chunks_wrong_channels_and_wrong_masks_are_refused() -> None:
    pipeline = make()
    push(pipeline, eeg(1), 0)
    with pytest.raises(ValueError, match="already given"):
        push(pipeline, eeg(1), 100)
    with pytest.raises(ValueError, match="4 channels"):
        push(pipeline, np.zeros((10, 3), np.float32), 250)
    with pytest.raises(ValueError, match="clean mask"):
        push(pipeline, eeg(1), 250, clean=np.ones(3, dtype=bool))
    assert push(pipeline, np.zeros((0, 4), np.float32), 999) == []


def test_streams_the_line_cannot_serve_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples per second"):
        make(rate=10.0)
    info = StreamInfo("t", "t", 250.0, ("Cz",), ("eeg",))
    with pytest.raises(ConfigError, match="computed twice"):
        Pipeline(info, LINE, [("band_power", band_power.Settings())] * 2)
    with pytest.raises(ConfigError, match="did you mean 'band_power'"):
        Pipeline(info, LINE, [("bandpower", band_power.Settings())])
    with pytest.raises(ConfigError, match="needs at least 200"):
        Pipeline(
            StreamInfo("t", "t", 125.0, ("Cz",), ("eeg",)),
            LINE,
            [("band_power", band_power.Settings(bands={"high": (60.0, 100.0)}))],
        )
    with pytest.raises(ConfigError, match="holds no bin"):
        Pipeline(info, LineSettings(window_s=0.25), [("band_power", band_power.Settings(bands={"thin": (5.0, 6.0)}))])


@pytest.mark.parametrize("rate", [125.0, 128.0, 200.0, 250.0, 256.0, 500.0, 512.0, 1000.0, 2000.0])
@pytest.mark.parametrize("channels", [1, 3, 256])
def test_every_rate_and_size(rate: float, channels: int) -> None:
    """A 10 Hz rhythm of 20 µV is 200 µV² of alpha in every channel at every rate."""
    info = StreamInfo("t", "t", rate, tuple(f"E{i}" for i in range(channels)), ("eeg",) * channels)
    pipeline = Pipeline(info, LineSettings(notch_hz=60, high_pass_hz=1.0), [("band_power", band_power.Settings())])
    t = np.arange(int(6 * rate)) / rate
    x = np.repeat((20 * np.sin(2 * np.pi * 10 * t)).astype(np.float32)[:, np.newaxis], channels, axis=1)
    row = pipeline.push(Chunk(x, 0, 0.0, 0.0))[-1]
    response = float(pipeline.power_response(np.array([10.0]))[0])
    for channel in (info.channels[0], info.channels[-1]):
        assert row.values[row.find("band_power.alpha", channel)] / response == pytest.approx(200.0, rel=0.01)


def test_misc_channels_have_no_band_power_and_others_may() -> None:
    info = StreamInfo("t", "t", RATE, ("Cz", "VEOG", "trigger"), ("eeg", "eog", "misc"))
    pipeline = Pipeline(info, LINE, [("band_power", band_power.Settings())])
    assert {c.channel for c in pipeline.columns} == {"Cz", "VEOG"}
    x = eeg(8)[:, :3] - np.float32([50_000, -3_000, 20])
    x[:, 2] = 0
    row = pipeline.push(Chunk(x, 0, 0.0, 0.0))[-1]
    assert np.isfinite(row.values).all()
    assert row.quality.good.all(), "a still trigger line is no flat electrode"


def test_spectrum_is_of_the_newest_hop() -> None:
    pipeline = make(LineSettings(window_s=2.0))
    assert not pipeline.spectrum().whole
    rows = push(pipeline, eeg(8), 0)
    spectrum = pipeline.spectrum()
    assert spectrum.whole
    assert spectrum.density_uv2_hz.shape == (4, len(spectrum.frequency_hz))
    inside = (spectrum.frequency_hz >= 8) & (spectrum.frequency_hz < 13)
    alpha = spectrum.density_uv2_hz[:, inside].sum(1) * 0.5
    np.testing.assert_allclose(alpha, [rows[-1].values[rows[-1].find("band_power.alpha", c)] for c in CHANNELS], rtol=1e-9)


def test_many_lost_samples_cost_no_more_than_few() -> None:
    """They are mended where leases are renewed; a source may lose every second one of all its channels."""
    x = np.random.default_rng(0).standard_normal((16, 200))
    few, many = x.copy(), x.copy()
    few[:, 100:102], many[:, 1::2] = np.nan, np.nan
    took_s = []
    for broken in (few, many):
        repair = Repair(16, 12, None)
        repair.mend(x.copy())
        best = np.inf
        for _ in range(5):
            mended = broken.copy()
            began = time.perf_counter()
            repair.mend(mended)
            best = min(best, time.perf_counter() - began)
        took_s.append(best)
        assert np.isfinite(mended).all()
    np.testing.assert_allclose(mended[:, 1:-1:2], (x[:, 0:-2:2] + x[:, 2::2]) / 2)
    np.testing.assert_array_equal(mended[:, -1], x[:, -2])
    assert took_s[1] < 8 * took_s[0], took_s
