"""`make mutation`: every mutant of the safety logic against the tests that reach it; survivors are named. Report: docs/mutation.md.

Tests are collected and run once (which function each reaches is noted); then each mutant is one fork of this process in which the
function's code is swapped and its tests run, quickest first, until one fails. `python -m tests.mutation.run [--slice I/N] [MODULE ...]`
does a part and keeps the answers in `build/mutation`; without `--slice` it does everything on two processes. `--report` only writes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tests.mutation.equivalents import EQUIVALENT
from tests.mutation.mutants import Mutant, functions, mutants

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "mutation"
MODULES = (
    "control.envelope", "control.dose", "control.prescription",
    "interlock.judge", "interlock.refusals", "interlock.triggers", "interlock.ledger", "interlock.limits", "interlock.pulses", "interlock.log", "interlock.anchor",
    "interlock.signed", "interlock.ed25519", "interlock.wire", "interlock.loop", "interlock.__main__",
)  # fmt: skip
TESTS = (
    "tests/unit/test_interlock_*.py", "tests/unit/test_control_envelope.py", "tests/unit/test_control_prescription.py",
    "tests/property/test_control_envelope.py", "tests/property/test_interlock_*.py",
)  # fmt: skip
SLOWEST_S = 20.0  # a test's own time in the first run; slower ones are not used
PATIENCE_S = 60


class Mutation:
    """The pytest plugin that replaces the test loop of one process."""

    def __init__(self, modules: list[str], part: int, parts: int) -> None:
        self.modules = modules
        self.part, self.parts = part, parts
        self.targets: dict[CodeType, str] = {}
        self.functions: dict[str, FunctionType] = {}
        for module in modules:
            for name, _ in functions(_path(module)):
                function = _find(module, name)
                self.functions[f"{module}:{name}"] = function
                self.targets[function.__code__] = f"{module}:{name}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        reach: dict[str, list[tuple[float, int]]] = {}
        for number, item in enumerate(session.items):
            took_s, reached, failed = self._watched(item)
            if failed:  # a busy machine, or a fault: it proves nothing here either way
                print(f"left out, because it fails without any mutant: {item.nodeid}", flush=True)
                continue
            for name in reached if took_s <= SLOWEST_S else ():
                reach.setdefault(name, []).append((took_s, number))
        todo = [m for module in self.modules for m in mutants(module, _path(module))][self.part :: self.parts]
        RESULTS.mkdir(parents=True, exist_ok=True)
        with (RESULTS / f"{'-'.join(self.modules)[:80]}-{self.part}-{self.parts}.jsonl").open("w") as file:
            for done, mutant in enumerate(todo, start=1):
                tests = [session.items[i] for _, i in sorted(reach.get(f"{mutant.module}:{mutant.function}", []))]
                answer = self._try(mutant, tests)
                body = {"module": mutant.module, "function": mutant.function, "line": mutant.line, "what": mutant.what}
                file.write(json.dumps({**body, "answer": answer}) + "\n")
                file.flush()
                if answer not in ("killed", "hangs"):
                    print(f"{answer}: {mutant.module}:{mutant.line} {mutant.function} {mutant.what}", flush=True)
                if done % 200 == 0:
                    print(f"part {self.part}: {done} of {len(todo)}", flush=True)
        return True

    def _watched(self, item: pytest.Item) -> tuple[float, set[str], bool]:
        """Run one test and note which functions it reaches, in its threads too."""
        reached: set[str] = set()
        targets = self.targets

        def look(frame: Any, event: str, _argument: Any) -> None:
            if event == "call" and frame.f_code in targets:
                reached.add(targets[frame.f_code])

        started_s = time.monotonic()
        threading.setprofile(look)
        sys.setprofile(look)
        try:
            reports = runtestprotocol(item, nextitem=None, log=False)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        return time.monotonic() - started_s, reached, any(report.failed for report in reports)

    def _try(self, mutant: Mutant, tests: list[pytest.Item]) -> str:
        """In a fork: "killed", "hangs" (a test did not end), "survived" or "untested"."""
        if not tests:
            return "untested"
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE_S)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            self.functions[f"{mutant.module}:{mutant.function}"].__code__ = mutant.code
            failed = True
            try:
                failed = any(report.failed for test in tests for report in runtestprotocol(test, nextitem=None, log=False))
            finally:
                os._exit(1 if failed else 0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return "hangs"
        return "killed" if os.WEXITSTATUS(status) else "survived"


def _path(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


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
    """0 if at least 95 % are killed and no function has none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[], metavar="MODULE")
    parser.add_argument("--slice", default="", metavar="I/N")
    parser.add_argument("--tests", nargs="*", default=TESTS, metavar="GLOB", help="fewer tests than all, for a quick look")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    modules = arguments.modules or list(MODULES)
    if arguments.slice:
        part, parts = (int(number) for number in arguments.slice.split("/"))
        settings.register_profile("mutation", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutation")
        files = [str(path) for pattern in arguments.tests for path in sorted(ROOT.glob(pattern))]
        return int(pytest.main(["-q", "-p", "no:cacheprovider", *files], plugins=[Mutation(modules, part, parts)]))
    if not arguments.report:
        argv = [sys.executable, "-m", "tests.mutation.run", *modules, "--slice"]
        workers = [subprocess.Popen([*argv, f"{i}/2"], cwd=ROOT) for i in range(2)]
        if any(worker.wait() != 0 for worker in workers):
            return 1
    return report()


def report() -> int:
    """Put all answers into docs/mutation.md."""
    answers: dict[str, dict[str, Any]] = {}
    for file in sorted(RESULTS.glob("*.jsonl"), key=lambda f: f.stat().st_mtime):
        for line in file.read_text().splitlines():
            body = json.loads(line)
            answers[f"{body['module']}:{body['function']}: {body['what']}"] = body
    known = {mutant.key for module in MODULES for mutant in mutants(module, _path(module))}
    missing = known - set(answers)
    rows, total, dead, equivalent = [], 0, 0, []
    for module in MODULES:
        for name, _ in functions(_path(module)):
            here = {k: a for k, a in answers.items() if k in known and (a["module"], a["function"]) == (module, name)}
            same = [k for k, a in here.items() if k in EQUIVALENT and a["answer"] == "survived"]
            killed = sum(a["answer"] in ("killed", "hangs") for a in here.values())
            left = len(here) - killed - len(same)
            rows.append(f"| {module} | {name} | {len(here)} | {killed} | {len(same)} | {left} |")
            total, dead, equivalent = total + len(here), dead + killed, equivalent + same
    alive = [a for k, a in answers.items() if k in known and a["answer"] not in ("killed", "hangs") and k not in equivalent]
    score = dead / max(1, total - len(equivalent))
    text = [
        "# Mutation testing of the safety logic", "",
        "Written by `make mutation` (`tests/mutation`: an own mutator, because mutmut 3 leaves decorated functions and classes out).",
        "A mutant is one small wrong change of a function: a comparison, a condition, an operator, a number, a removed statement or",
        "assignment, a returned None. Texts, annotations and module-level tables are not mutated (tables are tested entry by entry).", "",
        f"{total} mutants, {dead} killed, {len(equivalent)} equivalent, {len(alive)} alive: **{100 * score:.1f} %**"
        + (f"; {len(missing)} were not tried" if missing else "") + ".", "",
        "| module | function | mutants | killed | equivalent | alive |", "|---|---|---|---|---|---|", *rows, "",
        "## Equivalent, and why", "", *(f"- {k}: {EQUIVALENT[k]}" for k in sorted(equivalent)), "",
        "## Alive", "", *(f"- {a['module']}:{a['line']} {a['function']}: {a['what']} ({a['answer']})" for a in alive), "",
    ]  # fmt: skip
    (ROOT / "docs" / "mutation.md").write_text("\n".join(text))
    print(
        f"{total} mutants, {dead} killed, {len(equivalent)} equivalent, {len(alive)} alive, {len(missing)} not tried: {100 * score:.1f} %"
    )
    return 0 if score >= 0.95 and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
