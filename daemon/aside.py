"""Slow work in a thread of its own: the loop's thread renews every seat's lease meanwhile, and the service's end waits for none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def aside(name: str, work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a thread; what it returns or raises comes out of the future. Cancelled, the thread goes on unheard."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(outcome: Callable[[], None]) -> None:
        if not done.cancelled():
            outcome()

    def run() -> None:
        try:
            outcome = partial(done.set_result, work())
        except Exception as error:  # whatever it is, who waits for it has to hear it
            outcome = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
