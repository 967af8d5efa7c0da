"""The service's log for engineers, `eegloop.log`: nothing that happens to it may happen to the service."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TextIO, cast

import structlog


def log_to(path: Path) -> None:
    """What the service says to engineers goes to this file."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            # The default draws tracebacks with every local: seconds on the loop's thread, and every seat's lease with them.
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _ForgivingFile(path))),
    )


class _ForgivingFile(io.TextIOBase):
    """The service's log: a full disk costs its lines and nothing else (recording and audit trail say so themselves)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", errors="replace")

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()
