"""Blinks found in the shared recordings and on the virtual brain, with the settings every seat runs with.

    python -m benchmarks.blinks FOLDER        # FOLDER holds ground_truth.json and its recordings

A listed blink counts as found within 150 ms. A detection is false if the zero-phase 1-10 Hz signal of the recording's frontal
channel stays below 35 µV within 150 ms of it; on the virtual brain, if no blink's peak lies within 150 ms.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.reference import F64
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Chunk, StreamInfo
from simulators.brain import Brain, BrainSettings

TOLERANCE_S = 0.15
SILENT_UV = 35.0
# recording: its frontal channel
FRONTAL = {
    "attention_blinks_32ch": "FPz",
    "cyton_eo_ec_blinks_jaw_8ch": "Fp1",
    "muse_oddball_4ch": "AF7",
    "emotiv_eye_state_14ch": "AF3",
}


@dataclass(frozen=True, slots=True)
class Count:
    """`found` of `listed` blinks; `false` of `detected` detections; `polarity` as the line found it."""

    name: str
    listed: int
    found: int
    detected: int
    false: int
    polarity: int


def detected(x: F64, info: StreamInfo) -> tuple[F64, int]:
    """Times (s) of the blinks that the line recognizes in (n_samples, n_channels) µV, and their polarity."""
    pipeline = Pipeline(info, LineSettings(), [])
    step = round(info.sample_rate_hz * 0.02)
    data = x.astype(np.float32)
    for i in range(0, len(data), step):
        pipeline.push(Chunk(data[i : i + step], i, i / info.sample_rate_hz, i / info.sample_rate_hz))
    times = [event.sample / info.sample_rate_hz for event in pipeline.artifact_events if event.kind == "blink"]
    return np.array(times), pipeline.blink_polarity


def load(folder: Path, name: str) -> tuple[F64, StreamInfo]:
    """(n_samples, n_channels) µV of a shared recording."""
    facts = json.loads((folder / "ground_truth.json").read_text())["recordings"][name]
    labels = tuple(facts["ch_names"])
    if (folder / f"{name}.eeg").exists():
        x = np.fromfile(folder / f"{name}.eeg", dtype="<f4").reshape(-1, len(labels))
    elif (folder / f"{name}.csv").exists():
        with (folder / f"{name}.csv").open() as lines:
            header = lines.readline().strip().split(",")
            x = np.loadtxt(lines, delimiter=",", usecols=[header.index(label) for label in labels])
    else:
        x = np.load(folder / f"{name}.npz")["data_uv"].T
    return np.asarray(x, dtype=np.float64), StreamInfo(name, name, facts["sfreq"], labels, ("eeg",) * len(labels))


def recording(folder: Path, name: str) -> Count:
    """One shared recording."""
    from scipy import signal

    x, info = load(folder, name)
    rate = info.sample_rate_hz
    listed = (
        np.array(json.loads((folder / "ground_truth.json").read_text())["recordings"][name]["blinks_scipy"]["samples"]) / rate
    )
    times, polarity = detected(x, info)
    front = x[:, info.channels.index(FRONTAL[name])]
    slow = signal.sosfiltfilt(signal.butter(4, [1, 10], "bandpass", fs=rate, output="sos"), front - np.median(front))
    half = round(TOLERANCE_S * rate)
    false = sum(float(np.abs(slow[max(0, round(t * rate) - half) : round(t * rate) + half + 1]).max()) < SILENT_UV for t in times)
    return Count(name, len(listed), _near(listed, times), len(times), false, polarity)


MUSE = ("TP9", "AF7", "AF8", "TP10")  # recorded against Fpz, in the middle of the eyes' field


def brain(seed: int, seconds: int = 300, montage: tuple[str, ...] | None = None, reference: str = "Fpz") -> Count:
    """A virtual brain, all its other artifacts on, under the default headset or under these electrodes against this reference."""
    plant = Brain(BrainSettings(seed=seed) if montage is None else BrainSettings(seed=seed, montage=montage, reference=reference))
    pieces, peaks = [], []
    for _ in range(seconds):
        pieces.append(plant.advance(int(plant.settings.sample_rate_hz)))
        peaks += [event.peak_s for event in plant.truth().events if event.kind == "blink"]
    labels = plant.settings.montage
    info = StreamInfo("brain", "brain", plant.settings.sample_rate_hz, labels, ("eeg",) * len(labels), 187_500.0)
    times, polarity = detected(np.vstack(pieces).astype(np.float64), info)
    listed = np.array([peak for peak in peaks if peak < seconds - 1.0])
    return Count(
        f"virtual brain, seed {seed}" + ("" if montage is None else f", {len(montage)} ch against {reference}"),
        len(listed),
        _near(listed, times),
        len(times),
        len(times) - _near(times, np.array(peaks)),
        polarity,
    )


def _near(these: F64, those: F64) -> int:
    """How many of `these` have one of `those` within the tolerance."""
    return int(sum(bool(np.any(np.abs(those - t) <= TOLERANCE_S)) for t in these))


def table(folder: Path) -> list[Count]:
    return [
        *(recording(folder, name) for name in FRONTAL),
        *(brain(seed) for seed in (1, 2, 3)),
        *(brain(seed, 200, MUSE) for seed in (4, 5)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Blinks found and false, per recording.")
    parser.add_argument("folder", type=Path, help="folder with ground_truth.json and the recordings it describes")
    counts = table(parser.parse_args().folder)
    print(f"{'':32} {'listed':>6} {'found':>6} {'detected':>9} {'false':>6} {'polarity':>9}")
    for count in counts:
        print(f"{count.name:32} {count.listed:>6} {count.found:>6} {count.detected:>9} {count.false:>6} {count.polarity:>+9}")
    real, virtual = counts[: len(FRONTAL)], counts[len(FRONTAL) :]
    good = True
    for name, rows, least, most in (("recordings", real, 0.9, 0.15), ("virtual brain", virtual, 0.95, 0.05)):
        found = sum(c.found for c in rows) / sum(c.listed for c in rows)
        false = sum(c.false for c in rows) / max(1, sum(c.detected for c in rows))
        good &= found >= least and false <= most
        print(f"{name}: {found:.1%} found (goal {least:.0%}), {false:.1%} false (goal {most:.0%})")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
