"""Every session's result as a line of `sessions.jsonl`, written when it ends: an interrupted study goes on where it was.

A line counts only for the code that made it: it carries a digest of the sources a session runs through and of its prescription.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

from daemon.study.cells import ARMS, lasting
from daemon.study.metrics import Job, Result

_ROOT = Path(__file__).resolve().parents[2]
_THROUGH = ("control", "dsp", "eegloop", "interlock", "simulators", "drivers/stimulators", "daemon/study", "daemon/loop.py")


@cache
def sources() -> str:
    """Digest of all code that a session runs through."""
    found = hashlib.sha256()
    for name in _THROUGH:
        path = _ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


@cache
def _digest(arm: str, session_s: int) -> str:
    signed = lasting(ARMS[arm].prescription, session_s).to_bytes()
    return hashlib.sha256(sources().encode() + signed).hexdigest()[:16]


def digest(job: Job) -> str:
    """What a session's result depends on beside its job."""
    return _digest(job.arm, job.session_s)


def to_line(result: Result) -> str:
    """One line of JSON; NaN becomes null."""
    body = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(result).items()}
    return json.dumps({**body, "code": digest(result.job)}, allow_nan=False) + "\n"


def read(path: Path, wanted: Callable[[Job], bool]) -> dict[Job, Result]:
    """The results in a file that this code would make again, of the jobs wanted; a torn last line is left out."""
    return results(path.read_text(encoding="utf-8").splitlines(), wanted) if path.is_file() else {}


def results(lines: Iterable[str], wanted: Callable[[Job], bool]) -> dict[Job, Result]:
    """The same of lines."""
    found: dict[Job, Result] = {}
    for line in lines:
        try:
            body = json.loads(line)
        except json.JSONDecodeError:
            continue
        job = Job(**body["job"])
        if wanted(job) and body.pop("code", "") == digest(job):
            found[job] = _result(job, body)
    return found


def _result(job: Job, body: dict[str, Any]) -> Result:
    values: dict[str, Any] = {"job": job}
    for field in fields(Result):
        if field.name != "job":
            value = body[field.name]
            value = math.nan if value is None else tuple(value) if isinstance(value, list) else value
            values[field.name] = value
    return Result(**values)
