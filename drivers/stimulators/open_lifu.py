"""Openwater open-LIFU (focused ultrasound): transmitter and high-voltage console. Not affiliated with Openwater.

Nothing is known to stop it when its host is gone, and its mode 1 is endless, so that mode is never sent: only
sequences that end by themselves within 0.5 s, started one by one under a lease. The device answers "start" also when
it does not start (overheated) and "high voltage on" when it does not switch, so both are read back.

Emulator only: the interlock watches it, stops it and never arms it (`interlock/limits.py: EMULATOR_ONLY`), as it doses mA and
TMS pulses, and no limits for ultrasound are known to it; the pressure that reaches the brain depends on the transducer.
`output` therefore gives nothing; `set_sequence`, `set_voltage`, `hold` and `fire` stand where it would. Facts from
reference/stimulators.md section 5.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from drivers.stimulators.open_lifu_frames import (
    ANSWER,
    GET_HV,
    GET_TRIGGER,
    HARDWARE_ID,
    HV_IS_ON,
    HV_OFF,
    HV_ON,
    POWER,
    SET_HV,
    SET_TRIGGER,
    SLICE_S,
    START_TRIGGER,
    STOP_TRIGGER,
    TEMPERATURE,
    Frame,
    Parser,
    Sequence,
    frame,
    json_object,
)
from drivers.stimulators.serial_line import Line, SerialLine, boot_ns
from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit

BAUD = 921600
READBACK = "acknowledged"
STOPS_ALONE_S = math.inf
LIMITS = (Limit("voltage_v", 100.0, "V", "device"),)
MS = 1_000_000
ANSWER_NS = 500 * MS
QUIET_NS = 2_000 * MS
POLL_NS = 150 * MS
POLL_HELD_NS = 50 * MS
FRESH_NS = 300 * MS
ZERO_AGAIN_NS = 100 * MS
LONGEST_LEASE_MS = 400
SEEN_RUNNING_S = 0.1
SETTLED_V, SETTLES_NS = 2.0, 5_000 * MS
REFUSALS = {
    0xE1: ("not_acknowledged", "the device did not take a command; try again"),
    0xEC: ("bad_parse", "the device could not read a frame; try again"),
    0xED: ("bad_crc", "a frame was broken on its way to the device; check the cable"),
    0xEE: ("unknown_command", "the device does not know a command; check its firmware"),
    0xEF: ("refused", "the device refused; set a sequence first, narrower than its period"),
}
ERRORS = {
    **dict(REFUSALS.values()),
    "no_answer": "the device does not answer; check that it is on and both cables",
    "broken_frame": "a frame was broken; output is stopped and the device asked anew",
    "nothing_started": "start was answered but nothing runs; it may be overheated: let it cool",
    "voltage_off": "high voltage was switched on but is off; open the console's port, check its supply",
    "voltage_unsettled": "the high voltage is not within 2 V of what was set after 5 s; check the console's supply",
    "no_current": "this stimulator gives ultrasound, no current; nothing is given",
    "unplugged": "a USB port is gone; switch the console off, plug it in, then connect again",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where it is.

    Attributes
    ----------
    port : str
        Serial port of the transmitter, e.g. /dev/ttyACM0.
    console_port : str
        Serial port of the console, "" = both answer on one (the emulator).
    """

    port: str = ""
    console_port: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command under way and after how many starts it was sent."""

    what: tuple[int, int]
    at_ns: int
    starts: int


class OpenLifu:
    """One device; see the module's text for what of `eegloop.ports.Stimulator` it has.

    Parameters
    ----------
    path : str
        Serial port of the transmitter.
    console_path : str
        Serial port of the console, "" = both answer on one (the emulator).
    """

    def __init__(
        self,
        path: str,
        console_path: str = "",
        line: Line | None = None,
        console_line: Line | None = None,
        clock: Callable[[], int] = boot_ns,
    ) -> None:
        self.readback, self.stops_alone_s, self.slice_s, self.limits = READBACK, STOPS_ALONE_S, SLICE_S, LIMITS
        self.serial = ""
        self.trouble = ""
        self.voltage_v: float | None = None
        self.temperature_c: float | None = None
        self.measured_v: float | None = None  # what the console says its supply is at, None = it has not said since arming
        advice = "name the ports of transmitter and console and check their cables and your permission"
        self._transmitter = line or SerialLine(path, BAUD, advice)
        self._console = console_line or (SerialLine(console_path, BAUD, advice) if console_path else self._transmitter)
        self._clock = clock
        self._parsers = {id(own): Parser() for own in self._lines}
        self._asked: dict[int, Asked] = {}
        self._queue: deque[tuple[tuple[int, int], bytes]] = deque()
        self._number = self._starts = 0
        self._off = self._wanted = self._high_voltage = self._confirmed = False
        self._sequence: Sequence | None = None
        self._quiet_ns = self._heard_ns = self._asked_ns = self._lease_ns = self._zeroed_ns = self._fired_ns = self._armed_ns = 0

    @property
    def _lines(self) -> tuple[Line, ...]:
        return (self._transmitter,) if self._console is self._transmitter else (self._transmitter, self._console)

    # ---- the port -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open both ports, stop whatever runs, ask who it is. Raises DeviceError if a port cannot be opened."""
        try:
            for line in self._lines:
                line.open()
        except DeviceError:
            self._close_lines()
            raise
        self._forget()
        self.trouble = ""
        self._stop_all()
        self._send(HARDWARE_ID)

    def fileno(self) -> int:
        return self._transmitter.fileno()

    def arm(self) -> None:
        """High voltage on; nothing is emitted before `fire`."""
        now_ns = self._clock()
        if self._wanted or self._quiet_ns or not self.serial or self.voltage_v is None or self.fileno() < 0:
            return
        self._wanted = True
        self._armed_ns, self.measured_v = now_ns, None
        self._lease_ns = now_ns + LONGEST_LEASE_MS * MS
        self.trouble = ""
        for what in (HV_ON, HV_IS_ON, GET_HV):
            self._send(what)

    def disarm(self) -> None:
        self.zero()

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """Never gives anything: there is no current here. Asked for some, it stops and says so."""
        if amplitude_ma != 0.0:
            self.zero()
            self._fail("no_current")

    def zero(self) -> None:
        """Trigger stopped, high voltage off, now; said again at most every 100 ms. Never raises."""
        fresh = self._wanted
        self._wanted = False
        self._queue.clear()
        now_ns = self._clock()
        if self.fileno() >= 0 and (fresh or now_ns - self._zeroed_ns >= ZERO_AGAIN_NS or self._fired_ns >= self._zeroed_ns):
            self._stop_all()

    def poll(self) -> DeviceReport:
        """Read what has arrived; never waits."""
        now_ns = self._clock()
        heard: list[tuple[Parser, bytes]] = []
        for line in self._lines:
            data = line.read()
            if data is None:
                return self._lost(now_ns)
            heard.append((self._parsers[id(line)], data))
        if self._quiet_ns:
            if any(data for _, data in heard):
                self._quiet_ns = now_ns + QUIET_NS
            elif now_ns >= self._quiet_ns:
                self._quiet_ns = 0
                self._stop_all()
                self._send(HARDWARE_ID)
            return self._report()
        for parser, data in heard:
            broken = parser.broken
            for arrived in parser.feed(data):
                self._heed(arrived, now_ns)
            if parser.broken != broken:
                self._doubt("broken_frame", now_ns)
                return self._report()
        if any(now_ns - asked.at_ns > ANSWER_NS for asked in self._asked.values()):
            self._doubt("no_answer", now_ns)
        elif self._wanted and now_ns >= self._lease_ns:
            self.zero()
        self._ask_what_is_due(now_ns)
        return self._report()

    def close(self) -> None:
        """Stop and close. Never raises."""
        if self.fileno() >= 0:
            self._stop_all()
        self._close_lines()
        self._forget()

    # ---- what ultrasound has instead of `output` ----------------------------------------------------------------

    def hold(self, lease_ms: int) -> None:
        """Keep high voltage for this long more, at most 400 ms: call it while a lease holds, only then."""
        now_ns = self._clock()
        if self._wanted and now_ns >= self._lease_ns:
            self.zero()
        elif self._wanted:
            self._lease_ns = now_ns + min(max(lease_ms, 0), LONGEST_LEASE_MS) * MS

    def set_voltage(self, volts: float) -> None:
        """5-100 V, while disarmed; raises DeviceError otherwise."""
        if isinstance(volts, bool) or not isinstance(volts, (int, float)) or not 5.0 <= volts <= 100.0 or self._wanted:
            raise DeviceError(f"open_lifu: {volts!r} V: must be from 5 to 100, and disarmed")
        self.voltage_v = float(volts)
        self._queue.append((SET_HV, struct.pack(">f", volts)))

    def set_sequence(self, sequence: Sequence) -> None:
        """What `fire` gives; raises DeviceError if it would not end by itself within 0.5 s."""
        body = sequence.to_json()
        self._sequence, self._confirmed = sequence, False
        self._queue.append((SET_TRIGGER, body))

    def fire(self) -> None:
        """The sequence, once, now; raises DeviceError if it would be late or is not allowed."""
        now_ns = self._clock()
        why = self._why_not(now_ns)
        if why or self._sequence is None:
            raise DeviceError(f"open_lifu: not fired: {why}")
        self._starts += 1
        self._off = False
        self._fired_ns = now_ns
        self._send(START_TRIGGER)
        self._send(GET_TRIGGER)

    @property
    def ready(self) -> bool:
        """True if `fire` would fire."""
        return not self._why_not(self._clock())

    # ---- inside -------------------------------------------------------------------------------------------------

    def _why_not(self, now_ns: int) -> str:
        if not self._wanted or now_ns >= self._lease_ns:
            return "no lease; arm and call hold"
        if not self._high_voltage or now_ns - self._heard_ns > FRESH_NS or self._quiet_ns:
            return "high voltage is not confirmed; wait"
        if not self._settled():
            return "high voltage has not settled; wait"
        if self._sequence is None or not self._confirmed or self._queue:
            return "the sequence is not confirmed; set it and wait"
        if now_ns - self._fired_ns < self._sequence.duration_s * 1e9 or not self._off:
            return "the last sequence has not ended"
        return ""

    def _settled(self) -> bool:
        volts, measured_v = self.voltage_v, self.measured_v
        return volts is not None and measured_v is not None and abs(measured_v - volts) <= SETTLED_V

    def _stop_all(self) -> None:
        """The trigger's state asked for after the stop is the proof."""
        self._zeroed_ns = self._clock()
        for what in (STOP_TRIGGER, HV_OFF, GET_TRIGGER, HV_IS_ON):
            self._send(what)

    def _send(self, what: tuple[int, int], data: bytes = b"") -> None:
        self._number = self._number % 65_534 + 1
        self._asked_ns = self._clock()
        line = self._console if what[0] == POWER else self._transmitter
        if line.write(frame(self._number, *what, data=data)) and not self._quiet_ns:
            self._asked[self._number] = Asked(what, self._asked_ns, self._starts)

    def _ask_what_is_due(self, now_ns: int) -> None:
        if self._quiet_ns or self._asked or self.fileno() < 0:
            return
        if self._queue:
            self._send(*self._queue.popleft())
        elif now_ns - self._asked_ns >= (POLL_HELD_NS if self._wanted else POLL_NS):
            for what in (GET_TRIGGER, HV_IS_ON, *((GET_HV,) if self._wanted else (TEMPERATURE,))):
                self._send(what)

    def _heed(self, arrived: Frame, now_ns: int) -> None:
        if arrived.number == 0 and arrived.kind == 0xE4:
            return  # text that the device tells unasked
        asked = self._asked.pop(arrived.number, None)
        if asked is None or arrived.command != asked.what[1]:
            self._doubt("broken_frame", now_ns)
            return
        self._heard_ns = now_ns
        if arrived.kind in REFUSALS:
            if asked.what != GET_TRIGGER:  # before the first sequence there is nothing to tell
                self._fail(REFUSALS[arrived.kind][0])
            elif arrived.kind == 0xEF and asked.starts == self._starts:
                self._off = True
            return
        if arrived.kind != ANSWER:
            self._doubt("broken_frame", now_ns)
        elif asked.what == HARDWARE_ID:
            self.serial = arrived.data.hex()
        elif asked.what == HV_IS_ON:
            self._high_voltage = arrived.reserved == 1
            if self._wanted and not self._high_voltage and not any(a.what == HV_IS_ON for a in self._asked.values()):
                self._fail("voltage_off")
        elif asked.what == GET_HV and len(arrived.data) == 4:
            (volts,) = struct.unpack("<f", arrived.data)
            self.measured_v = volts if math.isfinite(volts) else None
            if self._wanted and not self._settled() and now_ns - self._armed_ns > SETTLES_NS:
                self._fail("voltage_unsettled")
        elif asked.what == TEMPERATURE and len(arrived.data) == 4:
            (value,) = struct.unpack("<f", arrived.data)
            self.temperature_c = value if math.isfinite(value) else None
        elif asked.what in (GET_TRIGGER, SET_TRIGGER):
            self._take_trigger(arrived.data, asked, now_ns)

    def _take_trigger(self, data: bytes, asked: Asked, now_ns: int) -> None:
        body = json_object(data)
        status = body.get("TriggerStatus")
        if status not in ("RUNNING", "STOPPED"):
            self._doubt("broken_frame", now_ns)
            return
        if asked.what == SET_TRIGGER and self._sequence is not None:
            wanted = json_object(self._sequence.to_json())
            self._confirmed = all(body.get(name) == value for name, value in wanted.items())
        self._off = status == "STOPPED" and asked.starts == self._starts
        first = asked.at_ns == self._fired_ns
        if (
            first
            and self._off
            and not self.trouble
            and self._sequence is not None
            and self._sequence.duration_s >= SEEN_RUNNING_S
        ):
            self._fail("nothing_started")

    def _doubt(self, name: str, now_ns: int) -> None:
        """Stop, listen until it is quiet, then ask anew; off is not believed meanwhile."""
        self._fail(name)
        self._asked.clear()
        self._queue.clear()
        for parser in self._parsers.values():
            parser.clear()
        self._wanted = self._off = self._high_voltage = self._confirmed = False
        self._starts += 1
        self._quiet_ns = now_ns + QUIET_NS
        self._stop_all()

    def _lost(self, now_ns: int) -> DeviceReport:
        """One port gone: what still hears is told to stop."""
        for line in self._lines:
            if line.fileno() >= 0:
                line.write(frame(1, *STOP_TRIGGER) if line is self._transmitter else frame(1, *HV_OFF))
        self._close_lines()
        self._forget()
        self._fail("unplugged")
        return DeviceReport(None, now_ns, connected=False, armed=False, fault=self.trouble)

    def _close_lines(self) -> None:
        for line in self._lines:
            line.close()

    def _forget(self) -> None:
        for parser in self._parsers.values():
            parser.clear()
        self._asked.clear()
        self._queue.clear()
        self._quiet_ns = 0
        self._wanted = self._off = self._high_voltage = self._confirmed = False
        self._sequence = None
        self.voltage_v = None
        self.serial = ""

    def _fail(self, name: str) -> None:
        self.trouble = f"{name}: {ERRORS[name]}"

    def _report(self) -> DeviceReport:
        """`output_ma` is 0 when the trigger is certainly stopped, else unknown: ultrasound has no mA."""
        if self.fileno() < 0:
            return DeviceReport(None, self._heard_ns, connected=False, armed=False, fault=self.trouble)
        armed = self._wanted or not self._off or self._high_voltage
        return DeviceReport(0.0 if self._off else None, self._heard_ns, connected=True, armed=armed, fault=self.trouble)


def build(settings: Settings, default_endpoint: str) -> OpenLifu:
    """The driver; there is no default port: `default_endpoint` only shows up in the message that asks for one."""
    return OpenLifu(settings.port or default_endpoint, settings.console_port)
