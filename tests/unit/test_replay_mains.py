"""A replay whose configuration has the other mains says so: every value is suspect for them otherwise, and nobody would know why."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from daemon.replay import replay_recording

CONFIG = Path(__file__).resolve().parents[2] / "config.yaml"


@pytest.mark.parametrize(("mains_hz", "said"), [(60.0, True), (50.0, False), (None, False)])
def test_mains_that_no_notch_takes_out_are_named(tmp_path: Path, mains_hz: float | None, said: bool) -> None:
    rng = np.random.default_rng(1)
    t = np.arange(250 * 12) / 250
    x = 10 * rng.standard_normal((4, len(t))).cumsum(1) * 0.1
    if mains_hz is not None:
        x += 40 * np.sin(2 * np.pi * mains_hz * t)
    path = tmp_path / "r_raw.fif"
    info = mne.create_info(["F3", "F4", "O1", "O2"], 250.0, "eeg")
    mne.io.RawArray(x * 1e-6, info, verbose="error").save(path, verbose="error")
    summary = replay_recording(path, tmp_path / "out", None, None, None, CONFIG, progress=False)
    note = "mains of 60 Hz were found, and line.notch_hz is 50 Hz: set it to 60 in config.yaml (--config)"
    assert (note in summary["text"]) == said
    assert ("mains of" in summary["text"]) == said
