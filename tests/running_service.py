"""A real running service for tests: the command as a person starts it, its seats, its page's client, and real senders over LSL."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from control.forms import FORMS
from control.prescription import TrustedKey, demo_prescription, new_key, public_key, sign, trusted_bytes
from daemon.processes import NICE_INTERLOCK, prefer
from eegloop.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0  # until the page answers, on a machine that is busy with other tests
CHUNK_HEADER = np.dtype(
    [
        ("magic", "S4"), ("version", "u1"), ("seat", "u1"), ("n_channels", "<u2"), ("sequence", "<u4"),
        ("n_samples", "<u4"), ("first_sample", "<u8"), ("t0_s", "<f8"),
    ]
)  # fmt: skip


def until(true: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait for a condition with a deadline; what it returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := true():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def seat_config(seat: str, source: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """One entry of `seats`; `parts` replace the defaults (line, biomarkers, controller, person, ...)."""
    return {
        "id": seat,
        "label": f"Seat {seat}",
        "person": seat.replace("-", "").replace("_", ""),
        "prescription": None,
        "source": dict(source),
        "line": {},
        "biomarkers": [{"kind": kind} for kind in ("band_power", "relative_power", "iaf", "faa")],
        "controller": {"kind": "dual_threshold"},
        "stimulator": {"kind": "simulated"},
        "recording": {"enabled": True, "task": "rest", "line_frequency_hz": 50},
        **parts,
    }


def write_config(path: Path, seats: Sequence[Mapping[str, Any]], **sections: Any) -> Path:
    path.write_text(yaml.safe_dump({"version": 1, "seats": list(seats), **sections}, sort_keys=False, allow_unicode=True))
    return path


# The demo's prescription with shorter blocks: a decision within half a minute.
SHORT_BLOCKS = {"baseline_ms": 2_000, "sense_ms": 8_000, "stimulate_ms": 5_000}


def sign_prescriptions(data: Path, seats: Sequence[dict[str, Any]], **changes: Any) -> bytes:
    """Give every seat the demo's prescription with `changes`, signed by a key that this data directory trusts; the key."""
    layout = Layout(data)
    layout.create()
    now_s = time.time()
    key = new_key()
    trusted = TrustedKey(public_key(key).hex(), "demo", "prescriber", "simulated", int(now_s) - 60, int(now_s) + 86_400, False)
    (layout.keys / "trusted.json").write_bytes(trusted_bytes((trusted,)))
    for seat in seats:
        file = data / f"{seat['id']}.json"
        file.write_bytes(sign(replace(demo_prescription(seat["person"], now_s), **changes), [key]))
        seat["prescription"] = str(file)
    return key


class Script:
    """A process of its own beside the service; what it prints is waited for."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name = name
        self.popen = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            start_new_session=True,
        )  # fmt: skip
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._said.put(line.strip())
        self._said.put("")

    def wait(self, word: str, timeout_s: float) -> None:
        """Until a line of it is or ends with `word`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                said = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.name}: did not say {word!r} within {timeout_s:g} s") from None
            assert said, f"{self.name}: ended before it said {word!r}"
            if said.endswith(word):
                return

    def tell(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{line}\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(10)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Player(Script):
    """MNE-LSL's player with recordings, each under a stream name (tests/play_recording.py)."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        super().__init__("player", "tests/play_recording.py", *(f"{file}={name}" for name, file in files.items()))


class Sender(Script):
    """Rows of samples over LSL at real speed, stamped when they are sent (tests/send_samples.py)."""

    def __init__(self, rows_uv: np.ndarray, labels: Sequence[str], rate_hz: float, name: str, folder: Path) -> None:
        file = folder / f"{name}.npy"
        np.save(file, np.ascontiguousarray(rows_uv, dtype=np.float32))
        super().__init__(name, "tests/send_samples.py", str(file), name, str(rate_hz), ",".join(labels))

    def send(self, stop: int | None = None) -> None:
        """Begin, or go on, up to row `stop` (None = all); says "sent" then."""
        self.tell(str(-1 if stop is None else stop))


class Stimulator(Script):
    """A seat's simulated stimulator, started by a person (only the demo starts them itself)."""

    def __init__(self, data: Path, seat: str) -> None:
        super().__init__(f"stimulator {seat}", "-m", "simulators.stimulators.simulated", "--data", str(data), "--seat", seat)
        prefer(self.popen.pid, NICE_INTERLOCK)  # as the demo has it; it stands for a device with a processor of its own


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where one run's files lie."""

    header: Path
    derivatives: Path

    @property
    def stem(self) -> str:
        return self.header.name.removesuffix("_eeg.vhdr")

    def beside(self, suffix: str) -> Path:
        return self.header.with_name(f"{self.stem}_{suffix}")

    def derived(self, suffix: str) -> Path:
        return self.derivatives / f"{self.stem}_{suffix}"

    def samples(self) -> np.ndarray:
        """(n_samples, n_channels) float32 as the bytes of the .eeg say."""
        n_channels = int(next(x for x in self.header.read_text().splitlines() if x.startswith("NumberOfChannels=")).split("=")[1])
        raw = np.fromfile(self.header.with_suffix(".eeg"), "<f4")
        return raw[: len(raw) // n_channels * n_channels].reshape(-1, n_channels)

    def hops(self) -> np.ndarray:
        return np.load(self.derived("biomarkers.npy"), mmap_mode="r")

    def columns(self) -> list[tuple[str, str]]:
        body = json.loads(self.derived("biomarkers.json").read_text())
        return [(c["name"], c["channel"]) for c in body["Hops"]["Columns"]]

    def table(self, suffix: str) -> list[dict[str, str]]:
        path = self.derived(suffix) if self.derived(suffix).exists() else self.beside(suffix)
        lines = path.read_text().splitlines()
        header = lines[0].split("\t")
        return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]


class PageClient:
    """What a page does: sign in, say hello, and collect everything the WebSocket brings, in a thread."""

    def __init__(self, url: str, tokens: Mapping[str, str], answer_challenges: bool = True) -> None:
        self.url = url
        self.tokens = dict(tokens)
        self.states: list[dict[str, Any]] = []
        self.texts: list[dict[str, Any]] = []
        self.chunks: dict[int, list[tuple[int, np.ndarray]]] = {}
        self.seats: list[dict[str, Any]] = []
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._answer_challenges = answer_challenges
        self._stack = contextlib.ExitStack()
        address = url.replace("http", "ws", 1) + "/api/v1/live"
        self._socket = self._stack.enter_context(connect(address, origin=url, max_size=None, close_timeout=0.5))  # type: ignore[arg-type]
        self._socket.send(json.dumps({"type": "hello", "token": tokens["token"]}))
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        # Ended by either side; anything else, a message that is not as it must be among it, is the test's to fail by.
        with contextlib.suppress(ConnectionClosed):
            for message in self._socket:
                if isinstance(message, bytes):
                    head = np.frombuffer(message, CHUNK_HEADER, 1)[0]
                    assert head["magic"] == b"EEGC" and head["version"] == 1
                    data = np.frombuffer(message, "<f4", offset=CHUNK_HEADER.itemsize)
                    data = data.reshape(int(head["n_samples"]), int(head["n_channels"]))
                    self.chunks.setdefault(int(head["seat"]), []).append((int(head["first_sample"]), data))
                    continue
                body = json.loads(message)
                if body["type"] == "state":
                    self.states.append(body)
                elif body["type"] in ("welcome", "seats"):
                    self.seats = body["seats"]
                elif body["type"] == "challenge":
                    if self._answer_challenges:
                        self._socket.send(json.dumps({"type": "supervise", "nonce": body["nonce"]}))
                elif body["type"] in ("stop_result", "command_result"):
                    self.answers.put(body)
                self.texts.append(body)

    @property
    def open(self) -> bool:
        return self._thread.is_alive()

    def ask(self, timeout_s: float = 5.0, **message: Any) -> dict[str, Any]:
        """Send a stop or a command and wait for its result."""
        self._socket.send(json.dumps({"id": "1", **message}))
        return self.answers.get(timeout=timeout_s)

    def fill_in(self, seat: str, form: str, **values: int) -> httpx.Response:
        """Answer a form over HTTP as a page does; what is not named is 0: no, none, not at all."""
        given = [values.get(item.id, 0) for item in FORMS[form].items]
        return httpx.post(
            f"{self.url}/api/v1/seats/{seat}/answers",
            json={"form": form, "values": given},
            headers={"origin": self.url, "authorization": f"Bearer {self.tokens['token']}"},
            timeout=8.0,
        )

    def fill_in_all(self, seat: str, timeout_s: float = 20.0) -> None:
        """Answer whatever is due with nothing to complain of, until nothing is due any more."""

        def answered() -> bool:
            due = self.seat(seat).get("forms", {}).get("due", [])
            if not due:
                return True
            for form in due:
                given = self.fill_in(seat, form)
                assert given.status_code == 200, given.text
            count = len(self.states)
            until(lambda: len(self.states) > count + 1, 5, "the state after the answers")
            return False

        until(answered, timeout_s, "every form is answered")

    def seat(self, name: str) -> dict[str, Any]:
        """The newest state of a seat, {} before the first."""
        for state in self.states[-1:]:
            for seat in state["seats"]:
                if seat["seat"] == name:
                    return dict(seat)
        return {}

    def values(self, seat: str) -> dict[tuple[str, str], list[float | None]]:
        """Every value that was shown for a seat, by biomarker and channel, in order, repetitions left out."""
        found: dict[tuple[str, str], list[float | None]] = {}
        for state in self.states:
            for one in state["seats"]:
                if one["seat"] == seat:
                    for entry in one["biomarkers"]:
                        row = found.setdefault((entry["name"], entry["channel"]), [])
                        if not row or row[-1] != entry["value"]:
                            row.append(entry["value"])
        return found

    def close(self) -> None:
        self._stack.close()
        self._thread.join(2.0)


# For stimulators that are worn: the anchors of ledger and answers in the test's own folder, not in the home of who runs the tests.
STATE_ELSEWHERE = """
import functools, pathlib, runpy, sys
from eegloop import kept, launch
state = pathlib.Path(sys.argv.pop(1))
kept.state_folder = lambda name: state / name
launch.interlock_argv = functools.partial(launch.interlock_argv, state=state)
runpy.run_module("daemon", run_name="__main__", alter_sys=True)
"""


class RunningService:
    """`eegloop run` or `eegloop demo` as a process; ended, with all it started, by `end`."""

    def __init__(
        self,
        command: str,
        config: Path,
        data: Path,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        state: Path | None = None,
    ) -> None:
        self.data = data
        self.layout = Layout(data)
        self.port = port or free_port()
        self.command = command
        self._output = data.with_name(f"{data.name}-{time.monotonic_ns()}.out")
        arguments = [command, "--config", str(config), "--data", str(data), "--port", str(self.port), "--no-browser"]
        with self._output.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *(("-m", "daemon") if state is None else ("-c", STATE_ELSEWHERE, str(state))), *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **(env or {})},
            )  # fmt: skip
        self._family: dict[int, psutil.Process] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def log(self) -> str:
        return (self.data / "eegloop.log").read_text(errors="replace")

    def health(self) -> dict[str, Any]:
        body: dict[str, Any] = httpx.get(f"{self.url}/api/v1/health", timeout=5.0).json()
        return body

    def wait_live(self, timeout_s: float = START_S) -> RunningService:
        """Until it has printed its address (and, for `run`, the sign-in link)."""

        def said() -> bool:
            assert self.popen.poll() is None, f"the service ended with {self.popen.returncode}: {self.output()}"
            return ("Sign in" if self.command == "run" else "eegloop is live") in self.output()

        until(said, timeout_s, "the service says its address")
        self.family()
        return self

    def tokens(self) -> dict[str, str]:
        """Sign in as a person does: the demo's own session, or the one-time link that `run` printed (or a new one)."""
        if self.command == "demo":

            def asked() -> httpx.Response | None:
                answer = httpx.post(f"{self.url}/api/v1/demo/session", headers={"origin": self.url}, timeout=5.0)
                # Before its first headset is connected the service does not know its seats, nor that they are a demo's.
                return answer if answer.status_code == 200 else None

            answer = until(asked, 20, "the demo gives a session")
        else:
            line = subprocess.run(
                [sys.executable, "-m", "daemon", "link", "--data", str(self.data)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=30,
            ).stdout
            secret = line.strip().rpartition("#link=")[2]
            answer = httpx.post(
                f"{self.url}/api/v1/link/redeem", json={"secret": secret}, headers={"origin": self.url}, timeout=5.0
            )
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    def page(self) -> PageClient:
        return PageClient(self.url, self.tokens())

    def audit(self) -> list[dict[str, Any]]:
        try:
            text = (self.layout.audit / "daemon.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def recorded(self, person: str) -> Recorded:
        """The newest run of a person's newest session."""
        headers = sorted(self.layout.recordings.glob(f"sub-{person}/ses-*/eeg/*_eeg.vhdr"))
        assert headers, f"nothing of {person} is recorded"
        header = headers[-1]
        folder = self.layout.recordings / "derivatives" / "eegloop" / header.parent.relative_to(self.layout.recordings)
        return Recorded(header, folder)

    def run_command(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, timeout_s=timeout_s)

    def family(self) -> dict[int, psutil.Process]:
        """Every process it has started so far, by id."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                self._family.setdefault(process.pid, process)
        return self._family

    def child(self, words: str) -> psutil.Process:
        """The one process of the family whose command line holds all of `words`."""
        found = []
        for process in self.family().values():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if all(word in line for word in words.split()):
                    found.append(process)
        assert len(found) == 1, f"{len(found)} processes match {words!r}"
        return found[0]

    def stop(self, name: signal.Signals = signal.SIGTERM, timeout_s: float = 15.0) -> int:
        """End it as a person or an init system does; the exit code."""
        self.family()
        self.popen.send_signal(name)
        return self.popen.wait(timeout_s)

    def kill(self) -> None:
        """kill -9 of the daemon only; what it started is ended by `end`."""
        self.family()
        self.popen.kill()
        self.popen.wait(10)

    def end(self) -> None:
        """Make sure that it and all it started is gone, whatever state it is in."""
        self.family()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(15)
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(10)
        for process in self._family.values():  # psutil compares start times: a reused id is not touched
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(list(self._family.values()), timeout=5)
        shutil.rmtree(self.layout.run, ignore_errors=True)


def check_parity(recorded: Recorded, out: Path, at_least: int = 1) -> dict[str, Any]:
    """Replay a session of ours: every hop and every decision must come out the same, bit for bit.

    One that still runs goes on meanwhile; one that was killed may hold a second more on one side than on the other.
    """
    live, rows = np.array(recorded.hops()), recorded.table("decisions.tsv")
    done = run_command("replay", str(recorded.header), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    replayed = Recorded(recorded.header, Path(summary["folder"]))
    again, rows_again = replayed.hops(), replayed.table("decisions.tsv")
    n = min(len(live), len(again))
    assert n and len(live) - len(again) <= 10, (len(live), len(again))
    for name in live.dtype.names:
        assert live[name][:n].tobytes() == again[name][:n].tobytes(), f"{name} differs"
    n_rows = min(len(rows), len(rows_again))
    assert n_rows >= at_least and len(rows) - len(rows_again) <= 1
    for one, other in zip(rows[:n_rows], rows_again[:n_rows], strict=True):
        # The command's number and the time to the interlock belong to the run that commanded.
        assert {k: v for k, v in one.items() if k not in ("sequence", "latency_ms")} == {
            k: v for k, v in other.items() if k not in ("sequence", "latency_ms")
        }
    return {**summary, "hops_compared": n, "decisions_compared": n_rows}


def run_command(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """A command of eegloop, as a process."""
    return subprocess.run(
        [sys.executable, "-m", "daemon", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@contextlib.contextmanager
def running(command: str, config: Path, data: Path, **options: Any) -> Iterator[RunningService]:
    service = RunningService(command, config, data, **options)
    try:
        yield service.wait_live()
    finally:
        service.end()


def bids_errors(dataset: Path) -> list[dict[str, Any]]:
    """Errors of the real BIDS validator, every row of every table checked; it needs no network."""
    validator = shutil.which("bids-validator-deno", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert validator, "bids-validator-deno is a development dependency: run `make setup`"
    run = subprocess.run(
        [validator, "--format", "json", "--max-rows", "-1", str(dataset)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert issues, "the validator always has a recommendation; none means it did not run"
    return [issue for issue in issues if issue["severity"] == "error"]
