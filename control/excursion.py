"""A biomarker outside its band: on which side, for how long, and whether it is time to act. What threshold controllers share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from control.estimate import Estimate, Memory, estimate
from control.program import Paced
from control.steps import SAME_MA, doubted, down_to, excursion, hold, present
from eegloop.ports import Snapshot
from eegloop.stim import StimRequest, finite

NOT_WITH_ALL = "did not come into its target band with all that is allowed"


@dataclass(frozen=True, slots=True)
class Excursion:
    """What is remembered of it: the side ("under", "over", "" inside), since when (LSL s), in how many estimates in a row,
    and when the amplitude was last acted on; the amplitude it began with, in how many estimates all that is allowed was not enough, and
    why it gave up: the half sentence behind the biomarker's name ("" = it has not)."""

    memory: Memory = field(default_factory=Memory)
    side: str = ""
    agree_n: int = 0
    since_s: float = 0.0
    acted_s: float | None = None
    began_ma: float | None = None
    top_n: int = 0
    given_up: str = ""


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


def follow(
    now: Excursion,
    program: Paced,
    snapshot: Snapshot,
    side_of: Callable[[Estimate], str] = plain_side,
    top_ma: float = math.inf,
) -> Look:
    """Take in one estimate. It holds on a doubtful one (which also ends the count), inside the band, before enough of them
    agree, and within the refractory time after the last act. `top_ma`: the most this controller would ask for."""
    memory, seen = estimate(now.memory, program, snapshot)
    now = replace(now, memory=memory)
    if seen.doubt:
        return Look(replace(now, side="", agree_n=0), seen, "", 0.0, doubted(snapshot, seen.doubt))
    side = side_of(seen)
    now = _at_the_top(now, program, snapshot, side, top_ma)
    if now.given_up:
        return Look(now, seen, "", 0.0, to_safety(now, program, snapshot))
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


def _at_the_top(now: Excursion, program: Paced, snapshot: Snapshot, side: str, top_ma: float) -> Excursion:
    """Count estimates in which all that is allowed, reached by raising, is still not enough."""
    if not finite(snapshot.present_ma, snapshot.ceiling_ma):
        return now
    began_ma = snapshot.present_ma if now.began_ma is None else now.began_ma
    more = side != "" and (side == "under") == (program.more_moves == "up")
    raised_to_top = snapshot.present_ma >= min(top_ma, snapshot.ceiling_ma) - SAME_MA and snapshot.present_ma > began_ma + SAME_MA
    top_n = min(now.top_n + 1, program.give_up_n) if more and raised_to_top else 0
    given_up = now.given_up or (NOT_WITH_ALL if top_n >= program.give_up_n else "")
    return replace(now, began_ma=began_ma, top_n=top_n, given_up=given_up)


def to_safety(now: Excursion, program: Paced, snapshot: Snapshot) -> StimRequest:
    """Having given up: down to the safe amplitude, never up to it."""
    return down_to(snapshot, program.safe_ua / 1000.0, program.step_ua / 1000.0, f"{program.words()} {now.given_up}")


def acted(now: Excursion, seen: Estimate, changed: bool) -> Excursion:
    """After acting: the refractory time begins, and if the amplitude changed, estimates are averaged anew."""
    now = replace(now, acted_s=seen.t_s)
    return replace(now, memory=replace(now.memory, recent=())) if changed else now
