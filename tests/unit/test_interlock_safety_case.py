"""docs/safety-case.md keeps its word: every test and function it names exists, no proof may be skipped, every control has a sabotage."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.sabotage.patches import PATCHES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "safety-case.md").read_text()
SHORT = dict(re.findall(r"\b([A-Z][A-Z0-9]+) = `([\w/]+\.py)`", PAGE))
SKIPS = re.compile(r"\.(skip|skipif|xfail|importorskip)\b")


class Row(NamedTuple):
    """One line of the table."""

    id: str
    what: str
    control: str
    code: str
    proof: str
    left: str


ROWS = [
    Row(*(cell.strip() for cell in line.strip("|").split(" | "))) for line in PAGE.splitlines() if re.match(r"\| [SHD]\d", line)
]


@cache
def definitions(path: Path) -> dict[str, ast.AST]:
    """Functions and classes of a file by name, methods also as Class.method; what is assigned at the top, too (test cases)."""
    tree = ast.parse(path.read_text())
    found: dict[str, ast.AST] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{f.name}": f for f in node.body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}
    found |= {t.id: node for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)}
    return found


def named_tests(row: Row) -> list[tuple[Path, str]]:
    return [(ROOT / "tests" / SHORT[short], name) for short, name in re.findall(r"\b([A-Z][A-Z0-9]+)::(\w+)", row.proof)]


def may_skip(path: Path, name: str) -> bool:
    """The test, a fixture it asks for, or the whole file's mark can skip it."""
    known = {**definitions(ROOT / "tests" / "conftest.py"), **definitions(path)}
    node = known[name]
    lines = path.read_text().splitlines()
    texts = [ast.unparse(node), *(line for line in lines if line.startswith("pytestmark"))]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        texts += [ast.unparse(known[a.arg]) for a in node.args.args if a.arg in known]
    return any(SKIPS.search(text) for text in texts)


def test_every_rule_and_every_hazard_has_a_row() -> None:
    ids = [row.id for row in ROWS]
    assert len(ids) == len(set(ids))
    assert {f"H{n}" for n in range(1, 35)} <= set(ids)
    assert {f"S{n}" for n in range(1, 14)} <= set(ids)


def test_a_row_has_control_code_and_proof_or_says_that_it_is_not_covered() -> None:
    for row in ROWS:
        if not (row.control and row.code and row.proof):
            assert not (row.control or row.code or row.proof) and "**not covered**" in row.left, row.id


def test_named_tests_exist_and_are_never_skipped() -> None:
    assert sum(len(named_tests(row)) for row in ROWS) > 150
    for row in ROWS:
        for path, name in named_tests(row):
            assert name in definitions(path), f"{row.id}: {path.name}::{name} does not exist"
            assert not may_skip(path, name), f"{row.id}: {path.name}::{name} may be skipped"


def test_a_skip_would_be_found() -> None:
    assert may_skip(
        ROOT / "tests" / "fault" / "test_record_disk_full.py", "test_a_full_disk_ends_the_run_clean_and_room_begins_the_next"
    )
    assert may_skip(ROOT / "tests" / "unit" / "test_dsp_complexity.py", "test_against_antropy")


def test_named_code_exists() -> None:
    for row in ROWS:
        for part in re.findall(r"`([^`]+)`", row.code):
            file, _, functions = part.partition(": ")
            assert (ROOT / file).is_file(), f"{row.id}: {file}"
            for name in filter(None, functions.split(", ")):
                assert name in definitions(ROOT / file), f"{row.id}: {file} has no {name}"


def test_every_control_has_a_sabotage_that_names_one_of_its_proofs() -> None:
    by_id = {row.id: row for row in ROWS}
    assert {patch.row for patch in PATCHES} == {row.id for row in ROWS if row.proof}
    for patch in PATCHES:
        assert (ROOT / "tests" / SHORT[patch.test.split("::")[0]], patch.test.split("::")[1]) in named_tests(by_id[patch.row]), (
            patch
        )


def test_every_sabotage_still_fits_the_code() -> None:
    for patch in PATCHES:
        assert (ROOT / patch.file).read_text().count(patch.old) == 1, f"{patch.row}: {patch.file} has not once {patch.old!r}"
        assert patch.old != patch.new


def test_no_sabotage_turns_its_test_red_by_a_name_that_is_not_there(tmp_path: Path) -> None:
    """One that was left behind by a renamed variable would prove nothing: any test fails at a NameError."""
    for i, patch in enumerate(PATCHES):
        if patch.file.endswith(".py"):
            (tmp_path / f"{i:03}.py").write_text((ROOT / patch.file).read_text().replace(patch.old, patch.new))
    argv = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F823,E9", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
