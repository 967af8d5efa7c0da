"""Alarms as people can bear them: ranked, one that flickers is one alarm, one that nobody acts on grows louder, few at a time.

Pure. What must be heard is never held back: every alarm of priority "high" is shown, and a new one is new at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

RANK = {"high": 0, "medium": 1, "low": 2, "technical": 3}
FLICKER_S = 60.0  # gone for less than this, it is the same alarm
LOUDER_S = {"medium": 300.0}  # unattended for this long in a session, it becomes "high"
SHOWN_N = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """One alarm that stands or stood a moment ago: since when, when last seen, and how often it came back."""

    id: str
    since_s: float
    last_s: float
    returned_n: int = 0


def follow(board: Sequence[Standing], ids: Sequence[str], now_s: float) -> tuple[Standing, ...]:
    """Who stands now, with those that only flicker; `ids` = the alarms of this moment."""
    kept = {one.id: one for one in board if now_s - one.last_s <= FLICKER_S}
    for name in ids:
        known = kept.get(name)
        if known is None:
            kept[name] = Standing(name, now_s, now_s)
        else:
            back = now_s - known.last_s > 1.0
            kept[name] = replace(known, last_s=now_s, returned_n=known.returned_n + back)
    return tuple(kept.values())


def shown(
    board: Sequence[Standing], alarms: Sequence[Mapping[str, Any]], now_s: float, in_session: bool, steady: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The alarms as a page shows them: most urgent first, then the newest; at most six below "high", the rest counted.

    Parameters
    ----------
    alarms : sequence of mapping
        Those that stand now: id, priority, text, advice.
    in_session : bool
        Only then does an unattended one grow louder.
    steady : sequence of str
        Names of those that nobody at the bedside can do anything about: they stand and never grow louder.
    """
    known = {one.id: one for one in board}
    made: dict[str, dict[str, Any]] = {}
    for alarm in alarms:
        one = known.get(alarm["id"], Standing(alarm["id"], now_s, now_s))
        age_s, priority, advice = max(0.0, now_s - one.since_s), alarm["priority"], alarm["advice"]
        if in_session and alarm["id"] not in steady and age_s >= LOUDER_S.get(priority, float("inf")):
            priority, advice = "high", f"Nobody has acted on this for {age_s / 60:.0f} min. {advice}"
        if one.returned_n:
            advice = f"{advice} It has come back {one.returned_n} times."
        told = made.get(alarm["id"])
        if told is None or RANK.get(priority, 0) < RANK.get(told["priority"], 0):  # of one id the most urgent is heard
            made[alarm["id"]] = {**alarm, "priority": priority, "advice": advice, "age_s": age_s}
    ranked = sorted(made.values(), key=lambda a: (RANK.get(a["priority"], 0), a["age_s"]))
    high = [a for a in ranked if a["priority"] == "high"]
    rest = ranked[len(high) :]
    if len(rest) <= SHOWN_N:
        return high + rest
    more = {
        "id": "more", "priority": rest[SHOWN_N]["priority"], "text": f"{len(rest) - SHOWN_N} more alarms of lower rank.",
        "advice": "Begin with the ones above.", "age_s": 0.0,
    }  # fmt: skip
    return [*high, *rest[:SHOWN_N], more]
