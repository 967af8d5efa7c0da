"""Mutants that change nothing anybody could observe, each with the reason. `module:function: what` as the report names them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
