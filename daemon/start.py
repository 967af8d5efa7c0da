"""From the command line to the running service: what takes longest to get ready is started first."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.processes import NICE_VIEW, Child, python
from eegloop.errors import SetupError, plain, remedy
from eegloop.layout import Layout


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    config: Path
    data: Path
    port: int | None
    browser: bool
    demo: bool


def run(options: Options) -> int:
    """Run the service until a signal; returns the exit code.

    Raises
    ------
    EegloopError
        One line that says what is wrong with the configuration, the data directory or this machine.
    """
    layout = Layout.of(options.data)
    try:
        layout.create()
        sys.setswitchinterval(0.001)  # the writer's thread must not keep the interpreter from the loop for 5 ms at a time
        runner = asyncio.run
        with contextlib.suppress(ImportError):
            import uvloop

            runner = uvloop.run
        with _only_one(layout):
            try:
                return runner(_start(options, layout))
            finally:
                with contextlib.suppress(OSError):
                    layout.run.rmdir()  # nothing of ours is left in it; a simulator that a person started may be
    except OSError as error:
        where = error.filename or layout.data
        raise SetupError(f"{where}: {plain(error)}; {remedy(error)} (--data)") from None


def web_child(layout: Layout) -> Child:
    """The page's process. It imports for a second, then hears its settings (`Child.hand`); without them it ends."""
    argv = python("-m", "daemon.web", "--data", str(layout.data), "--supervised")
    return Child("web", argv, layout.data / "web.out", wants_stdin=True, wants_stdout=True, nice=NICE_VIEW)


async def _start(options: Options, layout: Layout) -> int:
    web = web_child(layout)
    await web.start()  # imports on one core while this process imports on another
    from daemon.service_log import log_to
    from daemon.supervisor import Service
    from eegloop.config import load

    config = load(options.config)
    log_to(layout.data / "eegloop.log")
    return await Service(config, layout, options, web).main()


@contextlib.contextmanager
def _only_one(layout: Layout) -> Iterator[None]:
    """One daemon a data directory."""
    with (layout.data / "daemon.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another eegloop runs on {layout.data}; stop it or choose another --data") from None
        yield
