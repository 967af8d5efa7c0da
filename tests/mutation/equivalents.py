"""Mutants that change nothing anybody could observe, each with the reason. `module:function: what` as the report names them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "control.envelope:_caps: `cap_ma >= 0.0`: GtE -> Gt": "a cap of exactly zero becomes zero either way",
    "control.envelope:_whole_ua: `amplitude_ma <= 0.0`: LtE -> Lt": "exactly zero, rounded down to whole microamperes, is zero",
}
