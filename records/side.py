"""What a headset measures beside the EEG, one table a stream: `*_side-NAME.tsv` under the derivatives, at the stream's own rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eegloop.signal import SideChunk
from records import bids
from records.append import AppendFile, replace_file, seal_of


class SideStreams:
    """Rows are collected by `add` and reach the files at `flush`; not thread-safe, reads no clock.

    A row: `sample` on the stream's own grid (a gap in it is a gap in the samples), `t_s` in LSL seconds, then the channels in
    the device's units.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._rows: dict[str, list[str]] = {}
        self._first: dict[str, SideChunk] = {}
        self._files: dict[str, AppendFile] = {}
        self._sidecars: list[Path] = []

    def add(self, chunk: SideChunk) -> None:
        """Collect the samples of one delivery."""
        self._first.setdefault(chunk.stream, chunk)
        rows = self._rows.setdefault(chunk.stream, [])
        for i, values in enumerate(chunk.data.tolist()):
            cells = "\t".join(f"{value:.9g}" if value == value else "n/a" for value in values)
            rows.append(f"{chunk.first_sample + i}\t{chunk.t0_s + i / chunk.sample_rate_hz:.6f}\t{cells}\n")

    def flush(self) -> None:
        """Hand what was collected to the kernel; raises OSError if a file cannot be written."""
        for stream, rows in self._rows.items():
            if rows and stream not in self._files:
                self._begin(stream)
            if rows:
                self._files[stream].append_lines(rows)
                self._rows[stream] = []

    def _begin(self, stream: str) -> None:
        first = self._first[stream]
        path = self._folder / f"{self._stem}_side-{stream}.tsv"
        columns = ("sample", "t_s", *first.channels)
        self._files[stream] = AppendFile.begin(path, ("\t".join(columns) + "\n").encode())
        sidecar = path.with_suffix(".json")
        replace_file(sidecar, bids.to_json({"SamplingFrequency": first.sample_rate_hz, "Columns": list(columns)}))
        self._sidecars.append(sidecar)

    def files(self) -> Iterator[AppendFile]:
        """Open files, for the thread that syncs them."""
        yield from self._files.values()

    def seals(self) -> Iterator[tuple[Path, dict[str, int | str]]]:
        """Path, size and hash of every file."""
        for file in self._files.values():
            yield file.path, file.seal()
        for path in self._sidecars:
            yield path, seal_of(path)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
