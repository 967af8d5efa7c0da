"""A stream whose every sample says where it stands, for the recording tests; run as a program it is a recorder to be killed."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eegloop.layout import Layout
from eegloop.signal import BiomarkerColumn, Biomarkers, Chunk, Quality, StreamInfo
from eegloop.stim import Limit, StimState
from records.tables import DecisionRow


class SystemClock:
    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


def grid_uv(first_sample: int, count: int, n_channels: int) -> NDArray[np.float32]:
    """Sample n of channel c is (n * n_channels + c) / 8 µV, exact in float32 up to n * n_channels = 2**21."""
    numbers = np.arange(first_sample * n_channels, (first_sample + count) * n_channels, dtype=np.float64)
    return (numbers / 8).astype(np.float32).reshape(count, n_channels)


def stream(n_channels: int = 8, rate_hz: float = 250.0) -> StreamInfo:
    names = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "VEOG")
    labels = tuple(names[i] if i < 8 else f"X{i}" for i in range(n_channels))
    return StreamInfo(
        "virtual", "v-1", rate_hz, labels, tuple("eog" if x == "VEOG" else "eeg" for x in labels), 1000.0, "Cz", "eegloop"
    )


COLUMNS = (
    *(BiomarkerColumn(f"band_power.{b}", c, "uV2", 2.0) for b in ("theta", "alpha") for c in ("F3", "F4")),
    BiomarkerColumn("faa", "F3-F4", "1", 2.0),
)


def hop(number: int, end_sample: int, t_s: float) -> Biomarkers:
    """A hop with one invalid value."""
    values = np.array([number, 2.0 * number, 0.1, np.nan, -0.25])
    grades = np.array([0, 0, 1, 2, 0], np.uint8)
    quality = Quality(np.ones(8, bool), ((),) * 8, 0.75, np.zeros(8))
    return Biomarkers(COLUMNS, values, grades, ("", "", "eye blink", "gap", ""), number, end_sample, t_s, quality)


def state(number: int) -> StimState:
    return StimState(
        number * 1_000_000, "armed", "", "s-1", 0.5, 0.1 + number / 7, None if number % 3 else 0.1, number, 0, 10.0, 1.0,
        380, number, 0, "", number, number, "simulated", "measured",
    )  # fmt: skip


def decision(tick: int, t_s: float, end_sample: int) -> DecisionRow:
    return DecisionRow(
        tick, t_s, end_sample, "on", "sense", "lower_only", "dual_threshold",
        {"band_power.alpha@F3": 7.25, "faa@F3-F4": float("nan")},
        1.25, 10.0, False, "alpha above its band", (Limit("amplitude_ma", 1.0, "mA", "prescription"),),
        1.0, 10.0, 12, None, 340, 1.5, 'Alpha is "high" at 7.3 µV²,\tso the current\nrises to 1.0 mA.',
    )  # fmt: skip


def main() -> None:
    """Record for ever in real time into DATA; print, before it is given to the recorder, how many samples were sent."""
    from daemon.record import SessionRecorder
    from daemon.record_writer import RecordWriter

    data, seed = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(seed)
    layout = Layout(data)
    layout.create()
    clock = SystemClock()
    info = stream()
    with RecordWriter() as writer:
        recorder = SessionRecorder(writer, layout, "seat1", "virtual", "rest", info, COLUMNS, 50.0, {}, time.time(), clock)
        t0_s = clock.lsl_s()
        sample = tick = 0
        while True:
            count = chance.randint(1, 10)
            lost = chance.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 12))
            sample += lost
            t_s = t0_s + sample / info.sample_rate_hz
            time.sleep(max(0.0, t_s + count / info.sample_rate_hz - clock.lsl_s()))
            # In one write, so the reader of the pipe never sees half a line.
            sys.stdout.write(json.dumps({"end": sample + count, "t": clock.lsl_s()}) + "\n")
            sys.stdout.flush()
            recorder.chunk(tick, Chunk(grid_uv(sample, count, info.n_channels), sample, t_s, clock.lsl_s(), lost))
            sample += count
            if tick % 4 == 0:
                recorder.biomarkers(hop(tick // 4 + 1, sample, t_s))
            if tick % 5 == 0:
                recorder.stim(tick, state(tick))
            if tick % 17 == 0:
                recorder.decision(decision(tick, t_s, sample))
                recorder.event(tick, t_s, "operator", f"press {tick}", {"tick": tick})
            tick += 1


if __name__ == "__main__":
    main()
