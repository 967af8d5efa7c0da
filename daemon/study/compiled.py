"""The compiled copy of what a session of a study runs through: where it lies, whether it is of these very sources, and running in it.

`make study-compiled` makes it (benchmarks/compile_study.py) and needs a C compiler; nothing else does. Service and interlock never
run it: it has an import root of its own, in a folder that git does not keep, and only `eegloop study` starts a program there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import json
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from eegloop.errors import SetupError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "study"
COPIED = ("control", "daemon", "drivers", "dsp", "eegloop", "interlock", "records", "simulators")
MODULES = (
    "control.dose", "control.envelope", "control.estimate", "control.excursion", "control.exploration", "control.phases", "control.pulse_plan", "control.sentences",
    "control.session", "control.state", "control.steps", "control.tick", "control.transitions", "control.watch",
    "daemon.study.judged", "daemon.study.metrics", "daemon.study.oracle", "daemon.study.sessions",
    "eegloop.ports", "eegloop.signal", "eegloop.stim",
    "interlock.account", "interlock.device", "interlock.effects", "interlock.judge", "interlock.ledger", "interlock.limits", "interlock.pulses",
    "interlock.refusals", "interlock.told", "interlock.triggers",
    "simulators.biomarker_plant",
)  # fmt: skip
"""What is compiled; the rest of the copy is interpreted there as everywhere."""
MADE = "made.json"
TREE = "tree"
START = "study.py"


def sources() -> list[Path]:
    """Every file of ours that the copy holds, relative to the root: all but the built page and byte code."""
    here = (path.relative_to(ROOT) for name in COPIED for path in (ROOT / name).rglob("*") if path.is_file())
    return sorted(path for path in here if "__pycache__" not in path.parts and "static" not in path.parts)


def fingerprint() -> str:
    """Digest of the sources, of what is compiled and of the interpreter that it is compiled for."""
    found = hashlib.sha256(f"{sys.version}\0{sysconfig.get_config_var('SOABI')}\0{MODULES}".encode())
    for path in sources():
        found.update(str(path).encode() + b"\0" + (ROOT / path).read_bytes())
    return found.hexdigest()


def fitting(folder: Path = FOLDER) -> tuple[Path | None, str]:
    """The program of the compiled copy if there is one of these very sources; else None, and what to tell people ("" = none was made)."""
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError):
        made = {}
    start = folder / TREE / START
    if not isinstance(made, dict) or made.get("of") != fingerprint() or not start.is_file():
        return None, "The compiled copy is of other sources, so it is not used; `make study-compiled` makes it anew."
    return start, ""


def running() -> bool:
    """True if what a session runs through is compiled in this process, False if it is interpreted.

    Raises
    ------
    SetupError
        If it is so in part: such a copy is broken, and its numbers are nobody's.
    """
    endings = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    # some are loaded by the first session only, which may be another process's
    loaded = {name: str(importlib.import_module(name).__file__).endswith(endings) for name in MODULES}
    if all(loaded.values()):
        return True
    if any(loaded.values()):
        left = ", ".join(name for name in MODULES if not loaded.get(name))
        raise SetupError(f"study: the compiled copy is not whole ({left}); `make study-compiled` makes it anew")
    return False


def run(start: Path, arguments: Sequence[str]) -> int:
    """`eegloop study` with these arguments in the compiled copy; its exit code. It ends with this program."""
    with subprocess.Popen([sys.executable, str(start), "study", *arguments]) as program:
        try:
            return program.wait()
        finally:
            program.terminate()
