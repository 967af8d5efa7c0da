"""Is the file of answers that lies here the one that was written last? What is not, is never gone on with in silence (S12).

The anchor is one small file a person in the user's own state directory, outside the data directory (`~/.local/state/eegloop/answers`, 0700;
the home of the password database): where this person's answers are, how many lines they have and the last line's hash. It is moved
after each line is on the disk, so a file of answers that was cut, restored, replaced or removed lacks the anchored line. A file that is damaged
anywhere is set aside whole as evidence; its lines that are sound by themselves are carried over into a new one. The device `simulated`, which
nobody wears, has no anchor: demos and tests begin in fresh data directories all the time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daemon.audit import AuditTrail, Head, head_path, sound_lines, verify_chain
from eegloop.errors import RecordingError
from eegloop.kept import replace_file
from eegloop.ports import Clock

_OWN = ("created", "torn_line_removed", "events_refused")  # of the chain itself, not of the person


class AnswerAnchor:
    """One person's anchor.

    Parameters
    ----------
    folder : Path
        `eegloop.kept.state_folder("answers")`; made if it is not there.
    chain : Path
        This person's file of answers.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path, person: str, chain: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = hashlib.sha256(b"eegloop answers\0" + person.encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json"
        self._chain = str(chain.resolve())

    def objection(self, digests: Sequence[str]) -> str:
        """Why a chain of lines with these hashes is not the one that was written last, "" = it is, or none was."""
        try:
            found = json.loads(self._path.read_bytes())
            chain, count, digest = str(found["chain"]), int(found["count"]), str(found["hash"])
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError):
            return f"what it is compared with ({self._path}) cannot be read"
        if chain != self._chain:
            return f"they were kept in {chain} before, not here"
        if not 0 < count <= len(digests):
            return f"{count} lines were written, {len(digests)} are here: the file was removed, cut or restored"
        return "" if digests[count - 1] == digest else f"line {count} is another one than was written: the file was replaced"

    def move(self, head: Head) -> None:
        """The line `head` is on the disk: from now on it must be there. OSError if that cannot be kept."""
        if not head.count:
            return
        replace_file(self._path, json.dumps({"chain": self._chain, "count": head.count, "hash": head.hash}).encode())


def open_answers(
    path: Path, anchor: AnswerAnchor | None, clock: Clock
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
    wrong = anchor.objection([str(line["hash"]) for line in lines]) if anchor is not None else ""
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
