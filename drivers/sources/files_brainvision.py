"""BrainVision Core Data Format 1.0, read with a memory map where it is multiplexed float32 or int16, else through MNE.

A file that is still being appended to is read up to its last whole sample.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from drivers.sources.files import Marker, Recording, checked_info
from drivers.sources.units import channel_kind, microvolts_per
from eegloop.errors import SourceError
from eegloop.signal import F32, F64, StreamInfo

_DTYPES: dict[str, Any] = {"IEEE_FLOAT_32": np.dtype("<f4"), "INT_16": np.dtype("<i2")}
HEADER_BYTES = 4 << 20
MARKER_BYTES = 256 << 20


def open_brainvision(path: Path) -> Recording:
    """Open a `.vhdr` (or the `.eeg` beside it)."""
    header = path.with_suffix(".vhdr") if path.suffix.lower() == ".eeg" else path
    if not header.is_file():
        raise SourceError(f"{header}: no such file; a BrainVision recording needs its .vhdr beside the .eeg")
    sections = _sections(header, HEADER_BYTES)
    common = sections.get("common infos")
    if common is None:
        raise SourceError(f"{header}: is no BrainVision header (no [Common Infos]); choose the .vhdr that the recorder wrote")
    try:
        n_channels = int(common["numberofchannels"])
        rate = 1e6 / float(common["samplinginterval"])
    except KeyError as error:
        raise SourceError(f"{header}: [Common Infos] has no {error.args[0]}; the header is damaged") from None
    except (ValueError, ZeroDivisionError):
        raise SourceError(f"{header}: NumberOfChannels or SamplingInterval is no number; the header is damaged") from None
    data_file = _beside(header, common.get("datafile", header.stem + ".eeg"))
    labels, per_unit, unit_ok = _channels(header, sections.get("channel infos", {}), n_channels)
    kinds = _bids_kinds(header, labels) or tuple(
        channel_kind(label) if ok else "misc" for label, ok in zip(labels, unit_ok, strict=True)
    )
    info = checked_info(header, StreamInfo(header.stem.removesuffix("_eeg"), "", rate, labels, kinds))
    dtype = _DTYPES.get(sections.get("binary infos", {}).get("binaryformat", "").upper())
    native = common.get("dataformat", "BINARY").upper() == "BINARY" and common.get("dataorientation", "").upper() == "MULTIPLEXED"
    if not native or dtype is None:
        from drivers.sources.files_mne import open_raw

        return open_raw(header, "brainvision", info)
    if not data_file.is_file():
        raise SourceError(f"{data_file}: no such file; {header.name} names it as its data, keep both in one folder")
    frame = dtype.itemsize * n_channels
    n_samples, rest = divmod(data_file.stat().st_size, frame)
    promised = common.get("datapoints", "")
    if promised.isdigit() and n_samples < int(promised):
        raise SourceError(
            f"{data_file}: holds {n_samples} of the {promised} samples its header promises; copy it again, it is cut short"
        )
    notes = (f"{data_file.name}: its last {rest} bytes are no whole sample and are left out",) if rest else ()
    markers, start_wall_s = _markers(header, common.get("markerfile"), n_samples)
    return Recording(
        header,
        "BrainVision",
        info,
        n_samples,
        _reader(data_file, dtype, n_samples, per_unit),
        markers,
        (),
        start_wall_s,
        None,
        notes,
    )


def _reader(data_file: Path, dtype: np.dtype[Any], n_samples: int, per_unit: F64) -> Callable[[int, int], F32]:
    if n_samples == 0:
        return lambda start, stop: np.empty((0, len(per_unit)), np.float32)
    rows = np.memmap(data_file, dtype, mode="r", shape=(n_samples, len(per_unit)))
    if dtype == np.dtype("<f4") and bool((per_unit == 1.0).all()):
        return lambda start, stop: np.array(rows[start:stop], np.float32)
    return lambda start, stop: (rows[start:stop] * per_unit).astype(np.float32)


def _sections(path: Path, limit: int) -> dict[str, dict[str, str]]:
    """`[Section]` and `Key=Value` lines; keys in lower case. Text in the file's code page."""
    size = path.stat().st_size
    if size > limit:
        raise SourceError(f"{path}: {size / 1e6:.0f} MB is too large for a BrainVision text file; is it the .eeg renamed?")
    raw = path.read_bytes()
    if b"\0" in raw[:4096]:
        raise SourceError(f"{path}: is binary, not a BrainVision text file; choose the .vhdr that the recorder wrote")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            if line[1:-1].lower() == "comment":
                break
            section = sections.setdefault(line[1:-1].lower(), {})
        elif "=" in line and not line.startswith(";"):
            key, value = line.split("=", 1)
            section[key.strip().lower()] = value.strip()
    return sections


def _channels(header: Path, infos: dict[str, str], n_channels: int) -> tuple[tuple[str, ...], F64, list[bool]]:
    """Labels, µV per stored unit (1 for what is no voltage), and whether each is a voltage."""
    labels, scale, known = [], [], []
    for i in range(1, n_channels + 1):
        if f"ch{i}" not in infos:
            raise SourceError(
                f"{header}: channel {i} of {n_channels} is not described under [Channel Infos]; the header is damaged"
            )
        fields = [f.replace(r"\1", ",") for f in infos[f"ch{i}"].split(",")] + ["", "", ""]
        unit = fields[3].strip() or "µV"
        try:
            resolution = float(fields[2]) if fields[2].strip() else 1.0
        except ValueError:
            raise SourceError(f"{header}: resolution {fields[2]!r} of channel {i} is no number; the header is damaged") from None
        per_unit = microvolts_per(unit)
        labels.append(fields[0].strip() or f"Ch{i}")
        scale.append(resolution * (1.0 if per_unit is None else per_unit))
        known.append(per_unit is not None)
    return tuple(labels), np.array(scale), known


def _bids_kinds(header: Path, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    """Channel types from the BIDS `*_channels.tsv` beside the header, if it lists the same channels."""
    table = header.with_name(header.stem.removesuffix("_eeg") + "_channels.tsv")
    if not table.is_file() or table.stat().st_size > HEADER_BYTES:
        return None
    with table.open(encoding="utf-8", newline="") as file:
        types = {row.get("name", ""): (row.get("type") or "").lower() for row in csv.DictReader(file, delimiter="\t")}
    if not all(label in types for label in labels):
        return None
    return tuple(types[label] if types[label] in ("eeg", "eog", "emg") else "misc" for label in labels)


def _markers(header: Path, name: str | None, n_samples: int) -> tuple[tuple[Marker, ...], float | None]:
    if not name:
        return (), None
    path = _beside(header, name)
    if not path.is_file():
        return (), None
    start_wall_s = None
    markers = []
    for entry in _sections(path, MARKER_BYTES).get("marker infos", {}).values():
        fields = [f.replace(r"\1", ",") for f in entry.split(",")] + [""] * 6
        kind, text, position, size, _, date = fields[:6]
        if not position.strip().isdigit():
            continue  # the line being written this moment
        sample = int(position) - 1
        if kind == "New Segment" and date and start_wall_s is None and sample == 0:
            start_wall_s = _wall_time(date.strip())
        if 0 <= sample < n_samples and (kind != "New Segment" or sample > 0):
            markers.append(Marker(sample, text, int(size) if size.strip().isdigit() else 0, kind))
    return tuple(markers), start_wall_s


def _wall_time(stamp: str) -> float | None:
    """YYYYMMDDhhmmssuuuuuu, taken as UTC; None for what is no date."""
    try:
        return datetime.strptime(stamp[:20], "%Y%m%d%H%M%S%f").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _beside(header: Path, name: str) -> Path:
    """A file named in a header; `$b` is the header's own name. It never leaves the header's folder."""
    return header.with_name(Path(name.replace("$b", header.stem).replace("\\", "/")).name or header.name)
