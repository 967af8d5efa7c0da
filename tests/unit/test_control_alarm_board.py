"""An alarm storm: what matters stays on top and is heard once, what flickers is one alarm, what nobody acts on grows louder (H32)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from control.alarm_board import FLICKER_S, LOUDER_S, SHOWN_N, Standing, follow, shown
from daemon.alarm_sound import EVERY_S, QUIETER_AFTER_S, AlarmSound


def alarm(name: str, priority: str = "medium") -> dict[str, Any]:
    return {"id": name, "priority": priority, "text": f"{name} is wrong.", "advice": "Look."}


def test_the_most_urgent_is_first_and_the_newest_of_its_rank() -> None:
    board: tuple[Standing, ...] = ()
    board = follow(board, ["stream", "old", "high"], 0.0)
    board = follow(board, ["stream", "old", "high", "new"], 20.0)
    found = shown(board, [alarm("stream", "technical"), alarm("old"), alarm("new"), alarm("high", "high")], 20.0, False)
    assert [a["id"] for a in found] == ["high", "new", "old", "stream"]
    assert [a["age_s"] for a in found] == [20.0, 0.0, 20.0, 20.0]


def test_of_two_alarms_of_one_name_the_more_urgent_is_shown() -> None:
    """Two answers to one question: "today" must not hide "now", whichever came first."""
    both = [alarm("harm"), {**alarm("harm", "high"), "text": "Now."}]
    for alarms in (both, both[::-1]):
        (found,) = shown(follow((), ["harm", "harm"], 0.0), alarms, 1.0, False)
        assert (found["priority"], found["text"]) == ("high", "Now.")


def test_what_flickers_is_one_alarm_that_says_how_often_it_came_back() -> None:
    """On and off every two seconds for five minutes: one age, no new beginning."""
    board: tuple[Standing, ...] = ()
    for second in range(300):
        board = follow(board, ["stream"] if second % 4 < 2 else [], float(second))
    (found,) = shown(board, [alarm("stream", "technical")], 299.0, False)
    assert found["age_s"] == 299.0 and "It has come back 74 times" in found["advice"]
    board = follow(board, [], 299.0 + FLICKER_S + 1.0)
    assert board == () and shown(board, [alarm("stream")], 400.0, False)[0]["age_s"] == 0.0


def test_what_nobody_acts_on_grows_louder_in_a_session_only() -> None:
    board: tuple[Standing, ...] = ()
    late_s = LOUDER_S["medium"]
    for tens in range(round(late_s / 10) + 1):
        board = follow(board, ["supervision"], 10.0 * tens)
    assert shown(board, [alarm("supervision")], late_s - 1.0, True)[0]["priority"] == "medium"
    (louder,) = shown(board, [alarm("supervision")], late_s, True)
    assert louder["priority"] == "high" and "Nobody has acted on this for 5 min" in louder["advice"]
    assert shown(board, [alarm("supervision")], late_s, False)[0]["priority"] == "medium"


def test_a_storm_hides_nothing_urgent_and_buries_nobody() -> None:
    storm = [alarm(f"m{n}") for n in range(40)] + [alarm(f"h{n}", "high") for n in range(9)]
    board = follow((), [a["id"] for a in storm], 0.0)
    found = shown(board, storm, 1.0, False)
    assert [a["priority"] for a in found[:9]] == ["high"] * 9 and len(found) == 9 + SHOWN_N + 1
    assert found[-1]["text"] == "34 more alarms of lower rank."


def test_what_nobody_at_the_bedside_can_mend_stands_and_grows_no_louder() -> None:
    board: tuple[Standing, ...] = ()
    late_s = LOUDER_S["medium"]
    for second in range(int(late_s) + 1):
        board = follow(board, ["trail", "pads"], float(second))
    found = shown(board, [alarm("trail"), alarm("pads")], late_s, True, steady=["trail"])
    assert [(a["id"], a["priority"], a["age_s"]) for a in found] == [("pads", "high", late_s), ("trail", "medium", late_s)]


def test_a_storm_sounds_no_more_often_than_one_alarm_and_a_new_one_at_once(tmp_path: Path) -> None:
    now = [100.0]
    sound, heard = AlarmSound(tmp_path, lambda: now[0], io.StringIO()), []
    while now[0] < 100.0 + QUIETER_AFTER_S:
        flickers = [("output_unknown", "high")] if int(now[0]) % 2 else []
        if sound.update(flickers):
            heard.append(now[0])
        now[0] += 0.5
    assert len(heard) <= QUIETER_AFTER_S / EVERY_S + 1
    now[0] = heard[-1] + 0.5
    assert sound.update([("stopped", "high")]), "another one is heard at once"
