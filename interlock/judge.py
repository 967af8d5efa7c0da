"""The judge: what a stimulator may be told, and when it must stop. Pure: no clock, file, socket or chance in here.

Everything that happens comes in as a call with the time it happened (`now_ns`, CLOCK_BOOTTIME); everything to be
done comes out as a list of effects for the loop around it (interlock/__main__.py, or a test, or a study in
virtual time). It only refuses: no number it was given is ever changed to fit a limit.

    stopped --arm--> armed --end--> (planned ramp) --> stopped        latched: only `arm` leaves `stopped`
                       |--fallback--> fallback (<= 5 s) --> stopped
                       '--STOP, trip, lapse: zero at once --> stopped
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict
from typing import Any

from eegloop.stim import Block, DeviceReport, InterlockMode, StimCommand
from interlock.account import OVER, SLICE_LEFT_MS, Account, from_book
from interlock.device import Device
from interlock.effects import Changed, Effect, Entry, Event, Order, Refusal, Reply
from interlock.ledger import Book
from interlock.limits import Rules
from interlock.refusals import (
    LEASE_NS,
    LONGEST_STEP_NS,
    MS,
    SILENT_NS,
    another_shot,
    beyond,
    may_not_arm,
    out_of_order,
    signed_no_longer,
)
from interlock.triggers import LATE_IN_A_ROW, Triggers, told
from interlock.wire import PacketError

STOPPED = InterlockMode.STOPPED
ARM_WITHIN_NS = 500 * MS
CLOCKS_PART_NS = 1_000 * MS
SUSPEND_NS = 50 * MS
BEHIND_S = 0.1  # how old a report may be that is compared with the level on the way down
MINUTE_NS = 60_000 * MS
REFUSALS_A_MINUTE = 10


class Judge:
    """One stimulator's judge; starts in `stopped`.

    Parameters
    ----------
    rules : Rules
        The verified prescription and the device's limits as numbers.
    readback : str
        How far the device's reports are to be believed (interlock/device.py).
    book : Book
        The dose ledger as it was read at the start.
    """

    def __init__(self, rules: Rules, kind: str, readback: str, book: Book, now_ns: int) -> None:
        self.rules = rules
        self.book = book
        self.entries = 0
        self.unwritten: deque[tuple[int, Account, float, float]] = deque()
        self.unclosed = False
        self.kind = kind
        self.device = Device(readback)
        self.wire_ns = 0  # a "fire" takes so long on the wire
        self.triggers: Triggers | None = None
        # Of any session; a new process does not know how long ago an earlier one's last was, and takes it as just now.
        self.last_pulse_ns = now_ns if any(session.pulses for session in book.sessions.values()) else None
        self.start_code: tuple[int, int] | str = "none"  # session and dose so far; a text says why there is none
        self.ceiling_ma = min(rules.ceiling_ma, book.ceilings_ma.get(rules.course, math.inf))
        self.now_ns = now_ns
        self.wall_offset_ns = 0
        self.suspended_ns = 0
        self.reference_ns = (0, 0)
        self.mode = STOPPED
        self.reason = "started; nobody has armed yet"
        self.session = ""
        self.nonce = ""
        self.account = Account()
        self.accounts: dict[str, Account] = {}
        self.tick_number = -1
        self.tick_ns = -1
        self.lease_end_ns = 0
        self.level_ma = 0.0
        self.target_ma = 0.0
        self.frequency_hz = 0.0
        self.down_ma_per_s = 0.0
        self.ending = ""
        self.armed_ns = 0
        self.device_armed = False
        self.log_fault = ""
        self.refused = 0
        self.refusal = ""
        self.refusals_ns: deque[int] = deque(maxlen=REFUSALS_A_MINUTE)
        self.stops = 0
        self.halts = 0  # STOPs from outside the daemon and trips: an arm must know of each (S2: STOP latches in any mode)
        self._effects: list[Effect] = []

    # ---- what happens -------------------------------------------------------------------------------------------

    def identify(self, serial: str, rules: Rules) -> None:
        """The device said who it is: its serial number, and the rules with its own limits in them."""
        self.device.serial = serial
        self.rules = rules

    def open(self, now_ns: int, wall_ns: int) -> list[Effect]:
        """The first thing to happen: this run's first entry in the ledger, which shows that it can be written.

        A ledger that may not go on gets none: it must look the same at the next start.
        """
        self._advance(now_ns)
        self.wall_offset_ns = wall_ns - now_ns
        if not self.book.fault:
            self._enter("opened", {"course": self.rules.course, "lost": self.book.lost})
        return self._take()

    def tick(self, now_ns: int, wall_ns: int, monotonic_ns: int, withdrawn: str = "") -> list[Effect]:
        """Time went on. `wall_ns` is Unix time; `monotonic_ns` CLOCK_MONOTONIC, which stands still in suspend.

        `withdrawn`: why nobody stands behind the prescription any more, "" = somebody does (interlock/vouched.py).
        """
        self._advance(now_ns)
        self.wall_offset_ns = wall_ns - now_ns
        self.suspended_ns = now_ns - monotonic_ns
        self._compare_clocks()
        if withdrawn and self.mode is InterlockMode.ARMED:
            self._fall_back(withdrawn)
        if self.mode is not STOPPED:
            if self.device_armed:
                lease_ms = -(-(self.lease_end_ns - self.now_ns) // MS)
                self._effects.append(Order("output", self.level_ma, self.frequency_hz, lease_ms))
        elif self.device.connected and not self.device.at_rest:
            self._make_zero()
        elif self.unclosed and self.device.zero_since_ns != 0:
            self._close()
        return self._take()

    def report(self, report: DeviceReport, now_ns: int) -> list[Effect]:
        """The device said something, or its connection came or went."""
        self._advance(now_ns)
        device = self.device
        if report.connected != device.connected:
            device.connected = report.connected
            self._effects.append(Event("device", {"connected": report.connected}))
        if not report.connected:
            device.forget()
            self._trip("the stimulator is unplugged or its program ended")
            return self._take()
        if report.fault != device.fault:
            device.fault = report.fault
            self._effects.append(Event("device", {"fault": report.fault}))
        device.shot = report.shot
        if report.fault:
            self._trip(f"the stimulator reports a fault: {report.fault}")
        if (other := another_shot(self.rules.pulses, device.shot)) is not None:
            self._trip(f"{other.field}: {other.reason}")
        was_zero = device.zero_since_ns != 0
        if device.believe(report, now_ns):
            self._compare(was_zero)
        return self._take()

    def command(self, command: StimCommand | PacketError, nonce: str, now_ns: int) -> list[Effect]:
        """The daemon said something. `nonce` is used if this arms: unpredictable, never given twice."""
        self._advance(now_ns)
        if isinstance(command, PacketError):
            self._refuse(0, Refusal(command.field, command.value, None, "interlock", f"{command.field}: {command}"))
        elif command.kind == "stop":
            self._stop(command.reason or "STOP from the daemon")
        else:
            arms = command.kind == "arm"
            refusal = may_not_arm(self, command) if arms else out_of_order(self, command)
            if refusal is not None:
                self._refuse(command.sequence, refusal)
            elif arms:
                self._arm(command, nonce)
            else:
                self._obey(command)
        return self._take()

    def stop(self, reason: str, now_ns: int) -> list[Effect]:
        """STOP, from anywhere: zero now, latch. Never refused; zero and disarm are sent again each time."""
        self._advance(now_ns)
        self.halts += 1
        self._effects.append(Changed())
        self._stop(reason)
        return self._take()

    def trip(self, reason: str, now_ns: int) -> list[Effect]:
        """Something around the judge broke (daemon gone, log unwritable, internal error): zero now, latch."""
        self._advance(now_ns)
        self._trip(reason)
        return self._take()

    def log_failed(self, reason: str, now_ns: int) -> list[Effect]:
        """The audit log cannot be written ("" = it can again): no audit trail, no stimulation."""
        self.log_fault = reason
        return self.trip(f"the audit log cannot be written: {reason}", now_ns) if reason else []

    def written(self, number: int) -> None:
        """All ledger entries up to this number are on the disk: what they debit may be given."""
        while self.unwritten and self.unwritten[0][0] <= number:
            _, account, uc, ms = self.unwritten.popleft()
            account.paid_uc, account.paid_ms = uc, ms
        if self.triggers is not None:
            self.triggers.on_disk(number)

    def write_at_ns(self) -> int | None:
        """When the next pulse must be written to the device, None = none waits; then `shoot` must be called on time."""
        return None if self.triggers is None else self.triggers.write_at_ns()

    def shoot(self, now_ns: int) -> list[Effect]:
        """It is time for the pulse that waits."""
        self._advance(now_ns)
        return self._take()

    def fired(self, now_ns: int) -> list[Effect]:
        """The device's driver has written a pulse: was it on time?"""
        done = self.triggers.done(now_ns) if self.triggers is not None else None
        if self.triggers is not None and done is not None:
            trigger, error_ns = done
            self.last_pulse_ns = trigger.deadline_ns + max(0, error_ns)
            self._effects += told(trigger, "late" if self.triggers.late_in_a_row > 0 else "fired", error_ns // 1000)
            if self.triggers.late_in_a_row == LATE_IN_A_ROW:
                self._effects.append(Event("phase_locking_ended", {"late": self.triggers.late}))
        return self._take()

    # ---- time ---------------------------------------------------------------------------------------------------

    def _advance(self, now_ns: int) -> None:
        """Bring everything up to `now_ns`: dose, lease, device silence, ramp, budget. Runs before anything else."""
        since_ns = now_ns - self.now_ns
        if since_ns < 0:
            self._trip("the boot clock ran backwards")
            return
        before_ma = self.level_ma
        self.now_ns = now_ns
        if self.mode is not STOPPED:
            if now_ns >= self.lease_end_ns:
                self._trip("lease over: no heartbeat with a newer tick within 400 ms")
            elif now_ns - self.device.report_ns > SILENT_NS:
                self._trip("the stimulator has been silent for 300 ms")
            elif not self.device_armed and now_ns - self.armed_ns > ARM_WITHIN_NS:
                self._trip("the stimulator did not arm within 500 ms")
            elif self.level_ma != self.target_ma:
                self._ramp(since_ns if since_ns < LONGEST_STEP_NS else LONGEST_STEP_NS)
        self._debit(max(before_ma, self.level_ma), since_ns)
        if self.mode is not STOPPED:
            self._watch_budget()
            self._pay_ahead()
        if self.triggers is not None and self.mode == InterlockMode.ARMED:
            self._pulses(self.triggers)

    def _ramp(self, step_ns: int) -> None:
        """One step of the ramp, on this clock: up at most at the signed rate, down by the way that was chosen."""
        if not self.device_armed or (
            self.level_ma == 0.0 and not self.account.paid_for(self.rules, self.target_ma, SLICE_LEFT_MS / 2)
        ):
            return
        step_s = step_ns / 1e9
        if self.level_ma < self.target_ma:
            self.level_ma = min(self.target_ma, self.level_ma + self.rules.ramp_ma_per_s * step_s)
        else:
            self.level_ma = max(self.target_ma, self.level_ma - self.down_ma_per_s * step_s)
        if self.ending and self.level_ma == 0.0:
            self._settle(self.ending)

    def _debit(self, level_ma: float, since_ns: int) -> None:
        """Count the dose of the last `since_ns`: the larger of what was told and what was confirmed."""
        if self.device.zero_since_ns == 0 and self.device.output_ma is not None:
            level_ma = max(level_ma, abs(self.device.output_ma))
        if level_ma > 0.0:
            self.account.give(level_ma, self.frequency_hz > 0.0, since_ns, self.now_ns)
            self.unclosed = True

    def _watch_budget(self) -> None:
        """The session's time and charge, and the prescription's end: used up is a trip; before that the ramp down begins by itself."""
        reason = self.account.end(self.rules, self.level_ma, self.now_ns) or signed_no_longer(self)
        if reason == OVER:
            self._trip("the session's time or charge is used up")
        elif reason and not self.ending:
            self._go_down(reason, self.rules.ramp_ma_per_s)

    # ---- the ledger ---------------------------------------------------------------------------------------------

    def _pay_ahead(self) -> None:
        """Debit the next slice before it is given; output that was not paid for in time is a trip."""
        account = self.account
        most_ma = max(self.level_ma, self.target_ma)
        if self.level_ma > 0.0 and not account.within_paid():
            self._trip("the dose ledger was not written in time")
        elif most_ma > 0.0 and not self.unwritten and not account.paid_for(self.rules, most_ma, SLICE_LEFT_MS):
            uc, ms = account.next_slice(self.rules, most_ma)
            self._enter("debit", {"session": self.session, "course": self.rules.course, "uc": uc, "ms": ms})
            self.unwritten.append((self.entries, account, uc, ms))
            self.unclosed = True

    def _close(self) -> None:
        """Zero is confirmed: what was debited and not given is free again."""
        self.unclosed = False
        if self.session:
            uc, ms = float(self.account.uc), float(self.account.ms)
            self._enter("close", {"session": self.session, "course": self.rules.course, "uc": uc, "ms": ms})
            self.unwritten.clear()  # a debit that reaches the disk before this close no longer pays for anything
            self.account.paid_uc, self.account.paid_ms = uc, ms

    def _enter(self, event: str, data: dict[str, Any]) -> None:
        self.entries += 1
        data |= {"boot_id": self.book.boot_id, "synchronized": self.book.synchronized}
        wall_s = self.wall_s()
        self.book.apply(event, data, self.now_ns, wall_s)
        self._effects.append(Entry(self.entries, event, data, self.now_ns, wall_s))

    def wall_s(self) -> float:
        return (self.now_ns + self.wall_offset_ns) / 1e9

    def _compare_clocks(self) -> None:
        wall, suspended = self.reference_ns
        if abs(self.wall_offset_ns - wall) > CLOCKS_PART_NS:
            self._trip("wall clock and boot clock part by more than 1 s")
        elif abs(self.suspended_ns - suspended) > SUSPEND_NS:
            self._trip("the machine was suspended")

    # ---- pulses -------------------------------------------------------------------------------------------------

    def _take_pulse(self, c: StimCommand, triggers: Triggers) -> None:
        untimely = triggers.untimely(c.deadline_ns, self.now_ns)
        if untimely is not None:
            self._refuse(c.sequence, untimely)
        else:
            triggers.take(c.sequence, c.deadline_ns)
            self._pulses(triggers)

    def _pulses(self, triggers: Triggers) -> None:
        """Write ahead in the ledger what may be given, and give or skip the pulse whose time has come."""
        ready = self.device_armed and not self.ending and (self.device.shot is not None or not self.rules.worn)
        due = triggers.due(self.now_ns, ready)  # of a stimulator that is worn nothing is fired that it has not told
        if due is not None and due[1]:
            self._effects.append(Order("fire"))
            self.last_pulse_ns = due[0].deadline_ns
            self.account.trains = triggers.trains
            if self.account.first_ns is None:
                self.account.first_ns = due[0].deadline_ns  # from the first pulse on the session's time runs
        elif due is not None:
            self._effects += told(due[0], "skipped", (self.now_ns + triggers.wire_ns - due[0].deadline_ns) // 1000)
        owed = triggers.owed()
        if owed is not None:
            self._enter("pulses", {"session": self.session, "course": self.rules.course, "n": owed})
            triggers.unwritten.append((self.entries, owed))

    def _end_pulses(self) -> None:
        """What was written ahead and not given is free again."""
        triggers, self.triggers = self.triggers, None
        if triggers is not None:
            self._enter("pulses", {"session": self.session, "course": self.rules.course, "n": triggers.given})
            if triggers.waiting is not None:
                self._effects += told(triggers.waiting, "skipped", 0)

    # ---- the device ---------------------------------------------------------------------------------------------

    def _compare(self, was_zero: bool) -> None:
        """The device has said what it delivers: is it what it was told?"""
        device = self.device
        zero = device.zero_since_ns != 0
        if was_zero != zero:
            self._effects.append(Changed())
        if self.mode is STOPPED:
            if was_zero and not zero:
                self._effects.append(Event("output_while_stopped", {"output_ma": device.output_ma}))
            return
        if device.report_ns > self.armed_ns:
            if self.device_armed and not device.armed:
                self._trip("the stimulator disarmed itself")
                return
            self.device_armed = device.armed
        behind_ma = self.down_ma_per_s * BEHIND_S if self.level_ma > self.target_ma else 0.0
        if objection := device.objection(self.level_ma, self.rules.amplitude_ma, behind_ma):
            self._trip(objection)

    # ---- commands -----------------------------------------------------------------------------------------------

    def _arm(self, c: StimCommand, nonce: str) -> None:
        if self.unclosed:
            self._close()
        self.account = self.accounts[c.session] = self.account_of(c.session)
        self.account.sequence = c.sequence
        self.session = c.session
        self.nonce = nonce
        self.mode = InterlockMode.ARMED
        self.reason = "armed"
        self.frequency_hz = self.rules.frequency_hz
        self.armed_ns = self.now_ns
        self.device_armed = False
        self.device.mismatch_since_ns = 0
        self.tick_number, self.tick_ns = c.tick, c.tick_ns
        self.lease_end_ns = self.now_ns + LEASE_NS
        self.reference_ns = (self.wall_offset_ns, self.suspended_ns)
        if self.rules.pulses is not None:
            given, left, _ = self.book.pulses_left(self.rules.pulses, self.rules, c.session, self.now_ns, self.wall_s())
            free_ns = 0 if self.last_pulse_ns is None else self.last_pulse_ns + self.rules.pulses.interval_ms * MS
            self.triggers = Triggers(self.rules.pulses, self.wire_ns, given, left, self.account.trains, free_ns)
        self._effects += [
            Order("arm"),
            Reply({"type": "armed", "session": c.session, "nonce": nonce}),
            Event("armed", {"session": c.session, "sequence": c.sequence, "reason": c.reason}),
            Changed(),
        ]

    def account_of(self, name: str) -> Account:
        """A session's account: as it stands, or from the ledger if an earlier process had it."""
        return self.accounts.get(name) or from_book(self.book, name, self.rules, self.now_ns, self.wall_s())

    def _obey(self, c: StimCommand) -> None:
        self.account.sequence = c.sequence
        above = beyond(self, c)
        if above is not None:
            self._refuse(c.sequence, above)
            self._trip(f"a {'pulse' if c.kind == 'pulse' else 'command'} was above a limit: {above.reason}")
            return
        if c.kind in ("heartbeat", "set"):
            self.tick_number, self.tick_ns = c.tick, c.tick_ns
            self.lease_end_ns = c.tick_ns + LEASE_NS
        if c.kind == "set":
            self._set(c)
        elif c.kind == "pulse" and self.triggers is not None:
            self._take_pulse(c, self.triggers)
        elif c.kind == "fallback":
            self._fall_back(c.reason or "the daemon fell back")
        elif c.kind == "end":
            self._go_down("session ended", self.rules.ramp_ma_per_s)

    def _set(self, c: StimCommand) -> None:
        if c.block == Block.STIMULATE and self.rules.lower_only:
            if c.amplitude_ma < self.ceiling_ma:
                self._enter("ceiling", {"course": self.rules.course, "amplitude_ma": c.amplitude_ma})
            self.ceiling_ma = c.amplitude_ma
        if c.amplitude_ma != self.target_ma:
            self.target_ma = c.amplitude_ma
            self.down_ma_per_s = self.rules.ramp_ma_per_s
            self._effects += [
                Event("set", {name: getattr(c, name) for name in ("sequence", "tick", "block", "amplitude_ma", "reason")}),
                Changed(),
            ]

    def _refuse(self, sequence: int, refusal: Refusal) -> None:
        """Say no, count it; the tenth within a minute stops."""
        self.refused += 1
        self.refusal = f"{refusal.field}: {refusal.reason}"
        body = {"sequence": sequence, **asdict(refusal)}
        self._effects.append(Reply({"type": "refused", **body}))
        before = sum(self.now_ns - at_ns <= MINUTE_NS for at_ns in self.refusals_ns)
        self.refusals_ns.append(self.now_ns)
        if before < REFUSALS_A_MINUTE:  # a flood of them does not flood the log
            self._effects.append(Event("refused", body))
        if before >= REFUSALS_A_MINUTE - 1:
            self._trip("ten commands were refused within a minute")

    # ---- the ways down ------------------------------------------------------------------------------------------

    def _fall_back(self, reason: str) -> None:
        """Fallback: to zero within the signed time (at most 5 s), never above the present output."""
        self.mode = InterlockMode.FALLBACK
        faster = self.down_ma_per_s if self.ending else 0.0
        self._go_down(f"fallback: {reason}", max(faster, self.level_ma / self.rules.fallback_s))

    def _go_down(self, reason: str, rate_ma_per_s: float) -> None:
        """A planned end by the signed ramp, a fallback faster."""
        self.ending = reason
        self.reason = f"on the way down: {reason}"
        self.target_ma = 0.0
        self.down_ma_per_s = rate_ma_per_s
        self._effects += [Event("going_down", {"reason": reason, "from_ma": self.level_ma}), Changed()]
        if self.level_ma == 0.0:
            self._settle(reason)

    def _settle(self, reason: str) -> None:
        self.mode = STOPPED
        self.reason = reason
        self.ending = ""
        self.level_ma = self.target_ma = 0.0
        self.nonce = ""
        self._make_zero()
        self._end_pulses()
        self._effects += [
            Event(
                "stopped",
                {"reason": reason, "session": self.session, "delivered_uc": self.account.uc, "delivered_ms": self.account.ms},
            ),
            Changed(),
        ]

    def _stop(self, reason: str) -> None:
        self.stops += 1
        if self.mode is STOPPED:
            self._make_zero()
            if self.stops <= 100 or self.stops % 1000 == 0:
                self._effects.append(Event("stop_again", {"reason": reason, "stops": self.stops}))
            return
        self._effects.append(Event("stop", {"reason": reason, "from_ma": self.level_ma}))
        self._settle(f"STOP: {reason}")

    def _trip(self, reason: str) -> None:
        if self.mode is STOPPED:
            return
        self.halts += 1
        self._effects.append(Event("trip", {"reason": reason, "from_ma": self.level_ma}))
        self._settle(reason)

    def _make_zero(self) -> None:
        self._effects += [Order("zero"), Order("disarm")]

    def _take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
