"""BrainFlow's library: loaded once, its logging silenced, its error codes in plain words."""

from __future__ import annotations

import difflib
import importlib.resources
import sys
import threading
from typing import Any

from eegloop.errors import SourceError

ADVICE = {
    "PORT_ALREADY_OPEN_ERROR": "another program holds the port: close it (the OpenBCI GUI, another eegloop)",
    "UNABLE_TO_OPEN_PORT_ERROR": "check that the dongle is plugged in, serial_port names it (eegloop devices lists ports) "
    "and you may use it (on Linux: group dialout)",
    "SER_PORT_ERROR": "unplug the dongle and plug it in again",
    "BOARD_WRITE_ERROR": "switch the headset off and on again",
    "INITIAL_MSG_ERROR": "switch the headset off and on again, and check that its dongle is on the same channel",
    "BOARD_NOT_READY_ERROR": "check that the headset is on, charged, near, and not connected to another program",
    "INVALID_ARGUMENTS_ERROR": "a parameter is missing or wrong: see what this board needs with eegloop devices",
    "ANOTHER_BOARD_IS_CREATED_ERROR": "the same board is already in use by another seat of this config.yaml",
    "SYNC_TIMEOUT_ERROR": "the headset was found but sent nothing in time: move it nearer and try again",
    "UNSUPPORTED_BOARD_ERROR": "BrainFlow does not support this board on this computer",
    "GENERAL_ERROR": "switch the headset off and on again; if it stays, update brainflow",
}


def failure(where: str, what: str, error: Any) -> SourceError:
    name = str(error).split(":", 1)[0]
    return SourceError(f"{where}: {what} ({name}); {ADVICE.get(name, 'check the board and its parameters in config.yaml')}")


def board_id(library: Any, name: str, key: str) -> int:
    try:
        return int(library.BoardIds[name])
    except KeyError:
        names = [b.name for b in library.BoardIds]
        near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SourceError(
            f"{key}: BrainFlow knows no board {name!r}{hint} (eegloop devices lists all {len(names) - 1})"
        ) from None


class _Library:
    """The names we use of BrainFlow, its logging silenced."""

    def __init__(self) -> None:
        from brainflow import board_shim

        if sys.version_info < (3, 12):
            # board_shim asks importlib.resources for its own module, which before 3.12 must be the package;
            # its fallback needs pkg_resources, which setuptools no longer brings.
            board_shim.files = lambda _: importlib.resources.files("brainflow")
        self.BoardShim = board_shim.BoardShim
        self.BoardIds = board_shim.BoardIds
        self.BrainFlowInputParams = board_shim.BrainFlowInputParams
        self.BrainFlowError = board_shim.BrainFlowError
        board_shim.BoardShim.set_log_level(board_shim.LogLevels.LEVEL_OFF.value)


_loaded: list[_Library] = []
_loading = threading.Lock()


def library() -> Any:
    with _loading:
        if not _loaded:
            _loaded.append(_Library())
    return _loaded[0]
