"""The vocabulary of what is measured: streams, chunks of samples, their quality, and biomarkers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source says of itself before its first sample.

    Attributes
    ----------
    name, source_id : str
        As the sender gives them; `source_id` tells two headsets of one model apart.
    sample_rate_hz : float
        Nominal rate; the measured one is the sample clock's.
    channels : tuple of str
        Labels in the order of a chunk's columns (10-20 names where the headset has them).
    kinds : tuple of str
        One BIDS channel type in lower case a channel: "eeg", "eog", "emg", "misc".
    full_scale_uv : float
        The amplifier's rail (half range, µV); 0 where the source does not say.
    reference : str
        Name of the reference electrode, "n/a" where unknown.
    """

    name: str
    source_id: str
    sample_rate_hz: float
    channels: tuple[str, ...]
    kinds: tuple[str, ...]
    full_scale_uv: float = 0.0
    reference: str = "n/a"
    manufacturer: str = "n/a"
    host: str = ""

    @property
    def n_channels(self) -> int:
        return len(self.channels)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive samples of one segment, as one delivery brought them.

    Attributes
    ----------
    data_uv : (n_samples, n_channels) float32
        Microvolts, rounded to float32 once, in the source. NaN is never used for a gap here.
    first_sample : int
        Index of the first sample on the stream's sample grid. Lost samples count: the next
        chunk starts at `first_sample + n_samples + its own lost_samples`.
    t0_s : float
        LSL `local_clock` seconds of the first sample: corrected for the sender's clock, de-jittered.
    arrival_s : float
        LSL `local_clock` seconds at which this process had the chunk in hand.
    lost_samples : int
        Samples missing directly before this chunk (0 when none).
    segment : int
        Grows by one when the sender restarts or its clock jumps; filters start anew then.
    impedance_kohm : (n_channels,) float64 or None
        Electrode impedances, where the source measures them and has new ones; NaN for channels it does not know, infinite =
        open. A BrainFlow board's are here; what an LSL header says of the stream's beginning is a `SourceNews` "impedance" only.
    """

    data_uv: F32
    first_sample: int
    t0_s: float
    arrival_s: float
    lost_samples: int = 0
    segment: int = 0
    impedance_kohm: F64 | None = None

    @property
    def n_samples(self) -> int:
        return int(self.data_uv.shape[0])

    @property
    def end_sample(self) -> int:
        """Index one past the last sample."""
        return self.first_sample + self.n_samples


@dataclass(frozen=True, slots=True)
class SideChunk:
    """Samples of a stream beside the EEG (accelerometer, optics, ...): acquired, counted and recorded, never decided on.

    Attributes
    ----------
    stream : str
        Letters and digits; one headset's side streams differ in it.
    channels : tuple of str
        "accel1", "optical12", ...
    data : (n_samples, n_channels) float32
        In the device's own units.
    first_sample, t0_s, arrival_s, lost_samples : as of `Chunk`, on this stream's own grid.
    """

    stream: str
    channels: tuple[str, ...]
    sample_rate_hz: float
    data: F32
    first_sample: int
    t0_s: float
    arrival_s: float
    lost_samples: int = 0


class Grade(IntEnum):
    """How far a value can be trusted; only GOOD may move a dose."""

    GOOD = 0
    SUSPECT = 1
    INVALID = 2  # written as n/a; the value is NaN


@dataclass(frozen=True, slots=True)
class Quality:
    """The state of every channel over one hop.

    Attributes
    ----------
    good : (n_channels,) bool
        False while something is wrong with the electrode or its signal. What the body does (blink, eye movement, muscle)
        and lost packets stand in `reasons` only.
    reasons : tuple of tuple of str
        Per channel what there is, in plain field terms: "flat", "rail", "amplitude", "line_noise", "blink", "gap", ...
    clean_fraction : float
        Share of (channel, sample) pairs of the analysis window that are free of artifact, 0-1.
    line_ratio : (n_channels,) float64
        Power at 50/60 Hz over power in 1-45 Hz, measured before the notch.
    contact : (n_channels,) float64
        Contact score without impedance, 0 (none) to 1; NaN where unknown. Says nothing about stimulation electrodes.
    worst : int
        Channel with the lowest score if that is poor (below 0.5), else -1.
    mains_hz : float
        50 or 60, as found in the signal; NaN while neither stands out.
    lost_fraction : float
        Share of the samples of the last 10 s that never came, 0-1.
    impedance_kohm : (n_channels,) float64 or None
        As the source measured it last; None where it does not.
    """

    good: Bool
    reasons: tuple[tuple[str, ...], ...]
    clean_fraction: float
    line_ratio: F64
    contact: F64 | None = None
    worst: int = -1
    mains_hz: float = float("nan")
    lost_fraction: float = 0.0
    impedance_kohm: F64 | None = None


@dataclass(frozen=True, slots=True)
class BiomarkerColumn:
    """What one number of a `Biomarkers` row is.

    `name` is the module, or module and part ("band_power.alpha"); `channel` an electrode, a pair
    ("F3-F4") or "n/a" for a value of the whole head; `unit` a UCUM-like unit ("uV2", "Hz", "1").
    """

    name: str
    channel: str
    unit: str
    window_s: float


@dataclass(frozen=True, slots=True)
class Biomarkers:
    """Every biomarker at the end of one hop.

    Attributes
    ----------
    columns : tuple of BiomarkerColumn
        The same object for every hop of a stream.
    values : (n_columns,) float64
        NaN exactly where `grades` is INVALID.
    grades : (n_columns,) uint8
        `Grade` of each value.
    reasons : tuple of str
        Why a value is not GOOD; "" when it is.
    hop : int
        Number of this hop; it ends at sample ceil(hop * hop_s * rate), so the first is 1.
    end_sample : int
        One past the last sample used.
    t_s : float
        LSL seconds of the end of the window.
    """

    columns: tuple[BiomarkerColumn, ...]
    values: F64
    grades: U8
    reasons: tuple[str, ...]
    hop: int
    end_sample: int
    t_s: float
    quality: Quality

    def find(self, name: str, channel: str = "n/a") -> int:
        """Column number of a biomarker; raises KeyError naming what there is."""
        column = self.where(name, channel)
        if column is None:
            known = ", ".join(sorted({f"{c.name}@{c.channel}" for c in self.columns}))
            raise KeyError(f"no biomarker {name}@{channel}; this line computes: {known}")
        return column

    def where(self, name: str, channel: str = "n/a") -> int | None:
        """Column number of a biomarker, None where the line computes no such."""
        columns, index = _INDEX.get(id(self.columns), ((), {}))
        if columns is not self.columns:
            index = {(c.name, c.channel): i for i, c in reversed(list(enumerate(self.columns)))}
            if len(_INDEX) >= _MOST_INDEXED:
                _INDEX.clear()
            _INDEX[id(self.columns)] = self.columns, index
        return index.get((name, channel))


# Columns are asked for at every hop and are the same object for every hop of a stream: where each stands is looked up once.
_MOST_INDEXED = 256
_INDEX: dict[int, tuple[tuple[BiomarkerColumn, ...], dict[tuple[str, str], int]]] = {}


@dataclass(frozen=True, slots=True)
class SourceNews:
    """Something a source has to say that is no sample.

    `kind` is one of: "connected", "lost", "restarted", "marker", "battery" (data: percent), "impedance" (data: kΩ by electrode),
    "warning", "ended".
    """

    kind: str
    text: str
    t_s: float
    data: dict[str, float | str] = field(default_factory=dict)
