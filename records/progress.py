"""One person's sessions side by side: has the newest changed against the person's own earlier ones (dsp/change.py)?

Only sessions that measured the same are compared: task, montage, reference, rate and the line's settings. What cannot be known from
a recording stays with the reader: eyes open or closed, time of day, sleep, medicine.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsp.change import LEAST_SESSIONS, OwnChange, ReliableChange, own_change, reliable_change
from eegloop.errors import RecordingError
from records.session import RecordedSession
from records.session_values import SessionValue, session_values

Key = tuple[str, str, str]  # name, channel, unit


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a comparable cohort says of one biomarker: spread between people and test-retest correlation, and where from."""

    sd: float
    retest_r: float
    source: str


@dataclass(frozen=True, slots=True)
class Change:
    """One biomarker: this session's value, and what it means against the person's own sessions and, if given, a cohort.

    `log`: powers are compared by their natural logarithm, as their statistics ask for; `value` is not.
    """

    now: SessionValue
    own: OwnChange
    log: bool
    reliable: ReliableChange | None = None
    cohort: Cohort | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest (or named) session against the baseline; `left_out` says of each other session why it does not count."""

    session: Path
    baseline: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...]
    changes: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; unknown numbers None."""
        rows = [
            {
                **asdict(c.now),
                **{k: v for k, v in asdict(c.own).items() if k != "verdict"},
                "verdict": c.own.verdict,
                "log": c.log,
                "reliable": None
                if c.reliable is None or c.cohort is None
                else {**asdict(c.reliable), "cohort": asdict(c.cohort)},
            }
            for c in self.changes
        ]
        body = {
            "session": str(self.session),
            "baseline": [str(path) for path in self.baseline],
            "left_out": [{"session": str(path), "reason": reason} for path, reason in self.left_out],
            "changes": rows,
        }
        known: dict[str, Any] = _plain(body)
        return known


def progress(header: Path, others: Iterable[Path], cohort: dict[tuple[str, str], Cohort] | None = None) -> Progress:
    """Compare a session with others of the same person.

    Raises
    ------
    RecordingError
        If the session itself cannot be read; another one that cannot is left out and named.
    """
    newest = RecordedSession(header)
    values = session_values(newest)
    counted: list[tuple[Path, dict[Key, float]]] = []
    left_out: list[tuple[Path, str]] = []
    for path in others:
        try:
            other = RecordedSession(path)
            reason = _difference(newest, other)
            if not reason:
                counted.append((path, {_key(v): v.value for v in session_values(other)}))
        except (RecordingError, OSError) as error:
            reason = str(error)
        if reason:
            left_out.append((path, reason))
    changes = []
    for value in values:
        log = value.unit == "uV2"
        before = _scaled(np.array([known.get(_key(value), math.nan) for _, known in counted]), log)
        now = float(_scaled(np.array([value.value]), log)[0])
        known_of = (cohort or {}).get((value.name, value.channel)) or (cohort or {}).get((value.name, "any"))
        reliable = None if known_of is None else reliable_change(before, np.array([now]), known_of.sd, known_of.retest_r)
        changes.append(Change(value, own_change(before, now), log, reliable, known_of))
    return Progress(header, tuple(path for path, _ in counted), tuple(left_out), tuple(changes))


def sessions_of(root: Path, person: str) -> list[Path]:
    """Headers of a person's sessions under a recordings folder, oldest first (sessions are numbered as they begin)."""
    return sorted(path for path in (root / f"sub-{person}").glob("ses-*/eeg/*_eeg.vhdr") if RecordedSession.is_session(path))


def read_cohort(path: Path) -> dict[tuple[str, str], Cohort]:
    """A table with columns biomarker, channel ("any" = every one), sd, retest_r, source, tab-separated; of powers, sd is that of ln.

    Raises
    ------
    RecordingError
        Naming the line that cannot be used.
    """
    found: dict[tuple[str, str], Cohort] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecordingError(f"{path}: is no text; name a tab-separated table") from None
    with io.StringIO(text, newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t"), start=2):
            try:
                one = Cohort(float(row["sd"]), float(row["retest_r"]), str(row["source"]).strip())
                ok = math.isfinite(one.sd) and one.sd > 0 and 0 <= one.retest_r < 1 and one.source != ""
                name, channel = str(row["biomarker"]), str(row["channel"])
            except (KeyError, TypeError, ValueError):
                ok = False
            if not ok:
                raise RecordingError(
                    f"{path}, line {number}: needs biomarker, channel, sd above 0, retest_r from 0 to below 1, and a source"
                )
            found[name, channel] = one
    return found


def _key(value: SessionValue) -> Key:
    return value.name, value.channel, value.unit


def _scaled(values: Any, log: bool) -> Any:
    if not log:
        return values
    return np.log(np.where(values > 0, values, np.nan))


def _difference(one: RecordedSession, other: RecordedSession) -> str:
    """Why two sessions cannot be compared, "" if they can."""
    here, there = one.info, other.info
    for what, a, b in (
        ("task", one.entities.task, other.entities.task),
        ("montage", (here.channels, here.kinds), (there.channels, there.kinds)),
        ("reference", here.reference, there.reference),
        ("sample rate", here.sample_rate_hz, there.sample_rate_hz),
        ("line setting", one.setup.get("line"), other.setup.get("line")),
    ):
        if a != b:
            return f"another {what}"
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


TOO_FEW = f"too few sessions (needs {LEAST_SESSIONS} earlier ones)"
