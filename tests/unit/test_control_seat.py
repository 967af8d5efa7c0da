"""A seat in virtual time for the control tests: session, controller and envelope against a plain model of the interlock."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from control import envelope, prescription, session
from control.session import Effects, Inputs, OperatorEvent, SessionState
from eegloop.plugins import find
from eegloop.signal import BiomarkerColumn, Biomarkers, Grade, Quality
from eegloop.stim import Limit, Phase, Prescription, StimState, Verdict

ALPHA: dict[str, int | str] = {
    "biomarker": "relative_power.alpha", "channel": "F3", "unit": "baseline_milli", "low_milli": 900, "high_milli": 1_100,
    "more_moves": "up", "dwell_n": 3, "step_ua": 50, "refractory_ms": 20_000,
}  # fmt: skip


def demo_prescription(patient: str, now_s: float) -> Prescription:
    """The demo's, but following alpha as the rows below have it."""
    return dataclasses.replace(prescription.demo_prescription(patient, now_s), sense_ms=10_000, settings=ALPHA)


DEVICE = (Limit("amplitude_ma", 2.0, "mA", "device"),)
COLUMNS = (
    BiomarkerColumn("relative_power.alpha", "F3", "1", 2.0),
    BiomarkerColumn("relative_power.alpha", "F4", "1", 2.0),
    BiomarkerColumn("iaf.peak", "n/a", "Hz", 4.0),
    *(
        BiomarkerColumn(f"phase.{part}", "F3", unit, 1.0)
        for part, unit in (("angle", "deg"), ("sd", "deg"), ("frequency", "Hz"), ("amplitude", "uV"), ("snr", "dB"))
    ),
)


def rows(
    value: float, hop: int, t_s: float, grade: Grade = Grade.GOOD, good: tuple[bool, ...] = (True, True), reason: str = ""
) -> Biomarkers:
    """One row of biomarkers, every column with the same value and grade."""
    n = len(COLUMNS)
    return Biomarkers(
        columns=COLUMNS,
        values=np.full(n, value if grade != Grade.INVALID else np.nan),
        grades=np.full(n, int(grade), dtype=np.uint8),
        reasons=(reason,) * n,
        hop=hop,
        end_sample=hop * 25,
        t_s=t_s,
        quality=Quality(np.array(good), ((),) * len(good), 1.0, np.zeros(len(good))),
    )


def state_of(**changes: Any) -> StimState:
    """What an interlock says that is stopped with zero confirmed, but for the changes."""
    calm = StimState(
        boot_ns=1, mode="stopped", reason="session ended", session="s", granted_ma=0.0, commanded_ma=0.0, confirmed_ma=0.0,
        confirmed_ns=1, zero_since_ns=1, frequency_hz=0.0, ceiling_ma=2.0, lease_left_ms=400, sequence=0, refused=0, refusal="",
        delivered_uc=0, delivered_ms=0, device="simulated", readback="measured",
    )  # fmt: skip
    return dataclasses.replace(calm, **changes)


@dataclasses.dataclass
class Wrapped:
    """Any value, so that `asdict` turns the dataclasses inside it into dictionaries."""

    part: Any


class Seat:
    """Ticks of 0.1 s. The interlock model ramps as prescribed and obeys; attributes may be overwritten to make faults."""

    dt_s = 0.1

    def __init__(self, signed: Prescription | None = None, demo: bool = False) -> None:
        self.prescription = signed or demo_prescription("virtual", 0.0)
        self.demo = demo
        self.t_s = 100.0
        self.hop = 0
        self.value: Callable[[float], float] = lambda t_s: 0.2 + 0.001 * float(np.sin(7.0 * t_s))
        self.grade: Callable[[float], Grade] = lambda t_s: Grade.GOOD
        self.good: tuple[bool, ...] = (True, True)
        self.reason = ""
        self.inputs_changes: dict[str, Any] = {}
        self.stim = state_of()
        self.obeys = True
        self.refuses_to_arm = False
        self.target_ma = 0.0
        self.state: SessionState = session.initial(self.t_s)
        self.effects = Effects()
        self.controller = find("controller", self.prescription.controller).build(
            find("controller", self.prescription.controller).Settings()
        )
        self.controller_state = self.controller.start(self.prescription)
        self.verdicts: list[tuple[float, Verdict]] = []
        self.commands: list[tuple[float, Effects]] = []
        self.delivered: list[tuple[float, float]] = []
        self.changes: list[tuple[str, str]] = []
        self.sentences: list[str] = []
        self._checked: dict[str, Any] = {}

    def tick(self, *events: OperatorEvent) -> Effects:
        self.t_s = round(self.t_s + self.dt_s, 6)
        self._interlock()
        before = self.state
        inputs = self.inputs(events)
        self.state, self.effects = session.step(self.state, inputs, self.prescription)
        if self.effects.decide:
            snapshot = session.snapshot(self.state, inputs, self.prescription)
            self.controller_state, request = self.controller.decide(self.controller_state, snapshot)
            standing = session.standing(self.state, inputs, self.prescription)
            verdict = envelope.limit(request, self.prescription, standing, DEVICE)
            self.verdicts.append((self.t_s, verdict))
            self.state = session.permit(self.state, verdict, inputs, self.prescription)
        if self.effects.command:
            self.commands.append((self.t_s, self.effects))
            if self.obeys:
                self._obey(self.effects)
        if before.phase != self.state.phase:
            self.changes.append((before.phase, self.state.phase))
        self.sentences.append(self.effects.sentence)
        self._check_json(self.state)
        self._check_json(self.effects)
        return self.effects

    def _check_json(self, value: SessionState | Effects) -> None:
        """Every field is JSON-ready. What is plainly so, or the very object that was checked last time, costs no dump."""
        for name in value.__dataclass_fields__:
            part = getattr(value, name)
            if type(part) in (str, int, bool, type(None)) or (type(part) is float and math.isfinite(part)):
                continue
            if self._checked.get(name, self) is not part:
                json.dumps(dataclasses.asdict(Wrapped(part))["part"], allow_nan=False)
                self._checked[name] = part

    def inputs(self, events: tuple[OperatorEvent, ...] = ()) -> Inputs:
        self.hop += 1
        inputs = Inputs(
            t_s=self.t_s,
            biomarkers=rows(self.value(self.t_s), self.hop, self.t_s, self.grade(self.t_s), self.good, self.reason),
            stim=self.stim,
            stim_age_s=0.05,
            sample_age_s=0.02,
            supervised_age_s=1.0,
            stream="live",
            recording_ok=True,
            audit_ok=True,
            demo=self.demo,
            channels=("F3", "F4"),
            events=events,
        )
        return dataclasses.replace(inputs, **self.inputs_changes)

    def until(self, *phases: str, within_s: float = 300.0) -> Seat:
        """Tick until one of the phases is reached; fails when it takes longer."""
        deadline_s = self.t_s + within_s
        while self.state.phase not in phases:
            assert self.t_s < deadline_s, f"still {self.state.phase} ({self.effects.sentence}) at {self.t_s}"
            self.tick()
        return self

    def run(self, seconds: float) -> Seat:
        for _ in range(round(seconds / self.dt_s)):
            self.tick()
        return self

    def follow(self, effects: Effects) -> None:
        """The interlock hears what a session wants and a tick goes by, for who steps the session alone."""
        if effects.command:
            self._obey(effects)
        self.t_s = round(self.t_s + self.dt_s, 6)
        self._interlock()

    def begin(self) -> Seat:
        """A person re-arms, starts and screens."""
        self.tick(OperatorEvent("rearm", "Ann"))
        self.tick(OperatorEvent("start", "Ann"))
        self.tick(OperatorEvent("screened", "Ann"))
        return self

    def sense(self) -> Seat:
        """Tick to a sense block whose zero output is confirmed."""
        for _ in range(3000):
            if self.state.phase == Phase.ON and self.state.block == "sense" and self.state.quiet_since_s is not None:
                return self
            self.tick()
        raise AssertionError(f"no sense block: {self.state.phase} {self.effects.sentence}")

    def _interlock(self) -> None:
        """Ramp towards the target; confirm zero; finish an end or a fallback."""
        stim = self.stim
        fast = stim.mode == "fallback"
        rate = 1000.0 / self.prescription.fallback_ms * 2.0 if fast else self.prescription.ramp_ua_per_s / 1000.0
        target_ma = self.target_ma if stim.mode == "armed" else 0.0
        step_ma = rate * self.dt_s
        now_ma = stim.commanded_ma
        now_ma = min(target_ma, now_ma + step_ma) if target_ma > now_ma else max(target_ma, now_ma - step_ma)
        mode = stim.mode
        if now_ma == 0.0 and (mode == "fallback" or (mode == "armed" and stim.reason == "ending")):
            mode, self.stim = "stopped", dataclasses.replace(stim, reason="session ended")
        self.delivered.append((self.t_s, now_ma))
        spent_uc = int(stim.delivered_uc + now_ma * self.dt_s * 1000.0)
        self.stim = dataclasses.replace(
            self.stim,
            mode=mode,
            commanded_ma=now_ma,
            confirmed_ma=now_ma,
            zero_since_ns=(stim.zero_since_ns or int(self.t_s * 1e9)) if now_ma == 0.0 else 0,
            delivered_uc=spent_uc,
        )

    def _obey(self, effects: Effects) -> None:
        if effects.command == "arm" and self.refuses_to_arm:
            self.stim = dataclasses.replace(self.stim, refusal="lockout")
        elif effects.command == "arm":
            self.target_ma = 0.0
            self.stim = dataclasses.replace(self.stim, mode="armed", reason="", refusal="")
        elif effects.command == "set":
            self.target_ma = effects.amplitude_ma
            self.stim = dataclasses.replace(self.stim, granted_ma=effects.amplitude_ma)
        elif effects.command == "fallback":
            self.target_ma = 0.0
            self.stim = dataclasses.replace(self.stim, mode="fallback", granted_ma=0.0)
        elif effects.command == "end":
            self.target_ma = 0.0
            self.stim = dataclasses.replace(self.stim, reason="ending", granted_ma=0.0)
        elif effects.command == "stop":
            self.target_ma = 0.0
            self.stim = dataclasses.replace(
                self.stim, mode="stopped", reason="stop", granted_ma=0.0, commanded_ma=0.0, zero_since_ns=int(self.t_s * 1e9)
            )


def test_the_model_interlock_ramps_as_prescribed_and_no_faster() -> None:
    seat = Seat(demo=True).until("on")
    steps = [b - a for (_, a), (_, b) in zip(seat.delivered, seat.delivered[1:], strict=False)]
    assert max(steps) <= 0.0100001
    assert seat.delivered[-1][1] == 0.4
