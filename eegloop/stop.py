"""STOP from anywhere: the client of an interlock's stop socket. Standard library only, no daemon needed."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

ADVICE = "take the headset off / switch the stimulator off"


def stop(path: Path, reason: str, timeout_s: float = 1.5) -> dict[str, Any]:
    """Bring one seat's stimulation to zero, and say what its device confirmed.

    Parameters
    ----------
    path : Path
        `Layout.stop_socket(seat)`.
    reason : str
        For the interlock's log: who or what stops; cut at 200 bytes.
    timeout_s : float
        How long to wait for the device's confirmation; the interlock itself gives up after 1 s.

    Returns
    -------
    dict
        `confirmed`: True = the device confirmed zero, False = it did not, None = unknown (no interlock answered);
        `output_ma` (float or None), `after_ms` (int), `advice` ("" when confirmed), `error` ("" or what went wrong).
        Never raises: a STOP that fails says so.
    """
    started = time.monotonic()
    result: dict[str, Any] = {"confirmed": None, "output_ma": None, "advice": ADVICE, "error": ""}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _connect(connection, path, started + timeout_s)
            with contextlib.suppress(OSError):  # answered and closed already: connecting was enough
                connection.sendall(reason.replace("\n", " ").encode("utf-8", "replace")[:199] + b"\n")
            result |= _read_answer(connection, started + timeout_s)
    except (OSError, ValueError) as error:
        result["error"] = f"{path}: {error}"
    result["after_ms"] = round((time.monotonic() - started) * 1000)
    return result


def _connect(connection: socket.socket, path: Path, until: float) -> None:
    """Connect; a full queue of other STOPs is waited for, not given up on."""
    connection.settimeout(max(0.05, until - time.monotonic()))
    while True:
        try:
            return connection.connect(str(path))
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.005)


def _read_answer(connection: socket.socket, until: float) -> dict[str, Any]:
    data = b""
    while True:
        left_s = until - time.monotonic()
        if left_s <= 0.0:
            return {"error": "no confirmation in time"}
        connection.settimeout(left_s)
        part = connection.recv(4096)
        if not part:
            return {"error": "the interlock closed the connection before it confirmed"}
        data += part
        for line in data.split(b"\n")[:-1]:
            answer = json.loads(line)
            if isinstance(answer, dict) and answer.get("type") == "stopped":
                advice = "" if answer.get("confirmed") is True else ADVICE
                return {"confirmed": answer.get("confirmed") is True, "output_ma": answer.get("output_ma"), "advice": advice}
