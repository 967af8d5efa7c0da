"""MagVenture MagPro R30 and X100 (TMS) on their serial line. Not affiliated with MagVenture. No device was touched.

The device has no keep-alive and no watchdog: once enabled it stays enabled, and a train runs to its end, whoever
is gone. So this driver gives pulse by pulse, burst by burst, or a train of at most 0.5 s, and disables as soon as no
lease covers it. It cannot disable a device whose cable is gone: then its screen and switch are what is left.

As a plug-in (`pulse_port.py`) it gives single pulses, or bursts of 2-5 pulses where the device has the waveform "biphasic
burst" (theta bursts: 3 at 50 Hz, 40 ms), one by one at the signed power. With its cable gone it stays enabled, but nothing
fires. Frames come unasked (front panel, coil) and
are taken by type, never by order; off is believed only from an answer to a question that was asked after the last "enable".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from drivers.stimulators.framed_line import FramedLine
from drivers.stimulators.magventure_frames import (
    DISABLE,
    ENABLE,
    EXTENDED,
    FIRE,
    MODELS,
    MODES,
    PAGES,
    READ_CONFIGURATION,
    START_TRAIN,
    WAVEFORMS,
    Parser,
    Status,
    amplitude_frame,
    configuration_frame,
    interval_ms,
    page_frame,
    train_frame,
)
from drivers.stimulators.pulse_port import LIMITS, PulsePort
from drivers.stimulators.serial_line import Line, SerialLine, TimedLine, boot_ns
from eegloop.errors import DeviceError
from eegloop.stim import CURRENTS, DeviceReport, Shot

BAUD = 38400
READBACK = "acknowledged"
STOPS_ALONE_S = math.inf
SLICE_S = 0.5
MS = 1_000_000
ANSWER_NS = 300 * MS
QUIET_NS = 2_000 * MS
LONGEST_LEASE_MS = 400
POLL_ENABLED_NS = 100 * MS
POLL_NS = 150 * MS
FRESH_NS = 350 * MS
CONFIGURED_NS = 400 * MS  # a configuration is not answered; it is read back so much later
CONFIGURATION_NS = 2_000 * MS
CONFIGURATION_ARMED_NS = 250 * MS  # the front panel stays live while enabled, and tells nobody of another burst
SHAPE_FRESH_NS = 1_000 * MS  # while enabled, what was read longer ago is not believed
ZERO_AGAIN_NS = 100 * MS
REFUSED_NS = 500 * MS
HOT_C = 41
WIRE_NS = 5 * MS  # by so much a question before it may hold up a shot on the line
QUESTION_BYTES = len(EXTENDED) + 19 + len(READ_CONFIGURATION) + 14  # what is asked together, and what comes back
TOLD_PERCENT = 5  # from here on a given pulse is told as more than 0 A/us
ERRORS = {
    "no_answer": "the stimulator does not answer; check that it is on and the cable, and restart it if it stays silent",
    "broken_frame": "a frame was broken; output is disabled and the stimulator asked anew",
    "refused_enable": "the stimulator did not enable; look at its screen and the coil",
    "disabled_itself": "the stimulator was disabled at its panel or by itself; look at its screen, then arm again",
    "coil_hot": "the coil is too hot; let it cool",
    "not_fired": "the stimulator answered a shot with 0 A/us: nothing was given; look at its screen, then arm again",
    "shot_untold": "the stimulator did not answer a shot, so nobody knows whether it was given; look at its screen, then arm again",
    "amplitude_changed": "the amplitude was changed at the front panel; set it back there, then arm again",
    "settings_changed": "the waveform or mode was changed at the front panel; set it back there, then arm again",
    "no_configuration": "the stimulator answers, but not what its waveform, burst and current direction are set to, so nothing can be"
    " armed; switch it off and on; if it stays so, its software cannot be used here",
    "unplugged": "the serial port is gone; switch the stimulator off at its panel, plug the cable in, connect again",
}
PASSING = frozenset(
    ("no_answer", "broken_frame", "refused_enable", "disabled_itself", "not_fired", "shot_untold", "settings_changed")
)  # over once it has said that it is off; what it still is, stays


@dataclass(frozen=True, slots=True)
class Settings:
    """`port`: serial port wired to the stimulator's COM2, e.g. /dev/ttyUSB0."""

    port: str = ""


class MagVenture:
    """One stimulator; see the module's text for what of `eegloop.ports.Stimulator` it has."""

    def __init__(self, path: str, line: Line | None = None, clock: Callable[[], int] = boot_ns) -> None:
        self.readback, self.stops_alone_s, self.slice_s, self.limits = READBACK, STOPS_ALONE_S, SLICE_S, LIMITS
        self.passing = PASSING
        self.serial = ""
        self.trouble = ""
        self.status: Status | None = None
        self.temperature_c: int | None = None
        self.amplitude_percent: int | None = None
        self.didt_a_per_us: int | None = None
        self.configuration: bytes = b""
        own = SerialLine(path, BAUD, "name the port of the stimulator's COM2 and check its cable and your permission")
        self.line = TimedLine(line or own, BAUD, clock)
        self._clock = clock
        self._ear: FramedLine[bytes] = FramedLine(self.line, Parser(), QUIET_NS, clock)
        self._asked: deque[tuple[int, int]] = deque()  # questions under way: when, after how many enables
        self._reads: deque[tuple[int, int]] = deque()  # configurations asked for: when, after how many enables
        self._read_after: tuple[int, int] | None = None  # the question that the newest configuration answers
        self._enables = 0
        self._off = self._wanted = False
        self._wanted_percent: int | None = None
        self._train: tuple[float, int] | None = None
        self._heard_ns = self._asked_ns = self._lease_ns = 0
        self._zeroed_ns = self._enabled_ns = self._recovered_ns = self._configuration_ns = self._fired_ns = 0
        self._unanswered_ns = 0  # of a shot that is not answered yet

    # ---- the port -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open, disable whatever is there, ask who it is. Raises DeviceError if the port cannot be opened."""
        self.line.open()
        self._forget()
        self.trouble = ""
        self.line.write(DISABLE)
        self._ask()

    def fileno(self) -> int:
        return self.line.fileno()

    def arm(self) -> None:
        """Enable; it stays so while `hold` is called under a lease."""
        now_ns = self._clock()
        if self._wanted or self.line.fileno() < 0 or self._ear.quiet or not self.serial:
            return
        self._wanted, self._off = True, False
        self._enables += 1
        self._enabled_ns = now_ns
        self._lease_ns = now_ns + LONGEST_LEASE_MS * MS
        self.trouble = ""
        self.line.write(ENABLE)
        self._configuration_ns = 0  # what was read before may have been changed since: nothing fires until it is read again
        self._read_configuration(now_ns)

    def disarm(self) -> None:
        self.zero()

    def zero(self) -> None:
        """Disable now; never raises. Ends a train too. Said again at most every 100 ms."""
        self._wanted = False
        now_ns = self._clock()
        if self.line.fileno() >= 0 and (now_ns - self._zeroed_ns >= ZERO_AGAIN_NS or self._enabled_ns >= self._zeroed_ns):
            self._zeroed_ns = now_ns
            self.line.write(DISABLE)
            if not self._ear.quiet:
                self._ask()

    def poll(self) -> DeviceReport:
        """Read what has arrived, ask what is due. Never waits."""
        now_ns = self._clock()
        heard = self._ear.hear()
        if heard.gone:
            self._forget()
            self.line.close()
            self._fail("unplugged")
            return DeviceReport(None, now_ns, connected=False, armed=False, fault=self.trouble)
        if heard.again:
            self._ask()
        if heard.quiet:
            return self._report()
        for payload in heard.frames:
            self._heed(payload, now_ns)
        if heard.broken:
            self._doubt("broken_frame", now_ns)
        elif self._asked and now_ns - self._asked[0][0] > ANSWER_NS:
            self._doubt("no_answer", now_ns)
        elif self._unanswered_ns and now_ns - self._unanswered_ns > ANSWER_NS:
            self._unanswered_ns = 0
            self._fail("shot_untold")
        elif self._reads and now_ns - self._reads[0][0] > ANSWER_NS:
            self._untold()
        if self._wanted and now_ns >= self._lease_ns:
            self.zero()
        due = now_ns - self._asked_ns >= (POLL_ENABLED_NS if self._wanted else POLL_NS)
        if due and not self._ear.quiet and not self._asked and self.line.clear_for(QUESTION_BYTES):
            self._ask()
            self._read_configuration(now_ns)
        return self._report()

    def close(self) -> None:
        """Disable and close. Never raises."""
        if self.line.fileno() >= 0:
            self.line.write(DISABLE)
        self.line.close()
        self._forget()

    # ---- what TMS has instead of `output` -----------------------------------------------------------------------

    def hold(self, lease_ms: int) -> None:
        """Stay enabled for this long more, at most 400 ms: call it while a lease holds, only then."""
        now_ns = self._clock()
        if self._wanted and now_ns >= self._lease_ns:
            self.zero()
        elif self._wanted:
            self._lease_ns = now_ns + min(max(lease_ms, 0), LONGEST_LEASE_MS) * MS

    def set_amplitude(self, percent: int) -> None:
        """% of the greatest output, 0-100; raises DeviceError otherwise."""
        if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
            raise DeviceError(f"magventure: amplitude {percent!r} %: must be a whole number from 0 to 100")
        self._wanted_percent = percent
        self._send(amplitude_frame(percent))

    def set_train(self, rate_hz: float, n_pulses: int) -> None:
        """One train that `start_train` gives; raises DeviceError if it is too fast or would outlast 0.5 s."""
        if not 0.1 <= rate_hz <= self._most_hz() or isinstance(n_pulses, bool) or not isinstance(n_pulses, int) or n_pulses < 1:
            raise DeviceError(
                f"magventure: {n_pulses} pulses at {rate_hz} Hz: must be from 1 pulse, and 0.1 to {self._most_hz()} Hz here"
            )
        if (n_pulses - 1) / rate_hz > SLICE_S:
            raise DeviceError(f"magventure: a train of {(n_pulses - 1) / rate_hz:.2f} s: must end by itself within {SLICE_S} s")
        self._train = (rate_hz, n_pulses)
        self._send(page_frame(PAGES["timing"]))
        self._send(train_frame(rate_hz, n_pulses, 1, 0.1))

    @property
    def shape(self) -> Shot | None:
        """What one shot gives, as the device said; 2 pulses at 0 Hz stand for twin, dual and power mode; None = unknown.

        Waveform and mode stand in every frame; burst and direction are read, and must not contradict the frames. While enabled, they
        are known only from a reading that was asked for since, and at most 1 s ago.
        """
        told = self.configuration
        if self.status is None or not told or not self._read_lately() or told[4] >= len(CURRENTS):
            return None
        if (told[3], told[5]) != (MODES.index(self.status.mode), WAVEFORMS.index(self.status.waveform)):
            return None
        current = CURRENTS[told[4]]
        if self.status.mode != "standard":
            return Shot(2, 0, self.status.waveform, current)
        if self.status.waveform != "biphasic_burst":
            return Shot(1, 0, self.status.waveform, current)
        try:
            between_ms = interval_ms(told[7] | told[8] << 8, paired=False)
        except DeviceError:
            return None
        return Shot(5 - told[6], round(1e6 / between_ms), "biphasic", current)

    def set_shape(self, shot: Shot) -> None:
        """One pulse a shot, or a biphasic burst, while disabled. Not answered: `shape` tells half a second later.

        Raises
        ------
        DeviceError
            For other than 1 pulse, or 2-5 biphasic ones at 10-1000 Hz, or a model that is not known.
        """
        n_pulses, rate_millihz = shot.burst_pulses, shot.burst_millihz
        burst = n_pulses in range(2, 6) and 10_000 <= rate_millihz <= 1_000_000 and shot.waveform == "biphasic"
        if not burst and (n_pulses, rate_millihz) != (1, 0):
            raise DeviceError(f"magventure: {shot}: must be one pulse a shot, or a burst of 2-5 biphasic ones at 10-1000 Hz")
        if self.status is None or self.status.model not in MODELS:
            raise DeviceError("magventure: its model is not known, so its waveform cannot be set; set it at its screen")
        model, waveform = MODELS.index(self.status.model), WAVEFORMS.index("biphasic_burst" if burst else shot.waveform)
        pulses, between_ms = (n_pulses, 1e6 / rate_millihz) if burst else (3, 20.0)
        self._send(configuration_frame(model, 0, CURRENTS.index(shot.current), waveform, pulses, between_ms, 1.0))
        self._configuration_ns = self._clock() + CONFIGURED_NS - CONFIGURATION_NS

    def fire(self) -> None:
        """One pulse or burst, now; raises DeviceError if it would be late or is not allowed."""
        self._check()
        self._fired_ns = self._unanswered_ns = self._clock()
        self._recovered_ns = self._fired_ns + round(1e9 / self._most_hz()) + WIRE_NS
        self._send(FIRE)

    def start_train(self) -> None:
        """The train set before; raises DeviceError as `fire` does."""
        self._check()
        if self._train is None:
            raise DeviceError("magventure: no train was set; set_train first")
        rate_hz, n_pulses = self._train
        self._recovered_ns = self._clock() + round((n_pulses / rate_hz + 0.5) * 1e9)
        self._send(START_TRAIN)

    @property
    def ready(self) -> bool:
        """True if `fire` would fire."""
        return not self._why_not(self._clock())

    # ---- inside -------------------------------------------------------------------------------------------------

    def _most_hz(self) -> int:
        status = self.status
        if status is None or status.model not in ("X100", "X100+Option"):
            most_hz = 30
        else:
            most_hz = 100
        if status is not None and status.mode in ("twin", "dual"):
            return 5 if status.waveform == "monophasic" else min(most_hz, 50)
        return 20 if status is not None and status.waveform == "biphasic_burst" else most_hz

    def _check(self) -> None:
        why = self._why_not(self._clock())
        if why:
            raise DeviceError(f"magventure: not fired: {why}")

    def _why_not(self, now_ns: int) -> str:
        if self.status is None or not self.status.enabled or now_ns - self._heard_ns > FRESH_NS or self._ear.quiet:
            return "the stimulator has not just said that it is enabled; arm and wait"
        if not self._wanted or now_ns >= self._lease_ns:
            return "no lease; call hold"
        if self._wanted_percent is None or self.amplitude_percent != self._wanted_percent:
            return "the amplitude is not confirmed; set it and wait for its answer"
        if now_ns < self._recovered_ns:
            return f"{(self._recovered_ns - now_ns) / 1e9:.2f} s of the pause are left"
        return ""

    def _send(self, data: bytes) -> None:
        if not self._ear.quiet:
            self.line.write(data)

    def _ask(self) -> None:
        self._asked_ns = self._clock()
        if self.line.write(EXTENDED):
            self._asked.append((self._asked_ns, self._enables))

    def _read_configuration(self, now_ns: int) -> None:
        """How many pulses a burst has, and which way the current flows, nobody tells unasked."""
        due_ns = self._configuration_ns + (CONFIGURATION_ARMED_NS if self._wanted else CONFIGURATION_NS)
        if self.status is not None and not self._reads and now_ns >= due_ns and not self._ear.quiet:
            self._configuration_ns = now_ns
            if self.line.write(READ_CONFIGURATION):
                self._reads.append((now_ns, self._enables))

    def _untold(self) -> None:
        """It answers, but not this: what was read before is not believed any more, and nothing stays enabled without it."""
        self._reads.clear()
        self._asked.clear()
        self._ear.hush()  # an answer that still comes must not be taken for that of a later question
        self.configuration, self._read_after = b"", None
        self._fail("no_configuration")
        if self._wanted:
            self.zero()

    def _read_lately(self) -> bool:
        if not self._wanted:
            return True
        if self._read_after is None:
            return False
        asked_ns, enables = self._read_after
        return enables == self._enables and self._clock() - asked_ns <= SHAPE_FRESH_NS

    def _heed(self, payload: bytes, now_ns: int) -> None:
        kind = payload[0]
        self._heard_ns = now_ns
        if kind in (0, 5):
            self._take(Status.from_byte(payload[1]), payload[7], payload[5], now_ns)
            self.serial = payload[2:5].hex()
        elif kind in (1, 2, 3, 6, 7, 8):
            self._take(
                Status.from_byte(payload[3]),
                payload[1] if kind == 1 else self.amplitude_percent,
                payload[1] if kind == 3 else self.temperature_c,
                now_ns,
            )
            if kind == 2:
                self.didt_a_per_us, self._unanswered_ns = payload[1], 0
                if payload[1] == 0 and now_ns - self._fired_ns <= ANSWER_NS and (self.amplitude_percent or 0) >= TOLD_PERCENT:
                    self._fail("not_fired")
        elif kind == 9:
            self.configuration = payload
            self._read_after = self._reads.popleft() if self._reads else None
            if self.trouble.startswith("no_configuration"):
                self.trouble = ""
        if kind == 5 and self._asked:
            _asked_ns, enables = self._asked.popleft()
            if self.status is not None and not self.status.enabled and enables == self._enables:
                self._off = True
                if self._wanted and now_ns - self._enabled_ns > REFUSED_NS:
                    self._wanted = False
                    self._fail("refused_enable")

    def _take(self, status: Status, amplitude: int | None, temperature_c: int | None, now_ns: int) -> None:
        if self.status is not None and self.status.enabled and not status.enabled and self._wanted:
            self._wanted = False
            self._fail("disabled_itself")
            self.line.write(DISABLE)
        if status.enabled:
            self._off = False
        if self.status is None or (self.status.waveform, self.status.mode) != (status.waveform, status.mode):
            self.configuration = b""  # of another waveform, or from before
            self._configuration_ns = min(self._configuration_ns, now_ns + CONFIGURED_NS - CONFIGURATION_NS)
            if self._wanted and self.status is not None:
                self._fail("settings_changed", f" (now {status.waveform}, {status.mode} mode)")
        changed = self.amplitude_percent is not None and amplitude != self.amplitude_percent and amplitude != self._wanted_percent
        if changed and self._wanted_percent is not None:
            self._fail("amplitude_changed")
        elif amplitude == self._wanted_percent and not self._wanted and self.trouble.startswith("amplitude_changed"):
            self.trouble = ""
        self.status, self.amplitude_percent, self.temperature_c = status, amplitude, temperature_c
        if temperature_c is not None and temperature_c >= HOT_C:
            self._fail("coil_hot")
        elif self.trouble.startswith("coil_hot"):
            self.trouble = ""

    def _doubt(self, name: str, now_ns: int) -> None:
        """Disable, listen until it is quiet, then ask anew; off is not believed meanwhile."""
        self._fail(name)
        self._asked.clear()
        self._reads.clear()
        self._unanswered_ns = 0
        self._wanted = self._off = False
        self._enables += 1
        self.status = None
        self.configuration = b""
        self._configuration_ns = 0
        self.line.write(DISABLE)
        self._ear.hush()

    def _forget(self) -> None:
        self._ear.clear()
        self._asked.clear()
        self._reads.clear()
        self._unanswered_ns = 0
        self._off = self._wanted = False
        self._wanted_percent = self.amplitude_percent = self.temperature_c = None
        self.status = None
        self.configuration = b""
        self._configuration_ns = 0
        self.serial = ""

    def _fail(self, name: str, more: str = "") -> None:
        self.trouble = f"{name}: {ERRORS[name]}{more}"

    def _report(self) -> DeviceReport:
        """`output_ma` is 0 when it is certainly disabled, else unknown: pulses have no mA."""
        if self.line.fileno() < 0:
            return DeviceReport(None, self._heard_ns, connected=False, armed=False, fault=self.trouble)
        return DeviceReport(0.0 if self._off else None, self._heard_ns, connected=True, armed=not self._off, fault=self.trouble)


def build(settings: Settings, default_endpoint: str) -> PulsePort:
    """The driver; there is no default port: `default_endpoint` only shows up in the message that asks for one."""
    coil = MagVenture(settings.port or default_endpoint)
    return PulsePort(coil, lambda: coil.amplitude_percent, coil.set_amplitude, len(FIRE) * 10 / BAUD)
