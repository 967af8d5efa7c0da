"""Recordings as data: one reader for every format, sample-exact float32 µV, read in blocks. No clock, no task, no state.

BrainVision (also one still being written), EDF, BDF, FIF, XDF, OpenBCI text, Muse CSV and npz.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drivers.sources.units import channel_kind, microvolts_per
from eegloop.errors import SourceError
from eegloop.signal import F32, F64, Bool, Chunk, StreamInfo

IN_MEMORY_BYTES = 2 << 30  # formats that must be decoded as a whole are refused above this
BLOCK_BYTES = 8 << 20  # read at a time
NO_UNIT = "no unit; name it with `unit` (replay: --unit µV)"
# What NumPy, MNE, pyxdf and the XML parser raise on files that are not what they claim to be.
READER_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, EOFError, AssertionError,
    ArithmeticError, MemoryError, NotImplementedError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Marker:
    """An event of the recording: `sample` counts rows of the file from 0; `kind` is the format's own word."""

    sample: int
    text: str
    duration_samples: int = 0
    kind: str = "marker"


@dataclass(frozen=True, slots=True)
class Gap:
    """`lost_samples` are missing directly before row `sample`; `restart` where the sender's clock started anew."""

    sample: int
    lost_samples: int
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording on disk.

    Attributes
    ----------
    n_samples : int
        Rows in the file (at the time it was opened).
    read : (start, stop) -> (stop - start, n_channels) float32
        Rows in µV. NaN where the file has NaN.
    gaps : tuple of Gap
        Samples that are missing between rows, as the file's counter or stamps say. Runs of rows that are NaN on
        every channel are gaps too; `chunks` finds those while reading.
    start_wall_s : float or None
        Unix time of the first sample, None where the file does not say.
    stamps_s : (n_samples,) float64 or None
        The file's own time of each row (its own clock), None where it has none.
    notes : tuple of str
        What a person should know about this file, one line each (an incomplete last sample, two channels renamed).
    """

    path: Path
    format: str
    info: StreamInfo
    n_samples: int
    read: Callable[[int, int], F32]
    markers: tuple[Marker, ...] = ()
    gaps: tuple[Gap, ...] = ()
    start_wall_s: float | None = None
    stamps_s: F64 | None = None
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Rows times the nominal period; gaps between rows not included."""
        return self.n_samples / self.info.sample_rate_hz

    def chunks(self, chunk_samples: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Chunk]]:
        """Go through the rows in chunks: (row, chunk), gaps explicit, times in seconds from the first sample.

        Rows that are NaN on every channel and missing rows become `lost_samples` of the chunk after them;
        a NaN on some channels only is passed on. `first_sample` counts lost samples, `row` does not.
        """
        if chunk_samples < 1:
            raise ValueError(f"chunk_samples must be at least 1, not {chunk_samples}")
        stop = self.n_samples if stop is None else min(stop, self.n_samples)
        rate = self.info.sample_rate_hz
        per_block = max(chunk_samples, BLOCK_BYTES // (4 * self.info.n_channels) // chunk_samples * chunk_samples)
        gaps = [g for g in self.gaps if start <= g.sample < stop]
        shift = lost = segment = 0  # grid index minus row; lost before the next chunk
        row = start
        while row < stop:
            block_end = min(row + per_block, stop)
            data = self.read(row, block_end)
            empty: Bool | None = np.asarray(np.isnan(data).all(axis=1)) if np.isnan(data[:, 0]).any() else None
            at = row
            while at < block_end:
                while gaps and gaps[0].sample <= at:
                    gap = gaps.pop(0)
                    shift += gap.lost_samples
                    lost += gap.lost_samples
                    segment += gap.restart
                end = min(at + chunk_samples, block_end)
                if gaps:
                    end = min(end, gaps[0].sample)
                if empty is not None:
                    run = empty[at - row : end - row]
                    if run[0]:
                        n = int(run.argmin()) or len(run)
                        lost += n
                        at += n
                        continue
                    if run.any():
                        end = at + int(run.argmax())
                first = at + shift - start
                t0 = first / rate
                yield at, Chunk(data[at - row : end - row], first, t0, t0 + (end - at) / rate, lost, segment)
                lost = 0
                at = end
            row = block_end


def open_recording(path: Path | str, stream: str | None = None, unit: str | None = None) -> Recording:
    """Open a recording of any known format.

    Parameters
    ----------
    path : Path
        `.vhdr` (or its `.eeg`), `.edf`, `.bdf`, `.fif` (`.fif.gz`), `.xdf` (`.xdfz`), `.txt` (OpenBCI), `.csv` (Muse), `.npz`.
    stream : str, optional
        Name of the stream to read from a file that holds several (XDF).
    unit : str, optional
        V, mV, µV or nV, for files that do not say it (XDF, EDF, BDF); what a file says goes first.

    Raises
    ------
    SourceError
        One line: what is wrong, where, and what to do.
    """
    path = Path(path)
    if unit is not None and microvolts_per(unit) is None:
        raise SourceError(f"unit {unit!r}: must be V, mV, µV or nV")
    name = path.name.lower()
    try:
        if path.is_dir():
            raise SourceError(f"{path}: is a folder; name the recording itself (for BIDS the _eeg.vhdr inside)")
        size = path.stat().st_size
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror}); check the path and its permissions") from None
    if size == 0 and not name.endswith(".eeg"):
        raise SourceError(f"{path}: the file is empty; copy it again from where it was recorded")
    suffix = next((s for s in _READERS if name.endswith(s)), None)
    if suffix is None:
        raise SourceError(f"{path}: unknown kind of file; known are {', '.join(_READERS)}")
    try:
        recording = _READERS[suffix](path, stream, unit)
    except SourceError:
        raise
    except READER_ERRORS as error:
        raise SourceError(
            f"{path}: cannot be read as {suffix.lstrip('.').upper()} ({one_line(error)}); is it complete?"
        ) from None
    if recording.n_samples == 0:
        raise SourceError(f"{path}: holds no samples; choose another recording")
    return recording


def one_line(error: BaseException) -> str:
    """The first line of a library's complaint, short enough for one line."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:160]


def checked_info(path: Path, info: StreamInfo) -> StreamInfo:
    """Refuse headers that cannot be true before anything is allocated by them."""
    if not 1.0 <= info.sample_rate_hz <= 100_000.0:
        raise SourceError(f"{path}: sample rate {info.sample_rate_hz:g} Hz is not between 1 and 100000; the header is damaged")
    if not 1 <= info.n_channels <= 1024:
        raise SourceError(f"{path}: {info.n_channels} channels; between 1 and 1024 can be read")
    if len(set(info.channels)) == info.n_channels:
        return info
    seen: dict[str, int] = {}
    labels = []
    for label in info.channels:
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label}-{seen[label]}")
    return replace(info, channels=tuple(labels))


def from_array(data_uv: F32) -> Callable[[int, int], F32]:
    """`Recording.read` over samples in memory, (n_samples, n_channels)."""
    return lambda start, stop: data_uv[start:stop]


def _open_npz(path: Path, stream: str | None, unit: str | None) -> Recording:
    """Arrays `data_uv` (n_channels, n_samples), `ch_names`, `sfreq`; optional `sample_index` (0-255) and `timestamps_s`."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(i.file_size for i in archive.infolist())
    if unpacked > IN_MEMORY_BYTES:
        raise SourceError(f"{path}: {unpacked / 1e9:.1f} GB unpacked is too much for npz; convert it to BrainVision")
    with np.load(path, allow_pickle=False) as arrays:
        for key in ("data_uv", "ch_names", "sfreq"):
            if key not in arrays.files:
                raise SourceError(f"{path}: has no array {key!r}; eegloop reads npz with data_uv, ch_names and sfreq")
        data = arrays["data_uv"]
        labels = tuple(str(n) for n in np.atleast_1d(arrays["ch_names"]))
        rate = float(arrays["sfreq"])
        stamps = np.asarray(arrays["timestamps_s"], np.float64) if "timestamps_s" in arrays.files else None
        counts = np.asarray(arrays["sample_index"], np.int64) if "sample_index" in arrays.files else None
    if data.ndim != 2 or data.shape[0] != len(labels) or not np.issubdtype(data.dtype, np.number):
        raise SourceError(f"{path}: data_uv has shape {data.shape} for {len(labels)} channels; it must be (channels, samples)")
    info = StreamInfo(path.stem, "", rate, labels, tuple(channel_kind(label) for label in labels))
    info = checked_info(path, info)
    samples = np.ascontiguousarray(data.T, dtype=np.float32)
    gaps = counter_gaps(counts, stamps, rate) if counts is not None and len(counts) == len(samples) else ()
    start = float(stamps[0]) if stamps is not None and len(stamps) and stamps[0] > 1e8 else None
    return Recording(path, "npz", info, len(samples), from_array(samples), (), gaps, start, stamps)


def counter_gaps(
    counts: np.ndarray[tuple[int], np.dtype[np.int64]], stamps_s: F64 | None, rate_hz: float, modulus: int = 256
) -> tuple[Gap, ...]:
    """Gaps from a packet counter 0 .. modulus - 1; whole turns of the counter from the stamps.

    The counter's step is what it does most often (2 on a Daisy); a counter that does not run is no counter. In a recording of several
    turns it has shown how far it goes (a Ganglion's ends at 200).
    """
    if len(counts) < 3 or counts.min() < 0 or counts.max() >= modulus:
        return ()
    steps = np.diff(counts) % modulus
    values, how_often = np.unique(steps, return_counts=True)
    step = int(values[how_often.argmax()])
    if step == 0 or how_often.max() < 0.9 * len(steps):
        return ()
    if len(counts) > 4 * modulus:
        modulus = min(modulus, int(counts.max()) + step)  # one of odd numbers ends at 255 and goes on with 1
        steps = np.diff(counts) % modulus
    turn = modulus // step
    suspects = steps != step
    if stamps_s is not None:
        suspects = suspects | (np.diff(stamps_s) * rate_hz > 0.75 * turn)
    gaps = []
    for i in np.flatnonzero(suspects).tolist():
        lost = max(int(steps[i]) // step - 1, 0)
        if stamps_s is not None:
            passed = _passed_s(stamps_s, i, rate_hz) * rate_hz - 1 - lost
            lost += turn * max(round(passed / turn), 0)
        if lost:
            gaps.append(Gap(i + 1, lost))
    return tuple(gaps)


def _passed_s(stamps_s: F64, i: int, rate_hz: float) -> float:
    """Time from row i to row i + 1 by the earliest stamps of the half second on each side (late ones are bursts)."""
    reach = max(int(0.5 * rate_hz), 1)
    before = stamps_s[max(0, i + 1 - reach) : i + 1]
    after = stamps_s[i + 1 : i + 1 + reach]
    first = float((before + np.arange(len(before) - 1, -1, -1) / rate_hz).min())
    return float((after - np.arange(len(after)) / rate_hz).min()) - first


def _open_brainvision(path: Path, stream: str | None, unit: str | None) -> Recording:
    from drivers.sources.files_brainvision import open_brainvision

    return open_brainvision(path)


def _open_mne(path: Path, stream: str | None, unit: str | None) -> Recording:
    from drivers.sources.files_mne import open_edf, open_fif

    return open_fif(path) if ".fif" in path.suffixes else open_edf(path, unit)


def _open_text(path: Path, stream: str | None, unit: str | None) -> Recording:
    from drivers.sources.files_text import open_text

    return open_text(path)


def _open_xdf(path: Path, stream: str | None, unit: str | None) -> Recording:
    from drivers.sources.files_xdf import open_xdf

    return open_xdf(path, stream, unit)


_READERS: dict[str, Callable[[Path, str | None, str | None], Recording]] = {
    ".vhdr": _open_brainvision,
    ".eeg": _open_brainvision,
    ".edf": _open_mne,
    ".bdf": _open_mne,
    ".fif": _open_mne,
    ".fif.gz": _open_mne,
    ".xdf": _open_xdf,
    ".xdfz": _open_xdf,
    ".txt": _open_text,
    ".csv": _open_text,
    ".npz": _open_npz,
}
