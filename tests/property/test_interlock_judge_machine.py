"""Arbitrary commands, delays, replays, reorderings, clock jumps and device answers against the judge (S1, S3, S8, S9)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eegloop.stim import StimCommand
from interlock.refusals import MS
from interlock.told import state_of
from tests.interlock_bench import START_NS, Seat

AMPLITUDES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(min_value=0.0, max_value=2.5),
    st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, 1.5000001, -0.0]),
)
DELAYS_MS = st.one_of(st.integers(0, 60), st.integers(0, 900), st.sampled_from([10, 50, 399, 400, 401, 5000]))
LEASE_NS = 400 * MS


class JudgeMachine(RuleBasedStateMachine):
    """Keeps its own book of what was allowed, written from DESIGN.md section 5 and not from the judge's code."""

    n_outputs = 0  # of all examples together: rules about what flows prove nothing where nothing flows

    @initialize(
        authority=st.sampled_from(["within_bounds", "lower_only", "observe"]),
        modality=st.sampled_from([("tdcs", 0), ("tacs", 10_000)]),
        fallback_ms=st.sampled_from([100, 1000, 5000]),
        session_ms=st.sampled_from([5_000, 600_000]),
        flowing=st.sampled_from([True, True, False]),
    )
    def begin(self, authority: str, modality: tuple[str, int], fallback_ms: int, session_ms: int, flowing: bool) -> None:
        self.seat = Seat(
            authority=authority,
            modality=modality[0],
            frequency_millihz=modality[1],
            amplitude_ua=1000,
            start_ua=800,
            fallback_ms=fallback_ms,
            session_ms=session_ms,
        )
        p = self.seat.prescription
        self.bound_ma = {"observe": 0.0, "lower_only": p.start_ua / 1000, "within_bounds": p.amplitude_ma}[authority]
        self.lower_only = authority != "within_bounds"
        self.accepted_ma = 0.0
        self.lease_end_ns = 0
        self.armed = False
        self.seen = 0
        self.last: tuple[int, float] | None = None
        self.charge_uc = 0.0
        self.old: list[StimCommand] = []
        self.obeyed: list[StimCommand] = []
        if flowing:
            self.orderly_set(0.5)

    # ---- what may happen ----

    @rule(ms=DELAYS_MS, reports=st.booleans())
    def time_passes(self, ms: int, reports: bool) -> None:
        self.seat.jump(ms)
        self.seat.tick_and_report(reports)

    @rule(steps=st.integers(1, 60))
    def an_orderly_daemon(self, steps: int) -> None:
        for _ in range(steps):
            self.seat.jump(20)
            if self.seat.mode != "stopped":
                self.hear(self.seat.make("heartbeat"))
            self.seat.tick_and_report()
            self.check()

    @rule(change=st.sampled_from([*[{}] * 9, {"session": ""}, {"expires_ns": 0}, {"sequence": 0}]))
    def arm(self, change: dict[str, Any]) -> None:
        self.hear(self.seat.make("arm", **change))

    @rule(amplitude_ma=AMPLITUDES, block=st.sampled_from(["stimulate", "stimulate", "sense", "x"]), right=st.booleans())
    def set(self, amplitude_ma: float, block: str, right: bool) -> None:
        hz = self.seat.prescription.frequency_hz if right else 3.0
        self.hear(self.seat.make("set", amplitude_ma=amplitude_ma, block=block, frequency_hz=hz))

    @rule(amplitude_ma=st.floats(min_value=0.0, max_value=1.0))
    def orderly_set(self, amplitude_ma: float) -> None:
        if self.seat.mode == "stopped":
            self.hear(self.seat.make("arm"))
        self.hear(self.seat.make("set", amplitude_ma=min(amplitude_ma, self.bound_ma)))
        self.an_orderly_daemon(10)

    @rule(
        kind=st.sampled_from(["heartbeat", "set", "fallback", "end"]),
        spoil=st.sampled_from(
            [
                {"nonce": "other"},
                {"session": "s9"},
                {"sequence": 1},
                {"tick": 0},
                {"tick_ns": 0},
                {"tick_ns": 2**62},
                {"tick_ns": START_NS},
                {"expires_ns": 0},
            ]
        ),
    )
    def foreign_or_late(self, kind: str, spoil: dict[str, Any]) -> None:
        self.hear(self.seat.make(kind, **spoil))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def replayed(self, data: st.DataObject) -> None:
        command = data.draw(st.sampled_from(self.old))
        self.hear(command)

    @precondition(lambda self: self.old)
    @rule(data=st.data(), back_ns=st.integers(0, 2 * LEASE_NS))
    def replayed_with_a_new_number(self, data: st.DataObject, back_ns: int) -> None:
        fresh = self.seat.make("set")
        command = data.draw(st.sampled_from(self.old))
        self.hear(replace(command, sequence=fresh.sequence, tick=fresh.tick, tick_ns=self.seat.now_ns - back_ns))

    @rule(kind=st.sampled_from(["fallback", "end", "stop"]))
    def down(self, kind: str) -> None:
        self.hear(self.seat.make(kind))

    @rule(kind=st.sampled_from(["stop", "trip", "log"]))
    def outside(self, kind: str) -> None:
        judge = self.seat.judge
        if kind == "log":
            self.seat.perform(judge.log_failed("full", self.seat.now_ns))
            self.seat.perform(judge.log_failed("", self.seat.now_ns))
        else:
            self.seat.perform((judge.stop if kind == "stop" else judge.trip)("test", self.seat.now_ns))
        assert self.seat.mode == "stopped"

    @rule(
        output_ma=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
        late_ns=st.integers(-LEASE_NS, LEASE_NS),
        armed=st.booleans(),
        connected=st.sampled_from([True, True, True, False]),
        fault=st.sampled_from(["", "", "", "hot"]),
    )
    def device_says(self, output_ma: float | None, late_ns: int, armed: bool, connected: bool, fault: str) -> None:
        t_ns = self.seat.now_ns - late_ns
        self.seat.report(output_ma=output_ma, t_ns=t_ns, armed=armed, connected=connected, fault=fault)

    @rule(jump_s=st.sampled_from([-3600, -2, 2, 3600]), suspended=st.booleans())
    def clock_jumps(self, jump_s: int, suspended: bool) -> None:
        if suspended:
            self.seat.now_ns += abs(jump_s) * 10**9
            self.seat.wall_ns += abs(jump_s) * 10**9
        else:
            self.seat.wall_ns += jump_s * 10**9
        self.seat.tick_and_report()
        assert self.seat.mode == "stopped"

    # ---- the book ----

    def hear(self, command: StimCommand) -> dict[str, Any] | None:
        self.old = [*self.old[-30:], command]
        was_stopped = self.seat.mode == "stopped"
        answer = self.seat.give(command)
        refused = answer is not None and answer["type"] == "refused"
        now_ns = self.seat.now_ns
        repeated = command in self.obeyed
        if not refused:
            self.obeyed = [*self.obeyed, command]
        assert refused or not repeated or command.kind == "stop", "a repeated command was obeyed"
        if command.kind == "stop":
            assert not refused and self.seat.mode == "stopped"
        elif command.kind == "arm" and not refused:
            assert was_stopped
            self.armed, self.accepted_ma, self.lease_end_ns = True, 0.0, now_ns + LEASE_NS
        elif not refused:
            assert not was_stopped
            if command.kind in ("heartbeat", "set"):
                assert now_ns - LEASE_NS < command.tick_ns <= now_ns
                self.lease_end_ns = command.tick_ns + LEASE_NS
            if command.kind == "set":
                assert math.isfinite(command.amplitude_ma) and 0.0 <= command.amplitude_ma <= self.bound_ma
                self.accepted_ma = command.amplitude_ma
                if self.lower_only and command.block == "stimulate":
                    self.bound_ma = command.amplitude_ma
        self.check()
        return answer

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "seat"):
            return
        judge = self.seat.judge
        JudgeMachine.n_outputs += sum(ma > 0.0 for _, ma, _, _ in self.seat.outputs[self.seen :])
        for t_ns, ma, hz, lease_ms in self.seat.outputs[self.seen :]:
            p = self.seat.prescription
            assert math.isfinite(ma) and 0.0 <= ma <= p.amplitude_ma <= 2.0
            assert hz == p.frequency_hz
            assert self.armed, "an output order without an arming"
            assert t_ns < self.lease_end_ns and 0 < lease_ms <= 400
            assert t_ns + lease_ms * MS < self.lease_end_ns + MS
            if self.last is not None and self.last[1] < ma:
                assert ma - self.last[1] <= p.ramp_ua_per_s / 1000 * (t_ns - self.last[0]) / 1e9 + 1e-9, "too steep"
            if self.last is not None:
                effective = math.sqrt(0.5) if hz else 1.0
                self.charge_uc += min(self.last[1], ma) * effective * (t_ns - self.last[0]) / 1e6
            self.last = (t_ns, ma)
        self.seen = len(self.seat.outputs)
        if judge.mode == "stopped":
            assert judge.level_ma == 0.0 and judge.target_ma == 0.0
            if self.armed:
                assert [do for _, do in self.seat.orders][-2:] == ["zero", "disarm"]
            self.armed, self.last = False, None
        else:
            assert self.armed, "only an accepted arm leaves stopped"
            assert judge.target_ma in (0.0, self.accepted_ma)
        assert judge.ceiling_ma <= judge.rules.ceiling_ma
        if self.lower_only:
            assert judge.ceiling_ma == self.bound_ma
        assert judge.account.charge_uc >= self.charge_uc - 1e-6, "given without being counted"
        state = state_of(judge, self.seat.now_ns)
        state.to_json()
        assert state.lease_left_ms <= 400


class TestJudgeMachine(JudgeMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        JudgeMachine.n_outputs = 0
        super().runTest()
        assert JudgeMachine.n_outputs > 20, "hardly any output was ever ordered"
