"""What each BrainFlow board is to its user: how it is reached, what config.yaml must name, what it brings beside EEG.

BrainFlow describes channels and rates itself; what a board needs stands only on its page of supported boards, from
which `LINKS` was written down. A board that is not in it is listed with a pointer to that page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PRESETS = {0: "default", 1: "auxiliary", 2: "ancillary"}
RUN_HERE = ("SYNTHETIC_BOARD", "PLAYBACK_FILE_BOARD", "STREAMING_BOARD")
_DONGLE = "USB dongle: serial_port"
_BLED = "BLED112 Bluetooth dongle: serial_port (mac_address or serial_number if several are near)"
_BLE = "Bluetooth: nothing, or mac_address or serial_number (its Bluetooth name) if several are near"
_WIFI_SHIELD = "Wi-Fi shield: ip_port (any free port of this machine); ip_address if it is not found by itself"
_NEUROSITY = "Wi-Fi, same network as this machine: nothing, or serial_number if several are near"
# First match counts.
LINKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"SYNTHETIC_BOARD", "no hardware: nothing", ()),
    (r"PLAYBACK_FILE_BOARD", "a BrainFlow recording: file and master_board (file_aux, file_anc for its other presets)", ("file", "master_board")),
    (r"STREAMING_BOARD", "a board that another program streams: ip_address, ip_port and master_board", ("ip_address", "ip_port", "master_board")),
    (r"CYTON_BOARD|CYTON_DAISY_BOARD", _DONGLE, ("serial_port",)),
    (r"GANGLION_BOARD", "Ganglion dongle: serial_port (mac_address if several are near)", ("serial_port",)),
    (r".*_WIFI_BOARD", _WIFI_SHIELD, ("ip_port",)),
    (r".*_BLED_BOARD", _BLED, ("serial_port",)),
    (r"MUSE_.*|GANGLION_NATIVE_BOARD|BRAINALIVE_BOARD|BRAINBIT_BOARD|CALLIBRI_.*", _BLE, ()),
    (r"UNICORN_BOARD", "Bluetooth, paired with its own dongle: nothing, or serial_number if several are near", ()),
    (r"NOTION_.*|CROWN_BOARD", _NEUROSITY, ()),
    (r"FREEEEG.*|NEUROPAWN_.*|SHIMMER3_BOARD", _DONGLE.replace("USB dongle", "USB or paired serial port"), ("serial_port",)),
    (r"ENOPHONE_BOARD|EXPLORE_.*", "Bluetooth, paired: mac_address", ("mac_address",)),
    (r"ANT_NEURO_.*", "USB: nothing (the maker's library must be installed)", ()),
    (r"GALEA_BOARD|EMOTIBIT_BOARD", "Wi-Fi, same network as this machine: ip_address if it is not found by itself", ()),
)  # fmt: skip
ELSEWHERE = "see BrainFlow's page of supported boards"


@dataclass(frozen=True, slots=True)
class PresetDescription:
    """One of a board's streams. `kinds` counts its channels by kind; `names` are the electrodes' where they are known."""

    preset: int
    sample_rate_hz: float
    kinds: Mapping[str, int]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BoardDescription:
    """A board by name.

    Attributes
    ----------
    needs : str
        In words, what the source in config.yaml must say.
    required : tuple of str
        Those keys that have no default (`channels` where BrainFlow knows no electrode names).
    run_here : bool
        It was really run in the tests; no hardware board was.
    """

    board: str
    needs: str
    required: tuple[str, ...]
    presets: tuple[PresetDescription, ...]
    run_here: bool

    @property
    def eeg(self) -> PresetDescription | None:
        """The stream with EEG, None if it measures none."""
        return next((p for p in self.presets if p.kinds.get("eeg")), None)


def describe_board(board: str, descriptions: Mapping[int, Mapping[str, Any]]) -> BoardDescription:
    """From BrainFlow's own descriptions, one a preset."""
    needs, required = next(((n, r) for pattern, n, r in LINKS if re.fullmatch(pattern, board)), (ELSEWHERE, ()))
    presets = tuple(_preset(number, said) for number, said in sorted(descriptions.items()) if "sampling_rate" in said)
    eeg = next((p for p in presets if p.kinds.get("eeg")), None)
    if eeg is not None and not eeg.names:
        needs += f"; channels (its {eeg.kinds['eeg']} electrode names: BrainFlow knows none)"
        required = (*required, "channels")
    return BoardDescription(board, needs, required, presets, board in RUN_HERE)


def _preset(number: int, said: Mapping[str, Any]) -> PresetDescription:
    kinds = {key.removesuffix("_channels"): len(rows) for key, rows in said.items() if key.endswith("_channels") and rows}
    kinds |= {"battery": 1} if "battery_channel" in said else {}
    names = tuple(n.strip() for n in str(said["eeg_names"]).split(",")) if "eeg_names" in said else ()
    return PresetDescription(number, float(said["sampling_rate"]), kinds, names)
