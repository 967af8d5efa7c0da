"""A seat whose stimulator fires pulses, in virtual time, and programs by name, for the tests of pulses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eegloop.stim import StimCommand
from interlock.limits import rules
from interlock.pulses import PROTOCOLS
from interlock.refusals import MS
from tests.interlock_bench import PULSES, Seat, make_program, make_pulses

WORN = {"device": "magstim", "device_serial": "7", "day_sessions": 1, "lockout_ms": 43_200_000}


def listed(name: str) -> dict[str, Any]:
    return {**asdict(PROTOCOLS[name].program), "protocol": name, "motor_threshold_percent": 50}


# ---- firing ----------------------------------------------------------------------------------------------------------


class Coil(Seat):
    """A seat whose stimulator fires pulses; `at` asks for one at a time from now and lets the time pass."""

    def __init__(self, program: dict[str, Any] | None = None, wire_ms: float = 0.0, **changes: Any) -> None:
        super().__init__()
        self.prescription = make_pulses(make_program(**(program or {})), **changes)
        self.judge.identify("7", rules(self.prescription, None, PULSES))
        self.judge.wire_ns = round(wire_ms * MS)
        self.session = "s1"

    def ready(self) -> Coil:
        self.arm()
        self.pass_ms(50)
        return self

    def rearm_after(self, ms: int, session: str = "s1") -> None:
        """STOP now, arm again when `ms` have passed."""
        self.perform(self.judge.stop("person", self.now_ns))
        self.jump(ms)
        self.tick_and_report()
        self.pass_ms(50)
        self.session = session
        self.arm()
        self.pass_ms(50)

    def make(self, kind: str, **changes: Any) -> StimCommand:
        return super().make(kind, **{"session": self.session, **changes})

    def ask(self, deadline_ns: int, **changes: Any) -> dict[str, Any] | None:
        """The command only."""
        return self.send("pulse", deadline_ns=deadline_ns, expires_ns=self.now_ns + 1500 * MS, **changes)

    def at(self, deadline_ns: int, error_ns: int = 0) -> dict[str, Any]:
        """Ask, wait as the loop does, and look `error_ns` after it was to be written; the answer about it."""
        answer = self.ask(deadline_ns)
        if answer is not None:
            return answer
        assert self.judge.write_at_ns() == deadline_ns - self.judge.wire_ns
        while deadline_ns - self.judge.wire_ns - self.now_ns > 60 * MS:
            self.pass_ms(50)
        ns = deadline_ns - self.judge.wire_ns + error_ns - self.now_ns
        self.now_ns, self.wall_ns, self.monotonic_ns = self.now_ns + ns, self.wall_ns + ns, self.monotonic_ns + ns
        self.perform(self.judge.shoot(self.now_ns))
        self.report()
        return self.replies[-1]

    def train(self, pulses: int, period_ms: int = 100) -> list[str]:
        start_ns = self.now_ns + 10 * MS
        return [str(self.at(start_ns + i * period_ms * MS).get("outcome")) for i in range(pulses)]
