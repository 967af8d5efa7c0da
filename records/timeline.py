"""Where a chunk stands in the file, and what second of the recording a sample or an LSL time is."""

from __future__ import annotations

from dataclasses import dataclass

from eegloop.signal import Chunk


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one chunk goes.

    Attributes
    ----------
    file_sample : int
        Its first sample's row in the .eeg file.
    missing : int
        Samples of NaN to write before it: lost on the way or not recorded.
    new_segment : bool
        The sender restarted or its clock jumped before this chunk.
    off_grid : int
        Samples by which the chunk's number lies before where its segment has come to (0 = as it should be).
    """

    file_sample: int
    missing: int
    new_segment: bool
    off_grid: int


class Timeline:
    """The file's own sample grid: a file begins with the first sample it is given, at onset 0 s."""

    def __init__(self, sample_rate_hz: float, first_t0_s: float | None = None) -> None:
        self.rate_hz = sample_rate_hz
        self.n_samples = 0
        self._end_sample: int | None = None
        self._segment = 0
        self._offset = 0
        self._last_t0_s = first_t0_s
        self._last_file_sample = 0

    @property
    def started(self) -> bool:
        return self._end_sample is not None

    def missing_before(self, chunk: Chunk) -> int:
        """Samples that `place` would say are missing before `chunk`."""
        if self._end_sample is None:
            return 0
        if chunk.segment != self._segment:
            return max(0, chunk.lost_samples)
        # Within a segment the grid is the truth: it also counts what the recorder itself could not write.
        return max(0, chunk.lost_samples, chunk.first_sample - self._end_sample)

    def place(self, chunk: Chunk) -> Placement:
        """Where `chunk` would go; changes nothing."""
        if self._end_sample is None:
            return Placement(0, 0, False, 0)
        new_segment = chunk.segment != self._segment
        missing = self.missing_before(chunk)
        off_grid = 0 if new_segment else self._end_sample + missing - chunk.first_sample
        return Placement(self.n_samples + missing, missing, new_segment, off_grid)

    def add(self, chunk: Chunk, placement: Placement) -> None:
        self.n_samples = placement.file_sample + chunk.n_samples
        self._end_sample = chunk.end_sample
        self._segment = chunk.segment
        self._offset = placement.file_sample - chunk.first_sample
        self._last_t0_s = chunk.t0_s
        self._last_file_sample = placement.file_sample

    def onset_of_sample(self, stream_sample: int) -> float:
        """Seconds from the file's first sample, of a sample on the stream's grid."""
        return (stream_sample + self._offset) / self.rate_hz

    def onset_of_time(self, t_s: float) -> float:
        """Seconds from the file's first sample, of an LSL time (by the newest chunk's clock)."""
        if self._last_t0_s is None:
            return 0.0
        return self._last_file_sample / self.rate_hz + (t_s - self._last_t0_s)

    @property
    def newest_onset_s(self) -> float:
        """Seconds from the file's first sample to the end of the newest."""
        return self.n_samples / self.rate_hz
