"""The two arms of a blinded trial, run on the same signals: whatever anybody can read is the same, and the sham arm's stimulator gives nothing.

In virtual time, with the real seat, line, link, recorder, audit trail and MQTT messages, and the interlock's own judge.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from structlog.testing import capture_logs

from eegloop.stim import Prescription
from tests.blinded_bench import Bench, Device
from tests.blinded_trial import pair

PROGRAM = {"baseline_ms": 3_000, "sense_ms": 11_000, "stimulate_ms": 5_000, "session_ms": 120_000, "supervision_ms": 4_000}
AUTHORITIES = ("within_bounds", pytest.param("lower_only", marks=pytest.mark.long))
SCHEMAS = Path(__file__).parents[2] / "daemon" / "web" / "schemas"
Steps = dict[float, Callable[[Bench], None]]
WAYS_DOWN: dict[str, Steps] = {
    "end": {17.5: lambda bench: bench.seat.person("end", "Ann")},
    "away": {14.0: lambda bench: setattr(bench.live, "left_s", bench.clock.t_s)},  # nobody watches: it falls back at 18 s
}


def prescriptions(**changes: Any) -> tuple[Prescription, Prescription]:
    """A program that decides within a minute."""
    settings = {
        **pair()[0].settings,
        "average_n": 1,
        "dwell_n": 3,
        "refractory_ms": 5_000,
        "low_milli": 2_000,
        "high_milli": 3_000,
    }
    return pair(**{**PROGRAM, "settings": settings, **changes})


async def both(
    folder: Path,
    seconds: float,
    steps: Steps,
    device: Device = lambda t_s, ma: ma,
    lowest_ma: float = 9.0,
    touches: bool = False,
    **changes: Any,
) -> tuple[Bench, Bench, list[dict[str, Any]], list[dict[str, Any]]]:
    """The same session in the active and in the sham arm, and what each wrote to the service's log."""
    active, sham = prescriptions(valid_from_s=1_749_999_000, valid_until_s=1_760_000_000, **changes)
    benches, logs = [], []
    for name, own in (("active", active), ("sham", sham)):
        bench = Bench(folder / name, active, own, seconds, steps, device, lowest_ma)
        bench.touches = touches
        with capture_logs() as log:
            await bench.run()
        benches.append(bench)
        logs.append(log)
    return benches[0], benches[1], logs[0], logs[1]


async def assert_alike(active: Bench, sham: Bench, but: tuple[str, ...] = ()) -> None:
    """Everything published, chained and recorded, byte for byte; virtual time makes the times equal, too. `but`: ends of files' names."""
    for one, other in zip(active.states, sham.states, strict=True):
        assert one == other
    assert active.live.events == sham.live.events
    assert active.live.chunks == sham.live.chunks
    assert await active.over_mqtt() == await sham.over_mqtt()
    closed = [[line for line in bench.chained() if not (but and line[0] == "recording_closed")] for bench in (active, sham)]
    assert closed[0] == closed[1]  # where a file differs, the line with all files' digests does
    one, other = active.recorded(), sham.recorded()
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name] and not name.endswith(but)] == []
    assert {name: len(data) for name, data in one.items()} == {name: len(data) for name, data in other.items()}


def assert_arms_are_what_they_are(active: Bench, sham: Bench) -> None:
    assert max(ma for _, ma in active.link.record) > 0.1
    assert {ma for _, ma in sham.link.record} == {0.0}  # at every instant
    assert {ma for kind, ma in sham.link.sent if kind == "set"} == {0.0}
    assert sham.link.judge.account.uc == 0 and active.link.judge.account.uc > 0  # the interlock counts what is true


def phases(bench: Bench) -> list[str]:
    said = [state["phase"] for state in bench.states]
    return [phase for i, phase in enumerate(said) if i == 0 or phase != said[i - 1]]


@pytest.mark.parametrize("authority", AUTHORITIES)
async def test_a_whole_session_reads_the_same_in_both_arms(tmp_path: Path, authority: str) -> None:
    active, sham, *logs = await both(tmp_path, 60.0, {}, authority=authority, session_ms=36_000)
    assert_arms_are_what_they_are(active, sham)
    assert {"contact", "baseline", "ramp_up", "on"} <= set(phases(active)) and phases(active)[-1] == "post"
    moved = [e for e in active.live.events if e["type"] == "decision" and not e["hold"]]
    assert moved or authority == "lower_only"  # the program decides; under lower_only this head asks for more
    await assert_alike(active, sham)
    assert logs[0] == logs[1]


async def test_current_that_shows_in_the_samples_shows_in_the_raw_recording_only(tmp_path: Path) -> None:
    """Whatever is computed, shown or written of the signal while the program is above zero leaves those samples out in both arms."""
    active, sham, *logs = await both(tmp_path, 34.0, {}, touches=True)
    assert_arms_are_what_they_are(active, sham)
    assert any(name.endswith("_eeg.eeg") and data != sham.recorded()[name] for name, data in active.recorded().items())
    await assert_alike(active, sham, but=("_eeg.eeg", "_manifest.json"))
    assert logs[0] == logs[1]


async def test_fallback_end_and_a_second_session_read_the_same(tmp_path: Path) -> None:
    def away(bench: Bench) -> None:
        bench.live.left_s = bench.clock.t_s

    def back(bench: Bench) -> None:
        bench.live.left_s = None

    steps: Steps = {
        17.5: away,  # in the first stimulate block: nobody watches, so it falls back from its level
        25.0: back,
        26.0: lambda bench: bench.seat.person("rearm", "Ann"),
        37.5: lambda bench: bench.seat.person("end", "Ann"),  # at its level again
        44.0: lambda bench: bench.seat.person("start", "Ann"),
        44.5: lambda bench: bench.seat.person("screened", "Ann"),
    }
    active, sham, *logs = await both(tmp_path, 62.0, steps)
    assert_arms_are_what_they_are(active, sham)
    assert [p for p in phases(active) if p in ("fallback", "ramp_down", "post", "ramp_up")] == [
        "ramp_up", "fallback", "ramp_up", "ramp_down", "post", "ramp_up",
    ]  # fmt: skip
    assert max(s["output"]["program_ma"] or 0.0 for s in active.states[-6:]) > 0.1
    await assert_alike(active, sham)
    assert logs[0] == logs[1]


async def test_stop_tells_the_truth_at_once_in_both_arms(tmp_path: Path) -> None:
    steps: Steps = {18.0: lambda bench: bench.link.stop_socket("STOP on the page")}
    active, sham, *logs = await both(tmp_path, 20.0, steps)
    assert active.link.output_ma == 0.0 and any(ma > 0.1 for t_s, ma in active.link.record if t_s < 18.0)
    for bench in (active, sham):
        state = bench.states[-1]
        assert state["phase"] == "stopped" and "STOP on the page" in state["phase_reason"]
        shown = {k: state["output"][k] for k in ("mode", "latched", "zero_confirmed", "confirmed_ma", "commanded_ma")}
        assert shown == {"mode": "stopped", "latched": True, "zero_confirmed": True, "confirmed_ma": 0.0, "commanded_ma": 0.0}
    await assert_alike(active, sham)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("ending", ["end", "away"])
@pytest.mark.parametrize("road", ["stop socket", "page through the service"])
async def test_stop_on_a_way_down_is_not_taken_for_the_way_down(tmp_path: Path, ending: str, road: str) -> None:
    """A sham arm's interlock is stopped already while the program still goes down: a STOP then shows as one, too."""

    def stop(bench: Bench) -> None:
        if road == "stop socket":
            bench.link.stop_socket("STOP on the page")
        else:
            bench.seat.person("stop", "Ann")

    active, sham, *_ = await both(tmp_path, 20.0, {**WAYS_DOWN[ending], 18.4: stop})
    for bench in (active, sham):
        state = bench.states[-1]
        assert {"end": "ramp_down", "away": "fallback"}[ending] in phases(bench) and state["phase"] == "stopped"
        assert "STOP: pressed" in state["output"]["reason"] and state["output"]["mode"] == "stopped"
        assert state["output"]["zero_confirmed"] is True
        assert not any(alarm["id"] == "zero_unconfirmed" for state in bench.states for alarm in state["alarms"])
    await assert_alike(active, sham)


async def test_a_stimulator_that_delivers_what_it_was_not_told_is_called_so_in_both_arms(tmp_path: Path) -> None:
    active, sham, *_ = await both(tmp_path, 20.0, {}, device=lambda t_s, ma: ma + 0.5 if t_s > 17.0 else ma)
    for bench in (active, sham):
        state = bench.states[-1]
        assert state["phase"] == "stopped" and "the stimulator delivers" in state["phase_reason"]
        assert state["output"]["confirmed_ma"] == 0.5 and state["output"]["zero_confirmed"] is False
        alarms = {alarm["id"]: alarm for alarm in state["alarms"]}
        assert alarms["zero_unconfirmed"]["advice"] == "Take the headset off or switch the stimulator off."
    assert [a["id"] for a in active.states[-1]["alarms"]] == [a["id"] for a in sham.states[-1]["alarms"]]


@pytest.mark.parametrize("ending", ["end", "away"])
async def test_a_stimulator_that_delivers_by_itself_on_the_way_down_is_called_so_in_both_arms(
    tmp_path: Path, ending: str
) -> None:
    """A sham arm's interlock is stopped by then and cannot trip: the program's way down must not hide what flows."""

    active, sham, *_ = await both(tmp_path, 20.5, WAYS_DOWN[ending], device=lambda t_s, ma: 1.0 if t_s > 18.4 else ma)
    for bench in (active, sham):
        assert {"end": "ramp_down", "away": "fallback"}[ending] in phases(bench)
        state = bench.states[-1]
        assert state["phase"] == "stopped" and "The interlock stopped: the stimulator" in state["phase_reason"]
        assert state["output"]["confirmed_ma"] == 1.0 and state["output"]["zero_confirmed"] is False
        assert {"stopped", "zero_unconfirmed"} <= {alarm["id"] for alarm in state["alarms"]}
    since = [next(s["t_s"] for s in bench.states if s["phase"] == "stopped" and s["t_s"] > 17.0) for bench in (active, sham)]
    assert max(since) < 19.5  # within a second


async def test_after_such_a_fault_a_person_rearms_and_the_next_session_begins(tmp_path: Path) -> None:
    """What was counted for a sham arm's interlock is not held against it: it knows of no such trip."""
    again = {
        22.0 + 0.4 * i: lambda bench, kind=kind: bench.seat.person(kind, "Ann")
        for i, kind in enumerate(("rearm", "start", "screened"))
    }
    _, sham = prescriptions(valid_from_s=1_749_999_000, valid_until_s=1_760_000_000)
    program, _ = prescriptions(valid_from_s=1_749_999_000, valid_until_s=1_760_000_000)
    bench = Bench(
        tmp_path / "sham", program, sham, 41.0, {**WAYS_DOWN["end"], **again}, lambda t_s, ma: 1.0 if 18.4 < t_s < 19.4 else ma
    )
    await bench.run()
    assert phases(bench)[-2:] == ["ramp_up", "on"]
    assert {ma for _, ma in bench.link.record} == {0.0}


async def test_an_interlock_that_falls_silent_is_unknown_in_both_arms(tmp_path: Path) -> None:
    def die(bench: Bench) -> None:
        bench.link.dead = True

    active, sham, *logs = await both(tmp_path, 20.0, {18.0: die})
    state = active.states[-1]
    assert state["output"]["mode"] == "unknown" and state["output"]["confirmed_ma"] is None
    assert any(alarm["id"] == "interlock_silent" for alarm in state["alarms"])
    await assert_alike(active, sham)
    assert logs[0] == logs[1]


async def test_a_course_whose_ceiling_was_lowered_goes_on_below_it_in_both_arms(tmp_path: Path) -> None:
    active, sham, *_ = await both(tmp_path, 18.5, {}, lowest_ma=0.2, authority="lower_only")
    assert max(ma for _, ma in active.link.record) == 0.2
    assert max(state["output"].get("program_ma") or 0.0 for state in sham.states[-6:]) == 0.2
    await assert_alike(active, sham)


async def test_while_the_program_is_above_zero_nothing_shows_what_flows(tmp_path: Path) -> None:
    active, _, *_ = await both(tmp_path, 20.0, {})
    shown = [s for s in active.states if s["phase"] in ("ramp_up", "on")]
    assert len(shown) > 20
    for state in shown:
        output = state["output"]
        assert output["blinded"] is True
        for name in ("commanded_ma", "granted_ma", "ceiling_ma", "limit_ma", "delivered_mc", "delivered_s"):
            assert output[name] is None
        assert output["confirmed_ma"] in (None, 0.0)
        assert "timulati" not in state["phase_reason"] + json.dumps(state["biomarkers"])
    on = [s["t_s"] for s in shown if s["output"]["confirmed_ma"] is None]
    first, last = min(on) * 250, max(on) * 250
    assert not [n for n in active.live.chunks if first + 25 < n < last - 25]  # the samples would show it
    valid = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "state.json").read_text()))
    for topic, body in await active.over_mqtt():
        if topic.endswith("/state"):
            valid.validate({**json.loads(body), "time": "2026-01-01T00:00:00.000+00:00"})


async def test_the_comparison_sees_what_an_arm_that_is_not_blinded_shows(tmp_path: Path) -> None:
    """Two programs that differ by 0.02 mA of start: were anything of the level told, this is how it would look."""
    active, _ = prescriptions(valid_from_s=1_749_999_000, valid_until_s=1_760_000_000)
    other = replace(active, start_ua=active.start_ua - 20)
    first, second = Bench(tmp_path / "1", active, active, 18.0), Bench(tmp_path / "2", other, other, 18.0)
    for bench in (first, second):
        await bench.run()
    with pytest.raises(AssertionError):
        await assert_alike(first, second)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(16))
async def test_whatever_people_do_and_whenever_both_arms_read_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def calm(event: Callable[[Bench], None]) -> Callable[[Bench], None]:
        """Not while it rises: the first debit in the ledger holds the true ramp up by one tick, and the way down from there is as much shorter."""
        return lambda bench: None if bench.states[-1]["phase"] == "ramp_up" else event(bench)

    events: list[Callable[[Bench], None]] = [
        calm(lambda bench: bench.seat.person("end", "Ann")),
        lambda bench: bench.seat.person("stop", "Ann"),
        lambda bench: bench.link.stop_socket("STOP on the page"),
        calm(lambda bench: setattr(bench.live, "left_s", bench.clock.t_s - 3.0)),
    ]
    again = ("rearm", "start", "screened")
    at_s, steps = 0.0, Steps()
    for _ in range(3):
        at_s += 8.0 + chance.uniform(2.0, 16.0)
        steps[at_s] = chance.choice(events)
        if chance.random() < 0.5:
            steps[at_s + chance.uniform(0.01, 2.0)] = chance.choice(events)
        at_s += chance.uniform(6.0, 9.0)
        steps[at_s] = lambda bench: setattr(bench.live, "left_s", None)
        for i, kind in enumerate(again):
            steps[at_s + 0.3 * (i + 1)] = lambda bench, kind=kind: bench.seat.person(kind, "Ann")
    active, sham, *logs = await both(tmp_path, at_s + 4.0, steps, authority=chance.choice(("within_bounds", "lower_only")))
    assert {ma for _, ma in sham.link.record} == {0.0}
    await assert_alike(active, sham)
    assert logs[0] == logs[1]
