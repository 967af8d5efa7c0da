"""While something is armed the machine is kept awake, and only then; nothing ever waits for it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from daemon.awake import Awake
from tests.interlock_bench import wait_until

# What stands for systemd-inhibit: a file is there for as long as its input is open.
HOLDER = "import os, sys; open(sys.argv[1], 'w').close(); sys.stdin.read(); os.unlink(sys.argv[1])"


def test_it_is_held_while_wanted_and_let_go_after(tmp_path: Path) -> None:
    held = tmp_path / "held"
    awake = Awake([sys.executable, "-c", HOLDER, str(held)])
    for _ in range(2):
        awake.want(True)
        awake.want(True)
        wait_until(held.exists)
        assert awake.said == "the machine is kept awake"
        awake.want(False)
        wait_until(lambda: not held.exists() and awake.said == "the machine may sleep again")
    awake.want(True)
    wait_until(held.exists)
    awake.close(5.0)
    assert not held.exists()


def test_without_an_inhibitor_that_is_said() -> None:
    awake = Awake(["/no/such/program"])
    awake.want(True)
    wait_until(lambda: "may fall asleep" in awake.said)
    awake.want(False)
    awake.close(1.0)
    assert not awake._thread.is_alive()


def test_one_that_does_not_end_is_ended_and_nobody_waits_for_it(tmp_path: Path) -> None:
    there = tmp_path / "there"
    awake = Awake([sys.executable, "-c", f"open({str(there)!r}, 'w'); import time; time.sleep(60)"])
    awake.want(True)
    wait_until(there.exists)
    started_s = time.monotonic()
    awake.want(False)
    assert time.monotonic() - started_s < 0.1
    awake.close(5.0)
    assert not awake._thread.is_alive() and awake.said == "the machine may sleep again"
