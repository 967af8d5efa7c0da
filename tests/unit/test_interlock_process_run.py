"""The process around the judge, run inside the test's own process: its lock, its arguments, its files, how it starts and ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.stimulators import simulated
from eegloop.layout import Layout
from eegloop.single import only_one
from eegloop.stim import Limit
from eegloop.stop import stop
from interlock import __main__ as process
from interlock import launch
from interlock.loop import Loop
from simulators.stimulators.simulated import Process
from tests.interlock_bench import Signer, make_program, make_pulses, valid_now, wait_until, write_signed
from tests.interlock_rig import SEAT
from tests.unit.test_interlock_loop import quiet_signals

__all__ = ["quiet_signals"]


class Machine:
    """A data directory with a signed prescription, and a stimulator."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder / "data")
        self.layout.create()
        self.signed = write_signed(folder, valid_now(), [Signer()], self.layout.keys / "trusted.json")
        self.stimulator = Process(self.layout, SEAT, 2.0, "", 0.0, 0.0)
        self.thread = threading.Thread(target=self.stimulator.run)
        self.thread.start()

    def argv(self, *more: str, patient: str = "virtual") -> list[str]:
        named = ["--data", str(self.layout.data), "--seat", SEAT, "--patient", patient]
        return [*named, "--prescription", str(self.signed), *more]

    def close(self) -> None:
        self.stimulator.leaving = True
        self.thread.join(5)
        assert self.stimulator.listener is not None
        self.stimulator.listener.close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_signals: None) -> Iterator[Machine]:
    made = Machine(tmp_path)

    def leader() -> None:
        raise PermissionError  # as for a process that leads a session already; pytest must stay in its own

    monkeypatch.setattr(os, "setsid", leader)
    yield made
    made.close()


def ends_by_sigterm(machine: Machine) -> None:
    wait_until(lambda: machine.layout.stop_socket(SEAT).exists())
    wait_until(lambda: stop(machine.layout.stop_socket(SEAT), "thread")["confirmed"] is True)
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_process_is_ready_and_ends_by_sigterm(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for patient, refused in (("virtual", ""), ("other", "prescription.patient")):
        presser = threading.Thread(target=ends_by_sigterm, args=(machine,))
        presser.start()
        assert process.main(machine.argv(patient=patient)) == 0
        presser.join()
        ready = json.loads(capsys.readouterr().out)
        assert ready["type"] == "ready" and ready["pid"] == os.getpid() and ready["refused"].startswith(refused)
    log = (machine.layout.seat(SEAT) / "interlock.log").read_text()
    assert '"event":"left"' in log and "is not this seat" in log
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN == signal.getsignal(signal.SIGHUP)


def test_a_seat_has_one_interlock(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    path = machine.layout.seat(SEAT) / "interlock.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert process.main(machine.argv()) == process.HELD
    assert "already has one" in capsys.readouterr().err


def test_an_orphan_is_ended_and_one_that_does_not_go_is_left(tmp_path: Path) -> None:
    assert process.TAKE_OVER_S == 3.0
    code = (
        "import fcntl, os, signal, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "sys.argv[2] == 'stays' and signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "f.write(str(os.getpid())); f.flush(); print('held', flush=True); signal.pause()"
    )
    for word in ("goes", "stays"):
        path = tmp_path / f"{word}.lock"
        with subprocess.Popen([sys.executable, "-c", code, str(path), word], stdout=subprocess.PIPE, text=True) as orphan:
            assert orphan.stdout is not None and orphan.stdout.readline() == "held\n"
            started_s = time.monotonic()
            lock = only_one(path, 3.0 if word == "goes" else 0.3)
            if word == "goes":
                assert lock >= 0 and path.read_text() == f"{os.getpid()}\n" and orphan.wait(5) == -signal.SIGTERM
                os.close(lock)
            else:
                assert lock == -1 and 0.3 <= time.monotonic() - started_s < 3.0 and orphan.poll() is None
                orphan.kill()


def test_who_holds_a_lock_is_told_once_and_who_does_not_get_it_keeps_nothing_open(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, signal, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True));"
        "f.write(str(os.getpid())); f.flush(); print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "x.lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        assert only_one(path, 0.3) == -1
        mine = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        assert path not in mine
        assert holder.communicate()[0] == "told\n"


@pytest.mark.parametrize("lives", [True, False])
def test_a_number_left_in_a_lock_is_nobodys(tmp_path: Path, lives: bool) -> None:
    """Who holds the lock has not written its number yet: the one that stands there may be another process, or none."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        if not lives:
            other.kill()
            other.wait(5)
        path = tmp_path / "interlock.lock"
        path.write_text(f"{other.pid}\n")
        with path.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert only_one(path, 0.2) == -1
        assert not lives or other.poll() is None
        other.kill()


@pytest.mark.parametrize("seat", ["", "../x", "A", "a" * 33, "a b"])
def test_a_seat_is_a_plain_name(machine: Machine, seat: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        process.main([*machine.argv(), "--seat", seat])
    assert ended.value.code == 2 and "--seat" in capsys.readouterr().err


def test_start_codes_are_read_from_the_seats_folder(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Watched(Loop):
        """The loop, ended at once; says what the process gave it."""

        def run(self) -> int:
            heard.extend([self.start_code(), self.rules_for(self.driver.limits)])
            self._leave("test")
            return 0

    monkeypatch.setattr(process, "Loop", Watched)
    assert process.main(machine.argv()) == 0
    assert "start.code: cannot be read" in heard[0] and heard[1].refusal is None


def test_a_key_revoked_or_a_prescription_replaced_while_it_runs_counts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Watched(Loop):
        """The loop, ended at once; asks for the rules as an arm does, before and after the files change."""

        def run(self) -> int:
            trusted = machine.layout.keys / "trusted.json"
            whole = trusted.read_text()
            heard.append(self.rules_for(self.driver.limits))
            trusted.write_text(whole.replace('"revoked": false', '"revoked": true'))
            heard.append(self.rules_for(self.driver.limits))
            trusted.write_text(whole)
            heard.append(self.rules_for(self.driver.limits))
            write_signed(machine.signed.parent, replace(valid_now(), id="another"), [Signer()], trusted)
            heard.append(self.rules_for(self.driver.limits))
            self._leave("test")
            return 0

    monkeypatch.setattr(process, "Loop", Watched)
    assert process.main(machine.argv()) == 0
    assert [found.refusal is None for found in heard] == [True, False, True, False]
    assert "is revoked" in heard[1].refusal.reason and "has changed" in heard[3].refusal.reason
    assert (machine.layout.seat(SEAT) / "interlock.lock").read_text() == "", "whoever leaves takes its number along"


def test_the_log_of_a_seat_that_cannot_be_read_may_have_armed(tmp_path: Path) -> None:
    assert not process._armed_before(tmp_path / "none")
    assert not process._armed_before(tmp_path)
    (tmp_path / "log").write_bytes(b'{"event":"started"}')
    assert not process._armed_before(tmp_path / "log")
    (tmp_path / "log").write_bytes(b'{"event":"armed"}')
    assert process._armed_before(tmp_path / "log")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not (tmp_path / "loop").is_file()
    assert process._armed_before(tmp_path / ("x" * 300)), "what cannot be looked at cannot be ruled out"


def test_power_is_set_before_any_pulse(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver of a coil is told the signed program when the process starts, and only then its port is the interlock's."""
    program = make_program()
    pulses = replace(make_pulses(program), valid_from_s=int(time.time()) - 10, valid_until_s=int(time.time()) + 1000)
    write_signed(machine.signed.parent, pulses, [Signer()], machine.layout.keys / "trusted.json")
    told: list[Any] = []
    built = simulated.build

    def with_power(settings: Any, path: str) -> Any:
        driver = built(settings, path)
        driver.prescribe = lambda *signed: told.extend(signed)  # type: ignore[attr-defined]
        driver.limits = (*driver.limits, Limit("intensity_percent", 100.0, "%", "device"))
        return driver

    monkeypatch.setattr(simulated, "build", with_power)
    presser = threading.Thread(target=ends_by_sigterm, args=(machine,))
    presser.start()
    assert process.main(machine.argv()) == 0
    presser.join()
    signed, next_pulse_ns = told
    assert signed == program and next_pulse_ns() is None


def test_the_launcher_puts_our_directory_behind_the_standard_librarys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.py", "--path", str(tmp_path), "--path", "/other", "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    with pytest.raises(SystemExit) as ended:
        launch.start()
    assert ended.value.code == 0
    assert sys.path == [*before, str(Path(launch.__file__).parents[1]), str(tmp_path), "/other"]
