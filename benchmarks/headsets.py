"""How many headsets one core holds: 8 channels at 250 Hz each, over LSL, through decision and recording, in one process.

    python -m benchmarks.headsets [--headsets 60] [--seconds 20] [--json]

The senders are a process of their own. Interlocks are not counted and not there: every seat observes (decides, delivers nothing).
The figure is CPU time a headset. From 50 headsets on each is looked into once a hop, more do not become cheaper; fewer cost more
each. Other work on a sibling of the core inflates it: it counts on a quiet machine only, where also 100 can run at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
import uvloop

from benchmarks.run import recording
from control.prescription import demo_prescription, sign
from daemon import build
from daemon.asking import Asking
from daemon.audit import AuditTrail
from daemon.clock import MachineClock
from daemon.interlock_link import InterlockLink
from daemon.live import LiveServer
from daemon.loop import Line
from daemon.processes import keep_start
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from daemon.seat import SeatLoop
from drivers.sources.lsl_network import configure
from eegloop.config import Seat, load
from eegloop.layout import Layout
from eegloop.signal import StreamInfo
from eegloop.stim import Authority

CHANNELS = ("Fp1", "Fp2", "F3", "F4", "P3", "P4", "O1", "O2")
RATE_HZ = 250.0
CHUNK = 5
GOAL = 100
RUN = 60  # at once, if nothing else is asked for
# Soon into a long sense block, so that every seat decides once a second all the time it is measured.
LISTENING = {"baseline_ms": 5_000, "stimulate_ms": 5_000, "sense_ms": 600_000}
CONFIG = """
version: 1
seats:
"""
SEAT = """  - {{id: s{n}, label: S{n}, person: p{n}, prescription: {prescription}, source: {{kind: lsl, name: {name}, source_id: {name}, host: {host}}},
     biomarkers: [{{kind: band_power}}, {{kind: relative_power}}, {{kind: iaf}}, {{kind: faa}}],
     controller: {{kind: dual_threshold}}, stimulator: {{kind: simulated}}, recording: {{task: rest}}}}
"""


def send(prefix: str, n_headsets: int) -> None:
    """Outlets of what a head could make, each chunk of 20 ms pushed when it is due; ends with its parent."""
    import pylsl

    outlets = []
    for n in range(n_headsets):
        info = pylsl.StreamInfo(f"{prefix}-{n}", "EEG", len(CHANNELS), RATE_HZ, "float32", f"{prefix}-{n}")
        labels = info.desc().append_child("channels")
        for label in CHANNELS:
            channel = labels.append_child("channel")
            for key, value in (("label", label), ("unit", "microvolts"), ("type", "EEG")):
                channel.append_child_value(key, value)
        outlets.append(pylsl.StreamOutlet(info, chunk_size=CHUNK))
    print("ready", flush=True)
    rows = recording(len(CHANNELS), round(RATE_HZ), 60.0).astype(np.float32)
    started_s, parent, row = time.monotonic(), os.getppid(), 0
    while os.getppid() == parent:
        time.sleep(max(0.0, started_s + (row + CHUNK) / RATE_HZ - time.monotonic()))
        at = row % (len(rows) - CHUNK)
        for outlet in outlets:
            outlet.push_chunk(rows[at : at + CHUNK])
        row += CHUNK


async def hold(folder: Path, prefix: str, n_headsets: int, seconds: float) -> dict[str, float]:
    """Run every seat until all decide, then measure CPU time over `seconds`."""
    layout, clock = Layout(folder), MachineClock()
    layout.create()
    key = build.demo_key(layout, clock.wall_s())
    text = CONFIG
    for n in range(n_headsets):
        prescribed = replace(demo_prescription(f"p{n}", clock.wall_s()), authority=Authority.OBSERVE, **LISTENING)
        file = folder / f"p{n}.json"
        file.write_bytes(sign(prescribed, [key]))
        text += SEAT.format(n=n, prescription=json.dumps(str(file)), name=f"{prefix}-{n}", host=socket.gethostname())
    (folder / "config.yaml").write_text(text)
    config = load(folder / "config.yaml")
    writer, audit = RecordWriter(), AuditTrail(layout.audit / "daemon.jsonl", clock)
    writer.start()
    seats: list[SeatLoop] = []
    async with LiveServer(layout.live_socket) as live:
        for number, seat in enumerate(config.seats):
            seats.append(_seat(number, seat, layout, clock, writer, audit, live))
        tasks = [asyncio.create_task(work()) for seat in seats for work in (seat.acquire, seat.idle)]

        def deciding() -> int:
            return sum(seat.line is not None and seat.line.session.decisions > 0 for seat in seats)

        until_s = time.monotonic() + 60 + 2 * n_headsets
        while deciding() < n_headsets:
            if time.monotonic() > until_s:
                why = [seat.vitals.message or (seat.line.effects.sentence if seat.line else "no line") for seat in seats]
                raise RuntimeError(f"only {deciding()} of {n_headsets} headsets decide; the first says {why[0]!r}")
            await asyncio.sleep(0.2)
        keep_start()  # as the service does once its seats stand
        decided = sum(s.line.session.decisions for s in seats if s.line is not None)
        samples, cpu_s, wall_s = sum(s.vitals.samples for s in seats), time.process_time(), time.monotonic()
        lost = sum(s.vitals.lost_samples for s in seats)
        await asyncio.sleep(seconds)
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        samples = sum(s.vitals.samples for s in seats) - samples
        lost = sum(s.vitals.lost_samples for s in seats) - lost
        decided = sum(s.line.session.decisions for s in seats if s.line is not None) - decided
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for seat_loop in seats:
            seat_loop.close("benchmark over")
        writer.stop(10.0)
        audit.close()
    return {
        "share": cpu_s / wall_s,
        "per_core": n_headsets * wall_s / cpu_s,
        "samples": samples / (n_headsets * wall_s),
        "lost": lost,
        "decisions": decided / (n_headsets * wall_s),
    }


def _seat(
    number: int,
    seat: Seat,
    layout: Layout,
    clock: MachineClock,
    writer: RecordWriter,
    audit: AuditTrail,
    live: LiveServer,
) -> SeatLoop:
    signed = build.prescription(seat, layout, True, clock.wall_s())
    boot_to_lsl_s = clock.lsl_s() - clock.boot_ns() * 1e-9

    def make_line(info: StreamInfo) -> Line:
        return build.line(seat, info, signed, boot_to_lsl_s, clock.lsl_s())

    def make_recorder(info: StreamInfo, line: Line) -> SessionRecorder:
        return build.recorder(seat, layout, writer, audit, info, line, clock, True)

    link = InterlockLink(layout.control_socket(seat.id), clock)
    asking = Asking(seat.id, build.answers(seat, layout, signed, clock, True), (), True, audit, live, clock)
    return SeatLoop(
        seat.id, number, seat.label, True, build.source(seat, clock, None), make_line, make_recorder, link, audit, live, clock,
        asking,
    )  # fmt: skip


def row(n_headsets: int = RUN, seconds: float = 20.0) -> dict[str, str | float | bool | None]:
    """The table's row."""
    sys.setswitchinterval(0.001)  # this and liblsl's tuning as the service has them
    configure("link")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    prefix = f"bench-{secrets.token_hex(4)}"
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.headsets", "--send", prefix, "--headsets", str(n_headsets)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sender.stdout is not None
        sender.stdout.readline()
        with tempfile.TemporaryDirectory() as folder:
            measured = uvloop.run(hold(Path(folder), prefix, n_headsets, seconds))
    finally:
        sender.kill()
        sender.wait()
    return {
        "name": f"headsets a core ({n_headsets} over LSL took {measured['share']:.2f} cores, {measured['samples']:.1f} samples and "
        f"{measured['decisions']:.2f} decisions/s each, {measured['lost']:.0f} lost)",
        "ours": round(measured["per_core"], 1),
        "reference": GOAL,
        "ratio": round(measured["per_core"] / GOAL, 3),
        "goal": 1.0,
        "ok": measured["per_core"] >= GOAL and measured["samples"] >= 0.99 * RATE_HZ and measured["decisions"] >= 0.9,
    }


def rows() -> list[dict[str, str | float | bool | None]]:
    """Every row of this table."""
    return [row()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Headsets that one core holds, over LSL, with decision and recording.")
    parser.add_argument("--headsets", type=int, default=RUN, help="how many at once (default: 60)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long is measured (default: 20)")
    parser.add_argument("--json", action="store_true", help="print the row as JSON")
    parser.add_argument("--send", metavar="PREFIX", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        send(arguments.send, arguments.headsets)
        return 0
    measured = row(arguments.headsets, arguments.seconds)
    print(json.dumps([measured], ensure_ascii=False) if arguments.json else f"{measured['name']}: {measured['ours']}")
    return 0 if measured["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
