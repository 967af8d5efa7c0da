"""`make sabotage`: apply each patch to a copy of the tree and see its test turn red. `python -m tests.sabotage.run [ROW ...]`.

Tests that wait for nothing are seen green once, all of them together, before any patch; one that a busy machine could turn red is seen
green right before and right after its patch. What is proven is kept in `build/sabotage`, bound to the patched file and the test: a run that was cut short goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
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

from tests.mutation.answers import test_digest
from tests.sabotage.patches import PATCHES, Patch

ROOT = Path(__file__).resolve().parents[2]
PROVEN = ROOT / "build" / "sabotage"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "data", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build"
)
LONGEST_S = 90
WAITS = re.compile(
    r"\b(threading|subprocess|socket|asyncio|wait_until|sleep|monotonic|Bench|Rig|VirtualLoop|MachineClock|AuditTrail|running_service)\b"
)
RED, GREEN, COULD_NOT_RUN = 1, 0, 70


def main(rows: list[str], minutes: float) -> int:
    """0 if every test was green before, red with its control disabled, and green again after; prints one line a patch."""
    page = (ROOT / "docs" / "safety-case.md").read_text()
    short = dict(re.findall(r"\b([A-Z][A-Z0-9]+) = `([\w/]+\.py)`", page))
    patches = [patch for patch in PATCHES if not rows or patch.row in rows]
    tests = [f"tests/{short[name]}::{test}" for name, _, test in (patch.test.partition("::") for patch in patches)]
    proven = set(PROVEN.read_text().split()) if PROVEN.is_file() and not rows else set()
    until_s = time.monotonic() + 60.0 * minutes
    bad = left = 0
    PROVEN.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        digests = [_digest(patch, test) for patch, test in zip(patches, tests, strict=True)]  # now: of what was copied
        still = sorted(
            {test for test, digest in zip(tests, digests, strict=True) if digest not in proven and waits_for_nothing(test)}
        )
        green = set(still) if still and run(tree, still, LONGEST_S + 10 * len(still)) == GREEN else set()
        for patch, test, digest in zip(patches, tests, digests, strict=True):
            started_s = time.monotonic()
            if digest in proven:
                said = "red (as before)"
            elif started_s > until_s:
                left += 1
                continue
            else:
                said = judged(tree, patch, test, test in green)
                if said == "red" and not rows:
                    with PROVEN.open("a") as file:
                        file.write(digest + "\n")
            bad += not said.startswith("red")
            print(
                f"{patch.row:<16} {patch.file:<42} {patch.test:<82} {said:<8} {time.monotonic() - started_s:5.1f} s", flush=True
            )
    print(
        f"{len(patches) - bad - left} of {len(patches)} controls are watched by their test"
        + (f"; {left} are left" if left else "")
    )
    return 1 if bad else 3 if left else 0


def waits_for_nothing(test: str) -> bool:
    """No thread, process, socket or clock of the machine in its file: the same answer on any machine, however busy."""
    text = (ROOT / test.partition("::")[0]).read_text()
    return "/unit/" in test and not WAITS.search(text)


def judged(tree: Path, patch: Patch, test: str, green: bool) -> str:
    """ "red" if the test is green without the patch, red with it, and green again: a busy machine is no proof. Tried twice.

    `green`: it was seen so, and nothing but the code can turn it red.
    """
    if green:
        code = sabotaged(tree, patch, test)
        return "red" if code == RED else f"NOT RED (pytest {code})"
    said = ""
    for _ in range(2):
        if (code := run(tree, [test], LONGEST_S)) != GREEN:
            said = f"NOT GREEN BEFORE (pytest {code})"
            continue
        if (code := sabotaged(tree, patch, test)) != RED:
            return f"NOT RED (pytest {code})"
        if (code := run(tree, [test], LONGEST_S)) == GREEN:
            return "red"
        said = f"NOT GREEN AFTER (pytest {code})"
    return said


def _digest(patch: Patch, test: str) -> str:
    """Of the patch, the file it is for, and its test: a proof holds while these are as they were."""
    texts = (*patch, (ROOT / patch.file).read_text(), test_digest(test))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


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
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these, whatever was proven before")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long; the next run goes on from there")
    given = parser.parse_args()
    sys.exit(main(given.rows, given.minutes))
