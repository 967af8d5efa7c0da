"""An alarm's age is the time since it was first seen to stand, and starts anew when it comes back."""

from __future__ import annotations

from types import SimpleNamespace

from control.alarm_board import FLICKER_S
from daemon.seat import Vitals
from daemon.view import standing_alarms


def test_an_alarm_ages_while_it_stands():
    no_alert = SimpleNamespace(alarms=list)
    seat = SimpleNamespace(line=None, recorder=None, link=SimpleNamespace(silent=True), vitals=Vitals(), asking=no_alert)

    def ages(now_s: float, status: str = "live") -> dict[str, float]:
        return {a["id"]: round(a["age_s"], 3) for a in standing_alarms(seat, status, now_s)}  # type: ignore[arg-type]

    assert ages(100.0) == {"interlock_silent": 0.0}
    assert ages(107.5, "lost") == {"interlock_silent": 7.5, "stream_lost": 0.0}
    seat.link.silent = False
    assert ages(108.0, "lost") == {"stream_lost": 0.5}
    seat.link.silent = True
    assert ages(110.0, "lost") == {"interlock_silent": 10.0, "stream_lost": 2.5}, "one that flickers is one alarm"
    seat.link.silent = False
    assert ages(111.0) == {}
    seat.link.silent = True
    assert ages(112.0 + FLICKER_S) == {"interlock_silent": 0.0}
