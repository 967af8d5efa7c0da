"""What the stimulator tests share: a driver and an emulator on one wire in virtual time, real processes, frame vectors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from eegloop.errors import DeviceError
from eegloop.stim import DeviceReport
from simulators.stimulators.wire import MS, EmulatedDevice, Wire

ROOT = Path(__file__).resolve().parents[1]
START_NS = 10**12


class VirtualLine:
    """A `serial_line.Line` whose other end is an emulator; its clock moves when the test says."""

    def __init__(self, device: EmulatedDevice, fault: str = "", fault_after_s: float = 0.0) -> None:
        self.wire = Wire(device, fault, round(fault_after_s * 1e9))
        self.device = device
        self.now_ns = START_NS
        self.is_open = False
        self.record: list[dict[str, Any]] = []
        self.mangle: Callable[[bytes], bytes] = lambda data: data
        self.cut_after_bytes = -1  # host bytes after which the cable is pulled, -1 = never
        self._arrived = bytearray()

    def clock(self) -> int:
        return self.now_ns

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        self._turn()

    def _turn(self) -> None:
        self._arrived += self.wire.turn(self.now_ns)
        self.record += self.device.events
        self.device.events = []
        if self.wire.unplugged:
            self.is_open = False

    def open(self) -> None:
        if self.wire.unplugged:
            raise DeviceError("nothing-here: no such port")
        self.is_open = True
        self._arrived.clear()
        self.device.host(True, self.now_ns)

    def fileno(self) -> int:
        return 7 if self.is_open else -1

    def read(self) -> bytes | None:
        self._turn()
        if not self.is_open:
            return None
        data, self._arrived = bytes(self._arrived), bytearray()
        return self.mangle(data)

    def write(self, data: bytes) -> bool:
        if self.is_open and 0 <= self.cut_after_bytes < len(data):
            self.wire.host_sent(data[: self.cut_after_bytes], self.now_ns)
            self.now_ns += len(data) * self.device.byte_ns
            self._turn()
            self.wire.unplugged, self.is_open = True, False
            self.device.host(False, self.now_ns)
        elif self.is_open:
            self.cut_after_bytes -= len(data) if self.cut_after_bytes >= 0 else 0
            self.wire.host_sent(data, self.now_ns)
        return self.is_open

    def unsent(self) -> int:
        """As a pseudo-terminal: the system takes all at once and tells nothing of what is still on the wire."""
        return 0

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._turn()
            self.device.host(False, self.now_ns)

    def pulses(self) -> list[dict[str, Any]]:
        return [event for event in self.record if event["what"] == "pulse"]


def run(driver: Any, line: VirtualLine, seconds: float, each: Callable[[], None] | None = None, step_ms: int = 5) -> None:
    """Poll the driver every `step_ms` of virtual time; `each` before every poll."""
    for _ in range(round(seconds * 1000 / step_ms)):
        line.advance(step_ms * MS)
        if each is not None:
            each()
        driver.poll()


def until(
    driver: Any, line: VirtualLine, what: Callable[[], bool], within_s: float, each: Callable[[], None] | None = None
) -> float:
    """Virtual seconds until `what` holds; fails after `within_s`."""
    started_ns = line.now_ns
    while not what():
        assert line.now_ns - started_ns <= within_s * 1e9, f"not within {within_s} s"
        run(driver, line, 0.005, each)
    return (line.now_ns - started_ns) / 1e9


def through_faults(
    driver: Any, line: VirtualLine, seconds: float, step_ms: int, each: Callable[[int], None], may_lie: bool = False
) -> set[str]:
    """Run a driver with a fault on the line; `each(turn)` before every poll. Returns the names of all faults it told.

    It must never say off while the emulator is on (`may_lie`: but where the emulator itself lies about it).
    """
    named: set[str] = set()
    for turn in range(round(seconds * 1000 / step_ms)):
        line.advance(step_ms * MS)
        each(turn)
        report = driver.poll()
        named.add(report.fault.partition(":")[0])
        assert may_lie or not (report.output_ma == 0.0 and line.device.output_on)
    return named


def pull_cable(
    driver: Any, line: VirtualLine, after_bytes: int, seconds: float, step_ms: int, each: Callable[[int], None]
) -> int:
    """Pull the cable after so many bytes of the host; the driver must say that it is unplugged and nothing else. When, ns."""
    line.cut_after_bytes = after_bytes
    driver.connect()
    for turn in range(round(seconds * 1000 / step_ms)):
        line.advance(step_ms * MS)
        each(turn)
        if not driver.poll().connected:
            break
    gone_ns = line.now_ns
    report = driver.poll()
    assert not report.connected and report.output_ma is None and report.fault.startswith("unplugged")
    driver.zero()
    return gone_ns


def fuzz(
    data: st.DataObject,
    driver: Any,
    line: VirtualLine,
    actions: dict[str, Callable[[], object]],
    each: Callable[[str], object] = lambda action: None,
    off: Callable[[DeviceReport], bool] = lambda report: report.output_ma == 0.0,
) -> None:
    """Any bytes on the way to a driver while it is used at random: bytes inserted, put before, lost, halves arriving late.

    Never a crash, never "off" while the emulator is on; `each(action)` before every poll. At the end it is closed.
    """
    noise = iter(data.draw(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=14)), max_size=60)))

    def mangle(arrived: bytes) -> bytes:
        kind, extra = next(noise, (0, b""))
        return (arrived, arrived + extra, extra + arrived[1:], arrived[:-1])[kind]

    driver.connect()
    line.mangle = mangle
    for action in data.draw(st.lists(st.sampled_from([*actions, "arm", "zero", "wait", "poll"]), max_size=40)):
        with suppress(DeviceError):
            if action == "wait":
                line.advance(data.draw(st.integers(1, 2500)) * MS)
            elif action in actions:
                actions[action]()
            elif action != "poll":
                getattr(driver, action)()
        for _ in range(4):
            line.advance(7 * MS)
            each(action)
            assert not (off(driver.poll()) and line.device.output_on)
    driver.close()


def talk(device: EmulatedDevice, data: bytes, wait_ms: int = 100, at_ns: int = START_NS) -> bytes:
    """What an emulator answers to these bytes."""
    wire = Wire(device)
    wire.host_sent(data, at_ns)
    return wire.turn(at_ns + wait_ms * MS)


def frames(text: str) -> list[tuple[str, bytes]]:
    """("H" or "D", bytes) of each line `H> 51 40 6E   comment`."""
    found = []
    for line in text.strip().splitlines():
        match = re.match(r"([HD])> ((?:[0-9A-F]{2}(?: |$))+)", line.strip())
        assert match, line
        found.append((match[1], bytes.fromhex(match[2])))
    return found


def client(package: str, script: str, path: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Run a script with a public client, unmodified, in its own environment; returns the JSON of its last line.

    The clients live apart (some are GPL): EEGLOOP_CLIENTS names their Python, else .venv-clients in the repository.
    """
    python = os.environ.get("EEGLOOP_CLIENTS") or str(ROOT / ".venv-clients" / "bin" / "python")
    found = Path(python).exists() and subprocess.run([python, "-c", f"import {package}"], capture_output=True, timeout=60)
    if not found or found.returncode:
        pytest.skip(
            f"{package} is not installed in {python}: `make clients` brings it, or name a Python that has it in EEGLOOP_CLIENTS"
        )
    done = subprocess.run([python, "-c", script, path], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{package}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


class Emulator:
    """A real emulator process: its terminal and its record."""

    def __init__(self, process: subprocess.Popen[str], path: str, record: Path) -> None:
        self.process, self.path, self._record = process, path, record

    def record(self, what: str = "") -> list[dict[str, Any]]:
        lines = self._record.read_text().splitlines()
        return [event for event in map(json.loads, lines) if not what or event["what"] == what]

    def wait(self, found: Callable[[], bool], within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while not found():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.005)


@contextmanager
def emulator(folder: Path, kind: str, *arguments: str) -> Iterator[Emulator]:
    """`python -m simulators.stimulators.KIND` with a record, ended at the end."""
    record = folder / f"{kind}-{os.urandom(4).hex()}.jsonl"
    command = [sys.executable, "-m", f"simulators.stimulators.{kind}", "--record", str(record), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            path = process.stdout.readline().strip()
            assert path.startswith("/dev/pts/"), path
            yield Emulator(process, path, record)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def poll_until(driver: Any, what: Callable[[], bool], within_s: float = 10.0, each: Callable[[], None] | None = None) -> None:
    """Poll a driver on a real terminal until `what` holds."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        if each is not None:
            each()
        driver.poll()
        time.sleep(0.002)
