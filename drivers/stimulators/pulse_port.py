"""A TMS driver as the interlock uses it: the signed power, armed under the lease, one pulse an order. Not a plug-in.

Between two pulses nothing flows, so while the stimulator says that it is armed by us, its output is 0 and it is `armed`;
after `zero` it is unknown until the stimulator has said standby (disabled), and only that is off. A pulse that cannot be
given at once (too soon, not ready, another power) is not given later: it is a fault, which trips the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit, PulseProgram

PULSE_S = 0.001  # the longest thing that is sent: one pulse, which ends by itself
LIMITS = (Limit("intensity_percent", 100.0, "%", "device"),)
NOTHING_SIGNED = "no_program: no pulses are signed for this stimulator; prescribe a program of single pulses"
BURSTS = "no_bursts: this driver gives single pulses; prescribe burst_pulses 1"
NOT_GIVEN = "not_given"


class Coil(Protocol):
    """What a TMS protocol driver has (drivers/stimulators/magstim.py, magventure.py)."""

    readback: str
    stops_alone_s: float
    serial: str

    def connect(self) -> None: ...
    def fileno(self) -> int: ...
    def arm(self) -> None: ...
    def zero(self) -> None: ...
    def poll(self) -> DeviceReport: ...
    def close(self) -> None: ...
    def hold(self, lease_ms: int) -> None: ...
    def fire(self) -> None: ...


class PulsePort:
    """One stimulator; see `eegloop.ports.Stimulator`.

    Parameters
    ----------
    coil : Coil
    power_percent : callable
        What the stimulator says its power is, % of its output, None = it has not said.
    set_power : callable
        Asks for another.
    wire_s : float
        How long "fire" takes on the line.
    """

    def __init__(
        self, coil: Coil, power_percent: Callable[[], int | None], set_power: Callable[[int], None], wire_s: float
    ) -> None:
        self.readback, self.stops_alone_s, self.slice_s = coil.readback, coil.stops_alone_s, PULSE_S
        self.limits = LIMITS
        self.wire_s = wire_s
        self.coil = coil
        self._power_percent, self._set_power = power_percent, set_power
        self._signed_percent: int | None = None
        self._asked_percent: int | None = None
        self._fault = NOTHING_SIGNED
        self._wanted = False

    @property
    def serial(self) -> str:
        return self.coil.serial

    def prescribe(self, program: PulseProgram) -> None:
        """What is signed: the power is rounded down to whole percent of the output, so that it is never above."""
        self._signed_percent = program.motor_threshold_percent * program.intensity_percent // 100
        self._fault = "" if program.burst_pulses == 1 else BURSTS

    def connect(self) -> None:
        """Raises DeviceError if the port cannot be opened."""
        self._wanted, self._asked_percent = False, None
        self.coil.connect()

    def fileno(self) -> int:
        return self.coil.fileno()

    def arm(self) -> None:
        if not self._fault or self._fault.startswith(NOT_GIVEN):
            self._fault, self._wanted = "", True
            self.coil.arm()

    def disarm(self) -> None:
        self.zero()

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """A lease has just been checked: stay armed for so long."""
        if self._wanted:
            self.coil.hold(lease_ms)

    def fire(self) -> None:
        """One pulse now, or a fault; never raises."""
        power_percent = self._power_percent()
        if not self._wanted or power_percent is None or power_percent != self._signed_percent:
            self._fault = f"{NOT_GIVEN}: the power is {power_percent} %, signed is {self._signed_percent} %; arm again and wait"
            return
        try:
            self.coil.fire()
        except DeviceError as error:
            self._fault = f"{NOT_GIVEN}: {error}"

    def zero(self) -> None:
        """Never raises."""
        self._wanted = False
        self.coil.zero()

    def poll(self) -> DeviceReport:
        """Never waits; at rest it brings the power to what is signed."""
        report = self.coil.poll()
        if not report.connected:
            self._wanted, self._asked_percent = False, None
            return report
        power_percent = self._power_percent()
        if power_percent is None:
            self._asked_percent = None
        elif self._signed_percent not in (None, power_percent, self._asked_percent):
            self._asked_percent = self._signed_percent
            self._set_power(self._signed_percent or 0)
        given_ma = 0.0 if self._wanted and report.armed else report.output_ma
        return replace(report, output_ma=given_ma, fault=report.fault or self._fault)

    def close(self) -> None:
        """Never raises."""
        self._wanted = False
        self.coil.close()
