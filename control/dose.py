"""Dose arithmetic within a session: charge, density, ramps, what is left of the budget. The ledger is the interlock's."""

from __future__ import annotations


def charge_uc(amplitude_ma: float, seconds: float) -> float:
    """Charge in µC of `amplitude_ma` for `seconds` (1 mA·s = 1000 µC); peak amplitude, so an upper bound for tACS."""
    return amplitude_ma * seconds * 1000.0


def density_ma_per_cm2(amplitude_ma: float, pad_mm2: float) -> float:
    """Current density under the pad."""
    return amplitude_ma / (pad_mm2 / 100.0)


def ramp_s(from_ma: float, to_ma: float, ramp_ua_per_s: float) -> float:
    """Seconds a planned ramp takes."""
    return abs(to_ma - from_ma) * 1000.0 / ramp_ua_per_s


def ramp_uc(from_ma: float, to_ma: float, ramp_ua_per_s: float) -> float:
    """Charge of a planned linear ramp, µC."""
    return charge_uc((from_ma + to_ma) / 2.0, ramp_s(from_ma, to_ma, ramp_ua_per_s))
