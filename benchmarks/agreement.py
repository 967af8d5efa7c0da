"""How far our numbers lie from independent implementations, recording by recording and biomarker by biomarker.

    python -m benchmarks.agreement [--json] [--data DIR]

Powers against MNE's Welch, connectivity against mne-connectivity, the aperiodic exponent against specparam, complexity against
antropy, individual alpha frequency and the change from open to closed eyes against the values published with the recordings. Every
comparison is over the same samples; the worst channel (or pair) is given, in the unit of the comparison.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.phase import data_folder
from dsp.biomarkers import (
    aperiodic,
    band_power,
    debiased_wpli,
    iaf,
    imaginary_coherence,
    lempel_ziv,
    permutation_entropy,
    plv,
    relative_power,
    spectral_entropy,
    theta_beta_ratio,
    wpli,
)  # fmt: skip
from dsp.pipeline import Pipeline
from eegloop.closed import Closed
from eegloop.line import LineSettings, QualitySettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

RECORDINGS = (
    "resting_ec_alpha_6ch",
    "attention_blinks_32ch",
    "cyton_eo_ec_blinks_jaw_8ch",
    "muse_oddball_4ch",
    "emotiv_eye_state_14ch",
)
BANDS = band_power.DEFAULT_BANDS
# Nothing is judged and nothing filtered: both sides see the same samples.
OPEN = QualitySettings(
    amplitude_uv=100_000, flat_uv=0.01, line_ratio=100, clean_fraction=0,
    gradient_uv=None, step_uv=None, drift_uv_per_s=None, blink_uv=None, eye_uv=None, muscle_uv=None,
)  # fmt: skip
PLAIN = LineSettings(
    high_pass_hz=None, low_pass_hz=None, notch_hz=None, window_s=4, hop_s=2, integration="trapezoid", quality=OPEN
)
CONNECTIVITY = {
    "plv": (plv, "plv"),
    "imaginary_coherence": (imaginary_coherence, "imcoh"),
    "wpli": (wpli, "wpli"),
    "debiased_wpli": (debiased_wpli, "wpli2_debiased"),
}
# The whole head's peak as published with the recordings, Hz, and the span (s) it is about; the line is the default one for all.
IAF_HZ: dict[str, tuple[float, tuple[float, float] | None]] = {
    "resting_ec_alpha_6ch": (9.77, None),
    "attention_blinks_32ch": (10.0, None),
    "cyton_eo_ec_blinks_jaw_8ch": (11.5, (28.0, 75.0)),
    "muse_oddball_4ch": (11.25, None),
    "emotiv_eye_state_14ch": (10.25, None),
}
Row = dict[str, str | float | bool | None]
F64 = NDArray[np.float64]


def facts_of(data: Path, name: str) -> dict[str, Any]:
    """What is published with a recording."""
    facts: dict[str, Any] = json.loads((data / "ground_truth.json").read_text())["recordings"][name]
    return facts


def recording(data: Path, name: str) -> tuple[F64, StreamInfo]:
    """(n_samples, n_channels) µV and the stream, glitches of the EPOC interpolated as the published values have them."""
    facts = facts_of(data, name)
    labels = tuple(facts["ch_names"])
    if (data / f"{name}.vhdr").exists():
        import mne

        x = mne.io.read_raw_brainvision(data / f"{name}.vhdr", preload=True, verbose="error").get_data().T * 1e6
    elif (data / f"{name}.csv").exists():
        with (data / f"{name}.csv").open(newline="") as file:
            x = np.array([[float(row[label]) for label in labels] for row in csv.DictReader(file)])
    else:
        x = np.load(data / f"{name}.npz")["data_uv"].T.astype(np.float64)
    for sample in facts.get("glitch_samples", []):
        x[sample] = (x[sample - 1] + x[sample + 1]) / 2
    kinds = tuple("eog" if label.upper().startswith("EOG") else "eeg" for label in labels)
    return np.asarray(x, dtype=np.float32).astype(np.float64), StreamInfo(name, name, float(facts["sfreq"]), labels, kinds)


def run(x: F64, info: StreamInfo, marks: list[tuple[str, Closed]], line: LineSettings | None = None) -> list[Biomarkers]:
    return Pipeline(info, line or PLAIN, marks).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def _row(name: str, what: str, worst: float, limit: float, unit: str, of: int) -> Row:
    return {
        "name": f"{name}: {what}, worst of {of} ({unit})",
        "ours": float(f"{worst:.3g}"), "reference": None, "ratio": None, "goal": limit, "ok": bool(worst <= limit),
    }  # fmt: skip


def power_rows(name: str, x: F64, info: StreamInfo) -> Iterator[Row]:
    """Mean powers of half-overlapping 4 s windows against MNE's Welch of the same samples; relative difference."""
    from mne.time_frequency import psd_array_welch

    marks: list[tuple[str, Closed]] = [
        ("band_power", band_power.Settings()), ("relative_power", relative_power.Settings()),
        ("theta_beta_ratio", theta_beta_ratio.Settings()),
    ]  # fmt: skip
    rows = run(x, info, marks)[1:]
    n, rate = int(4 * info.sample_rate_hz), info.sample_rate_hz
    span = x[: rows[-1].end_sample].T
    psd, f = psd_array_welch(span, rate, fmin=0, fmax=50, n_fft=n, n_per_seg=n, n_overlap=n // 2, window="hann", verbose="error")
    expected = {band: np.trapezoid(psd[:, (i := (f >= low) & (f <= high))], f[i], axis=1) for band, (low, high) in BANDS.items()}
    mean = np.mean([row.values for row in rows], axis=0)
    at = rows[0].find
    index = {label: i for i, label in enumerate(info.channels)}
    worst = max(abs(mean[at(f"band_power.{b}", c)] / expected[b][i] - 1) for b in BANDS for c, i in index.items())
    yield _row(name, "band power against MNE Welch", worst, 1e-3, "relative", len(BANDS) * len(index))
    whole = sum(mean[[at(f"band_power.{b}", c) for c in index]] for b in BANDS)
    total = np.trapezoid(psd[:, (i := (f >= 1) & (f <= 45))], f[i], axis=1)
    yield _row(name, "their sum against MNE's 1-45 Hz", float(np.abs(whole / total - 1).max()), 1e-3, "relative", len(index))
    sites = [c.channel for c in rows[0].columns if c.name == "theta_beta_ratio"]
    if not any(np.isnan(mean[at("theta_beta_ratio", s)]) for s in sites):
        ratio = [
            np.mean([r.values[at("theta_beta_ratio", s)] for r in rows])
            / np.mean([r.values[at("band_power.theta", s)] / r.values[at("band_power.beta", s)] for r in rows])
            for s in sites
        ]
        yield _row(name, "theta/beta against the powers'", float(np.abs(np.array(ratio) - 1).max()), 1e-9, "relative", len(sites))


def aperiodic_row(name: str, x: F64, info: StreamInfo) -> Row:
    """Exponent of about 100 s against specparam (fixed, widths 1-8 Hz, 2-40 Hz) on SciPy's Welch of the same samples."""
    from scipy import signal
    from specparam import SpectralModel

    line = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None, hop_s=0.5, quality=OPEN)
    seconds = min(100.0, math.floor(len(x) / info.sample_rate_hz) - 4)
    row = run(x, info, [("aperiodic", aperiodic.Settings(window_s=seconds, every_s=0.5))], line)[-1]
    rate, column = info.sample_rate_hz, row.columns[0]
    n = round(2 * rate)
    span = x[row.end_sample - round(column.window_s * rate) : row.end_sample].T
    f, psd = signal.welch(span, rate, "hann", n, n // 2, detrend="constant")
    differences = []
    for i, label in enumerate(info.channels):
        model = SpectralModel(aperiodic_mode="fixed", peak_width_limits=(1, 8), max_n_peaks=6, verbose=False)
        model.fit(f, psd[i], [2, 40])
        expected = float(model.get_params("aperiodic")[1])
        differences.append(abs(row.values[row.find("aperiodic.exponent", label)] - expected))
    return _row(
        name,
        f"aperiodic exponent against specparam (median {np.median(differences):.2f})",
        max(differences),
        0.5,
        "1",
        len(differences),
    )


def connectivity_rows(name: str, x: F64, info: StreamInfo) -> Iterator[Row]:
    """Alpha-band measures of neighboring channels over the newest epochs of 2 s against mne-connectivity's Fourier mode.

    Both get the samples with mains taken out: where mains leak into the band, the line refuses a value, rightly.
    """
    from mne_connectivity import spectral_connectivity_epochs
    from scipy import signal

    for mains in (50.0, 60.0):
        x = signal.filtfilt(*signal.iirnotch(mains, 10, fs=info.sample_rate_hz), x - x.mean(0), axis=0)
    x = x.astype(np.float32).astype(np.float64)

    eeg = [c for c, kind in zip(info.channels, info.kinds, strict=True) if kind == "eeg"][:8]
    pairs = tuple(zip(eeg[::2], eeg[1::2], strict=False))
    line = LineSettings(high_pass_hz=None, low_pass_hz=None, notch_hz=None, hop_s=0.5, quality=OPEN)
    seconds = min(90.0, 2 * math.floor(len(x) / info.sample_rate_hz / 2) - 2)
    marks: list[tuple[str, Closed]] = [
        (kind, module.Settings(pairs=pairs, window_s=seconds, every_s=2.0)) for kind, (module, _) in CONNECTIVITY.items()
    ]
    rows = [row for row in run(x, info, marks, line) if row.hop % 4 == 0]
    row, rate, n = rows[-1], info.sample_rate_hz, round(2 * info.sample_rate_hz)
    ends = [row.end_sample - k * n for k in range(round(seconds / 2))]
    epochs = np.array([x[end - n : end].T for end in reversed(ends)])
    epochs -= epochs.mean(-1, keepdims=True)
    numbers = [np.array([info.channels.index(pair[side]) for pair in pairs]) for side in (0, 1)]
    for kind, (_, method) in CONNECTIVITY.items():
        found = spectral_connectivity_epochs(
            epochs, method=method, mode="fourier", sfreq=rate, fmin=7.9, fmax=12.6, faverage=True,
            indices=tuple(numbers), verbose="error",
        )  # fmt: skip
        ours = np.array([row.values[row.find(f"{kind}.alpha", f"{a}-{b}")] for a, b in pairs])
        worst = float(np.abs(np.abs(ours) - np.abs(found.get_data().ravel())).max())
        yield _row(name, f"{kind} against mne-connectivity", worst, 0.02, "1", len(pairs))


def complexity_rows(name: str, x: F64, info: StreamInfo) -> Iterator[Row]:
    """Every 4 s window of every configured site against antropy, and spectral entropy against SciPy's periodogram."""
    import antropy
    from scipy import signal

    eeg = tuple(c for c, kind in zip(info.channels, info.kinds, strict=True) if kind == "eeg")[:4]
    modules = {"lempel_ziv": lempel_ziv, "permutation_entropy": permutation_entropy, "spectral_entropy": spectral_entropy}
    marks: list[tuple[str, Closed]] = [(kind, module.Settings(channels=eeg, every_s=2.0)) for kind, module in modules.items()]
    worst = dict.fromkeys(modules, 0.0)
    compared, n = 0, int(4 * info.sample_rate_hz)
    for row in run(x, info, marks)[1:]:
        for label in eeg:
            span = x[row.end_sample - n : row.end_sample, info.channels.index(label)]
            bits = "".join("1" if v > np.median(span) else "0" for v in span)
            f, density = signal.periodogram(span, info.sample_rate_hz, "hann", detrend="constant")
            p = density[(f >= 1) & (f < 40)]
            p = p / p.sum()
            expected = {
                "lempel_ziv": antropy.lziv_complexity(bits, normalize=False) * math.log2(n) / n,
                "permutation_entropy": antropy.perm_entropy(span, order=3, delay=1, normalize=True),
                "spectral_entropy": float(-(p * np.log(p)).sum() / math.log(len(p))),
            }
            for kind, value in expected.items():
                worst[kind] = max(worst[kind], abs(row.values[row.find(kind, label)] - value))
            compared += 1
    for kind, limit in (("lempel_ziv", 1e-9), ("permutation_entropy", 1e-9), ("spectral_entropy", 1e-6)):
        peer = "SciPy's periodogram" if kind == "spectral_entropy" else "antropy"
        yield _row(name, f"{kind} against {peer}", worst[kind], limit, "1", compared)


def iaf_rows(name: str, x: F64, info: StreamInfo) -> Iterator[Row]:
    """The default line's frequency over the whole span, as the published one is, and online after at most two minutes.

    A peak or maximum is compared where the line calls it good: where Corcoran's rule finds none it refuses rather than guess, which
    is an answer, and nothing to compare.
    """
    published, span_s = IAF_HZ[name]
    if span_s is not None:
        x = x[round(span_s[0] * info.sample_rate_hz) : round(span_s[1] * info.sample_rate_hz)]
    notch = 60 if name.startswith(("att", "cyton")) else 50
    line, seconds = LineSettings(hop_s=0.5, notch_hz=notch), math.floor(len(x) / info.sample_rate_hz)
    online = run(x, info, [("iaf", iaf.Settings())], line)
    whole = run(x, info, [("iaf", iaf.Settings(window_s=seconds - 8.0))], line)[-1]
    for part in ("peak", "cog", "maximum"):
        column = whole.find(f"iaf.{part}")
        series = np.array([row.values[column] for row in online])
        share = float(np.isfinite(series).mean())
        what = f"published {published:g} Hz; online {share:.0%} of hops"
        what += f", median {np.nanmedian(series):.2f} Hz" if share > 0 else ""
        found = float(whole.values[column])
        if whole.grades[column] == Grade.GOOD:
            limit = 1.0 if part == "cog" else 0.5  # the center of a lopsided alpha lies beside its peak
            yield _row(name, f"IAF {part} {found:.2f} Hz ({what})", abs(found - published), limit, "Hz", 1)
        else:
            yield {
                "name": f"{name}: IAF {part} {found:.2f} Hz over the whole span is not good: {whole.reasons[column]} ({what})",
                "ours": None, "reference": None, "ratio": None, "goal": None, "ok": part != "cog",
            }  # fmt: skip


def alpha_rows(name: str, x: F64, info: StreamInfo, facts: dict[str, Any]) -> Iterator[Row]:
    """Every channel's interpolated maximum and center over 7-13 Hz of the recording's density against those published with it."""
    from scipy import signal

    n = round(4 * info.sample_rate_hz)
    f, density = signal.welch(x.T, info.sample_rate_hz, "hann", n, n // 2, detrend="constant")
    maxima, centers = [], []
    for i, label in enumerate(info.channels):
        published = facts["channels"][label]["alpha"]
        found = iaf.interpolated_maximum(f, density[i], (7.0, 13.0))
        if published["peak_is_interior"]:
            maxima.append(abs(found - published["peak_hz_parabolic"]))
        else:
            maxima.append(0.0 if math.isnan(found) else math.inf)
        centers.append(abs(iaf.center_of_gravity(f, density[i], 7.0, 13.0) - published["cog_hz_7_13"]))
    yield _row(name, "alpha maximum by parabola against the published one", max(maxima), 1e-3, "Hz", len(maxima))
    yield _row(name, "center of 7-13 Hz against the published one", max(centers), 1e-3, "Hz", len(centers))


def eyes_rows(x: F64, info: StreamInfo) -> Iterator[Row]:
    """Alpha with closed over open eyes on the Cyton, windows the line itself calls good, against the published ratio."""
    rows = run(x, info, [("band_power", band_power.Settings())], LineSettings(notch_hz=60))
    for label, published in (("O1", 2.52), ("O2", 2.45)):
        i = rows[0].find("band_power.alpha", label)
        means = []
        for start, stop in ((2.0, 26.0), (28.0, 75.0)):
            means.append(
                np.mean([
                    r.values[i] for r in rows
                    if r.grades[i] == Grade.GOOD and start + 2 <= r.end_sample / info.sample_rate_hz <= stop
                ])
            )  # fmt: skip
        ratio = float(means[1] / means[0])
        yield _row(
            info.name,
            f"alpha closed/open at {label} x{ratio:.2f}, published x{published}",
            abs(ratio / published - 1),
            0.2,
            "relative",
            1,
        )


def rows(data: Path | None) -> list[Row]:
    """Every row; none where the recordings are not here."""
    table: list[Row] = []
    for name in RECORDINGS if data is not None else ():
        assert data is not None
        x, info = recording(data, name)
        table += power_rows(name, x, info)
        table.append(aperiodic_row(name, x, info))
        table += connectivity_rows(name, x, info)
        table += complexity_rows(name, x, info)
        table += iaf_rows(name, x, info)
        table += alpha_rows(name, x, info, facts_of(data, name))
        if name.startswith("cyton"):
            table += eyes_rows(x, info)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description="Our numbers against independent implementations.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--data", help="folder of the shared recordings")
    arguments = parser.parse_args()
    folder = data_folder(arguments.data)
    if folder is None:
        print("the recordings are not here: name their folder with --data or EEGLOOP_DATA")
        return 1
    table = rows(folder)
    if arguments.json:
        print(json.dumps(table, ensure_ascii=False))
    else:
        for row in table:
            limit = "" if row["goal"] is None else f"{row['ours']:>10} (<= {row['goal']}) {'ok' if row['ok'] else 'MISSED'}"
            print(f"{row['name']:120} {limit}")
    return 0 if all(row["ok"] for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
