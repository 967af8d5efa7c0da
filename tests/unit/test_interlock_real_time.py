"""Real-time priority: taken only where the kernel leaves others a share, done without wherever it is refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eegloop import real_time
from eegloop.real_time import share_is_bounded
from interlock import __main__ as process


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before_s)


def kernel(folder: Path, runtime: str, period: str = "1000000") -> Path:
    (folder / "sched_rt_runtime_us").write_text(f"{runtime}\n")
    (folder / "sched_rt_period_us").write_text(f"{period}\n")
    return folder


@pytest.mark.parametrize(
    ("runtime", "period", "bounded"),
    [
        ("950000", "1000000", True),
        ("-1", "1000000", False),
        ("1000000", "1000000", False),
        ("999999", "1000000", True),
        ("500000", "1000000", True),
        ("499999", "1000000", False),
        ("0", "1000000", False),
        ("0", "0", False),
        ("95000", "100000", True),
        ("", "1000000", False),
        ("950000", "max", False),
    ],
)
def test_a_share_is_bounded_by_less_than_the_period_and_no_less_than_half(
    tmp_path: Path, runtime: str, period: str, bounded: bool
) -> None:
    assert share_is_bounded(kernel(tmp_path, runtime, period)) is bounded


def test_what_cannot_be_read_is_no_bound(tmp_path: Path) -> None:
    assert not share_is_bounded(tmp_path)
    (kernel(tmp_path, "950000") / "sched_rt_period_us").unlink()
    assert not share_is_bounded(tmp_path)


def test_this_machines_own_settings_are_asked_for() -> None:
    assert Path("/proc/sys/kernel") == real_time.KERNEL
    assert share_is_bounded() == share_is_bounded(real_time.KERNEL)


class Scheduler:
    """Takes the kernel's place: what is asked of it, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bounded: bool, refuses: OSError | None = None) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self.refuses = refuses
        monkeypatch.setattr(process, "share_is_bounded", lambda: bounded)
        monkeypatch.setattr(os, "sched_setscheduler", self.schedule)

    def schedule(self, pid: int, policy: int, priority: os.sched_param) -> None:
        self.asked.append((pid, policy, priority.sched_priority))
        if self.refuses is not None:
            raise self.refuses


@pytest.mark.parametrize("refuses", [None, PermissionError(1, "not permitted"), OSError(22, "invalid"), OSError(38, "not here")])
def test_it_is_asked_for_and_done_without_for_whatever_reason(monkeypatch: pytest.MonkeyPatch, refuses: OSError | None) -> None:
    scheduler = Scheduler(monkeypatch, bounded=True, refuses=refuses)
    process.go_first()
    assert scheduler.asked == [(0, os.SCHED_RR, 1)]
    assert sys.getswitchinterval() == process.SWITCH_S


def test_where_nothing_bounds_its_share_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(monkeypatch, bounded=False)
    process.go_first()
    assert scheduler.asked == []
    assert sys.getswitchinterval() == process.SWITCH_S, "that one needs no right"
