"""A biomarker outside its band: on which side, for how long, and whether it is time to act. What threshold controllers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from control.estimate import Estimate, Memory, estimate
from control.program import Paced
from control.steps import doubted, excursion, hold, present
from eegloop.ports import Snapshot
from eegloop.stim import StimRequest


@dataclass(frozen=True, slots=True)
class Excursion:
    """What is remembered of it: the side ("under", "over", "" inside), since when (LSL s), in how many estimates in a row,
    and when the amplitude was last acted on."""

    memory: Memory = field(default_factory=Memory)
    side: str = ""
    agree_n: int = 0
    since_s: float = 0.0
    acted_s: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """One look: the excursion now, the estimate, `so_far` in words, seconds since the last act, and `wait`: the request if
    nothing may be done yet (None = act)."""

    excursion: Excursion
    seen: Estimate
    so_far: str
    passed_s: float
    wait: StimRequest | None


def plain_side(seen: Estimate) -> str:
    """Under, over, or inside the band."""
    if seen.value < seen.low:
        return "under"
    return "over" if seen.value > seen.high else ""


def follow(now: Excursion, program: Paced, snapshot: Snapshot, side_of: Callable[[Estimate], str] = plain_side) -> Look:
    """Take in one estimate. It holds on a doubtful one (which also ends the count), inside the band, before enough of them
    agree, and within the refractory time after the last act."""
    memory, seen = estimate(now.memory, program, snapshot)
    now = replace(now, memory=memory)
    if seen.doubt:
        return Look(replace(now, side="", agree_n=0), seen, "", 0.0, doubted(snapshot, seen.doubt))
    side = side_of(seen)
    if not side:
        calm = f"{program.words()} is in its target band, so it stays at {present(snapshot):.2f} mA."
        return Look(replace(now, side="", agree_n=0), seen, "", 0.0, hold(snapshot, calm))
    now = replace(now, agree_n=now.agree_n + 1) if side == now.side else replace(now, side=side, agree_n=1, since_s=seen.t_s)
    so_far = excursion(program, seen, side, now.since_s)
    refractory_s = program.refractory_ms / 1000.0
    passed_s = refractory_s if now.acted_s is None else seen.t_s - now.acted_s
    wait = None
    if now.agree_n < program.dwell_n:
        wait = hold(snapshot, f"{so_far} ({now.agree_n} of {program.dwell_n} estimates), so it stays for now.")
    elif passed_s < refractory_s:
        left_s = refractory_s - passed_s
        wait = hold(snapshot, f"{so_far}, but the next change may come in {left_s:.0f} s, so it stays.")
    return Look(now, seen, so_far, passed_s, wait)


def acted(now: Excursion, seen: Estimate, changed: bool) -> Excursion:
    """After acting: the refractory time begins, and if the amplitude changed, estimates are averaged anew."""
    now = replace(now, acted_s=seen.t_s)
    return replace(now, memory=replace(now.memory, recent=())) if changed else now
