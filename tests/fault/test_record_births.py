"""kill -9 at every step of a run's birth: the dataset stays valid and the next session begins beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eegloop.signal import Chunk
from records import append, bids
from records.recording import Recording, RecordingPlan
from tests.record_stream import COLUMNS, grid_uv, stream


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs, no clean-up either."""


def _errors(dataset: Path) -> list[str]:
    validator = shutil.which("bids-validator-deno", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert validator, "bids-validator-deno is a development dependency: run `make setup`"
    run = subprocess.run([validator, "--format", "json", str(dataset)], capture_output=True, text=True, timeout=60)
    return [i["code"] for i in json.loads(run.stdout)["issues"]["issues"] if i["severity"] == "error"]


@pytest.mark.faults
def test_killed_at_every_write_of_a_runs_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = append.write_all
    step, survived = 0, False
    while not survived:
        root = tmp_path / str(step)
        bids.write_dataset(root, "a")
        left = step

        def write(fd: int, data: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            real(fd, data)

        with monkeypatch.context() as patch:
            patch.setattr(append, "write_all", write)
            try:
                plan = RecordingPlan(
                    root, bids.Entities("a", bids.take_session(root, "a"), "rest"), stream(), COLUMNS, 50.0, {}, {}
                )
                recording = Recording(plan, 0.0, 1.7e9)
                recording.chunk(0, Chunk(grid_uv(0, 5, 8), 0, 0.0, 0.0), None)
                recording.flush()
                survived = True
            except Killed:
                pass
        assert _errors(root) == [], f"killed at write {step}"
        assert bids.take_session(root, "a") == "02"
        step += 1
    assert step > 10
