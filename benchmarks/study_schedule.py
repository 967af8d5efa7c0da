"""How the study's schedule was chosen: constant amplitudes on responders of the tuning seeds: `python -m benchmarks.study_schedule`."""

from __future__ import annotations

import argparse
import multiprocessing

import numpy as np

from daemon.study.cells import ARMS, MONTAGE, TUNING_SEED, schedule
from daemon.study.metrics import Job, Result
from daemon.study.sessions import run_job
from simulators.biomarker_plant import Profile, measure
from simulators.patients import find_patient

PROFILE: list[Profile] = []


def _one(job: tuple[int | str, int]) -> Result:
    arm, seed = job
    signed = schedule(arm) if isinstance(arm, int) else ARMS[arm].prescription
    return run_job(Job("biomarker", "responder", str(arm), seed), PROFILE[0], signed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--arms", nargs="*", default=["300", "400", "500", "600", "700", "800", "900", "1000", "1200", "1500"])
    options = parser.parse_args()
    PROFILE.append(measure(find_patient("responder").settings(montage=MONTAGE), seconds=1800))
    with multiprocessing.Pool() as pool:
        for name in options.arms:
            arm: int | str = int(name) if name.isdigit() else name
            results = pool.map(_one, [(arm, TUNING_SEED + i) for i in range(options.seeds)])
            share, charge, error = (np.mean([getattr(r, f) for r in results]) for f in ("in_range", "charge_mc", "error"))
            print(
                f"{name}: in range {share:.1%}, charge {charge:.0f} mC, error {error:.3f}, violations {sum(len(r.violations) for r in results)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
