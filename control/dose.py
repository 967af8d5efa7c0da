"""Dose arithmetic within a session: charge, density, ramps, what is left of the budget. The ledger is the interlock's.

Amplitudes are peaks, so for alternating current a charge here is an upper bound of the delivered one.
"""

from __future__ import annotations

import math

from eegloop.stim import Prescription


def charge_uc(amplitude_ma: float, seconds: float) -> float:
    """Charge of `amplitude_ma` flowing for `seconds`, µC (1 mA for 1 s is 1000 µC)."""
    return amplitude_ma * seconds * 1000.0


def density_ma_per_cm2(amplitude_ma: float, pad_mm2: float) -> float:
    """Current density under the smallest pad, mA/cm² (100 mm² are 1 cm²)."""
    return amplitude_ma * 100.0 / pad_mm2


def density_cap_ma(limit_ma_per_cm2: float, pad_mm2: float) -> float:
    """The amplitude at which a pad reaches a density, mA."""
    return limit_ma_per_cm2 * pad_mm2 / 100.0


def ramp_s(from_ma: float, to_ma: float, ramp_ua_per_s: float) -> float:
    """Seconds that a planned ramp takes."""
    return abs(to_ma - from_ma) * 1000.0 / ramp_ua_per_s


def ramp_uc(from_ma: float, to_ma: float, ramp_ua_per_s: float) -> float:
    """Charge of a planned linear ramp, µC."""
    return charge_uc((from_ma + to_ma) / 2.0, ramp_s(from_ma, to_ma, ramp_ua_per_s))


def planned_uc(prescription: Prescription) -> float:
    """Charge of a whole session at the ceiling without a sense block, both ramps inside the session time, µC."""
    ramp = ramp_s(0.0, prescription.amplitude_ma, prescription.ramp_ua_per_s)
    plateau = max(0.0, prescription.session_ms / 1000.0 - 2.0 * ramp)
    return charge_uc(prescription.amplitude_ma, plateau) + 2.0 * ramp_uc(
        0.0, prescription.amplitude_ma, prescription.ramp_ua_per_s
    )


def left(budget: float, *spent: float) -> float:
    """What is left of a budget after the largest of several accounts of what was spent; a broken account leaves nothing."""
    most = 0.0
    for one in spent:  # at every tick, so no generator
        if not 0.0 <= one < math.inf:
            return 0.0
        most = max(most, one)
    return max(0.0, budget - most)
