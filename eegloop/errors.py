"""The errors a person may see.

EegloopError
├── ConfigError        config.yaml: file, line, value found, what is allowed, the key probably meant
├── SourceError        a headset, stream or file that cannot be read
├── RecordingError     a recording that cannot be written or read
├── DeviceError        a stimulator that does not answer as it should
├── InterlockError     the interlock refused or is gone
└── SetupError         this machine or installation
"""

from __future__ import annotations

import errno


class EegloopError(Exception):
    """Base: one clear line for a person, exit code 1."""


class ConfigError(EegloopError):
    """config.yaml cannot be used."""


class SourceError(EegloopError):
    """A source cannot be opened or read."""


class RecordingError(EegloopError):
    """A recording cannot be written or read."""


class DeviceError(EegloopError):
    """A stimulator does not answer as its protocol says."""


class InterlockError(EegloopError):
    """The interlock refused, tripped or is gone."""


class SetupError(EegloopError):
    """This installation cannot run."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHUT = (errno.EACCES, errno.EPERM, errno.EROFS)


def plain(error: OSError | UnicodeDecodeError) -> str:
    """What went wrong with a file, as people say it: "is a directory", "permission denied", "not a text file"."""
    if isinstance(error, UnicodeDecodeError):
        return "not a text file"
    if error.errno == errno.EEXIST:
        return "a file lies where a folder must be"
    return (error.strerror or str(error)).lower()


def remedy(error: OSError) -> str:
    """What a person can do about a file that failed."""
    if error.errno in _FULL:
        return "the disk is full: free some space there"
    if error.errno in _SHUT:
        return "make it readable and writable for you, or name another path"
    return "name another path"
