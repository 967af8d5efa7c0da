"""Text recordings: the OpenBCI GUI's raw files and Muse CSV (muse-lsl). Parsed in blocks, whole decimal precision."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from drivers.sources.files import Gap, Marker, Recording, checked_info, counter_gaps, from_array, one_line
from drivers.sources.units import channel_kind
from eegloop.errors import SourceError
from eegloop.signal import F64, StreamInfo

TEXT_BYTES = 1 << 30
LINES = 50_000  # parsed at a time
LINE_CHARS = 10_000
MUSE_HZ = 256.0
# The GUI's own default montage; a file does not say where the electrodes were.
_CYTON = ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2")
_DAISY = (*_CYTON, "F7", "F8", "F3", "F4", "T7", "T8", "P3", "P4")


def open_text(path: Path) -> Recording:
    """Tell the two formats apart by their first line."""
    size = path.stat().st_size
    if size > TEXT_BYTES:
        raise SourceError(f"{path}: {size / 1e9:.1f} GB of text is too much; convert it to BrainVision or EDF first")
    with path.open("rb") as file:
        first = file.readline(LINE_CHARS)
    if b"\0" in first or not first.isascii():
        raise SourceError(f"{path}: is no text recording; known are the OpenBCI GUI's .txt and muse-lsl's .csv")
    start = first.decode().strip().lower()
    if start.startswith("%openbci"):
        return _open_openbci(path)
    if start.split(",")[0].strip() in ("timestamps", "timestamp") and start.count(",") >= 1:
        return _open_muse(path)
    raise SourceError(
        f"{path}: its first line is neither the OpenBCI GUI's ('%OpenBCI ...') nor muse-lsl's ('timestamps,TP9,...')"
    )


def _open_openbci(path: Path) -> Recording:
    facts: dict[str, str] = {}
    skip, names = 0, []
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if not line.startswith("%") and not line.lstrip().lower().startswith("sample index"):
                break
            skip += 1
            if line.startswith("%") and "=" in line:
                key, value = line[1:].split("=", 1)
                facts[key.strip().lower()] = value.strip()
            elif not line.startswith("%"):
                names = [n.strip() for n in line.split(",")]
    rate_text = re.match(r"[\d.]+", facts.get("sample rate", ""))
    names = names or _openbci_columns(path, skip, facts.get("number of channels", ""))
    if rate_text is None or not names:
        raise SourceError(f"{path}: has no sample rate or no column names; only files of the OpenBCI GUI can be read")
    exg = [i for i, n in enumerate(names) if re.match(r"(EXG|EEG) Channel \d+", n)]
    if not exg:
        raise SourceError(f"{path}: has no 'EXG Channel' columns; choose the GUI's raw recording")
    rate = float(rate_text[0])
    stamp = names.index("Timestamp") if "Timestamp" in names else None
    marker = names.index("Marker Channel") if "Marker Channel" in names else None
    columns = [0, *exg, *([stamp] if stamp is not None else []), *([marker] if marker is not None else [])]
    table, notes = _table(path, skip, columns, len(names))
    board = facts.get("board", "Cyton" if len(exg) in (8, 16) else "")  # the GUI before 5 does not name it
    labels = _openbci_labels(board, len(exg))
    if "Cyton" in board:
        notes += (f"{path.name}: the file names no electrodes; the OpenBCI default montage {', '.join(labels)} is assumed",)
    info = checked_info(
        path,
        StreamInfo(path.stem, "", rate, labels, ("eeg",) * len(exg), 187_500.0 if "Cyton" in board else 0.0, "n/a", "OpenBCI"),
    )
    at = 1 + len(exg)
    stamps = None
    if stamp is not None:
        stamps = table[:, at].copy()
        if len(stamps) and stamps[0] > 1e11:  # the GUI 5 writes milliseconds
            stamps /= 1e3
        at += 1
    markers = _changes(table[:, at]) if marker is not None else ()
    data = np.ascontiguousarray(table[:, 1 : 1 + len(exg)], dtype=np.float32)
    gaps = counter_gaps(table[:, 0].astype(np.int64), stamps, rate)
    start = float(stamps[0]) if stamps is not None and len(stamps) and stamps[0] > 1e8 else _start_of_name(path)
    return Recording(path, "OpenBCI text", info, len(data), from_array(data), markers, gaps, start, stamps, notes)


def _openbci_columns(path: Path, skip: int, n_channels: str) -> list[str]:
    """What the columns of a file of the GUI before version 5 are, which does not name them: index, channels, more, and a stamp (version 4)."""
    with path.open(encoding="ascii", errors="replace") as file:
        for _ in range(skip):
            file.readline(LINE_CHARS)
        cells = file.readline(LINE_CHARS).split(",")
    n = int(n_channels) if n_channels.isdecimal() else 0
    if not 0 < n < len(cells):
        return []
    names = ["Sample Index", *(f"EXG Channel {i}" for i in range(n)), *["Other"] * (len(cells) - n - 1)]
    if re.fullmatch(r"\s*\d{13}\s*", cells[-1]):  # milliseconds; else it is the time of day, or acceleration
        names[-1] = "Timestamp"
    return names


def _openbci_labels(board: str, n: int) -> tuple[str, ...]:
    if "Cyton" in board and n in (8, 16):
        return _DAISY[:n]
    return tuple(f"EXG{i}" for i in range(1, n + 1))


def _open_muse(path: Path) -> Recording:
    with path.open(encoding="ascii", errors="replace") as file:
        names = [n.strip() for n in file.readline().split(",")]
    signals = [i for i, n in enumerate(names) if i and not n.lower().startswith(("marker", "timestamp"))]
    marker = next((i for i, n in enumerate(names) if n.lower().startswith("marker")), None)
    if not signals:
        raise SourceError(f"{path}: has no channel columns beside its time stamps; choose the raw recording")
    table, notes = _table(path, 1, [0, *signals, *([marker] if marker is not None else [])], len(names))
    stamps = table[:, 0].copy()
    labels = tuple(names[i] for i in signals)
    rate = MUSE_HZ
    if len(stamps) > 1:
        period = float(np.median(np.diff(stamps)))
        if not 0.9 / MUSE_HZ < period < 1.1 / MUSE_HZ:
            measured = 1.0 / period if period > 0 else 0.0
            raise SourceError(f"{path}: its stamps say {measured:.1f} Hz, a Muse has {MUSE_HZ:g}; is this muse-lsl's EEG file?")
    info = checked_info(
        path, StreamInfo(path.stem, "", rate, labels, tuple(channel_kind(n) for n in labels), 1000.0, "Fpz", "Muse")
    )
    data = np.ascontiguousarray(table[:, 1 : 1 + len(signals)], dtype=np.float32)
    markers = _changes(table[:, -1]) if marker is not None else ()
    start = float(stamps[0]) if len(stamps) and stamps[0] > 1e8 else None
    return Recording(path, "Muse CSV", info, len(data), from_array(data), markers, stamp_gaps(stamps, rate), start, stamps, notes)


def stamp_gaps(stamps_s: F64, rate_hz: float) -> tuple[Gap, ...]:
    """Where even stamps leave out samples: a step of more than 1.75 periods; a step backwards is a restart."""
    steps = np.diff(stamps_s) * rate_hz
    gaps = []
    for i in np.flatnonzero((steps > 1.75) | (steps < -1.0)).tolist():
        gaps.append(Gap(i + 1, max(round(float(steps[i])) - 1, 0), bool(steps[i] < 0)))
    return tuple(gaps)


def _changes(column: F64) -> tuple[Marker, ...]:
    """A marker wherever the column becomes another nonzero value."""
    before = np.concatenate(([0.0], column[:-1]))
    return tuple(
        Marker(int(i), f"{column[i]:g}") for i in np.flatnonzero((column != before) & (column != 0) & np.isfinite(column))
    )


def _table(path: Path, skip: int, columns: Sequence[int], n_columns: int) -> tuple[F64, tuple[str, ...]]:
    """The numeric columns of a text file as float64; an incomplete last line is left out and noted."""
    parts: list[F64] = []
    notes: tuple[str, ...] = ()
    line_number = skip
    for lines, is_last in _line_blocks(path, skip):
        if is_last and lines and (lines[-1].count(",") < n_columns - 1 or not lines[-1].endswith("\n")):
            complete = lines[-1].count(",") >= n_columns - 1 and _parses(lines[-1], columns)
            if not complete:
                lines.pop()
                notes = (f"{path.name}: its last line is incomplete and is left out",)
        if lines:
            try:
                parts.append(np.loadtxt(io.StringIO("".join(lines)), delimiter=",", usecols=columns, comments=None, ndmin=2))
            except ValueError:
                bad = next((i for i, line in enumerate(lines) if not _parses(line, columns)), 0)
                raise SourceError(
                    f"{path}:{line_number + bad + 1}: this line does not hold the numbers it should; delete or repair it"
                ) from None
            line_number += len(lines)
    if not parts:
        raise SourceError(f"{path}: holds no samples below its header; choose another recording")
    return np.concatenate(parts), notes


def _line_blocks(path: Path, skip: int) -> Iterator[tuple[list[str], bool]]:
    """Lines after the header, many at a time, with a flag on the last block; blank lines left out."""
    with path.open(encoding="ascii", errors="replace", newline="") as file:
        for _ in range(skip):
            file.readline(LINE_CHARS)
        block: list[str] = []
        while line := file.readline(LINE_CHARS):
            if len(block) >= LINES:
                yield block, False
                block = []
            if line.strip():
                block.append(line)
        yield block, True


def _parses(line: str, columns: Sequence[int]) -> bool:
    cells = line.split(",")
    try:
        for i in columns:
            float(cells[i])
    except (ValueError, IndexError):
        return False
    return True


def _start_of_name(path: Path) -> float | None:
    """The GUI's file names carry the local start time: OpenBCI-RAW-2024-05-06_07-08-09.txt."""
    found = re.search(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)", path.name)
    try:
        return datetime.strptime(found[1], "%Y-%m-%d_%H-%M-%S").astimezone().timestamp() if found else None
    except ValueError as error:
        raise SourceError(f"{path}: the date in its name cannot be read ({one_line(error)}); rename it") from None
