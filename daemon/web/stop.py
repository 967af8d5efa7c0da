"""STOP from the page and from MQTT: straight to the interlock's stop socket, never through the daemon."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eegloop.layout import Layout

SEAT = re.compile(r"[a-z0-9_-]{1,32}")
CONNECT_TIMEOUT_S = 0.5
ANSWER_TIMEOUT_S = 1.5  # the interlock itself gives up on the device after 1 s
MAX_LINE_BYTES = 4096
MAX_AT_ONCE = 8
ADVICE = "take the headset off / switch the stimulator off"

logger = logging.getLogger("eegloop.web")


class StopLine:
    """The road to every seat's interlock. Each STOP is a connection of its own; from the ninth at once on, they share one.

    Parameters
    ----------
    layout : Layout
    tell : callable
        `tell(seat, reason)`: also tells the daemon, and must not block. An interlock that is stopped already has nothing to
        change when it is stopped again, but a session that is on its way to stimulation must latch (S2).
    """

    def __init__(self, layout: Layout, tell: Callable[[str, str], None]) -> None:
        self._layout = layout
        self._tell = tell
        self._running: dict[str, list[asyncio.Task[dict[str, Any]]]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)

    async def stop(self, seat: object, reason: str) -> dict[str, Any]:
        """Stop one seat and say what the device confirmed.

        Returns
        -------
        dict
            seat, confirmed (True = the device said zero, False = it did not within 1 s, None = no interlock
            answered), output_ma, after_ms, advice, error, count (STOPs for this seat since the web process started).
        """
        if not isinstance(seat, str) or not SEAT.fullmatch(seat):
            return {**_unknown("no such seat"), "seat": str(seat)[:32], "count": 0}
        self._counts[seat] += 1
        count = self._counts[seat]
        running = self._running[seat]
        if len(running) < MAX_AT_ONCE:
            task = asyncio.create_task(send_stop(self._layout.stop_socket(seat), reason), name=f"stop {seat}")
            running.append(task)
            task.add_done_callback(running.remove)
            self._tell(seat, reason)
        else:
            task = running[-1]
        # A page that goes away must not take its STOP, or another's, with it.
        result = await asyncio.shield(task)
        logger.warning("STOP %s (%d): confirmed=%s %s", seat, count, result["confirmed"], result["error"])
        return {**result, "seat": seat, "count": count}


async def send_stop(path: Path, reason: str) -> dict[str, Any]:
    """One STOP over one stop socket (docs/contracts.md section 3); never raises, answers within 2 s."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE_BYTES)
    except TimeoutError:
        return _unknown("the interlock does not answer")
    except OSError as error:
        return _unknown(f"the interlock cannot be reached ({error.strerror or 'no connection'})")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            # The bytes of the reason leave at once or not at all: connecting is STOP already.
            writer.write(" ".join(reason.split()).encode()[:199] + b"\n")
            while line := await reader.readline():
                answer = json.loads(line)
                if answer.get("type") == "stopped":
                    return _answered(answer)
        return _unknown("the interlock closed without saying what the device did")
    except TimeoutError:
        return _unknown("the interlock took the STOP or hangs: it has not said what the device did")
    except (OSError, ValueError, AttributeError, asyncio.LimitOverrunError):
        return _unknown("the interlock's answer could not be understood")
    finally:
        writer.close()


def _answered(answer: dict[str, Any]) -> dict[str, Any]:
    confirmed = answer.get("confirmed") is True
    return {
        "confirmed": confirmed,
        "output_ma": _number(answer.get("output_ma")),
        "after_ms": _number(answer.get("after_ms")),
        "advice": "" if confirmed else str(answer.get("advice") or ADVICE)[:200],
        "error": "" if confirmed else "the device has not confirmed zero",
    }


def _unknown(error: str) -> dict[str, Any]:
    return {"confirmed": None, "output_ma": None, "after_ms": None, "advice": ADVICE, "error": error}


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
