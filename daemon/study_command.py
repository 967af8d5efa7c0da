"""`eegloop study`: controllers against virtual persons in virtual time, on all cores, with a table and figures."""

from __future__ import annotations

import gc
import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from daemon.study import kept
from daemon.study.cells import MONTAGE, TUNING_SEED, Scenario, find_scenario
from daemon.study.metrics import Job, Result
from daemon.study.report import findings, write
from daemon.study.sessions import run_job
from eegloop.errors import SetupError
from simulators.biomarker_plant import Profile, measure
from simulators.patients import find_patient

T = TypeVar("T")
MEASURED_S = 1_800.0
UNFINISHED = 3
PROFILES: dict[str, Profile] = {}
JOBS: list[Job] = []


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


def measured(person_and_file: tuple[str, Path]) -> None:
    """Measure what the sample-level brain of this kind of person shows in half an hour of its own time; kept in the file."""
    person, file = person_and_file
    measure(find_patient(person).settings(montage=MONTAGE), seconds=MEASURED_S).save(file)


def _profiles(persons: list[str], folder: Path, processes: int | None, progress: bool) -> dict[str, Profile]:
    """Every kind's profile; those that this code measured before lie in `folder`."""
    folder.mkdir(exist_ok=True)
    files = {person: folder / f"{person}-{kept.sources()[:16]}.npz" for person in persons}
    todo = [person for person in persons if not files[person].is_file()]
    if todo:
        with multiprocessing.get_context("fork").Pool(processes, _begin) as pool:
            work = [(person, files[person]) for person in todo]
            for _ in _shown(pool.imap(measured, work), len(todo), "measuring persons", progress):
                pass
    return {person: Profile.load(files[person]) for person in persons}


def _begin() -> None:
    """In each process: what was there before is no garbage, and the pool's end is an end.

    The command's own handler raises; one that does so while its process is about to wait for the pool's lock would leave it waiting.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()


def run_number(number: int) -> str:
    """One session, by its place in `JOBS`; its result as a line. Garbage is looked for between sessions only.

    Jobs and profiles are there since before the processes were forked, and lines come back: compiled classes cannot be sent.
    """
    gc.disable()
    try:
        return kept.to_line(run_job(JOBS[number], PROFILES[JOBS[number].person]))
    finally:
        gc.enable()
        gc.collect()


def study(
    name: str,
    out: Path,
    seeds: int | None,
    first: int,
    processes: int | None,
    progress: bool,
    sample: bool = True,
    minutes: float | None = None,
) -> tuple[str, int]:
    """Run a scenario; what was found in words, and the exit code (1 if the oracle found a violation, 3 if sessions are left).

    Sessions that are already in `out` are not run again; with `minutes` it stops after so long, and goes on the next time.

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
    begun = time.monotonic()
    done = _run(jobs, out, processes, progress, math.inf if minutes is None else begun + 60.0 * minutes)
    heading = f"Study {scenario.name}: {scenario.about}; seeds {first}-{first + n_seeds - 1}"
    results = [done[job] for job in jobs if job in done]
    page = write(results, out, heading)
    bad = any(result.violations for result in results)
    if len(results) < len(jobs):
        return f"{len(results)} of {len(jobs)} sessions are done ({page}); run it again to go on.", 1 if bad else UNFINISHED
    seconds = sum(result.seconds for result in results)
    words = f"{heading}\n\n{findings(results)}\n{seconds / 3600:.0f} h of virtual time; {time.monotonic() - begun:.0f} s this time. {page}"
    return words, int(bad)


def _run(jobs: list[Job], out: Path, processes: int | None, progress: bool, until_s: float) -> dict[Job, Result]:
    """Results of the jobs: those already in `out/sessions.jsonl`, and as many more as there is time for, each kept when it ends."""
    out.mkdir(parents=True, exist_ok=True)
    path, wanted = out / "sessions.jsonl", set(jobs)
    done = kept.read(path, wanted.__contains__)
    path.write_text("".join(kept.to_line(result) for result in done.values()), encoding="utf-8")
    JOBS[:] = todo = [job for job in jobs if job not in done]
    persons = list(dict.fromkeys(job.person for job in todo))
    PROFILES.update(_profiles(persons, out / "profiles", processes, progress))
    with multiprocessing.get_context("fork").Pool(processes, _begin) as pool, path.open("a", encoding="utf-8") as file:
        for line in _shown(pool.imap_unordered(run_number, range(len(todo))), len(todo), "sessions", progress):
            done |= kept.results([line], wanted.__contains__)
            file.write(line)
            file.flush()
            if time.monotonic() > until_s:
                pool.terminate()
                break
    return done


def _shown(items: Iterator[T], n: int, what: str, progress: bool) -> Iterator[T]:
    """The same items, with a bar."""
    columns = (TextColumn(f"{what:18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(what, total=n)
        for item in items:
            bar.advance(task)
            yield item
