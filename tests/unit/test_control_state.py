"""`changed`, the quick way to the next session state: equal to `dataclasses.replace`, and as strict."""

from __future__ import annotations

import dataclasses

import pytest

from control.state import Effects, SessionState, changed


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (SessionState(t_s=1.0, reason="because"), {"t_s": 2.0, "watch": SessionState().watch, "baseline_values": (1.0,)}),
        (SessionState(), {}),
        (Effects(command="arm"), {"heartbeat": True, "sentence": "Ramping.", "left_s": 3.0}),
    ],
)
def test_it_gives_what_replace_gives(before: SessionState | Effects, changes: dict[str, object]) -> None:
    was = dataclasses.asdict(before)
    after = changed(before, **changes)
    assert after == dataclasses.replace(before, **changes)  # type: ignore[arg-type]
    assert type(after) is type(before) and dataclasses.asdict(before) == was


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="SessionState has no amplitude"):
        changed(SessionState(), amplitude=1.0)


def test_what_it_gives_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed(SessionState(), t_s=1.0).t_s = 2.0  # type: ignore[misc]
