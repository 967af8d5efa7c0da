"""A TMS driver as the interlock uses it: the signed power, armed under the lease, one pulse or burst an order. Not a plug-in.

What one "fire" gives is the device's own setting (its `shape`: a pulse, a pair, a burst, a train), which somebody may have left
otherwise: it is read back, brought to what is signed once after it was connected to, read again after the arm and while armed,
and nothing is armed or fired while it differs. Who changes power or shot at its screen later means it: that is named, not fought.
Between two pulses nothing flows, so while the stimulator says that it is armed by us, its output is 0 and it is `armed`;
after `zero` it is unknown until the stimulator has said standby (disabled), and only that is off. A pulse that cannot be
given at once (too soon, not ready, another power, bytes before it on the wire) is not given later: it is a fault, which trips the
judge. Before a pulse that waits nothing is asked whose answer would not be over by then (`serial_line.py: TimedLine`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from drivers.stimulators.serial_line import TimedLine
from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Limit, PulseProgram, Shot

SLICE_S = 0.1  # the longest thing that is sent: one burst of up to 3 pulses at 50 Hz, which ends by itself
LIMITS = (Limit("intensity_percent", 100.0, "%", "device"),)
NOTHING_SIGNED = "no_program: no pulses are signed for this stimulator; prescribe a program of single pulses"
CANNOT = "cannot_give"
NOT_GIVEN = "not_given"
ON_TIME_NS = 1_000_000
BROUGHT_NS = 3_000_000_000  # what is asked for is set and read back within this time, or never


class Coil(Protocol):
    """What a TMS protocol driver has (drivers/stimulators/magstim.py, magventure.py)."""

    readback: str
    stops_alone_s: float
    serial: str
    line: TimedLine
    passing: frozenset[str]
    """Names of what it complains of that is over once it is off."""

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
        self,
        coil: Coil,
        power_percent: Callable[[], int | None],
        set_power: Callable[[int], None],
        wire_s: float,
    ) -> None:
        self.readback, self.stops_alone_s, self.slice_s = coil.readback, coil.stops_alone_s, SLICE_S
        self.limits = LIMITS
        self.wire_s = wire_s
        self.coil = coil
        self._power_percent, self._set_power = power_percent, set_power
        self._signed_percent: int | None = None
        self._signed_shape: Shot | None = None
        self._power_brought = self._shape_brought = False  # to what is signed, since it was connected to
        self._power_met = False  # it has said since that it has the signed power, or has had the time to
        self._brought_ns = 0
        self._fault = NOTHING_SIGNED
        self._said = ("", "")  # what was told last, the coil's and its own
        self._wanted = self._armed = False
        self._told = False  # since it was armed, it has said once that a shot is as signed

    @property
    def serial(self) -> str:
        return self.coil.serial

    @property
    def free_ns(self) -> int:
        """Until when what was written before is on the wire: a pulse written now begins then."""
        return self.coil.line.free_ns

    def prescribe(self, program: PulseProgram, shot_at_ns: Callable[[], int | None] = lambda: None) -> None:
        """What is signed, and when the next pulse is to be written (None = none waits).

        The power is rounded down to whole percent of the output, so that it is never above.
        """
        self.coil.line.shot_at_ns = shot_at_ns
        self._signed_percent = program.motor_threshold_percent * program.intensity_percent // 100
        self._signed_shape = program.shot
        self._fault = ""

    def connect(self) -> None:
        """Raises DeviceError if the port cannot be opened."""
        self._begin()
        self.coil.connect()

    def fileno(self) -> int:
        return self.coil.fileno()

    def arm(self) -> None:
        """Now, or as soon as the stimulator has told its settings; never while they are other than signed."""
        as_signed = self.coil.shape in (None, self._signed_shape) and self._power_percent() in (None, self._signed_percent)
        if as_signed and (not self._fault or self._fault.startswith(NOT_GIVEN)):
            self._fault, self._wanted, self._armed = "", True, False
            self._arm()

    def _arm(self) -> None:
        as_signed = self.coil.shape == self._signed_shape and self._power_percent() == self._signed_percent
        if self._wanted and not self._armed and as_signed:
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
        behind_ns = self.coil.line.behind_ns
        if not behind_ns <= ON_TIME_NS:
            self._fault = f"{NOT_GIVEN}: it would come {behind_ns / 1e6:.1f} ms late, behind other bytes on the line; arm again"
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
        """Never waits; at rest it brings power and shape to what is signed, once."""
        report = self.coil.poll()
        if not report.connected:
            self._begin()
            return report
        power_percent, shape = self._power_percent(), self.coil.shape
        self._told |= self._armed and shape == self._signed_shape
        self._power_met |= power_percent is not None and power_percent == self._signed_percent
        if not self._armed and self._signed_percent is not None and self.coil.serial:
            self._bring(power_percent, shape, report.t_ns)
        self._power_met |= self._power_brought and report.t_ns - self._brought_ns > BROUGHT_NS
        self._arm()
        given_ma = 0.0 if self._wanted and self._armed and report.armed else report.output_ma
        fault = self._told_once(report) or self._differs(power_percent, shape)
        return replace(report, output_ma=given_ma, fault=fault, shot=shape)

    def close(self) -> None:
        """Never raises."""
        self._wanted = self._armed = False
        self.coil.close()

    def _begin(self) -> None:
        """A new connection, or none."""
        self._wanted = self._armed = False
        self._power_brought = self._shape_brought = self._power_met = False

    def _bring(self, power_percent: int | None, shape: Shot | None, now_ns: int) -> None:
        """Ask for what is signed, once each; what the stimulator then says of itself decides.

        A Magstim whose answers did not fit is asked all anew and has forgotten what waited to be sent: that is another beginning.
        """
        if power_percent is None:
            self._power_brought = self._shape_brought = self._power_met = False
        elif not self._power_brought:
            # Also where it has this power already: a MagVenture fires at none that it was not asked for since it was connected to.
            self._power_brought, self._brought_ns = True, now_ns
            self._set_power(self._signed_percent or 0)
        if shape is not None and self._signed_shape is not None and not self._shape_brought:
            self._shape_brought = True
            try:
                if shape != self._signed_shape:
                    self.coil.set_shape(self._signed_shape)
            except DeviceError as error:
                self._fault = f"{CANNOT}: {error}"

    def _told_once(self, report: DeviceReport) -> str:
        """What went wrong; what only happened is over when it was told and the stimulator is off: who arms again may."""
        faults = report.fault, self._fault
        if not self._wanted and report.output_ma == 0.0 and not report.armed:
            if self._fault == self._said[1] and self._fault.startswith(NOT_GIVEN):
                self._fault = ""
            if report.fault == self._said[0] and report.fault.partition(":")[0] in self.coil.passing:
                return self._fault
        self._said = faults
        return report.fault or self._fault

    def _differs(self, power_percent: int | None, shape: Shot | None) -> str:
        """In what it is other than signed, "" = in nothing, or it is being brought there, or read again after the arm."""
        waits = self._wanted and (not self._armed or (shape is None and not self._told))
        if waits or self._signed_percent is None:
            return ""
        if shape != self._signed_shape and (shape is not None or self._armed):
            return self._not_as_signed()
        if self._power_met and power_percent not in (None, self._signed_percent):
            return f"not_as_signed: its power is {power_percent} %, signed is {self._signed_percent} %; set it back at its screen"
        return ""

    def _not_as_signed(self) -> str:
        signed = _words(self._signed_shape)
        return (
            f"not_as_signed: one shot gives {_words(self.coil.shape)}, signed is {signed}; set it at its screen if this stays so"
        )


def _words(shot: Shot | None) -> str:
    if shot is None:
        return "not known yet"
    return f"{shot.burst_pulses} {shot.waveform} pulse(s) at {shot.burst_millihz / 1000:g} Hz, current {shot.current}"
