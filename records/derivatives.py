"""The derivative files of one run: biomarkers, decisions, stimulation, ticks. The recorder and `replay` write the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eegloop.errors import RecordingError
from eegloop.signal import BiomarkerColumn, Biomarkers, Chunk, StreamInfo
from eegloop.stim import StimState
from records import bids, tables
from records.append import AppendFile, RowFile, make_folder, replace_file, seal_of
from records.tables import DecisionRow
from records.timeline import Placement, Timeline


def hop_dtype(n_columns: int) -> np.dtype[np.void]:
    """One hop in `_biomarkers.npy`, little-endian and packed; `values` is NaN where `grades` is 2 (invalid)."""
    return np.dtype(
        [
            ("hop", "<i8"),
            ("tick", "<i8"),
            ("end_sample", "<i8"),
            ("onset_s", "<f8"),
            ("t_s", "<f8"),
            ("clean_fraction", "<f8"),
            ("values", "<f8", (n_columns,)),
            ("grades", "u1", (n_columns,)),
        ]
    )


class Derivatives:
    """Collects rows and appends them file by file at `flush`; not thread-safe, and it reads no clock.

    Rows refer to samples by the `Timeline`, which the owner moves: `Timeline.add` first, then `chunk`.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        info: StreamInfo,
        columns: Sequence[BiomarkerColumn],
        timeline: Timeline,
        setup: Mapping[str, Any],
        *,
        overwrite: bool = False,
        reasons: bool = False,
    ) -> None:
        make_folder(folder)
        self.folder = folder
        self.stem = stem
        self.timeline = timeline
        self._columns = tuple(columns)
        self._biomarker_lines = tables.BiomarkerLines(columns)
        self._dtype = hop_dtype(len(columns))
        self._next_second = 1
        self._ticks: list[str] = []
        self._stim: list[str] = []
        self._decisions: list[str] = []
        self._long: list[str] = []
        self._hops: list[tuple[Any, ...]] = []
        self._n_stim = 0
        self._reason_lines = tables.ReasonLines(columns) if reasons else None
        self._reasons: list[str] = []
        self._files: list[AppendFile] = []
        self._tick = 0
        replace_file(self._path("setup.json"), bids.to_json(json.loads(tables.json_cell({**setup, "stream": asdict(info)}))))
        replace_file(self._path("biomarkers.json"), bids.to_json(self._sidecar(info)))
        try:
            self._long_file = self._table("biomarkers.tsv", tables.BIOMARKERS, overwrite)
            self._hop_file = RowFile(self._path("biomarkers.npy"), self._dtype, overwrite=overwrite)
            self._files.append(self._hop_file)
            self._decision_file = self._table("decisions.tsv", tables.DECISIONS, overwrite)
            self._stim_file = self._table("stim.tsv", tables.STIM, overwrite)
            self._tick_file = self._table("ticks.tsv", tables.TICKS, overwrite)
            self._reason_file = self._table("reasons.tsv", tables.REASONS, overwrite) if reasons else None
        except OSError:
            self.close()
            raise

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.stem}_{suffix}"

    def _table(self, suffix: str, columns: Sequence[str], overwrite: bool) -> AppendFile:
        file = AppendFile(self._path(suffix), overwrite=overwrite)
        self._files.append(file)
        file.append(tables.header(columns))
        return file

    def _sidecar(self, info: StreamInfo) -> dict[str, Any]:
        return {
            **bids.column_texts(tables.BIOMARKERS),
            "SamplingFrequency": info.sample_rate_hz,
            "Hops": {
                "File": self._path("biomarkers.npy").name,
                "Description": "Structured array, one row per hop, little-endian and packed; numpy.load reads it while it grows",
                "Fields": {
                    "hop": "Number of the hop, from 1",
                    "tick": "Loop tick that computed it",
                    "end_sample": "One past the last sample used, on the stream's grid",
                    "onset_s": "The same in seconds from the first sample of the EEG file",
                    "t_s": "LSL local_clock seconds of the end of the window",
                    "clean_fraction": "Share of the analysis window that is free of artifact, 0-1",
                    "values": "float64, one per entry of Columns; NaN when invalid",
                    "grades": "uint8, one per entry of Columns: 0 good, 1 suspect, 2 invalid",
                },
                "Columns": [asdict(c) for c in self._columns],
            },
        }

    # ---- rows, in the order in which the loop met them

    def chunk(self, tick: int, chunk: Chunk, placement: Placement, wall_s: float | None) -> None:
        onset = placement.file_sample / self.timeline.rate_hz
        self._tick = tick
        wall = tables.NA if wall_s is None else repr(wall_s)
        times = f"{float(chunk.t0_s)!r}\t{float(chunk.arrival_s)!r}"
        self._ticks.append(
            f"{onset:.6f}\t{tick}\tchunk\t{chunk.first_sample}\t{chunk.n_samples}\t{times}\t{chunk.lost_samples}"
            f"\t{chunk.segment}\t{placement.file_sample}\t{wall}\tn/a\n"
        )

    def idle(self, tick: int, t_s: float) -> None:
        """A tick on which time passed and nothing arrived."""
        self._other("idle", tick, t_s, None)

    def event(self, tick: int, t_s: float, row: int) -> None:
        """An event the loop saw; `row` counts the rows of `_events.tsv` from 0."""
        self._other("event", tick, t_s, row)

    def stim(self, tick: int, state: StimState) -> None:
        onset = self.timeline.newest_onset_s
        self._stim.append(tables.stim_line(onset, tick, state))
        self._ticks.append(f"{onset:.6f}\t{tick}\tstim\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\t{self._n_stim}\n")
        self._n_stim += 1

    def _other(self, kind: str, tick: int, t_s: float, row: int | None) -> None:
        onset = self.timeline.onset_of_time(t_s)
        ref = tables.NA if row is None else str(row)
        self._ticks.append(f"{onset:.6f}\t{tick}\t{kind}\tn/a\tn/a\t{float(t_s)!r}\tn/a\tn/a\tn/a\tn/a\tn/a\t{ref}\n")

    def biomarkers(self, row: Biomarkers) -> None:
        onset = self.timeline.onset_of_sample(row.end_sample)
        clean = float(row.quality.clean_fraction)
        self._hops.append((row.hop, self._tick, row.end_sample, onset, row.t_s, clean, row.values, row.grades))
        if self._reason_lines is not None:
            self._reasons.append(self._reason_lines.lines(onset, row))
        if onset + 1e-9 >= self._next_second:
            self._long.append(self._biomarker_lines.lines(onset, row))
            self._next_second = int(onset + 1e-9) + 1

    def decision(self, row: DecisionRow) -> None:
        self._decisions.append(tables.decision_line(self.timeline.onset_of_sample(row.end_sample), row))

    def flush(self) -> None:
        """Append what was collected; ticks last, so that a tick never speaks of what is not there.

        Raises
        ------
        OSError
            If a file cannot be written; what was collected is gone then, and the run should be closed.
        """
        long, hops, decisions, stim, ticks = self._long, self._hops, self._decisions, self._stim, self._ticks
        self._long, self._hops, self._decisions, self._stim, self._ticks = [], [], [], [], []
        self._long_file.append_lines(long)
        if hops:
            self._hop_file.append_rows(np.array(hops, dtype=self._dtype))
        self._decision_file.append_lines(decisions)
        self._stim_file.append_lines(stim)
        if self._reason_file is not None:
            self._reason_file.append_lines(self._reasons)
            self._reasons = []
        self._tick_file.append_lines(ticks)

    def files(self) -> Iterator[AppendFile]:
        yield from self._files

    def seals(self) -> Iterator[tuple[Path, dict[str, int | str]]]:
        """Every file of the run with its size and hash."""
        for file in self._files:
            yield file.path, file.seal()
        for suffix in ("setup.json", "biomarkers.json"):
            yield self._path(suffix), seal_of(self._path(suffix))

    def close(self) -> None:
        for file in self._files:
            file.close()


class ReplayDerivatives:
    """`replay`'s writer: the same derivative files as a live session's, under `OUT/derivatives/eegloop/sub-*/ses-*/eeg/`, and the reasons.

    A recording of eegloop keeps its BIDS names; any other file gets `sub-<its name>_ses-01_task-replay`.
    """

    def __init__(
        self, out: Path, recording: Path, info: StreamInfo, columns: Sequence[BiomarkerColumn], setup: Mapping[str, Any]
    ) -> None:
        entities = bids.Entities.parse(recording) or bids.Entities(bids.as_label(recording.stem), "01", "replay")
        folder = out / bids.DERIVATIVES / entities.folder
        before = folder / f"{entities.stem}_setup.json"
        if before.exists() and not _is_replay(before):
            raise RecordingError(
                f"{out}: holds the recording itself, and a replay would overwrite what was decided live; choose another --out"
            )
        bids.write_derivative_dataset(out / bids.DERIVATIVES)
        self.folder = folder
        self.timeline = Timeline(info.sample_rate_hz)
        self._rows = Derivatives(
            folder,
            entities.stem,
            info,
            columns,
            self.timeline,
            {**setup, "replay_of": str(recording)},
            overwrite=True,
            reasons=True,
        )
        self._pending = 0

    def chunk(self, tick: int, chunk: Chunk) -> None:
        placement = self.timeline.place(chunk)
        self.timeline.add(chunk, placement)
        self._rows.chunk(tick, chunk, placement, None)
        self._count()

    def biomarkers(self, row: Biomarkers) -> None:
        self._rows.biomarkers(row)

    def decision(self, row: DecisionRow) -> None:
        self._rows.decision(row)

    def stim(self, tick: int, state: StimState) -> None:
        self._rows.stim(tick, state)

    def _count(self) -> None:
        self._pending += 1
        if self._pending >= 512:
            self._pending = 0
            self._rows.flush()

    def close(self) -> None:
        """Flush and close; raises OSError if the last rows cannot be written."""
        try:
            self._rows.flush()
        finally:
            self._rows.close()


def _is_replay(setup: Path) -> bool:
    try:
        return "replay_of" in json.loads(setup.read_bytes())
    except (OSError, ValueError):
        return False
