"""Where a chain stood last, kept outside of the data directory: one small file a chain in the user's own state directory (0700).

It names the chain's file, how many lines it had and the last line's hash, and is moved only once a line is on the disk. So a chain that was
cut, restored from a copy, replaced or removed lacks the line that is named here, also when its head was made to fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.audit import Head
from eegloop.kept import replace_file


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a chain: its file, how many lines it had, the hash of the last."""

    chain: str
    count: int
    hash: str


def differs(kept: Kept | str, lines: int, hash_at: Callable[[int], str]) -> str:
    """Why a chain of so many lines is not the one `kept` is of, "" = it is, or nothing is kept.

    `hash_at`: the hash of a line, counted from 0; asked for one line at most.
    """
    if isinstance(kept, str):
        return kept
    if not 0 < kept.count <= lines:
        return f"{kept.count} lines were written, {lines} are here: the file was removed, cut or restored"
    return (
        ""
        if hash_at(kept.count - 1) == kept.hash
        else f"line {kept.count} is another one than was written: the file was replaced"
    )


class ChainAnchor:
    """One chain's anchor.

    Parameters
    ----------
    folder : Path
        `eegloop.kept.state_folder(...)`; made with the first line that is anchored.
    owner : str
        Whose chain it is: a person's code for answers, the chain's own path where it belongs to no person.
    chain : Path
        The chain's file.
    """

    def __init__(self, folder: Path, owner: str, chain: Path) -> None:
        name = hashlib.sha256(b"eegloop answers\0" + owner.encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json"
        self._chain = str(chain.resolve())

    def read(self) -> Kept | str:
        """What is kept of the chain; a text where that cannot be read. Before the chain itself: one that is being written only grows."""
        try:
            found = json.loads(self._path.read_bytes())
            kept = Kept(str(found["chain"]), int(found["count"]), str(found["hash"]))
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError):
            return f"what it is compared with ({self._path}) cannot be read"
        return kept if kept.chain == self._chain else f"they were kept in {kept.chain} before, not here"

    def objection(self, lines: int, hash_at: Callable[[int], str]) -> str:
        """Why a chain of so many lines, which nobody writes now, is not the one that was written last, "" = it is, or none was."""
        return differs(self.read(), lines, hash_at)

    def move(self, head: Head) -> None:
        """The line `head` is on the disk: from now on it must be there. OSError if that cannot be kept."""
        if not head.count:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._path, json.dumps({"chain": self._chain, "count": head.count, "hash": head.hash}).encode())
