"""What every biomarker costs: alone beside the band powers, all together, and how cost grows with channels, rate and biomarkers.

    python -m benchmarks.biomarkers [--json]

64 electrodes at 1 kHz, rows every 100 ms. Band powers and quality every hop, phase on eight channels, the rest once a second,
aperiodic and connectivity every five: the defaults. Processor time, threads included, after a warm-up in which every buffer fills.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from benchmarks.reference import CHUNK_S, HOP_S
from benchmarks.run import smeared
from dsp.electrodes import POSITIONS
from dsp.pipeline import Pipeline
from eegloop import plugins
from eegloop.closed import Closed
from eegloop.line import LineSettings
from eegloop.signal import F32, Chunk, Grade, StreamInfo

ALL_GOAL = 0.10
WARM_UP_S, MEASURED_S = 70.0, 20.0  # connectivity asks for 30 epochs of 2 s before it has anything to compute
Row = dict[str, str | float | bool | None]

# A 10-20 cap first, so that any number of channels is a sensible montage.
_FIRST = ("F3", "F4", "O1", "O2", "Fz", "Pz", "C3", "C4", "Fp1", "Fp2", "F7", "F8", "T7", "T8", "P7", "P8", "P3", "P4", "Cz")
LABELS = (*_FIRST, *(label for label in POSITIONS if label not in _FIRST))


def marks(kinds: Sequence[str], labels: tuple[str, ...]) -> list[tuple[str, Closed]]:
    """Each kind with its defaults; the phase on up to eight channels."""
    found: list[tuple[str, Closed]] = []
    for kind in kinds:
        settings = plugins.find("biomarker", kind).Settings
        found.append((kind, settings(channels=labels[:8]) if kind == "phase" else settings()))
    return found


def share_of_a_core(
    kinds: Sequence[str], n_channels: int, rate_hz: int, warm_up_s: float = WARM_UP_S, measured_s: float = MEASURED_S
) -> tuple[float, float]:
    """Processor seconds per second of signal, and the share of the last row's values that are good."""
    labels = LABELS[:n_channels]
    info = StreamInfo("bench", "bench", float(rate_hz), labels, ("eeg",) * n_channels, full_scale_uv=187_500.0)
    pipeline = Pipeline(info, LineSettings(hop_s=HOP_S), marks(kinds, labels))
    x = _samples(n_channels, rate_hz)
    k = int(CHUNK_S * rate_hz)
    pieces = [x[i : i + k] for i in range(0, len(x) - k + 1, k)]
    warm_up, measured = round(warm_up_s / CHUNK_S), round(measured_s / CHUNK_S)
    row = None
    started_s = 0.0
    for i in range(warm_up + measured):
        if i == warm_up:
            started_s = time.process_time()
        new = pipeline.push(Chunk(pieces[i % len(pieces)], i * k, i * CHUNK_S, i * CHUNK_S))
        row = new[-1] if new else row
    cost = (time.process_time() - started_s) / measured_s
    return cost, float((row.grades == Grade.GOOD).mean()) if row is not None else 0.0


@lru_cache(maxsize=16)
def _samples(n_channels: int, rate_hz: int) -> F32:
    """What a head could make: on channels that have nothing in common quality would call everybody disagreeing, and nothing be good."""
    return smeared(LABELS[:n_channels], rate_hz, 10.0).astype(np.float32)


def all_row(turns: int = 3) -> Row:
    """The row of DESIGN section 8: everything on, the smallest of a few turns (other work on the machine only adds)."""
    found = [share_of_a_core(plugins.kinds("biomarker"), 64, 1000) for _ in range(turns)]
    cost, good = min(f[0] for f in found), found[-1][1]
    return {
        "name": f"every biomarker on, 64 ch 1 kHz, share of one core ({good:.0%} of the values good)",
        "ours": round(cost, 4), "reference": None, "ratio": None, "goal": ALL_GOAL, "ok": cost <= ALL_GOAL and good > 0.8,
    }  # fmt: skip


def cost_rows(n_channels: int = 64, rate_hz: int = 1000) -> list[Row]:
    """µs a hop that each biomarker adds to the band powers' line, which comes first."""
    base = _least(["band_power"], n_channels, rate_hz)
    rows = [_cost("band_power (filters, quality, spectrum and bookkeeping with it)", n_channels, rate_hz, base)]
    for kind in plugins.kinds("biomarker"):
        if kind != "band_power":
            rows.append(_cost(kind, n_channels, rate_hz, _least(["band_power", kind], n_channels, rate_hz) - base))
    return rows


def _least(kinds: Sequence[str], n_channels: int, rate_hz: int, turns: int = 3) -> float:
    """The smallest of a few turns: other work on the machine only adds."""
    return min(share_of_a_core(kinds, n_channels, rate_hz)[0] for _ in range(turns))


def _cost(name: str, n_channels: int, rate_hz: int, share: float) -> Row:
    return {
        "name": f"adds µs per hop, {n_channels} ch {rate_hz} Hz: {name}",
        "ours": round(share * HOP_S * 1e6, 1), "reference": None, "ratio": None, "goal": None, "ok": True,
    }  # fmt: skip


def _growth(which: Sequence[str], n_channels: int, rate_hz: int) -> float:
    return share_of_a_core(which, n_channels, rate_hz, warm_up_s=35.0, measured_s=15.0)[0]


def growth_rows() -> list[Row]:
    """µs a hop as channels, rate and biomarkers grow; a row each, so that a bend in the line is seen."""
    kinds = plugins.kinds("biomarker")
    plans: list[tuple[str, Sequence[str], int, int]] = [
        *((f"{c} ch 500 Hz, band powers", ["band_power"], c, 500) for c in (1, 4, 16, 64)),
        *((f"16 ch {rate} Hz, band powers", ["band_power"], 16, rate) for rate in (125, 250, 1000, 2000)),
        *((f"16 ch 500 Hz, first {n} of {len(kinds)} biomarkers", kinds[:n], 16, 500) for n in (5, 10, 15, len(kinds))),
    ]
    return [
        {
            "name": f"growth, µs per hop: {name}",
            "ours": round(_growth(which, c, rate) * HOP_S * 1e6, 1),
            "reference": None, "ratio": None, "goal": None, "ok": True,
        }
        for name, which, c, rate in plans
    ]  # fmt: skip


def rows() -> list[Row]:
    """Every row of this table."""
    return [all_row(), *cost_rows(), *growth_rows()]


def main() -> int:
    parser = argparse.ArgumentParser(description="What every biomarker costs.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    table = rows()
    if arguments.json:
        print(json.dumps(table, ensure_ascii=False))
    else:
        for row in table:
            print(f"{row['name']:90} {row['ours']:>10}" + (f" (<= {row['goal']})" if row["goal"] else ""))
    return 0 if all(row["ok"] for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
