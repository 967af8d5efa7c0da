"""How child processes are preferred: by their own session where Linux shares the processors among sessions first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from daemon.processes import prefer

SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def _groups(new_session: bool) -> tuple[str, str]:
    """The autogroup line of a child before and after it was given priority 7; empty on a kernel without autogroup."""
    child = subprocess.Popen(SLEEP, stdin=subprocess.PIPE, start_new_session=new_session)
    try:
        file = Path(f"/proc/{child.pid}/autogroup")
        before = file.read_text() if file.exists() else ""
        prefer(child.pid, 7)
        assert int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[16]) == 7
        return before, file.read_text() if file.exists() else ""
    finally:
        child.kill()
        child.communicate()


def test_a_child_in_a_session_of_its_own_takes_its_session_along() -> None:
    before, after = _groups(new_session=True)
    assert not before or after.split()[-1] == "7"


def test_the_session_of_whoever_started_us_is_left_alone() -> None:
    before, after = _groups(new_session=False)
    assert before == after


def test_a_process_that_is_gone_is_no_error() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    prefer(gone.pid, 3)
