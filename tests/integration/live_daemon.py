"""A small daemon for tests of the web process: the real `daemon/live.py`, with generated samples and states instead of a loop.

`python -m tests.integration.live_daemon --data DIR [--seats N] [--real] [--channels N] [--rate HZ]`; prints "ready".
Twice a second it asks for supervision and says, as an event, how long ago a page last gave it.
Accepts "start" (then says phase baseline) and "end"; refuses "rearm".
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from pathlib import Path

import numpy as np

from daemon.live import LiveServer, SeatInfo
from eegloop.layout import Layout
from eegloop.signal import Chunk
from eegloop.stim import LoopState

CHUNK_S = 0.02


def seat_info(index: int, channels: int = 8, rate_hz: float = 250.0) -> SeatInfo:
    names = tuple(f"E{i + 1}" for i in range(channels))
    return SeatInfo(f"seat{index + 1}", index, "Ada Lovelace", names, ("eeg",) * channels, rate_hz)


def loop_state(seat: str, phase: str = "on", demo: bool = True) -> LoopState:
    """A state as contracts.md section 8 describes it, with a person's name in `label` to see where it leaks."""
    return LoopState(
        seat=seat,
        label="Ada Lovelace",
        t_s=time.monotonic(),
        wall_s=time.time(),
        phase=phase,
        block="stimulate",
        phase_reason="",
        phase_left_s=100.0,
        demo=demo,
        stream={
            "status": "live",
            "age_s": 0.01,
            "rate_hz": 250.0,
            "lost_samples": 0,
            "segment": 0,
            "message": "",
            "channels": ["E1"],
        },
        quality=[{"channel": "E1", "good": True, "reasons": [], "line_ratio": 0.1}],
        biomarkers=[
            {
                "name": "band_power.alpha",
                "channel": "E1",
                "value": 12.5,
                "unit": "uV2",
                "grade": "good",
                "reason": "",
                "age_s": 0.05,
            }
        ],
        target={
            "biomarker": "band_power.alpha",
            "channel": "E1",
            "unit": "uV2",
            "value": 12.5,
            "low": 8.0,
            "high": 10.0,
            "grade": "good",
            "age_s": 0.05,
            "history": [[1.0, 12.0], [0.0, None]],
        },
        output={
            "commanded_ma": 1.0,
            "confirmed_ma": 0.99,
            "granted_ma": 1.0,
            "ceiling_ma": 1.0,
            "limit_ma": 2.0,
            "frequency_hz": 10.0,
            "mode": "armed",
            "reason": "",
            "age_s": 0.02,
            "latched": False,
            "zero_confirmed": False,
            "readback": "measured",
            "delivered_mc": 3.0,
            "delivered_s": 60.0,
        },
        decision={
            "sentence": "Alpha above target: less.",
            "age_s": 0.5,
            "proposed_ma": 0.9,
            "granted_ma": 0.9,
            "limits": [],
            "hold": False,
        },
        recording={"status": "ok", "message": "", "seconds": 60.0, "session": "01"},
        alarms=[],
    )


def chunk(number: int, channels: int = 8, rate_hz: float = 250.0) -> Chunk:
    """Chunk `number` of a stream whose sample k of channel c is k + c / 1000: any cut or shift shows."""
    n = round(rate_hz * CHUNK_S)
    first = number * n
    data = (np.arange(first, first + n)[:, None] + np.arange(channels)[None, :] / 1000).astype(np.float32)
    return Chunk(data, first, first / rate_hz, time.monotonic())


async def run(arguments: argparse.Namespace) -> None:
    layout = Layout(arguments.data)
    layout.create()
    seats = [seat_info(i, arguments.channels, arguments.rate) for i in range(arguments.seats)]
    phases = {seat.seat: "on" for seat in seats}
    async with LiveServer(layout.live_socket) as live:
        live.publish_seats(seats, not arguments.real)
        print("ready", flush=True)
        started = time.monotonic()
        for number in itertools.count():
            for seat in seats:
                live.publish_chunk(seat.index, chunk(number, arguments.channels, arguments.rate))
            if number % 12 == 0:
                live.publish_state([loop_state(seat.seat, phases[seat.seat], not arguments.real) for seat in seats])
            if number % 25 == 0:
                live.challenge()
                age_s = live.supervision_age_s
                live.publish_event("event", seats[0].seat, name="supervision", text="never" if age_s is None else f"{age_s:.2f}")
            if number % 50 == 0:
                decision = loop_state("x").decision
                live.publish_event("decision", seats[0].seat, t_s=time.monotonic(), **decision)
                live.publish_event(
                    "event", seats[0].seat, t_s=time.monotonic(), name="marker", text="a marker", person="Ada Lovelace"
                )
                live.publish_event(
                    "alarm", seats[0].seat, id="contact", priority="medium", text="E1 is loose", advice="Press it", age_s=0.0
                )
            while not live.commands.empty():
                command = live.commands.get_nowait()
                if command.name == "rearm":
                    command.answer(False, "not stopped")
                else:
                    phases[command.seat] = "baseline" if command.name == "start" else "ramp_down"
                    command.answer(True, "")
            await asyncio.sleep(max(0.0, started + (number + 1) * CHUNK_S - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seats", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="no demo")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--rate", type=float, default=250.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
