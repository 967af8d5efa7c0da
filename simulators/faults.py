"""Faults of a headset and its link, on the stream as it is delivered: seeded, composable, also as `--fault NAME:key=value,...`.

A fault takes one packet and gives none, one or several; `Faults` passes a packet through all of them in order. Times are
seconds of the stream's own time since its first sample.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, get_type_hints

import numpy as np

from eegloop.signal import F32

FOREVER_S = math.inf
_RANGES = {
    "share": (0.0, 1.0),
    "seed": (0, 2**63 - 1),
    "at_s": (0.0, FOREVER_S),
    "for_s": (0.0, FOREVER_S),
    "every_s": (0.0, FOREVER_S),
    "gap_s": (0.0, 3600.0),
    "factor": (0.5, 2.0),
    "missing": (1, 1000),
}


@dataclass(frozen=True, slots=True)
class Packet:
    """Some samples on their way to the listener.

    Attributes
    ----------
    t_s : float
        Stream time of the first sample (0 = first sample of all), untouched by faults.
    data_uv : (n_samples, n_channels) float32
    stamp_s : float
        What the sender writes as time of the last sample, LSL seconds.
    due_s : float
        LSL seconds at which it goes out.
    labels : tuple of str
        Channels in the order of the columns.
    epoch : int
        Grows when the sender restarts: the old outlet is closed and a new one opened.
    """

    t_s: float
    data_uv: F32
    stamp_s: float
    due_s: float
    labels: tuple[str, ...]
    epoch: int = 0


class Fault(Protocol):
    """One way a stream goes wrong."""

    name: ClassVar[str]

    def deliver(self, packet: Packet) -> list[Packet]:
        """What becomes of a packet."""


@dataclass(slots=True)
class _Window:
    at_s: float = 0.0
    for_s: float = FOREVER_S
    every_s: float = 0.0

    def _inside(self, packet: Packet) -> bool:
        since_s = packet.t_s - self.at_s
        if since_s >= 0 and self.every_s > 0:
            since_s = since_s % self.every_s
        return 0 <= since_s < self.for_s


@dataclass(slots=True)
class _Chance:
    share: float = 0.3
    seed: int = 1
    _draw: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng((self.seed, sum(map(ord, type(self).__name__))))

    def _hit(self) -> bool:
        return bool(self._draw.random() < self.share)


@dataclass(slots=True)
class Loss(_Chance):
    """A share of the packets never arrives; the time stamps of the rest show the gap."""

    name: ClassVar[str] = "loss"

    def deliver(self, packet: Packet) -> list[Packet]:
        return [] if self._hit() else [packet]


@dataclass(slots=True)
class Duplicate(_Chance):
    """A share of the packets arrives twice, the second time with the same time stamp."""

    name: ClassVar[str] = "duplicate"

    def deliver(self, packet: Packet) -> list[Packet]:
        return [packet, packet] if self._hit() else [packet]


@dataclass(slots=True)
class Disorder(_Chance):
    """A share of the packets arrives after its successor: time stamps run backwards once."""

    name: ClassVar[str] = "disorder"
    _held: Packet | None = field(default=None, init=False, repr=False)

    def deliver(self, packet: Packet) -> list[Packet]:
        if self._held is not None:
            held, self._held = self._held, None
            return [packet, replace(held, due_s=packet.due_s)]
        if self._hit():
            self._held = packet
            return []
        return [packet]


@dataclass(slots=True)
class Freeze(_Window):
    """The headset goes on sending, but the same values (for `for_s`)."""

    name: ClassVar[str] = "freeze"
    _frozen: F32 | None = field(default=None, init=False, repr=False)

    def deliver(self, packet: Packet) -> list[Packet]:
        if not self._inside(packet):
            self._frozen = packet.data_uv[-1:]
            return [packet]
        if self._frozen is None:
            self._frozen = packet.data_uv[:1]
        return [replace(packet, data_uv=np.repeat(self._frozen, len(packet.data_uv), axis=0))]


@dataclass(slots=True)
class Burst:
    """Everything arrives, but only every `every_s`, all at once."""

    name: ClassVar[str] = "burst"
    every_s: float = 0.5

    def deliver(self, packet: Packet) -> list[Packet]:
        if self.every_s <= 0:
            return [packet]
        return [replace(packet, due_s=math.ceil(packet.due_s / self.every_s) * self.every_s)]


@dataclass(slots=True)
class Stall(_Window):
    """Nothing arrives for `for_s`, then all of it at once, in order."""

    name: ClassVar[str] = "stall"
    for_s: float = 5.0
    _due_s: float = field(default=-FOREVER_S, init=False, repr=False)

    def deliver(self, packet: Packet) -> list[Packet]:
        if not self._inside(packet):
            return [packet]
        if packet.due_s > self._due_s:  # the first of this stall says when all of it comes
            since_s = packet.t_s - self.at_s
            self._due_s = packet.due_s + self.for_s - (since_s % self.every_s if self.every_s > 0 else since_s)
        return [replace(packet, due_s=self._due_s)]


@dataclass(slots=True)
class Gone(_Window):
    """Out of range: nothing arrives for `for_s`, and it never will; then the stream goes on."""

    name: ClassVar[str] = "gone"
    for_s: float = 5.0

    def deliver(self, packet: Packet) -> list[Packet]:
        return [] if self._inside(packet) else [packet]


@dataclass(slots=True)
class ClockStep:
    """From `at_s` on the sender's clock is `step_s` ahead (or behind)."""

    name: ClassVar[str] = "clock_step"
    at_s: float = 10.0
    step_s: float = 3600.0

    def deliver(self, packet: Packet) -> list[Packet]:
        return [packet if packet.t_s < self.at_s else replace(packet, stamp_s=packet.stamp_s + self.step_s)]


@dataclass(slots=True)
class Restart:
    """The headset reboots at `at_s`, is away for `gap_s` and comes back as a new outlet whose clock starts at `clock_s`."""

    name: ClassVar[str] = "restart"
    at_s: float = 10.0
    gap_s: float = 1.0
    clock_s: float = 1.0
    _shift_s: float | None = field(default=None, init=False, repr=False)

    def deliver(self, packet: Packet) -> list[Packet]:
        if packet.t_s < self.at_s:
            return [packet]
        if packet.t_s < self.at_s + self.gap_s:
            return []
        if self._shift_s is None:
            self._shift_s = self.clock_s - packet.stamp_s
        return [replace(packet, stamp_s=packet.stamp_s + self._shift_s, epoch=packet.epoch + 1)]


@dataclass(slots=True)
class Rate:
    """The headset samples `factor` times as fast as its header says (the board paces itself by this)."""

    name: ClassVar[str] = "rate"
    factor: float = 1.02

    def deliver(self, packet: Packet) -> list[Packet]:
        return [packet]


@dataclass(slots=True)
class ChannelOrder:
    """The headset comes back at `at_s` as a new outlet with its channels in reverse order; its header says so."""

    name: ClassVar[str] = "channel_order"
    at_s: float = 10.0

    def deliver(self, packet: Packet) -> list[Packet]:
        if packet.t_s < self.at_s:
            return [packet]
        reverse = np.ascontiguousarray(packet.data_uv[:, ::-1])
        return [replace(packet, data_uv=reverse, labels=packet.labels[::-1], epoch=packet.epoch + 1)]


@dataclass(slots=True)
class ChannelCount:
    """The headset comes back at `at_s` as a new outlet without its last `missing` channels; its header says so."""

    name: ClassVar[str] = "channel_count"
    at_s: float = 10.0
    missing: int = 1

    def deliver(self, packet: Packet) -> list[Packet]:
        if packet.t_s < self.at_s:
            return [packet]
        left = max(1, len(packet.labels) - self.missing)
        data = np.ascontiguousarray(packet.data_uv[:, :left])
        return [replace(packet, data_uv=data, labels=packet.labels[:left], epoch=packet.epoch + 1)]


@dataclass(slots=True)
class _Channel(_Window):
    name: ClassVar[str] = ""
    channel: str = "all"

    def _overwritten(self, packet: Packet, value: float) -> list[Packet]:
        if not self._inside(packet):
            return [packet]
        data = packet.data_uv.copy()
        columns = slice(None) if self.channel == "all" else packet.labels.index(self.channel)
        data[:, columns] = value
        return [replace(packet, data_uv=data)]


@dataclass(slots=True)
class NotANumber(_Channel):
    """NaN instead of samples."""

    name: ClassVar[str] = "nan"

    def deliver(self, packet: Packet) -> list[Packet]:
        return self._overwritten(packet, math.nan)


@dataclass(slots=True)
class Saturated(_Channel):
    """At the amplifier's rail."""

    name: ClassVar[str] = "saturated"
    rail_uv: float = 187_500.0

    def deliver(self, packet: Packet) -> list[Packet]:
        return self._overwritten(packet, self.rail_uv)


@dataclass(slots=True)
class Flat(_Channel):
    """A shorted or broken electrode: one constant value."""

    name: ClassVar[str] = "flat"
    value_uv: float = 0.0

    def deliver(self, packet: Packet) -> list[Packet]:
        return self._overwritten(packet, self.value_uv)


KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        *(Loss, Duplicate, Disorder, Freeze, Burst, Stall, Gone),
        *(ClockStep, Restart, Rate, ChannelOrder, ChannelCount, NotANumber, Saturated, Flat),
    )
}


def parse(text: str) -> Fault:
    """`loss`, `loss:share=0.1`, `flat:channel=F3,at_s=5,for_s=10` -> the fault.

    Raises
    ------
    ValueError
        For an unknown fault or setting, or a value that is no number; the message says what there is.
    """
    name, _, rest = text.partition(":")
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.4)
        raise ValueError(f"fault {name!r}: there are {', '.join(KINDS)}" + (f"; did you mean {near[0]!r}?" if near else ""))
    kind = KINDS[name]
    types = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    values: dict[str, float | int | str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise ValueError(f"fault {name}: {part!r} must be one of {', '.join(f'{k}=...' for k in known) or '(no settings)'}")
        try:
            values[key] = types[key](value)
        except ValueError:
            raise ValueError(f"fault {name}: {key}={value!r} must be a {'whole ' if types[key] is int else ''}number") from None
    for key, given in values.items():
        low, high = _RANGES.get(key, (-math.inf, math.inf))
        if not isinstance(given, str) and not low <= given <= high:
            raise ValueError(f"fault {name}: {key}={given} must lie from {low:g} to {high:g}")
    return kind(**values)


class Faults:
    """Several faults, one after the other."""

    def __init__(self, faults: list[Fault], labels: tuple[str, ...]) -> None:
        """Raises ValueError if a fault names a channel that is not among `labels`."""
        for fault in faults:
            if isinstance(fault, _Channel) and fault.channel not in ("all", *labels):
                raise ValueError(f"fault {fault.name}: channel={fault.channel!r} must be all or one of {' '.join(labels)}")
        self._faults = faults

    @property
    def pace(self) -> float:
        """Stream seconds a real second (1 unless the rate is off)."""
        return math.prod(fault.factor for fault in self._faults if isinstance(fault, Rate))

    def switch(self, texts: list[str], now_s: float, labels: tuple[str, ...]) -> None:
        """From stream time `now_s` on these faults and no others; their `at_s` counts from now.

        Raises
        ------
        ValueError
            As `parse`; for a fault that can only be had from the start (rate); the present faults stay then.
        """
        fresh = Faults([parse(text) for text in texts], labels)
        if any(isinstance(fault, Rate) for fault in fresh._faults):
            raise ValueError("fault rate: a headset cannot change it while it runs; start it with --fault rate:factor=...")
        for fault, text in zip(fresh._faults, texts, strict=True):
            if hasattr(fault, "at_s"):
                fault.at_s = now_s + (fault.at_s if "at_s=" in text else 0.0)
        self._faults = [*(fault for fault in self._faults if isinstance(fault, Rate)), *fresh._faults]

    def deliver(self, packet: Packet) -> list[Packet]:
        """What becomes of a packet after all of them."""
        packets = [packet]
        for fault in self._faults:
            packets = [after for before in packets for after in fault.deliver(before)]
        return packets
