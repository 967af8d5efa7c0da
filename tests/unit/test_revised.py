"""A record with some fields changed: the same as the standard library's, and as strict."""

from __future__ import annotations

import dataclasses

import pytest

from control.state import Effects, SessionState
from control.watch import Watch
from eegloop.revised import replace


def test_it_is_what_the_standard_library_makes() -> None:
    state = SessionState(since_s=3.0, present_ma=0.4, baseline_values=(1.0, 2.0), watch=Watch(hop=7))
    changes = {"t_s": 5.0, "armed": True, "ceiling_ma": None, "watch": Watch(hop=8)}
    assert replace(state, **changes) == dataclasses.replace(state, **changes)
    assert replace(state) == state and replace(state) is not state
    assert replace(Effects(command="set"), heartbeat=True) == Effects(command="set", heartbeat=True)


def test_what_a_record_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="no_such_field"):
        replace(SessionState(), no_such_field=1)

    @dataclasses.dataclass(frozen=True)
    class Derived:
        a: int
        b: int = dataclasses.field(init=False, default=2)

    with pytest.raises(TypeError, match="Derived"):
        replace(Derived(1), a=2)

    @dataclasses.dataclass(frozen=True)
    class Checked:
        a: int
        b: int

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("a")

    with pytest.raises(ValueError, match="a"):
        replace(Checked(1, 2), a=-1)
