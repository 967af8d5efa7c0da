"""A recorded session read back: the loop's inputs, tick by tick and in their order, exactly as it had them.

Works on a session that is still being written or was cut short: what is not whole is not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegloop.errors import RecordingError
from eegloop.signal import F64, BiomarkerColumn, Chunk, StreamInfo
from eegloop.stim import StimState
from records import bids, tables
from records.append import read_rows


@dataclass(frozen=True, slots=True)
class ChunkTick:
    """The loop was given a chunk. `wall_s` is Unix time at its arrival, known once a second."""

    tick: int
    chunk: Chunk
    wall_s: float | None


@dataclass(frozen=True, slots=True)
class StimTick:
    """The loop was told a state by the interlock."""

    tick: int
    state: StimState


@dataclass(frozen=True, slots=True)
class EventTick:
    """The loop was told something else: an operator's command, news from the source."""

    tick: int
    t_s: float
    kind: str
    text: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdleTick:
    """The loop ran without anything new; `t_s` is the time it had."""

    tick: int
    t_s: float


Tick = ChunkTick | StimTick | EventTick | IdleTick


def contact_data(info: StreamInfo, impedance_kohm: F64) -> dict[str, float | str]:
    """Impedances as a "contact" event's data: kΩ by channel, "open" where infinite, nothing where not known."""
    known = zip(info.channels, impedance_kohm.tolist(), strict=True)
    return {name: "open" if math.isinf(kohm) else kohm for name, kohm in known if not math.isnan(kohm)}


def contact_kohm(info: StreamInfo, data: dict[str, Any]) -> F64:
    """(n_channels,) kΩ of such an event."""
    return np.array([float(str(data.get(name, "nan")).replace("open", "inf")) for name in info.channels])


class RecordedSession:
    """One run of eegloop's own, opened by its `.vhdr`.

    Raises
    ------
    RecordingError
        If the file is no recording of eegloop (other recordings are read by `drivers.sources.playback`).
    """

    def __init__(self, header: Path) -> None:
        entities = bids.Entities.parse(header)
        if entities is None or not header.name.endswith("_eeg.vhdr"):
            raise RecordingError(f"{header}: not named sub-*_ses-*_task-*_eeg.vhdr, so it is no session of eegloop")
        self.header = header
        self.entities = entities
        # .../sub-X/ses-Y/eeg/name.vhdr: the dataset is three folders up.
        self._derivatives = header.resolve().parents[3] / bids.DERIVATIVES / entities.folder
        setup = self._path("setup.json")
        try:
            self.setup: dict[str, Any] = json.loads(setup.read_bytes())
            stream = dict(self.setup["stream"])
            self.info = StreamInfo(**{**stream, "channels": tuple(stream["channels"]), "kinds": tuple(stream["kinds"])})
            columns = json.loads(self._path("biomarkers.json").read_bytes())["Hops"]["Columns"]
            self.columns = tuple(BiomarkerColumn(**c) for c in columns)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordingError(
                f"{setup}: cannot be read ({error}); replay needs the derivatives beside the recording"
            ) from None

    @staticmethod
    def is_session(header: Path) -> bool:
        """True if `header` is a run of eegloop's own that can be replayed exactly."""
        try:
            RecordedSession(header)
        except RecordingError:
            return False
        return True

    def _path(self, suffix: str) -> Path:
        return self._derivatives / f"{self.entities.stem}_{suffix}"

    def samples(self) -> NDArray[np.float32]:
        """(n_samples, n_channels) µV, read-only, gaps as NaN; a last frame that is not whole is left out."""
        path = self.header.with_suffix(".eeg")
        frame = 4 * self.info.n_channels
        n = path.stat().st_size // frame
        if n == 0:
            return np.empty((0, self.info.n_channels), np.float32)
        return np.memmap(path, np.dtype("<f4"), "r", shape=(n, self.info.n_channels))

    def ticks(self) -> Iterator[Tick]:
        """Everything the loop was given, in order.

        Raises
        ------
        RecordingError
            If a table is damaged; a session that merely ends early just ends.
        """
        samples = self.samples()
        states = tables.read_table(self._path("stim.tsv"))
        events = enumerate(tables.read_table(self.header.with_name(f"{self.entities.stem}_events.tsv")))
        for row in tables.read_table(self._path("ticks.tsv")):
            tick, kind = int(row["tick"]), row["kind"]
            if kind == "chunk":
                start, count = int(row["file_sample"]), int(row["count"])
                if start + count > len(samples):
                    return
                wall = None if row["wall_s"] == tables.NA else float(row["wall_s"])
                yield ChunkTick(
                    tick,
                    Chunk(
                        np.array(samples[start : start + count]),
                        int(row["first_sample"]),
                        float(row["t0_s"]),
                        float(row["arrival_s"]),
                        int(row["lost_samples"]),
                        int(row["segment"]),
                    ),
                    wall,
                )
            elif kind == "stim":
                state = next(states, None)
                if state is None:
                    return
                yield StimTick(tick, tables.stim_state(state))
            elif kind == "event":
                # Gaps and segments have rows of their own in between; `ref` counts them.
                wanted = int(row["ref"])
                event = next((cells for number, cells in events if number == wanted), None)
                if event is None:
                    return
                text = "" if event["text"] == tables.NA else event["text"]
                yield EventTick(tick, float(row["t0_s"]), event["trial_type"], text, json.loads(event["data"]))
            elif kind == "idle":
                yield IdleTick(tick, float(row["t0_s"]))
            else:
                raise RecordingError(f"{self._path('ticks.tsv')}: unknown kind {kind!r}; written by a newer eegloop?")

    def hops(self) -> NDArray[np.void]:
        """Every hop of biomarkers (`records.derivatives.hop_dtype`)."""
        return read_rows(self._path("biomarkers.npy"))

    def decisions(self) -> Iterator[dict[str, Any]]:
        """Rows of `_decisions.tsv` with numbers, JSON and truth values decoded; n/a is None."""
        json_cells = ("inputs", "limits")
        texts = ("phase", "block", "authority", "controller", "proposal_reason", "sentence")
        whole = ("tick", "end_sample", "sequence", "delivered_uc")
        for row in tables.read_table(self._path("decisions.tsv")):
            decoded: dict[str, Any] = {}
            for name, cell in row.items():
                if name in texts:
                    decoded[name] = "" if cell == tables.NA else cell
                elif cell == tables.NA:
                    decoded[name] = None
                elif name in json_cells:
                    decoded[name] = json.loads(cell)
                elif name == "hold":
                    decoded[name] = cell == "true"
                else:
                    decoded[name] = int(cell) if name in whole else float(cell)
            yield decoded
