"""Hasomed P24 (ScienceMode4, 8 channels of current pulses) on its USB serial port. Not affiliated with Hasomed.

Repeated patterns ("mid level") go on for 2 s without a keep-alive, so the driver never starts them: it gives single
charge-balanced pulses ("low level"), each of which ends by itself, one by one under the lease. Mid-level packets are
built and read all the same, and a pattern somebody else left running is stopped at connect.

Emulator only: the interlock watches it, stops it and never arms it (`interlock/limits.py: EMULATOR_ONLY`), as pulses in
steps of 0.5 mA are neither tDCS nor tACS and no hard limits are known for them. The port is complete; `output` gives
pulses at `frequency_hz` with `amplitude_ma` as their peak, rounded down to 0.5 mA. Pulses leave at the interlock's ticks,
so their time jitters by one tick. Facts from reference/stimulators.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drivers.stimulators.amplitude import Peak, number
from drivers.stimulators.framed_line import FramedLine
from drivers.stimulators.serial_line import Line, SerialLine, boot_ns
from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit

BAUD = 3_000_000
READBACK = "acknowledged"
STOPS_ALONE_S = 2.0
SLICE_S = 0.01  # the longest pulse that is sent
MS = 1_000_000
MOST_MA = 4.0
LIMITS = (Limit("amplitude_ma", MOST_MA, "mA", "device"), Limit("frequency_hz", 45.0, "Hz", "device"))
START, END, ESCAPE, KEY = 0xF0, 0x0F, 0x81, 0x55
LONGEST = 1200
ANSWER_NS = 300 * MS
QUIET_NS = 2_100 * MS
POLL_NS = 150 * MS
ZERO_AGAIN_NS = 100 * MS
LL_INIT, LL_PULSE, LL_STOP = 0, 2, 4
ML_INIT, ML_UPDATE, ML_STOP, ML_CURRENT = 30, 32, 34, 36
DEVICE_ID, RESET, STIM_STATUS, VERSION = 52, 58, 62, 68
GENERAL_ERROR, UNKNOWN_COMMAND = 66, 67
IDLE, LOW_READY = 0, 1
RESULTS = {
    1: ("transfer", "a packet was broken on the way; it is asked anew"),
    2: ("parameter", "the stimulator did not accept a value; check amplitude, width and frequency"),
    3: ("protocol", "the stimulator speaks another version of the protocol; check its firmware"),
    7: ("not_initialized", "the stimulator was reset; arm again"),
    8: ("high_voltage", "the stimulator has no high voltage; charge it, switch it off and on"),
    10: ("electrode", "an electrode has no contact; check the pads and cables"),
    11: ("invalid_command", "the stimulator does not know this command; check its firmware"),
}
ERRORS = {
    **dict(RESULTS.values()),
    "no_answer": "the stimulator does not answer; check that it is on and the cable",
    "broken_packet": "a packet was broken; output is stopped and the stimulator asked anew",
    "device_error": "the stimulator refuses with an error code; see its manual, switch it off and on",
    "out_of_range": "asked for more than this driver gives",
    "unplugged": "the USB port is gone; plug it in, then connect again",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where it is and what is wired to it.

    Attributes
    ----------
    port : str
        Serial port, e.g. /dev/ttyACM0.
    channel : int
        1-8.
    width_us : int
        Of one phase of a pulse, 10-4095.
    """

    port: str = ""
    channel: int = 1
    width_us: int = 200


def crc(data: bytes) -> int:
    """CRC-16/XMODEM."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def packet(packet_number: int, command: int, data: bytes = b"") -> bytes:
    """One frame; length and check value are always stuffed, of the payload only F0, 0F and 81."""
    payload = ((packet_number & 63) << 10 | command).to_bytes(2, "big") + data
    stuffed = b"".join(bytes([ESCAPE, b ^ KEY]) if b in (START, END, ESCAPE) else bytes([b]) for b in payload)
    head = (len(stuffed) + 10).to_bytes(2, "big") + crc(stuffed).to_bytes(2, "big")
    return bytes([START]) + b"".join(bytes([ESCAPE, b ^ KEY]) for b in head) + stuffed + bytes([END])


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a pattern: duration 10-4095 µs and signed current, mA in steps of 0.5."""

    duration_us: int
    current_ma: float

    def to_bytes(self) -> bytes:
        """Raises DeviceError if it is out of the device's range."""
        if not 10 <= self.duration_us <= 4095 or not -130.0 <= self.current_ma <= 130.0:
            raise DeviceError(f"p24: {self}: must be 10-4095 us and -130 to 130 mA")
        return (self.duration_us << 20 | (round(self.current_ma * 2) + 300) << 10).to_bytes(4, "big")


def low_level(channel: int, points: tuple[Point, ...], execute: bool = True) -> bytes:
    """Data of one self-ending pattern on channel 1-8."""
    if not 1 <= channel <= 8 or not 1 <= len(points) <= 16:
        raise DeviceError(f"p24: channel {channel} with {len(points)} points: must be 1-8 and 1-16")
    connector, lead = divmod(channel - 1, 4)
    head = (len(points) - 1) | connector << 4 | lead << 5 | (0x80 if execute else 0)
    return bytes([head]) + b"".join(point.to_bytes() for point in points)


def mid_level(patterns: dict[int, tuple[int, float, tuple[Point, ...]]]) -> bytes:
    """Data of ML_UPDATE: channel -> (ramp 0-15, period ms, points). For tools and tests; the driver never sends it."""
    body = b""
    for channel in sorted(patterns):
        ramp, period_ms, points = patterns[channel]
        quarters = round(period_ms * 4)
        body += bytes([ramp | (len(points) - 1) << 4]) + (quarters // 2 << 1 | quarters & 1).to_bytes(2, "big")
        body += b"".join(point.to_bytes() for point in points)
    return bytes([sum(1 << (channel - 1) for channel in patterns)]) + body


def biphasic(amplitude: Peak, width_us: int) -> tuple[Point, ...]:
    """A pulse and its mirror, so that no charge is left; the current is rounded down to 0.5 mA."""
    peak_ma = int(number(amplitude, "mA", 130.0) * 2) / 2
    return (Point(width_us, peak_ma), Point(width_us, -peak_ma))


@dataclass(frozen=True, slots=True)
class Answer:
    """One packet from the device."""

    number: int
    command: int
    data: bytes


class Parser:
    """Cuts the stream into packets, aware of stuffing; what is none is dropped and counted."""

    def __init__(self) -> None:
        self.broken = 0
        self._buffer = bytearray()
        self._escaped = False

    def feed(self, data: bytes) -> list[Answer]:
        found = []
        for byte in data:
            if byte == START and not self._escaped:
                self.broken += 1 if self._buffer else 0
                self._buffer = bytearray([byte])
                self._escaped = False
            elif self._buffer:
                self._buffer.append(byte)
                if byte == END and not self._escaped:
                    answer = _read(bytes(self._buffer))
                    self._buffer.clear()
                    if answer is None:
                        self.broken += 1
                    else:
                        found.append(answer)
                elif len(self._buffer) > LONGEST:
                    self.broken += 1
                    self._buffer.clear()
                self._escaped = bool(self._buffer) and byte == ESCAPE and not self._escaped
            else:
                self.broken += 1
        return found

    def clear(self) -> None:
        self._buffer.clear()
        self._escaped = False


def _read(received: bytes) -> Answer | None:
    head, stuffed = received[1:9], received[9:-1]
    if len(received) < 12 or head[::2] != bytes([ESCAPE]) * 4:
        return None
    length, check = (int.from_bytes(bytes(b ^ KEY for b in head[i : i + 4 : 2]), "big") for i in (1, 5))
    if length != len(received) or check != crc(stuffed):
        return None
    payload, escaped = bytearray(), False
    for byte in stuffed:
        if byte == ESCAPE and not escaped:
            escaped = True
            continue
        payload.append(byte ^ KEY if escaped else byte)
        escaped = False
    if len(payload) < 2:
        return None
    header = int.from_bytes(payload[:2], "big")
    return Answer(header >> 10, header & 0x3FF, bytes(payload[2:]))


class P24:
    """One device; see `eegloop.ports.Stimulator` and the module's text.

    Parameters
    ----------
    path : str
        Serial port.
    channel : int
        1-8.
    width_us : int
        Of one phase, 10-4095.
    """

    def __init__(
        self, path: str, channel: int = 1, width_us: int = 200, line: Line | None = None, clock: Callable[[], int] = boot_ns
    ) -> None:
        if channel not in range(1, 9) or not 10 <= width_us <= 4095:
            raise DeviceError(f"p24: channel {channel}, width_us {width_us}: must be 1-8 and 10-4095")
        self.readback, self.stops_alone_s, self.slice_s, self.limits = READBACK, STOPS_ALONE_S, SLICE_S, LIMITS
        self.serial = ""
        self.trouble = ""
        self._channel, self._width_us = channel, width_us
        self._line = line or SerialLine(path, BAUD, "name the P24's port and check its cable and your permission", stop_bits=2)
        self._clock = clock
        self._ear: FramedLine[Answer] = FramedLine(self._line, Parser(), QUIET_NS, clock)
        self._awaited: dict[int, tuple[int, int, int]] = {}  # packet number: command, when, after how many starts
        self._number = self._starts = 0
        self._off = self._armed = self._ready = False
        self._given_ma: float | None = None
        self._asked_ma = 0.0
        self._heard_ns = self._asked_ns = self._pulse_ns = self._zeroed_ns = 0

    # ---- the port -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open, stop whatever runs, ask who it is. Raises DeviceError if the port cannot be opened."""
        self._line.open()
        self._forget()
        self.trouble = ""
        self._stop_all()
        self._send(DEVICE_ID)

    def fileno(self) -> int:
        return self._line.fileno()

    def arm(self) -> None:
        """Switch the pulse stage on; nothing is given before `output`."""
        if self._armed or self._ear.quiet or not self.serial or self._line.fileno() < 0:
            return
        self._armed, self._off = True, False
        self._starts += 1
        self.trouble = ""
        self._send(LL_INIT, b"\x00")

    def disarm(self) -> None:
        self.zero()

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """One pulse if the next one is due; call it at every tick while a lease holds."""
        now_ns = self._clock()
        if not self._armed or not self._ready or lease_ms <= 0 or self._line.fileno() < 0:
            return
        if not 0.0 <= amplitude_ma <= MOST_MA or not 0.5 <= frequency_hz <= 45.0:
            self._fail("out_of_range")
            self.zero()
            return
        self._asked_ma = int(amplitude_ma * 2) / 2
        if self._asked_ma == 0.0:
            self._given_ma = 0.0
            return
        if now_ns - self._pulse_ns < 1e9 / frequency_hz or len(self._awaited) > 8:
            return
        self._pulse_ns = now_ns
        self._starts += 1
        self._send(LL_PULSE, low_level(self._channel, biphasic(Peak.of_peak(amplitude_ma, "mA"), self._width_us)))

    def zero(self) -> None:
        """Stop both levels now; said again at most every 100 ms. Never raises."""
        fresh = self._armed
        self._armed = self._ready = False
        now_ns = self._clock()
        if self._line.fileno() >= 0 and (fresh or now_ns - self._zeroed_ns >= ZERO_AGAIN_NS):
            self._stop_all()

    def poll(self) -> DeviceReport:
        """Read what has arrived; never waits."""
        now_ns = self._clock()
        heard = self._ear.hear()
        if heard.gone:
            self._forget()
            self._line.close()
            self._fail("unplugged")
            return DeviceReport(None, now_ns, connected=False, armed=False, fault=self.trouble)
        if heard.again:
            self._stop_all()
            self._send(DEVICE_ID)
        if heard.quiet:
            return self._report(now_ns)
        for answer in heard.frames:
            self._heed(answer, now_ns)
        if heard.broken:
            self._doubt("broken_packet", now_ns)
        elif any(now_ns - asked_ns > ANSWER_NS for _, asked_ns, _ in self._awaited.values()):
            self._doubt("no_answer", now_ns)
        elif now_ns - self._asked_ns >= POLL_NS and not self._awaited:
            self._send(STIM_STATUS)
        return self._report(now_ns)

    def close(self) -> None:
        """Stop and close. Never raises."""
        if self._line.fileno() >= 0:
            self._stop_all()
        self._line.close()
        self._forget()

    # ---- inside -------------------------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        """The status asked for after both stops is the proof."""
        self._zeroed_ns = self._clock()
        for command in (LL_STOP, ML_STOP, STIM_STATUS):
            self._send(command)

    def _send(self, command: int, data: bytes = b"") -> None:
        self._number = (self._number + 1) % 64
        self._asked_ns = self._clock()
        if self._line.write(packet(self._number, command, data)) and not self._ear.quiet:
            self._awaited[self._number] = (command, self._asked_ns, self._starts)

    def _heed(self, answer: Answer, now_ns: int) -> None:
        if answer.command in (GENERAL_ERROR, UNKNOWN_COMMAND):
            self._refused(answer.data[0] if answer.data else 0)
            return
        awaited = self._awaited.pop(answer.number, None)
        if awaited is None or answer.command != awaited[0] + 1 or not answer.data:
            self._doubt("broken_packet", now_ns)
            return
        command, _asked_ns, starts = awaited
        self._heard_ns = now_ns
        if answer.data[0] != 0:
            self._refused(answer.data[0])
            return
        if command == DEVICE_ID:
            self.serial = answer.data[1:11].decode("ascii", "replace").strip("\0 ")
        elif command == LL_INIT:
            self._ready = self._armed
        elif command == LL_PULSE:
            self._given_ma = self._asked_ma
        elif command == STIM_STATUS and len(answer.data) >= 2:
            self._off = answer.data[1] == IDLE and starts == self._starts
            if self._armed and self._ready and answer.data[1] != LOW_READY:
                self._fail("not_initialized")
                self.zero()
            elif self._armed and self._ready and answer.data[2:3] == b"\0":
                self._fail("high_voltage")
                self.zero()

    def _refused(self, code: int) -> None:
        name, _ = RESULTS.get(code, ("device_error", ""))
        self._fail(name)
        self.zero()

    def _doubt(self, name: str, now_ns: int) -> None:
        """Stop, listen until it is quiet for longer than the device's keep-alive, then ask anew."""
        self._fail(name)
        self._awaited.clear()
        self._armed = self._ready = self._off = False
        self._starts += 1
        self._given_ma = None
        self._ear.hush()
        self._stop_all()

    def _forget(self) -> None:
        self._ear.clear()
        self._awaited.clear()
        self._armed = self._ready = self._off = False
        self._given_ma = None
        self.serial = ""

    def _fail(self, name: str) -> None:
        self.trouble = f"{name}: {ERRORS[name]}"

    def _report(self, now_ns: int) -> DeviceReport:
        if self._line.fileno() < 0:
            return DeviceReport(None, self._heard_ns, connected=False, armed=False, fault=self.trouble)
        given = 0.0 if self._off else self._given_ma if self._armed and self._given_ma else None
        return DeviceReport(given, self._heard_ns, connected=True, armed=not self._off, fault=self.trouble)


def build(settings: Settings, default_endpoint: str) -> P24:
    """The driver; there is no default port: `default_endpoint` only shows up in the message that asks for one."""
    return P24(settings.port or default_endpoint, settings.channel, settings.width_us)
