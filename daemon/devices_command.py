"""`eegloop devices`: what could be a seat's source or stimulator on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

from serial.tools import list_ports

from drivers.sources.brainflow import board_names
from drivers.sources.lsl_inlet import list_streams


def list_devices(json_output: bool) -> None:
    """Print LSL streams that answer within a second, serial ports, and how many BrainFlow boards can be named."""
    streams = list_streams()
    ports = list_ports.comports()
    if json_output:
        rows = {"lsl": [asdict(s) for s in streams], "serial": [{"port": p.device, "what": p.description} for p in ports]}
        print(json.dumps({**rows, "brainflow_boards": list(board_names())}))
        return
    for stream in streams:
        print(f"LSL     {stream}")
    for port in ports:
        print(f"serial  {port.device}  {port.description}")
    if not streams and not ports:
        print("no LSL stream answers and no serial port is there; is the headset on and its program running?")
    print(f"BrainFlow knows {len(board_names())} boards by name (`eegloop devices --json` lists them)")
