"""The virtual headset as a process of its own over real LSL: header, samples, the current that comes back, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pylsl
import pytest

from eegloop.layout import Layout
from simulators.brain import DEFAULT_MONTAGE, Brain, BrainSettings

ROOT = Path(__file__).resolve().parents[2]


def command(data: Path, name: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "simulators.board", "--seat", "s1", "--data", str(data), "--name", name, *options]


@contextmanager
def board(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running board and its stream's name; killed at the end if it still lives."""
    name = f"board-{uuid.uuid4().hex[:8]}"
    process = subprocess.Popen(
        command(data, name, *options), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line == f"LSL stream {name} ready\n", process.stderr.read()
        yield process, name
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def inlet(name: str) -> pylsl.StreamInlet:
    found = pylsl.resolve_byprop("name", name, timeout=10)
    assert len(found) == 1
    opened = pylsl.StreamInlet(found[0], max_buflen=60)
    opened.open_stream(timeout=10)
    return opened


def pull(stream: pylsl.StreamInlet, enough: Callable[[np.ndarray], bool], seconds: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Samples and time stamps until `enough(samples)`, which must come true within `seconds`."""
    rows: list[list[float]] = []
    stamps: list[float] = []
    until_s = time.monotonic() + seconds
    while not (rows and enough(np.array(rows, dtype=np.float32))):
        assert time.monotonic() < until_s, f"only {len(rows)} samples, and not what was waited for"
        chunk, times = stream.pull_chunk(timeout=0.2, max_samples=512)
        rows += chunk
        stamps += times
    return np.array(rows, dtype=np.float32), np.array(stamps)


def eventually(what: Callable[[], bool], seconds: float) -> float:
    """Seconds until `what()` is true; fails after `seconds`."""
    begin_s = time.monotonic()
    while not what():
        assert time.monotonic() - begin_s < seconds, "did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - begin_s


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_header_samples_and_a_clean_end(tmp_path: Path) -> None:
    with board(tmp_path, "--seed", "77", "--patient", "responder", "--truth", str(tmp_path / "truth.npz")) as (process, name):
        stream = inlet(name)
        info = stream.info(timeout=10)
        assert (info.type(), info.nominal_srate(), info.channel_count()) == ("EEG", 250.0, 8)
        assert info.channel_format() == pylsl.cf_float32 and info.source_id()
        channel = info.desc().child("channels").child("channel")
        labels, units = [], []
        while not channel.empty():
            labels.append(channel.child_value("label"))
            units.append(channel.child_value("unit"))
            assert channel.child_value("type") == "EEG"
            channel = channel.next_sibling("channel")
        assert labels == list(DEFAULT_MONTAGE) and set(units) == {"microvolts"}
        assert info.desc().child("reference").child_value("label") == "A1A2"
        assert info.desc().child("acquisition").child_value("manufacturer") == "eegloop"

        samples, stamps = pull(stream, lambda rows: len(rows) >= 500)
        assert np.ptp(np.diff(stamps)) < 1e-6 and np.diff(stamps).mean() == pytest.approx(0.004)
        assert abs(pylsl.local_clock() - stamps[-1]) < 1.0
        process.terminate()
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None and process.stderr.read() == ""
        stream.close_stream()
    assert not Layout(tmp_path).field_socket("s1").exists()

    expected = Brain(BrainSettings(seed=77)).advance(5000)
    (start,) = np.flatnonzero((expected == samples[0]).all(axis=1))
    np.testing.assert_array_equal(samples, expected[start : start + len(samples)])
    with np.load(tmp_path / "truth.npz") as truth:
        np.testing.assert_array_equal(truth["samples_uv"], expected[: len(truth["samples_uv"])])
        assert truth["start_lsl_s"] + start / 250 == pytest.approx(stamps[0], abs=1e-3)
        assert truth["alpha_phase_rad"].shape == (len(truth["samples_uv"]), len(truth["regions"]))


def test_the_stimulators_current_reaches_the_brain_and_stops_when_it_is_silent(tmp_path: Path) -> None:
    with (
        board(tmp_path, "--seed", "3", "--set", "polarization_s=0.05") as (_, name),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire,
    ):
        stream = inlet(name)
        wire.connect(str(Layout(tmp_path).field_socket("s1")))
        wire.send(b"not json")
        wire.send(b'{"boot_ns": 1}')
        wire.send(b'{"boot_ns": 9000000000000000000, "amplitude_ma": 0, "frequency_hz": 0, "phase_rad": 0}')
        wire.send(b'{"boot_ns": 1, "amplitude_ma": NaN, "frequency_hz": 0, "phase_rad": 0}')
        before, _ = pull(stream, lambda rows: len(rows) >= 100)
        assert np.abs(before).max() < 20_000

        def report(amplitude_ma: float, frequency_hz: float) -> None:
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            phase_rad = (2 * np.pi * frequency_hz * (now_ns % 1_000_000_000_000) * 1e-9) % (2 * np.pi)
            wire.send(
                json.dumps(
                    {
                        "boot_ns": now_ns,
                        "amplitude_ma": amplitude_ma,
                        "frequency_hz": frequency_hz,
                        "phase_rad": phase_rad,
                        "pulses": [],
                    }
                ).encode()
            )

        def direct(rows: np.ndarray) -> bool:
            report(0.5, 0.0)
            return len(rows) >= 250 and bool(rows[-1, 2] > 60_000)

        during, _ = pull(stream, direct)
        assert during[-1, 3] < -60_000, "the cathode's side goes the other way"
        # silent: within half a second (and the delivery) the current counts as gone
        pull(stream, lambda rows: bool(np.abs(rows[-50:]).max() < 20_000) and len(rows) >= 50, seconds=5)

        def alternating(rows: np.ndarray) -> bool:
            report(0.2, 10.0)
            return len(rows) >= 750

        swinging, _ = pull(stream, alternating)
        f3 = swinging[-500:, 2].astype(float)
        spectrum = np.abs(np.fft.rfft((f3 - f3.mean()) * np.hanning(500)))
        assert spectrum.argmax() == 20, "10 Hz"
        assert spectrum[20] > 100 * spectrum[25:].max(), "one sine without jumps between the stimulator's reports"
        stream.close_stream()


def test_a_pulse_is_felt_once(tmp_path: Path) -> None:
    with board(tmp_path) as (_, name), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        stream = inlet(name)
        wire.connect(str(Layout(tmp_path).field_socket("s1")))
        pull(stream, lambda rows: len(rows) >= 50)
        pulse_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

        def repeated(rows: np.ndarray) -> bool:
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            wire.send(
                json.dumps(
                    {"boot_ns": now_ns, "amplitude_ma": 0.0, "frequency_hz": 0.0, "phase_rad": 0.0, "pulses": [pulse_ns]}
                ).encode()
            )
            return len(rows) >= 200

        samples, _ = pull(stream, repeated)
        railed = np.flatnonzero(samples[:, 2] == np.float32(187_500.0))
        assert 1 <= len(railed) <= 3 and np.ptp(railed) == len(railed) - 1
        stream.close_stream()


def test_every_signal_ends_it_without_a_word_within_half_a_second(tmp_path: Path) -> None:
    took_s = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with board(tmp_path) as (process, _):
            begin_s = time.monotonic()
            process.send_signal(number)
            process.send_signal(number)
            assert process.wait(timeout=10) == 0
            took_s.append(time.monotonic() - begin_s)
            assert process.stderr is not None and process.stderr.read() == ""
        assert not Layout(tmp_path).field_socket("s1").exists()
    assert min(took_s) < 0.5, f"the best of three, as this machine may be busy: {took_s}"


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """`kill -9` of the starter leaves nothing behind."""
    script = (
        "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid, flush=True); p.wait()"
    )
    name = f"board-{uuid.uuid4().hex[:8]}"
    with subprocess.Popen(
        [sys.executable, "-c", script, *command(tmp_path, name)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            assert alive(pid)
            parent.kill()
            parent.wait()
            eventually(lambda: not alive(pid), 3.0)
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
    assert not Layout(tmp_path).field_socket("s1").exists()


def test_a_restart_is_a_new_outlet_with_a_new_clock(tmp_path: Path) -> None:
    with board(tmp_path, "--fault", "restart:at_s=2,gap_s=0.3,clock_s=50", "--fault", "channel_order:at_s=2.3") as (_, name):
        stream = inlet(name)
        uid = stream.info(timeout=10).uid()
        eventually(lambda: any(found.uid() != uid for found in pylsl.resolve_byprop("name", name, timeout=0.5)), 15)
        stream.close_stream()
        again = inlet(name)
        assert again.info(timeout=10).desc().child("channels").child("channel").child_value("label") == "O2"
        _, stamps = pull(again, lambda rows: len(rows) >= 50)
        assert 50 <= stamps[0] < 70
        again.close_stream()


def test_a_second_board_for_the_seat_is_refused_and_a_dead_ones_socket_replaced(tmp_path: Path) -> None:
    with board(tmp_path) as (process, name):
        second = subprocess.run(command(tmp_path, name), cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert second.returncode == 2 and "another virtual headset" in second.stderr and second.stderr.count("\n") == 1
        process.kill()
        process.wait()
        assert Layout(tmp_path).field_socket("s1").exists()
        with board(tmp_path):
            pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--patient", "respondr"], "did you mean 'responder'"),
        (["--channels", "Fp1,Q7"], "Q7"),
        (["--fault", "los"], "did you mean 'loss'"),
        (["--set", "alfa=1"], "alfa"),
        (["--set", "alfa"], "KEY=VALUE"),
        (["--seat", "../x"], "--seat"),
    ],
)
def test_a_wrong_option_gets_one_clear_line(tmp_path: Path, options: list[str], says: str) -> None:
    wrong = subprocess.run(command(tmp_path, "x", *options), cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert wrong.returncode == 2 and says in wrong.stderr and wrong.stderr.count("\n") == 1
