"""Every reason why a command is not obeyed: what the state, the order of commands and the limits say. Changes nothing."""

from __future__ import annotations

import math
import time
from operator import attrgetter
from typing import TYPE_CHECKING

from eegloop.stim import Block, InterlockMode, Limit, PulseProgram, Shot, StimCommand, within
from interlock.effects import Refusal, Row, first, plain

if TYPE_CHECKING:
    from interlock.account import Account
    from interlock.judge import Judge

MS = 1_000_000
LEASE_NS = 400 * MS
LONGEST_STEP_NS = 50 * MS  # of a ramp
EXPIRES_AHEAD_NS = 2_000 * MS
SILENT_NS = 300 * MS
FREQUENCY_TOLERANCE_HZ = 1e-6
UNTOLD = "the stimulator has not said what one shot gives; wait a second, then look at its screen"
SIGNED_UNTIL = "the prescription ends at %Y-%m-%d %H:%M:%S UTC"
KINDS = ("heartbeat", "set", "pulse", "fallback", "end")


def may_not_arm(judge: Judge, c: StimCommand) -> Refusal | None:
    rules, device, account, wall_s = judge.rules, judge.device, judge.account_of(c.session), judge.wall_s()
    return (
        first((judge.mode == InterlockMode.STOPPED, "mode", str(judge.mode), "stopped", "interlock", "only from `stopped`"))
        or rules.refusal
        or first(
            (not judge.log_fault, "audit", judge.log_fault, "writable", "interlock", "no audit trail, no stimulation"),
            (0 < len(c.session) <= 64, "session", c.session, "1-64 characters", "interlock", "a session must have a name"),
            in_time(judge, c),
            (c.sequence > account.sequence, "sequence", c.sequence, account.sequence, "interlock", "repeated or out of order"),
            (c.halts == judge.halts, "halts", c.halts, judge.halts, "interlock", "stopped since; a person must re-arm"),
            (rules.valid_from_s <= wall_s <= rules.valid_until_s,
             "prescription.valid_until_s", int(wall_s), rules.valid_until_s, "prescription", "have it signed anew"),
            (device.fresh(judge.now_ns), "device", "silent", "a report", "device", "the stimulator does not answer; switch it on"),
            (rules.serial in ("*", device.serial),
             "prescription.device_serial", device.serial, rules.serial, "prescription", "another stimulator than the signed one"),
            (not device.fault, "device", device.fault, "no fault", "device", "the stimulator reports a fault"),
            (device.at_rest,
             "output_ma", device.output_ma, 0.0, "device", "the stimulator has not confirmed zero and disarmed"),
        )
        or another_shot(rules.pulses, device.shot, rules.worn)
        or budget_gone(judge, account)
        or judge.book.refusal(rules, c.session, judge.now_ns, wall_s)
        or start_code_wrong(judge, c.session)
        or pulses_gone(judge, c.session)
    )  # fmt: skip


def another_shot(program: PulseProgram | None, shot: Shot | None, must_tell: bool = False) -> Refusal | None:
    """The first thing in which what one "fire" gives, as the stimulator says, is not what is signed; None in `shot` = it has not said."""
    if program is None or (shot is None and not must_tell):
        return None
    if shot is None:
        return Refusal("prescription.pulses.burst_pulses", None, program.burst_pulses, "device", UNTOLD)
    return first(
        *((getattr(shot, field) == getattr(program, field),
           f"prescription.pulses.{field}", getattr(shot, field), getattr(program, field), "prescription",
           f"the stimulator is set to {field} {getattr(shot, field)}, signed is {getattr(program, field)}; look at its screen")
          for field in ("burst_pulses", "burst_millihz", "waveform", "current")),
    )  # fmt: skip


def pulses_gone(judge: Judge, session: str) -> Refusal | None:
    program = judge.rules.pulses
    if program is None:
        return None
    _given, left, field = judge.book.pulses_left(program, judge.rules, session, judge.now_ns, judge.wall_s())
    limit = getattr(program, field)
    return first(
        (judge.wire_ns < 1_000_000 * MS // program.train_millihz,
         "wire_ms", judge.wire_ns // MS, 1_000_000 // program.train_millihz, "device", "too slow a line; use TTL"),
        (left >= program.burst_pulses,
         f"prescription.pulses.{field}", limit - left, limit, "prescription", "as many pulses as signed have been given"),
    )  # fmt: skip


def start_code_wrong(judge: Judge, session: str) -> Refusal | None:
    """At home each new session needs the clinic's code with its number and the dose so far; a re-arm in the same one does not."""
    if not judge.rules.start_code or session in judge.book.sessions:
        return None
    if isinstance(judge.start_code, str):
        return Refusal("start_code", judge.start_code, "signed by the clinic", "prescription", "ask the clinic for a start code")
    (number, dose_uc), (given, given_uc) = judge.start_code, judge.book.given(judge.rules.course)
    return first(
        (number == given + 1, "start_code.session", number, given + 1, "interlock", "the start code is for another session"),
        (dose_uc == given_uc, "start_code.dose_uc", dose_uc, given_uc, "interlock", "the start code is for another session"),
    )


def budget_gone(judge: Judge, account: Account) -> Refusal | None:
    rules = judge.rules
    used_ms = (judge.now_ns - account.first_ns) / MS if account.first_ns is not None else 0.0
    return first(
        (used_ms < rules.session_ms,
         "prescription.session_ms", math.ceil(used_ms), rules.session_ms, "prescription", "this session's time is used"),
        (account.charge_uc < rules.session_uc,
         "prescription.session_uc", account.uc, rules.session_uc, "prescription", "this session's charge is used"),
    )  # fmt: skip


def out_of_order(judge: Judge, c: StimCommand) -> Refusal | None:
    """Why a command is not for this arming, at this time, in this order; a refusal here does not trip."""
    ticks = c.kind in ("heartbeat", "set")
    return first(
        (c.kind in KINDS, "kind", c.kind, "arm, heartbeat, set, pulse, fallback, end, stop", "interlock", "unknown command"),
        (judge.mode != InterlockMode.STOPPED, "mode", "stopped", "armed", "interlock", "stopped until a person arms"),
        (c.session == judge.session, "session", c.session, judge.session, "interlock", "another session"),
        (c.nonce == judge.nonce, "nonce", c.nonce, "this arming's", "interlock", "of another arming"),
        (c.sequence > judge.account.sequence,
         "sequence", c.sequence, judge.account.sequence, "interlock", "repeated or out of order"),
        (not ticks or c.tick > judge.tick_number,
         "tick", c.tick, judge.tick_number, "interlock", "the loop's tick did not advance"),
        (not ticks or judge.tick_ns < c.tick_ns <= judge.now_ns,
         "tick_ns", c.tick_ns, judge.now_ns, "interlock", "not newer than the last, or in the future"),
        (not ticks or c.tick_ns + LEASE_NS > judge.now_ns,
         "tick_ns", c.tick_ns, judge.now_ns - LEASE_NS, "interlock", "late: older than 400 ms"),
        *((in_time(judge, c),) if c.kind in ("set", "pulse") else ()),
        (c.kind not in ("set", "end") or not judge.ending, "mode", judge.reason, "armed", "interlock", "already on the way down"),
        (c.kind != "set" or c.block in (Block.SENSE, Block.STIMULATE),
         "block", c.block, "sense, stimulate", "interlock", "unknown block"),
    )  # fmt: skip


def signed_no_longer(judge: Judge) -> str:
    """The reason to begin the planned ramp, so early that it is over when the prescription's own end comes; "" until then.

    Whichever is further counts: the wall clock, or what it showed at the arming and the boot clock since, which nobody sets back.
    """
    over_s = (judge.now_ns + max(judge.wall_offset_ns, judge.reference_ns[0]) + LONGEST_STEP_NS) / 1e9
    until_s = judge.rules.valid_until_s - judge.level_ma / judge.rules.ramp_ma_per_s
    return "" if over_s <= until_s else time.strftime(SIGNED_UNTIL, time.gmtime(judge.rules.valid_until_s))


def in_time(judge: Judge, c: StimCommand) -> Row:
    good = judge.now_ns < c.expires_ns <= judge.now_ns + EXPIRES_AHEAD_NS
    return good, "expires_ns", c.expires_ns, judge.now_ns, "interlock", "late, or expires more than 2 s ahead"


def beyond(judge: Judge, c: StimCommand) -> Refusal | None:
    """The limit that a `set` or a pulse breaks, the tightest first; this refusal trips."""
    if c.kind == "pulse":
        return _no_such_pulse(judge, c)
    if c.kind != "set":
        return None
    limit, signed_hz = tightest(judge), judge.rules.frequency_hz
    return first(
        (c.block != Block.SENSE or c.amplitude_ma == 0.0,
         "amplitude_ma", plain(c.amplitude_ma), 0.0, "interlock", "a sense block gives nothing"),
        (within(c.amplitude_ma, limit.value),
         "amplitude_ma", plain(c.amplitude_ma), limit.value, limit.set_by,
         f"amplitude_ma {c.amplitude_ma} is not from 0 to {limit.value} mA ({limit.set_by})"),
        (c.block != Block.STIMULATE or abs(c.frequency_hz - signed_hz) <= FREQUENCY_TOLERANCE_HZ,
         "frequency_hz", plain(c.frequency_hz), signed_hz, "prescription",
         f"frequency_hz {c.frequency_hz} is not the signed {signed_hz} Hz"),
    )  # fmt: skip


def _no_such_pulse(judge: Judge, c: StimCommand) -> Refusal | None:
    """A pulse is as signed or not at all, under every authority: its command may name no strength of its own."""
    if judge.triggers is None:
        return Refusal("pulses", 1, 0, "prescription", "no pulses are signed, or only to observe")
    return first(
        (c.amplitude_ma == 0.0 and c.frequency_hz == 0.0,
         "amplitude_ma", plain(c.amplitude_ma), 0.0, "prescription", "a pulse's strength and rate are the signed ones"),
    ) or judge.triggers.beyond(c.deadline_ns)  # fmt: skip


def tightest(judge: Judge) -> Limit:
    """The lowest amplitude limit now in force."""
    return min([*judge.rules.amplitude, Limit("amplitude_ma", judge.ceiling_ma, "mA", "authority")], key=attrgetter("value"))
