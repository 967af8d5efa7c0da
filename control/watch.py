"""Vetting one biomarker before anything may lean on it: grade, age, range and whether it is frozen (S4)."""

from __future__ import annotations

from dataclasses import dataclass

from eegloop.signal import Biomarkers


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of the watched biomarker between hops.

    Attributes
    ----------
    hop : int
        The last hop seen (0 = none).
    value : float or None
        Its value, None where it had none.
    same_n : int
        How many hops in a row had exactly this value.
    good_s : float or None
        End of the last usable window, LSL s.
    """

    hop: int = 0
    value: float | None = None
    same_n: int = 0
    good_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the biomarker: `value` is None unless it may move a dose; `reason` says why not.

    `fresh` is True if this hop had not been looked at before.
    """

    value: float | None
    unit: str
    window_s: float
    t_s: float
    fresh: bool
    reason: str


def look(watch: Watch, biomarkers: Biomarkers | None, name: str, channel: str) -> tuple[Watch, Reading]:
    """Look at the newest row; pure, one call a tick."""
    raise NotImplementedError
