"""Packets from the daemon, read strictly: exactly the fields of `StimCommand`, each of its type."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from eegloop.stim import StimCommand

MOST_BYTES = 16_384
_WHOLE = ("sequence", "expires_ns", "tick", "tick_ns", "halts", "deadline_ns")
_NUMBER = ("amplitude_ma", "frequency_hz")
_TEXT = {"kind": 20, "session": 64, "nonce": 64, "block": 20, "reason": 400}
_FIELDS = {f.name for f in fields(StimCommand)}


class PacketError(ValueError):
    """A packet that is no command: `field` and `value` say where."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.value = value


def read_command(packet: bytes) -> StimCommand:
    """The command in a packet.

    A STOP is understood however broken the rest of its packet is; a field that stands twice breaks it, since nobody knows which of
    the two is meant. Infinite numbers pass: the judge refuses and trips on them as on any other number above a limit.

    Raises
    ------
    PacketError
        Naming the field that is wrong.
    """
    try:
        body = json.loads(
            packet.decode("utf-8"), object_pairs_hook=lambda pairs: dict(pairs) if len(dict(pairs)) == len(pairs) else None
        )
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or a number of more digits than Python reads
        body = None
    if not isinstance(body, dict):
        if b'"stop"' in packet:
            return StimCommand(kind="stop", reason="stop in a broken packet")
        raise PacketError("packet", packet[:60].decode("ascii", "replace"), "not one JSON object with each field once")
    if body.get("kind") == "stop":
        reason = body.get("reason")
        return StimCommand(kind="stop", reason=reason[:400] if isinstance(reason, str) else "")
    values: dict[str, Any] = {}
    for name, value in body.items():
        if name not in _FIELDS:
            raise PacketError(name[:60], str(value)[:60], "unknown field")
        if name in _TEXT:
            if not isinstance(value, str) or len(value) > _TEXT[name]:
                raise PacketError(name, str(value)[:60], f"must be a text of at most {_TEXT[name]} characters")
        elif isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else (int, float)):
            raise PacketError(name, str(value)[:60], "must be a whole number" if name in _WHOLE else "must be a number")
        elif name in _WHOLE and not 0 <= value < 2**63:
            raise PacketError(name, str(value)[:60], "must be from 0 to 2^63")
        elif name in _NUMBER:
            value = _as_float(name, value)
        values[name] = value
    if "kind" not in values:
        raise PacketError("kind", None, "missing")
    return StimCommand(**values)


def _as_float(name: str, value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise PacketError(name, "a huge number", "must be a number") from None
