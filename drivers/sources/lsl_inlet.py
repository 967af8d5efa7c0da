"""What liblsl is asked: which streams there are, what a stream's header says, its samples, its clock offset.

Every function here that waits says so; they run in a source's own thread, never on the event loop. `Inlet.pull` does not wait.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivers.sources.units import channel_kind, microvolts_per
from eegloop.errors import SourceError
from eegloop.signal import F32, F64, StreamInfo

BUFFER_S = 30  # liblsl keeps this much for us; it is the bounded queue between the network and the loop
SETTLE_S = 0.4  # after a first match, how long to look for a second one: another round of asking
PULL_SAMPLES = 512
_FLOAT32, _STRING = 1, 3
_LOST = -2


class StreamLost(Exception):
    """The connection to the sender is gone."""


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """A stream that announces itself on the network."""

    name: str
    type: str
    source_id: str
    host: str
    uid: str
    n_channels: int
    sample_rate_hz: float

    def __str__(self) -> str:
        rate = f"{self.sample_rate_hz:g} Hz" if self.sample_rate_hz else "irregular"
        return f"{self.name!r} (type {self.type}, source_id {self.source_id!r}, host {self.host}, {self.n_channels} ch, {rate})"


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """A stream's full header, checked. `microvolts` is the factor to µV of each channel (1 where it is no voltage);
    `impedances_kohm` by label, of those channels whose header has one (the XDF convention: measured when the stream began)."""

    info: StreamInfo
    type: str
    uid: str
    units: tuple[str, ...]
    microvolts: tuple[float, ...]
    is_float32: bool
    impedances_kohm: dict[str, float]

    @property
    def shape(self) -> tuple[object, ...]:
        """What must be the same for a stream to be taken back after a loss."""
        return (self.info.channels, self.info.sample_rate_hz, self.microvolts, self.is_float32)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which stream: None = any. `predicate` is liblsl's XPath 1.0 over the header."""

    name: str | None = None
    type: str | None = None
    source_id: str | None = None
    host: str | None = None
    predicate: str | None = None

    def matches(self, seen: StreamSeen) -> bool:
        return (
            (self.name is None or seen.name == self.name)
            and (self.type is None or seen.type.lower() == self.type.lower())
            and (self.source_id is None or seen.source_id == self.source_id)
            and (self.host is None or seen.host.lower() == self.host.lower())
        )

    def __str__(self) -> str:
        asked = {k: getattr(self, k) for k in ("name", "type", "source_id", "host", "predicate")}
        parts = [f"{k} {v!r}" for k, v in asked.items() if v is not None]
        return ", ".join(parts) or "any stream"


def list_streams(wait_s: float = 1.0) -> list[StreamSeen]:
    """Every stream that answers within `wait_s`. Waits."""
    import pylsl

    return sorted({_seen(i) for i in pylsl.resolve_streams(wait_s)}, key=lambda s: (s.name, s.source_id))


def find_stream(wanted: Wanted, wait_s: float, stop: Callable[[], bool] = lambda: False) -> Any:
    """The one stream that matches, as pylsl's description. Waits, at most `wait_s` + 0.5 s.

    Raises
    ------
    SourceError
        If none appears (naming what was seen) or several match (naming them).
    """
    import pylsl

    resolver = pylsl.ContinuousResolver(pred=wanted.predicate) if wanted.predicate else pylsl.ContinuousResolver()
    deadline = time.monotonic() + wait_s
    settled: float | None = None
    while True:
        by_uid = {i.uid(): i for i in resolver.results()}  # one stream may answer over IPv4 and IPv6
        found = {uid: i for uid, i in by_uid.items() if wanted.matches(_seen(i))}
        now = time.monotonic()
        if found and settled is None:
            settled = now + SETTLE_S
        if (settled is not None and now >= settled) or now >= deadline or stop():
            break
        time.sleep(0.02)
    if len(found) > 1:
        listed = "; ".join(sorted(str(_seen(i)) for i in found.values()))
        raise SourceError(
            f"LSL: {len(found)} streams match {wanted}: {listed}. Add name, source_id or host to the source in config.yaml "
            "until one is left; if two are alike in all of them, switch one off"
        )
    if not found:
        listed = "; ".join(sorted({str(_seen(i)) for i in by_uid.values()}))
        seen = f"seen were: {listed}" if listed else "no stream was seen at all"
        raise SourceError(
            f"LSL: no stream matches {wanted} within {wait_s:g} s; {seen}. Start the headset's LSL program, "
            "or correct the source in config.yaml (eegloop devices lists the streams)"
        )
    return next(iter(found.values()))


def _seen(info: Any) -> StreamSeen:
    return StreamSeen(
        info.name(), info.type(), info.source_id(), info.hostname(), info.uid(), info.channel_count(), info.nominal_srate()
    )  # fmt: skip


def read_header(info: Any, unit: str | None = None, labels: tuple[str, ...] | None = None) -> StreamHeader:
    """Check a full description (`StreamInlet.info`); `unit` and `labels` from the configuration take precedence.

    Raises
    ------
    SourceError
        If it is text, has no regular rate, or a voltage channel has no known unit.
    """
    name, count, rate = info.name(), info.channel_count(), info.nominal_srate()
    if info.channel_format() == _STRING:
        raise SourceError(f"LSL stream {name!r}: carries text, not samples; choose the EEG stream (eegloop devices lists them)")
    if not 1.0 <= rate <= 100_000.0:
        raise SourceError(f"LSL stream {name!r}: has no regular sample rate ({rate:g} Hz); choose the EEG stream")
    if labels is not None and len(labels) != count:
        raise SourceError(f"LSL stream {name!r}: has {count} channels, but config.yaml names {len(labels)} under channels")
    described = _channels(info, count)
    is_eeg = info.type().lower() == "eeg"
    names, kinds, units, factors = [], [], [], []
    for i, channel in enumerate(described):
        label = labels[i] if labels is not None else channel["label"] or f"Ch{i + 1}"
        kind = channel_kind(label, channel["type"], is_eeg)
        said = unit if unit is not None else channel["unit"]
        factor = microvolts_per(said)
        if factor is None and said == "0" and channel["coil_type"]:
            factor = 1e6  # MNE-LSL writes the exponent of a volt, and only it describes coils
        if factor is None and kind != "misc":
            what = f"unit {said!r}" if said else "no unit"
            raise SourceError(
                f"LSL stream {name!r}: channel {label} has {what}; set unit: to V, mV, µV or nV in its source in config.yaml"
            )
        names.append(label)
        kinds.append(kind)
        units.append(said)
        factors.append(1.0 if factor is None or kind == "misc" else factor)
    desc = info.desc()
    acquisition = desc.child("acquisition")
    stream = StreamInfo(
        name, info.source_id(), float(rate), tuple(names), tuple(kinds), _positive(acquisition.child_value("full_scale")),
        desc.child("reference").child_value("label") or "n/a",
        acquisition.child_value("manufacturer") or desc.child_value("manufacturer") or "n/a",
        info.hostname(),
    )  # fmt: skip
    impedances = {name: _positive(channel["impedance"]) for name, channel in zip(names, described, strict=True)}
    return StreamHeader(
        stream, info.type(), info.uid(), tuple(units), tuple(factors), info.channel_format() == _FLOAT32,
        {name: kohm for name, kohm in impedances.items() if kohm > 0.0},
    )  # fmt: skip


def _channels(info: Any, count: int) -> list[dict[str, str]]:
    keys = ("label", "type", "unit", "coil_type", "impedance")
    described: list[dict[str, str]] = []
    channel = info.desc().child("channels").child("channel")
    while not channel.empty() and len(described) <= count:
        described.append({k: (channel.child_value(k) or "").strip() for k in keys})
        channel = channel.next_sibling("channel")
    return described if len(described) == count else [dict.fromkeys(keys, "")] * count


def _positive(text: str) -> float:
    try:
        value = float(text or "0")
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


class Inlet:
    """One liblsl inlet, its own recovery off: liblsl would silently attach to any host with the same source_id."""

    def __init__(self, info: Any, open_s: float, unit: str | None, labels: tuple[str, ...] | None) -> None:
        """Connects and reads the header. Waits, at most about three times `open_s`."""
        import pylsl
        from pylsl.lib import lib

        name = info.name()
        self._inlet: Any = pylsl.StreamInlet(info, max_buflen=BUFFER_S, max_chunklen=0, recover=False)
        try:
            self.header = read_header(self._inlet.info(open_s), unit, labels)
            self.offset_s, self.offset_uncertainty_s = self.measure_offset(open_s)
            self._inlet.open_stream(open_s)
        except (pylsl.util.TimeoutError, pylsl.util.LostError, StreamLost) as error:
            raise SourceError(
                f"LSL stream {name!r} on {info.hostname()} announces itself but does not answer ({error}); restart its program, "
                "and let the firewall pass TCP and UDP ports 16572-16604"
            ) from None
        dtype = np.float32 if self.header.is_float32 else np.float64
        self._pull = lib.lsl_pull_chunk_f if self.header.is_float32 else lib.lsl_pull_chunk_d
        self._data = np.empty((PULL_SAMPLES, self.header.info.n_channels), dtype)
        self._stamps = np.empty(PULL_SAMPLES)
        self._n_channels = self.header.info.n_channels
        self._retired = False
        self._error = ctypes.c_int()
        self._arguments = (
            self._inlet.obj, ctypes.c_void_p(self._data.ctypes.data), ctypes.c_void_p(self._stamps.ctypes.data),
            ctypes.c_size_t(self._data.size), ctypes.c_size_t(PULL_SAMPLES), ctypes.c_double(0.0), ctypes.byref(self._error),
        )  # fmt: skip
        factors = np.array(self.header.microvolts)
        self._factors = None if self.header.is_float32 and bool((factors == 1.0).all()) else factors

    def pull(self) -> tuple[F32, F64] | None:
        """What has arrived, without waiting: (n, n_channels) float32 µV and the sender's stamps; None if nothing.

        Raises
        ------
        StreamLost
        """
        if self._retired:
            raise StreamLost("closed")
        n = self._pull(*self._arguments) // self._n_channels
        if self._error.value:
            self._error.value = 0
            raise StreamLost("the sender closed the connection")
        if n == 0:
            return None
        data = self._data[:n]
        scaled = data.copy() if self._factors is None else (data * self._factors).astype(np.float32)
        return scaled, self._stamps[:n].copy()

    def measure_offset(self, wait_s: float) -> tuple[float, float]:
        """Seconds to add to the sender's stamps, and how uncertain that is (half the round trip). Waits the first time.

        Raises
        ------
        StreamLost
            If the sender is gone or does not answer.
        """
        from pylsl.lib import lib

        remote, uncertainty, error = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
        measure = lib.lsl_time_correction_ex
        measure.restype = ctypes.c_double
        offset = measure(
            self._inlet.obj, ctypes.byref(remote), ctypes.byref(uncertainty), ctypes.c_double(wait_s), ctypes.byref(error)
        )
        if error.value:
            raise StreamLost("its clock offset cannot be measured")
        return float(offset), float(uncertainty.value)

    def offset_now(self) -> tuple[float, float] | None:
        """The newest offset and its uncertainty, None while the sender does not answer. Waits at most 1 s."""
        try:
            return self.measure_offset(1.0)
        except StreamLost:
            return None

    def retire(self) -> None:
        """No pull will touch liblsl again; called by the thread that pulls, before another one calls `close`."""
        self._retired = True

    def close(self) -> None:
        """Destroy the inlet. Waits for liblsl's threads."""
        self._retired = True
        self._inlet = None
