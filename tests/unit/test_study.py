"""The study: the oracle finds what it should, both levels run through the live code, and the table says what was found."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from daemon import study_command
from daemon.study import kept
from daemon.study.cells import ARMS, MONTAGE, SCENARIOS, TARGET, TUNING_SEED, Scenario, find_scenario, lasting
from daemon.study.judged import JudgedOutput
from daemon.study.metrics import Collector, Job, kind_of, largest_step, limit_cycle
from daemon.study.oracle import Oracle
from daemon.study.report import findings, given_up, table, write
from daemon.study.sessions import run_job
from daemon.study_command import UNFINISHED, jobs_of, study
from eegloop.errors import SetupError
from eegloop.stim import Prescription
from simulators.biomarker_plant import Profile, measure
from simulators.patients import find_patient

SESSION_S = 90


@pytest.fixture(scope="module")
def profile() -> Profile:
    return measure(find_patient("responder").settings(montage=MONTAGE), seconds=250)


def signed(**changes: Any) -> Prescription:
    return dataclasses.replace(ARMS["dual_threshold"].prescription, **changes)


def judge(prescription: Prescription, *samples: tuple[float, float], debit_uc: float = 1e9) -> tuple[str, ...]:
    oracle = Oracle(prescription, 2.0)
    oracle.debit(debit_uc)
    for t_s, ma in samples:
        oracle.sample(t_s, ma)
    return oracle.end(samples[-1][0] + 1.0)


RAMP = tuple((0.05 * i, 0.005 * i) for i in range(1, 101))  # to 0.5 mA in 5 s


@pytest.mark.parametrize(
    ("changes", "samples", "says"),
    [
        ({}, RAMP, ""),
        ({"amplitude_ua": 400}, RAMP, "S1"),
        ({"modality": "tacs", "profile": "home", "amplitude_ua": 1_500}, (*RAMP, (5.05, 0.505)), ""),
        ({}, (*RAMP, (5.05, 0.6)), "S1 at 5.050 s: a rise"),
        ({}, (*RAMP, (5.05, -0.1)), "S1"),
        ({}, (*RAMP, (5.05, math.nan)), "S1"),
        ({}, (*RAMP, (4.0, 0.5)), "runs backwards"),
        ({"session_uc": 1_000}, RAMP, "S5"),
        ({"session_ms": 3_000}, RAMP, "S5"),
        ({"authority": "observe"}, RAMP, "S8"),
        ({"authority": "lower_only", "start_ua": 450}, RAMP, "S8"),
        ({"authority": "lower_only", "start_ua": 500}, (*RAMP[:60], (4.0, 0.0), *((5 + t, ma) for t, ma in RAMP[:60])), ""),
        ({"authority": "lower_only", "start_ua": 500}, (*RAMP[:60], (4.0, 0.0), *((5 + t, ma) for t, ma in RAMP[:61])), "S8"),
    ],
)
def test_the_oracle_names_what_should_not_have_been(
    changes: dict[str, Any], samples: tuple[tuple[float, float], ...], says: str
) -> None:
    found = judge(signed(**changes), *samples)
    assert (found == ()) if not says else any(says in text for text in found), found


def test_the_oracle_wants_every_charge_debited_before_it_is_given() -> None:
    assert any("debited" in text for text in judge(signed(), *RAMP, debit_uc=100.0))
    many = judge(signed(amplitude_ua=1), *RAMP)
    assert len(many) == 21 and many[-1].startswith("and ")


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_runs_at_biomarker_level_and_passes_no_limit(profile: Profile, arm: str) -> None:
    result = run_job(Job("biomarker", "responder", arm, 7, SESSION_S), profile)
    again = run_job(Job("biomarker", "responder", arm, 7, SESSION_S), profile)
    assert dataclasses.replace(again, cpu_s=0.0) == dataclasses.replace(result, cpu_s=0.0), "same seed, same session"
    assert result.violations == () and result.trips == () and result.fallbacks == ()
    assert result.decisions >= 15
    if arm in ("none", "sham"):
        assert result.charge_mc == 0.0 == result.largest_ma
    else:
        assert 5.0 < result.charge_mc < 90.0 and result.largest_ma >= 0.3
    assert result.on_s <= SESSION_S


def test_the_session_hears_at_once_that_the_interlock_ends_it(profile: Profile) -> None:
    """A block in which nothing more is given is not waited out, and counts for nobody's time in range."""
    result = run_job(Job("biomarker", "responder", "schedule", 3, 600), profile)
    assert 600.0 < result.seconds < 630.0, "the session's ten minutes, and getting ready before and after"


def test_both_levels_deliver_the_same_schedule(profile: Profile) -> None:
    fast, whole = (run_job(Job(level, "responder", "schedule", 3, 60), profile) for level in ("biomarker", "sample"))
    assert whole.violations == () and whole.trips == ()
    assert whole.charge_mc == pytest.approx(fast.charge_mc, rel=0.05)
    assert whole.largest_ma == fast.largest_ma == 1.0


def test_a_command_above_the_prescription_trips_the_judge_and_never_reaches_the_device() -> None:
    output = JudgedOutput(lasting(signed(), 60), 1_750_000_000.0)
    output.advance(1.0, False)
    output.send("arm")
    output.advance(1.3, True)
    assert output.judge.mode == "armed"
    output.send("set", block="stimulate", amplitude_ma=1.6, frequency_hz=0.0)
    output.advance(2.0, False)
    assert output.trips and output.refusals and output.output_ma == 0.0 and output.end() == ()


def test_without_heartbeats_the_lease_ends_in_virtual_time_too() -> None:
    output = JudgedOutput(lasting(signed(), 60), 1_750_000_000.0)
    output.advance(1.0, False)
    output.send("arm")
    output.advance(1.3, True)
    output.send("set", block="stimulate", amplitude_ma=0.5, frequency_hz=0.0)
    output.advance(4.0, True)
    assert output.output_ma > 0.2
    output.advance(5.0, False)
    assert output.output_ma == 0.0 and "lease" in output.trips[0] and output.record[-1][0] <= 4.5


def test_metrics() -> None:
    collected = Collector(0.0, 0.5)
    collected.true = [-0.1, 0.2, 0.6, 0.3]
    assert collected.share() == 0.5 and collected.error() == pytest.approx(0.05)
    empty = Collector(0.0, 0.5)
    assert empty.share() == 0.0 == empty.error() and math.isnan(empty.measured())
    collected.looked(0.4)
    collected.decided(True, "Alpha is in its target band, so it stays at 0.40 mA.")
    collected.decided(False, "x, so 0.10 mA more.")
    assert (collected.decisions, collected.holds, dict(collected.reasons)) == (2, 1, {"in range": 1})
    assert collected.measured() == 1.0 and collected.given_up_s == ()
    for _ in range(3):
        collected.decided(False, "Alpha did not come into its target band with all that is allowed, so 0.20 mA less.")
        collected.true.append(0.1)
    assert collected.given_up_s == (4.0,), "when it gave up, counted from the first output"
    assert kind_of("whatever") == "other" and kind_of("Held at 0.40 mA: blink.") == "doubtful estimate"
    assert largest_step([0.4, 0.5, 0.2]) == pytest.approx(0.3) and largest_step([]) == 0.0
    assert limit_cycle([0.4, 0.5] * 9) and not limit_cycle([0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) and not limit_cycle([])


def test_the_table_says_what_was_found(profile: Profile, tmp_path: Path) -> None:
    jobs = [
        Job("biomarker", person, arm, 1, 60) for person in ("responder", "inverted") for arm in ("schedule", "dual_threshold")
    ]
    results = [run_job(job, profile) for job in jobs]
    results.append(
        dataclasses.replace(results[0], job=dataclasses.replace(jobs[0], level="sample"), violations=("S1 at 1 s: x",))
    )
    text = findings(results)
    assert "1 of 5 sessions with a violation" in text and "points in range with" in text and "points apart" in text
    assert "ended in the safe state" in text
    four = [
        dataclasses.replace(results[0], in_range=x, job=Job("biomarker", "mover", "on_off", n)) for n, x in enumerate((0.5, 0.6))
    ]
    four += [
        dataclasses.replace(results[0], in_range=x, job=Job("sample", "mover", "on_off", n)) for n, x in enumerate((0.6, 0.66))
    ]
    # -10 and -6: mean -8, standard error 2, seed by seed
    assert "mover × on_off, the same 2 seeds: in range 63.0% and 55.0% (-8.0 ± 3.9 points apart)" in findings(four)
    assert "Biomarker level: 4 sessions" in text and text.count("(processor time; interpreted)") == 2
    mixed = [dataclasses.replace(results[0], compiled=True), results[1]]
    assert "(processor time; 1 of them compiled)" in findings(mixed) and "(processor time; compiled)" in findings(mixed[:1])
    assert len(table(results).splitlines()) == 2 + 5
    assert given_up(results) == "Nobody was given up.\n" == given_up([])
    page = write(results, tmp_path, "A study")
    assert page.read_text().startswith("# A study") and "## Given up\n\nNobody was given up.\n" in page.read_text()
    long = [dataclasses.replace(r, job=dataclasses.replace(r.job, session_s=900)) for r in results]
    long[2:4] = [
        dataclasses.replace(r, job=long[2].job, given_up_s=(t_s,)) for r, t_s in zip(long[2:4], (300.0, 601.0), strict=True)
    ]
    assert given_up(long).splitlines() == [
        "| level | person | arm | n | by 5 min | by 10 min | by 15 min | ever |",
        "|---|---|---|---|---|---|---|---|",
        "| biomarker | inverted | schedule | 2 | 1 | 1 | 2 | 2 |",
    ]
    assert (tmp_path / "inverted.svg").read_text().startswith("<svg")


def test_a_kept_result_counts_for_the_code_that_made_it_only(profile: Profile, tmp_path: Path) -> None:
    jobs = [Job("biomarker", "responder", arm, 1, 60) for arm in ("none", "dual_threshold")]
    results = [run_job(job, profile) for job in jobs]
    assert any(math.isnan(result.measured_in_range) for result in results)
    path = tmp_path / "sessions.jsonl"
    assert kept.read(path, lambda job: True) == {}
    path.write_text("".join(map(kept.to_line, results)) + '{"job": {"lev')
    found = kept.read(path, lambda job: True)
    assert list(found) == jobs and repr(list(found.values())) == repr(results)
    assert list(kept.read(path, {jobs[1]}.__contains__)) == jobs[1:]
    path.write_text(path.read_text().replace(kept.digest(jobs[0]), "0" * 16, 1))
    assert list(kept.read(path, lambda job: True)) == jobs[1:]
    assert kept.digest(jobs[0]) != kept.digest(jobs[1]) != kept.digest(dataclasses.replace(jobs[1], session_s=61))


def test_an_interrupted_study_goes_on_where_it_was(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_command, "measured", _as_measured)
    monkeypatch.setattr(study_command, "PROFILES", {})
    monkeypatch.setitem(SCENARIOS, "tiny", Scenario("tiny", "few", 30, ("responder",), ("none", "schedule"), 3, (), 0))
    _MEASURED["responder"] = profile
    words, code = study("tiny", tmp_path, None, 0, 1, False, minutes=0.0)
    assert code == UNFINISHED and "1 of 6 sessions are done" in words
    first = (tmp_path / "sessions.jsonl").read_text()
    words, code = study("tiny", tmp_path, None, 0, 1, False)
    assert code == 0 and "Study tiny: few; seeds 0-2" in words
    whole = (tmp_path / "sessions.jsonl").read_text()
    assert whole.startswith(first) and len(whole.splitlines()) == 6
    assert study("tiny", tmp_path, None, 0, 1, False)[1] == 0
    assert (tmp_path / "sessions.jsonl").read_text() == whole, "what is done is not run again"


_MEASURED: dict[str, Profile] = {}


def _as_measured(person_and_file: tuple[str, Path]) -> None:
    """The module's own profile in place of half an hour of virtual EEG."""
    _MEASURED[person_and_file[0]].save(person_and_file[1])


def test_scenarios() -> None:
    assert len(jobs_of(SCENARIOS["safety"], 140, 20, 0)) == 10_080 + 100
    with pytest.raises(SetupError, match=r"scenario 'x': there are quick .*, cohort .*, safety"):
        find_scenario("x")
    with pytest.raises(SetupError, match="used for tuning"):
        study("quick", Path("nowhere"), 5, TUNING_SEED, 1, False)
    assert TARGET["low_milli"] < TARGET["high_milli"]
    for scenario in SCENARIOS.values():
        assert set(scenario.arms) <= set(ARMS) and {p for p, _ in scenario.sample_cells} <= set(scenario.persons)
        assert all(find_patient(person) for person in scenario.persons)
