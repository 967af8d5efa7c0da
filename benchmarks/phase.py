"""How well and how fast the phase of alpha is known now: ours against the published ecHT, on recordings and on the virtual brain.

    python -m benchmarks.phase [--json] [--data DIR]

Truth is the mean of three zero-phase filters (shared recordings) or the phase the virtual brain was made with. Every estimate
uses samples up to its own instant only. One fixed setting; the band is the one the truth is about.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsp.filters import FilterChain, design
from dsp.phase import Method, PhaseTracker, echt_taps
from eegloop.line import LineSettings
from simulators.brain import Brain, BrainSettings
from simulators.head import load_head

F64 = NDArray[np.float64]
Row = dict[str, str | float | bool | None]
BLOCK_S, LEARN_S = 0.1, 0.5
BINS_DEG = ((0.0, 10.0), (10.0, 20.0), (20.0, 30.0))
FILES = {
    "resting_ec_alpha_6ch": ("phase_resting_ec_alpha_6ch", None, 50),
    "attention_blinks_32ch": ("phase_attention_blinks_32ch", None, 60),
    "cyton_eo_ec_blinks_jaw_8ch": ("phase_cyton_eo_ec_8ch", (28, 75), 60),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One channel with truth: raw µV, its phase, and where the truth counts."""

    name: str
    raw_uv: F64
    rate_hz: float
    band_hz: tuple[float, float]
    truth_rad: F64
    valid: NDArray[np.bool_]
    notch_hz: int


def shared_cases(data: Path) -> Iterator[Case]:
    import mne

    facts = json.loads((data / "ground_truth.json").read_text())["recordings"]
    for name, (truth_file, span_s, notch_hz) in FILES.items():
        about = facts[name]
        if (data / f"{name}.vhdr").exists():
            x = mne.io.read_raw_brainvision(data / f"{name}.vhdr", preload=True, verbose="error").get_data() * 1e6
        else:
            x = np.load(data / f"{name}.npz")["data_uv"].astype(float)
        truth = np.load(data / f"{truth_file}.npz")
        for channel in about["phase"]["channels"]:
            valid = truth[f"{channel}__valid"].copy()
            if span_s is not None:
                t = np.arange(len(valid)) / about["sfreq"]
                valid &= (t >= span_s[0]) & (t < span_s[1])
            phase = truth[f"{channel}__phase_mean"].astype(float)
            low, high = about["phase"]["band_hz"]
            raw = x[about["ch_names"].index(channel)]
            yield Case(f"{name} {channel}", raw, about["sfreq"], (float(low), float(high)), phase, valid, notch_hz)


def brain_cases(seconds: float = 120.0, seeds: tuple[int, ...] = (1, 2)) -> Iterator[Case]:
    """The virtual brain with eyes closed; the alpha that reaches O1 where its amplitude is above the median."""
    for seed in seeds:
        brain = Brain(BrainSettings(seed=seed, eyes="closed", individual_alpha_hz=9.0 + seed))
        n = round(seconds * 250)
        raw = np.asarray(brain.advance(n), dtype=np.float64)
        truth = brain.truth()
        o1 = brain.settings.montage.index("O1")
        mixing = load_head().mixing(brain.settings.montage, brain.settings.reference)[:, o1]
        alpha = (truth.alpha_nam * np.exp(1j * truth.alpha_phase_rad)) @ mixing
        strong = np.abs(alpha) > np.median(np.abs(alpha))
        strong[:250] = strong[-250:] = False
        center = 9.0 + seed
        yield Case(
            f"virtual brain, seed {seed} O1",
            raw[:, o1],
            250.0,
            (center - 2, center + 2),
            np.angle(alpha),
            strong,
            50,
        )


def tone_cases(levels_db: tuple[int, ...] = (15, 20), seconds: float = 120.0, seed: int = 1) -> Iterator[Case]:
    """A rhythm of 10 Hz whose phase wanders (1 rad in a second) and whose amplitude waxes and wanes, in pink noise.

    `levels_db`: the rhythm's power over the noise's within 8-12 Hz. The truth is the rhythm's own phase where its amplitude is above
    the median.
    """
    n, rate = round(seconds * 250), 250.0
    rng = np.random.default_rng(seed)
    f = np.fft.rfftfreq(n, 1 / rate)
    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) / np.sqrt(np.maximum(f, 0.5)), n)
    inside = np.abs(np.fft.rfft(pink)[(f >= 8) & (f < 12)])
    noise = 2 * float(np.sum(inside**2)) / n**2
    phase = 2 * np.pi * 10 * np.arange(n) / rate + np.cumsum(rng.standard_normal(n)) / math.sqrt(rate)
    swell = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * np.exp(-((f / 0.3) ** 2)), n)
    amplitude = 1 + 0.4 * swell / swell.std()
    strong = amplitude >= np.median(amplitude)
    strong[: 10 * 250] = strong[-250:] = False
    for level_db in levels_db:
        x = math.sqrt(2 * noise * 10 ** (level_db / 10)) * amplitude * np.cos(phase) + pink
        yield Case(
            f"tone in pink noise, {level_db} dB", 10 * x / x.std(), rate, (8.0, 12.0), np.angle(np.exp(1j * phase)), strong, 50
        )


def track(case: Case, method: Method = "learned", ahead_s: float = 0.0) -> tuple[F64, F64]:
    """Phase and its stated SD (rad) at every sample, through the line's own causal filters, block by block."""
    line = LineSettings(notch_hz=60 if case.notch_hz == 60 else 50)
    sos = design(line, case.rate_hz)
    chain = FilterChain(sos, 1, (round(BLOCK_S * case.rate_hz),))
    tracker = PhaseTracker(case.rate_hz, 1, case.band_hz, sos, method, ahead_s)
    n, block = len(case.raw_uv), round(BLOCK_S * case.rate_hz)
    lead = max(tracker.past_samples, tracker.segment_samples)
    filtered = np.zeros((1, lead + n))
    chain.restart(case.raw_uv[:1])
    phase, sd = np.empty(n), np.empty(n)
    learned = 0
    for start in range(0, n, block):
        stop = min(n, start + block)
        filtered[:, lead + start : lead + stop] = chain.run(case.raw_uv[np.newaxis, start:stop])
        found = tracker.estimate(filtered[:, lead + start - tracker.past_samples + 1 : lead + stop])
        phase[start:stop], sd[start:stop] = found.phase_rad[0], found.sd_rad[0]
        if stop >= tracker.segment_samples and (stop - learned) >= LEARN_S * case.rate_hz - 1:
            tracker.learn(filtered[:, lead + stop - tracker.segment_samples : lead + stop], np.ones(1, bool), LEARN_S)
            learned = stop
    return phase, sd


def published_echt(case: Case) -> F64:
    """The phase of the published ecHT over the last second of raw samples, at every sample."""
    taps = echt_taps(round(case.rate_hz), case.rate_hz, case.band_hz)
    return np.asarray(np.angle(np.convolve(case.raw_uv, taps)[: len(case.raw_uv)]), dtype=np.float64)


def spread_deg(error_rad: F64) -> tuple[float, float]:
    """Circular standard deviation and mean, degrees."""
    mean = np.mean(np.exp(1j * error_rad))
    return float(np.degrees(np.sqrt(-2 * np.log(np.abs(mean))))), float(np.degrees(np.angle(mean)))


@dataclass(frozen=True, slots=True)
class Score:
    """One channel's figures, degrees; `bins` (share of points, stated SD, actual SD) for each of `BINS_DEG`."""

    name: str
    sd_deg: float
    bias_deg: float
    echt_sd_deg: float
    echt_bias_deg: float
    bins: tuple[tuple[float, float, float], ...]

    @property
    def ratio(self) -> float:
        return self.sd_deg / self.echt_sd_deg


def score(case: Case, method: Method = "learned") -> Score:
    phase, sd = track(case, method)
    error, stated = (phase - case.truth_rad)[case.valid], np.degrees(sd[case.valid])
    ours = spread_deg(error)
    theirs = spread_deg((published_echt(case) - case.truth_rad)[case.valid])
    bins = []
    for low, high in BINS_DEG:
        inside = (stated > low) & (stated <= high)
        enough = int(inside.sum()) >= 50
        bins.append(
            (
                float(inside.mean()),
                float(stated[inside].mean()) if enough else float("nan"),
                spread_deg(error[inside])[0] if enough else float("nan"),
            )
        )
    return Score(case.name, *ours, *theirs, tuple(bins))


def seconds_per_sample(n_channels: int, rate_hz: float = 250.0, seconds: float = 60.0, chunk_s: float = 0.02) -> float:
    """Learning, refits and a phase for every sample of every channel, in chunks of 20 ms: processor seconds per sample and channel."""
    x = np.random.default_rng(3).standard_normal((n_channels, round(seconds * rate_hz) + 1000)) * 10
    tracker = PhaseTracker(rate_hz, n_channels, (8.0, 12.0), design(LineSettings(), rate_hz))
    chunk, every = round(chunk_s * rate_hz), round(LEARN_S / chunk_s)
    lead, usable = max(tracker.past_samples, tracker.segment_samples), np.ones(n_channels, dtype=np.bool_)
    tracker.estimate(x[:, : tracker.past_samples + chunk])
    done, start = 0, time.process_time()
    for number, stop in enumerate(range(lead + chunk, x.shape[1], chunk)):
        tracker.estimate(x[:, stop - chunk - tracker.past_samples + 1 : stop])
        done += chunk
        if number % every == 0:
            tracker.learn(x[:, stop - tracker.segment_samples : stop], usable, LEARN_S)
    return (time.process_time() - start) / (done * n_channels)


def speed_rows(turns: int = 5) -> list[Row]:
    rows: list[Row] = []
    for n_channels, goal_us in ((1, 10.0), (8, 1.0), (32, 1.0)):
        cost = statistics.median(seconds_per_sample(n_channels) for _ in range(turns)) * 1e6
        rows.append(
            {
                "name": f"phase now, {n_channels} ch 250 Hz, learning included, µs of processor time per sample and channel",
                "ours": round(cost, 3),
                "reference": goal_us,
                "ratio": round(cost / goal_us, 3),
                "goal": 1.0,
                "ok": cost <= goal_us,
            }
        )
    return rows


def data_folder(named: str | None) -> Path | None:
    """The shared recordings: as named, by EEGLOOP_DATA, or beside the repository."""
    for folder in (named, os.environ.get("EEGLOOP_DATA"), str(Path(__file__).resolve().parents[2] / "shared" / "data")):
        if folder and (Path(folder) / "ground_truth.json").exists():
            return Path(folder)
    return None


def accuracy_rows(scores: list[Score]) -> list[Row]:
    return [
        {
            "name": f"phase SD°, {s.name} (bias {s.bias_deg:+.1f}°, ecHT's {s.echt_bias_deg:+.1f}°)",
            "ours": round(s.sd_deg, 1),
            "reference": round(s.echt_sd_deg, 1),
            "ratio": round(s.ratio, 3),
            "goal": 0.7,
            "ok": s.ratio <= 0.7 and abs(s.bias_deg) <= 5,
        }
        for s in scores
    ]


def rows(data: Path | None = None) -> list[Row]:
    """Every row of this table; the recordings' are left out where they are not."""
    folder = data_folder(str(data) if data else None)
    return speed_rows() + accuracy_rows([score(case) for case in shared_cases(folder)] if folder else [])


def main() -> int:
    parser = argparse.ArgumentParser(description="Phase now: accuracy against the published ecHT, and speed.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", help="folder of the shared recordings")
    arguments = parser.parse_args()
    folder = data_folder(arguments.data)
    cases = [*(shared_cases(folder) if folder else []), *brain_cases(), *tone_cases()]
    scores: dict[Method, list[Score]] = {m: [score(c, m) for c in cases] for m in ("learned", "echt", "sine_fit")}
    speed = speed_rows()
    if arguments.json:
        print(json.dumps(speed + accuracy_rows(scores["learned"]), ensure_ascii=False))
        return 0
    print(f"{'':44}{'ecHT':>12}{'learned':>16}{'calibrated':>14}{'sine fit':>14}   stated -> actual SD (share) of the learned")
    for i, case in enumerate(cases):
        s = scores["learned"][i]
        others = "".join(f"{scores[m][i].sd_deg:8.1f}{scores[m][i].bias_deg:+6.1f}" for m in ("echt", "sine_fit"))
        bins = "  ".join(f"{a:.0f}->{b:.0f} ({share:.2f})" for share, a, b in s.bins if a == a)
        print(
            f"{case.name:40}{s.echt_sd_deg:8.1f}{s.echt_bias_deg:+6.1f}{s.sd_deg:8.1f}{s.bias_deg:+6.1f} x{s.ratio:.2f}{others}   {bins}"
        )
    for row in speed:
        print(f"{row['name']:70}{row['ours']:>8} (<= {row['reference']}) {'ok' if row['ok'] else 'MISSED'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
