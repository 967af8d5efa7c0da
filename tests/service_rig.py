"""A running service for fault tests: `eegloop demo` as a process tree, a short signed prescription, the device's own record."""

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
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from control.prescription import demo_prescription, sign
from daemon.build import demo_key
from daemon.private_file import write_private
from eegloop.layout import Layout

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = struct.Struct("<qd")


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_for(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """The first true answer of `condition`; fails the test after `timeout_s`."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.03)  # oftener, asking for the health costs the service more than its own work
    raise AssertionError(f"not within {timeout_s} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningService:
    """`eegloop demo` with a virtual person whose session stimulates within seconds. Killed, whole tree, at the end."""

    def __init__(
        self,
        folder: Path,
        before: str = "",
        seats: int = 1,
        own_boards: bool = False,
        source: Mapping[str, object] | None = None,
        **prescribed: int,
    ) -> None:
        """`own_boards`: the test brings each seat's headset (`board`), or names its `source`; `prescribed` replaces parts of the
        prescription."""
        self.layout = Layout(folder / "data")
        self.layout.create()
        self.port = free_port()
        self.seats = [f"seat{i + 1}" for i in range(seats)]
        self._log = (folder / "service.out").open("w+")
        self.folder = folder
        body = yaml.safe_load((ROOT / "config.yaml").read_text())
        seat = body["seats"][0]
        body["seats"] = []
        key = demo_key(self.layout, time.time())
        for name in self.seats:
            self.layout.seat(name).mkdir(parents=True, mode=0o700)
            path = self.layout.seat(name) / "short.json"
            parts = {"baseline_ms": 1_000, "stimulate_ms": 600_000, **prescribed}
            short = replace(demo_prescription("virtual", time.time()), **parts)
            write_private(path, sign(short, [key]))
            headset = {**seat["source"], "name": f"board-{self.port}-{name}"}
            if own_boards:  # without a name the demo starts no board
                headset |= {"name": None, "source_id": self.source_id(name)}
            body["seats"].append({**seat, "id": name, "prescription": str(path), "source": source or headset})
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(body))
        start = "import sys; sys.argv[0] = 'eegloop'; from daemon.__main__ import main; main()"
        arguments = [
            "demo",
            "--config",
            str(self.config),
            "--data",
            str(self.layout.data),
            "--port",
            str(self.port),
            "--no-browser",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{start}", *arguments],
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> RunningService:
        return self

    def __exit__(self, *exc: object) -> None:
        for pid in self.tree():
            with_suppressed_kill(pid)
        self.process.wait(10)
        self._log.close()
        shutil.rmtree(self.layout.run, ignore_errors=True)

    def demo_board(self, seat: str) -> subprocess.Popen[bytes]:
        """The headset that the demo itself started for a seat, once more."""
        argv = [sys.executable, "-m", "simulators.board", "--data", str(self.layout.data), "--seat", seat]
        named = ["--name", f"board-{self.port}-{seat}", "--seed", str(self.seats.index(seat) + 1)]
        return subprocess.Popen([*argv, *named], stdout=subprocess.DEVNULL, cwd=ROOT)

    # ---- the headsets of `own_boards`

    def source_id(self, seat: str) -> str:
        return f"own-{self.port}-{seat}"

    def board(self, seat: str, *options: str) -> subprocess.Popen[str]:
        """Start a seat's virtual headset; it takes faults on its standard input."""
        argv = [sys.executable, "-m", "simulators.board", "--data", str(self.layout.data), "--seat", seat, "--listen"]
        named = ["--name", f"board-{self.port}-{seat}", "--source-id", self.source_id(seat)]
        return subprocess.Popen(
            [*argv, *named, *options], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, bufsize=1, cwd=ROOT
        )

    # ---- processes

    def tree(self) -> list[int]:
        """Every process of this service, children in sessions of their own included."""
        mark = str(self.layout.data).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in line.split(b"\0") and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return found

    def pid_of(self, word: str) -> int:
        """The process whose command line holds this word."""
        for pid in self.tree():
            try:
                if word.encode() in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                    return pid
            except OSError:
                continue
        raise AssertionError(f"no process of this service has {word!r} in its command line")

    def until_signals_are_taken_over(self) -> None:
        """The first thing our own code does; before it the interpreter is still starting."""

        def taken() -> bool:
            status = (Path("/proc") / str(self.process.pid) / "status").read_text()
            caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
            return bool(caught >> (signal.SIGTERM - 1) & 1)

        wait_for(taken, 10, "signal handlers")

    def output(self) -> str:
        self._log.flush()
        return (self.folder / "service.out").read_text()

    def ended_in(self, timeout_s: float) -> float:
        """Seconds until the service has ended; fails after `timeout_s`."""
        started_s = time.monotonic()
        self.process.wait(timeout_s)
        return time.monotonic() - started_s

    # ---- what it says

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/health", timeout=2) as answer:
                body: dict[str, Any] = json.load(answer)
                return body
        except OSError:
            return {}

    def phase(self, seat: str = "seat1") -> str:
        return next((str(s["phase"]) for s in self.health().get("seats", []) if s["seat"] == seat), "")

    # ---- what was delivered, from the device's own record

    def samples(self, seat: str = "seat1") -> list[tuple[int, float]]:
        path = self.layout.seat(seat) / "stimulator" / "output.bin"
        if not path.exists():
            return []
        data = path.read_bytes()
        return list(SAMPLE.iter_unpack(data[: len(data) // SAMPLE.size * SAMPLE.size]))

    def output_ma(self, seat: str = "seat1") -> float:
        """The newest sample alone: asked for many times a second."""
        path = self.layout.seat(seat) / "stimulator" / "output.bin"
        n = path.stat().st_size // SAMPLE.size if path.exists() else 0
        if not n:
            return 0.0
        with path.open("rb") as file:
            file.seek((n - 1) * SAMPLE.size)
            return float(SAMPLE.unpack(file.read(SAMPLE.size))[1])

    def until_stimulating(self, timeout_s: float = 60.0, at_least_ma: float = 0.1) -> None:
        def there() -> bool:
            assert self.process.poll() is None, self.output()
            return all(self.output_ma(seat) >= at_least_ma for seat in self.seats)

        wait_for(there, timeout_s, f"output of {at_least_ma} mA on {self.seats}")

    def zero_after_ms(self, fault_ns: int, seat: str = "seat1", timeout_s: float = 3.0) -> float:
        """From the fault to the last nonzero sample in the device's record, ms; fails if output is still on after `timeout_s`."""
        end_ns = fault_ns + round(timeout_s * 1e9)

        def is_zero() -> bool:
            return self.output_ma(seat) == 0.0 or boot_ns() > end_ns

        wait_for(is_zero, timeout_s + 1.0, "zero output in the device's record")
        samples = self.samples(seat)
        assert samples[-1][1] == 0.0, f"{samples[-1][1]} mA still flow {timeout_s} s after the fault"
        last_ns = max((t for t, ma in samples if ma != 0.0), default=fault_ns)
        return max(0.0, (last_ns - fault_ns) / 1e6)

    def nonzero_since(self, t_ns: int, seat: str = "seat1") -> bool:
        return any(ma != 0.0 for t, ma in self.samples(seat) if t > t_ns)

    def interlock_mode(self, seat: str = "seat1") -> str:
        """What the interlock itself says (its daemon must be gone)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(2)
            client.connect(str(self.layout.control_socket(seat)))
            while True:
                packet = json.loads(client.recv(65536))
                if packet.get("type") == "state":
                    return str(packet["mode"])


def with_suppressed_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
