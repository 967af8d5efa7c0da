"""Runs sessions of the study in whatever copy of the sources stands first on the path: python study_sessions.py PROFILES OUT JOB..."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from daemon.study import sessions
from daemon.study.cells import ARMS, lasting
from daemon.study.metrics import Job
from simulators.biomarker_plant import Profile


def main(profiles: Path, out: Path, jobs: list[str]) -> None:
    """Each job ("biomarker responder sham 7 90") as it comes out: every field of its result, and the device's own record."""
    told = []
    for text in jobs:
        level, person, arm, seed, session_s = text.split()
        job, profile = Job(level, person, arm, int(seed), int(session_s)), Profile.load(profiles / f"{person}.npz")
        result = sessions.run_job(job, profile)
        fields = {f.name: repr(getattr(result, f.name)) for f in dataclasses.fields(result)}
        run = sessions.biomarker_level if level == "biomarker" else sessions.sample_level
        output, collected, _ = run(job, profile, lasting(ARMS[arm].prescription, job.session_s))
        told.append(
            {**fields, "record": output.record, "refusals": output.refusals, "true": collected.true, "looks": collected.looks}
        )
    out.write_text(json.dumps({"file": sessions.__file__, "sessions": told}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
