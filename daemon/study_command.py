"""`eegloop study`: controllers against virtual persons in virtual time, on all cores, with a table and figures."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from daemon.study.cells import MONTAGE, TUNING_SEED, Scenario, find_scenario
from daemon.study.metrics import Job, Result
from daemon.study.report import findings, write
from daemon.study.sessions import run_job
from eegloop.errors import SetupError
from simulators.biomarker_plant import Profile, measure
from simulators.patients import find_patient

T = TypeVar("T")
MEASURED_S = 1_800.0
PROFILES: dict[str, Profile] = {}


def jobs_of(scenario: Scenario, seeds: int, sample_seeds: int, first: int) -> list[Job]:
    """Every session of a study; the long ones first, so that all cores end together."""
    spans = range(first, first + seeds), range(first, first + sample_seeds)
    sample = [Job("sample", person, arm, seed, scenario.session_s) for person, arm in scenario.sample_cells for seed in spans[1]]
    return sample + [
        Job("biomarker", person, arm, seed, scenario.session_s)
        for person in scenario.persons
        for arm in scenario.arms
        for seed in spans[0]
    ]


def measured(person: str) -> tuple[str, Profile]:
    """What the sample-level brain of this kind of person shows, measured for half an hour of its own time."""
    return person, measure(find_patient(person).settings(montage=MONTAGE), seconds=MEASURED_S)


def run_one(job: Job) -> Result:
    """One session; the profiles were measured before the processes were forked."""
    return run_job(job, PROFILES[job.person])


def study(
    name: str, out: Path, seeds: int | None, first: int, processes: int | None, progress: bool, sample: bool = True
) -> tuple[str, int]:
    """Run a scenario; what was found in words, and the exit code (1 if the oracle found a violation).

    Raises
    ------
    SetupError
        For an unknown scenario, or seeds that were used for tuning.
    """
    scenario = find_scenario(name)
    n_seeds = scenario.seeds if seeds is None else seeds
    if not 0 <= first <= first + n_seeds <= TUNING_SEED:
        raise SetupError(f"--seeds, --first: seeds must lie in 0-{TUNING_SEED - 1}; those above were used for tuning")
    jobs = jobs_of(scenario, n_seeds, min(scenario.sample_seeds, n_seeds) if sample else 0, first)
    context = multiprocessing.get_context("fork")
    begun = time.monotonic()
    with context.Pool(processes) as pool:
        PROFILES.update(_shown(pool.imap(measured, scenario.persons), len(scenario.persons), "measuring persons", progress))
    with context.Pool(processes) as pool:
        results = list(_shown(pool.imap(run_one, jobs, chunksize=1), len(jobs), "sessions", progress))
    heading = f"Study {scenario.name}: {scenario.about}; seeds {first}-{first + n_seeds - 1}"
    page = write(results, out, heading)
    seconds = sum(r.seconds for r in results)
    words = (
        f"{heading}\n\n{findings(results)}\n{seconds / 3600:.0f} h of virtual time in {time.monotonic() - begun:.0f} s. {page}"
    )
    return words, int(any(r.violations for r in results))


def _shown(items: Iterator[T], n: int, what: str, progress: bool) -> Iterator[T]:
    """The same items, with a bar."""
    columns = (TextColumn(f"{what:18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(what, total=n)
        for item in items:
            bar.advance(task)
            yield item
