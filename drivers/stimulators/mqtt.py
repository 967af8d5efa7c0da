"""A tDCS unit at home, over MQTT: sealed JSON packets that a bridge process carries to and from the broker.

The interlock has no network client: this driver talks to `mqtt_bridge` over the seat's local socket. Bridge and broker
are couriers only: every packet is sealed with the key of the pairing (docs/home-stimulator-protocol.md). No clock is
shared. A command names the newest report it has heard, and the unit counts its lease (at most 400 ms, on its own clock)
from when it made that report; a report names the newest command it has heard, and counts here as of when that was sent.
So whatever was held up on the way is old by itself. Emulator only.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from drivers.stimulators.packet_socket import PacketSocket
from drivers.stimulators.sealed import read_key, seal, unseal
from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit

READBACK = "measured"
STOPS_ALONE_S = 0.4
LIMITS = (Limit("amplitude_ma", 2.0, "mA", "device"), Limit("frequency_hz", 0.0, "Hz", "device"))
MS = 1_000_000
OUTPUT_NS = 40 * MS
ASK_NS = 40 * MS
ZERO_AGAIN_NS = 40 * MS
OTHER_LIFE_NS = 300 * MS
ZERO_MA = 0.005
REMEMBERED = 256
ADVICE = "the bridge listens here as long as it reaches the broker: check `broker`, and that the broker runs"
UNIT = re.compile(r"[A-Za-z0-9_-]{1,32}")
ERRORS = {
    "unit_fault": "the unit stopped by itself; read its display",
    "frequency": "this unit gives direct current only; prescribe 0 Hz",
    "pads_loosening": "the pads' contact is getting worse; look at the skin, wet the pads and press them on, then arm again",
    "pads_dry": "the pads are dry or loose; look at the skin, wet the pads and press them on, then arm again",
    "voltage_limit": "the unit needs all of its voltage; look at the skin, wet the pads and press them on, then arm again",
}
# reference/safety.md section 1, its own defaults: the contact is judged as a trend, since it gets better under current.
MOST_KOHM = 40.0
MOST_RISE = 1.5
RISE_NS = 10_000 * MS
VOLTAGE_SHARE, VOLTAGE_NS = 0.95, 500 * MS


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Settings:
    """The unit and the way to it; only the bridge uses the broker's part.

    Attributes
    ----------
    unit : str
        The unit's serial number, as on its label.
    key_file : str
        Pairing key: 64 hexadecimal digits, readable by its owner only.
    broker : str
        mqtt://HOST:PORT or mqtts://HOST:PORT.
    username, password_file, ca_file, client_cert_file, client_key_file : str
        How the bridge signs in at the broker; "" = not needed.
    socket : str
        Path of the bridge's socket; "" = the seat's own.
    """

    unit: str = ""
    key_file: str = ""
    broker: str = "mqtt://127.0.0.1:1883"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    socket: str = ""


class HomeUnit:
    """One paired unit; see `eegloop.ports.Stimulator` and the module's text."""

    def __init__(self, path: str, unit: str, key_file: str, clock: Callable[[], int] = boot_ns) -> None:
        self.readback, self.stops_alone_s = READBACK, STOPS_ALONE_S
        self.limits: tuple[Limit, ...] = LIMITS
        self.serial = ""
        self.impedance_kohm: float | None = None
        self.voltage_v: float | None = None
        self._line = PacketSocket(path, "home unit", ADVICE)
        self._unit, self._key_file, self._clock = unit, key_file, clock
        self._key = b""
        self._host = self._unit_boot = ""
        self._sequence = self._newest_given = 0
        self._heard = -1
        self._sent: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)  # sequence, when
        self._said_ns = self._output_ns = self._zeroed_ns = self._taken_ns = 0
        self._told_zero = True
        self._pads = PadWatch()
        self._report = DeviceReport(None, 0, connected=False, armed=False)

    # ---- the port -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect to the bridge; the unit is greeted when its first report arrives.

        Raises
        ------
        DeviceError
            If there is no bridge (it listens while the broker answers), no key, or no unit is named.
        """
        self.close()
        self._line.connect()
        try:
            if not UNIT.fullmatch(self._unit):
                raise DeviceError(
                    f"home unit: unit {self._unit!r}: must be the serial number on its label, 1-32 of A-Z a-z 0-9 _ -"
                )
            self._key = read_key(self._key_file)
        except DeviceError:
            self._line.close()
            raise
        self._host, self._unit_boot = os.urandom(8).hex(), ""
        self._sequence = self._newest_given = 0
        self._heard = -1
        self._sent.clear()
        self._told_zero = True
        self._report = DeviceReport(None, 0, connected=True, armed=False)

    def fileno(self) -> int:
        return self._line.fileno()

    def arm(self) -> None:
        self._pads = PadWatch()
        self._told_zero = False
        self._newest_given = self._sequence + 1
        self._say("arm")

    def disarm(self) -> None:
        self._stop("disarm")

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """The amplitude now wanted, at most every 40 ms; the unit's lease is counted from the report last heard."""
        now_ns = self._clock()
        if frequency_hz != 0.0:
            self.zero()
            self._report = replace(self._report, fault=f"frequency: {ERRORS['frequency']}")
            return
        urgent = amplitude_ma == 0.0 and not self._told_zero
        if lease_ms <= 0 or not 0.0 <= amplitude_ma <= LIMITS[0].value or (now_ns - self._output_ns < OUTPUT_NS and not urgent):
            return
        self._output_ns = now_ns
        self._told_zero = amplitude_ma == 0.0
        if amplitude_ma > 0.0:
            self._newest_given = self._sequence + 1
        self._say("output", amplitude_ma=round(amplitude_ma, 4), lease_ms=min(int(lease_ms), 400))

    def zero(self) -> None:
        """Never raises; asked again at most every 40 ms."""
        self._stop("zero")

    def poll(self) -> DeviceReport:
        """The newest report; what is not sealed by the unit counts as silence."""
        packets = self._line.receive()
        for packet in packets:
            body = unseal(self._key, "from", self._unit, packet)
            if body is not None:
                self._take(body)
        if not self._line.connected:
            self.close()
        elif self._unit_boot and self._clock() - self._said_ns >= ASK_NS:
            self._say("ask")
        return self._report

    def close(self) -> None:
        """Zero said once more; the bridge tells the unit too when this end is gone. Never raises."""
        if self._line.connected and self._unit_boot:
            self._say("disarm")
        self._line.close()
        self.serial = ""
        self._unit_boot = ""
        self.impedance_kohm = self.voltage_v = None
        self._report = DeviceReport(None, self._report.t_ns, connected=False, armed=False)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _stop(self, command: str) -> None:
        now_ns = self._clock()
        if self._told_zero and now_ns - self._zeroed_ns < ZERO_AGAIN_NS and command == "zero":
            return
        self._told_zero = True
        self._zeroed_ns = now_ns
        self._say(command)

    def _say(self, command: str, **more: Any) -> None:
        """Never waits. A full socket drops the packet: the unit's own lease then ends its output."""
        if not self._line.connected:
            return
        self._said_ns = self._clock()
        self._sequence += 1
        head = {"cmd": command, "host": self._host, "boot": self._unit_boot, "seq": self._sequence, "heard": self._heard}
        self._sent.append((self._sequence, self._said_ns))
        self._line.send(seal(self._key, "to", self._unit, {**head, **more}))
        if not self._line.connected:
            self.close()

    def _take(self, body: dict[str, Any]) -> None:
        """One genuine report; it counts as of the sending of the newest command it names."""
        match body:
            case {
                "type": "report",
                "boot": str(boot),
                "n": int(number),
                "host": str(host),
                "heard": int(heard),
                "armed": bool(armed),
                "measured_ma": value,
                "max_ma": most,
                "serial": str(serial),
                "fault": str(fault),
            }:
                measured_ma, most_ma = _number(value), _number(most)
            case _:
                return
        if boot != self._unit_boot:
            # Another life of the unit, or an old packet played again: only when the one we know has gone silent.
            if not self._unit_boot or self._clock() - self._taken_ns > OTHER_LIFE_NS:
                self._unit_boot, self._heard = boot, number
                self._taken_ns = self._clock()
                self._say("hello")
            return
        if number <= self._heard or measured_ma is None or most_ma is None or most_ma < 0.0:
            return  # repeated or overtaken
        self._heard = number
        at_ns = next((at for sequence, at in self._sent if sequence == heard), None)
        if host != self._host or at_ns is None:
            if self._clock() - self._said_ns >= ASK_NS:
                self._say("hello")
            return
        self._taken_ns = self._clock()
        self.limits = (Limit("amplitude_ma", min(LIMITS[0].value, most_ma), "mA", "device"), *LIMITS[1:])
        self.serial = serial
        self.impedance_kohm, self.voltage_v = _number(body.get("impedance_kohm")), _number(body.get("voltage_v"))
        pads = self._pads.look(self._taken_ns, self.impedance_kohm, self.voltage_v, _number(body.get("compliance_v")), armed)
        trouble = f"unit_fault: {fault[:100]}; {ERRORS['unit_fault']}" if fault else pads
        # Zero is believed only of a unit that has heard the last command to give something.
        known = abs(measured_ma) > ZERO_MA or heard >= self._newest_given
        self._report = DeviceReport(measured_ma if known else None, at_ns, connected=True, armed=armed, fault=trouble)


class PadWatch:
    """The pads' contact while current flows, of one arming: above 40 kΩ, up by half within 10 s, or at the unit's greatest voltage.

    The unit ends its current by itself for some of these; this is the host's own look at what the unit measures. Judged between
    readings: one that the unit does not give counts as none. What it has found stands until the unit has disarmed.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._kohm: deque[tuple[int, float]] = deque()
        self._high_since_ns = 0

    def look(self, now_ns: int, kohm: float | None, voltage_v: float | None, most_v: float | None, armed: bool) -> str:
        """What is wrong with the pads, "" = nothing."""
        if not armed:
            self.trouble = ""
        if kohm is None:  # nothing flows, or too little to measure
            self._kohm.clear()
        else:
            self._kohm.append((now_ns, kohm))
            while now_ns - self._kohm[0][0] > RISE_NS:
                self._kohm.popleft()
            lowest_kohm = min(value for _, value in self._kohm)
            if not kohm <= MOST_KOHM:
                self._fail("pads_dry", f"{kohm:.0f} kΩ")
            elif not kohm < MOST_RISE * lowest_kohm:
                self._fail("pads_loosening", f"from {lowest_kohm:.1f} to {kohm:.1f} kΩ within 10 s")
        high = voltage_v is not None and most_v is not None and voltage_v >= VOLTAGE_SHARE * most_v
        self._high_since_ns = (self._high_since_ns or now_ns) if high else 0
        if high and now_ns - self._high_since_ns >= VOLTAGE_NS:
            self._fail("voltage_limit", f"{voltage_v:.1f} V")
        return self.trouble

    def _fail(self, name: str, what: str) -> None:
        self.trouble = self.trouble or f"{name}: {what}: {ERRORS[name]}"


def _number(value: object) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def bridge(settings: Settings, default_endpoint: str) -> list[str]:
    """The command line of the process that carries the packets; it must run beside the interlock."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(settings).items() if value and name in _BRIDGE]
    return [sys.executable, "-m", "drivers.stimulators.mqtt_bridge", f"--socket={settings.socket or default_endpoint}", *given]


_BRIDGE = ("unit", "broker", "username", "password_file", "ca_file", "client_cert_file", "client_key_file")


def build(settings: Settings, default_endpoint: str) -> HomeUnit:
    """The driver; `default_endpoint` is the seat's stimulator socket, where the bridge listens."""
    return HomeUnit(settings.socket or default_endpoint, settings.unit, settings.key_file)
