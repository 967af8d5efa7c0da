"""Emulator of a Pulse Pal v2 (analog and TTL pulse generator) on its USB serial port. Not affiliated with Sanworks.

`python -m simulators.stimulators.pulse_pal [--firmware 21] [--fault F] [--record FILE]`
Built from the facts in reference/stimulators.md section 3 (open firmware and client programs). Where the reference
leaves a choice, the worse one is taken: "abort" leaves a held voltage and the loop mode as they are, nothing ends
when the host goes, and a message left incomplete for 500 ms freezes the outputs until the joystick is pressed.
There is no coil and no check value: `coil_hot` does not exist, `wrong_crc` sends a wrong acknowledgment byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulators.stimulators.wire import FAULTS, MS, EmulatedDevice, serve

CYCLE_NS = 50_000
CHANNELS = 4
ZERO_BITS = 0x8000
HALF_MESSAGE_NS = 500 * MS
OPCODE = 213
ALL_SETTINGS = 178
MOST_CUSTOM = 5000
OWN_FAULTS = tuple(fault for fault in FAULTS if fault != "coil_hot")
TIMES = ("phase1", "between", "phase2", "interval", "burst", "burst_interval", "train", "delay")
BYTE_CODES = {1: "biphasic", 12: "link1", 13: "link2", 14: "custom_id", 15: "custom_bursts", 16: "custom_loop"}
VOLT_CODES = {2: "phase1_bits", 3: "phase2_bits", 17: "rest_bits"}
FOREVER = 1 << 62


def volts(bits: int) -> float:
    """Of a 16-bit DAC value, V."""
    return round((bits - ZERO_BITS) * 10 / 32767.5, 4) if bits != ZERO_BITS else 0.0


@dataclass
class Channel:
    """One output: its settings (times in cycles of 50 µs) and what it is doing."""

    biphasic: int = 0
    phase1_bits: int = 49152
    phase2_bits: int = 16384
    rest_bits: int = ZERO_BITS
    phase1: int = 2
    between: int = 2
    phase2: int = 2
    interval: int = 20
    burst: int = 0
    burst_interval: int = 0
    train: int = 20_000
    delay: int = 0
    link1: int = 1
    link2: int = 0
    custom_id: int = 0
    custom_bursts: int = 0
    custom_loop: int = 0
    continuous: bool = False
    latched: bool = False
    bits: int = ZERO_BITS
    edges: Iterator[tuple[int, int]] | None = None
    edge: tuple[int, int] | None = None


@dataclass
class Custom:
    """A custom train: cycle and DAC value of each pulse."""

    times: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()


@dataclass
class Settings:
    """What op 73 sets and the card keeps: four channels and two trigger modes."""

    channels: list[Channel] = field(default_factory=lambda: [Channel() for _ in range(CHANNELS)])
    trigger_modes: list[int] = field(default_factory=lambda: [0, 0])

    def to_bytes(self) -> bytes:
        times = b"".join(getattr(c, name).to_bytes(4, "little") for c in self.channels for name in TIMES)
        levels = b"".join(b.to_bytes(2, "little") for c in self.channels for b in (c.phase1_bits, c.phase2_bits, c.rest_bits))
        flags = bytes(f for c in self.channels for f in (c.biphasic, c.custom_id, c.custom_bursts, c.custom_loop))
        links = bytes([c.link1 for c in self.channels] + [c.link2 for c in self.channels] + self.trigger_modes)
        return times + levels + flags + links

    def load(self, data: bytes) -> None:
        """From 178 bytes; what runs goes on with the new values at its next pulse."""
        for i, channel in enumerate(self.channels):
            for j, name in enumerate(TIMES):
                at = 4 * (8 * i + j)
                setattr(channel, name, int.from_bytes(data[at : at + 4], "little"))
            for j, name in enumerate(("phase1_bits", "phase2_bits", "rest_bits")):
                at = 128 + 2 * (3 * i + j)
                setattr(channel, name, int.from_bytes(data[at : at + 2], "little"))
            for j, name in enumerate(("biphasic", "custom_id", "custom_bursts", "custom_loop")):
                setattr(channel, name, data[152 + 4 * i + j])
            channel.link1, channel.link2 = data[168 + i], data[172 + i]
        self.trigger_modes = list(data[176:178])


class PulsePal(EmulatedDevice):
    """The device.

    Parameters
    ----------
    firmware : int
        20 or 21: version 2.0.0 or 2.0.1.
    """

    faults = OWN_FAULTS

    def __init__(self, firmware: int = 21) -> None:
        super().__init__()
        self.firmware = firmware
        self.settings = Settings()
        self.custom = [Custom(), Custom()]
        self.card: dict[bytes, bytes] = {}
        self.display = b""
        self.client = b""
        self.frozen = False
        self.pins = [0, 0, 0, 0]
        self._message = bytearray()
        self._message_ns = 0
        self._started_ns = 0

    # ---- time ---------------------------------------------------------------------------------------------------

    @property
    def output_on(self) -> bool:
        return any(c.edges is not None or c.bits != ZERO_BITS for c in self.settings.channels)

    def next_ns(self) -> int | None:
        due = [self._message_ns + HALF_MESSAGE_NS] if self._message else []
        if not self.frozen:
            due += [channel.edge[0] for channel in self.settings.channels if channel.edge is not None]
        if self.fault == "disarms" and self._started_ns:
            due.append(self._started_ns + 100 * MS)
        return min(due) if due else None

    def pass_time(self, now_ns: int) -> None:
        if self._message and now_ns >= self._message_ns + HALF_MESSAGE_NS and not self.frozen:
            self._message.clear()
            self.frozen = True
            self.record(now_ns, "comm_failure")
        if self.frozen:
            self._message.clear()
            return
        for number, channel in enumerate(self.settings.channels):
            while channel.edge is not None and channel.edge[0] <= now_ns:
                self._step(number, channel)
        if self.fault == "disarms" and self._started_ns and now_ns >= self._started_ns + 100 * MS:
            self._started_ns = 0
            self._abort(now_ns)

    def press_joystick(self, now_ns: int) -> None:
        """Out of "COMM. FAILURE!": defaults are loaded."""
        self.frozen = False
        self.settings = Settings()
        for number in range(CHANNELS):
            self._drive(number, ZERO_BITS, now_ns, even_if_same=True)

    def _step(self, number: int, channel: Channel) -> None:
        """One edge of a train, or its end; a trigger that came meanwhile starts the next train."""
        assert channel.edge is not None and channel.edges is not None
        at_ns, bits = channel.edge
        channel.edge = next(channel.edges, None)
        self._drive(number, bits, at_ns)
        if channel.edge is None:
            channel.edges = None
            if channel.latched:
                channel.latched = False
                self._start(number, at_ns)

    def _drive(self, number: int, bits: int, at_ns: int, even_if_same: bool = False) -> None:
        channel = self.settings.channels[number]
        if bits != channel.bits or even_if_same:
            channel.bits = bits
            level = volts(bits) * (1.5 if self.fault == "lies" else 1.0)
            self.record(at_ns, "level", channel=number + 1, volts=level)

    def _trigger(self, number: int, at_ns: int) -> None:
        if self.fault == "refuses_arm":
            return
        channel = self.settings.channels[number]
        if channel.edges is not None:
            channel.latched = True
        else:
            self._start(number, at_ns)

    def _start(self, number: int, at_ns: int) -> None:
        channel = self.settings.channels[number]
        self._started_ns = self._started_ns or at_ns
        channel.edges = self._edges(channel, at_ns + CYCLE_NS)
        channel.edge = next(channel.edges, None)

    def _stop(self, number: int, at_ns: int) -> None:
        channel = self.settings.channels[number]
        if channel.edges is not None:
            channel.edges = channel.edge = None
            channel.latched = False
            self._drive(number, channel.rest_bits, at_ns)

    def _abort(self, at_ns: int) -> None:
        for number in range(CHANNELS):
            self._stop(number, at_ns)

    # ---- waveforms ----------------------------------------------------------------------------------------------

    def _edges(self, channel: Channel, trigger_ns: int) -> Iterator[tuple[int, int]]:
        """Every change of the output of one train, in order; voltages are read when their phase begins."""
        start = 0
        end = FOREVER // CYCLE_NS if channel.continuous else channel.train
        origin_ns = trigger_ns + channel.delay * CYCLE_NS

        def at(cycle: int) -> int:
            return origin_ns + min(cycle, end) * CYCLE_NS

        while start < end:
            for pulse, bits in self._pulses(channel, start, end):
                if pulse >= end:
                    break
                yield at(pulse), channel.phase1_bits if bits is None else bits
                stop = pulse + channel.phase1
                if channel.biphasic:
                    if channel.between:
                        yield at(stop), channel.rest_bits
                    stop += channel.between
                    if stop < end:
                        yield at(stop), channel.phase2_bits if bits is None else 2 * ZERO_BITS - 1 - bits
                    stop += channel.phase2
                if stop < end and not (bits is not None and self._touches(channel, stop - start)):
                    yield at(stop), channel.rest_bits
            if not (channel.custom_id and channel.custom_loop and self._custom(channel).times):
                break
            start += max(1, self._custom(channel).times[-1] + channel.phase1)
        if not channel.custom_id or channel.custom_loop:
            yield at(end), channel.rest_bits
        elif not channel.continuous:
            yield at(min(end, start + channel.phase1 + (self._custom(channel).times or (0,))[-1])), channel.rest_bits

    def _touches(self, channel: Channel, cycle: int) -> bool:
        """True if the next custom pulse follows without a gap."""
        return not channel.biphasic and cycle in self._custom(channel).times

    def _custom(self, channel: Channel) -> Custom:
        return self.custom[1 if channel.custom_id == 2 else 0]

    def _pulses(self, channel: Channel, start: int, end: int) -> Iterator[tuple[int, int | None]]:
        """Cycle of each pulse, and its own voltage if it is a custom one."""
        if not channel.custom_id:
            yield from ((cycle, None) for cycle in self._regular(channel, start, end))
            return
        custom = self._custom(channel)
        for time, bits in zip(custom.times, custom.bits, strict=True):
            if channel.custom_bursts and channel.burst:
                for cycle in self._regular(channel, start + time, min(end, start + time + channel.burst)):
                    yield cycle, bits
            else:
                yield start + time, bits

    def _regular(self, channel: Channel, start: int, end: int) -> Iterator[int]:
        width = channel.phase1 + (channel.between + channel.phase2 if channel.biphasic else 0)
        period = max(1, width + channel.interval)
        whole = channel.burst + channel.burst_interval
        cycle = start
        while cycle < end:
            if (
                channel.burst
                and channel.burst_interval
                and not channel.custom_bursts
                and (cycle - start) % whole >= channel.burst
            ):
                cycle = start + ((cycle - start) // whole + 1) * whole
                continue
            yield cycle
            cycle += period

    # ---- bytes --------------------------------------------------------------------------------------------------

    def receive(self, byte: int, now_ns: int) -> None:
        if self.frozen or (not self._message and byte != OPCODE):
            return
        if not self._message:
            self._message_ns = now_ns
        self._message.append(byte)
        length = self._length(self._message)
        if length and len(self._message) >= length:
            message, self._message = bytes(self._message), bytearray()
            self._obey(message[1], message[2:], now_ns)

    def spoil(self, frame: bytes) -> bytes:
        return bytes([frame[0] ^ 0x80]) + frame[1:]

    def _length(self, message: bytearray) -> int:
        """Of the whole message, 0 = more bytes are needed to tell."""
        if len(message) < 2:
            return 0
        op = message[1]
        fixed = {72: 2, 73: 2 + ALL_SETTINGS, 77: 3, 79: 5, 80: 2, 81: 2, 82: 4, 85: 2, 86: 4, 87: 3, 89: 8}
        if op in fixed:
            return fixed[op]
        if op == 74:
            return 0 if len(message) < 3 else 6 if message[2] in VOLT_CODES else 8 if 4 <= message[2] <= 11 else 5
        if op in (75, 76):
            count = min(int.from_bytes(message[2:6], "little"), MOST_CUSTOM) if len(message) >= 6 else 0
            return 6 + 6 * count if len(message) >= 6 else 0
        if op == 78:
            return 3 + message[2] if len(message) > 2 else 0
        if op == 90:
            return 4 + message[3] if len(message) > 3 else 0
        return 2

    def _obey(self, op: int, data: bytes, now_ns: int) -> None:
        self.pass_time(now_ns)
        match op:
            case 72:
                self.say(b"K" + self.firmware.to_bytes(4, "little"))
            case 73:
                self.settings.load(data)
                self._rest_all(now_ns)
                self.say(b"\x01")
            case 74:
                self._program(data[0], data[1], int.from_bytes(data[2:], "little"), now_ns)
                self.say(b"\x01")
            case 75 | 76:
                count = (len(data) - 4) // 6
                times = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "little") for i in range(count))
                at = 4 + 4 * count
                bits = tuple(int.from_bytes(data[at + 2 * i : at + 2 * i + 2], "little") for i in range(count))
                self.custom[op - 75] = Custom(times, bits)
                self.say(b"\x01")
            case 77:
                for number in range(CHANNELS):
                    if data[0] >> number & 1:
                        self._trigger(number, now_ns)
            case 78:
                self.display = data[1:].replace(b"\xfe", b"\n")
            case 79:
                if 1 <= data[0] <= CHANNELS:
                    self._drive(data[0] - 1, int.from_bytes(data[1:3], "little"), now_ns)
                self.say(b"\x01")
            case 80:
                self._abort(now_ns)
            case 81:
                self._disconnect(now_ns)
            case 82:
                self._loop(data[0] - 1, data[1] == 1, now_ns)
                self.say(b"\x01")
            case _:
                self._rest(op, data, now_ns)

    def _rest(self, op: int, data: bytes, now_ns: int) -> None:
        """The messages about the card, the pins and the display."""
        match op:
            case 85:
                self.say(self.settings.to_bytes())
            case 86:
                self.pins[(data[0] - 1) % 4] = data[1]
            case 87:
                self.say(bytes([self.pins[(data[0] - 1) % 4]]))
            case 89:
                self.client = data
            case 90:
                name = data[2:]
                if data[0] == 1:
                    self.card[name] = self.settings.to_bytes()
                elif data[0] == 2:
                    self.settings.load(self.card.get(name, Settings().to_bytes()))
                    self._rest_all(now_ns)
                    self.say(self.settings.to_bytes())
                elif data[0] == 3:
                    self.card.pop(name, None)

    def _program(self, code: int, number: int, value: int, now_ns: int) -> None:
        if code == 128 and 1 <= number <= 2:
            self.settings.trigger_modes[number - 1] = value
        if not 1 <= number <= CHANNELS:
            return
        channel = self.settings.channels[number - 1]
        if code in BYTE_CODES:
            setattr(channel, BYTE_CODES[code], value)
        elif code in VOLT_CODES:
            setattr(channel, VOLT_CODES[code], value)
            if code == 17 and channel.edges is None:
                self._drive(number - 1, value, now_ns)
        elif 4 <= code <= 11:
            setattr(channel, TIMES[code - 4], value)

    def _rest_all(self, now_ns: int) -> None:
        for number, channel in enumerate(self.settings.channels):
            if channel.edges is None:
                self._drive(number, channel.rest_bits, now_ns)

    def _loop(self, number: int, on: bool, now_ns: int) -> None:
        if not 0 <= number < CHANNELS:
            return
        self.settings.channels[number].continuous = on
        if on:
            self._trigger(number, now_ns)
        else:
            self._stop(number, now_ns)

    def _disconnect(self, now_ns: int) -> None:
        self._abort(now_ns)
        for number, channel in enumerate(self.settings.channels):
            channel.continuous = False
            self._drive(number, channel.rest_bits, now_ns)
        self.client = b""


def build(arguments: argparse.Namespace) -> PulsePal:
    """The device of the command line."""
    return PulsePal(arguments.firmware)


def main(argv: list[str] | None = None) -> int:
    """Run the emulator; its first line of output is the pseudo-terminal's path."""
    parser = argparse.ArgumentParser(prog="pulse_pal", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=("2",), default="2", help="which Pulse Pal (only 2)")
    parser.add_argument("--firmware", type=int, choices=(20, 21), default=21, help="firmware version (default 21)")
    return serve(parser, build, OWN_FAULTS, argv)


if __name__ == "__main__":
    sys.exit(main())
