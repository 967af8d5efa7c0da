"""`make sabotage`: apply each patch to a copy of the tree and see its test turn red. `python -m tests.sabotage.run [ROW ...]`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.sabotage.patches import PATCHES, Patch

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "data", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build"
)
LONGEST_S = 90
RED, GREEN = 1, 0


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
    """pytest's exit code: 0 green, 1 red (a test that hangs is red, too), above: it could not run."""
    argv = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.sabotage.no_shrinking",
        "--timeout=60",
        *tests,
    ]
    environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis")}
    try:
        done = subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True, timeout=longest_s)
    except subprocess.TimeoutExpired:
        return RED
    if done.returncode != GREEN and len(tests) > 1:
        print(done.stdout[-3000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
