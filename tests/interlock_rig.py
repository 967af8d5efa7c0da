"""Real interlock and simulated stimulator processes, with a daemon's side of the socket, for tests and the fault campaign."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from daemon.processes import NICE_INTERLOCK, NICE_LOOP, prefer
from eegloop.launch import interlock_argv
from eegloop.layout import Layout
from eegloop.stim import Prescription, StimCommand
from interlock.log import read_head
from tests.interlock_bench import Signer, check_chain, valid_now, write_signed, write_start_code

ROOT = Path(__file__).resolve().parents[1]
SEAT = "seat1"
PATIENCE_S = 5.0
"""How long anything may take that nothing else is said of, s."""
WITHIN_S = 1.0
"""From any fault to the last sample that is not zero, s (S3)."""
SAMPLE = struct.Struct("<qd")


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_for(condition: Callable[[], Any], timeout_s: float = 5.0, what: str = "") -> Any:
    """The first true answer of `condition`; fails the test after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"not within {timeout_s} s: {what or condition}")


class Rig:
    """`with Rig(tmp_path) as rig:` both processes run, the stimulator is connected; all are killed at the end."""

    def __init__(self, folder: Path, *stimulator: str, prescription: Prescription | None = None, start: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.layout = Layout(folder / "data")
        self.layout.create()
        self.folder = folder
        self.state = folder / "state"  # dose ledgers are anchored in the user's home: each test is a user of its own
        self.stimulator_arguments = stimulator
        self.prescription = prescription or valid_now()
        self.signer = Signer()
        self.signed = write_signed(folder, self.prescription, [self.signer], self.layout.keys / "trusted.json")
        self.processes: list[subprocess.Popen[str]] = []
        self.start = start

    def __enter__(self) -> Rig:
        if self.start:
            self.stimulator = self.start_stimulator(*self.stimulator_arguments)
            self.interlock = self.start_interlock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.send_signal(signal.SIGCONT)
            process.wait(5)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.layout.run, ignore_errors=True)

    def spawn(self, argv: list[str], nice: int = NICE_INTERLOCK, **options: Any) -> subprocess.Popen[str]:
        """A process in a session of its own, preferred as the service prefers the judge and its device."""
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True, **options
        )
        prefer(process.pid, nice)
        self.processes.append(process)
        return process

    def start_stimulator(self, *arguments: str) -> subprocess.Popen[str]:
        module = [sys.executable, "-m", "simulators.stimulators.simulated", "--data", str(self.layout.data), "--seat", SEAT]
        process = self.spawn([*module, *arguments])
        assert process.stdout is not None and process.stdout.readline().strip() == str(self.layout.stimulator_socket(SEAT))
        return process

    def interlock_argv(self, **options: Any) -> list[str]:
        return interlock_argv(self.layout.data, SEAT, "virtual", self.signed, **options)

    def start_interlock(self, **options: Any) -> subprocess.Popen[str]:
        process = self.spawn(self.interlock_argv(**options))
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line and json.loads(line)["type"] == "ready", process.stderr.read() if process.stderr else ""
        return process

    def bring_start_code(self) -> None:
        """What the clinic sends before each session at home, on a stimulator that is worn."""
        if self.prescription.profile == "home" and self.prescription.device != "simulated":
            write_start_code(self.layout.seat(SEAT), self.prescription, self.signer.private.private_bytes_raw())

    # ---- what the stimulator itself recorded ----

    def samples(self) -> list[tuple[int, float]]:
        data = (self.layout.seat(SEAT) / "stimulator" / "output.bin").read_bytes()
        return [SAMPLE.unpack_from(data, i) for i in range(0, len(data) - len(data) % SAMPLE.size, SAMPLE.size)]

    def pulses_ns(self) -> list[int]:
        data = (self.layout.seat(SEAT) / "stimulator" / "pulses.bin").read_bytes()
        return [int(t_ns) for (t_ns,) in struct.iter_unpack("<q", data)]

    def last_nonzero_ns(self) -> int:
        return max((t for t, ma in self.samples() if ma != 0.0), default=0)

    def after_s(self, fault_ns: int) -> float:
        """Seconds from the fault to the last nonzero sample in the stimulator's own record; waits until it is at zero."""
        wait_for(lambda: self._at_zero_since(fault_ns), 5.0, "the stimulator's record stays nonzero")
        return max(0.0, (self.last_nonzero_ns() - fault_ns) / 1e9)

    def _at_zero_since(self, fault_ns: int) -> bool:
        samples = self.samples()
        last = max((t for t, ma in samples if ma != 0.0), default=0)
        return samples[-1][0] > max(last, fault_ns) + 250_000_000

    def flows(self) -> bool:
        return self.samples()[-1][1] != 0.0

    # ---- the audit log ----

    def events(self) -> list[dict[str, Any]]:
        path = self.layout.seat(SEAT) / "interlock.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def event_names(self) -> list[str]:
        return [event["event"] for event in self.events()]


class Daemon:
    """The daemon's side of the control socket."""

    def __init__(self, rig: Rig, session: str = "s1") -> None:
        self.rig = rig
        self.session = session
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(rig.layout.control_socket(SEAT)))
        self.socket.settimeout(2.0)
        self.sequence = 0
        self.tick = 0
        self.nonce = ""
        self.state: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []

    def close(self) -> None:
        self.socket.close()

    def command(self, kind: str, **changes: Any) -> StimCommand:
        self.sequence += 1
        self.tick += 1
        now_ns = boot_ns()
        command = StimCommand(kind, self.sequence, self.session, self.nonce, now_ns + 10**9, self.tick, now_ns)
        if kind == "set":
            command = replace(command, block="stimulate", amplitude_ma=1.0)
        if kind == "arm":
            command = replace(command, tick=0, tick_ns=0, halts=self.state.get("halts", 0))
        return replace(command, **changes)

    def send(self, kind: str, **changes: Any) -> None:
        self.socket.send(self.command(kind, **changes).to_json())

    def receive(self) -> dict[str, Any]:
        packet = json.loads(self.socket.recv(65_536))
        if packet["type"] == "state":
            self.state = packet
        else:
            self.answers.append(packet)
        return dict(packet)

    def until(self, condition: Callable[[], Any], timeout_s: float | None = None, heartbeat: bool = True) -> None:
        """Read states, and send a heartbeat every 50 ms, until something holds."""
        timeout_s = PATIENCE_S if timeout_s is None else timeout_s
        until, beat = time.monotonic() + timeout_s, 0.0
        while not condition():
            now = time.monotonic()
            if now > until:
                raise AssertionError(f"not within {timeout_s} s; last state {self.state}, answers {self.answers[-3:]}")
            if heartbeat and now > beat and self.nonce and self.state.get("mode") != "stopped":
                self.send("heartbeat")
                beat = now + 0.05
            self.receive()

    def arm(self, at_first: str = "") -> None:
        """Arm, as the daemon does: again for a while if the disk has not taken the first lines of the logs yet, once for another reason."""
        self.until(lambda: self.state.get("zero_since_ns"), heartbeat=False)
        self.rig.bring_start_code()
        give_up_s = time.monotonic() + 10.0
        while True:
            self.answers.clear()
            self.send("arm")
            number = self.sequence
            self.until(lambda n=number: any(a["type"] == "armed" or a["sequence"] == n for a in self.answers), heartbeat=False)
            answer = self.answers.pop()
            if answer["type"] == "armed":
                break
            excused = bool(at_first) and at_first in answer["reason"]
            assert (excused or answer["field"] == "audit") and time.monotonic() < give_up_s, answer
            at_first = "" if excused else at_first
            asked_s = time.monotonic()
            self.until(lambda a=asked_s: time.monotonic() - a > 1.0, heartbeat=False)
        self.nonce = answer["nonce"]
        self.until(lambda: self.state["mode"] == "armed")

    def run_at(self, amplitude_ma: float, wait_ma: float) -> None:
        """Arm, set, and wait until at least `wait_ma` is confirmed."""
        self.arm()
        self.send("set", amplitude_ma=amplitude_ma)
        self.until(lambda: (self.state["confirmed_ma"] or 0.0) >= wait_ma)

    def stopped(self, because: str, timeout_s: float = 3.0) -> None:
        self.until(lambda: self.state.get("mode") == "stopped", timeout_s)
        assert because in self.state["reason"], self.state["reason"]

    def refuses_everything(self) -> None:
        """Latched: nothing but an arm gets through."""
        for kind in ("heartbeat", "set", "end", "fallback"):
            n = len(self.answers)
            self.send(kind)
            self.until(lambda n=n: len(self.answers) > n, heartbeat=False)  # type: ignore[misc]
            assert self.answers[-1]["type"] == "refused" and self.answers[-1]["field"] == "mode"


class DaemonProcess:
    """A daemon in a process of its own that heartbeats at 20 Hz, so that it can be killed, stopped and continued."""

    def __init__(self, rig: Rig, amplitude_ma: float = 1.0, wait_ma: float = 0.03, session: str = "s1") -> None:
        rig.bring_start_code()
        arguments = f"{str(rig.folder)!r}, {amplitude_ma}, {wait_ma}, {session!r}"
        code = f"from tests.interlock_rig import daemon_main; daemon_main({arguments})"
        self.process = rig.spawn([sys.executable, "-c", code], NICE_LOOP, stdin=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "running\n", (line, self.process.stderr.read() if self.process.stderr else "")
        self.pid = self.process.pid

    def signal(self, number: int) -> int:
        """Send it; returns the boot time of the fault."""
        now_ns = boot_ns()
        os.kill(self.pid, number)
        return now_ns

    def miss_deadlines(self) -> int:
        """From now on the process lives and talks, but its tick stands still."""
        assert self.process.stdin is not None
        now_ns = boot_ns()
        self.process.stdin.write("miss\n")
        self.process.stdin.flush()
        return now_ns

    def finish(self) -> dict[str, Any]:
        """Ask for the last state it received and let it end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("finish\n")
        self.process.stdin.flush()
        report = dict(json.loads(self.process.stdout.readline()))
        self.process.wait(5)
        return report


def daemon_main(folder: str, amplitude_ma: float, wait_ma: float, session: str) -> None:
    """The body of `DaemonProcess`."""
    import select

    rig = Rig.__new__(Rig)
    rig.layout = Layout(Path(folder) / "data")
    rig.prescription = valid_now()  # the code of a home session has been brought
    daemon = Daemon(rig, session)
    daemon.run_at(amplitude_ma, wait_ma)
    print("running", flush=True)
    missing, next_s = False, time.monotonic()
    while True:
        readable, _, _ = select.select([daemon.socket, sys.stdin], [], [], max(0.0, next_s - time.monotonic()))
        if daemon.socket in readable:
            daemon.receive()
        if sys.stdin in readable:
            word = sys.stdin.readline().strip()
            if word != "miss":
                print(json.dumps({"state": daemon.state, "answers": daemon.answers[-2:]}), flush=True)
                return
            missing = True
        if time.monotonic() >= next_s:
            next_s += 0.05
            if missing:
                daemon.tick -= 1
            elif daemon.state["mode"] == "armed":
                daemon.send("set", amplitude_ma=amplitude_ma)


def log_is_whole(rig: Rig) -> None:
    """Nothing is missing from the audit log, and no byte is another."""
    path = rig.layout.seat(SEAT) / "interlock.log"
    head = read_head(path.with_name("interlock.log.head"))  # first: the interlock may be writing
    assert check_chain(path.read_bytes(), head) == ""


def latched(rig: Rig, because: str) -> None:
    """A new daemon finds it stopped for this reason; only an arm gets through."""
    daemon = Daemon(rig, "s2")
    daemon.until(lambda: daemon.state)
    assert daemon.state["mode"] == "stopped" and because in daemon.state["reason"], daemon.state["reason"]
    assert daemon.state["granted_ma"] == daemon.state["commanded_ma"] == 0.0
    daemon.refuses_everything()
    assert not rig.flows()
    daemon.close()


def refused_to_arm(rig: Rig, field: str) -> None:
    """A daemon that asks to arm is told no: the field, its value, the limit and who set it."""
    daemon = Daemon(rig)
    daemon.until(lambda: daemon.state.get("zero_since_ns"))
    daemon.send("arm")
    daemon.until(lambda: daemon.answers)
    refused = daemon.answers[0]
    assert refused["type"] == "refused" and refused["field"] == field, daemon.answers
    assert None not in (refused["value"], refused["limit"]) and refused["set_by"] and refused["reason"], refused
    assert daemon.state["mode"] == "stopped"
    daemon.close()
