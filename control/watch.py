"""Vetting one biomarker before anything may lean on it: grade, range, gaps, and whether it is frozen (S4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from eegloop.signal import Biomarkers, Grade

# Two hops of real EEG never give the same float64 power; a peak frequency on a grid of bins may repeat for long.
FROZEN_HOPS = 10
FROZEN_HOPS_HZ = 300
# unit: (lowest, highest) that a head can produce
_PLAUSIBLE = {"1": (-100.0, 100.0), "uV2": (0.0, 1e6), "Hz": (0.0, 100.0)}
_ANY = (-1e9, 1e9)
# (name, channel): where a line tells how drowsy the person is, if it does (`dsp/biomarkers/vigilance.py`).
DROWSINESS = ("vigilance.drowsiness", "n/a")
DROWSY_SHARE = 0.5
"""From this share of the last clean seconds on the person counts as drowsy: slow waves then move a biomarker as stimulation would."""


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
        How many hops in a row, this one included, had exactly this value.
    usable : bool
        The last look may move a dose.
    good_s : float or None
        End of the last usable window, LSL s.
    """

    hop: int = 0
    value: float | None = None
    same_n: int = 0
    usable: bool = False
    good_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the biomarker: `value` is None unless it may move a dose; `reason` says why not.

    `t_s` is the end of its window in LSL s; `fresh` is True if this hop had not been looked at before.
    """

    value: float | None
    unit: str
    window_s: float
    t_s: float
    fresh: bool
    reason: str


def look(watch: Watch, biomarkers: Biomarkers | None, name: str, channel: str) -> tuple[Watch, Reading]:
    """Look at the newest row of biomarkers.

    Returns
    -------
    Watch, Reading
        The reading has a value only if the biomarker exists on this line, is graded GOOD, is finite, plausible for
        its unit, not that of a drowsy person (`DROWSY_SHARE`) and not frozen (the same number for `FROZEN_HOPS` hops; `FROZEN_HOPS_HZ` for a frequency).
    """
    if biomarkers is None:
        return replace(watch, usable=False), Reading(None, "", 0.0, 0.0, False, "no biomarkers yet")
    try:
        column = biomarkers.find(name, channel)
    except KeyError as error:
        fresh = biomarkers.hop != watch.hop
        watch = replace(watch, hop=biomarkers.hop, usable=False)
        return watch, Reading(None, "", 0.0, biomarkers.t_s, fresh, str(error.args[0]))
    value = float(biomarkers.values[column])
    unit = biomarkers.columns[column].unit
    fresh = biomarkers.hop != watch.hop
    same_n = watch.same_n
    if fresh:
        same_n = same_n + 1 if value == watch.value else 1
    reason = _objection(biomarkers, column, value, unit, same_n)
    usable = reason == ""
    watch = Watch(
        hop=biomarkers.hop,
        value=value if math.isfinite(value) else None,
        same_n=same_n,
        usable=usable,
        good_s=biomarkers.t_s if usable else watch.good_s,
    )
    return watch, Reading(
        value=value if usable else None,
        unit=unit,
        window_s=biomarkers.columns[column].window_s,
        t_s=biomarkers.t_s,
        fresh=fresh,
        reason=reason,
    )


def _objection(biomarkers: Biomarkers, column: int, value: float, unit: str, same_n: int) -> str:
    """Why this value may not move a dose; "" if it may."""
    if int(biomarkers.grades[column]) != Grade.GOOD:
        return biomarkers.reasons[column] or "not good enough to act on"
    if not math.isfinite(biomarkers.t_s):
        return "its time is not a number"
    if not math.isfinite(value):
        return "not a number"
    lowest, highest = _PLAUSIBLE.get(unit, _ANY)
    if not lowest <= value <= highest:
        return f"{value:g} {unit} is not plausible"
    if same_n >= (FROZEN_HOPS_HZ if unit == "Hz" else FROZEN_HOPS):
        return f"frozen: the same number {same_n} times"
    name = biomarkers.columns[column].name
    return "" if name.startswith("vigilance.") else _drowsy(biomarkers)


def _drowsy(biomarkers: Biomarkers) -> str:
    """Where the line computes vigilance: why a drowsy person's biomarkers move nothing; "" awake, or while that is not known."""
    column = biomarkers.where(*DROWSINESS)
    if column is None or int(biomarkers.grades[column]) != Grade.GOOD:
        return ""
    share = float(biomarkers.values[column])
    return (
        ""
        if not share >= DROWSY_SHARE
        else f"the person seems drowsy (slow waves in {100 * share:.0f} % of the last clean seconds)"
    )
