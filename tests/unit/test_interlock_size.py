"""The interlock stays small enough to be read in one sitting; tables and signature check are counted apart."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "interlock"
APART = {"limits.py", "pulses.py", "ed25519.py", "signed.py", "keys.py", "strict.py"}
CARRIES = {"__main__.py", "launch.py", "log.py", "loop.py", "told.py"}  # sockets, files, signals, start and end
DECLARES = {"__init__"}
# All that those who judge a command take from the files counted apart: numbers as signed, how long a train lasts, reading and checking.
FROM_APART = {"Rules", "rules", "KINDS", "train_ms", "read_prescription", "read_start_code"}


def logic_lines(path: Path) -> int:
    """Statements inside functions and single checks of `first(...)`, without docstrings and constructors' first values."""
    count = 0
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef) and function.name not in DECLARES:
            for node in ast.walk(function):
                docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                if isinstance(node, ast.stmt) and node is not function and not docstring:
                    count += 1
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "first":
                    count += len(node.args)
    return count


def test_how_much_there_is_to_read() -> None:
    """What decides is under the specification's 600; what carries (sockets, files, start and end) is two thirds of that again."""
    counts = {path.name: logic_lines(path) for path in sorted(FOLDER.glob("*.py")) if path.name not in APART}
    decides = sum(count for name, count in counts.items() if name not in CARRIES)
    assert decides < 600, counts
    assert sum(counts.values()) < 1030, counts
    assert set(counts) >= CARRIES and set(APART) <= {path.name for path in FOLDER.glob("*.py")}


def test_nothing_that_decides_lies_among_what_is_counted_apart() -> None:
    """A check moved into a file of tables would make the interlock smaller on paper only."""
    taken: set[str] = set()
    for path in FOLDER.glob("*.py"):
        if path.name not in APART:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and f"{(node.module or '').removeprefix('interlock.')}.py" in APART:
                    taken |= {alias.name for alias in node.names}
                assert not (isinstance(node, ast.Import) and any(alias.name.startswith("interlock") for alias in node.names))
    assert taken == FROM_APART
