"""The quiet before a pulse ends: whatever pulses follow each other, skipped or fired, no tick and no word to the daemon waits longer."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eegloop.stim import DeviceReport
from interlock import loop as loop_module
from interlock.loop import OVERDUE_NS, QUIET_NS, STATE_NS, TICK_NS
from interlock.refusals import MS
from tests.interlock_bench import make_program, make_pulses
from tests.still_loop import Still, packets

LOOK_NS = 20_000
SLACK_NS = 1 * MS  # looks at the clock within a turn
LONGEST_TICK_NS = TICK_NS + OVERDUE_NS + QUIET_NS + SLACK_NS
LONGEST_SILENCE_NS = STATE_NS + LONGEST_TICK_NS
HEARTBEAT_NS = 100 * MS
PERIOD_NS = 100 * MS
SOONEST_NS = MS // 2
RUN_NS = 400 * MS
# When the next pulse is asked for, from the last one's time on. Before it: while the loop only looks at the clock, and reads it after.
GAP_US = st.one_of(st.sampled_from([-1_900, -1_000, -50, 0, 1]), st.integers(-1_900, 12_000))
# When it says something before a pulse: what wakes the loop just as it begins to look at the clock has the next pulse read with it.
NUDGE_US = st.one_of(st.sampled_from([-2_040, -2_030, -2_020, -2_010, 0]), st.integers(-9_000, 0))
AHEAD_US = st.one_of(st.sampled_from([0, 1, 1_999, 2_000, 2_001, 7_999, 8_000, 8_001]), st.integers(-2_000, 60_000))


class Selecting:
    """A selector in virtual time: it waits for as long as it is asked to, or until the daemon says something."""

    def __init__(self, run: Run, real: Any) -> None:
        self.run = run
        self.real = real

    def select(self, timeout_s: float) -> Any:
        self.run.wait(round(timeout_s * 1e9))
        return self.real.select(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Run:
    """An armed loop, and a daemon that asks for one pulse after the other: each so long after the one before, so far ahead."""

    def __init__(self, still: Still, steps: list[tuple[int, int, int]], paid: bool) -> None:
        self.still, self.steps, self.paid = still, steps, paid
        self.n_asked = 0
        still.armed()
        still.look_ns = LOOK_NS
        still.driver.poll = self.poll  # type: ignore[method-assign]
        still.loop.selector = Selecting(self, still.selected.real)  # type: ignore[assignment]
        self.end = still.daemon()
        self.ticks_ns: list[int] = []
        self.states_ns: list[int] = []
        self.outcomes: list[str] = []
        tick, look = still.judge.tick, loop_module.boot_ns

        def ticked(now_ns: int, *others: Any) -> Any:
            self.ticks_ns.append(now_ns)
            return tick(now_ns, *others)

        def looked() -> int:
            now_ns = look()
            self.speak()
            return now_ns

        still.judge.tick = ticked  # type: ignore[method-assign]
        still.patched.setattr(loop_module, "boot_ns", looked)
        self.heartbeat_ns = self.pulse_ns = still.now_ns
        self.deadline_ns = 0

    def poll(self) -> DeviceReport:
        armed = [told for told in self.still.driver.told if told in ("arm", "disarm")][-1] == "arm"
        return DeviceReport(output_ma=0.0, t_ns=self.still.now_ns, connected=True, armed=armed, fault="")

    def wait(self, ns: int) -> None:
        """Time goes on until then, or until the daemon's next packet."""
        self.still.now_ns = max(self.still.now_ns, min(self.still.now_ns + ns, self.heartbeat_ns, self.pulse_ns))
        self.speak()

    def speak(self) -> None:
        """The daemon sends what it has to say by now."""
        now_ns = self.still.now_ns
        if now_ns >= self.heartbeat_ns:
            self.heartbeat_ns = now_ns + HEARTBEAT_NS
            self.end.send(self.still.make("heartbeat").to_json())
        if now_ns >= self.pulse_ns:
            ahead_us, gap_us, nudge_us = self.steps[self.n_asked % len(self.steps)]
            self.n_asked += 1
            soonest_ns = self.deadline_ns + (PERIOD_NS if self.paid else 0)  # what is paid for is given: as far apart as signed
            self.deadline_ns = max(now_ns + ahead_us * 1000, soonest_ns)
            self.heartbeat_ns = min(self.heartbeat_ns, max(now_ns + SOONEST_NS, self.deadline_ns + nudge_us * 1000))
            self.pulse_ns = max(now_ns + SOONEST_NS, self.deadline_ns + gap_us * 1000)
            self.end.send(self.still.make("pulse", deadline_ns=self.deadline_ns).to_json())

    def to_the_end(self) -> None:
        loop, judge = self.still.loop, self.still.judge
        start_ns = self.still.now_ns
        while self.still.now_ns < start_ns + RUN_NS and judge.mode == "armed":
            self.still.ledger.written = judge.entries if self.paid else 0
            loop._turn()
            for packet in packets(self.end):
                if packet["type"] == "state":
                    self.states_ns.append(packet["boot_ns"])
                else:
                    self.outcomes.append(packet.get("outcome", packet["type"]))
        self.ticks_ns.append(self.still.now_ns)
        self.states_ns.append(self.still.now_ns)


def run_of(steps: list[tuple[int, int, int]], paid: bool) -> Run:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        still = Still(Path(folder), patched, make_pulses(make_program()))
        try:
            run = Run(still, steps, paid)
            run.to_the_end()
        finally:
            still.close()
        return run


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(AHEAD_US, GAP_US, NUDGE_US), min_size=1, max_size=8), st.booleans())
@example([(5_000, -1_000, -2_020)], False)
@example([(7_999, -1_000, 0)], True)
def test_the_quiet_ends_whatever_pulses_are_asked_for(steps: list[tuple[int, int, int]], paid: bool) -> None:
    run = run_of(steps, paid)
    assert run.still.judge.mode == "armed" or run.outcomes.count("refused") >= 10, run.still.judge.reason
    assert max(after - before for before, after in pairwise(run.ticks_ns)) <= LONGEST_TICK_NS
    assert max(after - before for before, after in pairwise(run.states_ns)) <= LONGEST_SILENCE_NS


def test_what_such_a_daemon_asks_for_is_given_once_it_is_paid_for() -> None:
    """The runs above are no runs of a loop that does nothing."""
    outcomes = run_of([(30_000, 0, 0)], True).outcomes
    assert outcomes[1:] == ["fired"] * (len(outcomes) - 1) and len(outcomes) > 2
    assert set(run_of([(5_000, -1_000, -2_020)], False).outcomes) == {"skipped"}
