"""The ports of the line: what a source, a biomarker, a controller, a stimulator and a clock must be able to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eegloop.stim import DeviceReport as DeviceReport

if TYPE_CHECKING:
    from eegloop.signal import Biomarkers, Chunk, SideChunk, SourceNews, StreamInfo
    from eegloop.stim import Limit, Prescription, StimRequest, StimState


class Clock(Protocol):
    """The three clocks of a machine; only `daemon/` and `interlock/` hold one."""

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME, ns: goes on in suspend."""

    def lsl_s(self) -> float:
        """LSL `local_clock`, s."""

    def wall_s(self) -> float:
        """Unix time, s."""


class EegSource(Protocol):
    """A headset, a stream or a file. `async with source:` connects and disconnects.

    `chunks()` yields `Chunk`s and `SourceNews` in order, at most about 20 ms of samples each when live, and `SideChunk`s of what
    the headset measures beside the EEG.
    A lost link is news ("lost"), then silence or reconnection; it ends only when a file ends or on close.
    """

    async def __aenter__(self) -> EegSource: ...

    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def info(self) -> StreamInfo:
        """Valid once connected."""

    def chunks(self) -> AsyncIterator[Chunk | SideChunk | SourceNews]: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a controller may know when it decides.

    Attributes
    ----------
    t_s : float
        LSL seconds of the decision (the end of the newest window), never the wall clock.
    biomarkers : Biomarkers
    present_ma : float
        Amplitude of the stimulate blocks as last granted.
    ceiling_ma, floor_ma : float
        Between these a request is sensible; the envelope and the interlock enforce it anyway.
    stim : StimState or None
        The newest the interlock said, None = nothing yet.
    pulse_errors_us : tuple of int
        How far from their deadlines this session's newest pulses were written (µs).
    pulses_over : bool
        Three pulses in a row were late: none is fired until a person re-arms.
    baseline, baseline_sd : float or None
        Median and robust SD (1.4826 MAD) of the target biomarker over this session's baseline, in the
        biomarker's unit; None = none taken.
    """

    t_s: float
    biomarkers: Biomarkers
    present_ma: float
    floor_ma: float
    ceiling_ma: float
    frequency_hz: float
    stim: StimState | None
    baseline: float | None = None
    baseline_sd: float | None = None
    pulse_errors_us: tuple[int, ...] = ()
    pulses_over: bool = False


class Controller(Protocol):
    """Decides; pure: everything it remembers is in the state it returns (hashable, JSON-ready dataclass)."""

    def start(self, prescription: Prescription) -> object:
        """The state before the first decision."""

    def decide(self, state: object, snapshot: Snapshot) -> tuple[object, StimRequest]: ...

    def target(self, state: object, snapshot: Snapshot) -> dict[str, float | str | None]:
        """Biomarker, channel, unit, value, low, high: what the page draws."""


class Stimulator(Protocol):
    """A stimulator driver: used by the interlock only. No call may block longer than 2 ms.

    `readback` is "measured", "acknowledged" or "none"; `stops_alone_s` how long output goes on with
    host, interlock or cable gone; `serial` is what the device calls itself ("" until it has said).
    Standard library and pyserial only.
    """

    readback: str
    serial: str
    stops_alone_s: float
    limits: tuple[Limit, ...]

    def connect(self) -> None:
        """Open the port and identify the device; raises OSError or DeviceError naming what to do."""

    def fileno(self) -> int:
        """For `select`; -1 when not connected."""

    def arm(self) -> None: ...

    def disarm(self) -> None: ...

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """Give this much for at most `lease_ms`; called every interlock tick while a lease holds."""

    def zero(self) -> None:
        """Output to zero now, whatever the state; never raises."""

    def poll(self) -> DeviceReport:
        """Read what the device has said; never blocks."""

    def close(self) -> None: ...
