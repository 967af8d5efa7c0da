"""Serves recordings over LSL with MNE-LSL's player, round and round, until it is killed: `python play_recording.py FILE=NAME ...`."""

from __future__ import annotations

import sys
import time

from mne_lsl.player import PlayerLSL

CHUNK_SAMPLES = 5


def main() -> None:
    players = []
    for argument in sys.argv[1:]:
        file, _, name = argument.rpartition("=")
        players.append(PlayerLSL(file, chunk_size=CHUNK_SAMPLES, name=name, source_id=name, annotations=False).start())
    print("ready", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
