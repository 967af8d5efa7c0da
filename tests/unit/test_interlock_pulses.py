"""Magnetic pulses: train table, whitelisted protocols, counts, deadlines (S11; safety.md section 2)."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from eegloop.stim import Limit, Prescription, PrescriptionError, StimCommand
from interlock.judge import Judge
from interlock.ledger import DAY_S, Book
from interlock.limits import first_breach, rules
from interlock.pulses import LONGEST_MS, PROTOCOLS, longest_train_ms, train_ms
from interlock.refusals import MS
from interlock.triggers import Triggers
from tests.interlock_bench import PULSES, Seat, make_prescription, make_program, make_pulses

WORN_IN_SIMULATION = {"day_sessions": 1}
WORN = {"device": "magstim", "device_serial": "7", "day_sessions": 1, "lockout_ms": 43_200_000}

# ---- what may be signed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("millihz", "percent", "seconds"),
    [
        (1_000, 90, 1350.0), (1_000, 120, 270.0), (1_000, 130, 37.5), (5_000, 130, 7.5), (10_000, 110, 3.75), (10_000, 120, 3.15),
        (10_000, 130, 2.175), (20_000, 90, 1.537), (20_000, 110, 1.2), (20_000, 120, 0.75), (20_000, 130, 0.412),
        (25_000, 100, 0.96), (25_000, 130, 0.18),
        # rounded up to the next row and column, never between
        (15_000, 112, 0.75), (10_001, 110, 1.2), (10_000, 111, 3.15), (100, 1, 1350.0), (1_001, 120, 7.5), (5_001, 91, 3.75),
        (25_001, 90, 0.0), (1_000, 131, 0.0),
    ],
)  # fmt: skip
def test_the_train_table_is_rounded_up_and_cut_by_a_quarter(millihz: int, percent: int, seconds: float) -> None:
    assert longest_train_ms(millihz, percent) == int(seconds * 1000)


def test_the_table_falls_with_frequency_and_intensity() -> None:
    for row in LONGEST_MS.values():
        assert list(row) == sorted(row, reverse=True)
    for column in zip(*LONGEST_MS.values(), strict=True):
        assert list(column) == sorted(column, reverse=True)


def breach(program: dict[str, Any] | None = None, limits: tuple[Limit, ...] = PULSES, **changes: Any) -> str:
    found = first_breach(make_pulses(make_program(**(program or {})), **changes), limits)
    return found.field.removeprefix("prescription.") if found is not None else ""


def test_a_program_inside_the_table_may_be_signed() -> None:
    assert breach() == "" and breach(**WORN) == ""


@pytest.mark.parametrize(
    ("program", "field"),
    [
        ({"train_pulses": 37}, ""),
        ({"train_pulses": 38}, "pulses.train_pulses"),
        ({"intensity_percent": 111, "train_pulses": 32}, "pulses.train_pulses"),
        ({"train_millihz": 20_000, "train_pulses": 25}, "pulses.train_pulses"),
        ({"train_millihz": 20_000, "train_pulses": 24}, ""),
        ({"interval_ms": 4_999}, "pulses.interval_ms"),
        ({"burst_pulses": 2, "burst_millihz": 50_000}, "pulses.burst_pulses"),
        ({"session_pulses": 3_000, "day_pulses": 3_000}, ""),
        ({"day_pulses": 3_001}, "pulses.day_pulses"),
        ({"session_pulses": 3_001}, "pulses.session_pulses"),
        ({"protocol": "unheard of"}, "pulses.protocol"),
        ({"waveform": "monophasic", "current": "reverse"}, ""),
        ({"motor_threshold_percent": 91}, "pulses.intensity_percent"),
        ({"motor_threshold_percent": 90}, ""),
    ],
)
def test_what_is_above_the_table_is_refused_whole(program: dict[str, Any], field: str) -> None:
    assert breach(program) == field


def test_never_at_home_and_never_on_an_unnamed_or_unknown_stimulator() -> None:
    assert breach(profile="home") == "profile"
    assert breach(**{**WORN, "device_serial": "*"}) == "device_serial"
    assert breach(limits=()) == "pulses.intensity_percent"
    assert breach(limits=(Limit("intensity_percent", 54.0, "%", "device"),)) == "pulses.intensity_percent"
    assert breach(limits=(*PULSES, Limit("intensity_percent", float("nan"), "%", "device"))) == "pulses.intensity_percent"
    assert breach(limits=(Limit("intensity_percent", 100.0, "mA", "device"),)) == "pulses.intensity_percent"
    assert breach(**{**WORN, "day_sessions": 2}) == "day_sessions"


def test_pulses_and_modality_go_together() -> None:
    current = first_breach(make_prescription(pulses=make_program()), PULSES)
    assert current is not None and current.field == "prescription.pulses"
    nothing = first_breach(make_prescription(modality="tms"), PULSES)
    assert nothing is not None and nothing.field == "prescription.pulses"


def listed(name: str) -> dict[str, Any]:
    return {**asdict(PROTOCOLS[name].program), "protocol": name, "motor_threshold_percent": 50}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_whitelisted_protocol_goes_by_exact_match(name: str) -> None:
    mine = listed(name)
    often = {**WORN, "day_sessions": PROTOCOLS[name].day_sessions, "lockout_ms": PROTOCOLS[name].lockout_ms}
    assert breach(mine, **often) == ""
    for field in ("intensity_percent", "train_millihz", "train_pulses", "trains", "interval_ms", "session_pulses"):
        for step in (-1, 1):
            assert breach({**mine, field: mine[field] + step}) == f"pulses.{field}", (field, step)
    assert breach({**mine, "threshold": "amt" if mine["threshold"] == "rmt" else "rmt"}) == "pulses.threshold"
    assert breach({**mine, "waveform": "half_sine"}) == "pulses.waveform"
    assert breach({**mine, "current": "reverse"}) == "pulses.current"
    for field in ("day_pulses", "week_pulses", "course_pulses"):
        assert breach({**mine, field: mine[field] + 1}) == f"pulses.{field}"
        assert breach({**mine, field: mine[field] - 1}) == ""
    assert breach(mine, **{**often, "day_sessions": often["day_sessions"] + 1}) == "day_sessions"
    assert breach(mine, **{**often, "lockout_ms": often["lockout_ms"] - 1}) == "day_sessions"


def test_the_protocols_are_those_of_the_literature() -> None:
    sizes = {name: (p.program.session_pulses, train_ms(p.program)) for name, p in PROTOCOLS.items()}
    assert sizes["10hz_26s"] == sizes["10hz_11s"] == (3_000, 4_000)
    assert sizes["itbs"] == sizes["three_d"] == (600, 2_000)
    assert sizes["ctbs"] == (600, 40_000) and sizes["ctbs_300"] == (300, 20_000)
    assert sizes["snt"] == (1_800, 2_000) and PROTOCOLS["snt"].program.day_pulses == 18_000


def test_a_prescription_with_pulses_comes_back_from_its_bytes_and_one_without_is_as_before() -> None:
    for signed in (make_pulses(), make_pulses(make_program(**listed("itbs")))):
        assert Prescription.from_bytes(signed.to_bytes()) == signed
    assert b"pulses" not in make_prescription().to_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pulses": None}, "exactly"),
        ({"pulses": {}}, "exactly"),
        ({"modality": "tdcs"}, "modality 'tms'"),
        ({"amplitude_ua": 1}, "amplitude_ua 0"),
        ({"frequency_millihz": 10}, "frequency_millihz"),
        ({"pulses": {"trains": 0}}, "pulses.trains"),
        ({"pulses": {"trains": True}}, "pulses.trains"),
        ({"pulses": {"trains": 1.5}}, "must be a whole number"),
        ({"pulses": {"protocol": ""}}, "pulses.protocol"),
        ({"pulses": {"protocol": 3}}, "pulses.protocol"),
        ({"pulses": {"threshold": "mt"}}, "pulses.threshold"),
        (
            {"pulses": {"waveform": "biphasic_burst"}},
            "pulses.waveform: 'biphasic_burst' must be one of monophasic, biphasic, half_sine",
        ),
        ({"pulses": {"waveform": 1}}, "pulses.waveform"),
        ({"pulses": {"current": "left"}}, "pulses.current: 'left' must be one of normal, reverse"),
        ({"pulses": {"burst_pulses": 2, "burst_millihz": 50_000, "waveform": "monophasic"}}, "'biphasic' in a burst"),
        ({"pulses": {"burst_millihz": 50_000}}, "pulses.burst_millihz"),
        ({"pulses": {"burst_pulses": 3, "burst_millihz": 50_000}}, "whole bursts"),
        ({"pulses": {"train_millihz": 25_001}}, "pulses.train_millihz"),
    ],
)
def test_a_program_is_read_strictly(change: dict[str, Any], said: str) -> None:

    body = json.loads(make_pulses().to_bytes())
    inner = change.get("pulses")
    if isinstance(inner, dict) and inner:
        change = {"pulses": {**body["pulses"], **inner}}
    with pytest.raises(PrescriptionError, match=said):
        Prescription.from_bytes(json.dumps({**body, **change}).encode())
    del body["pulses"]
    with pytest.raises(PrescriptionError, match="pulses"):
        Prescription.from_bytes(json.dumps(body).encode())


# ---- firing ----------------------------------------------------------------------------------------------------------


class Coil(Seat):
    """A seat whose stimulator fires pulses; `at` asks for one at a time from now and lets the time pass."""

    def __init__(self, program: dict[str, Any] | None = None, wire_ms: float = 0.0, **changes: Any) -> None:
        super().__init__()
        self.prescription = make_pulses(make_program(**(program or {})), **changes)
        self.judge.identify("7", rules(self.prescription, None, PULSES))
        self.judge.wire_ns = round(wire_ms * MS)
        self.session = "s1"

    def ready(self) -> Coil:
        self.arm()
        self.pass_ms(50)
        return self

    def rearm_after(self, ms: int, session: str = "s1") -> None:
        """STOP now, arm again when `ms` have passed."""
        self.perform(self.judge.stop("person", self.now_ns))
        self.jump(ms)
        self.tick_and_report()
        self.pass_ms(50)
        self.session = session
        self.arm()
        self.pass_ms(50)

    def make(self, kind: str, **changes: Any) -> StimCommand:
        return super().make(kind, **{"session": self.session, **changes})

    def ask(self, deadline_ns: int, **changes: Any) -> dict[str, Any] | None:
        """The command only."""
        return self.send("pulse", deadline_ns=deadline_ns, expires_ns=self.now_ns + 1500 * MS, **changes)

    def at(self, deadline_ns: int, error_ns: int = 0) -> dict[str, Any]:
        """Ask, wait as the loop does, and look `error_ns` after it was to be written; the answer about it."""
        answer = self.ask(deadline_ns)
        if answer is not None:
            return answer
        assert self.judge.write_at_ns() == deadline_ns - self.judge.wire_ns
        while deadline_ns - self.judge.wire_ns - self.now_ns > 60 * MS:
            self.pass_ms(50)
        ns = deadline_ns - self.judge.wire_ns + error_ns - self.now_ns
        self.now_ns, self.wall_ns, self.monotonic_ns = self.now_ns + ns, self.wall_ns + ns, self.monotonic_ns + ns
        self.perform(self.judge.shoot(self.now_ns))
        self.report()
        return self.replies[-1]

    def train(self, pulses: int, period_ms: int = 100) -> list[str]:
        start_ns = self.now_ns + 10 * MS
        return [str(self.at(start_ns + i * period_ms * MS).get("outcome")) for i in range(pulses)]


def test_a_pulse_is_written_at_its_deadline() -> None:
    coil = Coil().ready()
    deadline_ns = coil.now_ns + 123 * MS
    assert coil.at(deadline_ns)["outcome"] == "fired" and coil.replies[-1]["error_us"] == 0
    assert coil.fires_ns == [deadline_ns] and coil.judge.triggers is not None and coil.judge.triggers.given == 1


SHOT = make_program().shot
OTHER = {"burst_pulses": 3, "burst_millihz": 20_000, "waveform": "monophasic", "current": "reverse"}


@pytest.mark.parametrize("field", OTHER)
def test_a_stimulator_that_is_set_otherwise_is_not_armed_and_while_armed_it_trips(field: str) -> None:
    """The judge's own comparison, whatever the driver makes of it."""
    coil = Coil()
    coil.shot = replace(SHOT, **{field: OTHER[field]})
    coil.report()
    refused = coil.send("arm")
    assert refused is not None and refused["type"] == "refused" and refused["field"] == f"prescription.pulses.{field}"
    assert (refused["value"], refused["limit"]) == (OTHER[field], getattr(SHOT, field)) and f"{field} {OTHER[field]}" in refused[
        "reason"
    ]
    coil.shot = SHOT
    coil.report()
    coil.ready()
    assert coil.ask(coil.now_ns + 30 * MS) is None
    coil.shot = replace(SHOT, **{field: OTHER[field]})
    coil.report()
    assert coil.mode == "stopped" and coil.judge.reason.startswith(
        f"prescription.pulses.{field}: the stimulator is set to {field}"
    )
    coil.pass_ms(100, heartbeats=False)
    assert coil.fires_ns == []


def test_of_a_real_stimulator_nothing_is_fired_that_it_has_not_told() -> None:
    """Nor is it armed; while armed it is read again, and a pulse meanwhile is skipped. The simulated one is worn by nobody."""
    coil = Coil(**WORN)
    refused = coil.send("arm")
    assert refused is not None and refused["field"] == "prescription.pulses.burst_pulses" and "has not said" in refused["reason"]
    assert (refused["value"], refused["limit"], refused["set_by"]) == (None, 1, "device")
    coil.shot = SHOT
    coil.report()
    coil.ready()
    assert coil.at(coil.now_ns + 120 * MS)["outcome"] == "fired"
    coil.shot = None
    coil.report()
    assert coil.at(coil.now_ns + 120 * MS)["outcome"] == "skipped" and coil.mode == "armed"
    coil.shot = SHOT
    coil.report()
    coil.report(connected=False)
    assert coil.judge.device.shot is None


def test_what_a_stimulator_of_current_says_of_shots_concerns_nobody() -> None:
    seat = Seat()
    seat.shot = SHOT
    seat.run_at(1.0)
    assert seat.mode == "armed"


def test_wire_time_counts() -> None:
    coil = Coil(wire_ms=3.125).ready()
    deadline_ns = coil.now_ns + 40 * MS
    assert coil.at(deadline_ns)["outcome"] == "fired"
    assert coil.fires_ns == [deadline_ns - 3_125_000]


def test_a_line_too_slow_for_the_rate_is_refused() -> None:
    answer = Coil(wire_ms=100.0).send("arm")
    assert answer is not None and answer["field"] == "wire_ms" and "TTL" in answer["reason"]


@pytest.mark.parametrize(
    ("error_us", "outcome"), [(0, "fired"), (999, "fired"), (1_000, "fired"), (1_001, "skipped"), (400_000, "skipped")]
)
def test_within_a_millisecond_or_skipped_and_counted(error_us: int, outcome: str) -> None:
    coil = Coil().ready()
    answer = coil.at(coil.now_ns + 20 * MS, error_us * 1000)
    triggers = coil.judge.triggers
    if error_us < 400_000:
        assert answer["outcome"] == outcome and answer["error_us"] == error_us
        assert triggers is not None and (triggers.fired, triggers.skipped) == ((1, 0) if outcome == "fired" else (0, 1))
        assert triggers.given == len(coil.fires_ns) == triggers.fired
    else:
        assert coil.mode == "stopped" and coil.fires_ns == [], "the lease was over before"


def test_one_that_arrives_after_its_time_is_skipped() -> None:
    coil = Coil(wire_ms=3.0).ready()
    coil.ask(coil.now_ns + 1 * MS)
    assert coil.replies[-1]["outcome"] == "skipped" and coil.fires_ns == [] and coil.mode == "armed"


def test_timed_again_after_the_write_a_late_one_is_marked_and_three_end_it() -> None:
    coil = Coil().ready()
    coil.write_takes_ns = 2 * MS
    start_ns = coil.now_ns + 10 * MS
    for i in range(3):
        assert coil.at(start_ns + i * 103 * MS)["outcome"] == "late"
    assert [e.event for e in coil.events].count("phase_locking_ended") == 1
    answer = coil.at(start_ns + 500 * MS)
    assert answer["type"] == "refused" and "late" in answer["reason"] and coil.mode == "armed" and len(coil.fires_ns) == 3


def test_one_on_time_in_between_starts_the_count_anew() -> None:
    coil = Coil().ready()
    start_ns = coil.now_ns + 10 * MS
    for i, late in enumerate((True, True, False, True, True)):
        coil.write_takes_ns = 2 * MS if late else 1 * MS
        assert coil.at(start_ns + i * 103 * MS)["outcome"] == ("late" if late else "fired")
    assert coil.judge.triggers is not None and coil.judge.triggers.late == 4


def test_after_a_late_one_the_next_comes_no_sooner_than_signed() -> None:
    coil = Coil().ready()
    coil.write_takes_ns = 5 * MS
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    answer = coil.at(start_ns + 104 * MS)
    assert answer["type"] == "refused" and coil.mode == "armed"
    assert coil.at(start_ns + 105 * MS)["type"] == "pulse"


def test_sooner_than_the_rate_is_a_trip() -> None:
    coil = Coil().ready()
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    answer = coil.ask(start_ns + 100 * MS - 1)
    assert answer is not None and coil.mode == "stopped" and len(coil.fires_ns) == 1
    assert "sooner after the last pulse" in coil.judge.reason


def test_two_at_once_are_one() -> None:
    coil = Coil().ready()
    coil.ask(coil.now_ns + 50 * MS)
    answer = coil.ask(coil.now_ns + 150 * MS)
    assert answer is not None and answer["reason"] == "another pulse waits" and coil.mode == "armed"


def test_far_ahead_is_refused() -> None:
    coil = Coil().ready()
    answer = coil.ask(coil.now_ns + 2_000 * MS + 1)
    assert answer is not None and answer["field"] == "deadline_ns"
    assert coil.ask(coil.now_ns + 2_000 * MS) is None


def test_a_train_is_as_long_as_signed_and_the_next_one_waits() -> None:
    coil = Coil({"train_pulses": 5}).ready()
    assert coil.train(5) == ["fired"] * 5
    assert coil.judge.triggers is not None and coil.judge.triggers.last_ns is not None
    answer = coil.ask(coil.judge.triggers.last_ns + 100 * MS)
    assert answer is not None and "the train is over" in coil.judge.reason and coil.mode == "stopped"


def test_the_pause_is_the_signed_one() -> None:
    coil = Coil({"train_pulses": 2}).ready()
    coil.train(2)
    triggers = coil.judge.triggers
    assert triggers is not None and triggers.last_ns is not None
    last_ns = triggers.last_ns
    coil.pass_ms(4_500)
    assert triggers.beyond(last_ns + 5_000 * MS - 1) is not None
    assert coil.at(last_ns + 5_000 * MS)["outcome"] == "fired" and triggers.trains == 2 and triggers.in_train == 1


def test_a_slow_train_is_no_longer_than_its_time() -> None:
    coil = Coil({"train_pulses": 20}).ready()  # 2 s
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    coil.at(start_ns + 1_900 * MS)
    assert coil.mode == "armed"
    triggers = coil.judge.triggers
    assert triggers is not None
    refusal = triggers.beyond(start_ns + 2_000 * MS)
    assert refusal is not None and refusal.field == "train_ms"


def test_as_many_trains_as_signed() -> None:
    coil = Coil({"train_pulses": 1, "trains": 2}).ready()
    for _ in range(2):
        coil.train(1)
        coil.pass_ms(5_000)
    answer = coil.ask(coil.now_ns + 10 * MS)
    assert answer is not None and "as many trains" in coil.judge.reason and coil.mode == "stopped"


def test_as_many_pulses_as_signed_also_over_arming_again() -> None:
    coil = Coil({"session_pulses": 3}).ready()
    coil.train(2)
    coil.rearm_after(5_000)
    coil.train(1)
    coil.ask(coil.now_ns + 100 * MS)
    assert coil.mode == "stopped" and "as many pulses" in coil.judge.reason and len(coil.fires_ns) == 3
    coil.pass_ms(100)
    answer = coil.send("arm")
    assert answer is not None and answer["field"] == "prescription.pulses.session_pulses"


@pytest.mark.parametrize("session", ["s1", "s2"])
def test_arming_again_waits_for_the_pause_also_in_another_session(session: str) -> None:
    coil = Coil({"train_pulses": 3}).ready()
    coil.train(3)
    last_ns = coil.fires_ns[-1]
    coil.rearm_after(500, session)
    answer = coil.ask(coil.now_ns + 100 * MS)
    assert answer is not None and "pause first" in answer["reason"] and coil.mode == "armed" and len(coil.fires_ns) == 3
    while coil.now_ns < last_ns + 4_500 * MS:
        coil.pass_ms(50)
    answer = coil.ask(last_ns + 5_000 * MS - 1)
    assert answer is not None and "pause first" in answer["reason"]
    assert coil.ask(last_ns + 5_000 * MS) is None


def test_arming_again_does_not_begin_the_count_of_trains_anew() -> None:
    coil = Coil({"train_pulses": 1, "trains": 2}).ready()
    for _ in range(2):
        assert coil.train(1) == ["fired"]
        coil.rearm_after(5_000)
    answer = coil.ask(coil.now_ns + 10 * MS)
    assert answer is not None and "as many trains" in coil.judge.reason and len(coil.fires_ns) == 2


def test_a_new_process_waits_for_the_pause_and_goes_on_with_the_trains() -> None:
    first = Coil({"train_pulses": 2}).ready()
    first.train(2)
    first.perform(first.judge.stop("person", first.now_ns))
    judge = Judge(first.judge.rules, "simulated", "measured", first.judge.book, first.now_ns)
    assert judge.last_pulse_ns == first.now_ns and judge.account_of("s1").trains == 1
    fresh = Judge(first.judge.rules, "simulated", "measured", Book("b", True), first.now_ns)
    assert fresh.last_pulse_ns is None


def test_the_sessions_time_runs_from_its_first_pulse_and_ends_it() -> None:
    coil = Coil(session_ms=3_000).ready()
    coil.pass_ms(1_000)
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    while coil.mode == "armed" and coil.now_ns < start_ns + 10_000 * MS:
        coil.pass_ms(10)
    assert "session time used" in coil.judge.reason and start_ns + 2_900 * MS < coil.now_ns <= start_ns + 3_000 * MS
    coil.jump(5_000)
    coil.tick_and_report()
    answer = coil.send("arm")
    assert answer is not None and answer["field"] == "prescription.session_ms"


def test_who_may_only_observe_gives_no_pulse() -> None:
    coil = Coil(authority="observe").ready()
    answer = coil.ask(coil.now_ns + 20 * MS)
    assert answer is not None and "only to observe" in answer["reason"] and coil.mode == "stopped" and coil.fires_ns == []


@pytest.mark.parametrize("authority", ["lower_only", "within_bounds"])
@pytest.mark.parametrize(
    "change", [{"amplitude_ma": 0.5}, {"amplitude_ma": -0.5}, {"amplitude_ma": float("nan")}, {"frequency_hz": 20.0}]
)
def test_a_pulse_is_as_signed_or_not_at_all(authority: str, change: dict[str, float]) -> None:
    coil = Coil(authority=authority).ready()
    answer = coil.ask(coil.now_ns + 20 * MS, **change)
    assert answer is not None and "the signed ones" in answer["reason"] and coil.mode == "stopped"
    coil.pass_ms(100)
    assert coil.fires_ns == []


def test_armed_and_stopped_without_a_pulse_is_no_session() -> None:
    coil = Coil(**WORN_IN_SIMULATION).ready()
    assert "s1" in coil.judge.book.sessions, "until it ends it may have had what was written ahead"
    coil.perform(coil.judge.stop("person", coil.now_ns))
    coil.pass_ms(50)
    assert coil.judge.book.sessions == {}
    coil.rearm_after(100, "s2")
    assert coil.train(1) == ["fired"]
    coil.rearm_after(6_000, "s2")
    coil.perform(coil.judge.stop("person", coil.now_ns))
    assert coil.judge.book.sessions["s2"].pulses == 1
    coil.jump(6_000)
    coil.tick_and_report()
    answer = coil.send("arm", session="s3")
    assert answer is not None and answer["field"] == "prescription.day_sessions"


@pytest.mark.parametrize(
    ("limit", "later_s", "free"),
    [("day_pulses", DAY_S - 60, False), ("day_pulses", DAY_S + 60, True), ("week_pulses", 6 * DAY_S, False), ("week_pulses", 8 * DAY_S, True), ("course_pulses", 9 * DAY_S, False)],
)  # fmt: skip
def test_pulses_a_day_a_week_and_a_course(limit: str, later_s: float, free: bool) -> None:
    coil = Coil({limit: 2}).ready()
    coil.train(2)
    coil.perform(coil.judge.stop("person", coil.now_ns))
    coil.jump(int(later_s * 1000))
    coil.tick_and_report()
    answer = coil.send("arm", session="s2")
    assert answer is not None
    assert answer["type"] == "armed" if free else answer["field"] == f"prescription.pulses.{limit}"


def test_nothing_is_fired_before_the_ledger_has_it() -> None:
    coil = Coil()
    coil.arm()
    coil.disk_works = False
    coil.pass_ms(50)
    assert coil.at(coil.now_ns + 20 * MS)["outcome"] == "skipped" and coil.fires_ns == []
    assert coil.entries[-1].event == "pulses"


def test_what_was_written_ahead_and_not_given_is_free_again_and_a_crash_has_given_it() -> None:
    coil = Coil().ready()
    coil.train(2)
    ahead = next(e.data["n"] for e in reversed(coil.entries) if e.event == "pulses")
    assert 2 < ahead <= 2 + 81
    coil.perform(coil.judge.stop("person", coil.now_ns))
    assert coil.entries[-1].event == "pulses" and coil.entries[-1].data["n"] == 2
    assert coil.judge.book.sessions["s1"].pulses == 2


def test_the_ledger_is_ahead_of_every_pulse_of_a_long_train() -> None:
    coil = Coil({"train_millihz": 1_000, "train_pulses": 200, "session_pulses": 200, "day_pulses": 200}).ready()
    outcomes = coil.train(60, period_ms=1000)
    assert outcomes == ["fired"] * 60
    entries = [e.data["n"] for e in coil.entries if e.event == "pulses"]
    assert len(entries) > 5 and all(b > a for a, b in itertools.pairwise(entries)) and entries[-1] <= 60 + 10


def test_bursts_are_fired_together_and_counted_one_by_one() -> None:
    coil = Coil(listed("itbs")).ready()
    assert coil.train(10, period_ms=200) == ["fired"] * 10
    assert coil.judge.triggers is not None and coil.judge.triggers.given == 30


def test_stop_forgets_the_pulse_that_waits() -> None:
    coil = Coil().ready()
    coil.ask(coil.now_ns + 50 * MS)
    coil.perform(coil.judge.stop("person", coil.now_ns))
    assert coil.judge.write_at_ns() is None and coil.replies[-1]["outcome"] == "skipped"
    coil.pass_ms(200)
    assert coil.fires_ns == [] and coil.mode == "stopped"


def test_on_the_way_down_and_without_an_arming_nothing_is_fired() -> None:
    coil = Coil().ready()
    coil.send("fallback")
    assert coil.mode == "stopped"
    answer = coil.ask(coil.now_ns + 10 * MS)
    assert answer is not None and answer["field"] == "mode"


def test_a_disarmed_device_is_not_told_to_fire() -> None:
    coil = Coil()
    coil.arm()
    coil.obeys = False
    coil.device_armed = False
    coil.sync()
    coil.ask(coil.now_ns + 20 * MS)
    coil.jump(20)
    coil.perform(coil.judge.shoot(coil.now_ns))
    assert coil.fires_ns == [] and coil.replies[-1]["outcome"] == "skipped"


def test_out_of_order_pulses_are_refused_without_a_trip() -> None:
    coil = Coil().ready()
    soon_ns = coil.now_ns + 50 * MS
    for changes, field in (
        ({"session": "x"}, "session"),
        ({"nonce": "x"}, "nonce"),
        ({"sequence": 0}, "sequence"),
    ):
        answer = coil.ask(soon_ns, **changes)
        assert answer is not None and answer["field"] == field and coil.mode == "armed"
    answer = coil.send("pulse", deadline_ns=soon_ns, expires_ns=coil.now_ns)
    assert answer is not None and answer["field"] == "expires_ns" and coil.fires_ns == []


def test_a_pulse_under_a_current_prescription_trips() -> None:
    seat = Seat()
    seat.run_at(0.1)
    answer = seat.send("pulse", deadline_ns=seat.now_ns + 10 * MS)
    assert answer is not None and seat.mode == "stopped" and "no pulses are signed" in seat.judge.reason


def test_current_under_a_pulse_prescription_trips() -> None:
    coil = Coil().ready()
    coil.send("set", amplitude_ma=0.1)
    assert coil.mode == "stopped" and all(ma == 0.0 for _, ma, _, _ in coil.outputs)


def test_a_pulse_does_not_renew_the_lease() -> None:
    coil = Coil().ready()
    coil.send("heartbeat")
    coil.jump(390)
    coil.ask(coil.now_ns + 50 * MS)
    coil.jump(20)
    coil.tick_and_report()
    assert coil.mode == "stopped" and coil.fires_ns == []


def test_what_was_not_fired_is_not_counted_as_fired() -> None:
    coil = Coil().ready()
    before = len(coil.replies)
    coil.perform(coil.judge.fired(coil.now_ns))
    Seat().judge.fired(coil.now_ns)
    assert len(coil.replies) == before and coil.judge.triggers is not None and coil.judge.triggers.fired == 0


def why(coil: Coil, deadline_ns: int) -> tuple[str, object, object, str]:
    """Field, value, limit and who set it, of what a pulse at this time would break."""
    assert coil.judge.triggers is not None
    refusal = coil.judge.triggers.beyond(deadline_ns) or coil.judge.triggers.untimely(deadline_ns, coil.now_ns)
    assert refusal is not None
    return refusal.field, refusal.value, refusal.limit, refusal.set_by


def test_every_refusal_names_field_value_limit_and_who_set_it() -> None:
    coil = Coil({"train_pulses": 2, "trains": 1, "session_pulses": 5}).ready()
    assert why(coil, coil.now_ns + 2_001 * MS) == ("deadline_ns", coil.now_ns + 2_001 * MS, coil.now_ns + 2_000 * MS, "interlock")
    start_ns = coil.now_ns + 10 * MS
    coil.at(start_ns)
    assert why(coil, start_ns + 99 * MS) == ("deadline_ns", 99 * MS, 100 * MS, "prescription")
    assert why(coil, start_ns + 101 * MS) == ("train_ms", 201, 200, "prescription")
    coil.ask(start_ns + 100 * MS)
    assert why(coil, start_ns + 100 * MS)[:3] == ("deadline_ns", start_ns + 100 * MS, "one at a time")
    coil.pass_ms(50)
    coil.now_ns = start_ns + 100 * MS
    coil.perform(coil.judge.shoot(coil.now_ns))
    assert why(coil, start_ns + 200 * MS) == ("train_pulses", 3, 2, "prescription")
    assert why(coil, start_ns + 5_100 * MS) == ("trains", 2, 1, "prescription")
    assert coil.judge.triggers is not None
    coil.judge.triggers.given = 5
    assert why(coil, start_ns + 5_100 * MS) == ("pulses", 6, 5, "prescription")
    coil.judge.triggers.late_in_a_row = 3
    coil.judge.triggers.given = 0
    coil.judge.triggers.trains = 0
    assert why(coil, start_ns + 5_100 * MS)[:3] == ("deadline_ns", 3, 3)


def test_a_burst_counts_whole() -> None:
    coil = Coil(listed("itbs")).ready()
    coil.train(10, period_ms=200)
    triggers = coil.judge.triggers
    assert triggers is not None and triggers.last_ns is not None
    assert why(coil, triggers.last_ns + 200 * MS)[:3] == ("train_pulses", 33, 30)
    triggers.given = 598
    assert why(coil, triggers.last_ns + 8_000 * MS)[:3] == ("pulses", 601, 600)


def test_an_arming_begins_with_nothing_counted() -> None:
    triggers = Triggers(make_program(), 7, 3, 4)
    assert (triggers.fired, triggers.skipped, triggers.late, triggers.late_in_a_row) == (0, 0, 0, 0)
    assert (triggers.trains, triggers.in_train, triggers.last_ns, triggers.waiting, triggers.written) == (0, 0, None, None, None)
    assert (triggers.given, triggers.paid, triggers.most, triggers.wire_ns, triggers.free_ns) == (3, 3, 7, 7, 0)
    assert triggers.due(10**18, True) is None and triggers.done(10**18) is None and triggers.write_at_ns() is None


def test_a_skipped_pulse_is_no_pulse_of_the_train() -> None:
    coil = Coil().ready()
    coil.at(coil.now_ns + 20 * MS, 2 * MS)
    triggers = coil.judge.triggers
    assert triggers is not None and (triggers.skipped, triggers.trains, triggers.in_train, triggers.given) == (1, 0, 0, 0)


def test_the_ledger_is_eight_seconds_ahead_and_written_again_at_half() -> None:
    triggers = Triggers(make_program(), 0, 0, 600)
    assert triggers.owed() == 81
    triggers.unwritten.append((1, 81))
    assert triggers.owed() is None, "one entry at a time"
    triggers.on_disk(0)
    assert triggers.paid == 0
    triggers.on_disk(1)
    assert triggers.paid == 81 and triggers.owed() is None
    triggers.given = 40
    assert triggers.owed() is None
    triggers.given = 41
    assert triggers.owed() == 122
    triggers.given = 590
    assert triggers.owed() == 600
    triggers.paid = 600
    assert triggers.owed() is None
    slow = Triggers(make_program(train_millihz=100), 0, 0, 600)
    assert slow.owed() == 2


@pytest.mark.parametrize(("after_us", "late"), [(-200, False), (500, False), (1_000, False), (1_001, True)])
def test_the_error_is_that_of_the_pulse_and_not_of_the_write(after_us: int, late: bool) -> None:
    triggers = Triggers(make_program(), 3 * MS, 0, 600)
    triggers.paid = 10
    triggers.take(7, 100 * MS)
    assert triggers.due(97 * MS - 1, True) is None
    due = triggers.due(97 * MS, True)
    assert due is not None and due[1] and due[0].sequence == 7
    done = triggers.done(97 * MS + after_us * 1000)
    assert done is not None and done[1] == after_us * 1000
    assert (triggers.late, triggers.late_in_a_row) == (int(late), int(late))
    assert triggers.free_ns == (200 * MS + after_us * 1000 if late else 0)


def test_bursts_are_written_ahead_whole() -> None:
    triggers = Triggers(make_program(**listed("itbs")), 0, 0, 600)
    assert triggers.owed() == 40 * 3 + 3
