"""Where a chain stood last, kept outside of the data directory: one small file a chain in the user's own state directory (0700).

It names the chain's file, how many lines it had and the last line's hash, and is moved only once a line is on the disk. So a chain that was
cut, restored from a copy, replaced or removed lacks the line that is named here, also when its head was made to fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from daemon.audit import Head
from eegloop.kept import replace_file


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

    def objection(self, lines: Callable[[], int], hash_at: Callable[[int], str]) -> str:
        """Why a chain of so many lines is not the one that was written last, "" = it is, or none was.

        `lines`: how many there are, asked once what is kept was read (a chain that is being written may be longer by then, never
        shorter). `hash_at`: the hash of a line, counted from 0; asked for one line at most.
        """
        try:
            found = json.loads(self._path.read_bytes())
            chain, count, digest = str(found["chain"]), int(found["count"]), str(found["hash"])
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError):
            return f"what it is compared with ({self._path}) cannot be read"
        if chain != self._chain:
            return f"they were kept in {chain} before, not here"
        if not 0 < count <= (here := lines()):
            return f"{count} lines were written, {here} are here: the file was removed, cut or restored"
        return "" if hash_at(count - 1) == digest else f"line {count} is another one than was written: the file was replaced"

    def move(self, head: Head) -> None:
        """The line `head` is on the disk: from now on it must be there. OSError if that cannot be kept."""
        if not head.count:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._path, json.dumps({"chain": self._chain, "count": head.count, "hash": head.hash}).encode())
