"""The audit trail's anchors: what was written up to a few seconds ago is vouched for, however the service ended."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import daemon.verify
from daemon.audit import AuditTrail, head_path, verify
from daemon.trail_anchors import DIFFERS, TrailAnchors, outside
from daemon.verify import verify_dataset
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
    assert machine.errors() == "", "what is there now is sound"
    assert any(f.level == "notice" and "removed, cut or restored" in f.text for f in verify_dataset(machine.data, machine.state))
    assert DIFFERS in machine.path.read_text()
    machine.close()


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
