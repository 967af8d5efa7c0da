"""`make sabotage`: apply each patch to a copy of the tree and see its test turn red. `python -m tests.sabotage.run [ROW ...]`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import hypothesis.stateful  # noqa: F401 - loaded before the forks
import numpy as np  # noqa: F401
import pytest
import scipy.signal  # noqa: F401

from tests.sabotage.patches import PATCHES, Patch

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "data", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build"
)
LONGEST_S = 90
RED, GREEN, COULD_NOT_RUN = 1, 0, 70


def main(rows: list[str]) -> int:
    """0 if every test was green before and red after; prints one line a patch."""
    page = (ROOT / "docs" / "safety-case.md").read_text()
    short = dict(re.findall(r"\b([A-Z][A-Z0-9]+) = `([\w/]+\.py)`", page))
    patches = [patch for patch in PATCHES if not rows or patch.row in rows]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        tests = {patch: "tests/{}::{}".format(short[patch.test.split("::")[0]], patch.test.split("::")[1]) for patch in patches}
        first = run(tree, sorted(set(tests.values())), len(patches) * LONGEST_S)
        if first != GREEN:
            print(f"not all green before any sabotage (pytest {first}); nothing was tried")
            return 1
        for patch in patches:
            started_s = time.monotonic()
            code = sabotaged(tree, patch, tests[patch])
            bad += code != RED
            said = "red" if code == RED else f"NOT RED (pytest {code})"
            print(
                f"{patch.row:<16} {patch.file:<42} {patch.test:<82} {said:<8} {time.monotonic() - started_s:5.1f} s", flush=True
            )
    print(f"{len(patches) - bad} of {len(patches)} controls are watched by their test")
    return 1 if bad else 0


def sabotaged(tree: Path, patch: Patch, test: str) -> int:
    """pytest's exit code with the patch in place; the file is as before afterwards."""
    path = tree / patch.file
    before = path.read_text()
    path.write_text(before.replace(patch.old, patch.new))
    try:
        return run(tree, [test], LONGEST_S)
    finally:
        path.write_text(before)


def run(tree: Path, tests: list[str], longest_s: float) -> int:
    """pytest's exit code: 0 green, 1 red (a test that hangs is red, too), above: it could not run.

    In a fork, so that the heavy libraries are loaded once; everything of ours is imported anew, from the tree.
    """
    output = tree.parent / "output"
    child = os.fork()
    if child == 0:
        code = COULD_NOT_RUN
        try:
            signal.alarm(round(longest_s))
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.chdir(tree)
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(tree / ".hypothesis")
            for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
                del sys.modules[name]
            sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
            sys.dont_write_bytecode = True
            plugins = ["-p", "no:cacheprovider", "-p", "tests.sabotage.no_shrinking"]
            code = int(pytest.main(["-q", "-x", *plugins, "--timeout=60", "--rootdir", str(tree), *tests]))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return RED if os.WTERMSIG(status) == signal.SIGALRM else COULD_NOT_RUN
    if os.WEXITSTATUS(status) != GREEN and len(tests) > 1:
        print(output.read_text()[-3000:])
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
