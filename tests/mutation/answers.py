"""What became of each mutant, bound to the sources it was found with; and the report of it, docs/mutation.md.

An answer counts only while the function it is about is the same to the letter, and while the test that killed the mutant (with what
stands around it in its file, and what that takes from the rigs) is. One that survived is tried again with every test that has come or changed since.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.mutation.equivalents import EQUIVALENT
from tests.mutation.mutants import Mutant, functions, mutants

ROOT = Path(__file__).resolve().parents[2]
DEAD = ("killed", "hangs")
MODULES = (
    "control.envelope", "control.dose", "control.prescription",
    "interlock.judge", "interlock.account", "interlock.device", "interlock.told", "interlock.refusals", "interlock.triggers", "interlock.ledger", "interlock.limits", "interlock.pulses", "interlock.log", "interlock.anchor",
    "interlock.signed", "interlock.keys", "interlock.strict", "interlock.ed25519", "interlock.wire", "interlock.loop", "interlock.__main__", "eegloop.single", "eegloop.kept", "eegloop.real_time",
)  # fmt: skip

Answer = dict[str, Any]


def path_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@cache
def sources(module: str) -> dict[str, str]:
    """Digest of each function of a module, by name."""
    return {name: _digest(ast.unparse(function)) for name, function in functions(path_of(module))}


def source_of(mutant: Mutant) -> str:
    return sources(mutant.module)[mutant.function]


def test_digest(nodeid: str) -> str:
    """Digest of a test: itself, what of its file is no test, and what that takes from the rigs; "" if it is gone."""
    file, _, name = nodeid.partition("::")
    tests, around = _tests_of(file)
    name = name.partition("[")[0]
    if not around or (name not in tests and "::" not in name):
        return ""
    return _digest(tests.get(name, ""), around)


@cache
def _tests_of(file: str) -> tuple[dict[str, str], str]:
    """`(tests by name, digest of all else)` of a test file."""
    if not (ROOT / file).is_file():
        return {}, ""
    tests: dict[str, str] = {}
    around: list[str] = []
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            tests[node.name] = ast.unparse(node)
        else:
            around.append(ast.unparse(node))
    taken: dict[tuple[str, str], str] = {}
    for rig, name in _rigs(file).values():
        _take(rig, name, taken)
    return tests, _digest(*around, *(taken[key] for key in sorted(taken)))


@cache
def _rigs(file: str) -> dict[str, tuple[str, str]]:
    """What a file imports from others of `tests`, by the name it has here: `(file, name there)`."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("tests."):
            found |= {a.asname or a.name: (node.module.replace(".", "/") + ".py", a.name) for a in node.names}
    return found


@cache
def _definitions(file: str) -> dict[str, list[ast.stmt]]:
    """Statements at the top of a file by the name they define; "" = those that define none."""
    found: dict[str, list[ast.stmt]] = {}
    for node in ast.parse((ROOT / file).read_text()).body:
        names = [""]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)] or [""]
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def _take(file: str, name: str, taken: dict[tuple[str, str], str]) -> None:
    """A definition of a rig and all that it needs of this and other rigs, into `taken`."""
    if (file, name) in taken or name not in _definitions(file):
        return
    nodes = _definitions(file)[name]
    taken[file, name] = "\n".join(ast.unparse(node) for node in nodes)
    _take(file, "", taken)
    for node in nodes:
        for used in {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}:
            _take(*_rigs(file).get(used, (file, used)), taken)


def load(folder: Path) -> dict[str, Answer]:
    """Every answer whose function is as it was, the newest of each mutant; one that killed counts only with its test as it was."""
    found: dict[str, Answer] = {}
    known = {mutant.key: source_of(mutant) for module in MODULES for mutant in mutants(module, path_of(module))}
    for file in sorted(folder.glob("*.jsonl"), key=lambda f: f.stat().st_mtime):
        for line in file.read_text().splitlines():
            answer = json.loads(line)
            key = f"{answer['module']}:{answer['function']}: {answer['what']}"
            if known.get(key) != answer["source"]:
                continue
            if answer["answer"] in DEAD and test_digest(answer["by"]) != answer["test"]:
                continue
            found[key] = answer
    return found


def report(folder: Path) -> int:
    """Write docs/mutation.md; 0 if at least 95 % are dead, none was left out and no function with mutants has no result."""
    answers = load(folder)
    rows: list[str] = []
    total = dead = untried = 0
    same: list[str] = []
    alive: list[Answer] = []
    for module in MODULES:
        made: dict[str, list[str]] = {name: [] for name in sources(module)}
        for mutant in mutants(module, path_of(module)):
            made[mutant.function].append(mutant.key)
        for name, keys in made.items():
            here = {key: answers[key] for key in keys if key in answers}
            killed = sum(answer["answer"] in DEAD for answer in here.values())
            equal = [key for key, answer in here.items() if key in EQUIVALENT and answer["answer"] not in DEAD]
            left = [answer for key, answer in here.items() if key not in EQUIVALENT and answer["answer"] not in DEAD]
            rows.append(f"| {module} | {name} | {len(keys)} | {len(here)} | {killed} | {len(equal)} | {len(left)} |")
            total, dead, untried = total + len(keys), dead + killed, untried + len(keys) - len(here)
            same, alive = same + equal, alive + left
    score = dead / max(1, total - untried - len(same))
    summary = (
        f"{total} mutants, {dead} killed, {len(same)} equivalent, {len(alive)} alive, {untried} not tried: {100 * score:.1f} %"
    )
    text = [
        "# Mutation testing of the safety logic", "",
        "Written by `make mutation` (`tests/mutation`: an own mutator, because mutmut 3 leaves decorated functions and classes out).",
        "A mutant is one small wrong change of a function: a comparison, a condition, an operator, a number, a removed statement or",
        "assignment, a returned None. Texts, annotations and module-level tables are not mutated (tables are tested entry by entry).",
        "Every answer is bound to the source of its function and of the test that killed it; what has changed since counts as not tried.",
        "A test that waits on the clock counts only if it is green again, right after, without the mutant.", "",
        f"**{summary}** (of those tried that are not equivalent).", "",
        "| module | function | mutants | tried | killed | equivalent | alive |", "|---|---|---|---|---|---|---|", *rows, "",
        "## Equivalent, and why", "", *(f"- {key}: {EQUIVALENT[key]}" for key in sorted(same)), "",
        "## Alive", "", *(f"- {a['module']} {a['function']}: {a['what']} ({a['answer']})" for a in alive), "",
    ]  # fmt: skip
    (ROOT / "docs" / "mutation.md").write_text("\n".join(text))
    print(summary)
    return 0 if score >= 0.95 and not untried else 1
