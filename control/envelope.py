"""The envelope: a request and every limit on it; the tightest wins and says so.

It may lower a request and records why. The interlock beside it never lowers: it refuses and goes to zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from control.dose import density_cap_ma
from control.request import understood
from eegloop.stim import Authority, Limit, Prescription, StimRequest, Verdict, finite, within

# reference/safety.md section 1: peak of |waveform| by (modality, profile), mA.
PROFILE_MA = {("tdcs", "home"): 2.0, ("tdcs", "clinic"): 2.0, ("tacs", "home"): 1.0, ("tacs", "clinic"): 2.0}
DENSITY_MA_PER_CM2 = 0.08
# reference/safety.md section 5: one decision, or the decisions of one sense block together, raise by at most this.
STEP_MA = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the session stands, in the numbers that limits need.

    Attributes
    ----------
    present_ma : float
        Amplitude of the stimulate blocks as last granted; what `hold` keeps.
    block_ma : float
        Amplitude of the last stimulate block: a rise is at most 0.2 mA above it.
    ceiling_ma : float
        Under `lower_only`, the lowest grant so far (the interlock's or the session's, whichever is less).
    left_s, left_uc : float
        Stimulation time (s) and charge (µC) left of the session's budget.
    """

    present_ma: float
    block_ma: float
    ceiling_ma: float
    left_s: float
    left_uc: float


def limit(request: StimRequest, prescription: Prescription, standing: Standing, device: tuple[Limit, ...]) -> Verdict:
    """Grant as much of a request as every limit allows.

    Parameters
    ----------
    device : tuple of Limit
        The stimulator's own limits (`Stimulator.limits`, or read from its module); no limit of the field
        `amplitude_ma` in mA among them = zero.

    Returns
    -------
    Verdict
        Of the request as it was understood (control/request.py): whatever a plug-in answers is weighed or held, never raised on.
        `amplitude_ma` is finite, a whole number of µA, never negative, never above any limit; `frequency_hz` is the
        signed one; `limits` holds every limit that was below the request, tightest first. A request that is not
        finite holds at `present_ma` (itself limited); a standing or limit that is not finite is zero.
    """
    request = understood(request)
    hold = request.hold or not math.isfinite(request.amplitude_ma)
    wanted_ma = standing.present_ma if hold else request.amplitude_ma
    if not math.isfinite(wanted_ma):
        wanted_ma = 0.0
    caps = sorted(_caps(prescription, standing, device), key=lambda cap: cap[0])
    applied = [limit for cap_ma, limit in caps if cap_ma < wanted_ma]
    granted_ma = _whole_ua(min(wanted_ma, caps[0][0]))
    if request.frequency_hz != prescription.frequency_hz:
        applied.append(Limit("frequency_hz", prescription.frequency_hz, "Hz", "prescription"))
    return Verdict(
        request=request,
        amplitude_ma=granted_ma,
        frequency_hz=prescription.frequency_hz,
        limits=tuple(applied),
        sentence=_sentence(request, granted_ma, applied),
    )


def _caps(prescription: Prescription, standing: Standing, device: tuple[Limit, ...]) -> list[tuple[float, Limit]]:
    """Every limit on the amplitude as (mA, limit), in any order; a broken number is zero."""
    profile_ma = PROFILE_MA.get((prescription.modality, prescription.profile), 0.0)
    caps = [
        (prescription.amplitude_ma, Limit("amplitude_ma", prescription.amplitude_ma, "mA", "prescription")),
        (profile_ma, Limit("amplitude_ma", profile_ma, "mA", "profile")),
        (
            density_cap_ma(DENSITY_MA_PER_CM2, prescription.pad_mm2),
            Limit("density_ma_per_cm2", DENSITY_MA_PER_CM2, "mA/cm2", "profile"),
        ),
        (standing.block_ma + STEP_MA, Limit("step_ma", STEP_MA, "mA", "profile")),
        (math.inf if standing.left_s > 0.0 else 0.0, Limit("session_s", standing.left_s, "s", "prescription")),
        (math.inf if standing.left_uc > 0.0 else 0.0, Limit("session_uc", standing.left_uc, "uC", "prescription")),
        *_authority_caps(prescription, standing),
        *_device_caps(prescription, device),
    ]
    return [(cap_ma if cap_ma >= 0.0 else 0.0, limit) for cap_ma, limit in caps]


def _authority_caps(prescription: Prescription, standing: Standing) -> list[tuple[float, Limit]]:
    if prescription.authority == Authority.WITHIN_BOUNDS:
        return []
    if prescription.authority == Authority.LOWER_ONLY:
        ceiling_ma = standing.ceiling_ma if math.isfinite(standing.ceiling_ma) else 0.0
        return [(ceiling_ma, Limit("ceiling_ma", ceiling_ma, "mA", "authority"))]
    return [(0.0, Limit("amplitude_ma", 0.0, "mA", "authority"))]


def _device_caps(prescription: Prescription, device: tuple[Limit, ...]) -> list[tuple[float, Limit]]:
    caps = [
        (limit.value if limit.unit == "mA" and math.isfinite(limit.value) else 0.0, limit)
        for limit in device
        if limit.field == "amplitude_ma"
    ]
    if not caps:
        caps = [(0.0, Limit("amplitude_ma", 0.0, "mA", "device"))]
    for limit in device:
        if limit.field == "frequency_hz" and not within(prescription.frequency_hz, limit.value):
            caps.append((0.0, limit))
    return caps


def _whole_ua(amplitude_ma: float) -> float:
    """Rounded down to a whole µA (the slack keeps 0.45 mA from becoming 449 µA), never above the number itself."""
    if amplitude_ma <= 0.0:
        return 0.0
    return min(amplitude_ma, math.floor(amplitude_ma * 1000.0 + 1e-6) / 1000.0)


def _sentence(request: StimRequest, granted_ma: float, applied: list[Limit]) -> str:
    if not finite(request.amplitude_ma, request.frequency_hz):
        return f"Held at {granted_ma:.2f} mA: the request was not a number."
    lowered = [limit for limit in applied if limit.field != "frequency_hz"]
    if lowered:
        tightest = lowered[0]
        return f"Granted {granted_ma:.2f} mA: limited by {tightest.field} {tightest.value:g} {tightest.unit} ({tightest.set_by})."
    return f"Granted {granted_ma:.2f} mA."
