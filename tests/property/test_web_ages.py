"""Whatever a daemon wrote: no age shrinks, and no number outlives the daemon's silence."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.web.ages import LOST_S, SILENT_S, grown
from tests.integration.live_daemon import loop_state

ages = st.none() | st.floats(0, 1e4)
numbers = st.none() | st.floats(-10, 10)


@st.composite
def seats(draw: st.DrawFn) -> dict[str, Any]:
    """A real state, with ages and numbers of its own and any of its parts empty."""
    state = loop_state("seat1")
    seat: dict[str, Any] = copy.deepcopy({name: getattr(state, name) for name in state.__slots__})
    for part in ("stream", "target", "output", "decision"):
        seat[part]["age_s"] = draw(ages)
        if draw(st.booleans()):
            seat[part] = {}
    if seat["output"]:
        seat["output"]["confirmed_ma"] = draw(numbers)
        seat["output"]["zero_confirmed"] = draw(st.booleans())
    seat["biomarkers"] = [
        {**seat["biomarkers"][0], "value": draw(numbers), "age_s": draw(ages)} for _ in range(draw(st.integers(0, 3)))
    ]
    seat["alarms"] = draw(
        st.lists(st.fixed_dictionaries({"id": st.sampled_from(["daemon_lost", "contact"]), "age_s": ages}), max_size=3)
    )
    return seat


def walk(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every age with the path to it."""
    if isinstance(value, dict):
        found = [(path, value["age_s"])] if "age_s" in value else []
        return found + [item for key, part in value.items() for item in walk(part, f"{path}.{key}")]
    if isinstance(value, list):
        return [item for i, part in enumerate(value) for item in walk(part, f"{path}.{i}")]
    return []


@given(seats(), st.floats(0, 1e5), st.booleans())
def test_ages_grow_and_silence_makes_unknown(seat: dict[str, Any], age_s: float, connected: bool) -> None:
    before = copy.deepcopy(seat)
    (shown,) = grown([seat], age_s, connected)
    assert seat == before  # pure
    if shown["alarms"] == [] or shown["alarms"][0]["id"] != "daemon_lost":
        assert [path for path, _ in walk(shown)] == [path for path, _ in walk(seat)]
    for path, age in walk({key: part for key, part in seat.items() if key != "alarms"}):
        now = dict(walk(shown))[path]
        assert now is None if age is None else now == age + age_s
    for point, older in zip(seat["target"].get("history", []), shown["target"].get("history", []), strict=True):
        assert older == [point[0] + age_s, point[1]]
    if not connected or age_s > SILENT_S:
        assert shown["output"]["confirmed_ma"] is None and shown["output"]["commanded_ma"] is None
        assert shown["output"]["zero_confirmed"] is False and shown["output"]["mode"] == "unknown"
        assert shown["stream"]["status"] != "live"
    if not connected or age_s > LOST_S:
        assert shown["stream"]["status"] == "lost" and shown["phase"] == "unknown"
        assert all(row["value"] is None and row["grade"] == "n/a" for row in shown["biomarkers"])
        assert shown["target"]["value"] is None and shown["recording"]["status"] == "failed"
        assert [alarm["id"] for alarm in shown["alarms"]].count("daemon_lost") == 1
    if connected and age_s <= SILENT_S:
        assert shown["output"].get("confirmed_ma") == seat["output"].get("confirmed_ma")
        assert shown["phase"] == "on"
