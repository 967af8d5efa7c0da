"""The table of child processes: how each is started, told to end, and in which order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eegloop.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent


def python(*arguments: str) -> list[str]:
    """This interpreter, running one of our own modules."""
    return [sys.executable, *arguments]


# What must not wait for a processor comes first: the judge and its device, then the loop, then what people look at.
NICE_INTERLOCK, NICE_LOOP, NICE_VIEW = -15, -10, 5


YOUNG = 10_000


def keep_start() -> None:
    """Tell the garbage collector, once everything stands, that all there is will stay.

    A full collection over everything imported takes 0.1 s, on a busy machine the whole lease: never again. And it looks for cycles
    among `YOUNG` new objects instead of 700: rows that wait for the recorder are hundreds a second and none of them is garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)


def prefer(pid: int, nice: int) -> None:
    """Set a process's priority where this user may; without the right everything runs alike, and a lease may lapse under load.

    Where Linux shares the processors among sessions first (autogroup), the session's own priority is what counts against
    other programs; it is raised for a session that the process leads, never for the terminal the daemon was started from,
    and never lowered: the page carries STOP.
    """
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    with contextlib.suppress(OSError):
        if nice < 0 and os.getsid(pid) == pid:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")


@dataclass(slots=True)
class Child:
    """One child process in a session of its own, so that a Ctrl-C in the terminal reaches only the daemon.

    `outlives`: it is asked to end, never killed, and goes on by itself if the daemon leaves first (asyncio kills its own children
    when it closes, so this one is not asyncio's). `log_file` gets what it prints on stderr (and on stdout unless `wants_stdout`).
    """

    name: str
    argv: Sequence[str]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    wants_stdin: bool = False
    wants_stdout: bool = False
    nice: int = 0
    outlives: bool = False
    detached: subprocess.Popen[bytes] | None = None
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; raises SetupError if it cannot be started."""
        with self.log_file.open("ab") as errors:
            try:
                if self.outlives:
                    self.detached = subprocess.Popen(  # noqa: ASYNC220 - a fork, milliseconds, before anything runs
                        self.argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, cwd=ROOT, start_new_session=True
                    )
                    prefer(self.detached.pid, self.nice)
                    return
                self.process = await asyncio.create_subprocess_exec(
                    *self.argv,
                    stdin=asyncio.subprocess.PIPE if self.wants_stdin else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE if self.wants_stdout else errors,
                    stderr=errors,
                    cwd=ROOT,
                    env={**os.environ, **self.environment},
                    start_new_session=True,
                )
            except OSError as error:
                raise SetupError(f"cannot start {self.name} ({error})") from None
        prefer(self.process.pid, self.nice)

    async def hand(self, line: bytes) -> None:
        """All it will ever read on standard input; one that has ended meanwhile is noticed by whoever waits for its words."""
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(line)
            await self.process.stdin.drain()
        self.process.stdin.close()

    @property
    def running(self) -> bool:
        if self.detached is not None:
            return self.detached.poll() is None
        return self.process is not None and self.process.returncode is None

    async def line(self, timeout_s: float) -> str:
        """The next line it prints on stdout; raises SetupError on silence or end."""
        assert self.process is not None and self.process.stdout is not None
        try:
            raw = await asyncio.wait_for(self.process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise SetupError(f"{self.name} said nothing within {timeout_s:g} s; see {self.log_file}") from None
        if not raw:
            raise SetupError(f"{self.name} ended at once; see {self.log_file}{self._last_words()}")
        return raw.decode(errors="replace").strip()

    def _last_words(self) -> str:
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return f" ({lines[-1][:300]})" if lines else ""

    def tell(self, number: signal.Signals) -> None:
        child = self.detached or self.process
        if self.running and child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    async def end(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s` (but for one that outlives)."""
        self.tell(signal.SIGTERM)
        if self.detached is not None:
            until_s = time.monotonic() + grace_s
            while self.running and time.monotonic() < until_s:  # noqa: ASYNC110 - a Popen has no event
                await asyncio.sleep(0.01)
            return
        if not self.running or self.process is None:
            return
        try:
            await asyncio.wait_for(self.process.wait(), grace_s)
        except TimeoutError:
            import structlog  # a quarter of a second, which nothing that is only started needs

            structlog.get_logger().warning("killed", process=self.name, pid=self.process.pid)
            self.tell(signal.SIGKILL)
            await self.process.wait()
