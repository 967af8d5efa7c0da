"""The dose ledger's anchor outside the data directory: copied, restored, cut, missing or moved ledgers give nothing (S5)."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from eegloop.kept import state_folder
from eegloop.launch import interlock_argv
from interlock import __main__ as process
from interlock.anchor import Anchor
from interlock.ledger import Book, load
from interlock.limits import rules
from interlock.log import Chain, LogWriter
from tests.interlock_bench import DEVICE, make_prescription, wait_until

LATER_S = 4_000_000_000
OLD = make_prescription(device="home", device_serial="7", id="signed in May")
NEW = make_prescription(device="home", device_serial="7", id="signed in June", valid_from_s=LATER_S, valid_until_s=LATER_S + 1)


def course_of(prescription: Any) -> str:
    return rules(prescription, None, DEVICE).course


class Machine:
    """One user's state directory and a data directory; `start` is what the interlock's process does before it judges."""

    def __init__(self, folder: Path) -> None:
        self.state, self.data = folder / "state", folder / "data"
        self.data.mkdir()

    def start(self, prescription: Any = OLD, data: Path | None = None) -> Book:
        """The book as the interlock would have it; one session is given if the book allows it, and everything is closed."""
        folder = data or self.data
        book = process._book(folder, True)
        anchor = process._anchor(prescription, folder / "ledger.log", course_of(prescription), book, self.state)
        ledger = LogWriter(folder / "ledger.log", anchor.move if anchor is not None else None)
        lines: list[tuple[str, dict[str, Any]]] = []
        if not book.fault:
            lines.append(("opened", {"course": course_of(prescription), "lost": book.lost}))
            given = {"session": f"s{len(book.sessions)}", "course": course_of(prescription), "uc": 100.0, "ms": 10.0}
            lines.append(("debit", given))
        for event, data_ in lines:
            ledger.put(event, {**data_, "boot_id": book.boot_id, "synchronized": True}, 10**9, 1e9)
        if "line" not in book.fault:
            wait_until(lambda: ledger.written == len(lines) or book.fault != "")
        ledger.close(1.0)
        with (folder / "interlock.log").open("a") as log:
            log.write('{"event":"armed"}\n' if not book.fault else "{}\n")
        if anchor is not None:
            anchor.close()
        return book

    def reread(self) -> Book:
        return load(self.data / "ledger.log", "b", True)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_ledger_that_is_left_alone_goes_on(machine: Machine) -> None:
    for _ in range(3):
        assert machine.start().fault == ""
    assert machine.reread().given(course_of(OLD)) == (3, 300)


def test_the_anchor_is_never_ahead_of_the_disk_and_catches_up(machine: Machine) -> None:
    machine.start()
    chain = Chain(machine.data / "ledger.log")  # a crash between the ledger's line and the anchor's
    chain.append(
        "debit", {"session": "x", "course": course_of(OLD), "uc": 5.0, "ms": 1.0, "boot_id": "b", "synchronized": True}, 2, 2.0
    )
    chain.close()
    assert machine.start().fault == ""


def test_a_ledger_restored_from_a_copy_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.start()
    shutil.copytree(machine.data, tmp_path / "copy")
    machine.start()
    shutil.rmtree(machine.data)
    shutil.copytree(tmp_path / "copy", machine.data)
    assert "cut, restored or replaced" in machine.start().fault


def test_a_cut_ledger_is_refused_also_with_its_head(machine: Machine) -> None:
    machine.start()
    path = machine.data / "ledger.log"
    lines = path.read_bytes().splitlines(keepends=True)
    head = machine.data / "ledger.log.head"
    path.write_bytes(lines[0])
    head.write_text(f"{0:020d} {json.loads(lines[0])['hash']}\n")
    assert machine.reread().fault == "", "by itself it looks whole"
    assert "cut, restored or replaced" in machine.start().fault


def test_a_copy_elsewhere_is_refused_and_does_not_disturb_the_first(machine: Machine, tmp_path: Path) -> None:
    machine.start()
    shutil.copytree(machine.data, tmp_path / "other")
    assert "not here" in machine.start(data=tmp_path / "other").fault
    assert machine.start().fault == ""


def test_a_fresh_data_directory_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.start()
    (tmp_path / "fresh").mkdir()
    assert "not here" in machine.start(data=tmp_path / "fresh").fault


def test_a_missing_ledger_is_refused(machine: Machine) -> None:
    machine.start()
    for name in ("ledger.log", "ledger.log.head"):
        (machine.data / name).unlink()
    assert machine.start().fault != ""
    for _ in range(3):
        assert machine.start().fault != "", "starting again changes nothing"
    (machine.data / "interlock.log").unlink()
    assert machine.start().fault != "", "also with every trace of the seat's history gone"


def test_a_ledger_that_is_gone_stays_gone_however_often_it_starts(machine: Machine) -> None:
    """Also without an anchor, as on the simulated stimulator: the log says that somebody armed here."""
    simulated = make_prescription()
    assert machine.start(simulated).fault == ""
    for name in ("ledger.log", "ledger.log.head"):
        (machine.data / name).unlink()
    for _ in range(3):
        assert machine.start(simulated).fault == process.MISSING


def test_a_seat_on_which_nobody_ever_armed_has_lost_nothing(machine: Machine) -> None:
    """A start that was killed between the log's first line and the ledger's."""
    (machine.data / "interlock.log").write_text('{"event":"started"}\n')
    assert machine.start(make_prescription()).fault == ""


def test_a_missing_anchor_is_refused(machine: Machine) -> None:
    machine.start()
    shutil.rmtree(machine.state)
    assert "not known on this machine" in machine.start().fault


def test_pulses_without_their_anchor_are_refused_though_they_are_no_charge(machine: Machine) -> None:
    """A coil's sessions have no charge: that they were given is what counts."""
    chain = Chain(machine.data / "ledger.log")
    given = {"session": "s", "course": course_of(OLD), "n": 600, "boot_id": "b", "synchronized": True}
    chain.append("pulses", given, 10**9, 1e9)
    chain.close()
    assert machine.reread().given(course_of(OLD)) == (1, 0)
    assert "not known on this machine" in machine.start().fault


def test_a_prescription_is_named_once_however_often_its_ledger_is_opened(machine: Machine) -> None:
    for prescription in (OLD, NEW, OLD, NEW, OLD):
        assert machine.start(prescription).fault == ""
    kept = json.loads(next(machine.state.glob("*.json")).read_text())
    assert (kept["courses"], kept["gone"]) == ([course_of(OLD), course_of(NEW)], [])


def test_signed_anew_it_opens_and_counts_what_it_cannot_know_as_given_now(machine: Machine) -> None:
    machine.start()
    for name in ("ledger.log", "ledger.log.head"):
        (machine.data / name).unlink()
    assert machine.start(OLD).fault != ""
    book = machine.start(NEW)
    assert book.fault == "" and book.lost
    again = machine.reread()
    assert next(s.course for s in again.sessions.values()) == "lost" and again.given(course_of(NEW)) == (1, 100)
    day = rules(NEW, None, DEVICE)
    refusal = again.refusal(day, "next", 2 * 10**9, 1e9)
    assert day.worn and refusal is not None and refusal.field == "prescription.week_sessions", "a whole week's were lost"
    assert again.refusal(day, "next", (7 * 86_400 + 2) * 10**9, 1e9) is None
    assert machine.start(OLD).fault != "", "the old prescription stays refused"
    assert machine.start(NEW).fault == "" and not machine.start(NEW).lost


def test_an_older_prescription_does_not_open_a_ledger_that_is_gone(machine: Machine, tmp_path: Path) -> None:
    machine.start()
    (tmp_path / "fresh").mkdir()
    earlier = make_prescription(device="home", device_serial="7", id="signed in April", valid_from_s=1_600_000_000)
    assert "older than the ledger that is gone" in machine.start(earlier, tmp_path / "fresh").fault
    assert machine.start(earlier).fault == "", "where the ledger is whole it may be used"
    newest = make_prescription(device="home", device_serial="7", id="signed now", valid_from_s=int(time.time()) + 1)
    assert machine.start(newest, tmp_path / "fresh").fault == ""


def test_what_was_lost_counts_against_day_and_week() -> None:
    book = Book("b", True)
    book.apply("opened", {"course": "c", "lost": True, "boot_id": "b", "synchronized": True}, 10**9, 1e9)
    for limit, field in ({"day_sessions": 1}, "day_sessions"), ({"week_sessions": 50}, "week_sessions"):
        changed = rules(make_prescription(device="home", device_serial="7", **limit), None, DEVICE)  # type: ignore[arg-type]
        refusal = book.refusal(changed, "s", 3600 * 10**9, 1e9 + 3599)
        assert refusal is not None and refusal.field == f"prescription.{field}"


def test_a_new_prescription_over_the_same_ledger_loses_nothing(machine: Machine) -> None:
    machine.start(OLD)
    book = machine.start(NEW)
    assert book.fault == "" and not book.lost and book.given(course_of(OLD)) == (1, 100)
    assert machine.start(OLD).fault == ""


def test_another_person_has_another_anchor(machine: Machine, tmp_path: Path) -> None:
    machine.start()
    (tmp_path / "fresh").mkdir()
    assert machine.start(make_prescription(device="home", device_serial="7", patient="other"), tmp_path / "fresh").fault == ""


def test_the_simulated_stimulator_needs_none(machine: Machine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert machine.start(make_prescription(), tmp_path / name).fault == ""
    assert not machine.state.exists()


def test_two_interlocks_cannot_count_one_persons_dose(tmp_path: Path) -> None:
    first = Anchor(tmp_path, "p", tmp_path / "ledger.log", "c")
    with pytest.raises(ValueError, match="another interlock"):
        Anchor(tmp_path, "p", tmp_path / "ledger.log", "c")
    first.close()
    Anchor(tmp_path, "p", tmp_path / "ledger.log", "c").close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"ledger":1,"n":0,"hash":"","courses":[],"gone":[]}',
        '{"ledger":"","n":true,"hash":"","courses":[],"gone":[]}',
    ],
)
def test_a_damaged_anchor_is_refused(machine: Machine, text: str) -> None:
    machine.start()
    next(machine.state.glob("*.json")).write_text(text)
    assert machine.start().fault.startswith("no anchor")


def test_an_anchor_that_cannot_be_written_is_a_fault_of_the_ledger(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path / "state", "p", tmp_path / "ledger.log", "c")
    assert not anchor.begin([])
    shutil.rmtree(tmp_path / "state")
    ledger = LogWriter(tmp_path / "ledger.log", anchor.move)
    ledger.put("opened", {}, 1, 1.0)
    wait_until(lambda: "No such file" in ledger.fault(2))
    assert ledger.written == 0
    (tmp_path / "state").mkdir()
    wait_until(lambda: ledger.written == 1)
    ledger.close(1.0)
    assert len((tmp_path / "ledger.log").read_bytes().splitlines()) == 1, "the line is not written twice"
    anchor.close()


def test_its_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment variable moves it: a fresh folder would forget what was counted."""
    monkeypatch.setenv("XDG_STATE_HOME", "/there")
    monkeypatch.setenv("HOME", "/elsewhere")
    own = state_folder("ledgers")
    assert own == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local" / "state" / "eegloop" / "ledgers"


def test_the_service_never_says_where_it_is(tmp_path: Path) -> None:
    """`--state` is for tests: no field of the configuration becomes it."""
    assert "--state" not in interlock_argv(tmp_path, "seat1", "p", tmp_path / "x", settings={"state": "/there"}, take_over=True)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("acknowledged", [1, 2, 3])
def test_power_loss_at_any_instant_frees_no_dose(machine: Machine, zeros: bool, acknowledged: int) -> None:
    """The ledger's unsynced part may be there in part, in full or as zeros; its head may be any older one or none."""
    path, head = machine.data / "ledger.log", machine.data / "ledger.log.head"
    heads: list[bytes | None] = [None]
    anchor = Anchor(machine.state, OLD.patient, path, course_of(OLD))
    anchor.begin([])
    chain = Chain(path)
    for i in range(acknowledged + 1):
        before = path.read_bytes()
        anchored = next(machine.state.glob("*.json")).read_bytes() if i else b""
        data = {"session": "s", "course": course_of(OLD), "uc": 100.0 * (i + 1), "ms": 10.0, "boot_id": "b", "synchronized": True}
        chain.append("debit", data, i * 10**9, float(i))
        heads.append(head.read_bytes())
        anchor.move(*chain.head)
    chain.close()
    anchor.close()
    line = path.read_bytes()[len(before) :]
    new_anchor = next(machine.state.glob("*.json"))
    opened = 0
    for there in (0, 1, len(line) // 2, len(line) - 1, len(line)):
        for old_head in heads:
            path.write_bytes(before + (b"\0" * there if zeros else line[:there]))
            new_anchor.write_bytes(anchored)
            head.unlink(missing_ok=True)
            if old_head is not None:
                head.write_bytes(old_head)
            book = process._book(machine.data, True)
            tied = process._anchor(OLD, path, course_of(OLD), book, machine.state)
            if book.fault == "":
                assert tied is not None and book.given(course_of(OLD))[1] >= 100 * acknowledged
                tied.close()
                opened += 1
    assert opened >= 4, "what a crash usually leaves is gone on with"
