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
