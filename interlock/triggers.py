"""Pulses one by one: each is a command with a deadline, fired within 1 ms of it or skipped and counted. Pure.

What is fired at once is one pulse, or one burst of a theta-burst program: it ends by itself. A train is what the deadlines make of
them, and is judged as one: spacing, length, count, and the pause after it.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from eegloop.stim import PulseProgram
from interlock.effects import Effect, Event, Refusal, Reply, first
from interlock.pulses import train_ms

MS = 1_000_000
ON_TIME_NS = 1 * MS
AHEAD_NS = 2_000 * MS
LATE_IN_A_ROW = 3
SLICE_NS = 8_000 * MS


class Trigger(NamedTuple):
    """One accepted command: the pulse (or burst) is to be at `deadline_ns`."""

    sequence: int
    deadline_ns: int


def told(trigger: Trigger, outcome: str, error_us: int) -> list[Effect]:
    """What daemon and log hear of a pulse: "fired", "late" or "skipped"."""
    body = {"sequence": trigger.sequence, "outcome": outcome, "error_us": error_us}
    return [Reply({"type": "pulse", **body}), Event("pulse", body)]


class Triggers:
    """The pulses of one arming.

    Parameters
    ----------
    program : PulseProgram
    wire_ns : int
        How long the command takes on the wire (3 bytes at 9600 baud: 3.1 ms): it is written this much before the deadline.
    given, left : int
        Pulses this session has had, and how many more session, day, week and course allow.
    trains, free_ns : int
        Trains this session has begun, and when the pause after the last pulse of any arming is over: arming anew begins a train.
    """

    def __init__(self, program: PulseProgram, wire_ns: int, given: int, left: int, trains: int = 0, free_ns: int = 0) -> None:
        self.program = program
        self.wire_ns = wire_ns
        self.given = given
        self.most = given + left
        self.paid = given
        self.unwritten: deque[tuple[int, int]] = deque()
        self.waiting: Trigger | None = None
        self.written: Trigger | None = None
        self.last_ns: int | None = None
        self.free_ns = free_ns  # not before this; moves on after a pulse that was late
        self.train_ns = 0
        self.in_train = 0
        self.trains = trains
        self.fired = self.skipped = self.late = self.late_in_a_row = 0

    @property
    def period_ns(self) -> int:
        return 1_000_000 * MS // self.program.train_millihz

    def _begins(self, deadline_ns: int) -> bool:
        """A pulse at this time begins a train; otherwise it goes on with one."""
        return self.last_ns is None or deadline_ns - self.last_ns >= self.program.interval_ms * MS

    def beyond(self, deadline_ns: int) -> Refusal | None:
        """The limit that a pulse at this time would break: whoever asks for it has lost count, which trips."""
        program, burst = self.program, self.program.burst_pulses
        begins, since_ns = self._begins(deadline_ns), deadline_ns - (self.last_ns or 0)
        train, lasts_ns = (self.in_train + 1) * burst, deadline_ns - self.train_ns + self.period_ns
        return first(
            (self.given + burst <= self.most,
             "pulses", self.given + burst, self.most, "prescription", "as many pulses as signed were given"),
            (not begins or self.trains < program.trains,
             "trains", self.trains + 1, program.trains, "prescription", "as many trains as signed were given"),
            (begins or since_ns >= self.period_ns,
             "deadline_ns", since_ns, self.period_ns, "prescription", "sooner after the last pulse than signed"),
            (begins or train <= program.train_pulses,
             "train_pulses", train, program.train_pulses, "prescription", "the train is over; pause first"),
            (begins or lasts_ns <= train_ms(program) * MS,
             "train_ms", lasts_ns // MS, train_ms(program), "prescription", "the train is too long"),
        )  # fmt: skip

    def untimely(self, deadline_ns: int, now_ns: int) -> Refusal | None:
        """Why this one cannot be kept to its time; refused without a trip. After one that was late the pause begins when it was given."""
        pauses = self.last_ns is not None and self._begins(deadline_ns)
        free_ns = self.free_ns + (self.program.interval_ms * MS - self.period_ns if pauses else 0)
        return first(
            (self.late_in_a_row < LATE_IN_A_ROW,
             "deadline_ns", self.late_in_a_row, LATE_IN_A_ROW, "interlock", "three pulses in a row were late; arm again"),
            (deadline_ns >= free_ns,
             "deadline_ns", deadline_ns, free_ns, "interlock", "too soon after the last pulse; pause first"),
            (self.waiting is None and self.written is None,
             "deadline_ns", deadline_ns, "one at a time", "interlock", "another pulse waits"),
            (deadline_ns <= now_ns + AHEAD_NS,
             "deadline_ns", deadline_ns, now_ns + AHEAD_NS, "interlock", "more than 2 s ahead"),
        )  # fmt: skip

    def take(self, sequence: int, deadline_ns: int) -> None:
        """Accepted: it waits for its time."""
        self.waiting = Trigger(sequence, deadline_ns)

    def write_at_ns(self) -> int | None:
        """When the waiting command must be written, None = none waits."""
        return None if self.waiting is None else self.waiting.deadline_ns - self.wire_ns

    def due(self, now_ns: int, ready: bool) -> tuple[Trigger, bool] | None:
        """The waiting trigger once its time has come, and whether to fire it: in time, paid for, and with the device ready."""
        at_ns = self.write_at_ns()
        if self.waiting is None or at_ns is None or now_ns < at_ns:
            return None
        trigger, self.waiting = self.waiting, None
        fire = ready and now_ns - at_ns <= ON_TIME_NS and self.given + self.program.burst_pulses <= self.paid
        if fire:
            self.written = trigger
            self._count(trigger.deadline_ns)
        else:
            self.skipped += 1
        return trigger, fire

    def _count(self, deadline_ns: int) -> None:
        """Counted before it is written: a crash in between has given it."""
        self.given += self.program.burst_pulses
        if self._begins(deadline_ns):
            self.trains += 1
            self.in_train = 0
            self.train_ns = deadline_ns
        self.in_train += 1
        self.last_ns = deadline_ns

    def done(self, written_ns: int) -> tuple[Trigger, int] | None:
        """The command has been written: `(trigger, error in ns)`; one more than 1 ms late is marked, three in a row end it."""
        if self.written is None:
            return None
        trigger, self.written = self.written, None
        error_ns = written_ns + self.wire_ns - trigger.deadline_ns
        late = error_ns > ON_TIME_NS
        self.fired += 1
        self.late += late
        self.late_in_a_row = self.late_in_a_row + 1 if late else 0
        if late:
            self.free_ns = written_ns + self.wire_ns + self.period_ns
        return trigger, error_ns

    def owed(self) -> int | None:
        """Up to how many pulses of this session the ledger must be written next, None = it is far enough ahead."""
        slice_pulses = max(1, SLICE_NS // self.period_ns) * self.program.burst_pulses
        if self.unwritten or self.paid >= min(self.most, self.given + slice_pulses // 2 + self.program.burst_pulses):
            return None
        return min(self.most, self.given + slice_pulses + self.program.burst_pulses)

    def on_disk(self, number: int) -> None:
        """Ledger entries up to this number are on the disk."""
        while self.unwritten and self.unwritten[0][0] <= number:
            self.paid = self.unwritten.popleft()[1]
