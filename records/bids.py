"""The BIDS side of a recording: names, the dataset's own files, and the sidecars that stand before the first sample."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eegloop.errors import RecordingError
from eegloop.signal import StreamInfo
from records.append import make_folder, replace_file
from records.tables import NA, text_cell

BIDS_VERSION = "1.10.0"
DERIVATIVES = Path("derivatives") / "eegloop"
_LABEL = re.compile(r"[A-Za-z0-9]{1,32}")

_README = """This dataset was written by eegloop while a person's EEG was being recorded.

Every sample is as the headset sent it: float32 microvolts, unfiltered by eegloop. Samples that were lost on the way, or
could not be recorded, are NaN, with a BAD_gap event over them. People stand here under a code, never under a name.
What was computed and decided from the EEG lies in derivatives/eegloop (see the README there).
Research use only.
"""
_DERIVATIVES_README = """What eegloop computed, decided and delivered, beside the EEG it came from.
Times: `onset` is seconds from the first sample of the .eeg file; `t_s`, `t0_s` and `arrival_s` are LSL local_clock
seconds; `wall_s` is Unix time.

*_biomarkers.tsv  one row per second, biomarker and channel; `onset` is the end of the window
*_biomarkers.npy  every hop: numpy.load() gives named fields; *_biomarkers.json says what each column of `values` is
*_reasons.tsv     why a value is suspect or n/a, from the hop on at which that changes; written by `eegloop replay` only
*_decisions.tsv   one row per decision: inputs, proposal, every limit that applied, verdict, what was delivered, the sentence
*_stim.tsv        every state the interlock reported, with the loop tick that saw it
*_ticks.tsv       everything the loop was given, in order: chunks, states, events; replay feeds on this
*_setup.json      the settings and the stream that all of it was made with
*_manifest.json   size and SHA-256 of every file, written when the recording was closed; missing after a crash

A recording that was cut short needs no repair. `numpy.load` and `pandas.read_csv(..., sep="\\t")` read the files while they
grow; a last line without a newline is not a row.
"""

_COLUMN_TEXT: dict[str, str] = {
    "onset": "Seconds from the first sample of the EEG file",
    "duration": "Seconds",
    "trial_type": "What happened; BAD_gap = samples that are missing and stand as NaN in the EEG file",
    "sample": "Row of the EEG file, from 0",
    "tick": "Loop tick that saw it",
    "t_s": "LSL local_clock, seconds",
    "text": "In words",
    "data": "What belongs to the event, as JSON",
    "biomarker": "Module, or module and part",
    "channel": "Electrode, pair of electrodes, or n/a for the whole head",
    "value": "n/a when invalid",
    "unit": "Unit of value",
    "quality": "good, suspect or invalid",
}


@dataclass(frozen=True, slots=True)
class Entities:
    """The BIDS entities of one run; `run` 1 is not written into names."""

    subject: str
    session: str
    task: str
    run: int = 1

    @property
    def stem(self) -> str:
        run = f"_run-{self.run:02d}" if self.run > 1 else ""
        return f"sub-{self.subject}_ses-{self.session}_task-{self.task}{run}"

    @property
    def folder(self) -> Path:
        return Path(f"sub-{self.subject}") / f"ses-{self.session}" / "eeg"

    @staticmethod
    def parse(path: Path) -> Entities | None:
        """The entities of a file named `sub-*_ses-*_task-*[_run-*]_suffix.ext`, or None."""
        match = re.match(r"sub-([A-Za-z0-9]+)_ses-([A-Za-z0-9]+)_task-([A-Za-z0-9]+)(?:_run-(\d+))?_", path.name)
        return Entities(match[1], match[2], match[3], int(match[4] or 1)) if match else None


def label(text: str, what: str) -> str:
    """`text` if BIDS takes it as a label.

    Raises
    ------
    RecordingError
        Naming what it was for.
    """
    if not _LABEL.fullmatch(text):
        raise RecordingError(f"{what}: {text!r} must be 1-32 letters and digits (BIDS label)")
    return text


def as_label(text: str) -> str:
    """The letters and digits of any text, for files that were not named by BIDS."""
    return re.sub(r"[^A-Za-z0-9]", "", text)[:32] or "unnamed"


def take_session(root: Path, subject: str) -> str:
    """Make the next free `ses-NN` of a subject; the directory is the claim, so two recorders never share one.

    Raises
    ------
    OSError
        If the directory cannot be made.
    """
    folder = root / f"sub-{subject}"
    make_folder(folder)
    taken = [int(m[1]) for p in folder.iterdir() if (m := re.fullmatch(r"ses-(\d+)", p.name))]
    number = max(taken, default=0) + 1
    while True:
        session = f"{number:02d}"
        try:
            (folder / f"ses-{session}").mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return session


def unique_labels(channels: Sequence[str]) -> tuple[str, ...]:
    """Channel names as BIDS wants them: no two alike, none empty; a second "Cz" becomes "Cz-2"."""
    seen: set[str] = set()
    names: list[str] = []
    for i, channel in enumerate(channels, start=1):
        base = text_cell(channel)
        base = f"Ch{i}" if base == NA else base
        name, number = base, 2
        while name in seen:
            name, number = f"{base}-{number}", number + 1
        seen.add(name)
        names.append(name)
    return tuple(names)


@cache
def software_version() -> str:
    try:
        return importlib.metadata.version("eegloop")
    except importlib.metadata.PackageNotFoundError:
        return "0 (source tree)"


@cache
def electrode_positions() -> dict[str, tuple[float, float, float]]:
    """Template positions in the CapTrak (RAS, ears and nasion) frame, m; made by make_electrode_positions.py. Keys lower case."""
    rows = Path(__file__).with_name("electrode_positions.tsv").read_text(encoding="ascii").splitlines()[1:]
    cells = (row.split("\t") for row in rows)
    return {name.lower(): (float(x), float(y), float(z)) for name, x, y, z in cells}


def to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_dataset(root: Path, subject: str) -> None:
    """The files a BIDS dataset has once; those that exist are left as they are, the subject is added to participants.tsv.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    make_folder(root)
    made_by = [{"Name": "eegloop", "Version": software_version()}]
    once = {
        root / "dataset_description.json": to_json(
            {"Name": "eegloop recordings", "BIDSVersion": BIDS_VERSION, "DatasetType": "raw", "GeneratedBy": made_by}
        ),
        root / "README": _README.encode(),
        root / "participants.json": to_json({"participant_id": {"Description": "Code of the person; names are kept elsewhere"}}),
    }
    for path, data in once.items():
        if not path.exists():
            replace_file(path, data)
    write_derivative_dataset(root / DERIVATIVES)
    # Two daemons may share a data directory by mistake; neither may lose the other's subject.
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = root / "participants.tsv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ["participant_id"]
        # A person may have added columns (age, sex); a new row says n/a there.
        row = "\t".join([f"sub-{subject}", *[NA] * lines[0].count("\t")])
        if not any(line.split("\t")[0] == f"sub-{subject}" for line in lines):
            replace_file(path, ("\n".join([*lines, row]) + "\n").encode())
    finally:
        os.close(lock)


def write_derivative_dataset(folder: Path) -> None:
    """`dataset_description.json` and README of `derivatives/eegloop`."""
    make_folder(folder)
    description = to_json(
        {
            "Name": "eegloop: biomarkers, decisions and stimulation",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "eegloop", "Version": software_version()}],
            "SourceDatasets": [{"URL": "../.."}],
        }
    )
    # These suffixes are eegloop's own; the validator is told so (it reads this file when it is given this folder, not with
    # --recursive from the raw dataset: version 3.0.2 leaves out dot files below the top).
    ignore = b"*_biomarkers.*\n*_decisions.*\n*_stim.*\n*_ticks.*\n*_setup.json\n*_manifest.json\n"
    for name, data in (
        ("dataset_description.json", description),
        ("README", _DERIVATIVES_README.encode()),
        (".bidsignore", ignore),
    ):
        if not (folder / name).exists():
            replace_file(folder / name, data)


def column_texts(columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """What the sidecar of a table says of its columns."""
    return {name: {"Description": _COLUMN_TEXT[name]} for name in columns if name in _COLUMN_TEXT}


def eeg_json(
    info: StreamInfo,
    task: str,
    line_frequency_hz: float,
    software_filters: Mapping[str, Any],
    duration_s: float,
) -> dict[str, Any]:
    """`*_eeg.json`; `software_filters` are those applied before the samples reached eegloop (empty: n/a)."""
    kinds = [k.upper() for k in info.kinds]
    sidecar: dict[str, Any] = {
        "TaskName": task,
        "EEGReference": info.reference or NA,
        "SamplingFrequency": info.sample_rate_hz,
        "PowerLineFrequency": line_frequency_hz,
        "SoftwareFilters": dict(software_filters) or NA,
        "HardwareFilters": NA,
        "EEGGround": NA,
        "EEGPlacementScheme": "extended 10-20 names as the headset gives them",
        "Manufacturer": info.manufacturer or NA,
        "ManufacturersModelName": info.name or NA,
        "RecordingType": "continuous",
        "RecordingDuration": round(duration_s, 3),
        "SoftwareVersions": f"eegloop {software_version()}",
    }
    for kind in ("EEG", "EOG", "ECG", "EMG", "MISC"):
        sidecar[f"{kind}ChannelCount"] = kinds.count(kind)
    return sidecar


def channels_tsv(info: StreamInfo) -> bytes:
    lines = ["name\ttype\tunits\tsampling_frequency\treference"]
    for name, kind in zip(unique_labels(info.channels), info.kinds, strict=True):
        reference = text_cell(info.reference) if kind == "eeg" else NA
        lines.append(f"{name}\t{kind.upper()}\tµV\t{info.sample_rate_hz:g}\t{reference}")
    return ("\n".join(lines) + "\n").encode()


def electrodes_tsv(info: StreamInfo) -> bytes:
    """Template positions of the EEG channels, n/a where the name is none of the 10-05 system."""
    positions = electrode_positions()
    lines = ["name\tx\ty\tz"]
    for name, kind in zip(unique_labels(info.channels), info.kinds, strict=True):
        if kind == "eeg":
            xyz = positions.get(name.lower())
            lines.append("\t".join([name, *([f"{v:.5f}" for v in xyz] if xyz else [NA] * 3)]))
    return ("\n".join(lines) + "\n").encode()


def coordsystem_json() -> dict[str, Any]:
    positions = electrode_positions()
    return {
        "EEGCoordinateSystem": "CapTrak",
        "EEGCoordinateUnits": "m",
        "EEGCoordinateSystemDescription": "Template positions of the 10-05 system (Colin27 head), not measured on this person",
        "AnatomicalLandmarkCoordinates": {name: list(positions[name.lower()]) for name in ("NAS", "LPA", "RPA")},
        "AnatomicalLandmarkCoordinateSystem": "CapTrak",
        "AnatomicalLandmarkCoordinateUnits": "m",
    }


def vhdr(stem: str, info: StreamInfo) -> bytes:
    """BrainVision header: float32 microvolts, multiplexed. It does not say how many samples there are: the file's size does."""
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "",
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={stem}_eeg.eeg",
        f"MarkerFile={stem}_eeg.vmrk",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={info.n_channels}",
        "; Sampling interval in microseconds",
        f"SamplingInterval={1e6 / info.sample_rate_hz!r}",
        "",
        "[Binary Infos]",
        "BinaryFormat=IEEE_FLOAT_32",
        "",
        "[Channel Infos]",
    ]
    for i, name in enumerate(unique_labels(info.channels), start=1):
        lines.append(f"Ch{i}={brainvision_text(name)},,1,µV")
    return ("\r\n".join(lines) + "\r\n").encode()


def vmrk_head(stem: str) -> bytes:
    lines = [
        "Brain Vision Data Exchange Marker File, Version 1.0",
        "",
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={stem}_eeg.eeg",
        "",
        "[Marker Infos]",
    ]
    return ("\r\n".join(lines) + "\r\n").encode()


def brainvision_text(text: str) -> str:
    """A name or description inside a BrainVision line; a comma is written as \\1."""
    return text_cell(text).replace(",", r"\1")
