"""EDF, BDF, FIF and unusual BrainVision through MNE-Python, never preloaded; volts become µV."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drivers.sources.files import NO_UNIT, READER_ERRORS, Marker, Recording, checked_info, one_line
from drivers.sources.units import channel_kind, microvolts_per
from eegloop.errors import SourceError
from eegloop.signal import F32, StreamInfo

_FIFF_UNIT_V = 107
_UNITS_OF_MNE = ("\N{MICRO SIGN}V", "\N{GREEK SMALL LETTER MU}V", "uV", "\x83\xcaV", "mV", "V")
_KINDS = {"eeg": "eeg", "eog": "eog", "emg": "emg"}


def open_edf(path: Path, unit: str | None = None) -> Recording:
    """EDF, EDF+ or BDF; `unit` is that of signals that name none. The fixed header is checked first: a damaged one could claim any amount of memory."""
    is_bdf = path.suffix.lower() == ".bdf"
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        signature = head[:8]
        right = signature[:1] == b"\xff" and signature[1:8] == b"BIOSEMI" if is_bdf else signature.strip() == b"0"
        if len(head) < 256 or not right:
            kind = "a BDF" if is_bdf else "an EDF"
            raise SourceError(f"{path}: does not start with {kind} header; is it another format under this name?")
        try:
            header_bytes, records = int(head[184:192]), int(head[236:244])
            record_s, n_signals = float(head[244:252]), int(head[252:256])
            if not (1 <= n_signals <= 1024 and header_bytes == 256 * (n_signals + 1) and record_s >= 0 and records >= -1):
                raise ValueError
            signals = file.read(256 * n_signals)
            samples = [int(signals[216 * n_signals + 8 * i : 216 * n_signals + 8 * i + 8]) for i in range(n_signals)]
            labels = [signals[16 * i : 16 * i + 16].decode("latin-1").strip() for i in range(n_signals)]
            units = [signals[96 * n_signals + 8 * i :][:8].decode("latin-1").strip() for i in range(n_signals)]
            if min(samples) < 0 or max(samples) > 10_000_000:
                raise ValueError
        except (ValueError, OverflowError):
            raise SourceError(f"{path}: its header is damaged; copy it again from where it was recorded") from None
    record_bytes = sum(samples) * (3 if is_bdf else 2)
    held = (size - header_bytes) // record_bytes if record_bytes else 0
    if records >= 0 and held < records:
        raise SourceError(f"{path}: holds {max(held, 0)} of {records} data records; it is cut short, copy it again")
    signal_samples = {n for n, label in zip(samples, labels, strict=True) if "Annotations" not in label and label != "Status"}
    recording = open_raw(path, "bdf" if is_bdf else "edf", scales=_scales(path, labels, units, unit))
    if len(signal_samples) > 1:
        note = f"{path.name}: channels of different rates; the slower ones are resampled to {recording.info.sample_rate_hz:g} Hz"
        recording = replace(recording, notes=(*recording.notes, note))
    return recording


def _scales(path: Path, labels: list[str], units: list[str], usual_unit: str | None) -> list[float]:
    """Of every signal that is no annotation: what one volt as MNE reads it is in µV; 0 where its unit is no voltage.

    MNE knows µV and mV and takes every other unit for volts. A signal without a unit beside others that have a voltage is no EEG;
    where none has one, the file does not say.
    """
    signals = [(label, unit) for label, unit in zip(labels, units, strict=True) if "Annotations" not in label]
    silent = all(microvolts_per(unit) is None for label, unit in signals)
    scales: list[float] = []
    for label, unit in signals:
        per_unit = 1e6 if unit in _UNITS_OF_MNE else microvolts_per(unit)
        if silent and not unit and channel_kind(label) != "misc" and label != "Status":
            if usual_unit is None:
                raise SourceError(f"{path}: channel {label} has {NO_UNIT}")
            per_unit = microvolts_per(usual_unit)
        scales.append(per_unit or 0.0)
    return scales


def open_fif(path: Path) -> Recording:
    return open_raw(path, "fif")


def open_raw(path: Path, kind: str, known: StreamInfo | None = None, scales: Sequence[float] | None = None) -> Recording:
    """Open with MNE's reader `kind`; `known` replaces what is read of the header (BrainVision).

    `scales` are the µV in one unit of each of MNE's channels, 0 where it is no voltage; None = all are volts.
    """
    import mne

    readers: dict[str, Any] = {
        "edf": mne.io.read_raw_edf, "bdf": mne.io.read_raw_bdf,
        "fif": mne.io.read_raw_fif, "brainvision": mne.io.read_raw_brainvision,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = readers[kind](path, preload=False, verbose="error")
    types = raw.get_channel_types()
    picks = [i for i, t in enumerate(types) if t not in ("stim", "syst", "ref_meg")]
    if not picks:
        raise SourceError(f"{path}: holds no signal channels; choose an EEG recording")
    channels = [raw.info["chs"][i] for i in picks]
    labels = tuple(str(raw.ch_names[i]) for i in picks)
    if scales is not None and len(scales) != len(types):
        raise SourceError(f"{path}: its header lists {len(scales)} signals, {len(types)} can be read; copy it again")
    scale = [1e6 if scales is None else scales[i] for i in picks]
    volts = np.array([int(c["unit"]) == _FIFF_UNIT_V and s > 0 for c, s in zip(channels, scale, strict=True)])
    kinds = tuple(
        "misc" if not v else channel_kind(label) if types[i] == "eeg" else _KINDS.get(types[i], "misc")
        for i, label, v in zip(picks, labels, volts, strict=True)
    )
    info = known or checked_info(path, StreamInfo(path.name.split(".")[0], "", float(raw.info["sfreq"]), labels, kinds))
    per_unit = np.where(volts, scale, 1.0)
    n_samples = int(raw.n_times)

    def read(start: int, stop: int) -> F32:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = raw[picks, start:stop][0]
        except READER_ERRORS as error:
            raise SourceError(
                f"{path}: cannot be read at sample {start} ({one_line(error)}); it is damaged, copy it again"
            ) from None
        return np.ascontiguousarray((data.T * per_unit).astype(np.float32))

    if n_samples:
        read(n_samples - 1, n_samples)  # a FIF that is cut short opens, and fails at its end
    rate = info.sample_rate_hz
    markers = tuple(
        Marker(sample, str(a["description"]), round(float(a["duration"]) * rate), "annotation")
        for a in raw.annotations
        if 0
        <= (sample := round((float(a["onset"]) - raw.first_time * (raw.annotations.orig_time is not None)) * rate))
        < n_samples
    )
    measured = raw.info["meas_date"]
    start = measured.timestamp() + float(raw.first_time) if measured is not None else None
    return Recording(path, kind.upper(), info, n_samples, read, markers, (), start)
