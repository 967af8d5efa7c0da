"""Band powers, spectra and IAF of the shared recordings against independently computed truth."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from dsp.biomarkers import band_power, faa, iaf, relative_power
from dsp.pipeline import Pipeline, Spectrum
from dsp.spectrum import band_weights
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, StreamInfo

RECORDINGS = (
    "resting_ec_alpha_6ch",
    "attention_blinks_32ch",
    "cyton_eo_ec_blinks_jaw_8ch",
    "muse_oddball_4ch",
    "emotiv_eye_state_14ch",
)
BANDS = band_power.DEFAULT_BANDS
TRUTHS_LINE = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None, window_s=4, hop_s=2, integration="trapezoid")


def truth(shared_data: Path, name: str) -> dict:
    return json.loads((shared_data / "ground_truth.json").read_text())["recordings"][name]


def samples(shared_data: Path, name: str) -> tuple[np.ndarray, StreamInfo]:
    facts = truth(shared_data, name)
    labels = tuple(facts["ch_names"])
    if (shared_data / f"{name}.vhdr").exists():
        x = mne.io.read_raw_brainvision(shared_data / f"{name}.vhdr", preload=True, verbose="error").get_data().T * 1e6
    elif (shared_data / f"{name}.csv").exists():
        x = pd.read_csv(shared_data / f"{name}.csv")[list(labels)].to_numpy()
    else:
        x = np.load(shared_data / f"{name}.npz")["data_uv"].T
    assert x.shape == (facts["n_samples"], facts["n_channels"])
    info = StreamInfo(name, name, facts["sfreq"], labels, ("eeg",) * len(labels))
    return np.ascontiguousarray(x, dtype=np.float32), info


def run(
    x: np.ndarray, info: StreamInfo, line: LineSettings, marks: list[tuple[str, Closed]]
) -> tuple[Pipeline, list[Biomarkers], list[Spectrum]]:
    pipeline = Pipeline(info, line, marks)
    rows: list[Biomarkers] = []
    spectra: list[Spectrum] = []
    step = round(info.sample_rate_hz * 0.02)
    for i in range(0, len(x), step):
        new = pipeline.push(Chunk(x[i : i + step], i, i / info.sample_rate_hz, i / info.sample_rate_hz))
        assert len(new) <= 1
        rows += new
        spectra += [pipeline.spectrum() for _ in new]
    return pipeline, rows, spectra


@pytest.mark.parametrize("name", RECORDINGS)
def test_truths_settings_give_the_truth(shared_data: Path, name: str) -> None:
    """Unfiltered, 4 s Hann, half overlapping, closed trapezoid, glitches interpolated: within 0.1 %, every channel and band."""
    x, info = samples(shared_data, name)
    facts = truth(shared_data, name)["channels"]
    _, rows, _ = run(x, info, TRUTHS_LINE, [("band_power", band_power.Settings()), ("relative_power", relative_power.Settings())])
    assert len(rows) == (len(x) / info.sample_rate_hz) // 2
    # The truth's segments are the windows of hops 2, 3, ...; what is left at the file's end is in neither.
    assert np.isnan(rows[0].values).all()
    values = np.array([row.values for row in rows[1:]])
    assert np.isfinite(values).all()
    mean = dict(zip(((c.name, c.channel) for c in rows[0].columns), values.mean(0), strict=True))
    for channel in info.channels:
        # The truth's relative power is that of the mean spectrum, not the mean of the windows' shares; adjoining
        # trapezoids add up to 1-45 Hz exactly.
        total = sum(mean[f"band_power.{band}", channel] for band in BANDS)
        for band in BANDS:
            power = mean[f"band_power.{band}", channel]
            assert power == pytest.approx(facts[channel]["band_power_uv2"][band], rel=1e-3), (channel, band)
            assert power / total == pytest.approx(facts[channel]["relative_power_1_45"][band], rel=1e-3), (channel, band)
    # A window's shares are that window's powers over their sum.
    for row in rows[1::10]:
        for channel in info.channels:
            powers = np.array([row.values[row.find(f"band_power.{band}", channel)] for band in BANDS])
            shares = np.array([row.values[row.find(f"relative_power.{band}", channel)] for band in BANDS])
            np.testing.assert_allclose(shares, powers / powers.sum(), rtol=1e-9)


@pytest.mark.parametrize("name", RECORDINGS)
def test_default_line_over_its_response_gives_the_truth(shared_data: Path, name: str) -> None:
    """Mean 4 s spectrum / |H|²: theta to gamma within 2 %, delta within 15 %, against the truth's own code on the same span."""
    x, info = samples(shared_data, name)
    rate = info.sample_rate_hz
    facts = truth(shared_data, name)
    line = LineSettings(window_s=4, hop_s=2, notch_hz=60 if facts["line_noise"]["dominant_hz"] == 60 else 50)
    pipeline, rows, spectra = run(x, info, line, [("band_power", band_power.Settings())])
    n = int(4 * rate)
    settled = [i for i, row in enumerate(rows) if row.end_sample - n >= pipeline.settle_samples]
    assert all(np.isfinite(rows[i].values).all() for i in settled)
    frequency = spectra[0].frequency_hz
    response = np.maximum(pipeline.power_response(frequency), 1e-12)
    mean = np.mean([spectra[i].density_uv2_hz for i in settled], axis=0) / response
    for sample in facts.get("glitch_samples", []):
        x[sample] = (x[sample - 1] + x[sample + 1]) / 2
    span = x[rows[settled[0]].end_sample - n : rows[settled[-1]].end_sample]
    expected, *_ = truth_code(shared_data).channel_truth(span.T.astype(float), rate, list(info.channels))
    for band, (low, high) in BANDS.items():
        powers = mean @ band_weights(frequency, low, high, "trapezoid")
        for channel, power in zip(info.channels, powers, strict=True):
            limit = 0.15 if band == "delta" else 0.02
            assert power == pytest.approx(expected[channel]["band_power_uv2"][band], rel=limit), (channel, band)


def truth_code(shared_data: Path):
    spec = importlib.util.spec_from_file_location("ground_truth_lib", shared_data / "ground_truth_lib.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["muse_oddball_4ch", "attention_blinks_32ch"])
def test_asymmetry_is_the_difference_of_mean_powers(shared_data: Path, name: str) -> None:
    x, info = samples(shared_data, name)
    facts = truth(shared_data, name)["faa"]
    _, rows, _ = run(x, info, TRUTHS_LINE, [("faa", faa.Settings()), ("band_power", band_power.Settings())])
    column = rows[0].columns[0]
    left, right = column.channel.split("-")
    assert column.name == ("faa" if name.startswith("attention") else "prefrontal_asymmetry")
    power = {c: np.nanmean([row.values[row.find("band_power.alpha", c)] for row in rows]) for c in (left, right)}
    assert np.log(power[right]) - np.log(power[left]) == pytest.approx(facts[f"ln({right})-ln({left})"], abs=1e-3)
    for row in rows[1:]:
        alpha = [row.values[row.find("band_power.alpha", c)] for c in (left, right)]
        assert row.values[0] == pytest.approx(np.log(alpha[1] / alpha[0]), abs=1e-9)


# Whole-head IAF from the README's per-channel peaks of the channels with a clear alpha peak.
IAF_HZ = {
    "resting_ec_alpha_6ch": (9.77, 9.66),  # the authors' own peak and center of gravity
    "attention_blinks_32ch": (10.0, 10.0),
    "muse_oddball_4ch": (11.25, 11.25),
}


@pytest.mark.parametrize("name", sorted(IAF_HZ))
def test_iaf_of_the_default_line(shared_data: Path, name: str) -> None:
    x, info = samples(shared_data, name)
    _, rows, _ = run(x, info, LineSettings(hop_s=0.5, notch_hz=60 if name.startswith("att") else 50), [("iaf", iaf.Settings())])
    for part, expected in zip(("peak", "cog"), IAF_HZ[name], strict=True):
        values = np.array([row.values[row.find(f"iaf.{part}")] for row in rows])
        assert np.isfinite(values).mean() > 0.5
        assert np.nanmedian(values) == pytest.approx(expected, abs=0.5)


def test_iaf_of_closed_eyes_on_the_cyton(shared_data: Path) -> None:
    """28-75 s of the OpenBCI file: peak 11.5 Hz at O1 and O2 despite 62 mV offsets and mains 38 dB up."""
    x, info = samples(shared_data, "cyton_eo_ec_blinks_jaw_8ch")
    span = x[28 * 250 : 75 * 250]
    _, rows, _ = run(span, info, LineSettings(notch_hz=60, hop_s=0.5), [("iaf", iaf.Settings(channels=("O1", "O2")))])
    for channel in ("n/a", "O1", "O2"):
        values = np.array([row.values[row.find("iaf.peak", channel)] for row in rows])
        assert np.nanmedian(values) == pytest.approx(11.5, abs=0.5)


def test_corrupt_samples_of_the_epoc_do_not_reach_the_spectrum(shared_data: Path) -> None:
    """0.7 V glitches in single samples: interpolated, so no window after them is disturbed."""
    x, info = samples(shared_data, "emotiv_eye_state_14ch")
    mended = x.copy()
    for sample in truth(shared_data, "emotiv_eye_state_14ch")["glitch_samples"]:
        mended[sample] = (x[sample - 1] + x[sample + 1]) / 2
    _, rows, _ = run(x, info, LineSettings(), [("band_power", band_power.Settings())])
    _, clean, _ = run(mended, info, LineSettings(), [("band_power", band_power.Settings())])
    for a, b in zip(rows, clean, strict=True):
        np.testing.assert_allclose(a.values, b.values, rtol=0.05)
