"""Magstim 200², BiStim² and Rapid² (TMS) on their serial line. Not affiliated with Magstim. No device was touched.

As a plug-in (`pulse_port.py`) it gives single pulses one by one, each within its deadline or not at all, at the signed
power. It tells no serial number, so a prescription names the model ("magstim-200"). Pairs and trains are in the protocol
layer (`set_pair`, `set_train`), not in the plug-in: a BiStim fires only with its second pulse at 0 %, a Rapid only in
single-pulse mode without enhanced power (it is locked for 0.5 s after a train, so theta bursts at 5 Hz cannot be given one
by one). Emulator only; limits from reference/stimulators.md section 1.

Whenever an answer is missing, early, broken or not the one awaited, the driver sends "disarm", then keeps silent for longer than the
device's keep-alive (`magstim_talk.py`), and starts anew. Until a status asked for after the last "arm" says standby, the output counts
as unknown, never as off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drivers.stimulators.magstim_frames import (
    COMPLAINTS,
    ERRORS,
    OutOfStep,
    Reply,
    Status,
    complaints,
    frame,
    shot_pulses,
)
from drivers.stimulators.magstim_talk import Talk
from drivers.stimulators.magstim_trains import Trains, whole
from drivers.stimulators.pulse_port import LIMITS, PulsePort
from drivers.stimulators.serial_line import Line, SerialLine, TimedLine, boot_ns
from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport, Shot

BAUD = 9600
READBACK = "acknowledged"
STOPS_ALONE_S = 1.01
FIRE_S = 3 * 10 / BAUD
MODELS = ("200", "bistim", "rapid")
PULSE = {
    "200": "monophasic",
    "bistim": "monophasic",
    "rapid": "biphasic",
}  # by construction; its direction is how the coil is held
MS = 1_000_000
LONGEST_LEASE_MS = 400
POLL_ARMED_NS = 100 * MS
POLL_STANDBY_NS = 150 * MS
TEMPERATURE_NS = 2_000 * MS
SETTINGS_FRESH_NS = 1_000 * MS  # while armed, settings that were asked for longer ago are not believed
FRESH_NS = 350 * MS
MODE_ARMED_NS = 400 * MS
ZERO_AGAIN_NS = 100 * MS
PASSING = frozenset(
    ("no_answer", "out_of_step", "not_understood", "bad_data", "conflict", "disarmed_itself")
)  # over once it is off
HOT_C = 40.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Which one.

    Attributes
    ----------
    port : str
        Serial port of the main unit, e.g. /dev/ttyUSB0.
    model : str
        "200", "bistim" or "rapid".
    unlock : str
        A Rapid's own code from software 9 on, as Magstim gave it.
    mains_v, rapid_type : int
        Which power table holds for a Rapid.
    """

    port: str = ""
    model: str = "200"
    unlock: str = ""
    mains_v: int = 240
    rapid_type: int = 0


class Magstim:
    """One stimulator; see the module's text for what of `eegloop.ports.Stimulator` it has, and `Settings` for what it is told."""

    def __init__(
        self,
        path: str,
        model: str = "200",
        unlock: str = "",
        mains_v: int = 240,
        rapid_type: int = 0,
        line: Line | None = None,
        clock: Callable[[], int] = boot_ns,
    ) -> None:
        self.readback, self.stops_alone_s, self.limits, self.passing = READBACK, STOPS_ALONE_S, LIMITS, PASSING
        self.serial = ""
        self.model = model
        self.power_percent: int | None = None
        self.power_b_percent: int | None = None
        self.interval: int | None = None  # of a pair, ms or 0.1 ms; 0 = both at once; a 200 tells 0
        self.mode: str | None = None  # a BiStim's system mode, as last asked for
        self.rapid: int | None = None  # a Rapid's own status byte, as last asked for
        self.error_code = ""  # a Rapid's own, source letter and two digits, "" = not told
        self.temperature_c: float | None = None
        self.status: Status | None = None
        self.trouble = ""
        self._unlock = unlock
        self._trains = Trains(mains_v, rapid_type)
        own = SerialLine(path, BAUD, "name the port of the stimulator's main unit and check its cable and your permission")
        self.line = TimedLine(line or own, BAUD, clock)
        self._clock = clock
        self._talk = Talk(self.line, 0 if model == "rapid" else 9, clock)
        self._heard_ns = self._warm_ns = 0
        self._wanted_ns = self._settings_ns = self._mode_ns = self._mode_asked_ns = (
            0  # when it was told to arm; what is known was asked for
        )
        self._armed_ns: int | None = None  # when "arm" was last sent; None = not since the device said standby
        self._settled_ns = self._recovered_ns = self._lease_ns = self._zeroed_ns = 0
        self._wanted_armed = False

    # ---- the port -----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the port, disarm whatever is there, take remote control and ask what it is.

        Raises
        ------
        DeviceError
            If the port cannot be opened.
        """
        if self.model not in MODELS:
            raise DeviceError(f"magstim: model {self.model!r}; must be one of {', '.join(MODELS)}")
        self.line.open()
        self._forget()
        self.trouble = ""
        self._armed_ns = self._clock()  # it may be armed, by whoever was here before
        self._start()

    def fileno(self) -> int:
        return self.line.fileno()

    def arm(self) -> None:
        """Ask the device to arm; nothing happens without `hold` after it. Ready about 1 s later."""
        now_ns = self._clock()
        if self._wanted_armed or self.line.fileno() < 0 or self._talk.silent:
            return
        if self.status is None or not self.status.remote:
            return
        self._armed_ns, self._wanted_armed = now_ns, True
        self._wanted_ns, self._mode_asked_ns = now_ns, 0
        self.trouble = ""
        self._lease_ns = now_ns + LONGEST_LEASE_MS * MS
        self._talk.send(frame("EB"))

    def disarm(self) -> None:
        self.zero()

    def zero(self) -> None:
        """Disarm now; never raises. Past the queue, whatever is under way; said again at most every 100 ms."""
        now_ns = self._clock()
        self._wanted_armed = False
        self._lease_ns = 0
        self._talk.todo.clear()
        if self.line.fileno() >= 0 and (now_ns - self._zeroed_ns >= ZERO_AGAIN_NS or (self._armed_ns or 0) >= self._zeroed_ns):
            self._talk.send(frame("EA"), awaited=not self._talk.silent)
            self._zeroed_ns = now_ns
            self._ask()

    def poll(self) -> DeviceReport:
        """Read what has arrived, ask what is due. Never waits, never sends a keep-alive that no lease covers."""
        now_ns = self._clock()
        data = self.line.read()
        if data is None:
            return self._lost()
        if self._talk.still_silent(data):
            return self._report()
        if self._talk.wakes():
            self._start()
        try:
            for reply, command, sent_ns in self._talk.answers(data):
                self._heed(reply, command, sent_ns, now_ns)
        except OutOfStep:
            self._out_of_step("out_of_step", now_ns)
        if self._talk.overdue:
            self._out_of_step("no_answer", now_ns)
        if self._wanted_armed and now_ns >= self._lease_ns:
            self.zero()
        self._ask_what_is_due(now_ns)
        return self._report()

    def close(self) -> None:
        """Disarm, give remote control back, close. Never raises."""
        if self.line.fileno() >= 0:
            self.line.write(frame("EA"))
            self.line.write(frame("R@"))
        self.line.close()
        self._forget()

    # ---- what TMS has instead of `output` -----------------------------------------------------------------------

    def hold(self, lease_ms: int) -> None:
        """Stay armed for this long more, at most 400 ms: call it while a lease holds, only then."""
        now_ns = self._clock()
        if not self._wanted_armed or self._talk.silent:
            return
        if now_ns >= self._lease_ns:
            self.zero()
            return
        self._lease_ns = now_ns + min(max(lease_ms, 0), LONGEST_LEASE_MS) * MS
        if now_ns - self._talk.asked_ns >= POLL_ARMED_NS and self._talk.free:
            self._ask()

    def set_power(self, power_percent: int) -> None:
        """Power of the (first) pulse, % of the greatest output.

        Raises
        ------
        DeviceError
            If it is no whole number from 0 to 100, or a train set before would be too fast at it.
        """
        whole("power_percent", power_percent, 0, 100)
        if self._trains.chosen is not None:
            self._trains.check(power_percent, *self._trains.chosen, self._most_pulses)
        before = self.power_percent if self.power_percent is not None else 0 if power_percent else 100
        step_ms = 10 * (power_percent - before) if power_percent > before else 100 * (before - power_percent)
        self._settled_ns = self._clock() + step_ms * MS
        self._talk.todo.extend((frame(f"@{power_percent:03d}"), self._settings))

    def set_pair(self, power_b_percent: int, interval_ms: int) -> None:
        """BiStim: the second pulse and its delay (0 = both at once, in standby only)."""
        self._only("bistim")
        whole("power_b_percent", power_b_percent, 0, 100)
        whole("interval_ms", interval_ms, 0, 999)
        self._talk.todo.extend(frame(text) for text in (f"A{power_b_percent:03d}", "Z@", f"C{interval_ms:03d}"))

    def set_train(self, rate_hz: float, n_pulses: int) -> None:
        """Rapid: what `fire` gives from now on; 0 Hz = one pulse. Set the power first; in standby.

        Raises
        ------
        DeviceError
            If the train is above the power table, the on-time of a minute or the device's counts.
        """
        self._only("rapid")
        new = self.version >= 9
        if rate_hz == 0.0:
            self._trains.chosen = None
            self._talk.todo.append(frame("[0000" if new else "[000"))
            return
        if self.power_percent is None:
            raise DeviceError("magstim: the power is not known yet; set it and wait for its readback before the train")
        self._trains.check(self.power_percent, rate_hz, n_pulses, self._most_pulses)
        self._talk.todo.extend(frame(text) for text in self._trains.choose(rate_hz, n_pulses, new))

    @property
    def shape(self) -> Shot | None:
        """One pulse at 0 Hz when the device has said so; 2 at 0 stands for a pair, 0 at 0 for another mode, None = unknown.

        While armed, only settings that were asked for since, and at most 1 s ago, are known: the screen stays live.
        """
        read_ns = min(self._settings_ns, self._mode_ns) if self.model == "bistim" else self._settings_ns
        stale = read_ns < self._wanted_ns or self._clock() - read_ns > SETTINGS_FRESH_NS
        if self.power_percent is None or (self._wanted_armed and stale):
            return None
        n_pulses = shot_pulses(self.model, self.power_b_percent, self.interval, self.mode, self.rapid)
        return None if n_pulses is None else Shot(n_pulses, 0, PULSE[self.model], "normal")

    def set_shape(self, shot: Shot) -> None:
        """One pulse a shot, in standby; raises DeviceError for more, and for a pulse that this model has not."""
        if (shot.burst_pulses, shot.burst_millihz) != (1, 0):
            why = " (a Rapid is locked for 0.5 s after each train)" if self.model == "rapid" else ""
            raise DeviceError(f"magstim: {shot.burst_pulses} pulses a shot: this driver gives one{why}; prescribe burst_pulses 1")
        own = PULSE[self.model]
        if (shot.waveform, shot.current) != (own, "normal"):
            raise DeviceError(
                f"magstim: {shot.waveform}, current {shot.current}: this model gives {own} pulses, current normal (turn the coil); prescribe these"
            )
        if self.model == "bistim":
            self._talk.todo.extend((frame("A000"), self._settings))
        elif self.model == "rapid":
            self.set_train(0.0, 0)
            self._talk.todo.extend((frame("_@"), self._settings))

    def fire(self) -> None:
        """One pulse, pair or train, now.

        Raises
        ------
        DeviceError
            If it would be late or is not allowed: not held, not ready, power still settling, pause not over.
        """
        now_ns = self._clock()
        why = self._why_not(now_ns)
        if why:
            raise DeviceError(f"magstim: not fired: {why}")
        self._recovered_ns = self._trains.given(self.model, self.power_percent or 0, now_ns)
        self._armed_ns = now_ns
        self._talk.send(frame("EH"))
        self._ask()

    @property
    def ready(self) -> bool:
        """True if `fire` would fire."""
        return not self._why_not(self._clock())

    @property
    def version(self) -> int:
        """Of its software; a Rapid tells it."""
        return self._talk.version

    # ---- rules --------------------------------------------------------------------------------------------------

    @property
    def _most_pulses(self) -> int:
        return 6000 if self.version >= 9 else 1000

    @property
    def _settings(self) -> bytes:
        """The question for what it is set to."""
        return frame("\\@" if self.model == "rapid" else "J@")

    def _only(self, model: str) -> None:
        if self.model != model:
            raise DeviceError(f"magstim: only a {model} can do this; this is a {self.model}")

    def _why_not(self, now_ns: int) -> str:
        status = self.status
        if status is None or now_ns - self._heard_ns > FRESH_NS or status.state != "ready":
            return f"the stimulator is not ready ({status.state if status else 'unknown'}); wait about 1 s after arming"
        if not self._wanted_armed or now_ns >= self._lease_ns:
            return "no lease; call hold"
        if self.power_percent is None or self._talk.todo:
            return "a setting is not confirmed yet"
        if now_ns < max(self._settled_ns, self._recovered_ns):
            return f"{(max(self._settled_ns, self._recovered_ns) - now_ns) / 1e9:.1f} s of the pause are left"
        return self._trains.objection(self.power_percent, now_ns)

    # ---- bytes --------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._talk.forget()
        self._wanted_armed = False
        self.status = None
        self.power_percent = self.power_b_percent = self.interval = self.rapid = self.temperature_c = self.mode = None

    def _start(self) -> None:
        self._talk.send(frame("EA"))
        self._talk.send(frame(f"Q{self._unlock}" if self._unlock else "Q@"))
        if self.model == "rapid":
            self._talk.todo.append(frame("ND"))
        self._talk.todo.extend((frame("F@"), self._settings))
        self._mode_asked_ns = 0

    def _ask(self) -> None:
        """A Rapid from 9 on tells its own status too, once it is ours; to a host that has no control it tells nothing at all."""
        ours = self.status is not None and self.status.remote
        if self._talk.silent:
            return
        if self.model == "bistim" and self._clock() - self._mode_asked_ns >= (
            MODE_ARMED_NS if self._wanted_armed else TEMPERATURE_NS
        ):
            self._mode_asked_ns = self._clock()
            self._talk.send(frame("X@"))
        elif self._wanted_armed:  # the settings tell the state too
            self._talk.send(self._settings)
        else:
            self._talk.send(frame("x@") if self.model == "rapid" and self.version >= 9 and ours else frame("Q@"))

    def _ask_what_is_due(self, now_ns: int) -> None:
        if not self._talk.free:
            return
        if self._talk.todo:
            if self._wanted_armed and now_ns >= self._lease_ns:
                return
            self._talk.send(self._talk.todo.popleft())
        elif not self._wanted_armed and now_ns - self._talk.asked_ns >= POLL_STANDBY_NS:
            if now_ns - self._warm_ns >= TEMPERATURE_NS:
                self._warm_ns = now_ns
                self._talk.todo.extend((frame("F@"), self._settings))
            self._ask()

    def _out_of_step(self, name: str, now_ns: int) -> None:
        """Disarm, then be silent until the device has disarmed by itself."""
        self._fail(name)
        self._wanted_armed = False
        self.status = None
        self.power_percent = self.power_b_percent = self.interval = self.rapid = None
        self._talk.hush()
        self._armed_ns = now_ns

    def _heed(self, reply: Reply, command: bytes, sent_ns: int, now_ns: int) -> None:
        if reply.refusal:
            self._fail(reply.refusal)
            if command[:2] == b"EB":
                self._wanted_armed = False
            return
        self._heard_ns = now_ns
        if reply.letter == "N":
            self._take_version(reply.text)
        elif reply.letter in "J\\":
            self.power_percent = int(reply.text[:3])
            self.power_b_percent, self.interval = (
                (int(reply.text[3:6]), int(reply.text[6:9])) if reply.letter == "J" else (None, None)
            )
            self._settings_ns = sent_ns
        if reply.letter == "X":
            self.mode, self._mode_ns = reply.text, sent_ns
        if reply.letter in "\\x":
            self.rapid = reply.rapid
        if reply.letter == "I":
            self.error_code = reply.text
        if reply.letter == "F":
            self.temperature_c = max(int(reply.text[:3]), int(reply.text[3:6])) / 10
        if reply.status is not None and reply.letter in "QxJFX\\":  # the others tell the state before themselves
            self._take_status(reply.status, sent_ns)

    def _take_version(self, text: str) -> None:
        major = text.lstrip("V").partition(".")[0]
        if not major.isdigit() or not 1 <= int(major) <= 99:
            raise OutOfStep(f"version {text!r}")
        self._talk.version = int(major)

    def _take_status(self, status: Status, sent_ns: int) -> None:
        if status.state == "standby" and (self._armed_ns is None or sent_ns > self._armed_ns):
            if self._wanted_armed and self.status is not None and self.status.state != "standby":
                self._fail("disarmed_itself")
            if self._armed_ns is not None and self.status is not None and self.status.state != "standby":
                self._wanted_armed = False
            self._armed_ns = None
        elif status.state != "standby" and self._armed_ns is None:
            self._armed_ns = sent_ns  # somebody armed it at its screen
        self.status = status
        self.serial = self.serial or f"magstim-{self.model}"
        hot = self.temperature_c is not None and self.temperature_c > HOT_C
        complaint = next(complaints(self.model, status, self.rapid, hot, bool(self.power_b_percent or self.interval)), "")
        if status.error and self.model == "rapid" and not self.error_code and frame("I@") not in self._talk.todo:
            self._talk.todo.append(frame("I@"))
        if complaint:
            self._fail(
                complaint, f" ({'fatal ' if status.fatal else ''}error {self.error_code or 'not told'})" if status.error else ""
            )
        elif self.trouble.partition(":")[0] in COMPLAINTS:
            self.trouble = ""

    def _fail(self, name: str, more: str = "") -> None:
        self.trouble = f"{name}: {ERRORS[name]}{more}"

    def _lost(self) -> DeviceReport:
        self._forget()
        self.line.close()
        self._fail("unplugged")
        return DeviceReport(None, self._clock(), connected=False, armed=False, fault=self.trouble)

    def _report(self) -> DeviceReport:
        """`output_ma` is 0 once the device has said standby since it was last told to arm, else unknown."""
        if self.line.fileno() < 0:
            return DeviceReport(None, self._heard_ns, connected=False, armed=False, fault=self.trouble)
        off = self._armed_ns is None and self.status is not None and not self._talk.silent
        return DeviceReport(0.0 if off else None, self._heard_ns, connected=True, armed=not off, fault=self.trouble)


def build(settings: Settings, default_endpoint: str) -> PulsePort:
    """The driver; there is no default port: `default_endpoint` only shows up in the message that asks for one."""
    port = settings.port or default_endpoint
    coil = Magstim(port, settings.model, settings.unlock, settings.mains_v, settings.rapid_type)
    return PulsePort(coil, lambda: coil.power_percent, coil.set_power, FIRE_S)
