"""Pulse Pal v2: analog and TTL pulses that drive an isolated current source. Not affiliated with Sanworks.

The device has no watchdog: a loop or a held voltage goes on for ever, so neither is ever sent. What is sent ends
by itself: one train of at most 0.5 s, here slices of 0.2 s started again while a lease holds (a trigger that comes
during a train starts another one after it, so at most two slices, 0.4 s, outlast the host). Between two slices the
output may be at rest for one cycle of 50 µs.
It reads nothing back: an answered handshake only proves that everything before it was obeyed.
A message cut in its middle freezes the outputs as they are until somebody presses the joystick; every message here
is one write of at most 64 bytes while a train may run, which is one USB packet and so arrives whole or not at all.

As a plug-in it gives direct current through the voltage-controlled isolated source wired to `channel`: `ma_per_v` must
be that source's. What the source makes of the voltage is not read back: `acknowledged`, never `measured`. It has no
serial number, so a prescription names firmware, channel and factor ("pulse_pal-21-ch1-1.0"): the factor scales the dose, so
another one in config.yaml makes another device, which the interlock refuses. Emulator only; facts from
reference/stimulators.md section 3.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from drivers.stimulators.amplitude import Peak, number
from drivers.stimulators.serial_line import Line, SerialLine, boot_ns
from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit

BAUD = 115200
READBACK = "acknowledged"
STOPS_ALONE_S = 0.41  # of what is sent here: two slices of 0.2 s, their starts and the cycle between them
DEVICE_ALONE_S = math.inf  # of the device's own loops and held voltages, which are never sent
SLICE_S = 0.5  # nothing longer is sent
MS = 1_000_000
CYCLES_PER_S = 20_000
PORT_SLICE_CYCLES = 4_000  # 0.2 s
PORT_SLICE_NS = 200 * MS
RENEW_NS = 120 * MS
ANSWER_NS = 300 * MS
AGAIN_NS = 1_000 * MS
ZERO_AGAIN_NS = 100 * MS
ASK_NS = 100 * MS
MOST_V = 10.0
MOST_MA = 2.0
LIMITS = (
    Limit("amplitude_ma", MOST_MA, "mA", "device"),
    Limit("frequency_hz", 0.0, "Hz", "device"),
    Limit("amplitude_v", MOST_V, "V", "device"),
)
CHANNELS = 4
ZERO_BITS = 0x8000
MODES = {"normal": 0, "toggle": 1, "gated": 2}
TIMES = ("phase1", "between", "phase2", "interval", "burst", "burst_interval", "train", "delay")
DOUBTS = ("no_answer", "wrong_answer")  # over once a zero is confirmed
ERRORS = {
    "no_answer": "the Pulse Pal does not answer; if its display says COMM. FAILURE, press the joystick, else plug it in again",
    "wrong_answer": "an answer was not the one awaited; output is stopped and the Pulse Pal asked anew",
    "old_model": "this is a Pulse Pal 1; only version 2 is known here",
    "out_of_range": "asked for more than this device and its source give",
    "no_sine": "alternating current is not made by this driver; prescribe direct current",
    "unplugged": "the USB port is gone; plug it in, then connect again",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where it is and what is wired to it.

    Attributes
    ----------
    port : str
        Serial port, e.g. /dev/ttyACM0.
    ma_per_v : float
        Of the current source on `channel`, mA per V of its input, above 0 to 1; must be the one the prescription's
        `device_serial` ends in.
    channel : int
        1-4.
    """

    port: str = ""
    ma_per_v: float = 1.0
    channel: int = 1


def bits(volts: float) -> int:
    """DAC value of a voltage, 0 V = 0x8000.

    Raises
    ------
    DeviceError
        If it is not within ±10 V.
    """
    if not -MOST_V <= volts <= MOST_V:
        raise DeviceError(f"pulse_pal: {volts} V: must be from -10 to 10")
    return math.ceil((volts + MOST_V) / (2 * MOST_V) * 65535)


def bits_below(volts: float) -> int:
    """DAC value of at most this voltage (0 or more): `bits` rounds up, as the clients do, and an amplitude may not rise above what was granted."""
    value = bits(volts)
    return value - (value / 65535 * 2 * MOST_V - MOST_V > volts)


def cycles(seconds: float) -> int:
    """Whole cycles of 50 µs; raises DeviceError outside 0-3600 s."""
    if not 0.0 <= seconds <= 3600.0:
        raise DeviceError(f"pulse_pal: {seconds} s: must be from 0 to 3600")
    return round(seconds * CYCLES_PER_S)


def message(op: int, *data: bytes) -> bytes:
    return bytes([213, op]) + b"".join(data)


def program(code: int, channel: int, value: int) -> bytes:
    """One parameter; `code` as the reference lists them, `channel` 1-4 (trigger 1-2 for code 128)."""
    size = 2 if code in (2, 3, 17) else 4 if 4 <= code <= 11 else 1
    return message(74, bytes([code, channel]), value.to_bytes(size, "little"))


def custom_train(which: int, times_s: tuple[float, ...], volts: tuple[float, ...]) -> bytes:
    """Upload of custom train 1 or 2."""
    if which not in (1, 2) or len(times_s) != len(volts) or not 1 <= len(times_s) <= 5000:
        raise DeviceError("pulse_pal: a custom train is number 1 or 2 and has 1-5000 times and as many voltages")
    times = b"".join(cycles(t).to_bytes(4, "little") for t in times_s)
    return message(74 + which, len(times_s).to_bytes(4, "little"), times, b"".join(bits(v).to_bytes(2, "little") for v in volts))


HANDSHAKE = message(72)
ABORT = message(80)
DISCONNECT = message(81)
NAME = message(89, b"EEGLP ")


@dataclass(frozen=True, slots=True)
class Train:
    """What one trigger gives on one channel; it ends by itself.

    Attributes
    ----------
    amplitude : Peak
        V peak; the second phase of a biphasic pulse is as far below zero.
    phase_s, between_s, interval_s : float
        Of a phase, between the phases, from the end of a pulse to the next.
    duration_s : float
        Of the whole train, at most 0.5 s.
    """

    amplitude: Peak
    phase_s: float
    duration_s: float
    biphasic: bool = False
    between_s: float = 0.0
    interval_s: float = 0.0


def all_settings(trains: dict[int, Train]) -> bytes:
    """Program everything: these channels (1-4), every other one at rest, no links to trigger inputs, no loops.

    Raises
    ------
    DeviceError
        If a train is longer than 0.5 s or out of range.
    """
    times, levels, flags = b"", b"", b""
    for channel in range(1, CHANNELS + 1):
        train = trains.get(channel)
        values = [1, 0, 1, 0, 0, 0, 1, 0]
        high = low = ZERO_BITS
        if train is not None:
            if not 0.0 < train.duration_s <= SLICE_S:
                raise DeviceError(f"pulse_pal: a train of {train.duration_s} s: must end by itself within {SLICE_S} s")
            peak_v = number(train.amplitude, "V", MOST_V)
            high, low = (bits(peak_v), bits(-peak_v)) if peak_v else (ZERO_BITS, ZERO_BITS)
            phase = cycles(train.phase_s)
            if phase < 1:
                raise DeviceError(f"pulse_pal: a phase of {train.phase_s} s: must be at least 50 µs")
            values = [phase, cycles(train.between_s), phase, cycles(train.interval_s), 0, 0, cycles(train.duration_s), 0]
        times += b"".join(v.to_bytes(4, "little") for v in values)
        levels += b"".join(v.to_bytes(2, "little") for v in (high, low, ZERO_BITS))
        flags += bytes([1 if train is not None and train.biphasic else 0, 0, 0, 0])
    return message(73, times, levels, flags, bytes(8), bytes(2))


class PulsePal:
    """One device; see `eegloop.ports.Stimulator` and the module's text.

    Parameters
    ----------
    path : str
        Serial port.
    ma_per_v : float
        Of the current source wired to `channel`, mA per V of its input.
    channel : int
        1-4.
    """

    def __init__(
        self, path: str, ma_per_v: float = 1.0, channel: int = 1, line: Line | None = None, clock: Callable[[], int] = boot_ns
    ) -> None:
        if not 0.0 < ma_per_v <= 1.0 or channel not in range(1, CHANNELS + 1):
            raise DeviceError(f"pulse_pal: ma_per_v {ma_per_v} and channel {channel}: must be above 0 to 1 mA/V, and 1-4")
        self.readback, self.stops_alone_s, self.slice_s = READBACK, STOPS_ALONE_S, SLICE_S
        self._most_ma = min(MOST_MA, ma_per_v * MOST_V)
        self.limits = (Limit("amplitude_ma", self._most_ma, "mA", "device"), *LIMITS[1:])
        self.serial = ""
        self.trouble = ""
        self._ma_per_v, self._channel = float(ma_per_v), channel
        self._line = line or SerialLine(path, BAUD, "name the Pulse Pal's port and check its cable and your permission")
        self._clock = clock
        self._awaited: deque[tuple[str, int, int]] = (
            deque()
        )  # "ack", "zero", "started" or "alive", when, and after how many starts
        self._buffer = bytearray()
        self._heard_ns = self._started_ns = self._renewed_ns = self._zeroed_ns = 0
        self._ask_again_ns: int | None = None
        self._off = self._armed = False
        self._starts = 0
        self._given_ma = self._asked_ma = 0.0

    # ---- the port -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open, stop whatever runs, and ask who is there. Raises DeviceError if the port cannot be opened."""
        self._line.open()
        self._forget()
        self.trouble = ""
        self._send(NAME)
        self._stop_all()

    def fileno(self) -> int:
        return self._line.fileno()

    def arm(self) -> None:
        """Program every channel for slices of 0.2 s at 0 V; nothing flows before `output`."""
        if not self._armed and self.serial and self._off and self._line.fileno() >= 0:
            self._armed = True
            self.trouble = ""
            self._asked_ma = 0.0
            self._send(all_settings({self._channel: Train(Peak.of_peak(0.0, "V"), 0.2, 0.2)}), "ack")

    def disarm(self) -> None:
        self.zero()

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """Direct current in slices of 0.2 s, started again every 0.12 s; call it while a lease holds."""
        now_ns = self._clock()
        if not self._armed or lease_ms <= 0 or self._line.fileno() < 0:
            return
        if frequency_hz != 0.0 or not 0.0 <= amplitude_ma <= self._most_ma:
            self._fail("no_sine" if frequency_hz != 0.0 else "out_of_range")
            self.zero()
            return
        if amplitude_ma == 0.0:
            self._asked_ma = 0.0
            if not self._off and self._started_ns >= self._zeroed_ns:
                self._stop_all()
            return
        if now_ns - self._renewed_ns < RENEW_NS:
            return
        self._renewed_ns = now_ns
        if amplitude_ma != self._asked_ma:
            self._asked_ma = amplitude_ma
            self._send(program(2, self._channel, bits_below(amplitude_ma / self._ma_per_v)), "ack")
        self._start(1 << (self._channel - 1))

    def zero(self) -> None:
        """Stop every train and loop and put every channel to 0 V, now; said again at most every 100 ms. Never raises."""
        self._armed = False
        now_ns = self._clock()
        if self._line.fileno() >= 0 and (now_ns - self._zeroed_ns >= ZERO_AGAIN_NS or self._started_ns >= self._zeroed_ns):
            self._stop_all()

    def poll(self) -> DeviceReport:
        """Read what has arrived; never waits."""
        now_ns = self._clock()
        data = self._line.read()
        if data is None:
            self._forget()
            self._line.close()
            self._fail("unplugged")
            return DeviceReport(None, now_ns, connected=False, armed=False, fault=self.trouble)
        if self._ask_again_ns is not None:
            if data:
                self._ask_again_ns = now_ns + AGAIN_NS
            elif now_ns >= self._ask_again_ns:
                self._ask_again_ns = None
                self._stop_all()
            return self._report(now_ns)
        self._buffer += data
        while self._buffer and self._read(now_ns):
            pass
        if self._awaited and now_ns - self._awaited[0][1] > ANSWER_NS:
            self._doubt("no_answer", now_ns)
        elif not self._awaited and now_ns - self._heard_ns >= ASK_NS and self._line.fileno() >= 0:
            self._send(HANDSHAKE, "alive")
        return self._report(now_ns)

    def close(self) -> None:
        """Stop everything and close. Never raises."""
        if self._line.fileno() >= 0:
            self._stop_all()
            self._line.write(DISCONNECT)
        self._line.close()
        self._forget()

    # ---- trains for TTL and pulses ------------------------------------------------------------------------------

    def set_trains(self, trains: dict[int, Train]) -> None:
        """What `trigger` gives, per channel 1-4; in rest only. Raises DeviceError for what would not end by itself."""
        settings = all_settings(trains)
        if not self._off:
            raise DeviceError("pulse_pal: not confirmed at rest; wait for the answer to zero before programming")
        self._armed = False
        self._send(settings, "ack")

    def trigger(self, *channels: int) -> None:
        """Start the programmed trains once, now; raises DeviceError if an answer is still awaited."""
        if self._line.fileno() < 0 or not self.serial or self._awaited or not set(channels) <= set(range(1, CHANNELS + 1)):
            raise DeviceError(
                f"pulse_pal: channels {channels} not triggered: not connected, not 1-4, or a setting is not confirmed"
            )
        self._start(sum(1 << (channel - 1) for channel in set(channels)))

    # ---- bytes --------------------------------------------------------------------------------------------------

    def _start(self, mask: int) -> None:
        self._off = False
        self._starts += 1
        self._started_ns = self._clock()
        self._send(message(77, bytes([mask])))
        self._send(HANDSHAKE, "started")

    def _stop_all(self) -> None:
        """Abort, loops off, 0 V held on all; the handshake after it is the proof that it was obeyed.

        While it waits for silence only the abort, which is not answered: answers would never let it become silent.
        """
        self._zeroed_ns = self._clock()
        self._send(ABORT)
        if self._ask_again_ns is not None:
            return
        for channel in range(1, CHANNELS + 1):
            self._send(message(82, bytes([channel, 0])), "ack")
            self._send(message(79, bytes([channel]), ZERO_BITS.to_bytes(2, "little")), "ack")
        self._send(HANDSHAKE, "zero")

    def _send(self, data: bytes, answer: str = "") -> None:
        if self._line.write(data) and answer and self._ask_again_ns is None:
            self._awaited.append((answer, self._clock(), self._starts))

    def _read(self, now_ns: int) -> bool:
        """One answer off the buffer; False = more bytes are needed."""
        if not self._awaited:
            return self._doubt("wrong_answer", now_ns)
        kind, _asked_ns, starts = self._awaited[0]
        if kind == "ack":
            if self._buffer[0] != 1:
                return self._doubt("wrong_answer", now_ns)
            del self._buffer[:1]
        else:
            if self._buffer[0] != 0x4B or (len(self._buffer) >= 5 and self._buffer[3:5] != b"\0\0"):
                return self._doubt("wrong_answer", now_ns)
            if len(self._buffer) < 5:
                return False
            version = int.from_bytes(self._buffer[1:5], "little")
            del self._buffer[:5]
            self._heed(kind, version, starts)
        self._awaited.popleft()
        self._heard_ns = now_ns
        return True

    def _heed(self, kind: str, version: int, starts: int) -> None:
        if version < 20:
            self._fail("old_model")
            return
        # It has no serial number; what scales the dose is part of the name, so that it is signed with it.
        self.serial = f"pulse_pal-{version}-ch{self._channel}-{self._ma_per_v!r}"
        if kind == "zero" and starts == self._starts:
            self._off, self._given_ma = True, 0.0
            if self.trouble.partition(":")[0] in DOUBTS:  # was told with the report it came from; this answers it
                self.trouble = ""
        elif kind == "started":
            self._given_ma = self._asked_ma

    def _doubt(self, name: str, now_ns: int) -> bool:
        """Stop, forget what was awaited, listen until it is quiet, then ask anew. Always False."""
        self._fail(name)
        self._buffer.clear()
        self._awaited.clear()
        self._armed = self._off = False
        self._ask_again_ns = None
        self._starts += 1
        self._stop_all()
        self._awaited.clear()  # its answers are not told from late ones: they are part of what must fall silent
        self._ask_again_ns = now_ns + AGAIN_NS
        return False

    def _forget(self) -> None:
        self._buffer.clear()
        self._awaited.clear()
        self._ask_again_ns = None
        self._armed = self._off = False
        self._given_ma = 0.0
        self.serial = ""

    def _fail(self, name: str) -> None:
        self.trouble = f"{name}: {ERRORS[name]}"

    def _report(self, now_ns: int) -> DeviceReport:
        if self._line.fileno() < 0:
            return DeviceReport(None, self._heard_ns, connected=False, armed=False, fault=self.trouble)
        running = now_ns - self._started_ns < PORT_SLICE_NS
        given = 0.0 if self._off else self._given_ma if running and self._armed and self._given_ma else None
        return DeviceReport(given, self._heard_ns, connected=True, armed=self._armed or not self._off, fault=self.trouble)


def build(settings: Settings, default_endpoint: str) -> PulsePal:
    """The driver; there is no default port: `default_endpoint` only shows up in the message that asks for one."""
    return PulsePal(settings.port or default_endpoint, settings.ma_per_v, settings.channel)
