"""The audit trail's anchors, written on the way: what a `kill -9` leaves is tied together up to a few seconds ago.

Each time, the heads of the other chains (interlocks' logs, answers) are written into the trail where they have moved, and then the trail's own
head outside of the data directory (`daemon/chain_anchor.py`), where a stimulator is worn. `eegloop verify` compares both.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from daemon.audit import AuditTrail, Head, hash_at, read_head
from daemon.chain_anchor import ChainAnchor
from eegloop.kept import state_folder

EVERY_S = 10.0
DIFFERS = "trail_differs"  # the event of a trail that lacks what was anchored of the one before it


def outside(trail: Path, state: Path | None = None) -> ChainAnchor:
    """Where the trail's own head is kept; it is named after its path, so a copy elsewhere is a chain of its own."""
    return ChainAnchor(state if state is not None else state_folder("trails"), str(trail.resolve()), trail)


class TrailAnchors:
    """Writes them. Nothing here is for the loop's thread: it reads and syncs files.

    Parameters
    ----------
    own : ChainAnchor or None
        The trail's own anchor; None in demos and where nothing is worn, which begin in fresh data directories all the time.
    """

    def __init__(self, audit: AuditTrail, own: ChainAnchor | None) -> None:
        self._audit = audit
        self._own = own
        self._seen: dict[Path, Head | None] = {}
        self._one = threading.Lock()  # the last write of a service that ends may meet one that is still under way in a thread

    def begin(self) -> str:
        """Before the first `write`: is this the trail that was written last? What is wrong is in the trail from here on; "" = nothing."""
        if self._own is None:
            return ""
        objection = self._own.objection(self._audit.head.count, partial(hash_at, self._audit.path))
        if objection:
            self._audit.append(DIFFERS, {"text": objection})
        return objection

    def write(self, chains: Iterable[Path]) -> None:
        """Anchor what has moved since the last time. OSError if the trail's own anchor cannot be kept."""
        with self._one:
            for chain in dict.fromkeys(chains):
                head = read_head(chain)
                if head != self._seen.get(chain):
                    self._seen[chain] = head
                    self._audit.anchor(chain)
            if self._own is not None and self._audit.flush():
                self._own.move(self._audit.head)

    def close(self) -> None:
        """The trail has its last line: anchor that, too."""
        if self._own is not None:
            with self._one, contextlib.suppress(OSError):  # said before, if it cannot be kept
                self._own.move(self._audit.head)
