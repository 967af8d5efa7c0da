"""What the judge wants done, in order: by the device, to the daemon, in the log and in the ledger; and why something is not done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

SIMULATED = "simulated"  # the stimulator that nobody wears


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done: the field, its value, the limit and who set it."""

    field: str
    value: object
    limit: object
    set_by: str
    reason: str


Row = tuple[bool, str, object, object, str, str]


def first(*rows: Row) -> Refusal | None:
    """The first row that does not hold, as a refusal. A row: what must hold; field, value, limit, who set it, reason."""
    for row in rows:
        if not row[0]:
            return Refusal(*row[1:])
    return None


class Order(NamedTuple):
    """To the device: "output", "arm", "disarm", "zero" or "fire" (one pulse or burst, now)."""

    do: str
    amplitude_ma: float = 0.0
    frequency_hz: float = 0.0
    lease_ms: int = 0


class Reply(NamedTuple):
    """To the daemon that sent the command."""

    body: dict[str, Any]


class Event(NamedTuple):
    """To the audit log."""

    event: str
    data: dict[str, Any]


class Entry(NamedTuple):
    """To the dose ledger; `number` counts from 1. Once it is on the disk the judge hears `written(number)`."""

    number: int
    event: str
    data: dict[str, Any]
    boot_ns: int
    wall_s: float


class Changed(NamedTuple):
    """The state changed in a way the daemon must hear of now."""


Effect = Order | Reply | Event | Entry | Changed


def plain(value: float) -> float | str:
    """JSON holds no NaN or infinity: those are written as text."""
    return value if math.isfinite(value) else str(value)
