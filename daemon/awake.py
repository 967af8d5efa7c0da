"""Keeps the machine from falling asleep while something is armed: `systemd-inhibit`, started and ended by a thread.

It only helps: a machine that sleeps all the same is a suspend, at which the interlock stops (S3); the interlock itself starts no
programs. When this process ends, however it ends, its pipe closes and the inhibitor with it.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence

INHIBIT = (
    "systemd-inhibit", "--what=sleep:idle:handle-lid-switch", "--mode=block", "--who=eegloop", "--why=stimulation is armed", "cat",
)  # fmt: skip
ENDS_WITHIN_S = 2.0


class Awake:
    """`want` never waits; `said` tells what became of it ("" = nothing yet)."""

    def __init__(self, argv: Sequence[str] = INHIBIT) -> None:
        self._argv = list(argv)
        self._wanted = self._closing = False
        self._changed = threading.Event()
        self.said = ""
        self._thread = threading.Thread(target=self._run, name="sleep inhibitor", daemon=True)
        self._thread.start()

    def want(self, awake: bool) -> None:
        """From now on the machine must stay awake, or may sleep again."""
        if awake != self._wanted:
            self._wanted = awake
            self._changed.set()

    def close(self, timeout_s: float) -> None:
        """Let the machine sleep again, and wait for that at most `timeout_s`."""
        self._wanted, self._closing = False, True
        self._changed.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        holder: subprocess.Popen[bytes] | None = None
        while not self._closing or holder is not None:
            self._changed.wait()
            self._changed.clear()
            if self._wanted and holder is None:
                holder = self._hold()
            elif not self._wanted and holder is not None:
                self._release(holder)
                holder = None

    def _hold(self) -> subprocess.Popen[bytes] | None:
        try:
            holder = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            self.said = f"the machine may fall asleep, which would stop: {self._argv[0]}: {error.strerror}"
            return None
        self.said = "the machine is kept awake"
        return holder

    def _release(self, holder: subprocess.Popen[bytes]) -> None:
        assert holder.stdin is not None
        holder.stdin.close()
        try:
            holder.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait()
        self.said = "the machine may sleep again"
