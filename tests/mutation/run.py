"""`make mutation`: every mutant of the safety logic against the tests that reach its line; survivors are named. Report: docs/mutation.md.

Tests are collected and run once, and which lines each reaches is noted. Then each mutant is one fork of this process (everything is
imported) in which the function's code is swapped and its tests run, those that killed its neighbors first, then quickest first, until one
fails. Answers are kept in `build/mutation`, bound to the sources (answers.py): what has not changed is not tried again, so
`--minutes M` may do a part and the next run goes on. `--report` only writes.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tests.mutation.answers import DEAD, MODULES, ROOT, load, path_of, report, source_of, test_digest
from tests.mutation.mutants import Mutant, functions, mutants

RESULTS = ROOT / "build" / "mutation"
TESTS = (
    "tests/unit/test_interlock_*.py", "tests/unit/test_control_envelope.py", "tests/unit/test_control_prescription*.py",
    "tests/property/test_control_envelope.py", "tests/property/test_interlock_*.py",
)  # fmt: skip
# A process around the judge, turned on a real clock: slow, and of use only where nothing quicker goes.
ON_THE_CLOCK = ("tests/unit/test_interlock_loop.py", "tests/unit/test_interlock_process_run.py")
CARRIERS = ("interlock.loop", "interlock.__main__", "interlock.log", "eegloop.single", "eegloop.kept")
WAITS_S = 0.05
"""A test that takes so much longer than it computes waits on the clock: on a busy machine it may fail for that."""
MEMORY = 6 << 30
PATIENT = ("tests.loop_bench", "tests.interlock_bench", "tests.interlock_rig")
PATIENCE_S = 1.0
"""What these wait for comes within milliseconds or, broken by a mutant, never: waiting less long makes a kill quick."""


class Reach:
    """A test and what of the mutated code it reaches: `(function, line)`."""

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.digest = test_digest(item.nodeid)
        self.lines: set[tuple[str, int]] = set()
        self.functions: set[str] = set()
        self.took_s = 0.0
        self.waits = False
        self.failed = False

    def to_json(self) -> dict[str, Any]:
        plain = {"digest": self.digest, "took_s": self.took_s, "waits": self.waits, "failed": self.failed}
        return {**plain, "functions": sorted(self.functions), "lines": sorted(self.lines)}

    @staticmethod
    def from_json(item: pytest.Item, body: dict[str, Any]) -> Reach:
        reach = Reach(item)
        reach.took_s, reach.waits, reach.failed = body["took_s"], body["waits"], body["failed"]
        reach.functions, reach.lines = set(body["functions"]), {(name, line) for name, line in body["lines"]}
        return reach


class Mutation:
    """The pytest plugin that replaces the test loop."""

    def __init__(self, modules: list[str], wanted: list[str], folder: Path, until_s: float, workers: int) -> None:
        self.modules = modules
        self.wanted = wanted
        self.folder = folder
        self.until_s = until_s
        self.workers = workers
        self.targets: dict[CodeType, str] = {}
        self.functions: dict[str, FunctionType] = {}
        for module in modules:
            for name, _ in functions(path_of(module)):
                function = _find(module, name)
                self.functions[f"{module}:{name}"] = function
                self.targets[function.__code__] = f"{module}:{name}"
        self.killers: dict[str, Counter[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        answers = load(self.folder)
        for module in PATIENT:
            importlib.import_module(module).PATIENCE_S = PATIENCE_S  # type: ignore[attr-defined]
        reached = self._reached(session.items)
        for reach in reached:
            if reach.failed:  # a busy machine, or a fault: it proves nothing here either way
                print(f"left out, because it fails without any mutant: {reach.item.nodeid}", flush=True)
        usable = [reach for reach in reached if not reach.failed]
        print(f"{len(usable)} tests, {sum(reach.took_s for reach in usable):.0f} s once", flush=True)
        todo = []
        for mutant in (m for module in self.wanted for m in mutants(module, path_of(module))):
            before = answers.get(mutant.key)
            if before is not None and before["answer"] in DEAD:
                self._killed_by(mutant, before["by"])
                continue
            passed = set(before["passed"]) if before is not None else set()
            tests = self._tests_for(mutant, usable)
            if before is None or any(test.digest not in passed for test in tests):
                todo.append((mutant, passed, tests))
        random.Random(4).shuffle(todo)  # so that a part of the run is a fair sample of the whole
        todo.sort(key=lambda entry: bool(entry[1]))  # those that survived before, and are tried with new tests only, come last
        gc.collect()
        gc.freeze()
        children = []
        for worker in range(self.workers):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    self._work(todo[worker :: self.workers], self.folder / f"{time.time_ns()}-{worker}.jsonl")
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        if any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children):
            raise RuntimeError("a worker of the mutation run ended by itself")
        return True

    def _work(self, todo: list[tuple[Mutant, set[str], list[Reach]]], path: Path) -> None:
        with path.open("w") as file:
            for done, (mutant, passed, tests) in enumerate(todo, start=1):
                if time.monotonic() > self.until_s:
                    print(f"time is up: {len(todo) - done + 1} of {len(todo)} are left", flush=True)
                    return
                answer = self._try(mutant, passed, tests)
                body = {"module": mutant.module, "function": mutant.function, "what": mutant.what, "source": source_of(mutant)}
                file.write(json.dumps({**body, **answer}) + "\n")
                file.flush()
                if answer["answer"] not in DEAD:
                    print(f"{answer['answer']}: {mutant.module}:{mutant.line} {mutant.function} {mutant.what}", flush=True)
                if done % 200 == 0:
                    print(f"{done} of {len(todo)}", flush=True)

    def _tests_for(self, mutant: Mutant, reached: list[Reach]) -> list[Reach]:
        """Those that reach its line (its function, if no test stops at this very line), the likeliest to kill first."""
        name = f"{mutant.module}:{mutant.function}"
        clock = mutant.module in CARRIERS
        here = [r for r in reached if name in r.functions and (clock or not r.item.nodeid.startswith(ON_THE_CLOCK))]
        here = here or [r for r in reached if name in r.functions]
        tests = [r for r in here if (name, mutant.line) in r.lines] or here
        return sorted(tests, key=lambda r: r.took_s)

    def _killed_by(self, mutant: Mutant, nodeid: str) -> None:
        self.killers.setdefault(f"{mutant.module}:{mutant.function}", Counter())[nodeid] += 1

    def _reached(self, items: list[pytest.Item]) -> list[Reach]:
        """Every test's reach, from the last run where neither it nor any of the mutated modules has changed."""
        cache = self.folder / "reach.json"
        state = hashlib.sha256("".join(path_of(module).read_text() for module in self.modules).encode()).hexdigest()
        known: dict[str, Any] = {}
        if cache.is_file() and (before := json.loads(cache.read_text()))["state"] == state:
            known = before["tests"]
        reached = []
        for item in items:
            body = known.get(item.nodeid)
            if body is None or body["digest"] != test_digest(item.nodeid) or body["failed"]:
                reached.append(self._watched(item))
            else:
                reached.append(Reach.from_json(item, body))
        self.folder.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({"state": state, "tests": {reach.item.nodeid: reach.to_json() for reach in reached}}))
        return reached

    def _watched(self, item: pytest.Item) -> Reach:
        """Run one test and note which lines of the mutated functions it reaches, in its threads too."""
        reach = Reach(item)
        targets = self.targets

        def look(frame: Any, event: str, _argument: Any) -> Any:
            name = targets.get(frame.f_code)
            if name is None:
                return None
            reach.functions.add(name)
            reach.lines.add((name, frame.f_lineno))
            lines = reach.lines

            def line(frame: Any, event: str, _argument: Any) -> Any:
                lines.add((name, frame.f_lineno))
                return line

            return line

        threading.settrace(look)
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        sys.settrace(look)
        try:
            reports = runtestprotocol(item, nextitem=None, log=False)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        reach.took_s = time.monotonic() - begun_s
        reach.waits = reach.took_s - (time.process_time() - begun_cpu_s) > WAITS_S
        reach.failed = any(report.failed for report in reports)
        return reach

    def _try(self, mutant: Mutant, passed: set[str], tests: list[Reach]) -> dict[str, Any]:
        """ "killed" or "hangs" (by which test), "survived" (which tests) or "untested"."""
        if not tests:
            return {"answer": "untested", "passed": []}
        killers = self.killers.get(f"{mutant.module}:{mutant.function}", Counter())
        todo = sorted((t for t in tests if t.digest not in passed), key=lambda t: (-min(killers[t.item.nodeid], 3), t.took_s))
        while todo:
            answer, number = self._run(mutant, todo)
            if answer == "survived":
                break
            test = todo[number]
            if not test.waits or self._run(None, [test])[0] == "survived":
                self._killed_by(mutant, test.item.nodeid)
                return {"answer": answer, "by": test.item.nodeid, "test": test.digest}
            todo = todo[number + 1 :]  # red without the mutant too, just now: it says nothing
        return {"answer": "survived", "passed": sorted(passed | {test.digest for test in tests})}

    def _run(self, mutant: Mutant | None, tests: list[Reach]) -> tuple[str, int]:
        """In a fork, until one fails: "killed" or "hangs" and by which of `tests`, or "survived"."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            expected_s = sum(test.took_s for test in tests)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # a test may have had real-time priority
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30 + round(10 * expected_s))
            resource.setrlimit(resource.RLIMIT_CPU, (5 + round(4 * expected_s), 6 + round(4 * expected_s)))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            if mutant is not None:
                self.functions[f"{mutant.module}:{mutant.function}"].__code__ = mutant.make()
            failed = True
            try:
                for number, test in enumerate(tests):
                    os.write(write, number.to_bytes(2, "little"))
                    failed = any(report.failed for report in runtestprotocol(test.item, nextitem=None, log=False))
                    if failed:
                        break
            finally:
                os._exit(1 if failed else 0)
        os.close(write)
        said = b""
        while piece := os.read(read, 65_536):
            said += piece
        os.close(read)
        _, status = os.waitpid(child, 0)
        number = int.from_bytes(said[-2:], "little")
        if os.WIFSIGNALED(status):
            return "hangs", number
        return ("killed" if os.WEXITSTATUS(status) else "survived"), number


def _find(module: str, name: str) -> FunctionType:
    """The function object itself, under whatever its decorators made of it."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = found.__dict__[part]
        found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    assert isinstance(found, FunctionType), f"{module}:{name} is {found!r}"
    return found


def main() -> int:
    """0 if at least 95 % are killed and none was left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[], metavar="MODULE")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long; the next run goes on from there")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--answers", type=Path, default=RESULTS, help="where answers are kept")
    parser.add_argument("--report", action="store_true", help="only write docs/mutation.md")
    arguments = parser.parse_args()
    if not arguments.report:
        settings.register_profile("mutation", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutation")
        files = [str(path.relative_to(ROOT)) for pattern in TESTS for path in sorted(ROOT.glob(pattern))]
        until_s = time.monotonic() + 60.0 * arguments.minutes
        plugin = Mutation(list(MODULES), arguments.modules or list(MODULES), arguments.answers, until_s, arguments.workers)
        code = pytest.main(["-q", "--tb=native", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *files], plugins=[plugin])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return int(code)
    return report(arguments.answers)


if __name__ == "__main__":
    sys.exit(main())
