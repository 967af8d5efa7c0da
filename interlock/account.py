"""One session's account: what it has had, what the ledger on the disk has paid for, and when it must end. Pure."""

from __future__ import annotations

import math

from interlock.ledger import Book
from interlock.limits import Rules
from interlock.refusals import LEASE_NS, LONGEST_STEP_NS, MS

SLICE_MS = 8_000
SLICE_LEFT_MS = 4_000
OVER = "over"


class Account:
    """Charge (µC) and time with output (ns) of one session; a re-arm in the same session goes on with it.

    `paid_uc` and `paid_ms` are what its debits on the disk allow.
    """

    __slots__ = ("charge_uc", "first_ns", "on_ns", "paid_ms", "paid_uc", "sequence", "trains")

    def __init__(self, charge_uc: float = 0.0, on_ns: int = 0, first_ns: int | None = None, trains: int = 0) -> None:
        self.charge_uc = charge_uc
        self.on_ns = on_ns
        self.first_ns = first_ns  # of the first nonzero output; None = none yet
        self.paid_uc = charge_uc
        self.paid_ms = on_ns / MS
        self.sequence = -1
        self.trains = trains  # begun

    @property
    def uc(self) -> int:
        """Charge given, rounded up."""
        return math.ceil(self.charge_uc)

    @property
    def ms(self) -> int:
        """Time with output, rounded up."""
        return -(-self.on_ns // MS)

    def give(self, output_ma: float, alternating: bool, since_ns: int, now_ns: int) -> None:
        """Count the dose of the last `since_ns`. The device's own lease ends its output, so no step counts for longer than a lease."""
        step_ns = min(since_ns, LEASE_NS)
        effective = math.sqrt(0.5) if alternating else 1.0
        self.charge_uc += output_ma * effective * step_ns / 1e6
        self.on_ns += step_ns
        if self.first_ns is None:
            self.first_ns = now_ns - step_ns

    def paid_for(self, rules: Rules, most_ma: float, ms: float) -> bool:
        """True if the ledger on the disk has this session's next `ms` at `most_ma`, or all that is left of it."""
        enough_ms = self.paid_ms >= self.on_ns / MS + ms or self.paid_ms >= rules.session_ms
        return enough_ms and (self.paid_uc >= self.charge_uc + most_ma * ms or self.paid_uc >= rules.session_uc)

    def within_paid(self) -> bool:
        """Nothing was given beyond what was paid for."""
        return self.charge_uc <= self.paid_uc and self.on_ns / MS <= self.paid_ms

    def next_slice(self, rules: Rules, most_ma: float) -> tuple[float, float]:
        """`(uc, ms)`: the totals that the next debit allows."""
        uc = min(self.charge_uc + most_ma * SLICE_MS, float(rules.session_uc))
        ms = min(self.on_ns / MS + SLICE_MS, float(rules.session_ms))
        return max(uc, self.paid_uc), max(ms, self.paid_ms)

    def end(self, rules: Rules, level_ma: float, now_ns: int) -> str:
        """ "over" if the session's time or charge is used up, the reason to begin the planned ramp down if that is due, else "".

        The ramp begins so early that its end is still inside the session's time and charge.
        """
        if self.first_ns is None:
            return ""
        down_s = level_ma / rules.ramp_ma_per_s
        time_left_ms = rules.session_ms - (now_ns - self.first_ns) / MS
        charge_left_uc = rules.session_uc - self.charge_uc
        if not (time_left_ms >= 0.0 and charge_left_uc >= 0.0):
            return OVER
        if time_left_ms - LONGEST_STEP_NS / MS <= down_s * 1000:
            return "session time used"
        if charge_left_uc - level_ma * LONGEST_STEP_NS / MS <= level_ma * down_s * 500:
            return "session charge used"
        return ""


def from_book(book: Book, name: str, rules: Rules, now_ns: int, wall_s: float) -> Account:
    """A session's account as the ledger has it; an empty one if it has none."""
    session = book.sessions.get(name)
    if session is None:
        return Account()
    first_ns = now_ns - round((book.counted_s(now_ns, wall_s) - session.first_s) * 1e9)
    # The ledger has no trains: whole ones are the fewest it can have been.
    trains = -(-session.pulses // rules.pulses.train_pulses) if rules.pulses is not None else 0
    return Account(session.uc, math.ceil(session.ms) * MS, first_ns, trains)
