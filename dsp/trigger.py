"""When a phase is good enough to act on, and when to send a trigger so that it lands on a wanted phase: never late."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsp.phase import PhaseEstimate


@dataclass(frozen=True, slots=True)
class Gate:
    """When a phase is good enough to act on. `None` switches nothing off: every limit is a number.

    Attributes
    ----------
    least_amplitude_uv : float
        The session's median of the band's amplitude is the usual choice.
    least_snr_db, most_sd_rad : float
    refractory_s : float
        Between two effects.
    most_wait_s : float
        A target farther ahead than this is left to a later estimate, whose error bar will be that of its own instant;
        about one chunk more than the delay.
    """

    least_amplitude_uv: float
    least_snr_db: float = 3.0
    most_sd_rad: float = math.radians(35.0)
    refractory_s: float = 2.0
    most_wait_s: float = 0.15


def trigger_time(
    gate: Gate,
    t_s: float,
    estimate: PhaseEstimate,
    channel: int,
    frequency_hz: float,
    snr_db: float,
    clean: bool,
    target_rad: float,
    delay_s: float,
    last_s: float | None,
    ahead_s: float = 0.0,
) -> tuple[float | None, str]:
    """When to send a trigger so that it lands on `target_rad`, or why not now.

    Parameters
    ----------
    t_s : float
        Time of the estimate's newest sample.
    frequency_hz : float
        The band's frequency now: carries the phase from the estimate's instant to the target.
    delay_s : float
        From sending to effect. A phase that is already past by then is waited for another cycle: never late.
    last_s : float or None
        When the last trigger took effect.
    ahead_s : float
        The estimate is for this long after its newest sample (`PhaseTracker`'s `ahead_s`); best near `delay_s`.

    Returns
    -------
    (send_s, reason)
        `send_s` >= t_s, None with the reason when a gate is shut: "artifact", "low_amplitude", "low_snr", "phase_uncertain",
        "no_frequency", "no_phase", "refractory", "not_yet".
    """
    if not clean:
        return None, "artifact"
    phase_rad = float(estimate.phase_rad[channel, -1])
    if not estimate.amplitude_uv[channel, -1] >= gate.least_amplitude_uv:
        return None, "low_amplitude"
    if not snr_db >= gate.least_snr_db:
        return None, "low_snr"
    if not estimate.sd_rad[channel, -1] <= gate.most_sd_rad:
        return None, "phase_uncertain"
    if not (frequency_hz > 0 and math.isfinite(frequency_hz)):
        return None, "no_frequency"
    if not (math.isfinite(phase_rad) and math.isfinite(target_rad)):
        return None, "no_phase"
    turn = 2 * math.pi
    wait_s = ahead_s + ((target_rad - phase_rad) % turn) / (turn * frequency_hz)
    if wait_s < delay_s:
        wait_s += math.ceil((delay_s - wait_s) * frequency_hz - 1e-9) / frequency_hz
    if last_s is not None and not t_s + wait_s - last_s >= gate.refractory_s:
        return None, "refractory"
    if wait_s > gate.most_wait_s:
        return None, "not_yet"
    return max(t_s, t_s + wait_s - delay_s), ""
