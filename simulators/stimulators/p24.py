"""Emulator of a Hasomed P24 (ScienceMode4, 8-channel current stimulator) on its USB serial port. Not affiliated with Hasomed.

`python -m simulators.stimulators.p24 [--fault F] [--record FILE]`
Built from the facts in reference/stimulators.md section 4 (the maker's own library and documents). The record has one
`pulse` per pattern: channel 1-8 and its points (duration us, current mA, signed). This emulator's own, as no source
tells: a ramp of n scales the first n patterns in equal steps, more than 130 mA or less than 10 us is a parameter
error, a broken packet is answered with "general error". `coil_hot` is an electrode error here: there is no coil.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from simulators.stimulators.wire import FAULTS, MS, EmulatedDevice, S, serve

START, END, ESCAPE, KEY = 0xF0, 0x0F, 0x81, 0x55
KEEP_ALIVE_NS = 2 * S
LONGEST = 1200
MOST_MA = 130.0
OK, TRANSFER, PARAMETER, NOT_INITIALIZED, ELECTRODE, INVALID = 0, 1, 2, 7, 10, 11
IDLE, LOW_READY, MID_READY, MID_RUNNING = range(4)


def crc(data: bytes) -> int:
    """CRC-16/XMODEM."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def packet(number: int, command: int, data: bytes = b"") -> bytes:
    """One frame: start, stuffed length and check, stuffed payload, end."""
    payload = ((number & 63) << 10 | command).to_bytes(2, "big") + data
    stuffed = b"".join(bytes([ESCAPE, b ^ KEY]) if b in (START, END, ESCAPE) else bytes([b]) for b in payload)
    head = (len(stuffed) + 10).to_bytes(2, "big") + crc(stuffed).to_bytes(2, "big")
    return bytes([START]) + b"".join(bytes([ESCAPE, b ^ KEY]) for b in head) + stuffed + bytes([END])


@dataclass
class Pattern:
    """What a channel gives each period."""

    points: list[tuple[int, float]]
    period_ns: int
    ramp: int
    next_ns: int
    given: int = 0


class P24(EmulatedDevice):
    """The device."""

    def __init__(self) -> None:
        super().__init__()
        self.state = IDLE
        self.stop_on_all = False
        self.channels: dict[int, Pattern] = {}
        self.error = 0  # status nibble of every channel
        self._frame = bytearray()
        self._escaped = False  # the last byte was an escape: the next one is no sign of its own
        self._alive_ns = self._started_ns = 0
        self._low_end_ns = 0
        self._now_ns = 0

    # ---- time ---------------------------------------------------------------------------------------------------

    @property
    def output_on(self) -> bool:
        return self.state == MID_RUNNING or self._now_ns < self._low_end_ns

    def next_ns(self) -> int | None:
        if self.state != MID_RUNNING:
            return self._low_end_ns if self._now_ns < self._low_end_ns else None
        due = [pattern.next_ns for pattern in self.channels.values()] + [self._alive_ns + KEEP_ALIVE_NS]
        if self.fault == "disarms":
            due.append(self._started_ns + 500 * MS)
        return min(due)

    def pass_time(self, now_ns: int) -> None:
        self._now_ns = now_ns
        if self.fault == "coil_hot":
            self.error = 1
            if self.state == MID_RUNNING:
                self._stop(now_ns, "electrode error")
        if self.state != MID_RUNNING:
            return
        lapse_ns = self._alive_ns + KEEP_ALIVE_NS
        for channel, pattern in self.channels.items():
            while pattern.next_ns <= min(now_ns, lapse_ns - 1):
                share = min(1.0, (pattern.given + 1) / (pattern.ramp + 1))
                self._pulse(pattern.next_ns, channel, [(us, ma * share) for us, ma in pattern.points])
                pattern.given += 1
                pattern.next_ns += pattern.period_ns
        if now_ns >= lapse_ns:
            self._stop(lapse_ns, "keep-alive lapsed")
        elif self.fault == "disarms" and now_ns >= self._started_ns + 500 * MS:
            self._stop(now_ns, "by itself")

    def _stop(self, at_ns: int, why: str) -> None:
        if self.state == MID_RUNNING:
            self.record(at_ns, "disarmed", why=why)
            self.state = MID_READY
        self.channels.clear()

    def _pulse(self, at_ns: int, channel: int, points: list[tuple[int, float]]) -> None:
        gain = 1.5 if self.fault == "lies" else 1.0
        self.record(at_ns, "pulse", channel=channel, points=[[us, ma * gain] for us, ma in points])

    # ---- bytes --------------------------------------------------------------------------------------------------

    def receive(self, byte: int, now_ns: int) -> None:
        if byte == START and not self._escaped:
            self._frame.clear()
        elif not self._frame:
            return
        ends = byte == END and not self._escaped
        self._frame.append(byte)
        self._escaped = byte == ESCAPE and not self._escaped
        if len(self._frame) > LONGEST:
            self._frame.clear()
            self._escaped = False
        if not ends or not self._frame:
            return
        received, self._frame = bytes(self._frame), bytearray()
        self.pass_time(now_ns)
        self._take(received, now_ns)

    def spoil(self, frame: bytes) -> bytes:
        return frame[:8] + bytes([frame[8] ^ 0x10]) + frame[9:]

    def _take(self, received: bytes, now_ns: int) -> None:
        head, stuffed = received[1:9], received[9:-1]
        good = len(received) >= 12 and head[::2] == bytes([ESCAPE]) * 4
        if good:
            length, check = (int.from_bytes(bytes(b ^ KEY for b in head[i : i + 4 : 2]), "big") for i in (1, 5))
            good = length == len(received) and check == crc(stuffed)
        if not good:
            self.say(packet(0, 66, bytes([TRANSFER])))
            return
        payload, escaped = bytearray(), False
        for byte in stuffed:
            if byte == ESCAPE and not escaped:
                escaped = True
                continue
            payload.append(byte ^ KEY if escaped else byte)
            escaped = False
        header = int.from_bytes(payload[:2], "big")
        self._obey(header >> 10, header & 0x3FF, bytes(payload[2:]), now_ns)

    def _obey(self, number: int, command: int, data: bytes, now_ns: int) -> None:
        match command:
            case 0:
                self._stop(now_ns, "initialized anew")
                self.state = LOW_READY
                answer = bytes([OK])
            case 2:
                answer = self._low_pattern(data, now_ns)
            case 4 | 34:
                self._stop(now_ns, "told to")
                self._low_end_ns = 0
                self.state = IDLE
                answer = bytes([OK])
            case 30:
                self._stop(now_ns, "initialized anew")
                self.stop_on_all = bool(data and data[0])
                self.state = MID_READY
                answer = bytes([OK])
            case 32:
                answer = bytes([self._update(data, now_ns)])
            case 36:
                answer = self._current(data, now_ns)
            case 52:
                answer = bytes([OK]) + b"P24EMU0001"
            case 58:
                self._stop(now_ns, "reset")
                self.state = IDLE
                answer = bytes([OK])
            case 62:
                state = MID_READY if self.state == MID_RUNNING and self.fault == "lies" else self.state
                answer = bytes([OK, state, 6 if state else 0])
            case 68:
                answer = bytes([OK, 2, 0, 1, 4, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 1])
            case _:
                self.say(packet(number, 67, bytes([INVALID])))
                return
        self.say(packet(number, command + 1, answer))

    def _points(self, data: bytes, count: int) -> list[tuple[int, float]] | None:
        points = []
        for i in range(count):
            word = int.from_bytes(data[4 * i : 4 * i + 4], "big")
            points.append((word >> 20, ((word >> 10 & 0x3FF) - 300) / 2))
        good = len(data) >= 4 * count and all(us >= 10 and abs(ma) <= MOST_MA for us, ma in points)
        return points if good else None

    def _low_pattern(self, data: bytes, now_ns: int) -> bytes:
        if not data or self.state != LOW_READY:
            return bytes([NOT_INITIALIZED if data else PARAMETER, 0, 0])
        channel, connector = data[0] >> 5 & 3, data[0] >> 4 & 1
        points = self._points(data[1:], (data[0] & 15) + 1)
        result = OK
        if points is None:
            result = PARAMETER
        elif self.error:
            result = ELECTRODE
        elif data[0] & 0x80 and self.fault != "refuses_arm":
            self._pulse(now_ns, 1 + channel + 4 * connector, points)
            self._low_end_ns = max(self._low_end_ns, now_ns) + sum(us for us, _ in points) * 1000
        elif data[0] & 0x80:
            result = 8
        return bytes([result, channel | connector << 4, 0])

    def _update(self, data: bytes, now_ns: int) -> int:
        if self.state not in (MID_READY, MID_RUNNING):
            return NOT_INITIALIZED
        if not data:
            return PARAMETER
        if self.fault == "refuses_arm":
            return 8
        if self.error:
            return ELECTRODE
        wanted: dict[int, Pattern] = {}
        at = 1
        for channel in range(1, 9):
            if not data[0] >> (channel - 1) & 1:
                continue
            if len(data) < at + 3:
                return PARAMETER
            ramp, count = data[at] & 15, (data[at] >> 4) + 1
            word = int.from_bytes(data[at + 1 : at + 3], "big")
            period_ns = (word >> 1) * 500_000 + (250_000 if word & 1 else 0)
            points = self._points(data[at + 3 : at + 3 + 4 * count], count)
            if points is None or period_ns < max(500_000, sum(us for us, _ in points) * 1000):
                return PARAMETER
            before = self.channels.get(channel)
            wanted[channel] = Pattern(points, period_ns, 0 if before else ramp, before.next_ns if before else now_ns)
            at += 3 + 4 * count
        if self.state == MID_READY:
            self._started_ns = now_ns
            self.record(now_ns, "armed")
        self.state, self.channels, self._alive_ns = MID_RUNNING, wanted, now_ns
        self.pass_time(now_ns)
        return OK

    def _current(self, data: bytes, now_ns: int) -> bytes:
        if self.state not in (MID_READY, MID_RUNNING):
            return bytes([NOT_INITIALIZED, 4, 0, 0, 0, 0, 0])
        if data[:1] != b"\x04":
            return bytes([PARAMETER, 4, 0, 0, 0, 0, 0])
        self._alive_ns = now_ns
        active = sum(1 << (channel - 1) for channel in self.channels) if self.fault != "lies" else 0
        return bytes([ELECTRODE if self.error else OK, 4, active]) + bytes([self.error * 0x11]) * 4


def main(argv: list[str] | None = None) -> int:
    """Run the emulator; its first line of output is the pseudo-terminal's path."""
    parser = argparse.ArgumentParser(prog="p24", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=("p24",), default="p24", help="which stimulator (only p24)")
    return serve(parser, lambda _arguments: P24(), FAULTS, argv)


if __name__ == "__main__":
    sys.exit(main())
