"""An amplitude that says which it is: peak and peak-to-peak cannot be mixed up. Not a plug-in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eegloop.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Peak:
    """The greatest absolute value of a waveform, offset included (reference/safety.md section 1).

    Build it with `of_peak` or `of_peak_to_peak`; drivers take nothing else, a bare number is refused.
    """

    value: float
    unit: str

    @staticmethod
    def of_peak(value: float, unit: str) -> Peak:
        """Raises DeviceError if it is no number from 0 up."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise DeviceError(f"amplitude {value!r} {unit}: must be a number from 0 up")
        return Peak(float(value), unit)

    @staticmethod
    def of_peak_to_peak(value: float, unit: str) -> Peak:
        """Half of it, for a waveform that is as far below zero as above."""
        return Peak(Peak.of_peak(value, unit).value / 2, unit)


def number(amplitude: Peak, unit: str, most: float) -> float:
    """The amplitude in `unit`, checked.

    Raises
    ------
    DeviceError
        If it is no `Peak`, in another unit, or above `most`.
    """
    if not isinstance(amplitude, Peak):
        raise DeviceError(f"amplitude {amplitude!r}: say whether it is a peak: Peak.of_peak(...) or Peak.of_peak_to_peak(...)")
    if amplitude.unit != unit or not 0.0 <= amplitude.value <= most:
        raise DeviceError(f"amplitude {amplitude.value} {amplitude.unit} peak: must be from 0 to {most} {unit} peak")
    return amplitude.value
