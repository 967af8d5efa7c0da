"""Electrode resistance of BrainFlow boards that measure it in a mode of its own, instead of EEG. Not a plug-in.

A board measures by sending a current of its own through the electrodes. So this is done by `eegloop contact` alone, while no
interlock can arm (it holds the seat's lock); the source that the service reads never enters this mode. Which command does it
stands in BrainFlow's own examples (`ganglion_resist.py`, `brainbit_resist.py`, `eego_impedances_and_eeg.py`); no board was touched.
BrainFlow's numbers are taken for ohms. A Cyton's lead-off test is not among them: BrainFlow offers no resistance of it.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.sources.brainflow_library import failure, library
from drivers.sources.brainflow_session import BoardSettings, describe, descriptions, opened
from eegloop.errors import SourceError

EVERY_S = 0.5
REFERENCES = ("REF", "GND")


@dataclass(frozen=True, slots=True)
class ContactMode:
    """How a family of boards is told. `streaming`: the commands go while it streams; else each before a stream of its own."""

    on: str
    off: tuple[str, ...]
    streaming: bool = False


# First match counts. The synthetic board has made-up numbers: it is here so that the command can be tried without a headset.
MODES: tuple[tuple[str, ContactMode], ...] = (
    (r"GANGLION_.*|SYNTHETIC_BOARD", ContactMode("z", ("Z",))),
    (r"BRAINBIT_BOARD", ContactMode("CommandStartResist", ("CommandStopResist", "CommandStartSignal"), streaming=True)),
    (r"ANT_NEURO_.*", ContactMode("impedance_mode:1", ("impedance_mode:0",))),
)


def contact_mode(board: str) -> ContactMode | None:
    """How this board measures its electrodes, None if it cannot."""
    return next((mode for pattern, mode in MODES if re.fullmatch(pattern, board)), None)


def contact_rows(said: Mapping[str, Any], electrodes: Sequence[str]) -> dict[int, str]:
    """Whose resistance stands in which row of a preset's data.

    Where the rows are those of the EEG (ANT Neuro), each is its electrode's; else they are the electrodes in their order. What is
    left over are reference and ground; a board with fewer rows than electrodes measures only these.
    """
    rows = list(dict.fromkeys(int(row) for row in said.get("resistance_channels", ())))  # BrainFlow lists one twice
    eeg = [int(row) for row in said.get("eeg_channels", ())]
    own = dict(zip(eeg, electrodes, strict=False))
    if not own.keys() & set(rows):
        own = dict(zip(rows, electrodes, strict=False)) if len(rows) >= len(electrodes) else {}
    rest = [row for row in rows if row not in own]
    return {row: own[row] for row in rows if row in own} | dict(zip(rest, REFERENCES, strict=False))


def measure(settings: BoardSettings, stop: threading.Event) -> Generator[dict[str, float]]:
    """Electrode resistances, kΩ by name, NaN = nothing measured yet; about twice a second until `stop`, then EEG mode again.

    Raises
    ------
    SourceError
        If the board measures none, cannot be opened, refuses, or falls silent; or if it could not be brought back.
    """
    where = f"BrainFlow {settings.board}"
    mode = contact_mode(settings.board)
    if mode is None:
        able = "Ganglion, BrainBit, ANT Neuro"
        raise SourceError(f"{where}: measures no electrode resistance ({able} do); go by the contact score on the page")
    described = describe(settings)
    preset = described.eeg.number
    names = contact_rows(descriptions(described.board)[preset], described.info.channels)
    kohm = dict.fromkeys(names.values(), math.nan)
    silent = 0
    flow = library()
    with opened(flow, settings, described) as board:
        try:
            _tell(flow, board, where, (mode.on,), streams=mode.streaming)
            while not stop.wait(EVERY_S):
                rows = board.get_board_data(preset=preset)
                silent = 0 if rows.shape[1] else silent + 1
                if silent * EVERY_S > max(5.0, settings.lost_after_s):
                    raise SourceError(f"{where}: sends nothing while it measures; check that its light is on")
                for row, name in names.items():
                    measured = [float(value) for value in rows[row] if math.isfinite(value) and value > 0.0]
                    kohm[name] = measured[-1] / 1000 if measured else kohm[name]
                yield dict(kohm)
        except flow.BrainFlowError as error:
            raise failure(where, "does not measure its electrodes", error) from None
        finally:
            _back(flow, board, where, mode)


def _tell(flow: Any, board: Any, where: str, commands: tuple[str, ...], streams: bool) -> None:
    if streams:
        board.start_stream()
    for command in commands:
        board.config_board(command)
    if not streams:
        board.start_stream()


def _back(flow: Any, board: Any, where: str, mode: ContactMode) -> None:
    """To EEG again, whatever happened: a board left in this mode would send resistances as EEG."""
    if not mode.streaming:
        with contextlib.suppress(flow.BrainFlowError):  # where it refused the mode it never streamed
            board.stop_stream()
    try:
        for command in mode.off:
            board.config_board(command)
    except flow.BrainFlowError as error:
        raise SourceError(
            f"{where}: may still measure its electrodes ({error}); switch the headset off and on before a session"
        ) from None
