"""Artifacts put into the shared recordings: which are found, on the right channel, and what is called one where there is none.

    python -m benchmarks.artifacts [--data DIR]

Every kind is put into a real recording at known times, on known channels, at a size as it occurs; everything else of the recording
stays as it was. Found: the channel carries the reason within the time allowed. False: share of (channel, hop) pairs of the
untouched recording that carry it, where the recording's own description knows of none. One setting, the one every seat runs with.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.blinks import load
from benchmarks.phase import data_folder
from benchmarks.reference import F64
from dsp.biomarkers import band_power
from dsp.contact import neighbors
from dsp.electrodes import direction
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, StreamInfo

# recording: span (s) that its description calls free of the body's artifacts, and the mains where it was made
RECORDINGS: dict[str, tuple[float, float, int]] = {
    "resting_ec_alpha_6ch": (12.0, 118.0, 50),
    "attention_blinks_32ch": (46.5, 71.5, 60),
    "cyton_eo_ec_blinks_jaw_8ch": (29.0, 75.0, 60),
    "muse_oddball_4ch": (20.0, 80.0, 50),
    "emotiv_eye_state_14ch": (63.0, 79.0, 50),
}
BRIEF_S, LASTING_S = 1.0, 12.0
LONGEST_S = 16.0
FULL_SCALE_UV = 187_500.0
Change = Callable[[F64, int, int, int, float, np.random.Generator], None]  # samples, channel, from, to, rate, noise


@dataclass(frozen=True, slots=True)
class Kind:
    """One artifact: how it is made, what it must be called, and how long the line may take.

    `neighbors`: it is put only where so many others are near enough to compare with.
    """

    name: str
    make: Change
    reasons: frozenset[str]
    lasts_s: float
    within_s: float
    everywhere: bool = False
    least_channels: int = 2
    neighbors: int = 0


def _flat(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:b, c] = x[a, c]


def _rail(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:b, c] = FULL_SCALE_UV


def _step(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:, c] += 400.0


def _pop(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:, c] += 300.0 * np.exp(-np.arange(len(x) - a) / (0.3 * rate))


def _drift(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:b, c] += 900.0 * np.arange(b - a) / rate
    x[b:, c] += 900.0 * (b - a) / rate


def _large(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:b, c] += 300.0 * np.sin(2 * np.pi * 2.5 * np.arange(b - a) / rate)


def _muscle(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    bins = np.fft.rfft(noise.standard_normal(b - a))
    bins[np.fft.rfftfreq(b - a, 1 / rate) < 20.0] = 0.0
    burst = np.fft.irfft(bins, b - a)
    x[a:b, c] += 60.0 * burst / burst.std()


def _mains(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:b, c] += 60.0 * np.sin(2 * np.pi * 50.0 * np.arange(b - a) / rate)


def _bridge(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    other = c - 1 if c else 1
    x[a:b, c] = x[a:b, other] - x[a, other] + x[a, c] + 0.1 * noise.standard_normal(b - a)


def _reference(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    bins = np.fft.rfft(noise.standard_normal(b - a))
    bins[np.fft.rfftfreq(b - a, 1 / rate) > 20.0] = 0.0
    common = np.fft.irfft(bins, b - a)
    x[a:b] += (100.0 * common / common.std())[:, np.newaxis]


def _own_uv(x: F64, c: int, a: int, b: int, rate: float) -> float:
    """The channel's own size without drift: SD about its mean over a second."""
    n = max(2, round(rate))
    return float((x[a:b, c] - np.convolve(x[a:b, c], np.ones(n) / n, "same"))[n:-n].std())


def _stranger(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    own = np.fft.irfft(np.fft.rfft(noise.standard_normal(b - a)) / np.sqrt(np.fft.rfftfreq(b - a, 1 / rate) + 0.5), b - a)
    x[a:b, c] = x[a, c] + _own_uv(x, c, a, b, rate) * own / own.std()


def _loose(x: F64, c: int, a: int, b: int, rate: float, noise: np.random.Generator) -> None:
    x[a:b, c] += 8.0 * _own_uv(x, c, a, b, rate) * noise.standard_normal(b - a)


KINDS = (
    Kind("flat", _flat, frozenset({"flat"}), BRIEF_S, 1.0),
    Kind("rail", _rail, frozenset({"rail"}), BRIEF_S, 1.0),
    Kind("step (400 µV, stays)", _step, frozenset({"step"}), BRIEF_S, 1.0),
    Kind("pop (300 µV, 0.3 s)", _pop, frozenset({"gradient", "step"}), BRIEF_S, 1.0),
    Kind("drift (900 µV/s)", _drift, frozenset({"drift"}), LASTING_S, 10.0),
    Kind("amplitude (300 µV, 2.5 Hz)", _large, frozenset({"amplitude"}), BRIEF_S, 1.5),
    Kind("muscle (60 µV above 20 Hz)", _muscle, frozenset({"jaw_muscle", "neck_muscle"}), BRIEF_S, 1.0),
    Kind("mains (60 µV)", _mains, frozenset({"line_noise"}), LASTING_S, 3.5),
    Kind("bridged", _bridge, frozenset({"bridged"}), LASTING_S, 10.0),
    Kind("reference fault", _reference, frozenset({"reference_fault"}), LASTING_S, 10.0, everywhere=True, least_channels=4),
    Kind("stranger to its neighbors", _stranger, frozenset({"disagrees"}), LONGEST_S, LONGEST_S, neighbors=2),
    Kind("loose contact (noise, 8 x own)", _loose, frozenset({"contact"}), LASTING_S, 10.0, least_channels=4),
)
ALL_REASONS = tuple(sorted(frozenset().union(*(kind.reasons for kind in KINDS)) | {"blink", "eye_movement", "movement"}))


def rows_of(x: F64, info: StreamInfo, notch_hz: int) -> list[Biomarkers]:
    line = LineSettings(notch_hz=60 if notch_hz == 60 else 50)
    return Pipeline(info, line, [("band_power", band_power.Settings())]).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def recorded(data: Path, name: str) -> tuple[F64, StreamInfo]:
    """A shared recording, with a full scale that the rail can be put at."""
    x, info = load(data, name)
    return x, StreamInfo(name, name, info.sample_rate_hz, info.channels, info.kinds, FULL_SCALE_UV)


def false_shares(rows: list[Biomarkers], info: StreamInfo, span_s: tuple[float, float]) -> dict[str, float]:
    """Share of (channel, hop) pairs within the span that carry each reason."""
    inside = [row for row in rows if span_s[0] < row.end_sample / info.sample_rate_hz <= span_s[1]]
    pairs = [reasons for row in inside for reasons in row.quality.reasons]
    return {reason: float(np.mean([reason in reasons for reasons in pairs])) for reason in ALL_REASONS}


def found_of(kind: Kind, x: F64, info: StreamInfo, span_s: tuple[float, float], notch_hz: int, trials: int) -> tuple[int, int]:
    """(found, tried): every trial in a copy of its own, on a channel and at a time of its own."""
    rate = info.sample_rate_hz
    noise = np.random.default_rng(7)
    places = [c for c, label in enumerate(info.channels) if info.kinds[c] == "eeg" and direction(label) is not None]
    near = neighbors(info).sum(1)
    places = [c for c in places if near[c] >= kind.neighbors]
    if len(places) < kind.least_channels:
        return 0, 0
    found = 0
    latest = span_s[1] - kind.lasts_s - 0.5
    for trial in range(trials):
        at_s = span_s[0] + (latest - span_s[0]) * (trial + 0.5) / trials
        a, b = round(at_s * rate), round((at_s + kind.lasts_s) * rate)
        channel = places[(trial * 5 + 2) % len(places)]
        y = x.copy()
        kind.make(y, channel, a, b, rate, noise)
        start = max(0, a - round(15 * rate))
        cut = y[start : b + round(2 * rate)]
        for row in rows_of(cut, info, notch_hz):
            t = (row.end_sample + start) / rate
            named = row.quality.reasons
            judged = all(kind.reasons & set(r) for r in named) if kind.everywhere else bool(kind.reasons & set(named[channel]))
            if at_s < t <= at_s + kind.within_s and judged:
                found += 1
                break
    return found, trials


def table(data: Path, trials: int = 4) -> dict[str, dict[str, tuple[int, int]]]:
    """kind: recording: (found, tried)."""
    result: dict[str, dict[str, tuple[int, int]]] = {}
    for name, (low, high, mains) in RECORDINGS.items():
        x, info = recorded(data, name)
        for kind in KINDS:
            result.setdefault(kind.name, {})[name] = found_of(kind, x, info, (low, high), mains, trials)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="Artifacts put into real recordings: found and false, per recording.")
    parser.add_argument("--data", help="folder of the shared recordings")
    folder = data_folder(parser.parse_args().data)
    if folder is None:
        print("the recordings are not here: name their folder with --data or EEGLOOP_DATA")
        return 1
    found = table(folder)
    names = [name.split("_")[0] for name in RECORDINGS]
    print(f"{'put in: found of tried':32}" + "".join(f"{name:>12}" for name in names))
    for kind, by_name in found.items():
        print(f"{kind:32}" + "".join(f"{f'{hit}/{tried}' if tried else '-':>12}" for hit, tried in by_name.values()))
    print(f"\n{'false: % of channels x hops':32}" + "".join(f"{name:>12}" for name in names))
    shares = []
    for name, (low, high, mains) in RECORDINGS.items():
        x, info = recorded(folder, name)
        shares.append(false_shares(rows_of(x, info, mains), info, (low, high)))
    for reason in ALL_REASONS:
        print(f"{reason:32}" + "".join(f"{100 * share[reason]:>12.2f}" for share in shares))
    missed = sum(tried - hit for by_name in found.values() for hit, tried in by_name.values())
    return 0 if missed == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
