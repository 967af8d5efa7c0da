"""The rows of a session's tables: their columns, how a row becomes a line, and how a line is read back."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from eegloop.errors import RecordingError
from eegloop.signal import BiomarkerColumn, Biomarkers, Grade
from eegloop.stim import Limit, StimState

NA = "n/a"
BIOMARKERS = ("onset", "biomarker", "channel", "value", "unit", "quality")
REASONS = ("onset", "biomarker", "channel", "quality", "reason")
TICKS = (
    "onset", "tick", "kind", "first_sample", "count", "t0_s", "arrival_s",
    "lost_samples", "segment", "file_sample", "wall_s", "ref",
)  # fmt: skip
EVENTS = ("onset", "duration", "trial_type", "sample", "tick", "t_s", "text", "data")
STIM_FIELDS = tuple(f.name for f in fields(StimState))
STIM = ("onset", "tick", *STIM_FIELDS)
DECISIONS = (
    "onset", "tick", "t_s", "end_sample", "phase", "block", "authority", "controller", "inputs",
    "proposed_ma", "proposed_hz", "hold", "proposal_reason", "limits", "granted_ma", "granted_hz", "sequence",
    "confirmed_ma", "delivered_uc", "latency_ms", "sentence",
)  # fmt: skip
_INVALID = int(Grade.INVALID)
QUALITY = {Grade.GOOD: "good", Grade.SUSPECT: "suspect", Grade.INVALID: "invalid"}


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision, with all that led to it and all that came of it.

    Attributes
    ----------
    tick : int
        The loop tick that decided.
    t_s : float
        LSL seconds of the end of the newest window (`Snapshot.t_s`).
    end_sample : int
        One past the last sample used, on the stream's grid (`Biomarkers.end_sample`).
    inputs : mapping
        What the controller looked at, JSON-ready: "name@channel" to value (None when invalid), and whatever else it saw.
    proposed_ma, proposed_hz, hold, proposal_reason
        The controller's `StimRequest`.
    limits : tuple of Limit
        Every limit that lowered the request.
    granted_ma, granted_hz : float
        The verdict.
    sequence : int
        Sequence number of the command that carried it; 0 = none was sent.
    confirmed_ma : float or None
        What the device said it delivers when the decision was made; None = unknown.
    delivered_uc : int
        Charge delivered in the session so far, µC, as the interlock counts it.
    latency_ms : float or None
        Chunk's arrival to the command at the interlock; None in replay.
    sentence : str
        What people are shown.
    """

    tick: int
    t_s: float
    end_sample: int
    phase: str
    block: str
    authority: str
    controller: str
    inputs: Mapping[str, Any]
    proposed_ma: float
    proposed_hz: float
    hold: bool
    proposal_reason: str
    limits: tuple[Limit, ...]
    granted_ma: float
    granted_hz: float
    sequence: int
    confirmed_ma: float | None
    delivered_uc: int
    latency_ms: float | None
    sentence: str


def header(columns: Sequence[str]) -> bytes:
    return ("\t".join(columns) + "\n").encode()


def text_cell(text: str) -> str:
    """Free text in one cell: no tab or line break (they would be columns and rows), no quote (readers treat it as quoting)."""
    return " ".join(text.replace('"', "'").split()) or NA


def number_cell(value: float | None) -> str:
    """Shortest text that reads back as the same float64; n/a for None, NaN and infinities."""
    return NA if value is None or not math.isfinite(value) else repr(float(value))


def json_cell(value: Any) -> str:
    """One line of ASCII JSON; a number that JSON cannot say becomes null, an object it does not know its text."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None


# 20 states a second and seat: how each field is written is looked up once.
_STIM_VALUES = operator.attrgetter(*STIM_FIELDS)
_CELLS: dict[str, Callable[[Any], str]] = {"str": text_cell, "int": str}
_STIM_CELLS = tuple(_CELLS.get(str(f.type), number_cell) for f in fields(StimState))


def decision_line(onset_s: float, row: DecisionRow) -> str:
    limits = [{"field": k.field, "value": k.value, "unit": k.unit, "set_by": k.set_by} for k in row.limits]
    cells = (
        f"{onset_s:.6f}", str(row.tick), number_cell(row.t_s), str(row.end_sample),
        text_cell(row.phase), text_cell(row.block), text_cell(row.authority), text_cell(row.controller), json_cell(row.inputs),
        number_cell(row.proposed_ma), number_cell(row.proposed_hz), "true" if row.hold else "false",
        text_cell(row.proposal_reason),
        json_cell(limits), number_cell(row.granted_ma), number_cell(row.granted_hz), str(row.sequence),
        number_cell(row.confirmed_ma), str(row.delivered_uc), number_cell(row.latency_ms), text_cell(row.sentence),
    )  # fmt: skip
    return "\t".join(cells) + "\n"


def stim_line(onset_s: float, tick: int, state: StimState) -> str:
    cells = [cell(value) for cell, value in zip(_STIM_CELLS, _STIM_VALUES(state), strict=True)]
    return f"{onset_s:.6f}\t{tick}\t" + "\t".join(cells) + "\n"


def stim_state(cells: Mapping[str, str]) -> StimState:
    """A row of `_stim.tsv` as the state that was written."""
    values: dict[str, Any] = {}
    for f in fields(StimState):
        text = cells[f.name]
        if f.type == "str":
            values[f.name] = "" if text == NA else text
        elif f.type == "int":
            values[f.name] = int(text)
        elif f.type == "float":
            values[f.name] = math.nan if text == NA else float(text)
        else:
            values[f.name] = None if text == NA else float(text)
    return StimState(**values)


class BiomarkerLines:
    """A hop of biomarkers as lines of the long table; what does not change from second to second is made once."""

    def __init__(self, columns: Sequence[BiomarkerColumn]) -> None:
        self._before = ["%s" + f"\t{text_cell(c.name)}\t{text_cell(c.channel)}\t".replace("%", "%%") for c in columns]
        self._after = [[f"\t{text_cell(c.unit)}\t{QUALITY[g]}\n".replace("%", "%%") for g in Grade] for c in columns]
        self._known: tuple[bytes, bytes] = b"", b""
        self._form = ""

    def lines(self, onset_s: float, row: Biomarkers) -> str:
        there = np.isfinite(row.values) & (row.grades != _INVALID)
        key = row.grades.tobytes(), there.tobytes()
        if key != self._known:
            cells = zip(self._before, self._after, row.grades.tolist(), there.tolist(), strict=True)
            self._form = "".join(
                f"{before}{'%.9g' if is_there else NA}{after[grade if is_there else _INVALID]}"
                for before, after, grade, is_there in cells
            )
            self._known = key
        onset = f"{onset_s:.6f}"
        filled: list[str | float] = []
        for value, is_there in zip(row.values.tolist(), there.tolist(), strict=True):
            filled.append(onset)
            if is_there:
                filled.append(value)
        return self._form % tuple(filled)


class ReasonLines:
    """Why values are suspect or not there, as lines of a table: one whenever a value's grade or reason is another than a hop before."""

    def __init__(self, columns: Sequence[BiomarkerColumn]) -> None:
        self._places = [f"\t{text_cell(c.name)}\t{text_cell(c.channel)}\t" for c in columns]
        self._grades = b""
        self._reasons: tuple[str, ...] = ()
        self._now: list[tuple[str, str]] = [("", "")] * len(columns)

    def lines(self, onset_s: float, row: Biomarkers) -> str:
        """Of this hop; empty where nothing has changed."""
        grades = row.grades.tobytes()
        if grades == self._grades and row.reasons == self._reasons:
            return ""
        self._grades, self._reasons = grades, row.reasons
        new = [(QUALITY[Grade(grade)], text_cell(reason)) for grade, reason in zip(row.grades.tolist(), row.reasons, strict=True)]
        changed = [i for i, (now, before) in enumerate(zip(new, self._now, strict=True)) if now != before]
        self._now = new
        return "".join(f"{onset_s:.6f}{self._places[i]}{new[i][0]}\t{new[i][1]}\n" for i in changed)


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a table that may still be growing: a last line without its newline is not there yet.

    Raises
    ------
    RecordingError
        Naming file and line if a whole line does not have its header's columns.
    """
    with path.open("rb") as file:
        columns: list[str] = []
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                return
            try:
                cells = raw[:-1].decode("utf-8").split("\t")
            except UnicodeDecodeError as error:
                raise RecordingError(f"{path}, line {number}: not UTF-8 ({error.reason}); the file was damaged") from None
            if not columns:
                columns = cells
            elif len(cells) != len(columns):
                raise RecordingError(
                    f"{path}, line {number}: {len(cells)} columns instead of {len(columns)}; the file was damaged, "
                    "`eegloop verify` says whether it was changed after closing"
                )
            else:
                yield dict(zip(columns, cells, strict=True))
