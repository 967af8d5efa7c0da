"""The speed table: each row ours, the reference's, their ratio, the goal and whether it is met.

    python -m benchmarks.run [--json]

Every pair is timed in one process, run by run in turns, and the median ratio of the turns is given: the
machine's other work falls on both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from benchmarks import phase
from benchmarks.reference import BANDS, CHUNK_S, F64, HOP_S, Reference, stream
from dsp.biomarkers import band_power
from dsp.electrodes import POSITIONS
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Chunk, Grade, StreamInfo

SIZES = ((8, 250), (32, 500), (64, 1000))
BAND_POWER_GOAL = 0.87
TURNS = 9
# Real places, the frontmost first, so that eyes and neighbors are looked at as on a head.
LABELS = tuple(POSITIONS)
LINE = LineSettings(high_pass_hz=1.0, low_pass_hz=45.0, notch_hz=50, hop_s=HOP_S, window_s=1.0, detrend="none")

Row = dict[str, str | float | bool | None]


def _info(n_channels: int, rate_hz: float) -> StreamInfo:
    return StreamInfo("bench", "bench", rate_hz, LABELS[:n_channels], ("eeg",) * n_channels, full_scale_uv=187_500.0)


def chunks_of(x: np.ndarray, rate_hz: float) -> list[Chunk]:
    k = int(CHUNK_S * rate_hz)
    data = x.astype(np.float32)
    return [Chunk(data[i : i + k], i, i / rate_hz, i / rate_hz) for i in range(0, len(x) - k + 1, k)]


def recording(n_channels: int, rate_hz: int, seconds: float) -> F64:
    """What the table's rows run on: `smeared` at the first of `LABELS`."""
    return smeared(LABELS[:n_channels], rate_hz, seconds)


def smeared(labels: tuple[str, ...], rate_hz: int, seconds: float) -> F64:
    """`stream` as a head would smear it: near electrodes share most of their signal, each keeps its power."""
    places = np.array([POSITIONS[label] for label in labels])
    chord = np.linalg.norm(places[:, np.newaxis] - places, axis=2)
    mixing = np.exp(-(chord**2) / 0.5)
    x = stream(len(labels), rate_hz, seconds)
    mains = 5 * np.sin(2 * np.pi * 50 * np.arange(len(x)) / rate_hz)[:, np.newaxis]
    x = (x - mains) @ (mixing / np.linalg.norm(mixing, axis=0)) + mains
    return np.asarray(x, dtype=np.float32).astype(np.float64)


def line(n_channels: int, rate_hz: float) -> Pipeline:
    """The line as the table's rows run it: five band powers, quality and gap bookkeeping on."""
    return Pipeline(_info(n_channels, rate_hz), LINE, [("band_power", band_power.Settings())])


def equal_powers(n_channels: int, rate_hz: int, seconds: float = 20.0) -> float:
    """Largest relative difference between our powers and the reference's, over all valid hops; raises if there are none."""
    x = recording(n_channels, rate_hz, seconds)
    pipeline, reference, k = line(n_channels, rate_hz), Reference(n_channels, rate_hz), int(CHUNK_S * rate_hz)
    worst, compared = 0.0, 0
    for chunk in chunks_of(x, rate_hz):
        expected = reference.step(x[chunk.first_sample : chunk.first_sample + k])
        for row in pipeline.push(chunk):
            if (row.grades != Grade.INVALID).all():  # an artifact makes a value suspect, not another one
                assert expected is not None
                worst = max(worst, float(np.max(np.abs(row.values.reshape(len(BANDS), -1) / expected - 1))))
                compared += 1
    if compared < (seconds - 6) / HOP_S:
        raise RuntimeError(f"only {compared} hops were comparable")
    return worst


def _turns(ours: Callable[[], float], reference: Callable[[], float], turns: int) -> tuple[float, float, float]:
    """Medians of both, and the median of the turns' ratios."""
    pairs = []
    for turn in range(turns):
        first, second = (ours, reference) if turn % 2 else (reference, ours)
        a, b = first(), second()
        pairs.append((a, b) if turn % 2 else (b, a))
    return (
        statistics.median(o for o, _ in pairs),
        statistics.median(r for _, r in pairs),
        statistics.median(o / r for o, r in pairs),
    )


def band_power_row(n_channels: int, rate_hz: int, seconds: float = 20.0, turns: int = TURNS) -> Row:
    """µs a hop, all its chunks included; the first two seconds are not counted."""
    x = recording(n_channels, rate_hz, seconds)
    chunks, k = chunks_of(x, rate_hz), int(CHUNK_S * rate_hz)
    skip = round(2 / CHUNK_S)
    hops = (len(chunks) - skip) * CHUNK_S / HOP_S
    arrays = [x[c.first_sample : c.first_sample + k] for c in chunks]

    def ours() -> float:
        pipeline = line(n_channels, rate_hz)
        for chunk in chunks[:skip]:
            pipeline.push(chunk)
        start = time.perf_counter()
        for chunk in chunks[skip:]:
            pipeline.push(chunk)
        return (time.perf_counter() - start) / hops * 1e6

    def reference() -> float:
        other = Reference(n_channels, rate_hz)
        for array in arrays[:skip]:
            other.step(array)
        start = time.perf_counter()
        for array in arrays[skip:]:
            other.step(array)
        return (time.perf_counter() - start) / hops * 1e6

    mine, theirs, ratio = _turns(ours, reference, turns)
    difference = equal_powers(n_channels, rate_hz)
    return {
        "name": f"band powers, {n_channels} ch {rate_hz} Hz, µs per hop (powers equal within {difference:.0e})",
        "ours": round(mine, 1),
        "reference": round(theirs, 1),
        "ratio": round(ratio, 3),
        "goal": BAND_POWER_GOAL,
        "ok": ratio <= BAND_POWER_GOAL and difference <= 1e-6,
    }


def memory_row(minutes: float = 10.0) -> Row:
    """KiB held by the line after a minute and after ten of 32 ch 500 Hz."""
    n_channels, rate_hz = 32, 500
    chunks = chunks_of(recording(n_channels, rate_hz, 10.0), rate_hz)
    n = chunks[-1].end_sample
    tracemalloc.start()
    try:
        pipeline = line(n_channels, rate_hz)
        held = []
        for lap in range(round(minutes * 6)):
            for c in chunks:
                pipeline.push(Chunk(c.data_uv, c.first_sample + lap * n, c.t0_s + lap * 10.0, c.arrival_s + lap * 10.0))
            if lap in (5, round(minutes * 6) - 1):
                held.append(tracemalloc.get_traced_memory()[0] / 1024)
    finally:
        tracemalloc.stop()
    return {
        "name": f"memory after {minutes:g} min and after 1 min, 32 ch 500 Hz, KiB",
        "ours": round(held[1], 1),
        "reference": round(held[0], 1),
        "ratio": round(held[1] / held[0], 4),
        "goal": 1.01,
        "ok": held[1] / held[0] <= 1.01,
    }


def rows() -> list[Row]:
    """Every row of this table."""
    return [*(band_power_row(c, rate) for c, rate in SIZES), memory_row(), *phase.rows()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of the signal line against careful NumPy/SciPy.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    table = rows()
    if arguments.json:
        print(json.dumps(table, ensure_ascii=False))
    else:
        print(f"{'':80} {'ours':>10} {'reference':>10} {'ratio':>7} {'goal':>6}")
        for row in table:
            verdict = "ok" if row["ok"] else "MISSED"
            print(f"{row['name']:80} {row['ours']:>10} {row['reference']:>10} {row['ratio']:>7} {row['goal']:>6} {verdict}")
    return 0 if all(row["ok"] for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
