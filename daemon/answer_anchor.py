"""Is the file of answers that lies here the one that was written last? What is not, is never gone on with in silence (S12).

The anchor (`daemon/chain_anchor.py`) is one a person, in `~/.local/state/eegloop/answers`, moved after each line is on the disk. A file that is damaged
anywhere is set aside whole as evidence; its lines that are sound by themselves are carried over into a new one. The device `simulated`, which
nobody wears, has no anchor: demos and tests begin in fresh data directories all the time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.audit import AuditTrail, Head, head_path, sound_lines, verify_chain
from daemon.chain_anchor import ChainAnchor
from eegloop.errors import RecordingError
from eegloop.ports import Clock

_OWN = ("created", "torn_line_removed", "events_refused")  # of the chain itself, not of the person


def open_answers(
    path: Path, anchor: ChainAnchor | None, clock: Clock
) -> tuple[AuditTrail, list[tuple[str, dict[str, Any]]], str]:
    """The chain to go on with, what is known of the person (event and data), and what is wrong with what was found ("" = nothing).

    Raises
    ------
    RecordingError
        If another process is writing the file.
    OSError
        If it cannot be opened, moved or written.
    """
    lines = sound_lines(path) if path.exists() else []
    known = [(str(line["event"]), line["data"]) for line in lines if line["event"] not in _OWN]
    wrong = anchor.objection(len(lines), lambda n: str(lines[n]["hash"])) if anchor is not None else ""
    damage = _damage(path)
    if damage:
        aside = _set_aside(path)
        wrong = f"{damage}; kept as {aside.name}"
    moved: Callable[[Head], None] | None = anchor.move if anchor is not None else None
    trail = AuditTrail(path, clock, moved)
    if damage:
        for event, data in known:
            trail.append(event, data)
    return trail, known, wrong


def _damage(path: Path) -> str:
    """What is wrong inside the chain; a file that was made and never written to is a new one."""
    head = head_path(path)
    if not head.exists() and not (path.exists() and path.stat().st_size):
        return ""
    errors = [finding for finding in verify_chain(path) if finding.level == "error"]
    if not errors:
        return ""
    where = "" if errors[0].line is None else f"line {errors[0].line}: "
    return f"{where}{errors[0].text}"


def _set_aside(path: Path) -> Path:
    """Move a damaged chain and its head to a name that is free."""
    number = 1
    while (aside := path.with_name(f"{path.stem}-damaged-{number}{path.suffix}")).exists() or head_path(aside).exists():
        number += 1
    if path.exists():
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{path}: another eegloop is writing this file; stop it first") from None
        finally:
            os.close(handle)
        path.rename(aside)
    if head_path(path).exists():
        head_path(path).rename(head_path(aside))
    return aside
