"""What this service will take from a prescription at all: the research envelope of reference/safety.md section 1.

Stricter than the file's format, looser than nothing: the interlock and the device have limits of their own beside these.
"""

from __future__ import annotations

from dataclasses import fields

from control.dose import density_ma_per_cm2
from control.envelope import DENSITY_MA_PER_CM2, PROFILE_MA
from eegloop.errors import ConfigError
from eegloop.plugins import find
from eegloop.stim import Authority, Prescription, PrescriptionError

# Current on a person, at home and in the clinic: (field, lowest, highest).
_WORN = (
    ("session_ms", 0, 1_800_000),
    ("session_uc", 0, 3_600_000),
    ("day_sessions", 0, 1),
    ("week_sessions", 0, 5),
    ("lockout_ms", 43_200_000, 7 * 86_400_000),
    ("pad_mm2", 2_500, 10_000),
)
_TACS_MILLIHZ = (500, 45_000)
RAMP_S = {"tdcs": 30, "tacs": 10}
"""The least time that a planned ramp from zero to the signed peak takes (safety.md section 1: 30 s, and 10-30 s), beside 0.1 mA/s."""


def check(prescription: Prescription) -> None:
    """Refuse what is outside the research envelope or what its controller cannot use.

    Raises
    ------
    PrescriptionError
        Naming the field, the value, what is allowed and who set it.
    """
    _check_texts(prescription)
    profile = prescription.profile
    if prescription.modality == "tms" and profile != "clinic":  # its train table is the interlock's alone
        raise PrescriptionError(f"prescription.profile: {profile!r} must be 'clinic' for tms; pulses are never given at home")
    most_ua = int(PROFILE_MA.get((prescription.modality, profile), 0.0) * 1000)
    if prescription.amplitude_ua > most_ua:
        raise PrescriptionError(
            f"prescription.amplitude_ua: {prescription.amplitude_ua} is above {most_ua} µA "
            f"(profile {profile!r}, {prescription.modality})"
        )
    density = density_ma_per_cm2(prescription.amplitude_ma, prescription.pad_mm2)
    if density > DENSITY_MA_PER_CM2 + 1e-9:
        raise PrescriptionError(
            f"prescription.pad_mm2: {prescription.pad_mm2} makes {density:.3f} mA/cm² at the ceiling; "
            f"at most {DENSITY_MA_PER_CM2:g} is allowed (profile {profile!r})"
        )
    lowest, highest = _TACS_MILLIHZ
    if prescription.modality == "tacs" and not lowest <= prescription.frequency_millihz <= highest:
        raise PrescriptionError(
            f"prescription.frequency_millihz: {prescription.frequency_millihz} must be from {lowest} to {highest} for tacs"
        )
    if prescription.modality == "tdcs" and prescription.frequency_millihz != 0:
        raise PrescriptionError(f"prescription.frequency_millihz: {prescription.frequency_millihz} must be 0 for tdcs")
    if prescription.device != "simulated":
        _check_real(prescription)
    _check_program(prescription)


def _check_texts(prescription: Prescription) -> None:
    """What is read at the desk is what is signed: no character that hides, or turns the text after it around."""
    named = [(f.name, getattr(prescription, f.name)) for f in fields(prescription)]
    named += [("signers", name) for name in prescription.signers]
    named += [(f"settings.{key}", text) for key, value in prescription.settings.items() for text in (key, value)]
    for field, text in named:
        if isinstance(text, str) and not text.isprintable():
            raise PrescriptionError(
                f"prescription.{ascii(field)[1:-1]}: {text!a} holds a character that cannot be seen; write it without"
            )


def _check_real(prescription: Prescription) -> None:
    if prescription.device_serial == "*":
        raise PrescriptionError("prescription.device_serial: '*' is for the device 'simulated' only; name the stimulator's own")
    if prescription.modality == "tms":
        return
    for field, low, high in _WORN:
        value = getattr(prescription, field)
        if not low <= value <= high:
            raise PrescriptionError(
                f"prescription.{field}: {value} must be from {low} to {high} (profile {prescription.profile!r})"
            )
    ramp_s = RAMP_S[prescription.modality]
    most_ua_per_s = max(1, prescription.amplitude_ua // ramp_s)  # 1 is the slowest that can be signed
    if prescription.amplitude_ua > 0 and not prescription.ramp_ua_per_s <= most_ua_per_s:
        raise PrescriptionError(
            f"prescription.ramp_ua_per_s: {prescription.ramp_ua_per_s} reaches {prescription.amplitude_ma:g} mA in less than "
            f"{ramp_s:g} s; at most {most_ua_per_s} does not ({prescription.modality} on a person)"
        )
    if prescription.profile == "home" and prescription.authority == Authority.WITHIN_BOUNDS:
        raise PrescriptionError("prescription.authority: 'within_bounds' must be 'lower_only' or 'observe' (profile 'home')")


def _check_program(prescription: Prescription) -> None:
    """The controller exists and takes these settings."""
    try:
        module = find("controller", prescription.controller)
    except ConfigError as error:
        raise PrescriptionError(f"prescription.controller: {error}") from None
    module.build(module.Settings()).start(prescription)
