"""What the doctor (`eegloop check`) found: one thing looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, MEND = "ok", "note", "mend"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    area : str
        "environment", "data", "clock", "ports", "config" or "loop".
    level : str
        "ok", "note" (works, could be better) or "mend" (does not work until it is mended).
    text, do : str
        What was found; what to do about it ("" when nothing).
    """

    area: str
    level: str
    text: str
    do: str = ""
