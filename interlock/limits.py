"""The interlock's own hard limits, per modality and profile (reference/safety.md section 1); data, not logic.

A plug-in never extends this table: a new modality or device kind is refused until it stands here.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from eegloop.stim import Authority, Limit, Prescription, PulseProgram
from interlock.effects import SIMULATED, Refusal, plain
from interlock.pulses import first_pulse_breach


@dataclass(frozen=True, slots=True)
class Hard:
    """What nobody may sign away.

    Attributes
    ----------
    amplitude_ua : int
        Peak of the absolute waveform, µA.
    density_ua_per_dm2 : int
        Peak current over pad area, µA per dm² (0.08 mA/cm² = 8,000 µA/dm²), so that it stays a whole number.
    pad_mm2 : int
        Smallest pad, mm².
    frequency_low_millihz, frequency_high_millihz : int
        Closed range, mHz; 0 and 0 = direct current only.
    day_sessions, week_sessions, lockout_ms : int
        Not held against the device `simulated`, which no person wears.
    """

    amplitude_ua: int
    density_ua_per_dm2: int
    pad_mm2: int
    session_ms: int
    session_uc: int
    ramp_ua_per_s: int
    fallback_ms: int
    frequency_low_millihz: int
    frequency_high_millihz: int
    day_sessions: int
    week_sessions: int
    lockout_ms: int


_TDCS = Hard(2_000, 8_000, 2_500, 1_800_000, 3_600_000, 100, 5_000, 0, 0, 1, 5, 43_200_000)
_TACS_HOME = Hard(1_000, 8_000, 2_500, 1_800_000, 3_600_000, 100, 5_000, 500, 45_000, 1, 5, 43_200_000)
_TACS_CLINIC = Hard(2_000, 8_000, 2_500, 1_800_000, 3_600_000, 100, 5_000, 500, 45_000, 1, 5, 43_200_000)

HARD: dict[tuple[str, str], Hard] = {
    ("tdcs", "home"): _TDCS,
    ("tdcs", "clinic"): _TDCS,
    ("tacs", "home"): _TACS_HOME,
    ("tacs", "clinic"): _TACS_CLINIC,
}


def device_amplitude_ma(limits: tuple[Limit, ...]) -> float:
    """The device's own greatest peak amplitude, mA; a device that states none may give nothing."""
    stated = [limit.value for limit in limits if limit.field == "amplitude_ma" and limit.unit == "mA"]
    return min(stated) if stated and all(value >= 0.0 for value in stated) else 0.0


def first_breach(p: Prescription, device: tuple[Limit, ...]) -> Refusal | None:
    """The first field of a prescription that is above a hard limit or the device's, None if it may be used.

    Nothing is lowered to fit: a prescription that asks for more than a limit is refused whole.
    """
    if p.device in EMULATOR_ONLY:
        return Refusal("prescription.device", p.device, "a covered stimulator", "interlock", EMULATOR_ONLY[p.device])
    if p.modality == "tms" or p.pulses is not None:
        return first_pulse_breach(p, device)
    hard = HARD.get((p.modality, p.profile))
    if hard is None:
        return Refusal(
            "prescription.modality",
            p.modality,
            "tdcs, tacs, tms",
            "interlock",
            f"no hard limits are known for {p.modality!r} at {p.profile!r}",
        )
    worn = p.device != SIMULATED
    upper: list[tuple[str, float, float]] = [
        ("amplitude_ua", p.amplitude_ua, hard.amplitude_ua),
        ("start_ua", p.start_ua, hard.amplitude_ua),
        ("session_ms", p.session_ms, hard.session_ms),
        ("session_uc", p.session_uc, hard.session_uc),
        ("ramp_ua_per_s", p.ramp_ua_per_s, hard.ramp_ua_per_s),
        ("fallback_ms", p.fallback_ms, hard.fallback_ms),
        ("frequency_millihz", p.frequency_millihz, hard.frequency_high_millihz),
    ]
    if worn:
        upper += [("day_sessions", p.day_sessions, hard.day_sessions), ("week_sessions", p.week_sessions, hard.week_sessions)]
    for field, value, limit in upper:
        if not 0 <= value <= limit:
            return Refusal(f"prescription.{field}", value, limit, "interlock", "above the interlock's hard limit")
    lower: list[tuple[str, float, float]] = [
        ("frequency_millihz", p.frequency_millihz, hard.frequency_low_millihz),
        ("pad_mm2", p.pad_mm2, hard.pad_mm2),
    ]
    if worn:
        lower.append(("lockout_ms", p.lockout_ms, hard.lockout_ms))
    for field, value, limit in lower:
        if not value >= limit:
            return Refusal(f"prescription.{field}", value, limit, "interlock", "below the interlock's hard limit")
    if not p.amplitude_ua * 10_000 <= hard.density_ua_per_dm2 * p.pad_mm2:
        reason = f"over pads of {p.pad_mm2} mm² this is above the interlock's greatest current density"
        return Refusal(
            "prescription.amplitude_ua", p.amplitude_ua, hard.density_ua_per_dm2 * p.pad_mm2 // 10_000, "interlock", reason
        )
    own_ma = device_amplitude_ma(device)
    if not p.amplitude_ma <= own_ma:
        return Refusal(
            "prescription.amplitude_ua", p.amplitude_ua, round(own_ma * 1000), "device", f"above what {p.device!r} may give"
        )
    gives = p.authority != Authority.OBSERVE  # who only observes gives nothing
    alone_ms = ALONE_MS.get(p.device, math.inf)  # of a kind that is not known here nobody has shown that it ends
    if worn and gives and not alone_ms <= MOST_ALONE_MS:
        reason = f"current from {p.device!r} may go on for longer than this with nobody in charge of it"
        return Refusal("prescription.device", plain(alone_ms), MOST_ALONE_MS, "interlock", reason)
    if worn and p.device_serial == "*":
        return Refusal(
            "prescription.device_serial", "*", "a serial number", "interlock", "only the simulated stimulator may go unnamed"
        )
    if worn and p.authority == Authority.WITHIN_BOUNDS and p.profile == "home":
        return Refusal(
            "prescription.authority", p.authority, Authority.LOWER_ONLY, "interlock", "at home the loop may only lower"
        )
    return None


# Stimulator kinds this judge knows (drivers/stimulators/<kind>.py), and how long what their drivers send goes on with host,
# interlock or cable gone, ms: on a person, current only from those that end within MOST_ALONE_MS. Armed coils fire nothing alone.
ALONE_MS = {
    SIMULATED: 400.0, "mqtt": 400.0, "pulse_pal": 410.0, "magstim": 1_010.0, "magventure": math.inf, "lsl_markers": math.inf,
}  # fmt: skip
MOST_ALONE_MS = 1_000.0
# Kinds it watches and stops and never arms, under no authority: not covered by the safety case. Why, and what to do.
EMULATOR_ONLY = {
    "p24": "no hard limits are known for a P24's pulses (steps of 0.5 mA), so it runs on its emulator only; prescribe another device",
    "open_lifu": "no limits for ultrasound are known here, so open-LIFU runs on its emulator only; prescribe another device",
}
KINDS = (*ALONE_MS, *EMULATOR_ONLY)  # any other is refused at the start


@dataclass(frozen=True, slots=True)
class Rules:
    """A prescription as the judge's numbers; with none, everything is zero and `refusal` says why.

    Attributes
    ----------
    refusal : Refusal or None
        Why nothing may be given at all, None = armable.
    amplitude : tuple of Limit
        Fixed limits on the peak amplitude, mA: prescription, device, interlock.
    ceiling_ma : float
        What the authority allows before anything was set: nothing (observe), the start (lower_only), the signed amplitude.
    serial : str
        The stimulator's serial number as signed, "*" = any.
    course : str
        Which prescription: the beginning of the SHA-256 of its bytes.
    worn : bool
        A person wears it: sessions under any prescription count towards its day, week and lockout.
    start_code : bool
        Each new session needs the clinic's single-use start code: at home, on a stimulator that is worn.
    amplitude_ma : float
        The lowest of `amplitude`, mA.
    """

    refusal: Refusal | None
    amplitude: tuple[Limit, ...]
    ceiling_ma: float
    lower_only: bool
    frequency_hz: float
    ramp_ma_per_s: float
    fallback_s: float
    session_ms: int
    session_uc: int
    serial: str
    valid_from_s: int
    valid_until_s: int
    course: str
    worn: bool
    start_code: bool
    day_sessions: int
    week_sessions: int
    course_sessions: int
    lockout_ms: int
    pulses: PulseProgram | None
    amplitude_ma: float


def rules(p: Prescription | None, unsigned: Refusal | None, device: tuple[Limit, ...]) -> Rules:
    """The judge's numbers for a verified prescription and a device's own limits."""
    device_ma = Limit("amplitude_ma", device_amplitude_ma(device), "mA", "device")
    if p is None:
        none = unsigned or Refusal("prescription", None, "a signed one", "interlock", "there is no prescription")
        nothing = Limit("amplitude_ma", 0.0, "mA", "prescription")
        return Rules(
            none, (nothing, device_ma), 0.0, True, 0.0, math.inf, 0.001, 0, 0, "", 0, 0, "", True, True, 0, 0, 0, 0, None, 0.0
        )
    hard = HARD.get((p.modality, p.profile))
    limits = (
        Limit("amplitude_ma", p.amplitude_ma, "mA", "prescription"),
        device_ma,
        Limit("amplitude_ma", hard.amplitude_ua / 1000 if hard is not None else 0.0, "mA", "interlock"),
    )
    start_ma = {Authority.OBSERVE: 0.0, Authority.LOWER_ONLY: p.start_ua / 1000}
    return Rules(
        refusal=first_breach(p, device),
        amplitude=limits,
        ceiling_ma=start_ma.get(Authority(p.authority), p.amplitude_ma),
        lower_only=p.authority != Authority.WITHIN_BOUNDS,
        frequency_hz=p.frequency_hz,
        ramp_ma_per_s=p.ramp_ua_per_s / 1000,
        fallback_s=p.fallback_ms / 1000,
        session_ms=p.session_ms,
        session_uc=p.session_uc,
        serial=p.device_serial,
        valid_from_s=p.valid_from_s,
        valid_until_s=p.valid_until_s,
        course=hashlib.sha256(p.to_bytes()).hexdigest()[:32],
        worn=p.device != SIMULATED,
        start_code=p.device != SIMULATED and p.profile == "home",
        day_sessions=p.day_sessions,
        week_sessions=p.week_sessions,
        course_sessions=p.course_sessions,
        lockout_ms=p.lockout_ms,
        pulses=p.pulses if p.authority != Authority.OBSERVE else None,
        amplitude_ma=min(limit.value for limit in limits),
    )
