"""The sample clock's table: rate, sample times, losses and restarts against senders whose every sample time is known.

    python -m benchmarks.clock [DATA]

DATA (or $EEGLOOP_DATA) is the folder of real recordings; without it their rows are left out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from drivers.sources.clock import Counter, SampleClock
from eegloop.signal import Chunk

Row = dict[str, str | float | bool | None]
Delay = Callable[[float], float]
START_S, RATE_HZ, CHUNK = 1000.0, 250.1, 5
RATE_GOAL_PPM, TIME_GOAL_MS = 50.0, 1.0


class Sender:
    """A virtual headset: `rate_hz` true samples a second, some missing, each delivery late by `delay(t)`."""

    def __init__(self, seconds: float, delay: Delay, missing: Sequence[tuple[int, int]] = (), rate_hz: float = RATE_HZ) -> None:
        keep = np.ones(int(seconds * rate_hz), bool)
        for at, n in missing:
            keep[at : at + n] = False
        self.index = np.flatnonzero(keep)
        self.true_s = START_S + np.arange(len(keep)) / rate_hz
        self.rate_hz, self.delay, self.burst_s = rate_hz, delay, 0.0

    def at_once(self, burst_s: float) -> Sender:
        """Every sample stamped when its burst is handed over, as a serial dongle's are."""
        self.burst_s = burst_s
        return self

    def through(self, clock: SampleClock) -> tuple[list[Chunk], list[float]]:
        """Everything fed; the chunks, and the uncertainty stated with each."""
        chunks: list[Chunk] = []
        stated: list[float] = []
        free = 0.0
        for part in self._parts():
            times = self.true_s[part]
            if self.burst_s:
                arrival = START_S + float(np.ceil((times[-1] - START_S) / self.burst_s)) * self.burst_s
                times = np.full(len(part), times[-1])
            else:
                free = arrival = max(float(times[-1]) + self.delay(float(times[-1]) - START_S), free)
            counts = (part % clock.counter.modulus).astype(np.int64) if clock.counter else None
            out = clock.feed(part[:, None].astype(np.float32), arrival - (times[-1] - times), arrival, counts)
            chunks += out
            stated += [clock.uncertainty_s] * len(out)
        return chunks, stated

    def _parts(self) -> list[np.ndarray]:
        """Indices of each delivery; bursts are fed in pieces, as the sources do."""
        edges = range(CHUNK, len(self.index), CHUNK)
        if not self.burst_s:
            return np.split(self.index, edges)
        number = np.ceil((self.true_s[self.index] - START_S) / self.burst_s)
        bursts = np.split(self.index, np.flatnonzero(np.diff(number)) + 1)
        return [burst[i : i + CHUNK] for burst in bursts for i in range(0, len(burst), CHUNK)]

    def errors_s(self, chunks: list[Chunk]) -> np.ndarray:
        """Of each chunk's time, by the true index that its first sample carries."""
        return np.array([c.t0_s - self.true_s[int(c.data_uv[0, 0])] for c in chunks])

    def after(self, chunks: list[Chunk], seconds: float) -> np.ndarray:
        return np.array([self.true_s[int(c.data_uv[0, 0])] - START_S > seconds for c in chunks])


def _row(name: str, ours: float, goal: float, unit: str) -> Row:
    return {
        "name": f"clock: {name}, {unit}",
        "ours": round(ours, 2),
        "reference": None,
        "ratio": None,
        "goal": goal,
        "ok": ours <= goal,
    }


def _stalled(delay: Delay, *spans: tuple[float, float]) -> Delay:
    return lambda t: max([delay(t), *(b - t for a, b in spans if a <= t < b)])


def _links() -> list[tuple[str, Delay]]:
    rng = np.random.default_rng(7)
    return [
        ("even link", lambda t: 0.0),
        ("delays exponential 10 ms, stalls", _stalled(lambda t: float(rng.exponential(0.010)), (30, 32), (65, 65.5))),
        ("delays uniform 35 ms, stalls", _stalled(lambda t: float(rng.uniform(0, 0.035)), (30, 32), (65, 65.5))),
    ]  # fmt: skip


def synthetic() -> list[Row]:
    """Rate after a minute and times from then on, with and without losses; what is lost; wander; restarts."""
    out: list[Row] = []
    missing = ((2000, 1), (5000, 3), (10_000, 200), (15_001, 700))
    for lossy in (False, True):
        for name, delay in _links():
            counter = Counter(256) if lossy else None
            clock, sender = SampleClock(250.0, counter), Sender(80.0, delay, missing if lossy else ())
            chunks, _ = sender.through(clock)
            label = f"{name}{', 904 samples lost' if lossy else ''}"
            errors = sender.errors_s(chunks)[sender.after(chunks, 63.0 if lossy else 60.0)]
            out.append(_row(f"rate, {label}", abs(clock.state.rate_hz / RATE_HZ - 1) * 1e6, RATE_GOAL_PPM, "ppm off after 60 s"))
            out.append(_row(f"sample times, {label}", float(np.abs(errors).max()) * 1000, TIME_GOAL_MS, "ms off at most"))
            if lossy:
                out.append(_row(f"losses, {label}", abs(clock.lost_samples - 904), 0, "samples miscounted"))
    for burst_s in (0.04, 0.1):
        clock, sender = SampleClock(250.0, Counter(256)), Sender(80.0, lambda t: 0.0, missing, 251.7).at_once(burst_s)
        chunks, _ = sender.through(clock)
        label = f"bursts of {burst_s * 1000:.0f} ms, one stamp each, 904 samples lost"
        errors = sender.errors_s(chunks)[sender.after(chunks, 63.0)]
        out.append(_row(f"rate, {label}", abs(clock.state.rate_hz / 251.7 - 1) * 1e6, RATE_GOAL_PPM, "ppm off after 60 s"))
        out.append(_row(f"sample times, {label}", float(np.abs(errors).max()) * 1000, TIME_GOAL_MS, "ms off at most"))
        out.append(_row(f"losses, {label}", abs(clock.lost_samples - 904), 0, "samples miscounted"))
    clock, sender = SampleClock(250.0), Sender(80.0, lambda t: 0.0, ((9000, 3), (12_000, 50), (15_001, 1), (17_000, 700)))
    sender.through(clock)
    out.append(_row("losses without a counter, even link", abs(clock.lost_samples - 754), 0, "samples miscounted"))
    rng = np.random.default_rng(4)
    clock = SampleClock(250.0)
    sender = Sender(400.0, lambda t: float(rng.exponential(0.003)) + 0.004 * (1 + np.sin(2 * np.pi * t / 120.0)))
    chunks, stated = sender.through(clock)
    late = sender.after(chunks, 150.0)
    outside = np.abs(sender.errors_s(chunks)[late]) > np.array(stated)[late]
    out.append(
        _row("a link that wanders by 8 ms in 2 min", float(outside.mean()) * 100, 0, "% of times outside the stated uncertainty")
    )
    found = 0
    for jump in (-3600.0, 3600.0, -0.7):
        clock = SampleClock(250.0)
        for i in range(3000):
            t = START_S + i * 0.02
            clock.feed(np.zeros((5, 1), np.float32), t + (jump if i >= 1500 else 0.0) + np.arange(5) / 250, t + 0.02)
        found += clock.segment == 1
    out.append(_row("clocks that jump or restart (3)", 3 - found, 0, "not found"))
    return out


def recorded(data: Path) -> list[Row]:
    """Real stamps: a Cyton's against the line through the whole file, a Muse's against pyxdf."""
    import pyxdf

    out: list[Row] = []
    with np.load(data / "cyton_eo_ec_blinks_jaw_8ch.npz") as z:
        stamps, counts = z["timestamps_s"].astype(float), z["sample_index"].astype(np.int64)
    whole = 1.0 / np.polyfit(np.arange(len(stamps)), stamps - stamps[0], 1)[0]
    clock = SampleClock(250.0, Counter(256))
    for i in range(0, len(stamps), CHUNK):
        part = slice(i, i + CHUNK)
        clock.feed(np.zeros((len(stamps[part]), 1), np.float32), stamps[part], float(stamps[part][-1]), counts[part])
    out.append(_row(f"Cyton file, {whole:.3f} Hz", abs(clock.state.rate_hz / whole - 1) * 1e6, RATE_GOAL_PPM, "ppm off"))
    for name, goal_ms in (("17s", 1.0), ("9s", 5.0)):
        path = data / "extras" / f"muse_lsl_4streams_{name}.xdf"
        raw, smooth = (
            next(s for s in pyxdf.load_xdf(path, dejitter_timestamps=d)[0] if s["info"]["type"] == ["EEG"])["time_stamps"]
            for d in (False, True)
        )
        clock = SampleClock(256.0)
        chunks = []
        for i in range(0, len(raw), 12):
            part = raw[i : i + 12]
            chunks += clock.feed(np.zeros((len(part), 1), np.float32), part, float(part[0]))
        off = max(abs(c.t0_s - smooth[c.first_sample]) for c in chunks if c.first_sample > len(raw) // 2)
        out.append(_row(f"Muse file of {name[:-1]} s, second half, against pyxdf", off * 1000, goal_ms, "ms off at most"))
    return out


def rows(data: Path | None = None) -> list[Row]:
    """Every row of this table."""
    named = data or (Path(os.environ["EEGLOOP_DATA"]) if "EEGLOOP_DATA" in os.environ else None)
    return synthetic() + (recorded(named) if named is not None and named.is_dir() else [])


def main() -> int:
    table = rows(Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != "--json" else None)
    if "--json" in sys.argv:
        print(json.dumps(table, ensure_ascii=False))
    else:
        for row in table:
            print(f"{row['name']:100} {row['ours']:>9} {row['goal']:>7} {'ok' if row['ok'] else 'MISSED'}")
    return 0 if all(row["ok"] for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
