"""The interlock's own limits for magnetic pulses (reference/safety.md section 2); data and what it means, no state. Never at home.

A train of single pulses must fit the table: frequency and intensity rounded up to the next row and column, never between, times 0.75,
trains at least 5 s apart. What does not fit is refused unless it is, number by number, a protocol on the list.
"""

from __future__ import annotations

from dataclasses import dataclass

from eegloop.stim import Limit, Prescription, PulseProgram
from interlock.effects import SIMULATED, Refusal

# Longest single train, ms, by frequency (mHz) and intensity (% of the motor threshold); ">x" in the source is x here.
INTENSITIES = (90, 100, 110, 120, 130)
LONGEST_MS = {
    1_000: (1_800_000, 1_800_000, 1_800_000, 360_000, 50_000),
    5_000: (10_000, 10_000, 10_000, 10_000, 10_000),
    10_000: (5_000, 5_000, 5_000, 4_200, 2_900),
    20_000: (2_050, 2_050, 1_600, 1_000, 550),
    25_000: (1_280, 1_280, 840, 400, 240),
}
INTERVAL_MS = 5_000
SESSION_PULSES = 3_000


@dataclass(frozen=True, slots=True)
class Protocol:
    """One whitelisted protocol: the program it must equal, and how often a day it may be given."""

    program: PulseProgram
    day_sessions: int
    lockout_ms: int


def _listed(
    threshold: str, percent: int, burst: tuple[int, int], train: tuple[int, int, int, int], day: int, course: int
) -> PulseProgram:
    """`burst` = pulses and mHz inside it; `train` = mHz, pulses, trains, interval ms. All are known for biphasic pulses only."""
    rate_millihz, pulses, trains, interval_ms = train
    session = pulses * trains
    return PulseProgram(
        "",
        threshold,
        percent,
        0,
        *burst,
        rate_millihz,
        pulses,
        trains,
        interval_ms,
        session,
        session * day,
        session * day * 7,
        course,
        "biphasic",
        "normal",
    )


_DAY_MS = 43_200_000
PROTOCOLS = {
    "10hz_26s": Protocol(_listed("rmt", 120, (1, 0), (10_000, 40, 75, 26_000), 1, 108_000), 1, _DAY_MS),
    "10hz_11s": Protocol(_listed("rmt", 120, (1, 0), (10_000, 40, 75, 11_000), 1, 108_000), 1, _DAY_MS),
    "itbs": Protocol(_listed("amt", 80, (3, 50_000), (5_000, 30, 20, 8_000), 1, 21_600), 1, _DAY_MS),
    "three_d": Protocol(_listed("rmt", 120, (3, 50_000), (5_000, 30, 20, 8_000), 1, 21_600), 1, _DAY_MS),
    "ctbs": Protocol(_listed("amt", 80, (3, 50_000), (5_000, 600, 1, 8_000), 1, 21_600), 1, _DAY_MS),
    "ctbs_300": Protocol(_listed("amt", 80, (3, 50_000), (5_000, 300, 1, 8_000), 1, 10_800), 1, _DAY_MS),
    "snt": Protocol(_listed("rmt", 90, (3, 50_000), (5_000, 30, 60, 8_000), 10, 90_000), 10, 3_000_000),
}
_EXACT = (
    "threshold", "intensity_percent", "burst_pulses", "burst_millihz", "train_millihz", "train_pulses", "trains", "interval_ms",
    "session_pulses", "waveform", "current",
)  # fmt: skip
_AT_MOST = ("day_pulses", "week_pulses", "course_pulses")


def longest_train_ms(train_millihz: int, intensity_percent: int) -> int:
    """How long a train may last, ms: three quarters of the table's entry; 0 outside the table."""
    rows = [row for row in LONGEST_MS if train_millihz <= row]
    columns = [i for i, percent in enumerate(INTENSITIES) if intensity_percent <= percent]
    return LONGEST_MS[rows[0]][columns[0]] * 3 // 4 if rows and columns else 0


def train_ms(program: PulseProgram) -> int:
    """How long a whole train of this program lasts, ms, its last period included."""
    return -(-program.train_pulses * 1_000_000 // (program.burst_pulses * program.train_millihz))


def first_pulse_breach(p: Prescription, device: tuple[Limit, ...]) -> Refusal | None:
    """The first field of a pulse prescription that may not be, None if it may be used. Nothing is lowered to fit."""
    program = p.pulses
    if program is None or p.modality != "tms":
        return Refusal("prescription.pulses", None, "a program", "interlock", "pulses and modality 'tms' go together")
    worn = p.device != SIMULATED
    if p.profile != "clinic":
        return Refusal("prescription.profile", p.profile, "clinic", "interlock", "pulses are never given at home")
    if worn and p.device_serial == "*":
        return Refusal("prescription.device_serial", "*", "a serial number", "interlock", "only the simulated one may go unnamed")
    stated = [limit.value for limit in device if limit.field == "intensity_percent" and limit.unit == "%"]
    output_percent = -(-program.motor_threshold_percent * program.intensity_percent // 100)
    if not (stated and all(output_percent <= most for most in stated)):
        return Refusal("prescription.pulses.intensity_percent", output_percent, min(stated, default=0), "device", "of its output")
    return _protocol_breach(p, program, worn) if program.protocol != "table" else _table_breach(p, program, worn)


def _table_breach(p: Prescription, program: PulseProgram, worn: bool) -> Refusal | None:
    longest_ms = longest_train_ms(program.train_millihz, program.intensity_percent)
    upper = [
        ("pulses.burst_pulses", program.burst_pulses, 1),
        ("pulses.train_pulses", train_ms(program), longest_ms),
        ("pulses.session_pulses", program.session_pulses, SESSION_PULSES),
        ("pulses.day_pulses", program.day_pulses, SESSION_PULSES),
        *([("day_sessions", p.day_sessions, 1)] if worn else []),
    ]
    for field, value, limit in upper:
        if not value <= limit:
            reason = (
                f"above the train table: {value} ms" if field.endswith("train_pulses") else "above the interlock's hard limit"
            )
            return Refusal(f"prescription.{field}", value, limit, "interlock", reason)
    if not program.interval_ms >= INTERVAL_MS:
        return Refusal("prescription.pulses.interval_ms", program.interval_ms, INTERVAL_MS, "interlock", "trains are 5 s apart")
    return None


def _protocol_breach(p: Prescription, program: PulseProgram, worn: bool) -> Refusal | None:
    listed = PROTOCOLS.get(program.protocol)
    if listed is None:
        known = ", ".join(("table", *PROTOCOLS))
        return Refusal("prescription.pulses.protocol", program.protocol, known, "interlock", "not on the list")
    for field in (*_EXACT, *_AT_MOST):
        value, limit = getattr(program, field), getattr(listed.program, field)
        if value != limit if field in _EXACT else not value <= limit:
            return Refusal(
                f"prescription.pulses.{field}", value, limit, "interlock", f"is not {program.protocol!r}, number by number"
            )
    if worn and not (p.day_sessions <= listed.day_sessions and p.lockout_ms >= listed.lockout_ms):
        limits = f"{listed.day_sessions} a day, {listed.lockout_ms} ms apart"
        return Refusal("prescription.day_sessions", p.day_sessions, limits, "interlock", f"too often for {program.protocol!r}")
    return None
