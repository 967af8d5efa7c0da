"""What one seat costs: the whole line with recording over a virtual headset of 8 channels at 250 Hz, without LSL and the interlock.

`headsets` is how many such seats one core holds by processor time (threads included); `tick` is the time from a chunk in hand to
the command ready to send, with everything a hop computes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from control.prescription import demo_prescription
from daemon.clock import MachineClock
from daemon.decisions import decision_row
from daemon.loop import Conditions, Line, Tick
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from dsp.pipeline import Pipeline
from eegloop.layout import Layout
from eegloop.line import LineSettings
from eegloop.plugins import find
from eegloop.signal import Chunk, StreamInfo
from simulators.brain import Brain

KINDS = ("band_power", "relative_power", "iaf", "faa")
SECONDS = 60
CHUNK = 5
Row = dict[str, str | float | bool | None]


def rows() -> list[Row]:
    """Headsets a core and milliseconds a tick."""
    brain = Brain()
    montage = brain.settings.montage
    info = StreamInfo("bench", "bench", 250.0, montage, ("eeg",) * len(montage), 187_500.0)
    settings = LineSettings()
    pipeline = Pipeline(info, settings, [(kind, find("biomarker", kind).Settings()) for kind in KINDS])
    module = find("controller", "dual_threshold")
    signed = replace(demo_prescription("bench", 0.0), authority="observe")
    line = Line(
        info, pipeline, settings.hop_s, module.build(module.Settings()), signed, find("stimulator", "simulated").LIMITS, 0.0, 0.0
    )
    data = brain.advance(SECONDS * 250)
    chunks = [Chunk(data[i : i + CHUNK], i, i / 250, (i + CHUNK) / 250) for i in range(0, len(data), CHUNK)]
    watching = Conditions(recording_ok=True, audit_ok=True, stream="live", demo=True)
    folder = Path(tempfile.mkdtemp(prefix="eegloop-bench-"))
    layout = Layout(folder / "data")
    layout.create()
    times_ms = np.empty(len(chunks))
    try:
        with RecordWriter() as writer:
            recorder = SessionRecorder(
                writer, layout, "bench", "bench", "rest", info, pipeline.columns, 50, {}, time.time(), MachineClock()
            )
            cpu_s = time.process_time()
            for number, chunk in enumerate(chunks, 1):
                started_s = time.perf_counter()
                outcome = line.step(Tick(number, chunk.arrival_s, chunk, (), (), watching))
                times_ms[number - 1] = (time.perf_counter() - started_s) * 1000
                recorder.chunk(number, chunk)
                for row in outcome.rows:
                    recorder.biomarkers(row)
                for decision in outcome.decisions:
                    recorder.decision(decision_row(decision, line, 0, None))
            recorder.close(10.0)
            cpu_s = time.process_time() - cpu_s
    finally:
        shutil.rmtree(layout.run, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    headsets, p99_ms = SECONDS / cpu_s, float(np.percentile(times_ms, 99))
    return [
        {
            "name": "headsets a core, 8 ch 250 Hz: line and recording, by CPU time (no LSL, no interlock)",
            "ours": round(headsets, 1), "reference": None, "ratio": None, "goal": 100, "ok": headsets >= 100,
        },
        {
            "name": "tick: chunk in hand to command ready, p99 ms",
            "ours": round(p99_ms, 3), "reference": None, "ratio": None, "goal": 2, "ok": p99_ms <= 2.0,
        },
    ]  # fmt: skip
