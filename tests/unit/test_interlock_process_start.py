"""What the interlock's process does before its loop turns: arguments, signals, lock, ledger, driver, first lines; and after."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eegloop.layout import Layout
from eegloop.stim import InterlockMode, Prescription
from interlock import __main__ as process
from interlock.loop import boot_ns
from tests.interlock_bench import Signer, make_program, make_pulses, valid_now, write_signed

SEAT = "seat1"


class Start:
    """A data directory that does not exist yet, and the process up to its loop, which is asked instead of turned."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.layout = Layout(folder / "there" / "data")
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.made: list[Any] = []
        self.asked: dict[str, list[Any]] = {"setsid": [], "lock": [], "priority": [], "open": [], "truncated": []}
        self.look: Callable[[Any], object] = lambda _loop: None
        start = self

        class Untold:
            """Takes the loop's place: what it was made of is looked at."""

            def __init__(self, *parts: Any) -> None:
                self.judge, self.driver, self.log, self.ledger, self.control, self.stop = parts[:6]
                self.rules_for, self.start_code, self.withdrawn = parts[6:]
                start.made.append(self)

            def open(self, wait_s: float) -> None:
                start.asked["open"].append(wait_s)

            def run(self) -> int:
                start.look(self)
                self.log.close(1.0)
                self.ledger.close(1.0)
                return 0

        class Unseen:
            """Takes the place of the thread that looks at the signature: it would outlive the test."""

            def __init__(self, *parts: Any) -> None:
                self.objection = parts

        only_one = process.only_one

        def locked(path: Path, take_over_s: float) -> int:
            self.asked["lock"].append((path, take_over_s))
            return only_one(path, take_over_s)

        monkeypatch.setattr(process, "Loop", Untold)
        monkeypatch.setattr(process, "Vouched", Unseen)
        monkeypatch.setattr(process, "only_one", locked)
        monkeypatch.setattr(
            process, "go_first", lambda: self.asked["priority"].append(self.seat.joinpath("interlock.log").exists())
        )
        monkeypatch.setattr(os, "setsid", lambda: self.asked["setsid"].append(os.getpid()))

    @property
    def seat(self) -> Path:
        return self.layout.seat(SEAT)

    def main(self, *more: str, prescription: Prescription | None = None, **entry: Any) -> int:
        signed = self.folder / "prescription.signed"
        if prescription is not None:
            self.layout.keys.mkdir(parents=True, exist_ok=True)
            write_signed(self.folder, prescription, [Signer(**entry)], self.layout.keys / "trusted.json")
        named = ["--data", str(self.layout.data), "--seat", SEAT, "--patient", "virtual", "--state", str(self.folder / "state")]
        return process.main([*named, "--prescription", str(signed), *more])


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    yield Start(tmp_path, monkeypatch)
    for number, handler in before.items():
        signal.signal(number, handler)
    gc.unfreeze()


def test_everything_it_needs_is_made_and_said(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    gc.unfreeze()
    assert start.main() == 0
    loop = start.made[0]
    assert start.layout.data.is_dir() and start.layout.keys.is_dir() and start.seat.is_dir()
    assert start.asked["setsid"] == [os.getpid()] and start.asked["open"] == [process.LOG_OPENS_S]
    assert start.asked["priority"] == [False], "before the threads that write are begun"
    assert gc.get_freeze_count() > 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)] == [signal.SIG_IGN] * 3
    ready = json.loads(capsys.readouterr().out)
    assert ready["type"] == "ready" and ready["pid"] == os.getpid() and "cannot be read" in ready["refused"]
    assert loop.judge.reason == ready["refused"] and loop.judge.kind == "simulated"
    assert (loop.control, loop.stop) == (start.layout.control_socket(SEAT), start.layout.stop_socket(SEAT))
    assert loop.judge.wire_ns == 0 and abs(boot_ns() - loop.judge.now_ns) < 60 * 10**9
    line = json.loads((start.seat / "interlock.log").read_text().splitlines()[0])
    assert line["event"] == "started" and line["data"] == {"pid": os.getpid(), "prescription": None, "refused": ready["refused"]}
    assert loop.ledger._after is None


def test_that_it_is_ready_is_heard_while_it_runs(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon waits for that line on a pipe, which would hold back what is not pushed out."""
    heard, said = os.pipe()
    os.set_blocking(heard, False)
    lines: list[str] = []
    start.look = lambda _loop: lines.append(os.read(heard, 4_096).decode())
    with os.fdopen(said, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert start.main() == 0
        monkeypatch.undo()
    os.close(heard)
    assert json.loads(lines[0])["type"] == "ready"


def test_started_without_a_standard_input_it_has_its_lock_all_the_same(start: Start) -> None:
    """The lock is descriptor 0 then, which is one like any other."""
    locks: list[bool] = []
    start.look = lambda _loop: locks.append(os.path.samestat(os.fstat(0), (start.seat / "interlock.lock").stat()))
    kept = os.dup(0)
    os.close(0)
    try:
        assert start.main() == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert locks == [True]


def test_a_prescription_that_may_be_used_refuses_nothing(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start.layout.create()
    assert start.main(prescription=valid_now()) == 0
    loop = start.made[0]
    assert json.loads(capsys.readouterr().out)["refused"] == "" and "nobody has armed" in loop.judge.reason
    line = json.loads((start.seat / "interlock.log").read_text().splitlines()[0])
    assert line["data"] == {"pid": os.getpid(), "prescription": "course-1"}
    assert loop.ledger._after is None, "what nobody wears has no anchor"
    assert loop.rules_for(loop.driver.limits).refusal is None


def test_the_signature_is_looked_at_while_something_may_flow(start: Start) -> None:
    start.layout.create()

    def looks(loop: Any) -> None:
        (start.layout.keys / "trusted.json").unlink()
        (look,) = loop.withdrawn
        assert look() is None, "stopped: the next arm reads for itself"
        loop.judge.mode = InterlockMode.ARMED
        assert "trusted.json" in look().field
        loop.judge.mode = InterlockMode.FALLBACK
        assert look() is not None

    start.look = looks
    assert start.main(prescription=valid_now()) == 0


def test_a_seat_that_is_worn_has_an_anchor_that_moves(start: Start) -> None:
    often = {"day_sessions": 1, "week_sessions": 5, "course_sessions": 30, "lockout_ms": 86_400_000}
    worn = valid_now(device="pulse_pal", device_serial="7", authority="lower_only", **often)
    start.look = lambda loop: loop.ledger.put("opened", {}, boot_ns(), 0.0)
    assert start.main("--stimulator", "pulse_pal", "--settings", '{"port": "/dev/null"}', prescription=worn, scope="any") == 0
    loop = start.made[0]
    assert loop.judge.kind == "pulse_pal" and loop.ledger.written == 1 and loop.log.written == 1
    anchor = json.loads(next((start.folder / "state").glob("*.json")).read_text())
    assert anchor["n"] == 0 and anchor["ledger"] == str((start.seat / "ledger.log").resolve())
    assert "start.code" in loop.start_code()


def test_a_coil_is_told_its_program_and_its_wire_counts(start: Start) -> None:
    now = valid_now()
    coil = {
        "device": "magstim",
        "authority": "lower_only",
        "device_serial": "7",
        "valid_from_s": now.valid_from_s,
        "valid_until_s": now.valid_until_s,
    }
    pulses = make_pulses(make_program(), **coil)
    more = ("--stimulator", "magstim", "--settings", '{"port": "/dev/null"}')
    assert start.main(*more, prescription=pulses, scope="any") == 0
    loop = start.made[0]
    assert loop.judge.rules.pulses == pulses.pulses
    assert loop.judge.wire_ns == round(loop.driver.wire_s * 1e9) > 0
    assert loop.driver._signed_percent == 55, "50 % of the output is the motor threshold, 110 % of that is signed"


def test_an_orphan_is_waited_for_only_where_that_is_asked(start: Start) -> None:
    start.main()
    start.main("--take-over")
    path = start.seat / "interlock.lock"
    assert start.asked["lock"] == [(path, 0.0), (path, process.TAKE_OVER_S)]


def test_the_lock_is_free_and_says_nothing_after_it_whatever_happened(start: Start) -> None:
    def broken(_loop: Any) -> None:
        assert (start.seat / "interlock.lock").read_text() == f"{os.getpid()}\n"
        raise RuntimeError("broken")

    start.look = broken
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RuntimeError, match="broken"):
        start.main()
    start.made[0].log.close(1.0)
    start.made[0].ledger.close(1.0)
    assert (start.seat / "interlock.lock").read_text() == ""
    held = [entry for entry in Path("/proc/self/fd").iterdir() if entry.resolve() == (start.seat / "interlock.lock").resolve()]
    assert held == [] and len(list(Path("/proc/self/fd").iterdir())) <= before + 2, "but for the logs"


def test_a_group_of_its_own_that_may_not_be_made_is_done_without(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def leader() -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setsid", leader)
    assert start.main() == 0


def test_what_is_asked_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["--data", "d", "--seat", "a-z_09", "--patient", "p", "--prescription", "f"]
    plain = process._arguments(needed)
    assert (plain.data, plain.seat, plain.patient, plain.prescription) == (Path("d"), "a-z_09", "p", Path("f"))
    assert (plain.stimulator, plain.settings, plain.state, plain.take_over) == ("simulated", {}, None, False)
    more = process._arguments([*needed, "--take-over", "--state", "s", "--settings", '{"a": 1}', "--stimulator", "magstim"])
    assert (more.take_over, more.state, more.settings, more.stimulator) == (True, Path("s"), {"a": 1}, "magstim")
    for at in (0, 2, 4, 6):
        with pytest.raises(SystemExit) as ended:
            process._arguments(needed[:at] + needed[at + 2 :])
        assert ended.value.code == 2
    with pytest.raises(SystemExit):
        process._arguments([*needed, "--stimulator", "toaster"])
    assert "toaster" in capsys.readouterr().err
    assert process._arguments([*needed, "--seat", "a" * 32]).seat == "a" * 32
