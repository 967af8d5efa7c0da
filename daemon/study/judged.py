"""A stimulator in virtual time: the interlock's own judge, a device that does as it is told, its record, and the oracle over it."""

from __future__ import annotations

import math
from typing import Any

from daemon.study.oracle import Oracle
from drivers.stimulators import simulated
from eegloop.stim import DeviceReport, Prescription, StimCommand, StimState
from interlock.effects import Effect, Entry, Event, Order, Reply
from interlock.judge import Judge
from interlock.ledger import Book
from interlock.limits import device_amplitude_ma, rules
from interlock.told import state_of

BOOT_NS = 5_000_000_000_000
"""The virtual machine has been up this long at LSL time 0."""
BOOT_TO_LSL_S = -BOOT_NS * 1e-9
RAMP_STEP_NS = 50_000_000
"""The judge's longest step of a ramp: while output changes it is asked this often."""
PLATEAU_STEP_NS = 250_000_000
"""While output stays it is asked this often: below its 300 ms for a silent device and its 400 ms lease."""
EXPIRES_NS = 300_000_000
TOLD_NS = 200_000_000
"""Reports and heartbeats are at least this far apart."""


class JudgedOutput:
    """One arming after another of one session, judged as live. Times are LSL seconds; nothing here waits.

    Attributes
    ----------
    output_ma : float
        What the device delivers now.
    record : list of (float, float)
        (LSL s, mA) of every change: the device's own record.
    refusals : list of dict
        What the judge refused.
    """

    def __init__(self, prescription: Prescription, wall_s: float) -> None:
        limits = simulated.LIMITS
        self.judge = Judge(rules(prescription, None, limits), "simulated", "measured", Book("boot", True), BOOT_NS)
        self.oracle = Oracle(prescription, device_amplitude_ma(limits))
        self.output_ma = 0.0
        self.armed = False
        self.record: list[tuple[float, float]] = [(0.0, 0.0)]
        self.refusals: list[dict[str, object]] = []
        self.trips: list[str] = []
        self._wall_ns = round(wall_s * 1e9)
        self._session_s, self._session_uc = prescription.session_ms / 1000, prescription.session_uc
        self._ramp_ua_per_s = prescription.ramp_ua_per_s
        self._now_ns = self._told_ns = BOOT_NS
        self._sequence = 0
        self._session = ""
        self._nonce = ""
        self._tick = 0
        self._handle(self.judge.open(BOOT_NS, self._wall_ns))
        self._poll()

    @property
    def t_s(self) -> float:
        return (self._now_ns - BOOT_NS) * 1e-9

    @property
    def goes_on(self) -> bool:
        """Armed, and neither tripped nor on its way down: the session would hear nothing new."""
        return self.armed and not self.trips and not self.judge.ending

    def advance(self, until_s: float, heartbeats: bool) -> float:
        """Let time pass up to `until_s`; the mean output, mA.

        The judge is asked in steps of 50 ms while output changes or the session's budget nears its end; the device reports and the
        daemon renews the lease every 250 ms. A tick that could only order the output that the device has already is left out: the
        report at that instant brings the judge up to date as well.
        """
        judge = self.judge
        until_ns = BOOT_NS + round(until_s * 1e9)
        begin_ns, given, now_ns = self._now_ns, 0.0, self._now_ns
        while now_ns < until_ns:
            level_ma, output_ma = judge.level_ma, self.output_ma
            moving = level_ma != judge.target_ma or output_ma != level_ma
            fine = moving or (output_ma > 0.0 and self._ends_soon())
            step_ns = min(RAMP_STEP_NS if fine else PLATEAU_STEP_NS, self._told_ns + PLATEAU_STEP_NS - now_ns, until_ns - now_ns)
            given += output_ma * step_ns
            self._now_ns = now_ns = now_ns + step_ns
            if fine or (now_ns == until_ns and not (self.armed and judge.device_armed)):
                self._handle(judge.tick(now_ns, self._wall_ns + now_ns - BOOT_NS, now_ns))
            if now_ns - self._told_ns >= TOLD_NS or now_ns == until_ns:
                self._told_ns = now_ns
                self._poll()
                if heartbeats:
                    self._renew()
        return given / (until_ns - begin_ns) if until_ns > begin_ns else self.output_ma

    def _ends_soon(self) -> bool:
        """Within two seconds of the planned ramp down that the judge begins by itself."""
        account = self.judge.account
        if account.first_ns is None:
            return False
        output_ma = self.output_ma
        down_s = output_ma * 1000.0 / self._ramp_ua_per_s + 2.0
        return (
            self._session_s - (self._now_ns - account.first_ns) * 1e-9 < down_s
            or self._session_uc - account.charge_uc < output_ma * down_s * 1000.0
        )

    def send(self, kind: str, **parts: Any) -> None:
        """A command of the daemon, now."""
        self._sequence += 1
        self._tick += 1
        if kind == "arm":
            self._session, self._nonce = "study", ""
        now_ns = self._now_ns
        command = StimCommand(kind, self._sequence, self._session, self._nonce, now_ns + EXPIRES_NS, self._tick, now_ns, **parts)
        self._handle(self.judge.command(command, f"nonce{self._sequence}" if kind == "arm" else "", now_ns))

    def _renew(self) -> None:
        """A heartbeat, now; its tick is a little older: a `set` at the same time belongs to a newer one."""
        self._sequence += 1
        self._tick += 1
        now_ns = self._now_ns
        command = StimCommand(
            "heartbeat", self._sequence, self._session, self._nonce, now_ns + EXPIRES_NS, self._tick, now_ns - 1_000
        )  # fmt: skip
        self._handle(self.judge.command(command, "", now_ns))

    def state(self) -> StimState:
        """What the daemon hears."""
        return state_of(self.judge, self._now_ns)

    def end(self) -> tuple[str, ...]:
        """Close the record; the oracle's findings."""
        return self.oracle.end(self.t_s)

    def _poll(self) -> None:
        self._handle(self.judge.report(DeviceReport(self.output_ma, self._now_ns, True, self.armed), self._now_ns))

    def _set(self, ma: float) -> None:
        if ma != self.output_ma:
            self.output_ma = ma
            self.record.append((self.t_s, ma))
            self.oracle.sample(self.t_s, ma)

    def _handle(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Order):
                if effect.do == "output":
                    self._set(effect.amplitude_ma if self.armed else 0.0)
                elif effect.do == "arm":
                    self.armed = True
                else:
                    self._set(0.0)
                    self.armed = self.armed and effect.do == "zero"
            elif isinstance(effect, Entry):
                if effect.event == "debit":
                    self.oracle.debit(float(effect.data["uc"]))
                elif effect.event == "close":
                    self.oracle.closed(math.ceil(float(effect.data["uc"])))
                self.judge.written(effect.number)
            elif isinstance(effect, Reply):
                if effect.body.get("type") == "armed":
                    self._nonce = str(effect.body["nonce"])
                elif effect.body.get("type") == "refused":
                    self.refusals.append(effect.body)
            elif isinstance(effect, Event) and effect.event == "trip":
                self.trips.append(str(effect.data["reason"]))
