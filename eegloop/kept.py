"""Where what must outlive a data directory is kept, and how it reaches the disk. Standard library only: the interlock imports it."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path


def state_folder(name: str) -> Path:
    """The user's own `~/.local/state/eegloop/<name>`; home is that of the password database, which no environment variable moves."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local" / "state" / "eegloop" / name


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in the place of a small file: after a power loss there is the old or the new one, whole. OSError if neither is sure."""
    new = path.with_suffix(".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if os.write(file, content) != len(content):
            raise OSError(errno.ENOSPC, "the disk took only part of it", str(new))
        os.fsync(file)
    finally:
        os.close(file)
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in a folder reach the disk; else a power loss may take a file's name, and what is in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
