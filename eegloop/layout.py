"""Where everything the service writes lives: one data directory, and one short-named runtime directory for sockets."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under the data directory (0700). Standard library only.

    Sockets live in a runtime directory of their own whose name is derived from the data directory's
    (a socket path holds 107 bytes, a data directory may be deeper), so that `eegloop stop --data D` finds them.
    """

    data: Path

    @classmethod
    def of(cls, data: Path) -> Layout:
        """Of a directory that somebody named; a link that leads to itself is found when it is opened."""
        return cls(Path(os.path.realpath(data)))

    @property
    def recordings(self) -> Path:
        """The BIDS dataset."""
        return self.data / "recordings"

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def audit(self) -> Path:
        return self.data / "audit"

    @property
    def store(self) -> Path:
        return self.data / "store"

    def seat(self, seat: str) -> Path:
        """What belongs to one seat: prescription, interlock log, the simulated stimulator's record."""
        return self.data / "seats" / seat

    def person(self, person: str) -> Path:
        """What is kept of one person: answers, and the clinic's notes on them."""
        return self.data / "persons" / person

    @property
    def run(self) -> Path:
        base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
        name = hashlib.sha256(os.fsencode(os.path.realpath(self.data))).hexdigest()[:12]
        return Path(base) / f"eegloop-{os.getuid()}-{name}"

    def control_socket(self, seat: str) -> Path:
        """Daemon to interlock."""
        return self.run / f"{seat}.control"

    def stop_socket(self, seat: str) -> Path:
        """STOP, from anyone who may open it (0600); served by the interlock itself."""
        return self.run / f"{seat}.stop"

    def stimulator_socket(self, seat: str) -> Path:
        """Interlock to the simulated stimulator."""
        return self.run / f"{seat}.stimulator"

    def field_socket(self, seat: str) -> Path:
        """Simulated stimulator to virtual brain: the current that flows (datagrams)."""
        return self.run / f"{seat}.field"

    @property
    def live_socket(self) -> Path:
        """Daemon to web."""
        return self.run / "live"

    def create(self) -> None:
        """Make the directories 0700.

        Raises
        ------
        PermissionError
            If a directory exists and belongs to somebody else or is open to others.
        """
        for path in (self.data, self.recordings, self.keys, self.audit, self.store, self.run):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                raise PermissionError(f"{path}: must be a directory that belongs to you; move it away and start again")
            if status.st_mode & 0o077:
                path.chmod(0o700)
