"""Mains of another frequency than the one that is filtered out are named, not only refused."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.view import wrong_mains
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Chunk, StreamInfo

RATE_HZ = 250.0


@pytest.mark.parametrize(
    ("mains_hz", "notch_hz", "named"),
    [(60, 50, "60 Hz, but 50 Hz"), (50, 60, "50 Hz, but 60 Hz"), (60, 60, ""), (60, None, ""), (0, 50, "")],
)
def test_the_other_mains_are_named_with_what_to_do(mains_hz: int, notch_hz: int | None, named: str) -> None:
    n = round(15 * RATE_HZ)
    mains = 30.0 * np.sin(2 * np.pi * mains_hz * np.arange(n) / RATE_HZ)
    data = (5.0 * np.random.default_rng(1).standard_normal((n, 2)) + mains[:, np.newaxis]).astype(np.float32)
    info = StreamInfo("mains", "mains", RATE_HZ, ("C3", "C4"), ("eeg",) * 2, full_scale_uv=187_500.0)
    rows = Pipeline(info, LineSettings(notch_hz=notch_hz), []).push(Chunk(data, 0, 0.0, 0.0, 0, 0))
    alarms = wrong_mains(rows[-1].quality.mains_hz, notch_hz)
    assert [a["id"] for a in alarms] == ["mains"] * bool(named)
    for alarm in alarms:
        assert named in alarm["text"] and alarm["priority"] == "technical" and f"notch_hz: {mains_hz}" in alarm["advice"]
