"""A blinded trial's two prescriptions of one person: the same program, signed once with current and once with none. Pure."""

from __future__ import annotations

from dataclasses import fields

from eegloop.stim import Authority, Prescription, PrescriptionError

# What may differ: the number it has at the clinic, who signed, and that nothing is delivered. No viewer is shown any of them.
_OWN = ("id", "signers", "amplitude_ua", "start_ua", "controller", "settings")


def check_pair(active: Prescription, sham: Prescription) -> None:
    """Refuse a pair by which anybody could tell the arms apart, or one that cannot be blinded.

    Raises
    ------
    PrescriptionError
        Naming the prescription ("active" or "sham"), the field, both values and what is allowed.
    """
    if active.pulses is not None:
        raise PrescriptionError(
            "active.modality: 'tms' cannot be blinded here: magnetic pulses click and twitch; that takes a sham coil"
        )
    if active.authority == Authority.OBSERVE:
        raise PrescriptionError("active.authority: 'observe' delivers nothing in either arm; nothing is left to blind")
    if active.profile == "home" and active.device != "simulated":
        raise PrescriptionError(
            "active.profile: 'home' cannot be blinded: a home session's start code names the dose that was given, which tells the arm"
        )
    if active.controller in ("sham", "shadow"):
        raise PrescriptionError(
            f"active.controller: {active.controller!r} delivers nothing by itself; name the controller under study"
        )
    if active.start_ua == 0:
        raise PrescriptionError("active.start_ua: 0 delivers nothing; the active arm must deliver")
    if sham.controller != "sham":
        raise PrescriptionError(f"sham.controller: {sham.controller!r} must be 'sham'")
    if sham.amplitude_ua or sham.start_ua:
        raise PrescriptionError(f"sham.amplitude_ua: {sham.amplitude_ua}, and start_ua {sham.start_ua}; both must be 0")
    for field in fields(Prescription):
        if field.name not in _OWN:
            _same(field.name, getattr(active, field.name), getattr(sham, field.name))
    expected = {"of": active.controller, **active.settings}
    for key in sorted(expected.keys() | sham.settings.keys()):
        _same(f"settings.{key}", expected.get(key), sham.settings.get(key))


def _same(name: str, active: object, sham: object) -> None:
    if active != sham:
        raise PrescriptionError(f"sham.{name}: {sham!r} must be {active!r}, as in the active one: it would tell the arms apart")
