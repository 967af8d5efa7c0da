"""The last digit, the first report, the mode of a folder: what mutants of the interlock showed to be unwatched, continued."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control.keyring import certify
from control.prescription import TrustedKey, parse_yaml
from eegloop.single import _has_open, only_one
from eegloop.stim import PrescriptionError
from interlock.account import Account
from interlock.anchor import Anchor
from interlock.keys import certified_keys
from interlock.ledger import Book
from interlock.refusals import MS
from tests.interlock_bench import PULSES, SITE, Seat, Signer, make_program, make_pulses, valid_now, write_keys
from tests.still_loop import Still
from tests.unit.test_interlock_process_start import Start, start

__all__ = ["start"]
S = 1_000_000_000


def pulses(**changes: Any) -> Seat:
    tms = {"modality": "tms", "profile": "clinic", "amplitude_ua": 0, "start_ua": 0, "pulses": make_program()}
    return Seat(device=PULSES, **{**tms, **changes})


# ---- dose and ramp ---------------------------------------------------------------------------------------------------


def test_charge_is_current_times_time_to_the_last_digit() -> None:
    account = Account()
    account.give(1.0, False, 400 * MS, 500 * MS)
    assert (account.charge_uc, account.on_ns, account.first_ns) == (400.0, 400 * MS, 100 * MS)
    account.give(1.0, True, 100 * MS, 600 * MS)
    assert account.charge_uc == 400.0 + 0.5**0.5 * 100.0
    account.give(0.25, False, 900 * MS, 2_000 * MS)
    assert account.on_ns == 900 * MS and account.first_ns == 100 * MS, "no step counts for longer than a lease"


def test_a_ramp_is_the_signed_rate_to_the_last_digit() -> None:
    seat = Seat()
    seat.arm()
    seat.pass_ms(50)
    seat.send("set", amplitude_ma=1.0)
    levels = []
    for _ in range(5):
        seat.pass_ms(10)
        levels.append(seat.judge.level_ma)
    assert levels[1] - levels[0] == pytest.approx(0.001, abs=1e-15) and levels[0] in (0.0, 0.1 * 0.01)


# ---- the judge -------------------------------------------------------------------------------------------------------


def test_what_trips_it_from_outside_is_counted_up_to_that_moment() -> None:
    seat = Seat()
    seat.run_at(0.3)
    before_uc = seat.judge.account.charge_uc
    seat.perform(seat.judge.trip("outside", seat.now_ns + 20 * MS))
    assert seat.judge.now_ns == seat.now_ns + 20 * MS and seat.judge.account.charge_uc == pytest.approx(before_uc + 0.3 * 20)


def test_a_log_that_works_again_stops_nothing() -> None:
    seat = Seat()
    seat.run_at(0.3)
    assert seat.judge.log_failed("", seat.now_ns) == [] and seat.mode == "armed"


def test_each_arming_waits_for_the_device_to_say_that_it_is_armed() -> None:
    seat = Seat()
    seat.arm()
    seat.pass_ms(20)
    assert seat.judge.device_armed
    seat.perform(seat.judge.stop("enough", seat.now_ns))
    seat.pass_ms(100)
    seat.arm()
    assert not seat.judge.device_armed


def test_a_device_that_has_not_said_that_it_is_armed_is_not_fired() -> None:
    seat = pulses()
    seat.arm()
    deadline_ns = seat.now_ns + 50 * MS
    assert seat.send("pulse", deadline_ns=deadline_ns) is None
    seat.sync()
    seat.now_ns = deadline_ns
    seat.perform(seat.judge.shoot(seat.now_ns))
    assert seat.fires_ns == [] and seat.replies[-1]["outcome"] == "skipped" and seat.mode == "armed"


def test_as_many_pulses_as_were_given_are_named_where_no_more_may_be() -> None:
    book = Book("boot-1", True)
    entry = {"boot_id": "boot-1", "synchronized": True, "course": "another", "session": "before", "n": 0}
    seat = pulses(book=book)
    book.apply("pulses", {**entry, "course": seat.judge.rules.course, "n": 600}, seat.now_ns, seat.judge.wall_s())
    said = seat.send("arm", session="s2")
    assert said is not None and (said["field"], said["value"], said["limit"]) == ("prescription.pulses.day_pulses", 600, 600)


# ---- keys, anchor, lock ----------------------------------------------------------------------------------------------


def test_a_list_older_than_the_pin_is_refused_whatever_was_kept(tmp_path: Path) -> None:
    signer = Signer(scope="any")
    write_keys(tmp_path, [signer.entry], number=5)
    assert list(certified_keys(tmp_path, None)) == [signer.key]
    (tmp_path / "certified.json").write_bytes(certify([TrustedKey(**signer.entry)], 4, SITE))
    with pytest.raises(PrescriptionError, match="4 is older than 5, which this machine had"):
        certified_keys(tmp_path, None)


def test_a_clock_that_was_set_back_makes_no_anchor_younger(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path, "person", tmp_path / "ledger.log", "c")
    anchor.begin([])
    anchor.move(0, "0" * 64)
    anchor.close()
    path = next(tmp_path.glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "wall_s": 2**40}))
    again = Anchor(tmp_path, "person", tmp_path / "ledger.log", "c")
    again.move(1, "1" * 64)
    again.close()
    kept = json.loads(path.read_text())
    assert (kept["wall_s"], kept["n"], kept["hash"]) == (2**40, 1, "1" * 64)


def test_a_lock_is_the_owners_alone_and_its_holder_has_it_open(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        lock = only_one(tmp_path / "x.lock", 0.0)
    finally:
        os.umask(mask)
    assert (tmp_path / "x.lock").stat().st_mode & 0o777 == 0o600 and _has_open(os.getpid(), lock)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(10)
    assert _has_open(gone.pid, lock) is False
    os.close(lock)


# ---- files and the start ---------------------------------------------------------------------------------------------


def test_two_levels_are_read_and_no_third() -> None:
    with pytest.raises(PrescriptionError, match="nested too deeply"):
        parse_yaml("settings: {a: {b: 1}}")
    with pytest.raises(PrescriptionError, match="settings"):
        parse_yaml("settings: {a: [1]}")


def test_a_seats_folder_is_the_owners_alone(start: Start) -> None:
    mask = os.umask(0)
    try:
        assert start.main() == 0
    finally:
        os.umask(mask)
    assert start.seat.stat().st_mode & 0o777 == 0o700


def test_only_a_signed_program_is_told_and_only_to_a_driver_that_takes_it(start: Start) -> None:
    assert start.main("--stimulator", "magstim", "--settings", '{"port": "/dev/null"}') == 0
    assert start.made[-1].driver._signed_percent != 55
    now = valid_now()
    assert start.main(prescription=make_pulses(valid_from_s=now.valid_from_s, valid_until_s=now.valid_until_s)) == 0


def test_a_descriptor_of_number_zero_is_a_device_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = Still(tmp_path, monkeypatch)
    still.device()
    still.loop.device_fd, still.driver.fd, still.loop.next_connect_ns = 0, 0, 0
    still.driver.say(t_ns=still.now_ns)
    told, polls = list(still.driver.told), still.driver.polls
    still.loop._tick(still.now_ns)
    assert "connect" not in still.driver.told[len(told) :] and still.driver.polls == polls + 1
    still.close()
