"""The oracle: reads a prescription and the stimulator's own record, and names every sample that should not have been.

It shares no code with envelope, session or interlock: limits come from the prescription's numbers and the hard limits written out
here from reference/safety.md, so that a slip there is not repeated here.

S1: nothing above prescription, device or hard limit, never negative, never rising faster than signed.
S5: charge and time of a session within what was signed, and nothing given that had not been debited before.
S8: `observe` gives nothing; `lower_only` never above its start, and no block above the one before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eegloop.stim import Prescription

HARD_MA = {("tdcs", "home"): 2.0, ("tdcs", "clinic"): 2.0, ("tacs", "home"): 1.0, ("tacs", "clinic"): 2.0}
HARD_S = 1_800.0
HARD_UC = 3_600_000.0
_SLACK_MA = 1e-9
_SLACK_UC = 1.0
_KEPT = 20


@dataclass
class Oracle:
    """Fed with every change of output in order of time; `violations` says what was wrong.

    Parameters
    ----------
    device_ma : float
        The stimulator's own maximum.
    step_s : float
        Longest time between two orders to the device: a rise is judged over at least this.
    """

    prescription: Prescription
    device_ma: float
    step_s: float = 0.05
    violations: list[str] = field(default_factory=list)
    count: int = 0
    charge_uc: float = 0.0
    debited_uc: float = 0.0
    largest_ma: float = 0.0
    largest_rise_ma: float = 0.0
    _most_ma: float = field(init=False)
    _most_rise_ma: float = field(init=False)
    _most_uc: float = field(init=False)
    _most_s: float = field(init=False)
    _effective: float = field(init=False)
    _at_s: float = -math.inf
    _ma: float = 0.0
    _first_s: float | None = None
    _block_ma: float = 0.0
    _ceiling_ma: float = math.inf

    def __post_init__(self) -> None:
        p = self.prescription
        self._most_ma = min(p.amplitude_ua / 1000, self.device_ma, HARD_MA.get((p.modality, p.profile), 0.0))
        self._most_rise_ma = p.ramp_ua_per_s / 1000 * self.step_s
        self._most_uc = min(float(p.session_uc), HARD_UC)
        self._most_s = min(p.session_ms / 1000, HARD_S)
        self._effective = math.sqrt(0.5) if p.frequency_millihz else 1.0

    def debit(self, uc: float) -> None:
        """The ledger on the disk now allows this much charge for the session."""
        self.debited_uc = max(self.debited_uc, uc)

    def closed(self, uc: float) -> None:
        """The ledger was closed at this much."""
        self.debited_uc = uc

    def sample(self, t_s: float, ma: float) -> None:
        """From `t_s` on the output is `ma`."""
        if not t_s >= self._at_s:
            self._say(t_s, "S1", f"the record runs backwards from {self._at_s}")
        self._give(t_s)
        if not 0.0 <= ma <= self._most_ma + _SLACK_MA:
            self._say(t_s, "S1", f"{ma} mA is not from 0 to {self._most_ma} mA")
        rise_ma = ma - self._ma
        if not rise_ma <= self._most_rise_ma + _SLACK_MA:
            self._say(t_s, "S1", f"a rise of {rise_ma} mA; at most {self._most_rise_ma} mA in {self.step_s} s")
        self._authority(t_s, ma)
        self.largest_ma, self.largest_rise_ma = max(self.largest_ma, ma), max(self.largest_rise_ma, rise_ma)
        self._ma = ma
        if ma > 0.0 and self._first_s is None:
            self._first_s = t_s

    def end(self, t_s: float) -> tuple[str, ...]:
        """The record ends at `t_s`; every violation found (the first twenty in words)."""
        self._give(t_s)
        if self.count > len(self.violations):
            self.violations.append(f"and {self.count - len(self.violations)} more")
        return tuple(self.violations)

    def _give(self, t_s: float) -> None:
        """What flowed since the last sample."""
        if self._ma > 0.0 and self._first_s is not None:
            self.charge_uc += self._ma * self._effective * (t_s - self._at_s) * 1000.0
            if not self.charge_uc <= self._most_uc + _SLACK_UC:
                self._say(t_s, "S5", f"{self.charge_uc:.0f} µC given; {self._most_uc:.0f} allowed")
            if not self.charge_uc <= self.debited_uc + _SLACK_UC:
                self._say(t_s, "S5", f"{self.charge_uc:.0f} µC given, {self.debited_uc:.0f} debited")
            if not t_s - self._first_s <= self._most_s + 1e-6:
                self._say(t_s, "S5", f"output {t_s - self._first_s:.2f} s after the first; {self._most_s:g} s allowed")
        self._at_s = t_s

    def _authority(self, t_s: float, ma: float) -> None:
        p = self.prescription
        if p.authority == "observe" and ma != 0.0:
            self._say(t_s, "S8", f"{ma} mA under observe")
        if p.authority != "lower_only":
            return
        if not ma <= p.start_ua / 1000 + _SLACK_MA:
            self._say(t_s, "S8", f"{ma} mA is above the start ceiling {p.start_ua / 1000} mA")
        if not ma <= self._ceiling_ma + _SLACK_MA:
            self._say(t_s, "S8", f"{ma} mA is above the block before, {self._ceiling_ma} mA")
        self._block_ma = max(self._block_ma, ma)
        if ma == 0.0 and self._block_ma > 0.0:
            self._ceiling_ma, self._block_ma = min(self._ceiling_ma, self._block_ma), 0.0

    def _say(self, t_s: float, rule: str, what: str) -> None:
        self.count += 1
        if len(self.violations) < _KEPT:
            self.violations.append(f"{rule} at {t_s:.3f} s: {what}")
