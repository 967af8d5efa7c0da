"""Markers of another LSL stream beside the EEG: found, followed and found again in a thread of their own."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from drivers.sources.lsl_inlet import Wanted, find_stream
from eegloop.errors import SourceError
from eegloop.signal import SourceNews

OPEN_S = 5.0
PULL_S = 0.1
OFFSET_EVERY = 50  # pulls
BACK_OFF_S = (1.0, 2.0, 4.0, 8.0)
LONGEST = 1_000  # characters of one marker
QUEUE = 10_000  # markers kept for a reader that does not come


class MarkerStream:
    """Text or number markers of one stream, as news with the time the sender gave them.

    Like the EEG it is never silently replaced: lost, it is looked for under the same name, source_id, type and host.
    """

    def __init__(self, name: str, host: str | None, lsl_s: Callable[[], float]) -> None:
        self._name = name
        self._wanted = Wanted(name=name, host=host)
        self._lsl_s = lsl_s
        self._news: deque[SourceNews] = deque(maxlen=QUEUE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lsl-markers-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does within about a second, and nobody has to wait for it."""
        self._stop.set()

    def take(self) -> list[SourceNews]:
        """Everything since the last call, in order."""
        return [self._news.popleft() for _ in range(len(self._news))]

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        said, tries = "", 0
        while not self._stop.is_set():
            try:
                self._follow()
                said, tries = "", 0
            except (SourceError, RuntimeError) as error:  # pylsl's own are RuntimeErrors; a thread that ends would tell nobody
                if str(error) != said:
                    said = str(error)
                    self._say("warning", f"markers: {said}")
                self._stop.wait(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)])
                tries += 1

    def _say(self, kind: str, text: str) -> None:
        self._news.append(SourceNews(kind, text, self._lsl_s()))

    def _follow(self) -> None:
        """One connection, until it is lost or we are told to stop."""
        import pylsl

        info = find_stream(self._wanted, 5.0, self._stop.is_set)
        inlet: Any = pylsl.StreamInlet(info, max_buflen=60, recover=False)
        try:
            offset_s = self._offset_s(inlet, OPEN_S)
            inlet.open_stream(OPEN_S)
            # From now on only this very stream will do.
            self._wanted = Wanted(info.name(), info.type(), info.source_id(), info.hostname())
            self._say("warning", f"markers come from {self._name!r} on {info.hostname()}")
            pulls = 0
            while not self._stop.is_set():
                samples, stamps_s = inlet.pull_chunk(timeout=PULL_S)
                for values, stamp_s in zip(samples, stamps_s, strict=True):
                    text = ",".join(str(value) for value in values)[:LONGEST]
                    at_s = stamp_s + offset_s if math.isfinite(stamp_s) else self._lsl_s()
                    self._news.append(SourceNews("marker", text, at_s, {"kind": self._name}))
                pulls += 1
                if pulls % OFFSET_EVERY == 0:
                    with contextlib.suppress(pylsl.util.TimeoutError):
                        offset_s = self._offset_s(inlet, 1.0)
        except (pylsl.util.TimeoutError, pylsl.util.LostError):
            if not self._stop.is_set():
                self._say(
                    "warning", f"the marker stream {self._name!r} is gone; it is looked for. Check the program that sends it."
                )
        finally:
            with contextlib.suppress(RuntimeError):
                inlet.close_stream()

    @staticmethod
    def _offset_s(inlet: Any, wait_s: float) -> float:
        return float(inlet.time_correction(wait_s))
