"""XDF (LabRecorder) through pyxdf: one EEG stream, its clock segments as gaps, markers from the text streams beside it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from drivers.sources.files import IN_MEMORY_BYTES, NO_UNIT, Gap, Marker, Recording, checked_info, from_array
from drivers.sources.units import channel_kind, microvolts_per
from eegloop.errors import SourceError
from eegloop.signal import StreamInfo

HOLE_S, HOLE_SAMPLES = 0.3, 8  # a distance of stamps larger than both is missing samples


def open_xdf(path: Path, wanted: str | None = None, unit: str | None = None) -> Recording:
    """Read one stream; `wanted` names it where a file holds several EEG streams, `unit` is that of channels that name none."""
    import pyxdf

    size = path.stat().st_size
    if size * 4 > IN_MEMORY_BYTES:
        raise SourceError(f"{path}: {size / 1e9:.1f} GB of XDF is too much to decode at once; convert it to BrainVision first")
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix.lower() == ".xdf" and start != b"XDF:":
        raise SourceError(f"{path}: does not start with 'XDF:'; is it another format under this name?")
    logging.getLogger("pyxdf").setLevel(logging.CRITICAL)
    # pyxdf smooths over holes of up to 500 samples; here a hole is a hole once it is longer than any burst.
    streams, _ = pyxdf.load_xdf(
        path, synchronize_clocks=True, dejitter_timestamps=True, verbose=None,
        jitter_break_threshold_seconds=HOLE_S, jitter_break_threshold_samples=HOLE_SAMPLES,
    )  # fmt: skip
    signals = [s for s in streams if _text(s["info"], "channel_format") != "string" and _rate(s) > 0 and len(s["time_stamps"])]
    matching = [
        s for s in signals if (_text(s["info"], "name") == wanted if wanted else _text(s["info"], "type").upper() == "EEG")
    ]
    if wanted and len(matching) > 1:
        matching = [s for s in matching if _text(s["info"], "type").upper() == "EEG"] or matching
    if len(matching) != 1:
        seen = (
            ", ".join(f"{_text(s['info'], 'name')} ({_text(s['info'], 'type')}, {_rate(s):g} Hz)" for s in signals)
            or "none with samples"
        )
        problem = "several EEG streams" if len(matching) > 1 else f"no stream named {wanted!r}" if wanted else "no EEG stream"
        raise SourceError(f"{path}: holds {problem}; its streams: {seen}; name one with `stream` (replay: --stream)")
    stream = matching[0]
    rate = _rate(stream)
    labels, kinds, per_unit = _channels(path, stream, unit)
    info = checked_info(
        path,
        StreamInfo(
            _text(stream["info"], "name"), _text(stream["info"], "source_id"), rate, labels, kinds, 0.0,
            _deep(stream, "reference", "label") or "n/a",
            _deep(stream, "acquisition", "manufacturer") or _deep(stream, "manufacturer") or "n/a",
            _text(stream["info"], "hostname"),
        ),
    )  # fmt: skip
    stamps = np.asarray(stream["time_stamps"], np.float64)
    series = np.asarray(stream["time_series"])
    if len(series) != len(stamps) or series.ndim != 2:
        raise SourceError(f"{path}: {len(series)} samples but {len(stamps)} time stamps in {info.name!r}; the file is damaged")
    data = np.ascontiguousarray((series * per_unit).astype(np.float32))
    clock_starts = {int(a) for a, _ in stream["info"].get("clock_segments", [])}
    gaps = []
    for first, _ in stream["info"].get("segments", [])[1:]:
        passed = (float(stamps[first]) - float(stamps[first - 1])) * rate
        restart = first in clock_starts or passed < 0
        gaps.append(Gap(int(first), max(round(passed) - 1, 0), restart))
    return Recording(path, "XDF", info, len(data), from_array(data), _markers(streams, stamps), tuple(gaps), None, stamps)


def _markers(streams: list[dict[str, Any]], stamps_s: Any) -> tuple[Marker, ...]:
    """Entries of the text streams, at the sample nearest to their time."""
    markers = []
    for stream in streams:
        if _text(stream["info"], "channel_format") != "string":
            continue
        for stamp, values in zip(stream["time_stamps"], stream["time_series"], strict=False):
            sample = int(np.searchsorted(stamps_s, stamp))
            if 0 < sample < len(stamps_s) and stamp - stamps_s[sample - 1] < stamps_s[sample] - stamp:
                sample -= 1
            if sample < len(stamps_s):
                markers.append(Marker(sample, ",".join(str(v) for v in values), 0, _text(stream["info"], "name")))
    return tuple(sorted(markers, key=lambda m: m.sample))


def _channels(path: Path, stream: dict[str, Any], usual_unit: str | None) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    n = int(_text(stream["info"], "channel_count"))
    described = _nodes(stream, "channels", "channel")
    if len(described) != n:
        described = [{}] * n
    is_eeg = _text(stream["info"], "type").upper() == "EEG"
    labels, kinds, scale = [], [], []
    for i, channel in enumerate(described, start=1):
        label = _text(channel, "label") or f"Ch{i}"
        kind = channel_kind(label, _text(channel, "type"), is_eeg)
        unit = _text(channel, "unit") or usual_unit or ""
        per_unit = microvolts_per(unit)
        if per_unit is None and kind != "misc":
            what = f"unit {unit!r}; eegloop knows V, mV, µV and nV: correct the file's header" if unit else NO_UNIT
            raise SourceError(f"{path}: channel {label} has {what}")
        labels.append(label)
        kinds.append(kind)
        scale.append(1.0 if per_unit is None or kind == "misc" else per_unit)
    return tuple(labels), tuple(kinds), np.array(scale)


def _rate(stream: dict[str, Any]) -> float:
    return float(_text(stream["info"], "nominal_srate") or 0.0)


def _text(node: Any, key: str) -> str:
    """pyxdf wraps every value in a list; absent is empty."""
    value = node.get(key) if isinstance(node, dict) else None
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str) else "" if value is None or isinstance(value, dict) else str(value)


def _nodes(stream: dict[str, Any], *path: str) -> list[Any]:
    nodes: list[Any] = list(stream["info"].get("desc") or [])
    for key in path:
        nodes = [child for node in nodes if isinstance(node, dict) for child in node.get(key) or []]
    return nodes


def _deep(stream: dict[str, Any], *path: str) -> str:
    found = _nodes(stream, *path)
    return str(found[0]) if found and isinstance(found[0], str) else ""
