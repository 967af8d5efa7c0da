"""What the output would be if the program of a blinded session were delivered, and what the session is told in either arm. Pure.

In a blinded session the line runs the active arm's signed program in both arms; the interlock holds the prescription of the person's own
arm, by which a sham arm can deliver nothing. What comes back from it would tell the arms apart, so the session is told:

- while it is armed: the program's level, ramp, charge and ceiling, as this file counts them; zero only where the device has truly confirmed it
  *and* the program is at zero; no confirmed number but that zero.
- whenever it is stopped, by whatever, or silent: the truth, at once. STOP, trips and unknown output are the same in both arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from control.exposure import ZERO_MA, delivers_by_itself
from eegloop.stim import Authority, Block, InterlockMode, Prescription, StimState

END, FALLBACK = "end", "fallback"
STOP_ON_THE_WAY_DOWN = "STOP: pressed on the way down"
"""A sham arm's interlock is stopped by then and keeps its first reason, so the active arm's own words are not told either."""

NOT_AT_ZERO = "the stimulator is not at zero, or does not answer"
"""A sham arm's interlock is stopped by then and trips no more: what an active arm's would trip on is said, and counted, for it."""

TOO_LATE = "stopped until a person arms"
"""The interlock's words to a heartbeat that crossed its stop on the way: a sham arm, which is stopped sooner, sends none then."""


@dataclass(frozen=True, slots=True)
class WouldBe:
    """One seat's program as it would be delivered.

    Attributes
    ----------
    program : Prescription
        The active arm's, in both arms.
    delivers : bool
        This person is in the active arm: the interlock gives what the program decides.
    ceiling_ma : float
        Under `lower_only` the lowest level so far in the course.
    session : str
        Whose charge and time are counted; a re-arm of the same session goes on with them.
    running : bool
        From the interlock's `armed` until it is stopped; in a sham arm until the program's way down would have reached zero.
    ending : str
        `END` or `FALLBACK` on the way down, else "".
    halting : bool
        The session has ordered a stop on the way down.
    stopped : str
        Why the last run ended, where the interlock's own words may not be told; else "".
    halts : int
        The interlock's STOPs and trips when this run began.
    faults : int
        How often a sham arm's stimulator was not at zero on the way down: told as trips beside the interlock's own.
    level_ma, target_ma, down_ma_per_s : float
        Where the ramp is, where it goes, and how fast down.
    at_ns : int
        CLOCK_BOOTTIME of `level_ma`.
    zero_ns : int
        Since when, last, the level is what a stimulator's report counts as zero; 0 = it is not, or never left it.
    charge_uc : float
        Charge of the session so far, µC.
    on_ns : int
        Time with output of the session so far, ns.
    """

    program: Prescription
    delivers: bool
    ceiling_ma: float
    session: str = ""
    running: bool = False
    ending: str = ""
    halting: bool = False
    stopped: str = ""
    halts: int = 0
    faults: int = 0
    level_ma: float = 0.0
    target_ma: float = 0.0
    down_ma_per_s: float = 0.0
    at_ns: int = 0
    zero_ns: int = 0
    charge_uc: float = 0.0
    on_ns: int = 0


def begin(program: Prescription, delivers: bool, lowest_ma: float = math.inf) -> WouldBe:
    """Nothing runs. `lowest_ma`: the lowest level of the course's earlier sessions."""
    most_ma = program.start_ua / 1000 if program.authority == Authority.LOWER_ONLY else program.amplitude_ma
    return WouldBe(program, delivers, min(most_ma, lowest_ma))


def take_level(would: WouldBe, block: str, amplitude_ma: float, now_ns: int) -> WouldBe:
    """The program wants another level; on the way down there is none, as the interlock has it."""
    would = advance(would, now_ns)
    if would.ending:
        return would
    if block == Block.STIMULATE and would.program.authority == Authority.LOWER_ONLY:
        would = replace(would, ceiling_ma=min(would.ceiling_ma, amplitude_ma))
    return replace(would, target_ma=amplitude_ma, down_ma_per_s=would.program.ramp_ua_per_s / 1000)


def go_down(would: WouldBe, how: str, now_ns: int) -> WouldBe:
    """The program goes to zero: `END` by the signed ramp, `FALLBACK` within the signed time. Nothing where nothing runs."""
    would = advance(would, now_ns)
    if not would.running:
        return would
    rate_ma_per_s = would.program.ramp_ua_per_s / 1000
    if how == FALLBACK:
        rate_ma_per_s = max(would.down_ma_per_s if would.ending else 0.0, would.level_ma * 1000 / would.program.fallback_ms)
    return replace(would, ending=how, target_ma=0.0, down_ma_per_s=rate_ma_per_s)


def halt(would: WouldBe) -> WouldBe:
    """The session orders a stop. A sham arm's interlock that is on its way down is stopped already and will not say so again."""
    return replace(would, halting=would.ending != "")


def advance(would: WouldBe, now_ns: int) -> WouldBe:
    """Let time pass: the ramp, the charge, and since when it is at zero."""
    since_ns = max(0, now_ns - would.at_ns)
    if not would.running or since_ns == 0:
        return replace(would, at_ns=max(now_ns, would.at_ns))
    before_ma, step_s = would.level_ma, since_ns / 1e9
    if before_ma < would.target_ma:
        level_ma = min(would.target_ma, before_ma + would.program.ramp_ua_per_s / 1000 * step_s)
    else:
        level_ma = max(would.target_ma, before_ma - would.down_ma_per_s * step_s)
    most_ma = max(before_ma, level_ma)
    effective = math.sqrt(0.5) if would.program.frequency_millihz > 0 else 1.0
    return replace(
        would,
        at_ns=now_ns,
        level_ma=level_ma,
        zero_ns=0 if level_ma > ZERO_MA else now_ns if before_ma > ZERO_MA else would.zero_ns,
        charge_uc=would.charge_uc + most_ma * effective * since_ns / 1e6,
        on_ns=would.on_ns + (since_ns if most_ma > 0.0 else 0),
    )


def hear(would: WouldBe, true: StimState) -> tuple[WouldBe, StimState]:
    """What the interlock said, and what the session is told of it."""
    would = advance(would, true.boot_ns)
    if would.delivers and true.mode == InterlockMode.ARMED:
        # What was lost of the program's own is not asked of the interlock again.
        would = replace(would, ceiling_ma=min(would.ceiling_ma, true.ceiling_ma))
    if true.mode == InterlockMode.ARMED and not would.running:
        same = true.session == would.session
        would = replace(
            would, session=true.session, running=True, ending="", halting=False, stopped="", halts=true.halts, down_ma_per_s=0.0,
            charge_uc=would.charge_uc if same else 0.0, on_ns=would.on_ns if same else 0,
        )  # fmt: skip
    elif would.running and true.mode == InterlockMode.STOPPED and not _falls_on(would, true):
        halted = would.halting or true.halts != would.halts
        stop = would.ending != "" and halted and (not would.delivers or true.reason.startswith("STOP: "))
        fault = not stop and _unfinished(would, true)
        would = replace(
            would, running=False, ending="", stopped=STOP_ON_THE_WAY_DOWN if stop else NOT_AT_ZERO if fault else "",
            faults=would.faults + fault, level_ma=0.0, target_ma=0.0,
            zero_ns=would.zero_ns if would.level_ma <= ZERO_MA else true.boot_ns,
        )  # fmt: skip
    zero_since_ns = true.zero_since_ns
    if would.level_ma > ZERO_MA:
        zero_since_ns = 0
    elif zero_since_ns > 0:
        zero_since_ns = max(zero_since_ns, would.zero_ns)
    told = replace(
        true,
        zero_since_ns=zero_since_ns,
        ceiling_ma=would.ceiling_ma,
        delivered_uc=math.ceil(would.charge_uc),
        delivered_ms=-(-would.on_ns // 1_000_000),
        sequence=0,  # a sham arm's way down takes fewer heartbeats
        lease_left_ms=0,
        refused=0,
        refusal="" if true.refusal.endswith(TOO_LATE) else true.refusal,
        halts=true.halts + would.faults,
    )
    if not would.running:
        return would, replace(told, reason=would.stopped) if would.stopped and true.session == would.session else told
    if not would.delivers:
        told = _imagined(would, told)
    elif true.granted_ma == would.target_ma:
        told = replace(told, commanded_ma=would.level_ma)
    zero = zero_since_ns > 0 and true.confirmed_ma is not None and abs(true.confirmed_ma) <= ZERO_MA
    return would, replace(told, confirmed_ma=0.0 if zero else None)


def _falls_on(would: WouldBe, true: StimState) -> bool:
    """A sham arm's interlock is at zero at once; the program is still on its way down, unless anything else stopped it since, or the
    stimulator delivers or is gone: that is never hidden behind the program."""
    at_zero = true.confirmed_ma is not None and not delivers_by_itself(true)
    return _unfinished(would, true) and at_zero and true.halts == would.halts and not would.halting


def _unfinished(would: WouldBe, true: StimState) -> bool:
    """The program of a sham arm has not come down yet; another interlock process knows no session."""
    return not would.delivers and would.ending != "" and would.level_ma > 0.0 and true.session == would.session


def _imagined(would: WouldBe, true: StimState) -> StimState:
    """As the interlock of the active arm would say it."""
    return replace(
        true,
        mode=InterlockMode.FALLBACK if would.ending == FALLBACK else InterlockMode.ARMED,
        reason=f"on the way down: {true.reason}" if would.ending else true.reason,
        granted_ma=would.target_ma,
        commanded_ma=would.level_ma,
    )
