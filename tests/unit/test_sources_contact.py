"""Electrode resistance: whose row is whose on every board BrainFlow describes, the order of commands, and never beside a service."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from daemon.contact_command import contact, word
from drivers.sources import brainflow_contact
from drivers.sources.brainflow import board_names
from drivers.sources.brainflow_contact import ContactMode, contact_mode, contact_rows, measure
from drivers.sources.brainflow_library import library
from drivers.sources.brainflow_session import BoardSettings, describe, descriptions
from eegloop.config import load
from eegloop.errors import SetupError, SourceError
from eegloop.layout import Layout
from eegloop.single import only_one

ROOT = Path(__file__).resolve().parents[2]
MEASURING = [
    b for b in board_names() if any(d.get("resistance_channels") and d.get("eeg_channels") for d in descriptions(b).values())
]


def settings(board: str) -> BoardSettings:
    said = next(d for d in descriptions(board).values() if d.get("eeg_channels"))
    channels = None if "eeg_names" in said else tuple(f"E{i}" for i in range(1, len(said["eeg_channels"]) + 1))
    return BoardSettings(board=board, channels=channels)


@pytest.mark.parametrize("board", MEASURING)
def test_every_board_that_lists_resistance_has_a_mode_and_each_row_one_owner(board: str) -> None:
    described = describe(settings(board))
    said = descriptions(board)[described.eeg.number]
    names = contact_rows(said, described.info.channels)
    assert contact_mode(board) is not None and set(names) == set(said["resistance_channels"])
    assert len(set(names.values())) == len(names)
    shared = set(said["resistance_channels"]) & set(said["eeg_channels"])
    if shared:
        assert {names[row]: row for row in shared} == dict(zip(described.info.channels, said["eeg_channels"], strict=True))
    elif len(names) >= len(described.info.channels):
        assert tuple(names.values())[: len(described.info.channels)] == described.info.channels
    assert set(names.values()) - set(described.info.channels) <= {"REF", "GND"}
    for side in described.sides:
        own = descriptions(board)[side.number].get("eeg_channels", [])
        assert not set(side.resistance) & set(own), "microvolts would be taken for ohms"


def test_which_boards_measure() -> None:
    assert {"GANGLION_BOARD", "GANGLION_NATIVE_BOARD", "GANGLION_WIFI_BOARD", "BRAINBIT_BOARD", "ANT_NEURO_EE_411_BOARD"} <= set(
        MEASURING
    )
    for board in set(board_names()) - set(MEASURING) - {"ANT_NEURO_EE_410_BOARD"}:
        assert contact_mode(board) is None, board
    with pytest.raises(SourceError, match="measures no electrode resistance"):
        next(measure(settings("CYTON_BOARD"), threading.Event()))


class Spy:
    """BrainFlow's own synthetic board, with everything that it is told written down; `ohm` instead of its made-up numbers."""

    said: list[str]
    ohm: float
    refuses: str

    def __init__(self, *arguments: Any) -> None:
        self._board = library().BoardShim(-1, library().BrainFlowInputParams())

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if name == "config_board":
                Spy.said.append(arguments[0])
                if arguments[0] == Spy.refuses:
                    raise library().BrainFlowError("refused", 12)
            elif name != "get_board_data":
                Spy.said.append(name)
            found = getattr(self._board, name)(*arguments, **keywords)
            return np.full_like(found, Spy.ohm) if name == "get_board_data" else found

        return call


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Spy]]:
    Spy.said, Spy.ohm, Spy.refuses = [], 12_500.0, ""
    monkeypatch.setattr(library(), "BoardShim", _shim(library().BoardShim))
    monkeypatch.setattr(brainflow_contact, "EVERY_S", 0.05)
    yield Spy


def _shim(real: Any) -> Any:
    class Shim(Spy):
        get_board_presets = staticmethod(real.get_board_presets)
        get_board_descr = staticmethod(real.get_board_descr)

        def __init__(self, *arguments: Any) -> None:
            self._board = real(-1, library().BrainFlowInputParams())

    return Shim


@pytest.mark.parametrize(
    ("board", "order"),
    [
        ("GANGLION_NATIVE_BOARD", "prepare_session z start_stream stop_stream Z stop_stream release_session"),
        (
            "ANT_NEURO_EE_411_BOARD",
            "prepare_session impedance_mode:1 start_stream stop_stream impedance_mode:0 stop_stream release_session",
        ),
        (
            "BRAINBIT_BOARD",
            "prepare_session start_stream CommandStartResist CommandStopResist CommandStartSignal stop_stream release_session",
        ),
    ],
)
def test_commands_come_in_the_order_of_brainflows_own_examples(spy: type[Spy], board: str, order: str) -> None:
    stop = threading.Event()
    for kohm in measure(settings(board), stop):
        if all(value == 12.5 for value in kohm.values()):
            stop.set()
    assert spy.said == order.split()
    assert set(kohm.values()) == {12.5} and len(kohm) in (4, 5, 10)


@pytest.mark.parametrize("ends", ["closed", "refused"])
def test_however_it_ends_the_board_is_brought_back(spy: type[Spy], ends: str) -> None:
    measured = measure(settings("GANGLION_NATIVE_BOARD"), threading.Event())
    if ends == "refused":
        spy.refuses = "z"
        with pytest.raises(SourceError, match="does not measure its electrodes"):
            next(measured)
    else:
        next(measured)
        measured.close()
    assert "Z" in spy.said and spy.said[-1] == "release_session"


def test_a_board_that_cannot_be_brought_back_is_said(spy: type[Spy]) -> None:
    spy.refuses = "Z"
    stop = threading.Event()
    measured = measure(settings("GANGLION_NATIVE_BOARD"), stop)
    next(measured)
    stop.set()
    with pytest.raises(SourceError, match="switch the headset off and on before a session"):
        next(measured)


def test_the_synthetic_board_really_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brainflow_contact, "EVERY_S", 0.1)
    stop = threading.Event()
    for kohm in measure(settings("SYNTHETIC_BOARD"), stop):
        if not any(math.isnan(value) for value in kohm.values()):
            stop.set()
    assert set(kohm) == {"REF", "GND"} and all(0.0 < value < 5.0 for value in kohm.values())


def test_words() -> None:
    assert [word(k).split(":")[0] for k in (math.nan, 1.0, 50.0, 50.1, 199.0, 200.0, math.inf)] == [
        "not measured yet", "good", "good", "poor", "poor", "no contact", "no contact"
    ]  # fmt: skip
    assert contact_mode("BRAINBIT_BOARD") == ContactMode("CommandStartResist", ("CommandStopResist", "CommandStartSignal"), True)
    assert contact_rows({"resistance_channels": [7, 8], "eeg_channels": [1, 2, 3]}, ("A", "B", "C")) == {7: "REF", 8: "GND"}


def write(folder: Path, **source: Any) -> Path:
    """The configuration this installation brings, with another source."""
    body = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    body["seats"][0]["source"] = source
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


def test_the_command_shows_kohm_and_holds_the_seats_lock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brainflow_contact, "EVERY_S", 0.1)
    config = write(tmp_path, kind="brainflow", board="SYNTHETIC_BOARD")
    assert contact(config, tmp_path / "data", None, 0.5, json_output=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"REF", "GND"} and all(0.0 < kohm < 5.0 for kohm in said.values())
    assert contact(config, tmp_path / "data", None, 0.3, json_output=False) == 0
    assert "REF" in (shown := capsys.readouterr().out) and "kΩ  good" in shown


def test_never_while_the_seats_interlock_runs(tmp_path: Path) -> None:
    config = write(tmp_path, kind="brainflow", board="SYNTHETIC_BOARD")
    seat = load(config).seats[0].id
    folder = Layout(tmp_path / "data").seat(seat)
    folder.mkdir(parents=True)
    lock = only_one(folder / "interlock.lock", 0.0)
    assert lock >= 0
    with pytest.raises(SetupError, match="only while nothing can stimulate"):
        contact(config, tmp_path / "data", None, 1.0, json_output=True)
    with pytest.raises(SetupError, match="has seat1"):
        contact(config, tmp_path / "data", "nobody", 1.0, json_output=True)
    with pytest.raises(SetupError, match="measures no electrodes"):
        contact(write(tmp_path, kind="lsl", name="x"), tmp_path / "data", None, 1.0, json_output=True)
