"""Safe Bayesian optimization: the Gaussian process, the safe search, and the controller that runs its trials."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from control.controllers import safe_bayes
from control.controllers.safe_bayes import history_of
from control.gaussian_process import Kernel, Posterior, fitted_length, log_likelihood
from control.safe_search import Domain, Search, Trial, learned, posterior, propose, tried
from eegloop.ports import Snapshot
from eegloop.signal import Grade
from eegloop.stim import PrescriptionError, StimRequest
from simulators.response_surface import FLOOR, NOISE_SD, draw, length_of
from tests.unit.test_control_seat import demo_prescription, rows

KERNEL = Kernel(0.3, 1.2, 0.1)


def test_the_posterior_grown_row_by_row_is_the_textbooks() -> None:
    random = np.random.default_rng(1)
    points, at, values = random.uniform(size=(50, 3)), random.integers(0, 50, 20), random.standard_normal(20)
    grown = Posterior(points, KERNEL, 0.5)
    for i, y in zip(at, values, strict=True):
        grown.add(int(i), float(y))
    prior = KERNEL.between(points[at], points[at]) + KERNEL.noise_sd**2 * np.eye(20)
    cross = KERNEL.between(points[at], points)
    assert grown.mean == pytest.approx(0.5 + cross.T @ np.linalg.solve(prior, values - 0.5), abs=1e-5)
    variance = KERNEL.sd**2 - (cross * np.linalg.solve(prior, cross)).sum(axis=0)
    assert grown.sd == pytest.approx(np.sqrt(np.maximum(variance, 0.0)), abs=1e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_what_is_joined_to_the_start_is_what_a_flood_over_neighbors_reaches(dimensions: int) -> None:
    domain = Domain(Search(dimensions, (0.4,) * dimensions, FLOOR, KERNEL), points_a_side=7)
    random = np.random.default_rng(dimensions)
    for share in (0.3, 0.6, 0.9):
        allowed = random.uniform(size=len(domain.points)) < share
        allowed[domain.start] = True
        flooded = np.zeros(len(allowed), dtype=bool)
        flooded[domain.start] = True
        while (more := domain.grown(flooded) & allowed).sum() > flooded.sum():
            flooded = more
        assert (domain.connected(allowed) == flooded).all()


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_a_persons_truth_on_a_grid_is_the_truth_at_each_point(dimensions: int) -> None:
    points = Domain(Search(dimensions, (0.5,) * dimensions, FLOOR, KERNEL), points_a_side=6).points
    surface = draw(dimensions, 3, points)
    scattered = np.concatenate([surface.truth(point[None]) for point in points])
    plain = math.sqrt(2.0 / len(surface.weights)) * np.cos(points @ surface.frequencies + surface.phases) @ surface.weights
    assert surface.truth(points) == pytest.approx(plain, abs=1e-12)
    assert scattered == pytest.approx(plain, abs=1e-12)


def test_likelihood_and_the_careful_choice_of_a_length() -> None:
    points = np.array([[0.0], [0.4]])
    values = np.array([1.0, -0.5])
    covariance = KERNEL.between(points, points) + KERNEL.noise_sd**2 * np.eye(2)
    dense = -0.5 * values @ np.linalg.solve(covariance, values) - 0.5 * math.log(np.linalg.det(2 * np.pi * covariance))
    assert log_likelihood(points, values, KERNEL) == pytest.approx(dense, abs=1e-6)
    assert fitted_length(points[:1], values[:1], KERNEL, [0.2, 0.3, 0.9]) == 0.2, "one measurement cannot tell: the shortest"
    surface = draw(1, 3, np.linspace(0, 1, 41)[:, None])
    many = np.linspace(0, 1, 30)[:, None]
    assert fitted_length(many, surface.truth(many), Kernel(1.0, 1.0, 0.02), [0.05, 0.3, 1.5]) == 0.3


def run(dimensions: int, seed: int, **changes: Any) -> tuple[Search, Domain, list[Trial], np.ndarray, str]:
    kernel = Kernel(length_of(dimensions), 1.0, NOISE_SD)
    search = Search(dimensions, (0.5,) * dimensions, FLOOR, kernel, **changes)
    surface = draw(dimensions, seed, Domain(search).points)
    search = dataclasses.replace(search, start=tuple(surface.start))
    domain = Domain(search)
    truth = surface.truth(domain.points)
    random, trials = np.random.default_rng(seed), []
    believed = posterior(search, domain, trials)
    while (proposal := propose(search, domain, trials, believed)).index is not None:
        y = float(truth[proposal.index] + NOISE_SD * random.standard_normal())
        trials.append(tried(believed, proposal.index, y))
        believed = learned(search, domain, trials, believed)
    return search, domain, trials, truth, proposal.reason


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_handful_of_people_are_led_to_most_of_what_is_safely_reachable(dimensions: int) -> None:
    """The proof with 200 seeds each is `python -m benchmarks.study_safe_bayes`; this keeps it from rotting."""
    shares, unsafe = [], 0
    for seed in range(9_000, 9_005):
        search, domain, trials, truth, _ = run(dimensions, seed, caution=1.0)
        unsafe += sum(truth[t.index] < FLOOR for t in trials)
        best = propose(search, domain, trials, posterior(search, domain, trials)).best
        reachable = domain.connected(truth >= FLOOR)
        gain = truth[reachable].max() - truth[domain.start]
        shares.append(1.0 if gain < 0.05 else (truth[best] - truth[domain.start]) / gain)
        assert trials[0].index == domain.start, "the signed start is measured first"
    assert unsafe <= 1 and np.median(shares) >= 0.8


def test_trials_carry_on_in_another_session_as_if_there_had_been_none_between() -> None:
    search, domain, trials, _, _ = run(2, 9_100, fit=True)
    stored = json.loads(json.dumps([dataclasses.asdict(t) for t in trials]))
    loaded = [Trial(**body) for body in stored]
    assert propose(search, domain, loaded, posterior(search, domain, loaded)) == propose(
        search, domain, trials, posterior(search, domain, trials)
    )


def test_only_what_neighbors_join_to_the_start_is_safe_and_what_the_envelope_forbids_is_left_out() -> None:
    search = Search(1, (0.2,), 0.0, KERNEL)
    domain = Domain(search)
    gap = np.ones(len(domain.points), dtype=bool)
    gap[20] = False
    assert domain.connected(gap)[:20].all() and not domain.connected(gap)[20:].any()
    assert not domain.connected(np.zeros(len(gap), dtype=bool)).any()
    believed = posterior(search, domain, ())
    trials: list[Trial] = []
    for _ in range(12):
        proposal = propose(search, domain, trials, believed, domain.points[:, 0] <= 0.3)
        if proposal.index is None:
            break
        assert domain.points[proposal.index, 0] <= 0.3
        trials.append(tried(believed, proposal.index, 1.5))
        believed = learned(search, domain, trials, believed)
    forbidden = propose(search, domain, (), posterior(search, domain, ()), domain.points[:, 0] > 0.5)
    assert forbidden.index is None and "outside what is allowed" in forbidden.reason


def test_a_start_that_is_itself_below_the_floor_ends_the_search() -> None:
    search = Search(1, (0.5,), 0.0, KERNEL)
    domain = Domain(search)
    believed, trials = posterior(search, domain, ()), []
    for _ in range(10):
        proposal = propose(search, domain, trials, believed)
        if proposal.index is None:
            break
        assert proposal.index == domain.start
        trials.append(tried(believed, domain.start, -1.0))
        believed = learned(search, domain, trials, believed)
    assert proposal.index is None and "below the floor" in proposal.reason and proposal.safe_n == 0
    assert propose(dataclasses.replace(search, most_n=1), domain, trials, believed).reason == "all 1 trials are done"


# --- the controller

SETTINGS: dict[str, int | str] = {
    "biomarker": "relative_power.alpha", "channel": "F3", "unit": "milli", "high_ua": 1_000, "floor_milli": 150,
    "prior_milli": 250, "length_ua": 400, "spread_milli": 60, "noise_milli": 8, "trial_n": 3, "refractory_ms": 20_000,
}  # fmt: skip


def start(**settings: int | str) -> Any:
    prescription = dataclasses.replace(demo_prescription("v", 0.0), controller="safe_bayes", settings={**SETTINGS, **settings})
    return safe_bayes.build(safe_bayes.Settings()).start(prescription)


class Session:
    """Sense blocks of ten estimates, 30 s apart, of a person whose response to mA is `truth`; amplitudes reach the next block."""

    def __init__(self, truth: Any, **settings: int | str) -> None:
        self.controller = safe_bayes.build(safe_bayes.Settings())
        self.state = start(**settings)
        self.truth, self.t_s, self.hop = truth, 100.0, 0
        self.present_ma = self.delivered_ma = 0.4
        self.requests: list[StimRequest] = []
        self.measured: list[tuple[float, float]] = []
        self.random = np.random.default_rng(5)

    def block(self, ceiling_ma: float = 1.0, grade: Grade = Grade.GOOD) -> None:
        self.t_s += 20.0
        self.delivered_ma = self.present_ma
        for _ in range(10):
            self.t_s, self.hop = self.t_s + 1.0, self.hop + 1
            value = self.truth(self.delivered_ma) + 0.008 * float(self.random.standard_normal())
            snapshot = Snapshot(
                self.t_s, rows(value, self.hop, self.t_s, grade), self.present_ma, 0.0, ceiling_ma, 0.0, None, 0.2, 0.01
            )
            before = len(self.state.trials)
            self.state, request = self.controller.decide(self.state, snapshot)
            self.requests.append(request)
            if len(self.state.trials) > before:
                self.measured.append((self.delivered_ma, self.state.trials[-1].value))
            if not request.hold:
                change = abs(request.amplitude_ma - min(self.present_ma, ceiling_ma))
                assert request.amplitude_ma <= ceiling_ma + 1e-12 and change <= 0.1 + 1e-9
                self.present_ma = request.amplitude_ma


def hill(ma: float) -> float:
    return 0.3 - 0.4 * (ma - 0.65) ** 2 / 0.65**2 * 0.5


def test_it_finds_the_best_amplitude_measures_what_was_delivered_and_stays_there() -> None:
    session = Session(hill)
    for _ in range(120):
        session.block()
    assert session.state.done and abs(session.present_ma - 0.65) < 0.1
    assert all(abs(value - hill(ma)) < 0.03 for ma, value in session.measured), "each trial measures the amplitude it names"
    assert len(session.measured) == len(session.state.trials) >= 4
    assert any("gave" in r.reason and "was expected" in r.reason for r in session.requests)
    assert "The search is over" in session.requests[-1].reason
    assert min(hill(ma) for ma, _ in session.measured) >= 0.15


def test_a_person_who_gets_worse_is_not_led_below_the_floor() -> None:
    def worse(ma: float) -> float:
        return 0.25 - 0.3 * max(0.0, ma - 0.4) ** 1.5

    session = Session(worse)
    for _ in range(100):
        session.block()
    assert min(worse(ma) for ma, _ in session.measured) >= 0.15
    assert session.present_ma <= 0.75


def test_a_ceiling_that_falls_is_kept_and_artifacts_measure_nothing() -> None:
    session = Session(hill)
    for _ in range(6):
        session.block()
    session.block(grade=Grade.SUSPECT)
    n = len(session.state.trials)
    session.block(grade=Grade.SUSPECT)
    assert len(session.state.trials) == n and session.requests[-1].hold
    for _ in range(20):
        session.block(ceiling_ma=0.45)
    assert session.present_ma <= 0.45 or all(r.hold or r.amplitude_ma <= 0.45 for r in session.requests[-200:])


def test_history_continues_and_is_what_the_log_says() -> None:
    first = Session(hill, most_n=6)
    for _ in range(60):
        first.block()
    text = history_of(first.state)
    assert len(text.split()) == len(first.state.trials) == 6
    assert "all 6 trials are done" in first.state.done
    again = start(history=text)
    assert [t.index for t in again.trials] == [t.index for t in first.state.trials]
    assert [round(t.value, 3) for t in again.trials] == [round(t.value, 3) for t in first.state.trials]
    down = start(more_moves="down", floor_milli=400, prior_milli=250, history="400:260")
    assert down.trials[0].value == -0.26 and history_of(down) == "400:260"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"low_ua": 500}, "must hold start_ua 400"),
        ({"low_ua": 400, "high_ua": 400}, "must hold start_ua"),
        ({"high_ua": 1_200}, "above amplitude_ua 1000"),
        ({"floor_milli": 250}, "must be worse than prior_milli"),
        ({"more_moves": "down"}, "must be worse than prior_milli"),
        ({"refractory_ms": 5_000}, "at least stimulate_ms 20000"),
        ({"history": "400"}, "history"),
        ({"high_ua": 600, "history": "400:250 900:20"}, "history: 900:20 is outside low_ua 0 to high_ua 600"),
        ({"low_ua": 300, "history": "299:250"}, "history: 299:250 is outside low_ua 300"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings: dict[str, int | str], says: str) -> None:
    with pytest.raises(PrescriptionError, match=says):
        start(**settings)


def test_without_a_proven_amplitude_it_lowers_to_nothing_step_by_step_and_stays_there() -> None:
    session = Session(lambda ma: 0.05)
    while not session.state.done:
        session.block()
    assert session.state.done == "the signed start itself is below the floor" and session.present_ma <= 0.4
    session.block()
    assert session.present_ma == 0.0 and "without an amplitude that it could rely on" in session.requests[-1].reason
    lowered = [
        r.amplitude_ma for r in session.requests if not r.hold and "without an amplitude that it could rely on" in r.reason
    ]
    assert lowered == sorted(lowered, reverse=True) and len(lowered) >= 4, "by step_ua at most"
    session.block()
    assert session.present_ma == 0.0 and session.requests[-1].hold


def test_a_session_after_the_last_trial_says_so_at_once_and_tries_nothing() -> None:
    session = Session(hill, most_n=1, history="400:250")
    assert session.state.done == ""
    session.block()
    assert session.state.done == "all 1 trials are done" and session.state.trying_ua is None and len(session.state.trials) == 1


def test_a_broken_present_amplitude_moves_nothing() -> None:
    session = Session(hill)
    session.block()
    snapshot = Snapshot(200.0, rows(0.2, 999, 200.0), math.nan, 0.0, 1.0, 0.0, None, 0.2, 0.01)
    for hop in range(999, 1010):
        snapshot = dataclasses.replace(snapshot, biomarkers=rows(0.2 + hop * 1e-5, hop, 200.0))
        session.state, request = session.controller.decide(session.state, snapshot)
        assert request.hold
