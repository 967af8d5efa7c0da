"""A stimulator in virtual time: the interlock's own judge, a device that does as it is told, its record, and the oracle over it."""

from __future__ import annotations

import math

from daemon.study.oracle import Oracle
from drivers.stimulators import simulated
from eegloop.stim import DeviceReport, Prescription, StimCommand, StimState
from interlock.effects import Effect, Entry, Order, Reply
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
"""How long a command is valid."""
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
        self._prescription = prescription
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

    def advance(self, until_s: float, heartbeats: bool) -> float:
        """Let time pass up to `until_s`; the mean output, mA.

        The judge is asked in steps of 50 ms while output changes or the session's budget nears its end, else of 250 ms; the device
        reports and the daemon renews the lease every 250 ms.
        """
        judge = self.judge
        until_ns = BOOT_NS + round(until_s * 1e9)
        begin_ns, given = self._now_ns, 0.0
        while self._now_ns < until_ns:
            moving = judge.level_ma != judge.target_ma or self.output_ma != judge.level_ma
            fine = moving or (self.output_ma > 0.0 and self._ends_soon())
            due_ns = self._told_ns + PLATEAU_STEP_NS - self._now_ns
            step_ns = min(RAMP_STEP_NS if fine else PLATEAU_STEP_NS, due_ns, until_ns - self._now_ns)
            given += self.output_ma * step_ns
            self._now_ns = now_ns = self._now_ns + step_ns
            if (fine or now_ns == until_ns) and (effects := judge.tick(now_ns, self._wall_ns + now_ns - BOOT_NS, now_ns)):
                self._handle(effects)
            if now_ns - self._told_ns >= TOLD_NS or now_ns == until_ns:
                self._told_ns = now_ns
                self._poll()
                if heartbeats:
                    self._heartbeat()
        return given / (until_ns - begin_ns) if until_ns > begin_ns else self.output_ma

    def _ends_soon(self) -> bool:
        """Within two seconds of the planned ramp down that the judge begins by itself."""
        judge = self.judge
        first_ns, signed = judge.account.first_ns, self._prescription
        if first_ns is None:
            return False
        down_s = self.output_ma * 1000.0 / signed.ramp_ua_per_s + 2.0
        left_s = signed.session_ms / 1000 - (self._now_ns - first_ns) * 1e-9
        left_uc = signed.session_uc - judge.account.charge_uc
        return left_s < down_s or left_uc < self.output_ma * down_s * 1000.0

    def send(self, kind: str, **parts: object) -> None:
        """A command of the daemon, now."""
        self._sequence += 1
        self._tick += 1
        if kind == "arm":
            self._session, self._nonce = "study", ""
        now_ns = self._now_ns
        command = StimCommand(
            kind, self._sequence, self._session, self._nonce, now_ns + EXPIRES_NS, self._tick, now_ns, **parts  # type: ignore[arg-type]
        )  # fmt: skip
        self._handle(self.judge.command(command, f"nonce{self._sequence}", now_ns))

    def _heartbeat(self) -> None:
        """What is sent most often. Its tick is just before now: a `set` at the same time belongs to a newer one."""
        self._sequence = number = self._sequence + 1
        self._tick += 1
        now_ns = self._now_ns
        command = StimCommand(
            "heartbeat", number, self._session, self._nonce, now_ns + EXPIRES_NS, self._tick, now_ns - 1_000
        )  # fmt: skip
        if effects := self.judge.command(command, "", now_ns):
            self._handle(effects)

    def state(self) -> StimState:
        """What the daemon hears."""
        return state_of(self.judge, self._now_ns)

    def end(self) -> tuple[str, ...]:
        """Close the record; the oracle's findings."""
        return self.oracle.end(self.t_s)

    def _poll(self) -> None:
        now_ns = self._now_ns
        if effects := self.judge.report(DeviceReport(self.output_ma, now_ns, True, self.armed), now_ns):
            self._handle(effects)

    def _set(self, ma: float) -> None:
        if ma != self.output_ma:
            self.output_ma = ma
            t_s = self.t_s
            self.record.append((t_s, ma))
            self.oracle.sample(t_s, ma)

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
            elif getattr(effect, "event", "") == "trip":
                self.trips.append(str(effect.data["reason"]))  # type: ignore[union-attr]
