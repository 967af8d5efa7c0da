"""Two people in one service: two headsets, two stimulators, two interlocks; what happens to one does not touch the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from running_service import (
    SHORT_BLOCKS,
    PageClient,
    RunningService,
    bids_errors,
    check_parity,
    running,
    seat_config,
    sign_prescriptions,
    until,
    write_config,
)

SEATS = ("left", "right")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("seats")
    data = folder / "data"
    seats = [seat_config(seat, {"kind": "lsl", "name": f"two-{seat}", "type": "EEG"}) for seat in SEATS]
    # Long stimulate blocks: what is on stays on until somebody stops it.
    sign_prescriptions(data, seats, **{**SHORT_BLOCKS, "stimulate_ms": 120_000})
    with running("demo", write_config(folder / "config.yaml", seats), data) as service:
        yield service


@pytest.fixture(scope="module")
def page(service: RunningService) -> Iterator[PageClient]:
    page = service.page()
    yield page
    page.close()


def delivered(service: RunningService, seat: str, since_s: float) -> np.ndarray:
    """(n, 2) boot s and mA, as the stimulator's own side wrote them since LSL (= boot) time `since_s`."""
    path = service.layout.seat(seat) / "stimulator" / "output.bin"
    rows = np.fromfile(path, [("boot_ns", "<i8"), ("ma", "<f8")])
    seconds = rows["boot_ns"] * 1e-9
    return np.column_stack((seconds, rows["ma"]))[seconds >= since_s]


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_on(page: PageClient, seat: str) -> bool:
    state = page.seat(seat)
    return (
        bool(state) and state["phase"] == "on" and state["block"] == "stimulate" and (state["output"]["confirmed_ma"] or 0) > 0.35
    )


def wait_on(page: PageClient, *seats: str) -> None:
    deadline = time.monotonic() + 60
    while not all(is_on(page, seat) for seat in seats):
        now = {
            seat: (state["phase"], state["phase_reason"], state["output"]["reason"])
            for seat in seats
            if (state := page.seat(seat))
        }
        assert time.monotonic() < deadline, f"not stimulating after 60 s: {now}"
        time.sleep(0.1)


def restart(page: PageClient, seat: str) -> None:
    """What a person does on the page after a STOP: re-arm, which starts nothing, then start."""
    assert page.ask(type="command", seat=seat, name="rearm")["ok"] is True
    until(lambda: page.seat(seat)["phase"] == "off", 5, f"{seat} is re-armed")
    assert page.seat(seat)["output"]["confirmed_ma"] == 0.0
    assert page.ask(type="command", seat=seat, name="start")["ok"] is True
    wait_on(page, seat)


def check_stopped(service: RunningService, page: PageClient, seat: str, since_s: float, within_s: float = 1.0) -> None:
    """Zero within a second of the STOP, by the stimulator's own record, and never again."""
    until(lambda: page.seat(seat)["output"]["latched"], 5, f"{seat} latched")
    until(lambda: len(delivered(service, seat, since_s + within_s)) >= 5, 5, f"half a second of {seat}'s output")
    rows = delivered(service, seat, since_s + within_s)
    assert (rows[:, 1] == 0).all(), f"{seat} delivers after STOP"


def check_untouched(service: RunningService, page: PageClient, seat: str, since_s: float) -> None:
    rows = delivered(service, seat, since_s)
    assert len(rows) > 50 and (rows[:, 1] > 0.35).all(), f"{seat} was touched by the other seat's STOP"
    assert is_on(page, seat)


def test_both_seats_run_and_health_names_both(service: RunningService, page: PageClient) -> None:
    wait_on(page, *SEATS)
    body = service.health()
    assert [seat["seat"] for seat in body["seats"]] == list(SEATS)
    assert body["status"] == "ok"
    for seat in body["seats"]:
        assert (seat["phase"], seat["stream"], seat["interlock"], seat["recording"]) == ("on", "live", "ok", "ok")
    assert "Seat " not in str(body) and "person" not in str(body)
    for words in ("simulators.board", "simulators.stimulators", "interlock"):
        for seat in SEATS:
            assert service.child(f"{words} --seat {seat}")
    assert {entry["seat"] for entry in page.seats} == set(SEATS)
    assert {len(page.chunks[entry["index"]]) > 10 for entry in page.seats} == {True}
    # What cannot be done now is answered with why, and nothing changes.
    answer = page.ask(type="command", seat="right", name="start")
    assert answer["ok"] is False and answer["error"], answer
    answer = page.ask(type="command", seat="right", name="screened")
    assert answer["ok"] is False and "nothing to answer" in str(answer["error"]), answer
    assert is_on(page, "right")


def test_stop_by_command_stops_one_seat_and_latches_until_a_person_rearms(service: RunningService, page: PageClient) -> None:
    wait_on(page, *SEATS)
    since_s = now_s()
    done = service.run_command("stop", "--data", str(service.data), "--seat", "left")
    ended_s = now_s()
    assert done.returncode == 0 and "confirmed" in done.stdout, done.stdout + done.stderr
    assert "left" in done.stdout and "right" not in done.stdout
    check_stopped(service, page, "left", ended_s, 0.0)
    # Nothing but a person brings it back: not time, not a good signal, not the demo that starts sessions by itself.
    until(lambda: now_s() - ended_s > 4.0, 10, "four seconds")
    assert page.seat("left")["phase"] == "stopped" and page.seat("left")["output"]["latched"]
    assert page.seat("left")["output"]["confirmed_ma"] == 0.0
    assert service.health()["seats"][0]["phase"] == "stopped"
    check_stopped(service, page, "left", ended_s, 0.0)
    check_untouched(service, page, "right", since_s)
    restart(page, "left")
    check_untouched(service, page, "right", since_s)


def test_stop_by_http_needs_only_the_stop_token_and_stops_one_seat(service: RunningService, page: PageClient) -> None:
    wait_on(page, *SEATS)
    url = f"{service.url}/api/v1/seats/right/stop"
    for headers in ({}, {"X-Stop-Token": "x" * 43}):
        assert httpx.post(url, headers=headers, timeout=5.0).status_code in (401, 403)
    since_s = now_s()
    answer = httpx.post(url, headers={"X-Stop-Token": page.tokens["stop_token"]}, timeout=5.0)
    ended_s = now_s()
    assert answer.status_code == 200
    body = answer.json()
    assert body["confirmed"] is True and body["seat"] == "right" and body["output_ma"] == 0.0, body
    check_stopped(service, page, "right", ended_s, 0.0)
    until(lambda: now_s() - ended_s > 2.0, 10, "two seconds")
    check_stopped(service, page, "right", ended_s, 0.0)
    check_untouched(service, page, "left", since_s)


def test_stop_on_the_page_stops_the_other_too(service: RunningService, page: PageClient) -> None:
    wait_on(page, "left")
    answer = page.ask(type="stop", seat="left")
    ended_s = now_s()
    assert answer["confirmed"] is True and answer["seat"] == "left"
    check_stopped(service, page, "left", ended_s, 0.0)


def test_each_seat_has_its_own_record_and_it_replays(service: RunningService, page: PageClient, tmp_path: Path) -> None:
    """Last: the service is ended in order; two recordings of two people, valid BIDS, verified, replayed bit for bit."""
    started = time.monotonic()
    code = service.stop()
    assert code == 0 and time.monotonic() - started < 5.0
    assert "Traceback" not in service.output() + service.log()
    one, other = (service.recorded(seat).samples() for seat in SEATS)
    assert len(one) > 5000 and len(other) > 5000
    assert bids_errors(service.layout.recordings) == []
    done = service.run_command("verify", str(service.data))
    assert done.returncode == 0, done.stdout + done.stderr
    for seat in SEATS:
        recorded = service.recorded(seat)
        assert recorded.derived("manifest.json").exists()
        check_parity(recorded, tmp_path / seat, at_least=0)
        rows = recorded.table("stim.tsv")
        assert {row["device"] for row in rows} == {"simulated"}
        assert max(float(row["confirmed_ma"]) for row in rows if row["confirmed_ma"] != "n/a") > 0.35
    texts = [(row["trial_type"], row["text"]) for row in service.recorded("left").table("events.tsv")]
    assert ("operator", "rearm") in texts
    for seat in SEATS:
        phases = [row["text"] for row in service.recorded(seat).table("events.tsv") if row["trial_type"] == "phase"]
        assert any(text.startswith("stopped") for text in phases)
