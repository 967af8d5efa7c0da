"""How child processes are preferred: by their own session where Linux shares the processors among sessions first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from daemon.processes import prefer

SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def _groups(new_session: bool, nice: int) -> tuple[str, str]:
    """The autogroup line of a child before and after it was given a priority; empty on a kernel without autogroup."""
    child = subprocess.Popen(SLEEP, stdin=subprocess.PIPE, start_new_session=new_session)
    try:
        file = Path(f"/proc/{child.pid}/autogroup")
        before = file.read_text() if file.exists() else ""
        prefer(child.pid, nice)
        given = os.getpriority(os.PRIO_PROCESS, child.pid)
        assert given == nice or (nice < 0 and os.getuid() != 0)
        return before, file.read_text() if file.exists() else ""
    finally:
        child.kill()
        child.communicate()


def test_a_child_in_a_session_of_its_own_takes_its_session_along() -> None:
    before, after = _groups(new_session=True, nice=-7)
    assert not before or after.split()[-1] == ("-7" if os.getuid() == 0 else before.split()[-1])


def test_the_pages_session_is_not_put_behind_other_programs() -> None:
    before, after = _groups(new_session=True, nice=5)
    assert before == after


def test_the_session_of_whoever_started_us_is_left_alone() -> None:
    before, after = _groups(new_session=False, nice=-7)
    assert before == after


def test_a_process_that_is_gone_is_no_error() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    prefer(gone.pid, 3)
