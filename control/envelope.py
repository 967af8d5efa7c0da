"""The envelope: a request and every limit on it; the tightest wins and says so."""

from __future__ import annotations

from dataclasses import dataclass

from eegloop.stim import Limit, Prescription, StimRequest, Verdict


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
        `amplitude_ma` is finite, never negative, never above any limit; `frequency_hz` is the signed one; `limits`
        holds every limit that was below the request, tightest first. Not finite request = hold at `present_ma`
        (itself limited); not finite standing or limit = zero.
    """
    raise NotImplementedError
