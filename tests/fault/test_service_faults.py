"""The whole service, killed, stopped, starved and ended: the device's own record must show zero within the second, latched.

Each fault is done twice at once, to two services side by side (`make faults` does it twenty times).
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import mne
import pytest
from running_service import PageClient
from service_rig import RunningService, boot_ns, wait_for

TIME_TO_ZERO_MS = 1000.0
STALL = """
import pathlib, sys, time
import daemon.loop
whole_step = daemon.loop.Line.step
flag = pathlib.Path(sys.argv[5]).parent / "stall-now"
def step(line, tick):
    if flag.exists():
        flag.unlink()
        time.sleep(1.5)
    return whole_step(line, tick)
daemon.loop.Line.step = step
"""


def two(folder: Path, stack: ExitStack) -> list[RunningService]:
    """Two services, both stimulating; each can be made to miss a deadline."""
    services = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        services.append(stack.enter_context(RunningService(folder / name, before=STALL)))
    for service in services:
        service.until_stimulating()
    return services


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[RunningService]]:
    """Two services of the test's own, for faults that they do not outlive."""
    with ExitStack() as stack:
        yield two(tmp_path, stack)


@pytest.fixture(scope="module")
def survivors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[RunningService, PageClient]]]:
    """Two services, each with an open page, for faults that they outlive: one after the other, re-armed by a person in between."""
    with ExitStack() as stack:
        found = []
        for service in two(tmp_path_factory.mktemp("survivors"), stack):
            url = f"http://127.0.0.1:{service.port}"
            tokens = httpx.post(f"{url}/api/v1/demo/session", headers={"origin": url}, timeout=5.0).json()
            page = PageClient(url, tokens)
            stack.callback(page.close)
            found.append((service, page))
        yield found


@pytest.fixture
def again(survivors: list[tuple[RunningService, PageClient]]) -> list[RunningService]:
    """Both survivors, stimulating: where a fault has stopped one, a person re-arms it, which starts nothing, and starts it."""

    def pressed(page: PageClient, name: str) -> bool:
        return bool(page.ask(type="command", seat="seat1", name=name)["ok"])

    for service, page in survivors:
        if service.phase() in ("stopped", "fallback"):
            wait_for(lambda p=page: pressed(p, "rearm"), 10, "a person to re-arm it")
            wait_for(lambda s=service: s.phase() == "off", 5, "the session to say off")
            assert service.output_ma() == 0.0, "a re-arm alone starts nothing"
            assert pressed(page, "start")
    for service, _ in survivors:
        service.until_stimulating()
    return [service for service, _ in survivors]


def times_to_zero(services: list[RunningService], fault: Callable[[RunningService], None]) -> list[float]:
    times = []
    for service in services:
        fault_ns = boot_ns()
        fault(service)
        times.append(service.zero_after_ms(fault_ns))
    return times


def stay_zero(services: list[RunningService], seconds: float = 1.5) -> None:
    since_ns = boot_ns()
    wait_for(lambda: boot_ns() > since_ns + seconds * 1e9, seconds + 5, "time to pass")
    for service in services:
        assert not service.nonzero_since(since_ns), "output came back by itself"


def readable(service: RunningService) -> float:
    """Seconds in the recording, read by MNE as it lies there."""
    [header] = service.layout.recordings.glob("sub-*/ses-*/eeg/*_eeg.vhdr")
    raw = mne.io.read_raw_brainvision(header, verbose="error")
    return float(raw.times[-1])


def test_killed_web_process_then_killed_daemon(pair: list[RunningService]) -> None:
    """The page's process dies and comes back while stimulation goes on; then kill -9 of the daemon alone (S3)."""
    killed_ns = boot_ns()
    for service in pair:
        os.kill(service.pid_of("daemon.web"), signal.SIGKILL)
    for service in pair:
        wait_for(lambda s=service: s.phase() in ("ramp_up", "on"), 20, "the page to come back with the session going on")
        assert all(ma > 0.0 for t, ma in service.samples() if t > killed_ns)
    times = times_to_zero(pair, lambda s: os.kill(s.process.pid, signal.SIGKILL))
    assert max(times) <= TIME_TO_ZERO_MS, times
    for service in pair:
        assert service.interlock_mode() == "stopped"  # it leaves 10 s after its daemon
    for service in pair:
        assert readable(service) > 3.0
    stay_zero(pair, 0.5)


def test_frozen_daemon_and_its_return(again: list[RunningService]) -> None:
    """S3: kill -STOP; after -CONT with everything queued nothing starts again, and the session says so."""
    times = times_to_zero(again, lambda s: os.kill(s.process.pid, signal.SIGSTOP))
    assert max(times) <= TIME_TO_ZERO_MS, times
    for service in again:
        os.kill(service.process.pid, signal.SIGCONT)
    for service in again:
        wait_for(lambda s=service: s.phase() == "stopped", 10, "the session to say stopped")
    stay_zero(again)


def test_loop_that_misses_its_deadline(again: list[RunningService]) -> None:
    """S3: the process lives, but one tick of its loop takes 1.5 s."""
    times = times_to_zero(again, lambda s: (s.layout.data.parent / "stall-now").touch())
    assert max(times) <= TIME_TO_ZERO_MS, times
    for service in again:
        wait_for(lambda s=service: s.phase() == "stopped", 10, "the session to say stopped")
    stay_zero(again)


def test_whole_tree_killed_at_once(pair: list[RunningService]) -> None:
    """S3: kill -9 of everything but the device: it ends by its own lease; nobody is left behind."""
    for service in pair:
        device = service.pid_of("simulators.stimulators")
        fault_ns = boot_ns()
        for pid in service.tree():
            if pid != device:
                os.kill(pid, signal.SIGKILL)
        assert service.zero_after_ms(fault_ns) <= TIME_TO_ZERO_MS
        assert readable(service) > 3.0
    for service in pair:
        wait_for(lambda s=service: not s.tree(), 10, "every process to be gone")


def test_killed_interlock(again: list[RunningService]) -> None:
    """The device ends by itself; the daemon says so, starts a new interlock, and stimulation does not come back."""
    times = times_to_zero(again, lambda s: os.kill(s.pid_of("interlock/launch.py"), signal.SIGKILL))
    assert max(times) <= TIME_TO_ZERO_MS, times
    for service in again:
        wait_for(lambda s=service: s.phase() == "stopped", 10, "the session to say stopped")
        wait_for(lambda s=service: s.health()["seats"][0]["interlock"] == "ok", 15, "a new interlock")
    stay_zero(again)


def test_headset_that_dies(again: list[RunningService]) -> None:
    """S4: no samples; held, then to zero within the prescribed 10 s, and only a person starts again. Sensing comes back by itself.

    The last of the survivors' faults: it ends them in order and reads what they recorded.
    """
    for service in again:
        os.kill(service.pid_of("simulators.board"), signal.SIGKILL)
    for service in again:
        wait_for(lambda s=service: s.output_ma() == 0.0, 10 + 2 + 3, "zero after the stream went stale")
        wait_for(lambda s=service: s.phase() == "fallback", 5, "the session to say fallback")
        assert service.health()["seats"][0]["stream"] == "lost"
    with ExitStack() as stack:
        for service in again:
            board = service.demo_board("seat1")
            stack.callback(board.wait, 10)
            stack.callback(board.kill)
        for service in again:
            wait_for(lambda s=service: s.health()["seats"][0]["stream"] == "live", 30, "the headset to be heard again")
        stay_zero(again)
        assert {service.phase() for service in again} == {"fallback"}
    for service in again:
        os.kill(service.process.pid, signal.SIGTERM)
        service.ended_in(10.0)
        [events] = service.layout.recordings.glob("sub-*/ses-*/eeg/*_events.tsv")
        rows = [line.split("\t") for line in events.read_text().splitlines()]
        gaps = [row for row in rows if row[2] == "BAD_gap"]
        assert gaps and float(gaps[0][1]) > 5.0, "the hole must stand in the recording"
        assert any(row[6] == "The headset stopped sending. Check that its light is on." for row in rows)


ENDS = ((signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGHUP,))


def test_ended_in_order(tmp_path: Path) -> None:
    """Ctrl-C, twice, SIGTERM, a closed terminal: zero first, the recording closed, gone within 3 s, no traceback."""
    with ExitStack() as stack:
        services = []
        for number in range(len(ENDS)):
            (tmp_path / str(number)).mkdir()
            services.append(stack.enter_context(RunningService(tmp_path / str(number))))
        for service, numbers in zip(services, ENDS, strict=True):
            service.until_stimulating()
            fault_ns = boot_ns()
            for number in numbers:
                os.kill(service.process.pid, number)
            assert service.ended_in(10.0) <= 3.0
            assert service.zero_after_ms(fault_ns) <= TIME_TO_ZERO_MS
            assert service.process.returncode == 0
            assert "Traceback" not in service.output()
            assert list(service.layout.recordings.glob("derivatives/eegloop/sub-*/ses-*/eeg/*_manifest.json")), "not closed"
            wait_for(lambda s=service: not s.tree(), 3, "every process to be gone")


def test_ended_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C at any moment of the start: gone within 3 s, no traceback, nobody left behind."""
    for number, wait_s in enumerate((0.0, 0.3, 0.7, 1.2, 2.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with RunningService(folder) as service:
            service.until_signals_are_taken_over()
            since_s = time.monotonic()
            wait_for(lambda s=since_s, w=wait_s: time.monotonic() > s + w, 5, "the moment")
            os.kill(service.process.pid, signal.SIGINT)
            assert service.ended_in(10.0) <= 3.0
            assert "Traceback" not in service.output(), service.output()
            wait_for(lambda s=service: not s.tree(), 3, "every process to be gone")


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["kill", "stop", "deadline"])
def test_twenty_times(tmp_path: Path, fault: str) -> None:
    """Time to zero of 20 runs: median and worst, printed."""
    times = []
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        with RunningService(folder, before=STALL if fault == "deadline" else "") as service:
            service.until_stimulating()
            fault_ns = boot_ns()
            if fault == "deadline":
                (service.layout.data.parent / "stall-now").touch()
            else:
                os.kill(service.process.pid, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
            times.append(service.zero_after_ms(fault_ns))
    print(f"\n{fault}: time to zero median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms of {len(times)}")
    assert max(times) <= TIME_TO_ZERO_MS
