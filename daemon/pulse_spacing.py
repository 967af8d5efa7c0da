"""Whether signed pulses leave the loop time to look: after each, filters settle and a whole window passes before a value is clean again."""

from __future__ import annotations

import math
from collections.abc import Mapping

from control.controllers.phase_locked import Program
from control.exposure import PULSE_AFTER_S, PULSE_BEFORE_S
from control.program import read_program
from control.tick import target_of
from dsp.filters import DEFAULT_FULL_SCALE_UV, design, settle_samples
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.plugins import find
from eegloop.stim import Authority, Prescription

RATE_HZ = 250.0  # how long filters settle hardly depends on it


def blind_s(line: LineSettings, window_s: float, full_scale_uv: float = DEFAULT_FULL_SCALE_UV) -> tuple[float, float, float]:
    """What passes after a pulse before a value is clean: the amplifier's recovery, the filters' settling, one window, s each.

    Parameters
    ----------
    window_s : float
        Of signal behind one value, s.
    full_scale_uv : float
        The headset's largest sample, µV: the step that the filters must have forgotten.
    """
    settle_s = settle_samples(design(line, RATE_HZ), full_scale_uv) / RATE_HZ
    return PULSE_BEFORE_S + PULSE_AFTER_S, settle_s, window_s


def too_often(prescription: Prescription, line: LineSettings, biomarkers: Mapping[str, Closed]) -> tuple[str, str]:
    """Why the loop would fall back under this prescription's own pulses, and what to change; two empty texts if it would not.

    Only `phase_locked` asks for pulses. Where the longest pause leaves time to look, a train that is over before the signed
    `artifact_ms` does no harm.

    Parameters
    ----------
    line : LineSettings
        Of the seat, or the usual one where the seat is not known.
    biomarkers : mapping of str to Closed
        Settings by kind, as far as they differ from the usual ones.

    Raises
    ------
    PrescriptionError
        If the controller's own numbers cannot be read.
    """
    program, (name, channel) = prescription.pulses, target_of(prescription)
    if program is None or prescription.controller != "phase_locked" or prescription.authority == Authority.OBSERVE:
        return "", ""
    parts = blind_s(line, _window_s(name, line, biomarkers))
    needed_s, artifact_s = sum(parts), prescription.artifact_ms / 1000
    every_s = max(1000 / program.train_millihz, read_program(Program, prescription).interval_ms / 1000)
    shots, pause_s = program.train_pulses // program.burst_pulses, max(every_s, program.interval_ms / 1000)
    train_s = min((shots - 1) * needed_s, shots * 1000 / program.train_millihz)
    if every_s >= needed_s or (pause_s >= needed_s and train_s + needed_s <= artifact_s):
        return "", ""
    why = (
        f"pulses may come every {every_s:g} s, but after a pulse {name} at {channel} is clean again only {needed_s:.1f} s later "
        f"(amplifier {parts[0]:.1f} s, filters {parts[1]:.1f} s, window {parts[2]:g} s): with nothing clean for {artifact_s:g} s the loop "
        "falls back to zero, and a second time ends the session"
    )
    return (
        why,
        f"sign interval_ms {math.ceil(needed_s * 10) * 100} or more under settings, or a shorter window on the seat's line",
    )


def _window_s(name: str, line: LineSettings, biomarkers: Mapping[str, Closed]) -> float:
    """Of signal that one value needs at least, s: an average needs one of its parts."""
    kind = name.partition(".")[0]
    try:
        settings = biomarkers.get(kind) or find("biomarker", kind).Settings()
    except ConfigError:
        return line.window_s
    stated = [getattr(settings, part, None) for part in ("segment_s", "epoch_s", "window_s")]
    return next((float(value) for value in stated if value is not None), line.window_s)
