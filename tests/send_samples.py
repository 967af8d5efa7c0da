"""Sends the rows of an .npy file over LSL in 20 ms chunks at real speed: `python send_samples.py FILE NAME RATE_HZ LABELS`.

Prints "ready"; then each line on standard input says up to which row to send (-1 = all); prints "sent" when they are.
Chunks are stamped when they are sent, as most headsets' programs do. It stays after the last row, until it is killed.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pylsl

CHUNK_S = 0.02


def main() -> None:
    file, name, rate_text, labels = sys.argv[1:]
    rows = np.load(file, mmap_mode="r")
    rate_hz = float(rate_text)
    info = pylsl.StreamInfo(name, "EEG", rows.shape[1], rate_hz, "float32", name)
    channels = info.desc().append_child("channels")
    for label in labels.split(","):
        channel = channels.append_child("channel")
        for key, value in (("label", label), ("unit", "microvolts"), ("type", "EEG")):
            channel.append_child_value(key, value)
    outlet = pylsl.StreamOutlet(info)
    print("ready", flush=True)
    row = 0
    for line in sys.stdin:
        stop = int(line) if int(line) >= 0 else len(rows)
        started_s = time.monotonic() - row / rate_hz
        while row < stop:
            now = time.monotonic()
            due = min(stop, int((now - started_s) * rate_hz))
            if due > row:
                outlet.push_chunk(np.ascontiguousarray(rows[row:due], dtype=np.float32))
                row = due
            time.sleep(max(0.0, started_s + (row + CHUNK_S * rate_hz) / rate_hz - time.monotonic()))
        print("sent", flush=True)


if __name__ == "__main__":
    main()
