"""`eegloop contact`: electrode resistances of a headset that measures them, before a session and never during one."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from drivers.sources.brainflow_contact import measure
from drivers.sources.brainflow_session import BoardSettings
from dsp.contact import IMPEDANCE_KOHM
from eegloop.config import load
from eegloop.errors import SetupError
from eegloop.layout import Layout
from eegloop.single import only_one


def word(kohm: float) -> str:
    """What a resistance means for EEG. It says nothing of a stimulator's own electrodes."""
    good, bad = IMPEDANCE_KOHM
    if math.isnan(kohm):
        return "not measured yet"
    return (
        "good"
        if kohm <= good
        else "poor: press it on, or more paste"
        if kohm < bad
        else "no contact: hair out of the way, press it on"
    )


def contact(config: Path, data: Path, seat: str | None, seconds: float, json_output: bool) -> int:
    """Measure and show for so many seconds; holds the seat's lock, so that no interlock runs and nothing can be armed meanwhile.

    Returns
    -------
    int
        0 if every electrode is good, 1 otherwise.

    Raises
    ------
    SetupError, SourceError
        If there is no such seat, its service runs, or its headset cannot measure.
    """
    seats = load(config).seats
    chosen = next((s for s in seats if seat in (None, s.id)), None)
    if chosen is None:
        raise SetupError(f"seat {seat!r}: config.yaml has {', '.join(s.id for s in seats)}")
    settings = chosen.source.settings
    if not isinstance(settings, BoardSettings):
        raise SetupError(
            f"seat {chosen.id}: a source of kind {chosen.source.kind} measures no electrodes; go by the contact score"
        )
    layout = Layout.of(data)
    layout.create()
    folder = layout.seat(chosen.id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = only_one(folder / "interlock.lock", 0.0)
    if lock < 0:
        raise SetupError(
            f"seat {chosen.id}: its interlock runs; electrodes are measured only while nothing can stimulate. End the service first"
        )
    try:
        last = _show(settings, seconds, json_output)
    finally:
        os.ftruncate(lock, 0)
        os.close(lock)
    return 0 if last and all(kohm <= IMPEDANCE_KOHM[0] for kohm in last.values()) else 1


def _show(settings: BoardSettings, seconds: float, json_output: bool) -> Mapping[str, float]:
    stop, until_s = threading.Event(), time.monotonic() + seconds
    last: Mapping[str, float] = {}
    with contextlib.closing(measure(settings, stop)) as measured:  # also a signal brings the board back
        for last in measured:
            if time.monotonic() >= until_s:
                stop.set()
            if not json_output:
                print("   ".join(f"{name} {_number(kohm)}" for name, kohm in last.items()), flush=True)
    if json_output:
        print(json.dumps({name: None if math.isnan(kohm) else round(kohm, 2) for name, kohm in last.items()}))
    else:
        print("\n".join(f"{name:6}{_number(kohm):>12}  {word(kohm)}" for name, kohm in last.items()))
    return last


def _number(kohm: float) -> str:
    return "- kΩ" if math.isnan(kohm) else f"{kohm:.1f} kΩ"
