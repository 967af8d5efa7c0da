"""What a prescription's fields mean: unit, range and words, for error messages, `eegloop sign --fields` and docs/prescriptions.md."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields

from eegloop.stim import _RANGES as RANGES
from eegloop.stim import Prescription


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its unit ("" = none), what may stand there, and what it is."""

    unit: str
    allowed: str
    about: str


_TEXTS = {
    "format": ("eegloop-prescription-1", "layout of the file"),
    "id": ("1-200 characters", "your own number for this prescription"),
    "patient": ("1-200 characters", "the person's code (config.yaml: seats[].person), never a name"),
    "profile": ("home | clinic", "which of the interlock's limit tables binds; at home the loop may only lower"),
    "device": ("1-200 characters", "stimulator kind (config.yaml: seats[].stimulator.kind)"),
    "device_serial": ("1-200 characters", 'the stimulator\'s serial number; "*" for the device simulated only'),
    "modality": ("tdcs | tacs | tms", "what is delivered"),
    "montage": ("1-200 characters", "where pads or coil go"),
    "authority": ("observe | lower_only | within_bounds", "how far the loop may go by itself; above lower_only two people sign"),
    "controller": ("a file of control/controllers", "what decides; its numbers stand under settings"),
    "signers": ("list of at least one name", "who signs; each name must have a signature in the file"),
    "pulses": ("mapping; tms only", "one train's shape and how many pulses: see Pulses below"),
    "settings": ("name: whole number or text", "the controller's own numbers, as its file documents them"),
}
_NUMBERS = {
    "amplitude_ua": ("µA", "ceiling of |waveform| at its peak (half of a peak-to-peak value, offset included)"),
    "start_ua": ("µA", "what a session starts with, at most amplitude_ua"),
    "frequency_millihz": ("mHz", "10000 = 10 Hz; 0 = direct current"),
    "ramp_ua_per_s": ("µA/s", "planned ramps, up and down"),
    "fallback_ms": ("ms", "to zero in a fallback"),
    "session_ms": ("ms", "from the first to the last nonzero sample"),
    "session_uc": ("µC", "charge a session"),
    "day_sessions": ("sessions", "in any 24 h"),
    "week_sessions": ("sessions", "in any 7 days"),
    "course_sessions": ("sessions", "of this prescription in all"),
    "lockout_ms": ("ms", "between the end of a session and the next"),
    "pad_mm2": ("mm²", "area of the smaller pad"),
    "baseline_ms": ("ms", "of clean signal before the first current"),
    "sense_ms": ("ms", "of zero output to look in, settling included"),
    "stimulate_ms": ("ms", "of stimulation between two looks, ramps included"),
    "stale_ms": ("ms", "without samples before the fallback"),
    "artifact_ms": ("ms", "of looking without a clean value before the fallback"),
    "supervision_ms": ("ms", "without an answering page before the fallback"),
    "valid_from_s": ("s", "date (2026-01-01, UTC) or Unix seconds"),
    "valid_until_s": ("s", "date or Unix seconds; later than valid_from_s"),
}


def _number(name: str) -> Field:
    unit, about = _NUMBERS.get(name, ("", "see the release notes"))
    low, high = RANGES[name]
    allowed = "a date" if name in ("valid_from_s", "valid_until_s") else f"whole number, {low}-{high}"
    return Field(unit, allowed, about)


def _text(name: str) -> Field:
    allowed, about = _TEXTS.get(name, ("1-200 characters", "see the release notes"))
    return Field("", allowed, about)


FIELDS: dict[str, Field] = {f.name: _number(f.name) if f.name in RANGES else _text(f.name) for f in fields(Prescription)}
"""Every field of a prescription, in the order in which one is written."""


def allowed_words(name: str) -> str:
    """What may stand in a field, with its unit: "whole number, 0-4000 µA"."""
    field = FIELDS.get(name)
    if field is None:
        return ""
    return field.allowed if field.allowed == "a date" else f"{field.allowed} {field.unit}".rstrip()


def near(name: str, known: list[str] | None = None) -> str:
    """The name probably meant, as the end of a message: "; did you mean 'ramp_ua_per_s'?"; "" if none is near."""
    found = difflib.get_close_matches(name, known or list(FIELDS), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def markdown() -> str:
    """The table of docs/prescriptions.md."""
    rows = ["| field | unit | allowed | what it is |", "|---|---|---|---|"]
    rows += [
        f"| `{name}` | {field.unit} | {field.allowed.replace('|', 'or')} | {field.about} |" for name, field in FIELDS.items()
    ]
    return "\n".join(rows) + "\n"
