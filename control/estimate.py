"""The estimate a controller decides on: vetted rows of its biomarker, smoothed by the median of the last few."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field, replace

from control.program import Target
from control.watch import Watch, look
from eegloop.ports import Snapshot

STALE_S = 2.0  # an estimate whose window ended longer ago than this moves nothing


@dataclass(frozen=True, slots=True)
class Memory:
    """The watch over the biomarker, and its last usable values (at most `average_n`, since the last change of amplitude).

    `used` is the estimate of the last look (None = doubtful), `used_n` how many values it was the median of.
    """

    watch: Watch = field(default_factory=Watch)
    recent: tuple[float, ...] = ()
    used: float | None = None
    used_n: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` (biomarker's unit) and the target band, or `doubt`: why nothing may move now."""

    value: float
    low: float
    high: float
    t_s: float
    doubt: str


def estimate(memory: Memory, target: Target, snapshot: Snapshot) -> tuple[Memory, Estimate]:
    """Look at the newest row; a row that may not move a dose leaves `recent` as it was."""
    watch, reading = look(memory.watch, snapshot.biomarkers, target.biomarker, target.channel)
    memory = replace(memory, watch=watch, used=None, used_n=0)
    band = target.band(snapshot)
    age_s = snapshot.t_s - reading.t_s
    doubt = ""
    if reading.value is None:
        doubt = reading.reason
    elif not reading.fresh:
        doubt = "no new estimate"
    elif not -STALE_S <= age_s <= STALE_S:
        doubt = (
            f"the newest estimate is {age_s:.0f} s old" if math.isfinite(age_s) else "nobody knows how old the newest estimate is"
        )
    elif band is None:
        doubt = "there is no baseline"
    if doubt or reading.value is None or band is None:
        return memory, Estimate(0.0, 0.0, 0.0, reading.t_s, doubt)
    recent = (*memory.recent, reading.value)[-target.average_n :]
    value = statistics.median(recent)
    return replace(memory, recent=recent, used=value, used_n=len(recent)), Estimate(value, *band, reading.t_s, "")


def spread(recent: tuple[float, ...]) -> float | None:
    """How far single windows lie from their median (1.4826 MAD); None of fewer than three: nothing is known then."""
    if len(recent) < 3:
        return None
    middle = statistics.median(recent)
    return 1.4826 * statistics.median(abs(value - middle) for value in recent)


def drawn(memory: Memory, target: Target, snapshot: Snapshot) -> dict[str, float | str | None]:
    """What the page draws of the target (`Controller.target`): the newest window's value, and the estimate last decided on."""
    _, reading = look(memory.watch, snapshot.biomarkers, target.biomarker, target.channel)
    low, high = target.band(snapshot) or (None, None)
    return {
        "biomarker": target.biomarker,
        "channel": target.channel,
        "unit": reading.unit,
        "value": reading.value,
        "estimate": memory.used,
        "estimate_n": memory.used_n,
        "estimate_spread": spread(memory.recent),
        "low": low,
        "high": high,
    }
