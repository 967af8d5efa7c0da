"""What a viewer is told of a seat, with the time since the daemon wrote it: a number that is old says so, or becomes unknown."""

from __future__ import annotations

from typing import Any

SILENT_S = 1.0  # after this the output is unknown: without its daemon an interlock has gone to zero by now
LOST_S = 2.0  # after this nothing counts as live
_UNKNOWN_ELECTRODE = {
    "good": False, "reasons": ["unknown"], "line_ratio": None, "contact": None, "worst": False, "impedance_kohm": None,
}  # fmt: skip


def grown(seats: list[dict[str, Any]], age_s: float, connected: bool) -> list[dict[str, Any]]:
    """`LoopState`s as they must be shown `age_s` after they were written.

    Every age grows by `age_s`. From 1 s on the output is unknown and the stream "delayed"; from 2 s on, or
    when the daemon is gone, the stream is "lost" and every live number is null. Pure; the input is not changed.
    """
    if not connected or age_s > LOST_S:
        return [_lost(_older(seat, age_s), age_s) for seat in seats]
    if age_s > SILENT_S:
        return [_silent(_older(seat, age_s), age_s) for seat in seats]
    return [_older(seat, age_s) for seat in seats]


def _older(value: Any, age_s: float) -> Any:
    """The same with `age_s` added to every age, wherever it stands."""
    if isinstance(value, dict):
        older = {}
        for key, item in value.items():
            if key == "age_s":
                older[key] = item + age_s if _is_number(item) else None
            elif key == "history" and isinstance(item, list):
                older[key] = [[point[0] + age_s, *point[1:]] if point and _is_number(point[0]) else point for point in item]
            else:
                older[key] = _older(item, age_s)
        return older
    if isinstance(value, list):
        return [_older(item, age_s) for item in value]
    return value


def _silent(seat: dict[str, Any], age_s: float) -> dict[str, Any]:
    stream = seat.get("stream") or {}
    reason = f"no word from the daemon for {age_s:.0f} s"
    return {
        **seat,
        "stream": {**stream, "status": "lost" if stream.get("status") == "lost" else "delayed", "message": reason},
        "output": {
            **(seat.get("output") or {}),
            "commanded_ma": None,
            "confirmed_ma": None,
            "granted_ma": None,
            "zero_confirmed": False,
            "mode": "unknown",
            "reason": reason,
        },
    }


def _lost(seat: dict[str, Any], age_s: float) -> dict[str, Any]:
    seat = _silent(seat, age_s)
    reason = seat["output"]["reason"]
    alarm = {
        "id": "daemon_lost",
        "priority": "high",
        "text": "The service does not answer: what is delivered is unknown.",
        "advice": "Press STOP; take the headset off if it is not confirmed.",
        "age_s": age_s,
    }
    return {
        **seat,
        "phase": "unknown",
        "phase_reason": reason,
        "phase_left_s": None,
        "stream": {**seat["stream"], "status": "lost"},
        "quality": [{**row, **_UNKNOWN_ELECTRODE} for row in seat.get("quality") or []],
        "biomarkers": [{**row, "value": None, "grade": "n/a", "reason": reason} for row in seat.get("biomarkers") or []],
        "target": {**(seat.get("target") or {}), "value": None, "estimate": None, "grade": "n/a"},
        "recording": {**(seat.get("recording") or {}), "status": "failed", "message": reason},
        "alarms": [alarm, *(item for item in seat.get("alarms") or [] if item.get("id") != "daemon_lost")],
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
