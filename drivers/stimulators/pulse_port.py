"""A TMS driver as the interlock uses it: the signed power, armed under the lease, one pulse or burst an order. Not a plug-in.

What one "fire" gives is the device's own setting (its `shape`: a pulse, a pair, a burst, a train), which somebody may have left
otherwise: it is read back, brought to what is signed at rest, read again after the arm and while armed, and nothing is armed
or fired while it differs. Between two pulses nothing flows, so while the stimulator says that it is armed by us, its output is 0 and it is `armed`;
after `zero` it is unknown until the stimulator has said standby (disabled), and only that is off. A pulse that cannot be
given at once (too soon, not ready, another power) is not given later: it is a fault, which trips the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit, PulseProgram, Shot

SLICE_S = 0.1  # the longest thing that is sent: one burst of up to 3 pulses at 50 Hz, which ends by itself
LIMITS = (Limit("intensity_percent", 100.0, "%", "device"),)
NOTHING_SIGNED = "no_program: no pulses are signed for this stimulator; prescribe a program of single pulses"
CANNOT = "cannot_give"
NOT_GIVEN = "not_given"


class Coil(Protocol):
    """What a TMS protocol driver has (drivers/stimulators/magstim.py, magventure.py)."""

    readback: str
    stops_alone_s: float
    serial: str

    @property
    def shape(self) -> Shot | None:
        """What one `fire` gives, as the device said; None = unknown."""

    def set_shape(self, shot: Shot) -> None:
        """Ask for another, at rest; raises DeviceError if this stimulator cannot give it."""

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
        self.readback, self.stops_alone_s, self.slice_s = coil.readback, coil.stops_alone_s, SLICE_S
        self.limits = LIMITS
        self.wire_s = wire_s
        self.coil = coil
        self._power_percent, self._set_power = power_percent, set_power
        self._signed_percent: int | None = None
        self._asked_percent: int | None = None
        self._signed_shape: Shot | None = None
        self._asked_shape: Shot | None = None  # the one it had when another was asked for
        self._fault = NOTHING_SIGNED
        self._wanted = self._armed = False
        self._told = False  # since it was armed, it has said once that a shot is as signed

    @property
    def serial(self) -> str:
        return self.coil.serial

    def prescribe(self, program: PulseProgram) -> None:
        """What is signed: the power is rounded down to whole percent of the output, so that it is never above."""
        self._signed_percent = program.motor_threshold_percent * program.intensity_percent // 100
        self._signed_shape = program.shot
        self._fault = ""

    def connect(self) -> None:
        """Raises DeviceError if the port cannot be opened."""
        self._wanted = self._armed = False
        self._asked_percent = self._asked_shape = None
        self.coil.connect()

    def fileno(self) -> int:
        return self.coil.fileno()

    def arm(self) -> None:
        """Now, or as soon as the stimulator has told its settings; never while they are other than signed."""
        if self.coil.shape in (None, self._signed_shape) and (not self._fault or self._fault.startswith(NOT_GIVEN)):
            self._fault, self._wanted, self._armed = "", True, False
            self._arm()

    def _arm(self) -> None:
        if self._wanted and not self._armed and self.coil.shape == self._signed_shape:
            self._armed, self._told = True, False
            self.coil.arm()

    def disarm(self) -> None:
        self.zero()

    def output(self, amplitude_ma: float, frequency_hz: float, lease_ms: int) -> None:
        """A lease has just been checked: stay armed for so long."""
        if self._wanted:
            self.coil.hold(lease_ms)

    def fire(self) -> None:
        """One pulse or burst now, or a fault; never raises."""
        if self.coil.shape != self._signed_shape:
            self._fault = f"{NOT_GIVEN}: {self._not_as_signed()}"
            return
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
        self._wanted = self._armed = False
        self.coil.zero()

    def poll(self) -> DeviceReport:
        """Never waits; at rest it brings power and shape to what is signed."""
        report = self.coil.poll()
        if not report.connected:
            self._wanted = self._armed = False
            self._asked_percent = self._asked_shape = None
            return report
        power_percent = self._power_percent()
        if power_percent is None:
            self._asked_percent = None
        elif self._signed_percent not in (None, power_percent, self._asked_percent):
            self._asked_percent = self._signed_percent
            self._set_power(self._signed_percent or 0)
        shape = self.coil.shape
        self._told |= self._armed and shape == self._signed_shape
        if shape != self._signed_shape and not self._armed and self._signed_percent is not None and self.coil.serial:
            self._ask_shape(shape)
        self._arm()
        # It is being brought to what is signed, and read again once armed; the interlock does not wait long.
        waits = self._wanted and (not self._armed or (shape is None and not self._told))
        unknown = shape is None and not self._armed
        own = self._fault or ("" if waits or unknown or shape == self._signed_shape else self._not_as_signed())
        given_ma = 0.0 if self._wanted and self._armed and report.armed else report.output_ma
        return replace(report, output_ma=given_ma, fault=report.fault or own, shot=shape)

    def close(self) -> None:
        """Never raises."""
        self._wanted = self._armed = False
        self.coil.close()

    def _ask_shape(self, shape: Shot | None) -> None:
        """Once for each other setting that is met; what the stimulator then says of itself decides."""
        if shape is None:
            self._asked_shape = None
        elif self._signed_shape is not None and shape != self._asked_shape and not self._fault.startswith(CANNOT):
            self._asked_shape = shape
            try:
                self.coil.set_shape(self._signed_shape)
            except DeviceError as error:
                self._fault = f"{CANNOT}: {error}"

    def _not_as_signed(self) -> str:
        return f"not_as_signed: one shot gives {_words(self.coil.shape)}, signed is {_words(self._signed_shape)}; look at its screen and wait"


def _words(shot: Shot | None) -> str:
    if shot is None:
        return "not known yet"
    return f"{shot.burst_pulses} {shot.waveform} pulse(s) at {shot.burst_millihz / 1000:g} Hz, current {shot.current}"
