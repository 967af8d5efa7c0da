"""Table of the safe-optimization proof: `python -m benchmarks.study_safe_bayes [--seeds 200] [--first 0]`; on all cores.

For 1-4 parameters and three beliefs about smoothness (known, fitted, 1.5 times too smooth), each exactly believed and with the shipped
caution: share of seeds without any evaluation outside the truly safe set, and the median of the gain over the start relative to the
best that is safely reachable (the best truly safe setting that neighbors join to the start).
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass

import numpy as np

from control.gaussian_process import Kernel
from control.safe_search import CAUTION, Domain, Search, Trial, learned, posterior, propose, tried
from simulators.response_surface import FLOOR, NOISE_SD, draw, length_of

TRIALS = 40
BELIEFS = (("known", 1.0, False), ("fitted", 1.0, True), ("1.5 x wrong", 1.5, False))


@dataclass(frozen=True, slots=True)
class Result:
    """One seed: evaluations that were not truly safe, share of the reachable gain after all trials, trials until 90 % of it."""

    unsafe: int
    share: float
    trials: int
    trials_to_90: int


def run_seed(dimensions: int, factor: float, fit: bool, caution: float, seed: int) -> Result:
    """One person, from the start until done."""
    kernel = Kernel(length_of(dimensions) * factor, 1.0, NOISE_SD)
    domain = Domain(Search(dimensions, (0.5,) * dimensions, FLOOR, kernel))
    surface = draw(dimensions, seed, domain.points)
    search = Search(dimensions, tuple(surface.start), FLOOR, kernel, caution=caution, fit=fit, most_n=TRIALS)
    domain = Domain(search)
    truth = surface.truth(domain.points)
    reachable = domain.connected(truth >= FLOOR)
    gain = float(truth[reachable].max() - truth[domain.start])
    noise = np.random.default_rng((seed, dimensions, 78))
    trials: list[Trial] = []
    unsafe, to_90 = 0, TRIALS + 1
    believed = posterior(search, domain, trials)
    while True:
        proposal = propose(search, domain, trials, believed)
        if gain > 0.05 and truth[proposal.best] - truth[domain.start] >= 0.9 * gain:
            to_90 = min(to_90, len(trials))
        elif gain <= 0.05:
            to_90 = 0
        if proposal.index is None:
            break
        unsafe += int(truth[proposal.index] < FLOOR)
        trial = tried(believed, proposal.index, float(truth[proposal.index] + NOISE_SD * noise.standard_normal()))
        trials.append(trial)
        believed = learned(search, domain, trials, believed)
    share = 1.0 if gain <= 0.05 else float(truth[proposal.best] - truth[domain.start]) / gain
    return Result(unsafe, share, len(trials), to_90)


def _one(job: tuple[int, float, bool, float, int]) -> Result:
    return run_seed(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--dimensions", type=int, nargs="*", default=[1, 2, 3, 4])
    options = parser.parse_args()
    print(f"seeds {options.first}-{options.first + options.seeds - 1}, {TRIALS} trials, floor {FLOOR}, noise SD {NOISE_SD}")
    print(
        "| parameters | length scale | caution | seeds without an unsafe evaluation | median share of reachable gain | median trials to 90 % | median trials |"
    )
    print("|---|---|---|---|---|---|---|")
    begun = time.monotonic()
    with multiprocessing.Pool() as pool:
        for dimensions in options.dimensions:
            for name, factor, fit in BELIEFS:
                for caution in (1.0, CAUTION):
                    jobs = [(dimensions, factor, fit, caution, options.first + i) for i in range(options.seeds)]
                    results = pool.map(_one, jobs, chunksize=5)
                    clean = np.mean([r.unsafe == 0 for r in results])
                    shipped = "shipped" if caution == CAUTION else "none"
                    share, to_90, trials = (
                        np.median([getattr(r, f) for r in results]) for f in ("share", "trials_to_90", "trials")
                    )
                    said = f"> {TRIALS}" if to_90 > TRIALS else f"{to_90:.0f}"
                    print(
                        f"| {dimensions} | {name} | {shipped} | {clean:.1%} | {share:.1%} | {said} | {trials:.0f} |", flush=True
                    )
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
