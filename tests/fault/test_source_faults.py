"""A headset that fails in every way, under the whole running service: is the person safe, is nothing made up, does sensing return?

Each fault strikes while output flows. The output's side is judged by the stimulator's own record, the source's side by the
recording. `make faults` prints the table; the part that runs in `make test` is test_service_faults.test_headset_that_dies.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pytest
from service_rig import ROOT, RunningService, boot_ns, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
PRESCRIBED = {
    "baseline_ms": 1_000,
    "sense_ms": 8_000,
    "stimulate_ms": 6_000,
    "stale_ms": 3_000,
    "artifact_ms": 9_000,
    "fallback_ms": 1_000,
}
MARGIN_S = 1.5  # ticks, the page's four states a second, a busy machine
RAMP_S = 4.0  # 0.4 mA at 0.1 mA/s
BY_SILENCE_S = (PRESCRIBED["stale_ms"] + PRESCRIBED["fallback_ms"]) / 1000 + MARGIN_S
BY_ARTIFACT_S = (
    (PRESCRIBED["stimulate_ms"] + PRESCRIBED["artifact_ms"] + PRESCRIBED["fallback_ms"]) / 1000 + 2 * RAMP_S + MARGIN_S
)
INSTRUCTION = "The headset stopped sending. Check that its light is on."
Board = subprocess.Popen[str]


@dataclass(frozen=True)
class Case:
    """One fault.

    `expects`: "silence" (no samples come), "artifact" (they come and cannot be used) or "goes on" (nothing is lost by it,
    and stimulation may go on). `for_s`: how long it lasts. `loses`: samples are missing in the recording.
    """

    name: str
    expects: str
    for_s: float
    faults: str = ""
    undo: str = "clear"  # "clear" the faults, start the board "again", "continue" it, or "" = it ends by itself
    act: str = "tell"  # "tell" the board, or "kill", "pause" it, or "pull" the cable of a Cyton
    start: tuple[str, ...] = ()
    loses: bool = False
    segments: int = 1


CASES = (
    Case("sender killed, started again", "silence", 8.0, act="kill", undo="again", loses=True, segments=2),
    Case("cable of a Cyton pulled, plugged in again", "silence", 8.0, act="pull", undo="again", loses=True, segments=2),
    Case("sender paused 12 s", "silence", 12.0, act="pause", undo="continue", loses=True),
    Case("out of range 8 s", "silence", 8.0, "gone:for_s=8", undo="", loses=True),
    Case("link stalls 8 s, then all at once", "silence", 8.0, "stall:for_s=8", undo=""),
    Case("restarted sender with a new clock", "silence", 8.0, "restart:gap_s=8,clock_s=1", undo="", loses=False, segments=2),
    Case("channel order changed", "silence", 10.0, "channel_order", segments=2),
    Case("channel count changed", "silence", 10.0, "channel_count", segments=2),
    Case("30 % packet loss", "artifact", 25.0, "loss:share=0.3", loses=True),
    Case("values frozen 10 s, again and again", "artifact", 25.0, "freeze:for_s=10,every_s=10.1"),
    Case("NaN on all channels", "artifact", 25.0, "nan"),
    Case("all channels at the rail", "artifact", 25.0, "saturated"),
    Case("clock an hour ahead", "goes on", 12.0, "clock_step:step_s=3600", segments=3),
    Case("clock an hour back", "goes on", 12.0, "clock_step:step_s=-3600", segments=3),
    Case("rate 2 % off", "goes on", 12.0, start=("--fault", "rate:factor=1.02"), undo="", act=""),
    Case("packets twice", "goes on", 12.0, "duplicate:share=0.3"),
    Case("packets out of order", "goes on", 12.0, "disorder:share=0.3"),
    Case("bursts of 0.5 s", "goes on", 12.0, "burst:every_s=0.5"),
)  # fmt: skip


CYTON = {"kind": "brainflow", "board": "CYTON_BOARD", "channels": ["F3", "F4", "C3", "C4", "P7", "P8", "O1", "O2"]}


def cyton(dongle: Path) -> Board:
    """An emulated Cyton on its true wire; `dongle` points to its terminal, as /dev/serial/by-id does. Its cable is pulled by its end."""
    board = subprocess.Popen(
        [sys.executable, "-m", "simulators.cyton"], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert board.stdout is not None
    terminal = board.stdout.readline().strip()
    dongle.unlink(missing_ok=True)
    dongle.symlink_to(terminal)
    return board


@dataclass
class Row:
    """What the table says of one case."""

    case: Case
    safe_s: float
    lost: int
    resumed_s: float


class Session:
    """One service, one headset, one fault."""

    def __init__(self, folder: Path, case: Case, stack: ExitStack) -> None:
        folder.mkdir()
        self.case = case
        self.dongle = folder / "dongle"
        source = {**CYTON, "serial_port": str(self.dongle)} if case.act == "pull" else None
        self.service = stack.enter_context(RunningService(folder, own_boards=True, source=source, **PRESCRIBED))
        self.board = self._start_board(*case.start)
        stack.callback(self._end_board)

    def _start_board(self, *options: str) -> Board:
        return cyton(self.dongle) if self.case.act == "pull" else self.service.board("seat1", *options)

    def _end_board(self) -> None:
        self.board.kill()
        self.board.send_signal(signal.SIGCONT)
        self.board.wait(10)
        for pipe in (self.board.stdin, self.board.stdout):
            if pipe is not None:
                pipe.close()

    def tell(self, faults: str) -> None:
        assert self.board.stdin is not None
        self.board.stdin.write(f"{faults}\n")
        self.board.stdin.flush()

    def strike(self) -> int:
        fault_ns = boot_ns()
        match self.case.act:
            case "kill" | "pull":
                self.board.kill()
                self.board.wait(10)
            case "pause":
                os.kill(self.board.pid, signal.SIGSTOP)
            case "tell":
                self.tell(self.case.faults)
        return fault_ns

    def undo(self) -> None:
        match self.case.undo:
            case "clear":
                self.tell("")
            case "continue":
                os.kill(self.board.pid, signal.SIGCONT)
            case "again":
                self._end_board()
                self.board = self._start_board()

    def hops(self) -> np.ndarray:
        """Every hop of every run so far: t_s, grades, ..."""
        files = sorted(self.service.layout.recordings.glob("derivatives/eegloop/sub-*/ses-*/eeg/*_biomarkers.npy"))
        return np.concatenate([np.load(file, mmap_mode="r") for file in files]) if files else np.empty(0)

    def good_hops(self) -> int:
        hops = self.hops()
        return int((hops["grades"] == 0).any(axis=1).sum()) if len(hops) else 0

    def events(self) -> list[dict[str, str]]:
        rows = []
        for file in sorted(self.service.layout.recordings.glob("sub-*/ses-*/eeg/*_events.tsv")):
            header, *lines = file.read_text().splitlines()
            rows += [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
        return rows


def passed(seconds: float) -> None:
    """Let a fault last as long as it should."""
    until_s = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= until_s, seconds + 5, "time to pass")


def run_case(session: Session) -> Row:
    case, service = session.case, session.service
    fault_ns = session.strike()
    limit_s = {"silence": BY_SILENCE_S, "artifact": BY_ARTIFACT_S, "goes on": 0.0}[case.expects]
    if case.expects != "goes on":
        wait_for(lambda: service.phase() in ("fallback", "stopped"), limit_s + 5.0, f"{case.name}: the session to fall back")
    passed(max(0.0, case.for_s - (boot_ns() - fault_ns) / 1e9))
    good = session.good_hops()
    session.undo()
    undone_ns = boot_ns()
    wait_for(lambda: session.good_hops() > good + 3, 40.0, f"{case.name}: good biomarkers again")
    resumed_s = (boot_ns() - undone_ns) / 1e9
    assert service.health()["seats"][0]["stream"] == "live"
    passed(2.0)
    safe_s = 0.0
    if case.expects != "goes on":
        nonzero_ns = [t for t, ma in service.samples() if ma != 0.0]
        safe_s = max(0.0, (max(nonzero_ns) - fault_ns) / 1e9)
        assert safe_s <= limit_s, f"{case.name}: output until {safe_s:.1f} s after the fault"
        assert service.phase() in ("fallback", "stopped"), "stimulation came back by itself"
    service.process.send_signal(signal.SIGTERM)
    service.ended_in(15.0)
    return Row(case, safe_s, recorded(session), resumed_s)


def recorded(session: Session) -> int:
    """Samples lost, by the recording: explicit gaps, readable files, nothing made up."""
    case = session.case
    events = session.events()
    gaps = [e for e in events if e["trial_type"] == "BAD_gap"]
    lost = sum(int(json.loads(e["data"])["lost_samples"]) for e in gaps)
    kinds = [e["trial_type"] for e in events]
    if case.expects == "silence":
        assert any(e["trial_type"] == "lost" and e["text"] == INSTRUCTION for e in events), kinds
        assert kinds.count("connected") >= 2, kinds
    if case.loses:
        assert lost > 0, f"{case.name}: a hole without a gap in the recording"
    if case.expects == "goes on":
        assert lost <= 2, f"{case.name}: {lost} samples are said to be lost, and none was"
    assert 1 + kinds.count("new_segment") <= case.segments, f"{case.name}: {kinds.count('new_segment')} new segments"
    for header in session.service.layout.recordings.glob("sub-*/ses-*/eeg/*_eeg.vhdr"):
        raw = mne.io.read_raw_brainvision(header, verbose="error")
        bad = sum(
            round(a["duration"] * raw.info["sfreq"]) for a in raw.annotations if a["description"].startswith("Bad Interval")
        )
        missing = int(np.isnan(raw.get_data(picks=[0])).sum())
        assert missing >= bad, "a gap holds samples that nobody sent"
    return lost


def table(rows: list[Row]) -> None:
    print(f"\n{'FAULT of the headset':40}{'expected':>10}{'safe after':>12}{'samples lost':>14}{'sensing back':>14}")
    for row in rows:
        safe = f"{row.safe_s:.1f} s" if row.case.expects != "goes on" else "goes on"
        print(f"FAULT {row.case.name:34}{row.case.expects:>10}{safe:>12}{row.lost:>14}{row.resumed_s:>12.1f} s")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_every_fault(tmp_path: Path, case: Case) -> None:
    with ExitStack() as stack:
        session = Session(tmp_path / "service", case, stack)
        session.service.until_stimulating(60.0)
        table([run_case(session)])
