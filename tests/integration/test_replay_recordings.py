"""`eegloop replay` on real and synthetic files of every format, on damaged and huge ones, and on sessions of a running service."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mne
import numpy as np
import psutil
import pytest
from running_service import (
    ROOT,
    SHORT_BLOCKS,
    Recorded,
    RunningService,
    bids_errors,
    check_parity,
    run_command,
    seat_config,
    sign_prescriptions,
    until,
    write_config,
)

from daemon.replay import replay_recording

BANDS = ("delta", "theta", "alpha", "beta", "gamma")
FILES = {
    "resting_ec_alpha_6ch": "resting_ec_alpha_6ch.vhdr",
    "attention_blinks_32ch": "attention_blinks_32ch.vhdr",
    "cyton_eo_ec_blinks_jaw_8ch": "cyton_eo_ec_blinks_jaw_8ch_openbci_gui.txt",
    "muse_oddball_4ch": "muse_oddball_4ch.csv",
    "emotiv_eye_state_14ch": "emotiv_eye_state_14ch.npz",
}
TRUTHS_LINE = {
    "high_pass_hz": None, "low_pass_hz": None, "notch_hz": None, "window_s": 4.0, "hop_s": 2.0, "integration": "trapezoid",
}  # fmt: skip
RATE_HZ, LABELS = 250.0, ("Fp1", "F3", "F4", "Cz", "O1", "O2")


# ---- a live session, in the background of the tests that need none


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A demo of two virtual people with short blocks; it runs while the other tests of this file do."""
    folder = tmp_path_factory.mktemp("session")
    data = folder / "data"
    seats = [seat_config(seat, {"kind": "lsl", "name": f"replay-{seat}", "type": "EEG"}) for seat in ("one", "two")]
    sign_prescriptions(data, seats, **SHORT_BLOCKS)
    service = RunningService("demo", write_config(folder / "config.yaml", seats), data)
    try:
        yield service
    finally:
        service.end()


@pytest.fixture(autouse=True)
def _begun(session: RunningService) -> None:
    """Every test of this file leaves the session running."""


# ---- the truth


def config_of(folder: Path, line: dict[str, Any], biomarkers: list[dict[str, Any]]) -> Path:
    return write_config(folder / "config.yaml", [seat_config("seat1", {"kind": "lsl"}, line=line, biomarkers=biomarkers)])


def hops_of(summary: dict[str, Any], recording: Path) -> tuple[np.ndarray, list[tuple[str, str]]]:
    folder = Path(summary["folder"])
    stem = next(folder.glob("*_setup.json")).name.removesuffix("_setup.json")
    files = Recorded(recording.with_name(f"{stem}_eeg.vhdr"), folder)
    return files.hops(), files.columns()


@pytest.mark.parametrize("name", sorted(FILES))
def test_powers_of_every_shared_recording_are_the_truth(shared_data: Path, tmp_path: Path, name: str) -> None:
    """With the truth's settings: mean over the hops of biomarkers.npy within 0.1 % of ground_truth.json, every channel and band."""
    facts = json.loads((shared_data / "ground_truth.json").read_text())["recordings"][name]
    config = config_of(tmp_path, TRUTHS_LINE, [{"kind": "band_power"}, {"kind": "faa"}])
    summary = replay_recording(shared_data / FILES[name], tmp_path / "out", config, None, None, config, progress=False)
    assert summary["seconds"] == pytest.approx(facts["duration_s"], abs=0.01)
    hops, columns = hops_of(summary, shared_data / FILES[name])
    whole = hops[hops["end_sample"] >= 4 * facts["sfreq"]]
    assert len(whole) == int(facts["duration_s"] / 2) - 1
    mean = dict(zip(columns, whole["values"].mean(axis=0), strict=True))
    worst = dict.fromkeys(BANDS, 0.0)
    for channel, truth in facts["channels"].items():
        for band in BANDS:
            off = abs(mean[f"band_power.{band}", channel] / truth["band_power_uv2"][band] - 1)
            worst[band] = max(worst[band], off)
            assert off < 1e-3, (channel, band)
    print(f"{name}: worst of {len(facts['channels'])} channels:", {band: f"{off:.1e}" for band, off in worst.items()})


@pytest.mark.parametrize("name", sorted(FILES))
def test_default_line_over_its_response_is_the_truth(shared_data: Path, tmp_path: Path, name: str) -> None:
    """The default line's mean 4 s spectrum, bin by bin out of biomarkers.npy, over |H|²: theta to gamma within 2 %, delta 15 %."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("ground_truth_lib", shared_data / "ground_truth_lib.py")
    assert spec is not None and spec.loader is not None
    truth_code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(truth_code)
    facts = json.loads((shared_data / "ground_truth.json").read_text())["recordings"][name]
    rate = facts["sfreq"]
    bins_hz = np.arange(4, 181) / 4
    # A band of one bin each; a list of bands holds 40.
    kinds = [
        {"kind": "band_power", "bands": {f"b{round(f * 100)}": [float(f), float(f) + 0.25] for f in part}}
        for part in np.array_split(bins_hz, 5)
    ]
    mains = 60 if facts["line_noise"]["dominant_hz"] == 60 else 50
    line = {"window_s": 4.0, "hop_s": 2.0, "notch_hz": mains}
    config = config_of(tmp_path, line, kinds)
    summary = replay_recording(shared_data / FILES[name], tmp_path / "out", config, None, None, config, progress=False)
    hops, columns = hops_of(summary, shared_data / FILES[name])
    finite = np.flatnonzero(np.isfinite(hops["values"]).all(axis=1))
    assert len(finite) > 40 and (np.diff(finite) == 1).all()
    mean = hops["values"][finite].mean(axis=0).reshape(len(bins_hz), -1).T * 4  # µV²/Hz
    order = [channel for name_, channel in columns if name_ == "band_power.b100"]
    density = mean / response(bins_hz, rate, mains)
    n = int(4 * rate)
    rows = raw_rows(shared_data, name, facts).astype(float)
    for glitch in facts.get("glitch_samples", []):
        rows[glitch] = (rows[glitch - 1] + rows[glitch + 1]) / 2
    span = rows[int(hops["end_sample"][finite[0]]) - n : int(hops["end_sample"][finite[-1]])]
    expected, *_ = truth_code.channel_truth(span.T, rate, list(facts["ch_names"]))
    worst = dict.fromkeys(BANDS, 0.0)
    for channel in facts["ch_names"]:
        for band in BANDS:
            low, high = truth_code.BANDS[band]
            inside = (bins_hz >= low) & (bins_hz <= high)
            power = np.trapezoid(density[order.index(channel), inside], bins_hz[inside])
            worst[band] = max(worst[band], abs(power / expected[channel]["band_power_uv2"][band] - 1))
    print(f"{name}: default line, worst of {len(order)} channels:", {band: f"{100 * off:.2f} %" for band, off in worst.items()})
    for band, off in worst.items():
        assert off < (0.15 if band == "delta" else 0.02), band


def response(frequency_hz: np.ndarray, rate_hz: float, mains_hz: int) -> np.ndarray:
    """|H|² of the default line's filters, designed here once more: Butterworth 0.75 and 45 Hz of order 2, notch Q 30."""
    from scipy import signal as ss

    total = np.ones_like(frequency_hz)
    filters = [
        ss.butter(2, 0.75, "highpass", fs=rate_hz),
        ss.butter(2, 45.0, "lowpass", fs=rate_hz),
        ss.iirnotch(mains_hz, 30, fs=rate_hz),
    ]
    for b, a in filters:
        total *= np.abs(ss.freqz(b, a, frequency_hz, fs=rate_hz)[1]) ** 2
    return total


def raw_rows(shared_data: Path, name: str, facts: dict[str, Any]) -> np.ndarray:
    if FILES[name].endswith(".vhdr"):
        return np.asarray(mne.io.read_raw_brainvision(shared_data / FILES[name], verbose="error").get_data().T * 1e6)
    if FILES[name].endswith(".csv"):
        import pandas as pd

        return pd.read_csv(shared_data / FILES[name])[facts["ch_names"]].to_numpy()
    return np.asarray(np.load(shared_data / f"{name}.npz")["data_uv"].T)


# ---- every format


def synthetic(seconds: float = 12.0) -> np.ndarray:
    """(n_samples, n_channels) µV: 1/f-like noise, a 10 Hz rhythm stronger on the last channels."""
    rng = np.random.default_rng(11)
    n = int(seconds * RATE_HZ)
    noise = np.cumsum(rng.normal(size=(n, len(LABELS))), axis=0)
    noise -= noise.mean(axis=0)
    rhythm = np.sin(2 * np.pi * 10 * np.arange(n) / RATE_HZ)[:, np.newaxis] * np.linspace(5, 25, len(LABELS))
    return (noise + rng.normal(scale=4, size=noise.shape) + rhythm).astype(np.float32)


def as_raw(rows_uv: np.ndarray) -> mne.io.RawArray:
    return mne.io.RawArray(rows_uv.T.astype(float) * 1e-6, mne.create_info(list(LABELS), RATE_HZ, "eeg"), verbose="error")


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("formats")
    raw = as_raw(synthetic())
    files = {kind: folder / f"made.{kind}" for kind in ("edf", "bdf", "vhdr")} | {"fif": folder / "made_raw.fif"}
    for kind in ("edf", "bdf", "vhdr"):
        mne.export.export_raw(files[kind], raw, verbose="error")
    raw.save(files["fif"], verbose="error")
    return files


@pytest.mark.parametrize(("kind", "tolerance"), [("edf", 2e-3), ("bdf", 1e-4), ("vhdr", 1e-3), ("fif", 1e-5)])
def test_every_format_gives_the_powers_of_its_samples(
    formats: dict[str, Path], tmp_path: Path, kind: str, tolerance: float
) -> None:
    """Against SciPy's Welch of the samples before they were written; the tolerance is the format's own resolution."""
    from scipy import signal as ss

    config = config_of(tmp_path, TRUTHS_LINE, [{"kind": "band_power"}])
    summary = replay_recording(formats[kind], tmp_path / "out", config, None, None, config, progress=False)
    hops, columns = hops_of(summary, formats[kind])
    mean = dict(zip(columns, np.nanmean(hops["values"], axis=0), strict=True))
    x = synthetic().T.astype(float)
    f, density = ss.welch(x, RATE_HZ, nperseg=1000, noverlap=500)
    for band, (low, high) in {"theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 45)}.items():
        inside = (f >= low) & (f <= high)
        for i, channel in enumerate(LABELS):
            expected = np.trapezoid(density[i, inside], f[inside])
            assert mean[f"band_power.{band}", channel] == pytest.approx(expected, rel=tolerance), (channel, band)


def test_real_xdf(shared_data: Path, tmp_path: Path) -> None:
    """LabRecorder's file of a Muse, with its own clock and losses: the EEG stream, all of it."""
    import pyxdf

    path = shared_data / "extras" / "muse_lsl_4streams_17s.xdf"
    config = config_of(tmp_path, TRUTHS_LINE, [{"kind": "band_power"}])
    summary = replay_recording(path, tmp_path / "out", config, None, None, config, progress=False)
    streams, _ = pyxdf.load_xdf(path)
    eeg = next(stream for stream in streams if stream["info"]["type"][0] == "EEG")
    assert summary["seconds"] >= len(eeg["time_series"]) / 256 - 0.05
    _, columns = hops_of(summary, path)
    assert {channel for _, channel in columns} >= {"TP9", "AF7", "AF8", "TP10"}


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    """A recording with 1.5 s missing, and one channel only missing: no value of a window that lacks samples, all others there."""
    rows = synthetic(20.0)
    rows[1000:1375] = np.nan
    np.savez(tmp_path / "gap.npz", data_uv=rows.T, ch_names=np.array(LABELS), sfreq=RATE_HZ)
    config = config_of(tmp_path, {**TRUTHS_LINE, "hop_s": 0.5, "window_s": 2.0}, [{"kind": "band_power"}])
    summary = replay_recording(tmp_path / "gap.npz", tmp_path / "out", config, None, None, config, progress=False)
    hops, columns = hops_of(summary, tmp_path / "gap.npz")
    assert summary["seconds"] == pytest.approx(20.0)
    alpha = hops["values"][:, columns.index(("band_power.alpha", "O1"))]
    for end, value in zip(hops["end_sample"], alpha, strict=True):
        missing = end < 500 or (end > 1000 and end - 500 < 1375)
        assert np.isnan(value) == missing, f"window that ends at {end / RATE_HZ:.2f} s"
    assert hops["end_sample"].tolist() == list(range(125, 5001, 125))


# ---- what goes wrong


def bad_files(folder: Path, formats: dict[str, Path]) -> dict[str, Path]:
    """Wrong, cut, empty and huge inputs."""
    found = {"absent": folder / "absent.edf", "folder": folder / "folder.vhdr", "unknown": folder / "notes.docx"}
    found["folder"].mkdir()
    found["unknown"].write_text("hello")
    rng = np.random.default_rng(3)
    for suffix in ("edf", "bdf", "_raw.fif", "xdf", "txt", "csv", "npz", "vhdr"):
        name = suffix if suffix.startswith("_") else f".{suffix}"
        for what, content in (("empty", b""), ("junk", rng.bytes(100_000))):
            found[f"{what} {suffix}"] = folder / f"{what}{name}"
            found[f"{what} {suffix}"].write_bytes(content)
        found[f"huge {suffix}"] = folder / f"huge{name}"
        with found[f"huge {suffix}"].open("wb") as file:
            file.truncate(200 << 30)
    for kind in ("edf", "bdf", "fif"):
        whole = formats[kind].read_bytes()
        found[f"cut {kind}"] = folder / ("cut_raw.fif" if kind == "fif" else f"cut.{kind}")
        found[f"cut {kind}"].write_bytes(whole[: len(whole) * 2 // 3])
    return found


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert lines[0].startswith("eegloop: ") and "Traceback" not in text
    assert len(lines[0]) < 500
    return lines[0]


def test_bad_files_get_one_clear_line(formats: dict[str, Path], tmp_path: Path) -> None:
    """Every kind through the library as the command calls it, with an address space in which nothing huge fits."""
    from eegloop.errors import EegloopError

    config = config_of(tmp_path, {}, [{"kind": "band_power"}])
    before = psutil.Process().memory_info().rss
    for name, path in bad_files(tmp_path, formats).items():
        with pytest.raises(EegloopError) as caught:
            replay_recording(path, tmp_path / "out", config, None, None, config, progress=False)
        text = one_line(f"eegloop: {caught.value}")
        assert path.stem in text, name
    assert psutil.Process().memory_info().rss - before < 300 << 20
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["junk", "absent", "taken", "controller"])
def test_the_command_says_one_line_and_exits_with_one(formats: dict[str, Path], tmp_path: Path, kind: str) -> None:
    (tmp_path / "junk.edf").write_bytes(b"junk" * 100)
    (tmp_path / "taken").write_text("a file")
    recording = {"junk": tmp_path / "junk.edf", "absent": tmp_path / "absent.edf"}.get(kind, formats["edf"])
    out = tmp_path / "taken" if kind == "taken" else tmp_path / "out"
    done = run_command("replay", str(recording), "--out", str(out), *(["--controller", "dual"] if kind == "controller" else []))
    assert done.returncode == 1 and done.stdout == ""
    text = one_line(done.stderr)
    assert {"junk": "junk.edf", "absent": "no such file", "taken": "--out", "controller": "dual_threshold"}[kind] in text


def test_a_huge_recording_is_replayed_in_bounded_memory_and_can_be_stopped(formats: dict[str, Path], tmp_path: Path) -> None:
    """200 GB behind a good header: it begins at once, shows progress, stays small; Ctrl-C ends it without a traceback."""
    import shutil

    for suffix in (".vhdr", ".vmrk"):
        shutil.copy(formats["vhdr"].with_suffix(suffix), tmp_path / f"made{suffix}")
    with (tmp_path / "made.eeg").open("wb") as file:
        file.truncate(200 << 30)
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "replay", str(tmp_path / "made.vhdr"), "--out", str(tmp_path / "out")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        hops = tmp_path / "out"
        until(lambda: sum(p.stat().st_size for p in hops.rglob("*_biomarkers.npy")) > 300_000, 60, "it has begun to write")
        assert psutil.Process(process.pid).memory_info().rss < 500 << 20
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_json_and_progress(formats: dict[str, Path], tmp_path: Path) -> None:
    done = run_command("replay", str(formats["bdf"]), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0 and done.stderr == ""
    summary = json.loads(done.stdout)
    assert summary["seconds"] == pytest.approx(12.0) and summary["hops"] == 120 and summary["identical"] is None
    done = run_command("replay", str(formats["bdf"]), "--out", str(tmp_path / "out"))
    assert done.returncode == 0 and "made.bdf" in done.stdout and str(tmp_path / "out") in done.stdout
    assert "100%" in done.stderr


# ---- sessions of ours; last, because the session has been running all the while


def decided(service: RunningService, seat: str) -> list[dict[str, str]]:
    try:
        return service.recorded(seat).table("decisions.tsv")
    except (AssertionError, FileNotFoundError):
        return []


def delivered_ma(service: RunningService, seat: str) -> float:
    states = service.recorded(seat).table("stim.tsv")
    return max(float(row["confirmed_ma"]) for row in states if row["confirmed_ma"] != "n/a")


@pytest.mark.timeout(240)
def test_replay_of_a_session_is_bit_identical_while_it_runs_and_after_kill_9(session: RunningService, tmp_path: Path) -> None:
    """A session with stimulation in it: decisions, and every hop's numbers, the same again; then the service is killed."""
    session.wait_live()
    until(lambda: min(len(decided(session, seat)) for seat in ("one", "two")) >= 12, 120, "two sense blocks with decisions")
    assert session.popen.poll() is None
    for seat in ("one", "two"):
        assert delivered_ma(session, seat) > 0.3
    running = check_parity(session.recorded("one"), tmp_path / "running", at_least=12)
    session.kill()
    killed = check_parity(session.recorded("two"), tmp_path / "killed", at_least=12)
    print(
        "compared while it ran:",
        running["hops_compared"],
        running["decisions_compared"],
        "after kill -9:",
        killed["hops_compared"],
    )
    # The session stimulated, so hops with and without values were compared.
    grades = session.recorded("two").hops()["grades"]
    assert (grades == 2).any() and (grades == 0).any()
    recorded = session.recorded("two")
    raw = mne.io.read_raw_brainvision(recorded.header, preload=True, verbose="error")
    assert raw.n_times == len(recorded.samples())
    assert bids_errors(session.layout.recordings) == []
    # Another controller on the same session: what would it have done?
    out = tmp_path / "other"
    done = run_command("replay", str(recorded.header), "--out", str(out), "--controller", "proportional_integral", "--json")
    assert done.returncode == 0, done.stderr
    other = Recorded(recorded.header, Path(json.loads(done.stdout)["folder"]))
    rows = other.table("decisions.tsv")
    assert rows and {row["controller"] for row in rows} == {"proportional_integral"}
    assert len(rows) >= 12 and all(row["sentence"] != "n/a" for row in rows)
    # A replay never overwrites what was decided live.
    done = run_command("replay", str(recorded.header), "--out", str(session.layout.recordings))
    assert done.returncode == 1 and "overwrite" in one_line(done.stderr)
    sentences = [row["sentence"] for row in recorded.table("decisions.tsv")]
    assert all(re.search(r"\d\.\d\d mA|stays|Held", sentence) for sentence in sentences), sentences
