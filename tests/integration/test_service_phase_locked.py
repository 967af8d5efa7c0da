"""A phase-locked trigger, all the way: a virtual brain whose alpha phase is known, the real line, interlock and stimulator's record.

The phase at each pulse is read from the brain's own hidden state at the time the stimulator recorded, not from any estimate.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running_service import ROOT, Stimulator, running, seat_config, sign_prescriptions, until, write_config

from daemon.clock import MachineClock
from daemon.processes import NICE_INTERLOCK, prefer
from eegloop.stim import PulseProgram

SEAT = "one"
PHASE_DEG = 180
PULSES = 16  # the mean of eight is off by 45 degrees now and then by chance alone
# Single pulses at most every two seconds; by the interlock's own table (rounded up to 1 Hz, 110 %).
PROGRAM = PulseProgram(
    protocol="table", threshold="rmt", intensity_percent=90, motor_threshold_percent=50, burst_pulses=1, burst_millihz=0,
    train_millihz=500, train_pulses=100, trains=2, interval_ms=5_000, session_pulses=PULSES, day_pulses=PULSES,
    week_pulses=1_000, course_pulses=1_000, waveform="biphasic", current="normal",
)  # fmt: skip
SETTINGS = {
    "biomarker": "relative_power.alpha", "channel": "O1", "phase_channel": "O1", "unit": "milli", "low_milli": 1, "high_milli": 999,
    "phase_deg": PHASE_DEG, "lead_ms": 80, "interval_ms": 2_100, "amplitude_nv": 8_000, "snr_millidb": 3_000, "sd_deg": 35,
    "jitter_deg": 90, "refractory_ms": 20_000,
}  # fmt: skip
RULES = {
    "modality": "tms", "amplitude_ua": 0, "start_ua": 0, "authority": "lower_only", "controller": "phase_locked", "baseline_ms": 1_000,
    "pulses": PROGRAM, "session_uc": 1,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(300)
def test_pulses_are_fired_at_the_signed_phase(tmp_path: Path) -> None:
    """Within the signed count and spacing, each as it was foretold (tests/unit/test_line_phase_locked.py: the same in virtual time)."""
    data, truth = tmp_path / "data", tmp_path / "truth.npz"
    seat = seat_config(
        SEAT, {"kind": "lsl", "name": "locked-one", "type": "EEG"}, controller={"kind": "phase_locked"},
        biomarkers=[{"kind": "relative_power"}, {"kind": "phase", "channels": ["O1"]}],
    )  # fmt: skip
    sign_prescriptions(data, [seat], settings=SETTINGS, **RULES)
    board = subprocess.Popen(
        [sys.executable, "-m", "simulators.board", "--seat", SEAT, "--data", str(data), "--name", "locked-one",
         "--eyes", "closed", "--set", "alpha_spread_hz=0.2", "--set", "coil=Fp1",  "--truth", str(truth)],
        cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    prefer(board.pid, NICE_INTERLOCK)  # it stands for a headset, which waits for nobody's processor
    stimulator = Stimulator(data, SEAT)
    record = data / "seats" / SEAT / "stimulator" / "pulses.bin"
    try:
        with running("run", write_config(tmp_path / "config.yaml", [seat]), data) as service:
            page = service.page()
            until(lambda: page.seat(SEAT).get("phase") == "stopped", 30, "a headset")
            until(lambda: press(page, "rearm") or page.seat(SEAT)["phase"] == "off", 20, "re-armed")
            until(lambda: press(page, "start") or page.seat(SEAT)["phase"] == "screen", 5, "started")
            until(lambda: page.seat(SEAT)["forms"]["due"], 5, "the forms")
            page.fill_in_all(SEAT)
            until(lambda: page.seat(SEAT)["phase"] == "on", 60, "listening, armed")
            until(lambda: page.seat(SEAT)["phase"] == "post", 150, "as many pulses as signed, then its end")
            said = page.seat(SEAT)
            page.close()
            assert service.stop() == 0
            recorded = service.recorded(SEAT)
        board.send_signal(signal.SIGTERM)
        board.wait(10)
    finally:
        stimulator.end()
        if board.poll() is None:
            board.kill()
            board.wait(10)
    pulses_ns = np.fromfile(record, "<i8") if record.exists() else np.array([], "<i8")
    assert "As many pulses as signed" in said["phase_reason"]
    outcomes = [
        row["value"] if "value" in row else row["text"] for row in recorded.table("events.tsv") if row["trial_type"] == "pulse"
    ]
    assert len(outcomes) == PULSES, "each that was asked for is told of"
    assert 0 < len(pulses_ns) <= PULSES and np.diff(pulses_ns).min(initial=10**12) >= 2_000_000_000, (
        "as many and as far apart as signed"
    )
    phases = true_phases_deg(pulses_ns, truth)
    mean = np.exp(1j * np.radians(phases - PHASE_DEG)).mean()
    print(
        f"\nPHASE-LOCKED {len(pulses_ns)} of {PULSES} fired: {np.degrees(np.angle(mean)):+.0f} degrees off, resultant {abs(mean):.2f}"
    )
    assert abs(np.degrees(np.angle(mean))) < 45 and abs(mean) > 0.6, phases


def press(page: object, name: str) -> bool:
    return bool(page.ask(type="command", seat=SEAT, name=name)["ok"])  # type: ignore[attr-defined]


def true_phases_deg(pulses_ns: np.ndarray, truth: Path) -> np.ndarray:
    """Alpha's own phase at O1's region when each pulse was given: that of the sample before, and its advance since."""
    clock = MachineClock()
    boot_to_lsl_s = clock.lsl_s() - clock.boot_ns() * 1e-9
    hidden = np.load(truth)
    rate_hz = float(hidden["sample_rate_hz"])
    region = int(np.argmax(hidden["alpha_nam"].mean(axis=0)))
    phase_rad = hidden["alpha_phase_rad"][:, region]
    at = (pulses_ns * 1e-9 + boot_to_lsl_s - float(hidden["start_lsl_s"])) * rate_hz - int(hidden["first_sample"])
    before = np.floor(at).astype(int) - 2  # a pulse turns the phase from its own sample on
    step_rad = np.angle(np.exp(1j * (phase_rad[before] - phase_rad[before - 5]))) / 5
    return np.degrees(phase_rad[before] + step_rad * (at - before))
