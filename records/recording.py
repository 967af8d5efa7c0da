"""One run on disk: BrainVision samples and markers, events, and the derivatives; written in batches, closed with a manifest."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eegloop.errors import RecordingError
from eegloop.signal import BiomarkerColumn, Biomarkers, Chunk, SideChunk, StreamInfo
from eegloop.stim import StimState
from records import bids, tables
from records.append import AppendFile, MarkerFile, make_folder, replace_file, seal_of
from records.derivatives import Derivatives
from records.side import SideStreams
from records.tables import DecisionRow
from records.timeline import Timeline

LONGEST_GAP_S = 300.0
"""A longer gap begins a new run instead of being written as NaN (64 channels at 1 kHz: 77 MB)."""


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """All a run needs to know before its first sample.

    Attributes
    ----------
    root : Path
        The BIDS dataset.
    software_filters : mapping
        Filters that worked on the samples before eegloop had them; empty = none. The line's own belong in `setup`.
    setup : mapping
        Settings behind the biomarkers and decisions, JSON-ready; written to `*_setup.json`.
    """

    root: Path
    entities: bids.Entities
    info: StreamInfo
    columns: tuple[BiomarkerColumn, ...]
    line_frequency_hz: float
    software_filters: Mapping[str, Any]
    setup: Mapping[str, Any]


class Recording:
    """One run. Not thread-safe; reads no clock. Rows are collected by the methods and reach the files at `flush`.

    The sidecars are complete before the first sample is written, and the header that makes the run visible to MNE-Python
    comes after the first samples: at no moment is there a file that cannot be read.
    `first_t0_s`, `first_wall_s`: LSL and Unix seconds of the first sample to come.

    Raises
    ------
    OSError
        If a file cannot be made or written.
    """

    def __init__(self, plan: RecordingPlan, first_t0_s: float, first_wall_s: float) -> None:
        self._plan = plan
        info = plan.info
        if len(info.kinds) != info.n_channels or info.sample_rate_hz <= 0:
            raise RecordingError(
                f"{info.name}: {info.n_channels} channels, {len(info.kinds)} kinds, {info.sample_rate_hz} Hz cannot be recorded"
            )
        self.timeline = Timeline(info.sample_rate_hz, first_t0_s)
        self._stem = plan.entities.stem
        # A session's folder is made under a dot name and renamed with its first samples in it, so BIDS never sees half of one.
        self._home = plan.root / plan.entities.folder
        self._folder = self._home if self._home.exists() else self._home.with_name(".eeg.part")
        self._first_wall_s = first_wall_s
        self._samples: list[bytes] = []
        self._markers: list[str] = []
        self._events: list[str] = []
        self._n_markers = 0
        self._n_events = 0
        self._files: list[AppendFile] = []
        self._sample_file: AppendFile | None = None
        self.visible = False
        self._derivative_folder = plan.root / bids.DERIVATIVES / plan.entities.folder
        for folder in (self._home, self._derivative_folder):
            if any(folder.glob(f"{self._stem}_*")):
                # Before anything is made, since what fails later is cleaned away: never somebody else's recording.
                raise FileExistsError(errno.EEXIST, "there is a recording of this name already", str(folder / self._stem))
        try:
            self._open()
        except OSError:
            self._remove_traces()
            raise

    @property
    def header_path(self) -> Path:
        return self._home / f"{self._stem}_eeg.vhdr"

    @property
    def seconds(self) -> float:
        """Seconds of samples handed to the kernel, gaps included."""
        written = self._sample_file.size if self._sample_file is not None else 0
        return written / (4 * self._plan.info.n_channels) / self.timeline.rate_hz

    @property
    def removed(self) -> bool:
        """True if somebody deleted the file that is being written: what follows would reach no name."""
        return self._sample_file is not None and os.fstat(self._sample_file.fd).st_nlink == 0

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self._stem}_{suffix}"

    def _open(self) -> None:
        plan = self._plan
        make_folder(self._folder)
        replace_file(self._path("channels.tsv"), bids.channels_tsv(plan.info))
        self._event_file = self._add(AppendFile.begin(self._path("events.tsv"), tables.header(tables.EVENTS)))
        replace_file(self._path("events.json"), bids.to_json(bids.column_texts(tables.EVENTS[2:])))
        self._marker_file = self._add(MarkerFile.begin(self._path("eeg.vmrk"), bids.vmrk_head(self._stem)))
        self.derivatives = Derivatives(self._derivative_folder, self._stem, plan.info, plan.columns, self.timeline, plan.setup)
        self._sides = SideStreams(self._derivative_folder, self._stem)
        # A clock that stands before 1970 or beyond all calendars must not cost the recording.
        start = datetime.fromtimestamp(min(max(self._first_wall_s, 0.0), 2.0**36), UTC).strftime("%Y%m%d%H%M%S%f")
        self._marker("New Segment", "", 0, 1, start)
        self.write_duration()
        # BIDS: electrodes and coordinate system belong to the session, not to a task or run.
        place = self._folder / f"sub-{plan.entities.subject}_ses-{plan.entities.session}"
        replace_file(Path(f"{place}_coordsystem.json"), bids.to_json(bids.coordsystem_json()))
        replace_file(Path(f"{place}_electrodes.tsv"), bids.electrodes_tsv(plan.info))

    def _add(self, file: AppendFile) -> AppendFile:
        self._files.append(file)
        return file

    # ---- rows

    def fits(self, chunk: Chunk) -> bool:
        """False if `chunk` needs a new run: after a very long gap."""
        return self.timeline.missing_before(chunk) <= LONGEST_GAP_S * self.timeline.rate_hz

    def chunk(self, tick: int, chunk: Chunk, wall_s: float | None) -> None:
        """One chunk, and NaN for the samples missing before it.

        Raises
        ------
        RecordingError
            If it does not have the channels the run began with.
        """
        n_channels = self._plan.info.n_channels
        data = chunk.data_uv
        if data.ndim != 2 or data.shape[1] != n_channels:
            raise RecordingError(
                f"{self._plan.info.name}: a chunk of shape {data.shape} came, {n_channels} channels were announced"
            )
        place = self.timeline.place(chunk)
        at = place.file_sample
        if place.missing:
            self._samples.append(np.full((place.missing, n_channels), np.nan, "<f4").tobytes())
            self._gap(tick, chunk, at - place.missing, place.missing)
        self._samples.append(data.astype("<f4", copy=False).tobytes())
        self.timeline.add(chunk, place)
        if place.new_segment:
            self._marker("New Segment", "", at, 1)
            self._event_row(
                at / self.timeline.rate_hz, 0.0, "new_segment", tick, chunk.t0_s, f"segment {chunk.segment} begins", "{}"
            )
        if place.off_grid:
            text = f"the source's sample numbers went back by {place.off_grid}; samples stand in the order of arrival"
            self._event_row(at / self.timeline.rate_hz, 0.0, "off_grid", tick, chunk.t0_s, text, "{}")
        self.derivatives.chunk(tick, chunk, place, wall_s)

    def _gap(self, tick: int, chunk: Chunk, start: int, missing: int) -> None:
        rate = self.timeline.rate_hz
        lost = min(missing, chunk.lost_samples)
        unrecorded = missing - lost
        text = f"{lost} samples lost on the way" if lost or not unrecorded else ""
        if unrecorded:
            text += (", " if text else "") + f"{unrecorded} samples not recorded"
        # "Bad Interval" is BrainVision Analyzer's own type; MNE-Python leaves out every annotation that begins with BAD.
        self._marker("Bad Interval", "BAD_gap", start, missing)
        data = tables.json_cell({"lost_samples": lost, "not_recorded": unrecorded})
        self._event_row(start / rate, missing / rate, "BAD_gap", tick, chunk.t0_s - missing / rate, text, data)

    def side(self, chunk: SideChunk) -> None:
        """Samples of a stream beside the EEG."""
        self._sides.add(chunk)

    def biomarkers(self, row: Biomarkers) -> None:
        self.derivatives.biomarkers(row)

    def decision(self, row: DecisionRow) -> None:
        self.derivatives.decision(row)

    def stim(self, tick: int, state: StimState) -> None:
        self.derivatives.stim(tick, state)

    def idle(self, tick: int, t_s: float) -> None:
        self.derivatives.idle(tick, t_s)

    def event(self, tick: int, t_s: float, kind: str, text: str, data_json: str) -> None:
        """Something the loop saw besides samples and states; `data_json` is one line of JSON."""
        onset = self.timeline.onset_of_time(t_s)
        at = min(max(0, round(onset * self.timeline.rate_hz)), max(0, self.timeline.n_samples - 1))
        self._marker("Comment", kind, at, 1)
        self.derivatives.event(tick, t_s, self._n_events)
        self._event_row(onset, 0.0, kind, tick, t_s, text, data_json)

    def _event_row(self, onset_s: float, duration_s: float, kind: str, tick: int, t_s: float, text: str, data_json: str) -> None:
        sample = max(0, round(onset_s * self.timeline.rate_hz))
        self._events.append(
            f"{onset_s:.6f}\t{duration_s:.6f}\t{tables.text_cell(kind)}\t{sample}\t{tick}\t{float(t_s)!r}\t{tables.text_cell(text)}\t{data_json}\n"
        )
        self._n_events += 1

    def _marker(self, kind: str, text: str, at: int, length: int, date: str = "") -> None:
        self._n_markers += 1
        description = bids.brainvision_text(text) if text else ""
        self._markers.append(f"Mk{self._n_markers}={kind},{description},{at + 1},{length},0{',' + date if date else ''}\r\n")

    # ---- files

    def flush(self) -> None:
        """Hand everything collected to the kernel: samples, then what speaks of them.

        Raises
        ------
        OSError
            If a file cannot be written; the run should be closed then.
        """
        samples, markers, events = self._samples, self._markers, self._events
        self._samples, self._markers, self._events = [], [], []
        if samples and self._sample_file is None:
            self._sample_file = self._add(AppendFile.begin(self._path("eeg.eeg"), b"".join(samples)))
        elif samples and self._sample_file is not None:
            self._sample_file.append(b"".join(samples))
        self._marker_file.append_lines(markers)
        self._event_file.append_lines(events)
        self.derivatives.flush()
        self._sides.flush()
        if samples and not self.visible:
            replace_file(self._path("eeg.vhdr"), bids.vhdr(self._stem, self._plan.info))
            if self._folder != self._home:
                self._folder.rename(self._home)
                self._folder = self._home
                for file in self._files:
                    file.path = self._home / file.path.name
            self.visible = True

    def write_duration(self) -> None:
        """Bring `RecordingDuration` in the sidecar up to date."""
        plan = self._plan
        sidecar = bids.eeg_json(plan.info, plan.entities.task, plan.line_frequency_hz, plan.software_filters, self.seconds)
        replace_file(self._path("eeg.json"), bids.to_json(sidecar))

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where its files lie, for the thread that syncs them."""
        return self._folder, self._derivative_folder

    def files(self) -> Iterator[AppendFile]:
        """Open files, for the thread that syncs them."""
        yield from self._files
        yield from self.derivatives.files()
        yield from self._sides.files()

    def close(self) -> dict[str, Any] | None:
        """Flush, bring the sidecar up to date, write the manifest; return its path (relative to the dataset), size and hash.

        None if the run never had a sample: nothing of it stays.

        Raises
        ------
        OSError
            If that cannot be written; the files are closed all the same and stay readable as far as they go.
        """
        try:
            self.flush()
            if not self.visible:
                return None
            self.write_duration()
            manifest = {"format": "eegloop-manifest-1", "seconds": round(self.seconds, 3), "files": dict(self._seals())}
            path = self._derivative_folder / f"{self._stem}_manifest.json"
            replace_file(path, bids.to_json(manifest))
            return {"path": str(path.relative_to(self._plan.root)), **seal_of(path)}
        finally:
            self._close_files()
            if not self.visible:
                self._remove_traces()

    def abandon(self) -> None:
        """Close the files as they are, after an error."""
        self._close_files()
        if not self.visible:
            self._remove_traces()

    def _seals(self) -> Iterator[tuple[str, dict[str, int | str]]]:
        root = self._plan.root
        for file in self._files:
            yield str(file.path.relative_to(root)), file.seal()
        whole = [self._path(s) for s in ("channels.tsv", "events.json", "eeg.json")]
        for path in [*whole, *([self.header_path] if self.visible else [])]:
            yield str(path.relative_to(root)), seal_of(path)
        for path, seal in (*self.derivatives.seals(), *self._sides.seals()):
            yield str(path.relative_to(root)), seal

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        self.derivatives.close()
        self._sides.close()

    def _remove_traces(self) -> None:
        """Take away the sidecars of a run that could not be opened; it never had a sample."""
        for file in self._files:
            file.close()
        born = self._folder == self._home  # else the whole folder is this run's
        for path in [*self._folder.glob(f"{self._stem}_*" if born else "*"), *self._derivative_folder.glob(f"{self._stem}_*")]:
            with contextlib.suppress(OSError):
                path.unlink()
        if not born:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
