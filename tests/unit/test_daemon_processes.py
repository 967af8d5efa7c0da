"""How child processes are preferred: by their own session where Linux shares the processors among sessions first; what a start keeps."""

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


def test_what_a_start_has_made_is_kept_and_cycles_after_it_are_still_found() -> None:
    code = (
        "import gc, weakref\n"
        "from daemon.processes import YOUNG, keep_start\n"
        "class Ring: pass\n"
        "keep_start()\n"
        "assert gc.get_freeze_count() > 1000 and gc.isenabled()\n"
        "ring = Ring(); ring.itself = ring; gone = weakref.ref(ring); del ring\n"
        "assert gone() is not None\n"
        "kept = [[] for _ in range(YOUNG + 1000)]\n"
        "assert gone() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
