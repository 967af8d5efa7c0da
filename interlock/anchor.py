"""The dose ledger's anchor (S5): outside the data directory, so that a ledger that was copied, cut, restored or moved is noticed.

One small file a person in the user's own state directory (`~/.local/state/eegloop/ledgers`, 0700; the home of the password database,
whatever the environment says): where this person's ledger is, its newest line and when that was written, the prescriptions it was opened for, and those whose ledger is gone. It is written after each line of the ledger
is on the disk, so the ledger is never behind it: one that lacks the anchored line, or lies elsewhere, is not the one that counted
last. Such a ledger gives nothing under the prescriptions named here; one that is valid from after that line opens it, and then counts
what it cannot know as the sessions of a whole week, given just now. The device `simulated`, which nobody wears, has no anchor: demos and tests begin in fresh
data directories all the time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eegloop.kept import replace_file

OLDER = "this prescription is older than the ledger that is gone; one valid from {} or later is needed"
_FIELDS = {"ledger": str, "n": int, "hash": str, "wall_s": int, "courses": list, "gone": list}


class Anchor:
    """One person's anchor, locked for as long as this process lives.

    Parameters
    ----------
    folder : Path
        `eegloop.kept.state_folder("ledgers")`; made if it is not there.
    ledger : Path
        The ledger of this seat.
    course : str
        The prescription (`Rules.course`).

    Raises
    ------
    OSError, ValueError
        If it cannot be read, written or locked, or is damaged.
    """

    def __init__(self, folder: Path, patient: str, ledger: Path, course: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = hashlib.sha256(b"eegloop anchor\0" + patient.encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json"
        self._lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._found = _read(self._path)
        except BlockingIOError:
            os.close(self._lock)
            raise ValueError("another interlock counts this person's dose; end it first") from None
        except BaseException:
            os.close(self._lock)
            raise
        self._ledger = str(ledger.resolve())
        self._course = course
        self._courses = list(self._found["courses"]) if self._found is not None else []
        self._gone = list(self._found["gone"]) if self._found is not None else []

    @property
    def known(self) -> bool:
        """This person has been given something on this machine."""
        return self._found is not None

    def objection(self, digests: Sequence[str], given: bool, valid_from_s: int) -> str:
        """Why this ledger may not be gone on with under this prescription, "" = it may.

        Parameters
        ----------
        digests : sequence of str
            The hash of every line of the ledger.
        given : bool
            The ledger has dose under this prescription.
        valid_from_s : int
            From when this prescription is valid, Unix time, s.
        """
        found = self._found
        if found is None:
            return "it was counted in before, but is not known on this machine" if given else ""
        if self._course in found["gone"]:
            return "the one that counted under this prescription is gone"
        if self._fits(digests):
            return ""
        if self._course not in found["courses"]:
            return "" if valid_from_s >= found["wall_s"] else OLDER.format(found["wall_s"])
        if found["ledger"] != self._ledger:
            return f"this person's dose was counted in {found['ledger']}, not here"
        return f"it lacks line {found['n'] + 1}, which was counted last; it was cut, restored or replaced"

    def begin(self, digests: Sequence[str]) -> bool:
        """This ledger may go on. True if there was another one, whose dose this one cannot know; what that was opened for is over."""
        lost = self._found is not None and not self._fits(digests)
        if lost:
            self._gone, self._courses = [*self._gone, *self._courses], []
        if self._course not in self._courses:
            self._courses.append(self._course)
        return lost

    def _fits(self, digests: Sequence[str]) -> bool:
        found = self._found or {}
        here = found.get("ledger") == self._ledger and 0 <= found["n"] < len(digests)
        return here and digests[found["n"]] == str(found["hash"])

    def move(self, n: int, digest: str) -> None:
        """The ledger's line `n` is on the disk: from now on it must be there."""
        wall_s = max(int(time.time()), self._found["wall_s"] if self._found is not None else 0)
        self._found = {
            "ledger": self._ledger,
            "n": n,
            "hash": digest,
            "wall_s": wall_s,
            "courses": self._courses,
            "gone": self._gone,
        }
        replace_file(self._path, json.dumps(self._found).encode())

    def close(self) -> None:
        os.close(self._lock)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(body, dict) or {key: type(value) for key, value in body.items()} != _FIELDS:
        raise ValueError(f"{path} is damaged")
    return body
