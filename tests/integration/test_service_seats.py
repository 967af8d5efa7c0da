"""What is wrong at one seat stays there: a headset whose stream does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from running_service import Sender, running, seat_config, sign_prescriptions, until, write_config

LABELS = ("Fp1", "F3", "F4", "Cz")


def test_a_headset_that_does_not_fit_leaves_the_other_seat_alone(tmp_path: Path) -> None:
    """64 samples a second under a low pass of 45 Hz: that seat says so and waits; the other one records."""
    data = tmp_path / "data"
    seats = [seat_config(name, {"kind": "lsl", "name": f"fit-{name}", "type": "EEG"}) for name in ("good", "slow")]
    sign_prescriptions(data, seats, authority="observe")
    noise = np.random.default_rng(1).normal(scale=10, size=(30_000, 4)).astype(np.float32)
    senders = [Sender(noise, LABELS, rate, f"fit-{name}", tmp_path) for name, rate in (("good", 250.0), ("slow", 64.0))]
    try:
        for sender in senders:
            sender.wait("ready", 60)
            sender.send()
        with running("run", write_config(tmp_path / "config.yaml", seats), data) as service:
            until(lambda: "does not fit" in service.log(), 40, "the slow seat says what is wrong")
            until(lambda: list(service.layout.recordings.glob("sub-good/*/*/*_eeg.vhdr")), 40, "the good seat records")
            n = len(service.recorded("good").samples())
            until(lambda: len(service.recorded("good").samples()) > n + 250, 20, "it goes on")
            assert "low_pass_hz" in service.log()
            assert service.stop() == 0
            assert "Traceback" not in service.output()
    finally:
        for sender in senders:
            sender.end()
