"""The same work in public packages, each in an environment of its own, as ratios to ours.

    make bench-peers            installs them into .venv-peers/ and runs this
    python -m benchmarks.peers [--json] [--envs DIR] [--data DIR]

Band powers of the table's stream at its three sizes (a peer whose mean alpha is not within 10 % of the reference's does different
work: it is listed, and no ratio is claimed), and the phase at the same samples of the shared recordings. Ours and the peers take
turns; medians are given. What is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import phase as phase_bench
from benchmarks import run
from benchmarks.reference import CHUNK_S, HOP_S, Reference, stream

ENVS = Path(__file__).resolve().parent.parent / ".venv-peers"
WORKER = Path(__file__).with_name("peer_worker.py")
# adapter: (environment, package as its authors call it)
BAND_PEERS = {
    "ezmsg": ("main", "ezmsg-sigproc"),
    "pynm": ("main", "py_neuromodulation"),
    "timeflux": ("timeflux", "timeflux_dsp"),
}
PHASE_PEERS = {"echt": ("main", "meegkit ECHT, 1 s"), "phastimate": ("main", "EEGPhasePy PHASTIMATE")}
GOAL = 1 / 3
SAME_WORK = 0.10
_POINTS = {"phastimate": 400}  # phase estimates a channel where one takes milliseconds, evenly spread; else every valid sample
Row = dict[str, str | float | bool | None]


def _ask(envs: Path, env: str, *arguments: str) -> dict[str, float | None] | str:
    """A peer's answer, or in words why there is none."""
    python = envs / env / "bin" / "python"
    if not python.exists():
        return f"not installed ({env}): make bench-peers"
    quiet = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run([str(python), str(WORKER), *arguments], capture_output=True, text=True, timeout=900, env=quiet)
    if done.returncode:
        return "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:120]
    answer: dict[str, float | None] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def reference_alpha(n_channels: int, rate_hz: int, x: np.ndarray) -> float:
    """Mean alpha of the reference over the hops a peer's is taken over."""
    reference, k, skip = Reference(n_channels, rate_hz), int(CHUNK_S * rate_hz), int(2 / CHUNK_S)
    found = [(i, reference.step(x[i * k : (i + 1) * k])) for i in range(len(x) // k)]
    return float(np.mean([powers[2].mean() for i, powers in found if powers is not None and i >= 2 * skip]))


def _ours_us(n_channels: int, rate_hz: int, x: np.ndarray) -> float:
    chunks, skip = run.chunks_of(x, rate_hz), round(2 / CHUNK_S)
    pipeline = run.line(n_channels, rate_hz)
    for chunk in chunks[:skip]:
        pipeline.push(chunk)
    started_s = time.perf_counter()
    for chunk in chunks[skip:]:
        pipeline.push(chunk)
    return (time.perf_counter() - started_s) / ((len(chunks) - skip) * CHUNK_S / HOP_S) * 1e6


def band_rows(envs: Path, seconds: float = 15.0, turns: int = 3) -> list[Row]:
    """Ours over each peer, µs a hop."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="eegloop-peers-") as folder:
        for n_channels, rate_hz in run.SIZES:
            x = stream(n_channels, rate_hz, seconds)
            file = str(Path(folder) / f"{n_channels}.npz")
            np.savez(file, x=x, rate_hz=rate_hz)
            wanted = reference_alpha(n_channels, rate_hz, x)
            for adapter, (env, package) in BAND_PEERS.items():
                rows.append(_band_row(envs, env, adapter, package, file, x, (n_channels, rate_hz), wanted, turns))
    return rows


def _band_row(
    envs: Path, env: str, adapter: str, package: str, file: str, x: np.ndarray, size: tuple[int, int], wanted: float, turns: int
) -> Row:
    ours, theirs, alpha = [], [], float("nan")
    name = f"band powers, {size[0]} ch {size[1]} Hz, µs per hop, against {package}"
    for _ in range(turns):
        ours.append(_ours_us(*size, x))
        answer = _ask(envs, env, "bands", adapter, file)
        if isinstance(answer, str):
            return {
                "name": f"{name}: {answer}",
                "ours": round(ours[0], 1),
                "reference": None,
                "ratio": None,
                "goal": None,
                "ok": True,
            }
        theirs.append(float(answer["us_per_hop"] or 0.0))
        alpha = float(answer["alpha"] if answer["alpha"] is not None else "nan")
    mine, other = statistics.median(ours), statistics.median(theirs)
    same = abs(alpha / wanted - 1) <= SAME_WORK
    told = f"alpha {alpha / wanted - 1:+.1%} of the reference's" if np.isfinite(alpha) else "no alpha"
    return {
        "name": f"{name} ({told}{'' if same else ': different work'})",
        "ours": round(mine, 1), "reference": round(other, 1), "ratio": round(mine / other, 4),
        "goal": round(GOAL, 3) if same else None, "ok": mine / other <= GOAL if same else True,
    }  # fmt: skip


def phase_rows(envs: Path, data: Path | None) -> list[Row]:
    """Circular SD at the same samples: ours over each peer's."""
    cases = [*(phase_bench.shared_cases(data) if data else []), *phase_bench.brain_cases(seconds=60, seeds=(1,))]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="eegloop-peers-") as folder:
        for number, case in enumerate(cases):
            valid = np.flatnonzero(case.valid)
            ours, _ = phase_bench.track(case)
            for method, (env, package) in PHASE_PEERS.items():
                at = valid[:: max(1, len(valid) // _POINTS[method])] if method in _POINTS else valid
                file = str(Path(folder) / f"{number}-{method}.npz")
                np.savez(file, x=case.raw_uv, rate_hz=case.rate_hz, band_hz=case.band_hz, at=at)
                answer = _ask(envs, env, "phase", method, file)
                name = f"phase SD°, {case.name}, against {package}"
                if isinstance(answer, str):
                    rows.append(
                        {"name": f"{name}: {answer}", "ours": None, "reference": None, "ratio": None, "goal": None, "ok": True}
                    )
                    continue
                theirs = np.load(file + ".out.npy")
                there = np.isfinite(theirs)
                mine, own_bias = phase_bench.spread_deg((ours[at] - case.truth_rad[at])[there])
                other, bias = phase_bench.spread_deg((theirs - case.truth_rad[at])[there])
                rows.append(
                    {
                        "name": f"{name} ({int(there.sum())} points; bias {own_bias:+.1f}°, its {bias:+.1f}°; "
                        f"{answer['us_per_estimate']:.0f} µs each)",
                        "ours": round(mine, 1), "reference": round(other, 1), "ratio": round(mine / other, 3),
                        "goal": 0.7 if method == "echt" else None,
                        "ok": method != "echt" or (mine / other <= 0.7 and abs(own_bias) <= 5),
                    }
                )  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="The same work in public packages.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--envs", default=str(ENVS), help="folder of the peers' environments")
    parser.add_argument("--data", help="folder of the shared recordings")
    arguments = parser.parse_args()
    envs = Path(arguments.envs)
    table = [*band_rows(envs), *phase_rows(envs, phase_bench.data_folder(arguments.data))]
    if arguments.json:
        print(json.dumps(table, ensure_ascii=False))
    else:
        for row in table:
            cells = " ".join(
                ("-" if row[key] is None else str(row[key])).rjust(9) for key in ("ours", "reference", "ratio", "goal")
            )
            print(f"{row['name']:120} {cells} {'ok' if row['ok'] else 'MISSED'}")
    return 0 if all(row["ok"] for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
