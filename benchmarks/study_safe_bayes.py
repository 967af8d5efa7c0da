"""Table of the safe-optimization proof: `python -m benchmarks.study_safe_bayes [--seeds 200] [--first 0]`; on all cores.

For 1-4 parameters and three beliefs about smoothness (known, fitted, 1.5 times too smooth), each exactly believed and with the shipped
caution: share of seeds without any evaluation outside the truly safe set, and the median of the gain over the start relative to the
best that is safely reachable (the best truly safe setting that neighbors join to the start).
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from control.gaussian_process import Kernel
from control.safe_search import CAUTION, Domain, Search, Trial, learned, posterior, propose, tried
from eegloop.signal import F64
from simulators.response_surface import FLOOR, NOISE_SD, ResponseSurface, draw, length_of

TRIALS = 40
BELIEFS = (("known", 1.0, False), ("fitted", 1.0, True), ("1.5 x wrong", 1.5, False))
CAUTIONS = (("none", 1.0), ("shipped", CAUTION))


@dataclass(frozen=True, slots=True)
class Result:
    """One seed: evaluations that were not truly safe, share of the reachable gain after all trials, trials until 90 % of it."""

    unsafe: int
    share: float
    trials: int
    trials_to_90: int


@dataclass(frozen=True, slots=True)
class Person:
    """One seed's person and what is true of them at every point of the grid, (n,)."""

    surface: ResponseSurface
    truth: F64


def person_of(dimensions: int, seed: int) -> Person:
    """The person of a seed; the same whatever is believed of them."""
    points = Domain(Search(dimensions, (0.5,) * dimensions, FLOOR, Kernel(1.0, 1.0, NOISE_SD))).points
    surface = draw(dimensions, seed, points)
    return Person(surface, surface.truth(points))


def run_seed(person: Person, factor: float, fit: bool, caution: float, seed: int) -> Result:
    """One person, from the start until done."""
    dimensions, truth = person.surface.dimensions, person.truth
    kernel = Kernel(length_of(dimensions) * factor, 1.0, NOISE_SD)
    search = Search(dimensions, tuple(person.surface.start), FLOOR, kernel, caution=caution, fit=fit, most_n=TRIALS)
    domain = Domain(search)
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


def run_person(dimensions: int, seed: int) -> list[Result]:
    """Every belief and caution on one person, in the table's order."""
    person = person_of(dimensions, seed)
    return [run_seed(person, factor, fit, caution, seed) for _, factor, fit in BELIEFS for _, caution in CAUTIONS]


def _one(job: tuple[int, int]) -> list[Result]:
    return run_person(*job)


def row(dimensions: int, belief: str, caution: str, results: Sequence[Result]) -> str:
    """One line of the table."""
    clean = np.mean([r.unsafe == 0 for r in results])
    share, to_90, trials = (np.median([getattr(r, f) for r in results]) for f in ("share", "trials_to_90", "trials"))
    said = f"> {TRIALS}" if to_90 > TRIALS else f"{to_90:.0f}"
    return f"| {dimensions} | {belief} | {caution} | {clean:.1%} | {share:.1%} | {said} | {trials:.0f} |"


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
            jobs = [(dimensions, options.first + i) for i in range(options.seeds)]
            columns = zip(*pool.map(_one, jobs, chunksize=2), strict=True)
            named = ((belief, caution) for belief, _, _ in BELIEFS for caution, _ in CAUTIONS)
            for (belief, caution), results in zip(named, columns, strict=True):
                print(row(dimensions, belief, caution, results), flush=True)
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
