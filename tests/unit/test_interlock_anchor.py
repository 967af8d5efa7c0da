"""The dose ledger's anchor outside the data directory: copied, restored, cut, missing or moved ledgers give nothing (S5)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from interlock import __main__ as process
from interlock.anchor import Anchor, state_folder
from interlock.ledger import Book, load
from interlock.limits import rules
from interlock.log import Chain, LogWriter
from tests.interlock_bench import DEVICE, make_prescription, wait_until

OLD = make_prescription(device="home", device_serial="7", id="signed in May")
NEW = make_prescription(device="home", device_serial="7", id="signed in June")


def course_of(prescription: Any) -> str:
    return rules(prescription, None, DEVICE).course


class Machine:
    """One user's state directory and a data directory; `start` is what the interlock's process does before it judges."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.data = folder / "state", folder / "data"
        self.data.mkdir()
        monkeypatch.setattr(process, "state_folder", lambda: self.state)

    def start(self, prescription: Any = OLD, data: Path | None = None) -> Book:
        """The book as the interlock would have it; one session is given if the book allows it, and everything is closed."""
        folder = data or self.data
        book = process._book(folder)
        anchor = process._anchor(prescription, folder / "ledger.log", course_of(prescription), book)
        ledger = LogWriter(folder / "ledger.log", anchor.move if anchor is not None else None)
        lines = [("opened", {"course": course_of(prescription), "lost": book.lost})]
        if not book.fault:
            given = {"session": f"s{len(book.sessions)}", "course": course_of(prescription), "uc": 100.0, "ms": 10.0}
            lines.append(("debit", given))
        for event, data_ in lines:
            ledger.put(event, {**data_, "boot_id": book.boot_id, "synchronized": True}, 10**9, 1e9)
        if "line" not in book.fault:
            wait_until(lambda: ledger.written == len(lines) or book.fault != "")
        ledger.close(1.0)
        (folder / "interlock.log").touch()
        if anchor is not None:
            anchor.close()
        return book

    def reread(self) -> Book:
        return load(self.data / "ledger.log", "b", True)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


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
    (machine.data / "interlock.log").unlink()
    assert machine.start().fault != "", "also with every trace of the seat's history gone"


def test_a_missing_anchor_is_refused(machine: Machine) -> None:
    machine.start()
    shutil.rmtree(machine.state)
    assert "not known on this machine" in machine.start().fault


def test_signed_anew_it_opens_and_counts_what_it_cannot_know_as_given_now(machine: Machine) -> None:
    machine.start()
    for name in ("ledger.log", "ledger.log.head"):
        (machine.data / name).unlink()
    assert machine.start(OLD).fault != ""
    for name in ("ledger.log", "ledger.log.head"):
        (machine.data / name).unlink()
    book = machine.start(NEW)
    assert book.fault == "" and book.lost
    again = machine.reread()
    assert next(s.course for s in again.sessions.values()) == "lost" and again.given(course_of(NEW)) == (1, 100)
    day = rules(NEW, None, DEVICE)
    refusal = again.refusal(day, "next", 2 * 10**9, 1e9)
    assert day.worn and refusal is None  # ten a day are signed here
    assert machine.start(OLD).fault != "", "the old prescription stays refused"
    assert machine.start(NEW).fault == "" and not machine.start(NEW).lost


def test_the_lost_session_counts_against_day_and_lockout() -> None:
    book = Book("b", True)
    book.apply("opened", {"course": "c", "lost": True, "boot_id": "b", "synchronized": True}, 10**9, 1e9)
    for limit, field in ({"day_sessions": 1}, "day_sessions"), ({"lockout_ms": 43_200_000}, "lockout_ms"):
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
    monkeypatch.setenv("XDG_STATE_HOME", "/there")
    assert state_folder() == Path("/there/eegloop/ledgers")
    for nothing in ("", "here"):
        monkeypatch.setenv("XDG_STATE_HOME", nothing)
        monkeypatch.setenv("HOME", "/elsewhere")
        own = state_folder()
        assert own.is_absolute() and own.parts[-4:] == (".local", "state", "eegloop", "ledgers") and own.parts[1] != "elsewhere"


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
            book = process._book(machine.data)
            tied = process._anchor(OLD, path, course_of(OLD), book)
            if book.fault == "":
                assert tied is not None and book.given(course_of(OLD))[1] >= 100 * acknowledged
                tied.close()
                opened += 1
    assert opened >= 4, "what a crash usually leaves is gone on with"
