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
from interlock.loop import OVERDUE_NS, QUIET_NS, STATE_NS, TICK_NS
from interlock.refusals import MS
from tests.interlock_bench import make_program, make_pulses
from tests.still_loop import Still, packets

LOOK_NS = 20_000
SLACK_NS = 1 * MS  # looks at the clock within a turn
LONGEST_TICK_NS = TICK_NS + OVERDUE_NS + QUIET_NS + SLACK_NS
LONGEST_SILENCE_NS = STATE_NS + LONGEST_TICK_NS
HEARTBEAT_NS = 100 * MS
RUN_NS = 600 * MS
GAP_US = st.one_of(st.sampled_from([0, 0, 1, 2_000]), st.integers(0, 12_000))
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
    """An armed loop and a daemon that asks for the next pulse a `gap` after the last one was given or skipped."""

    def __init__(self, still: Still, steps: list[tuple[int, int]], paid: bool) -> None:
        self.still, self.steps, self.paid = still, steps, paid
        self.n_asked = 0
        still.armed()
        still.look_ns = LOOK_NS
        self.armed = True
        still.driver.poll = self.poll  # type: ignore[method-assign]
        still.loop.selector = Selecting(self, still.selected.real)  # type: ignore[assignment]
        self.end = still.daemon()
        self.ticks_ns: list[int] = []
        self.states_ns: list[int] = []
        self.outcomes: list[str] = []
        tick = still.judge.tick

        def ticked(now_ns: int, wall_ns: int, monotonic_ns: int) -> Any:
            self.ticks_ns.append(now_ns)
            return tick(now_ns, wall_ns, monotonic_ns)

        still.judge.tick = ticked  # type: ignore[method-assign]
        self.heartbeat_ns = still.now_ns
        self.pulse_ns: int | None = still.now_ns

    def poll(self) -> DeviceReport:
        armed = [told for told in self.still.driver.told if told in ("arm", "disarm")][-1] == "arm"
        return DeviceReport(output_ma=0.0, t_ns=self.still.now_ns, connected=True, armed=armed, fault="")

    def wait(self, ns: int) -> None:
        """Time goes on until then, or until the daemon's next packet, which is sent."""
        until_ns = self.still.now_ns + ns
        if self.heartbeat_ns <= until_ns:
            until_ns, self.heartbeat_ns = self.heartbeat_ns, self.heartbeat_ns + HEARTBEAT_NS
            self.say(until_ns, "heartbeat")
        elif self.pulse_ns is not None and self.pulse_ns <= until_ns:
            until_ns, self.pulse_ns = self.pulse_ns, None
            self.say(until_ns, "pulse", deadline_ns=self.deadline_ns(until_ns))
        self.still.now_ns = max(self.still.now_ns, until_ns)

    def say(self, at_ns: int, kind: str, **changes: Any) -> None:
        self.still.now_ns = max(self.still.now_ns, at_ns)
        self.end.send(self.still.make(kind, **changes).to_json())

    def deadline_ns(self, now_ns: int) -> int:
        """As drawn; a daemon that obeys keeps to the signed rate and pause after a pulse that was given."""
        triggers = self.still.judge.triggers
        assert triggers is not None
        deadline_ns = max(1, now_ns + self.steps[self.n_asked % len(self.steps)][1] * 1000)
        self.n_asked += 1
        if triggers.last_ns is None:
            return deadline_ns
        return max(deadline_ns, triggers.last_ns + 100 * MS, triggers.free_ns)

    def to_the_end(self) -> None:
        loop, judge = self.still.loop, self.still.judge
        start_ns = self.still.now_ns
        while self.still.now_ns < start_ns + RUN_NS and judge.mode == "armed":
            self.still.ledger.written = judge.entries if self.paid else 0
            loop._turn()
            for packet in packets(self.end):
                if packet["type"] == "state":
                    self.states_ns.append(packet["boot_ns"])
                elif packet["type"] == "pulse":
                    self.outcomes.append(packet["outcome"])
                    gap_us = self.steps[self.n_asked % len(self.steps)][0]
                    self.pulse_ns = self.still.now_ns + gap_us * 1000
                else:
                    raise AssertionError(packet)
        self.ticks_ns.append(self.still.now_ns)
        self.states_ns.append(self.still.now_ns)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(GAP_US, AHEAD_US), min_size=1, max_size=8), st.booleans())
@example([(0, 5_000)], False)
@example([(0, 8_000), (0, 2_000)], False)
@example([(0, 8_000)], True)
def test_the_quiet_ends_whatever_pulses_are_asked_for(steps: list[tuple[int, int]], paid: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        still = Still(Path(folder), patched, make_pulses(make_program()))
        try:
            run = Run(still, steps, paid)
            run.to_the_end()
        finally:
            still.close()
        assert still.judge.mode == "armed", still.judge.reason
        assert "fired" in run.outcomes if paid and min(ahead_us for _, ahead_us in steps) >= 0 else run.outcomes
        assert max(after - before for before, after in pairwise(run.ticks_ns)) <= LONGEST_TICK_NS
        assert max(after - before for before, after in pairwise(run.states_ns)) <= LONGEST_SILENCE_NS
