"""The published test vectors of biomarkers (250 Hz, 60 s) through the whole line."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import aperiodic, band_power, faa, iaf, relative_power, theta_beta_ratio
from dsp.biomarkers.faa import asymmetry
from dsp.biomarkers.iaf import alpha_peaks, center_of_gravity, interpolated_maximum
from dsp.pipeline import Pipeline
from dsp.spectrum import SpectrumNeed, band_weights, bin_frequencies, psd
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RATE = 250.0
UNFILTERED = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None, window_s=2, hop_s=1)


def tone(*parts: tuple[float, float], seconds: float = 60) -> np.ndarray:
    """Sum of (amplitude µV, frequency Hz) sines."""
    t = np.arange(int(seconds * RATE)) / RATE
    return np.sum([a * np.sin(2 * np.pi * f * t + f) for a, f in parts], axis=0)


def rows_of(signals: dict[str, np.ndarray], marks: list[tuple[str, Closed]], line: LineSettings = UNFILTERED) -> list[Biomarkers]:
    info = StreamInfo("vector", "vector", RATE, tuple(signals), ("eeg",) * len(signals))
    pipeline = Pipeline(info, line, marks)
    data = np.column_stack(list(signals.values())).astype(np.float32)
    return pipeline.push(Chunk(data, 0, 0.0, 0.0))


def last_row(signals: dict[str, np.ndarray], marks: list[tuple[str, Closed]], line: LineSettings = UNFILTERED) -> Biomarkers:
    return rows_of(signals, marks, line)[-1]


def value(row: Biomarkers, name: str, channel: str = "n/a") -> float:
    return float(row.values[row.find(name, channel)])


def test_alpha_of_a_sinusoid_is_half_its_square() -> None:
    row = last_row({"Pz": tone((10, 10)), "Oz": tone((10, 10.13))}, [("band_power", band_power.Settings())])
    assert value(row, "band_power.alpha", "Pz") == pytest.approx(50.000, abs=1e-3)
    assert value(row, "band_power.alpha", "Oz") == pytest.approx(49.9998, abs=2e-3)


def test_density_peak() -> None:
    need = SpectrumNeed(500, 45.0)
    density = psd(tone((10, 10))[np.newaxis, :500], need, RATE)[0]
    assert density.max() == pytest.approx(66.667, abs=1e-3)
    assert bin_frequencies(need, RATE)[density.argmax()] == 10.0


def test_four_tones_split_into_their_bands() -> None:
    row = last_row(
        {"Cz": tone((10, 2.5), (6, 6), (20, 10), (4, 20))},
        [("band_power", band_power.Settings()), ("relative_power", relative_power.Settings(total_hz=(1, 45)))],
    )
    powers = {"delta": 50, "theta": 18, "alpha": 200, "beta": 8}
    for band, power in powers.items():
        assert value(row, f"band_power.{band}", "Cz") == pytest.approx(power, rel=1e-4)
    shares = {"delta": 0.18116, "theta": 0.06522, "alpha": 0.72464, "beta": 0.02899}
    for band, share in shares.items():
        assert value(row, f"relative_power.{band}", "Cz") == pytest.approx(share, abs=1e-5)


def test_a_tone_on_a_band_edge_splits() -> None:
    """0.5 Hz bins, a sine at 8 Hz: the half-open bands take 41.67 and 8.33 µV²."""
    row = last_row({"Cz": tone((10, 8))}, [("band_power", band_power.Settings())])
    assert value(row, "band_power.alpha", "Cz") == pytest.approx(41.667, abs=0.01)
    assert value(row, "band_power.theta", "Cz") == pytest.approx(8.333, abs=0.01)


def test_asymmetry_is_ln_4_and_flips_with_the_sides() -> None:
    marks = [("faa", faa.Settings())]
    row = last_row({"F3": tone((10, 10)), "F4": tone((20, 10))}, marks)
    assert value(row, "faa", "F3-F4") == pytest.approx(1.386294, abs=1e-5)
    row = last_row({"F3": tone((20, 10)), "F4": tone((10, 10))}, marks)
    assert value(row, "faa", "F3-F4") == pytest.approx(-1.386294, abs=1e-5)
    row = last_row({"f3": tone((70, 10)), "F4": tone((140, 10))}, marks)
    assert value(row, "faa", "F3-F4") == pytest.approx(1.386294, abs=1e-5)
    assert np.isnan(asymmetry(0.0, 1.0))
    assert np.isnan(asymmetry(1.0, 0.0))


def test_asymmetry_of_prefrontal_pairs_has_its_own_name() -> None:
    row = last_row({"AF7": tone((10, 10)), "AF8": tone((20, 10))}, [("faa", faa.Settings())])
    assert value(row, "prefrontal_asymmetry", "AF7-AF8") == pytest.approx(1.386294, abs=1e-5)
    with pytest.raises(KeyError, match="prefrontal_asymmetry@AF7-AF8"):
        row.find("faa", "F3-F4")


def test_asymmetry_without_a_pair_says_what_it_needs() -> None:
    row = last_row({"O1": tone((10, 10)), "O2": tone((20, 10))}, [("faa", faa.Settings())])
    i = row.find("faa", "F3-F4")
    assert np.isnan(row.values[i])
    assert "F3 and F4" in row.reasons[i]


def test_center_of_gravity_and_peak() -> None:
    need = SpectrumNeed(1000, 45.0)
    density = psd(tone((10, 9), (20, 11))[np.newaxis, :1000], need, RATE)[0]
    frequency = bin_frequencies(need, RATE)
    assert center_of_gravity(frequency, density, 7, 13) == pytest.approx(10.600, abs=1e-3)
    assert frequency[density.argmax()] == 11.0
    assert np.isnan(center_of_gravity(frequency, np.zeros_like(density), 7, 13))


def test_a_parabola_through_log_power_moves_the_maximum() -> None:
    """A sine at 10.2 Hz in bins of 0.5 Hz: 10.206."""
    need = SpectrumNeed(500, 45.0)
    density = psd(tone((10, 10.2))[np.newaxis, :500], need, RATE)[0]
    assert interpolated_maximum(bin_frequencies(need, RATE), density, (7.0, 13.0)) == pytest.approx(10.206, abs=2e-3)


def test_the_edge_of_the_range_is_no_maximum() -> None:
    f = np.arange(0, 45, 0.25)
    assert np.isnan(interpolated_maximum(f, 1 / np.maximum(f, 0.5), (7.0, 13.0)))
    assert np.isnan(interpolated_maximum(f, np.zeros_like(f), (7.0, 13.0)))
    assert np.isnan(interpolated_maximum(f[:2], np.ones(2), (7.0, 13.0)))


def hills(*parts: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """1/f with a hill of each (height in times of 1/f there, Hz), half a hertz wide."""
    f = np.arange(0, 45, 0.25)
    density = 1 / np.maximum(f, 0.5)
    return f, density + sum(h / hz * np.exp(-(((f - hz) / 0.7) ** 2)) for h, hz in parts)


def test_corcorans_rule_on_known_spectra() -> None:
    settings = iaf.Settings()
    f, one = hills((6.0, 10.0))
    peak = alpha_peaks(f, one[np.newaxis], settings)[0]
    assert peak is not None
    assert peak.peak_hz == pytest.approx(10.0, abs=0.26)
    assert peak.low_hz < 9.0 < 11.0 < peak.high_hz
    f, alike = hills((6.0, 8.5), (7.2, 11.0))
    split = alpha_peaks(f, alike[np.newaxis], settings)[0]
    assert split is not None
    assert np.isnan(split.peak_hz), "two alike: none of them is the person's"
    assert split.low_hz < 8.5 < 11.0 < split.high_hz
    f, unlike = hills((3.0, 8.5), (8.0, 11.5))
    main = alpha_peaks(f, unlike[np.newaxis], settings)[0]
    assert main is not None
    assert main.peak_hz == pytest.approx(11.5, abs=0.26)
    assert main.low_hz < 8.5, "the smaller one is more than half as high: it belongs to the same alpha"
    f, none = hills()
    assert alpha_peaks(f, none[np.newaxis], settings) == [None]
    f, slight = hills((0.2, 10.0))
    assert alpha_peaks(f, slight[np.newaxis], settings) == [None]


def test_two_alike_peaks_have_a_center_and_an_unclear_maximum() -> None:
    """A person with two rhythms: no peak is claimed, the center lies between them, the maximum is told as suspect."""
    rng = np.random.default_rng(5)
    n = 40_000

    def narrow(hz: float) -> np.ndarray:
        f = np.fft.rfftfreq(n, 1 / RATE)
        noise = np.fft.rfft(rng.standard_normal((3, n))) * np.exp(-(((f - hz) / 0.5) ** 2))
        made = np.fft.irfft(noise, n)
        return 8 * made / made.std(1, keepdims=True)

    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal((3, n))) / np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5)), n)
    x = 6 * pink / pink.std(1, keepdims=True) + narrow(9.0) + 1.05 * narrow(11.5)
    row = last_row(dict(zip(("O1", "O2", "Pz"), x, strict=True)), [("iaf", iaf.Settings())])
    peak, center, maximum = (row.find(f"iaf.{part}") for part in ("peak", "cog", "maximum"))
    assert np.isnan(row.values[peak])
    assert row.reasons[peak] == "no_peak"
    assert row.values[center] == pytest.approx(10.3, abs=0.5)
    assert row.grades[center] == Grade.GOOD
    assert row.reasons[maximum] == "unclear_peak"
    assert row.grades[maximum] == Grade.SUSPECT


def test_iaf_comes_early_and_goes_on_averaging() -> None:
    """A first value once half of `least_s` is clean, and later ones over all of `window_s`: they scatter less."""
    rng = np.random.default_rng(6)
    n = 50_000
    f = np.fft.rfftfreq(n, 1 / RATE)
    shape = 1 / np.sqrt(np.maximum(f, 0.5)) + 1.5 * np.exp(-(((f - 10.0) / 1.2) ** 2))
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal((3, n))) * shape, n)
    found = rows_of(dict(zip(("O1", "O2", "Pz"), 10 * x / x.std(1, keepdims=True), strict=True)), [("iaf", iaf.Settings())])
    column = found[0].find("iaf.maximum", "Pz")
    times = np.array([row.end_sample / RATE for row in found])
    values = np.array([row.values[column] for row in found])
    assert times[np.isfinite(values)][0] < 30.0
    assert values[times > 150].std() < 0.5 * values[(times > 20) & (times < 60)].std() + 0.05
    assert found[0].columns[column].window_s == pytest.approx(120.0)


def test_iaf_finds_a_peak_and_says_so_when_there_is_none() -> None:
    rng = np.random.default_rng(3)
    pink = np.fft.irfft(
        np.fft.rfft(rng.standard_normal((4, 15000))) / np.sqrt(np.maximum(np.fft.rfftfreq(15000, 1 / RATE), 0.5)), 15000
    )
    pink *= 10 / pink.std()
    rhythm = tone((8, 10.4))
    marks = [("iaf", iaf.Settings(window_s=30))]
    row = last_row({name: pink[i] + rhythm for i, name in enumerate(("O1", "O2", "Pz"))}, marks)
    assert value(row, "iaf.peak") == pytest.approx(10.4, abs=0.15)
    assert value(row, "iaf.cog") == pytest.approx(10.4, abs=0.3)
    row = last_row({name: pink[i] for i, name in enumerate(("O1", "O2", "Pz"))}, marks)
    i = row.find("iaf.peak")
    assert np.isnan(row.values[i])
    assert row.reasons[i] == "no_peak"


def test_one_bad_electrode_neither_moves_nor_spoils_the_heads_alpha_frequency() -> None:
    """P3 swings at 7.6 Hz, large enough to be named for it; the head's values are those of the other electrodes, and good."""
    rng = np.random.default_rng(9)
    n = 15000
    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal((5, n))) / np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5)), n)
    pink *= 10 / pink.std()
    names = ("O1", "O2", "Pz", "P3", "P4")
    signals = {name: pink[i] + tone((8, 10.4)) for i, name in enumerate(names)}
    signals["P3"] = signals["P3"] + tone((200, 7.6))
    row = last_row(signals, [("iaf", iaf.Settings(window_s=30))], LineSettings())
    assert row.grades[row.find("iaf.maximum", "P3")] == Grade.SUSPECT
    for part in ("peak", "cog", "maximum"):
        assert row.grades[row.find(f"iaf.{part}")] == Grade.GOOD, row.reasons[row.find(f"iaf.{part}")]
        others = [value(row, f"iaf.{part}", name) for name in names if name != "P3"]
        assert min(others) - 1e-9 <= value(row, f"iaf.{part}") <= max(others) + 1e-9
    # one good electrode of three is too few: all speak, and the result is called no better than they are
    signals["P4"] = signals["P3"][::-1].copy()
    row = last_row(signals, [("iaf", iaf.Settings(window_s=30, channels=("O1", "P3", "P4")))], LineSettings())
    assert row.grades[row.find("iaf.cog")] != Grade.GOOD


def test_simpson_would_be_wrong_and_trapezoid_is_not() -> None:
    need = SpectrumNeed(500, 45.0)
    density = psd(tone((10, 10))[np.newaxis, :500], need, RATE)[0]
    frequency = bin_frequencies(need, RATE)
    for integration in ("sum", "trapezoid"):
        assert density @ band_weights(frequency, 8, 13, integration) == pytest.approx(50.0, abs=1e-3)


def test_theta_beta_ratio_of_the_four_tones() -> None:
    row = last_row(
        {"Fz": tone((10, 2.5), (6, 6), (20, 10), (4, 20)), "O1": tone((1, 6))},
        [("theta_beta_ratio", theta_beta_ratio.Settings())],
    )
    assert value(row, "theta_beta_ratio", "Fz") == pytest.approx(2.25, rel=1e-4)
    assert len(row.columns) == 1


def test_aperiodic_of_an_exact_power_law() -> None:
    frequency = np.arange(1, 200) * 0.5
    law = 10**1.5 * frequency**-1.2
    offset, exponent = aperiodic.fit(frequency, law[np.newaxis], (2, 40), (7, 14))
    assert exponent[0] == pytest.approx(1.2, abs=1e-12)
    assert offset[0] == pytest.approx(1.5, abs=1e-12)
    peak = law * (1 + 8 * np.exp(-(((frequency - 10) / 1.2) ** 2)) + 3 * np.exp(-(((frequency - 20) / 1) ** 2)))
    _, exponent = aperiodic.fit(frequency, peak[np.newaxis], (2, 40), (7, 14))
    assert exponent[0] == pytest.approx(1.2, abs=0.02), "peaks in and outside the mask do not tilt it"
    assert np.isnan(aperiodic.fit(frequency, np.zeros((1, 199)), (2, 40), (7, 14))[1][0])


def test_aperiodic_through_the_filters_is_the_raw_signals() -> None:
    """Noise of exponent 1.2 with alpha, through the default line: 1.2 within the spec's spread, filters undone."""
    rng = np.random.default_rng(2)
    n = 60 * 250
    spectrum = np.fft.rfft(rng.standard_normal((6, n))) * np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.1) ** -0.6
    noise = np.fft.irfft(spectrum, n)
    noise *= 10 / noise.std()
    rhythm = tone((10, 10.0))
    row = last_row({f"E{i}": noise[i] + rhythm for i in range(6)}, [("aperiodic", aperiodic.Settings())], LineSettings())
    exponents = [value(row, "aperiodic.exponent", f"E{i}") for i in range(6)]
    assert np.mean(exponents) == pytest.approx(1.2, abs=0.06)
