"""The audit trail's anchors, written on the way: what a `kill -9` leaves is tied together up to a few seconds ago.

Each time, the heads of the other chains (interlocks' logs, answers) are written into the trail where they have moved, and then the trail's own
head outside of the data directory (`daemon/chain_anchor.py`), where a stimulator is worn. `eegloop verify` compares both. What fails stands as
an alarm on every seat until it is mended, and stops nobody: the trail itself is written all the same (when it is not, nothing is delivered).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from daemon.audit import AuditTrail, Head, hash_at, lines_of, read_head
from daemon.chain_anchor import ChainAnchor
from eegloop.errors import SetupError
from eegloop.kept import state_folder
from eegloop.ports import Clock

EVERY_S = 10.0
SEEN = "trail_seen"  # the event of somebody who has looked at what differed: `eegloop verify DATA --seen NAME`
DIFFERS = "trail_differs"  # the event of a trail that lacks what was anchored of the one before it
FAILS, WORKS = (
    "trail_anchor_fails",
    "trail_anchor_works",
)  # the events of an anchor that cannot be kept, and of one that can again


def outside(trail: Path, state: Path | None = None) -> ChainAnchor:
    """Where the trail's own head is kept; it is named after its path, so a copy elsewhere is a chain of its own."""
    return ChainAnchor(state if state is not None else state_folder("trails"), str(trail.resolve()), trail)


def standing(trail: Path) -> str:
    """What the trail says of the one before it, and nobody has looked at yet; "" = nothing."""
    found = ""
    for line in lines_of(trail, DIFFERS, SEEN):
        found = str(line["data"].get("text", "")) if line["event"] == DIFFERS else ""
    return found


def seen(trail: Path, who: str, clock: Clock) -> str:
    """Somebody has looked at what differs and says so in the trail itself; what it was.

    Raises
    ------
    SetupError
        If nothing differs, nobody is named, or it cannot be written; RecordingError if the service is running.
    """
    if not who.strip():
        raise SetupError("--seen: needs the name of whoever has looked at it")
    found = standing(trail) if trail.exists() else ""
    if not found:
        raise SetupError(f"{trail}: nothing stands in it that somebody would have to look at")
    audit = AuditTrail(trail, clock)
    audit.append(SEEN, {"who": who.strip(), "text": found})
    if not audit.close(5.0):
        raise SetupError(f"{trail}: cannot be written ({audit.message}); see to that, and say it again")
    return found


class TrailAnchors:
    """Writes them. Nothing here is for the loop's thread: it reads and syncs files.

    Parameters
    ----------
    own : ChainAnchor or None
        The trail's own anchor; None in demos and where nothing is worn, which begin in fresh data directories all the time.

    Attributes
    ----------
    differs : str
        Why the trail is not the one that was written last, "" = it is. What was lost stays lost: so it is over every start of the
        service, until somebody has looked at it and said so by name (`seen`).
    failing : str
        Why the trail's own anchor cannot be kept, with the file's path, "" = it is kept. Each `write` tries again.
    """

    def __init__(self, audit: AuditTrail, own: ChainAnchor | None) -> None:
        self._audit = audit
        self._own = own
        self._seen: dict[Path, Head | None] = {}
        self.differs = self.failing = ""
        self._one = threading.Lock()  # the last write of a service that ends may meet one that is still under way in a thread

    def begin(self) -> str:
        """Before the first `write`: is this the trail that was written last? What is wrong is in the trail from here on; "" = nothing."""
        if self._own is None:
            return ""
        self.differs = self._own.objection(self._audit.head.count, partial(hash_at, self._audit.path))
        if self.differs:
            self._audit.append(DIFFERS, {"text": self.differs})
        else:
            self.differs = standing(self._audit.path)
        return self.differs

    def write(self, chains: Iterable[Path]) -> None:
        """Anchor what has moved since the last time; `failing` says whether the trail's own anchor could be kept."""
        with self._one:
            for chain in dict.fromkeys(chains):
                head = read_head(chain)
                if head != self._seen.get(chain):
                    self._seen[chain] = head
                    self._audit.anchor(chain)
            if self._audit.flush():
                self._move()

    def close(self) -> None:
        """The trail has its last line: anchor that, too."""
        with self._one:
            self._move()

    def _move(self) -> None:
        if self._own is None:
            return
        before = self.failing
        try:
            self._own.move(self._audit.head)
            self.failing = ""
        except OSError as error:
            self.failing = f"{error.filename}: {error.strerror}"
        if self.failing != before:
            self._audit.append(FAILS if self.failing else WORKS, {"text": self.failing})
