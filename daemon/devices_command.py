"""`eegloop devices`: what could be a seat's source or stimulator on this machine, and what each needs in config.yaml."""

from __future__ import annotations

import json
from dataclasses import asdict

from daemon.serial_ports import SerialPort, bluetooth_adapters, serial_ports
from drivers.sources.brainflow import boards
from drivers.sources.brainflow_boards import BoardDescription, PresetDescription
from drivers.sources.brainflow_contact import contact_mode
from drivers.sources.lsl_inlet import StreamSeen, list_streams
from drivers.sources.lsl_network import configure
from eegloop.plugins import kinds


def list_devices(json_output: bool) -> None:
    """Print LSL streams that answer within a second, serial ports, stimulator drivers and every board that BrainFlow knows."""
    configure("site")
    streams, ports, known = list_streams(), serial_ports(), boards()
    if json_output:
        body = {
            "lsl": [asdict(s) for s in streams],
            "serial": [asdict(p) for p in ports],
            "bluetooth": list(bluetooth_adapters()),
            "stimulators": list(kinds("stimulator")),
            "brainflow_boards": [_json(b) for b in known],
        }
        print(json.dumps(body))
        return
    print("EEG streams on the network (source: kind: lsl):")
    print(
        "\n".join(f"  {s}\n      {_lsl_needs(s, streams)}" for s in streams)
        or "  none answers; is the headset on and its program running?"
    )
    print("\nSerial ports (dongles of boards, stimulators):")
    print("\n".join(f"  {port_line(p)}" for p in ports) or "  none; plug the dongle in")
    adapters = ", ".join(bluetooth_adapters()) or "none"
    print(f"\nBluetooth adapters: {adapters}")
    print(f"\nStimulators a seat can have: {', '.join(kinds('stimulator'))}")
    print(f"\nBoards (source: kind: brainflow, board: NAME), {sum(b.eeg is not None for b in known)} with EEG:")
    for board in known:
        if board.eeg is not None or board.run_here:
            contact = "; eegloop contact shows its electrodes' resistance" if contact_mode(board.board) else ""
            print(f"  {board.board:32} {_brings(board)}\n      {board.needs}{contact}")
    rest = [b.board for b in known if b.eeg is None and not b.run_here]
    print(f"  without EEG, so of no use as a source: {', '.join(rest)}")


def _lsl_needs(stream: StreamSeen, streams: list[StreamSeen]) -> str:
    """The keys that single this stream out."""
    keys = {"name": stream.name, "type": stream.type, "source_id": stream.source_id, "host": stream.host}
    chosen: dict[str, str] = {}
    for key, value in keys.items():
        chosen[key] = value
        if key != "name" and sum(all(getattr(s, k) == v for k, v in chosen.items()) for s in streams) == 1:
            return "config.yaml: " + ", ".join(f"{k}: {v}" for k, v in chosen.items())
    return "config.yaml: another stream is alike in name, type, source_id and host; switch one off"


def port_line(port: SerialPort) -> str:
    """One port in words."""
    may = "" if port.may_open else f"; you may not open it (join group {port.group})"
    late = f"; FTDI, delivers every {port.latency_ms} ms" if port.latency_ms is not None else ""
    return f"{port.port}  {port.what}{late}{may}"


def _brings(board: BoardDescription) -> str:
    return "; ".join(_stream(p) for p in board.presets) or "whatever its master board brings"


def _stream(preset: PresetDescription) -> str:
    # A board that could measure hearts or muscles with the same electrodes lists them again as ecg, emg, eog.
    same = ("ecg", "emg", "eog") if preset.kinds.get("eeg") else ()
    parts = [f"{n} {kind}" for kind, n in preset.kinds.items() if kind not in ("other", *same)]
    return f"{', '.join(parts) or 'data'} at {preset.sample_rate_hz:g} Hz"


def _json(board: BoardDescription) -> dict[str, object]:
    return {
        "board": board.board, "needs": board.needs, "required": list(board.required), "has_eeg": board.eeg is not None,
        "run_here": board.run_here, "measures_contact": contact_mode(board.board) is not None,
        "presets": [{**asdict(p), "kinds": dict(p.kinds), "names": list(p.names)} for p in board.presets],
    }  # fmt: skip
