"""The audit trail's anchors: what was written up to a few seconds ago is vouched for, however the service ended."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import daemon.verify
from control.alarm_board import LOUDER_S
from daemon.audit import AuditTrail, head_path, verify
from daemon.seat import Vitals
from daemon.trail_anchors import DIFFERS, FAILS, WORKS, TrailAnchors, outside, seen
from daemon.verify import verify_dataset
from daemon.verify_command import say_seen
from daemon.view import standing_alarms, trail_alarms
from eegloop.errors import RecordingError, SetupError
from tests.record_stream import SystemClock


class Machine:
    """A data directory with a trail and another chain, and a state directory outside of it."""

    def __init__(self, folder: Path) -> None:
        self.data, self.state = folder / "data", folder / "state"
        (self.data / "audit").mkdir(parents=True)
        self.path = self.data / "audit" / "daemon.jsonl"
        self.other = AuditTrail(self.data / "seats" / "seat1" / "interlock.log", SystemClock())
        self.start()

    def start(self) -> str:
        self.trail = AuditTrail(self.path, SystemClock())
        self.anchors = TrailAnchors(self.trail, outside(self.path, self.state))
        wrong = self.anchors.begin()
        self.say(self.trail, "start")
        return wrong

    def say(self, chain: AuditTrail, event: str) -> None:
        chain.append(event, {})
        assert chain.flush(5)

    def errors(self) -> str:
        found = [*verify(self.path, self.other.path), *verify_dataset(self.data, self.state)]
        return "\n".join(f"{f.path}: {f.text}" for f in found if f.level == "error")

    def close(self) -> None:
        self.trail.close()
        self.other.close()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _cut_back(path: Path, to: bytes, head: bytes) -> None:
    """An earlier copy of a chain and its head, put back together."""
    path.write_bytes(to)
    head_path(path).write_bytes(head)


def test_another_chain_put_back_after_a_kill_is_found_by_what_was_anchored_on_the_way(machine: Machine) -> None:
    machine.anchors.write([machine.other.path])
    copy, head = machine.other.path.read_bytes(), head_path(machine.other.path).read_bytes()
    machine.say(machine.other, "armed")
    machine.anchors.write([machine.other.path])
    assert machine.trail.flush(5) and machine.errors() == ""
    _cut_back(machine.other.path, copy, head)  # nothing was closed: as after a kill -9
    assert "cut off or swapped" in machine.errors()
    machine.close()


def test_a_chain_that_has_not_moved_is_anchored_once(machine: Machine) -> None:
    assert machine.other.flush(5), "its own first line is written by a thread"
    for _ in range(3):
        machine.anchors.write([machine.other.path, machine.other.path])
    assert machine.trail.flush(5)
    assert machine.path.read_text().count('"event":"anchor"') == 1
    machine.close()


def test_the_trail_itself_put_back_after_a_kill_is_found_from_outside_and_said_in_the_next(machine: Machine) -> None:
    machine.anchors.write([])
    copy, head = machine.path.read_bytes(), head_path(machine.path).read_bytes()
    machine.say(machine.trail, "stopped")
    machine.anchors.write([])
    assert machine.errors() == ""
    machine.trail.close()  # says nothing more, as after a kill -9
    _cut_back(machine.path, copy, head)
    assert "the file was removed, cut or restored" in machine.errors()
    assert "removed, cut or restored" in machine.start()
    machine.anchors.write([])
    assert "removed, cut or restored" in machine.anchors.differs, "for as long as the service runs"
    assert machine.errors() == "", "what is there now is sound"
    assert any(f.level == "notice" and "removed, cut or restored" in f.text for f in verify_dataset(machine.data, machine.state))
    assert DIFFERS in machine.path.read_text()
    machine.close()


def test_that_a_trail_differs_stands_over_every_start_until_somebody_has_looked_at_it(machine: Machine) -> None:
    """H28: an alarm that a restart takes away is one that whoever cut the trail takes away."""
    machine.anchors.write([])
    machine.trail.close()
    machine.path.unlink()
    head_path(machine.path).unlink()
    assert "are here" in machine.start()
    for _ in range(2):
        machine.anchors.write([])
        with pytest.raises(RecordingError, match="stop it first"):
            seen(machine.path, "Ann", SystemClock())
        machine.trail.close()
        machine.anchors.close()
        assert "are here" in machine.start(), "also the next start says so"
        assert [alarm["id"] for alarm in trail_alarms(machine.anchors.differs, "")] == ["trail_differs"]
    machine.trail.close()
    machine.anchors.close()
    with pytest.raises(SetupError, match="needs the name"):
        seen(machine.path, " ", SystemClock())
    assert "are here" in seen(machine.path, "Ann", SystemClock())
    assert machine.start() == "" and machine.errors() == ""
    machine.trail.close()
    with pytest.raises(SetupError, match="nothing stands in it"):
        seen(machine.path, "Ann", SystemClock())
    assert machine.path.read_text().count(f'"event":"{DIFFERS}"') == 1, "said once, whatever the number of starts"
    machine.close()


def test_seen_of_what_is_no_data_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"daemon\.jsonl: does not exist; --seen is of a data directory"):
        say_seen(tmp_path / "nothing", "Ann")
    assert not (tmp_path / "nothing").exists()


def test_a_trail_that_was_removed_is_said_in_the_one_that_follows(machine: Machine) -> None:
    machine.anchors.write([])
    machine.trail.close()
    machine.path.unlink()
    head_path(machine.path).unlink()
    assert "0 are here" in machine.errors()
    assert "are here" in machine.start()
    machine.close()


def test_an_orderly_end_vouches_for_the_last_line(machine: Machine) -> None:
    machine.trail.append("end", {})
    assert machine.trail.close(5)
    machine.anchors.close()
    machine.other.close()
    assert machine.errors() == ""
    whole = machine.path.read_bytes().splitlines(keepends=True)
    machine.path.write_bytes(b"".join(whole[:-1]))
    assert "lines were written" in machine.errors()


def test_an_anchor_that_cannot_be_kept_is_said_until_it_can_and_stands_in_the_trail(machine: Machine) -> None:
    machine.state.write_text("a file where the folder should be")
    for _ in range(3):
        machine.anchors.write([machine.other.path])
        assert str(machine.state) in machine.anchors.failing and "File exists" in machine.anchors.failing
    assert machine.trail.flush(5) and machine.trail.ok, "the trail itself is written: nobody is stopped"
    assert machine.path.read_text().count(f'"event":"{FAILS}"') == 1, "a state is said once"
    machine.state.unlink()
    machine.anchors.write([])
    assert machine.anchors.failing == "" and machine.trail.flush(5)
    assert machine.path.read_text().count(f'"event":"{WORKS}"') == 1
    machine.anchors.write([])
    machine.trail.close()
    _cut_back(
        machine.path, b"".join(machine.path.read_bytes().splitlines(keepends=True)[:2]), head_path(machine.path).read_bytes()
    )
    assert "removed, cut or restored" in machine.errors(), "vouched for again"
    machine.other.close()


def test_an_end_at_which_the_anchor_cannot_be_kept_is_an_end(machine: Machine) -> None:
    machine.state.write_text("a file where the folder should be")
    machine.close()
    machine.anchors.close()
    assert "File exists" in machine.anchors.failing


def test_what_is_wrong_with_the_anchors_stands_at_every_seat_in_view_and_names_no_path(machine: Machine) -> None:
    """Attention on the wall, whatever else is shown; it never grows louder at a person who is being treated, and ends when it is mended."""
    machine.state.write_text("a file where the folder should be")
    machine.anchors.write([])
    no_alert = SimpleNamespace(alarms=list)
    begun = SimpleNamespace(session=SimpleNamespace(phase="on"), effects=SimpleNamespace(alarms=()), row=None)
    seat = SimpleNamespace(line=begun, recorder=None, link=SimpleNamespace(silent=False), vitals=Vitals(), asking=no_alert)

    def seen(now_s: float) -> list[dict[str, Any]]:
        return standing_alarms(seat, "live", now_s, trail_alarms(machine.anchors.differs, machine.anchors.failing))  # type: ignore[arg-type]

    for now_s in range(100, 100 + 2 * int(LOUDER_S["medium"]), 30):
        (alarm,) = seen(now_s)
        assert (alarm["id"], alarm["priority"], alarm["age_s"]) == ("trail_anchor", "medium", now_s - 100.0)
        assert "File exists" in alarm["text"] and str(machine.state) not in str(alarm)
    machine.anchors.differs = "2 lines were written, 1 are here"
    assert {alarm["id"]: alarm["priority"] for alarm in seen(now_s + 1)} == {"trail_differs": "medium", "trail_anchor": "medium"}
    machine.state.unlink()
    machine.anchors.write([])
    assert [alarm["id"] for alarm in seen(now_s + 2)] == ["trail_differs"]
    machine.close()


def test_two_that_write_at_once_leave_a_whole_anchor(machine: Machine) -> None:
    """The service ends while the thread of the last ten seconds is still writing; both draft the same file."""

    def write(name: str) -> None:
        for number in range(40):
            machine.trail.append(name, {"number": number})
            machine.anchors.write([machine.other.path])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, name) for name in ("a", "b", "c", "d")]:
            done.result(30)
    assert not machine.errors()
    machine.close()
    machine.anchors.close()
    assert machine.start() == ""
    machine.close()


def test_a_trail_that_is_written_while_it_is_read_is_no_cut_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    read = daemon.verify.read_chain

    def read_and_go_on(path: Path) -> Iterator[dict[str, Any]]:
        yield from read(path)
        machine.say(machine.trail, "more")
        machine.anchors.write([machine.other.path])

    monkeypatch.setattr(daemon.verify, "read_chain", read_and_go_on)
    assert not machine.errors()
