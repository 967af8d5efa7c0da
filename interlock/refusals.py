"""Every reason why a command is not obeyed: what the state, the order of commands and the limits say. Changes nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eegloop.stim import Block, InterlockMode, Limit, StimCommand, within
from interlock.effects import Refusal, plain
from interlock.pulses import another_shot

if TYPE_CHECKING:
    from interlock.account import Account
    from interlock.judge import Judge

MS = 1_000_000
LEASE_NS = 400 * MS
EXPIRES_AHEAD_NS = 2_000 * MS
SILENT_NS = 300 * MS
FREQUENCY_TOLERANCE_HZ = 1e-6


def may_not_arm(judge: Judge, c: StimCommand) -> Refusal | None:
    rules, device = judge.rules, judge.device
    if judge.mode != InterlockMode.STOPPED:
        return Refusal("mode", str(judge.mode), "stopped", "interlock", "only from `stopped`")
    if rules.refusal is not None:
        return rules.refusal
    if judge.log_fault:
        return Refusal("audit", judge.log_fault, "writable", "interlock", "no audit trail, no stimulation")
    if not 0 < len(c.session) <= 64:
        return Refusal("session", c.session, "1-64 characters", "interlock", "a session must have a name")
    overdue = late(judge, c)
    if overdue is not None:
        return overdue
    account = judge.account_of(c.session)
    if c.sequence <= account.sequence:
        return Refusal("sequence", c.sequence, account.sequence, "interlock", "repeated or out of order")
    if c.halts != judge.halts:
        return Refusal("halts", c.halts, judge.halts, "interlock", "stopped since; a person must re-arm")
    wall_s = judge.wall_s()
    if not rules.valid_from_s <= wall_s <= rules.valid_until_s:
        return Refusal("prescription.valid_until_s", int(wall_s), rules.valid_until_s, "prescription", "have it signed anew")
    if not device.fresh(judge.now_ns):
        return Refusal("device", "silent", "a report", "device", "the stimulator does not answer; switch it on")
    if rules.serial not in ("*", device.serial):
        return Refusal(
            "prescription.device_serial",
            device.serial,
            rules.serial,
            "prescription",
            "another stimulator than the signed one",
        )
    if device.fault:
        return Refusal("device", device.fault, "no fault", "device", "the stimulator reports a fault")
    if not device.at_rest:
        return Refusal("output_ma", device.output_ma, 0.0, "device", "the stimulator has not confirmed zero and disarmed")
    return (
        another_shot(rules.pulses, device.shot, rules.worn)
        or budget_gone(judge, account)
        or judge.book.refusal(rules, c.session, judge.now_ns, wall_s)
        or start_code_wrong(judge, c.session)
        or pulses_gone(judge, c.session)
    )


def pulses_gone(judge: Judge, session: str) -> Refusal | None:
    program = judge.rules.pulses
    if program is None:
        return None
    if not judge.wire_ns < 1_000_000 * MS // program.train_millihz:
        return Refusal("wire_ms", judge.wire_ns // MS, 1_000_000 // program.train_millihz, "device", "too slow a line; use TTL")
    _given, left, field = judge.book.pulses_left(program, judge.rules, session, judge.now_ns, judge.wall_s())
    if not left >= program.burst_pulses:
        limit = getattr(program, field)
        return Refusal(
            f"prescription.pulses.{field}", limit - left, limit, "prescription", "as many pulses as signed have been given"
        )
    return None


def start_code_wrong(judge: Judge, session: str) -> Refusal | None:
    """At home each new session needs the clinic's code with its number and the dose so far; a re-arm in the same one does not."""
    if not judge.rules.start_code or session in judge.book.sessions:
        return None
    if isinstance(judge.start_code, str):
        return Refusal("start_code", judge.start_code, "signed by the clinic", "prescription", "ask the clinic for a start code")
    given, dose_uc = judge.book.given(judge.rules.course)
    for field, value, limit in zip(("session", "dose_uc"), judge.start_code, (given + 1, dose_uc), strict=True):
        if value != limit:
            return Refusal(f"start_code.{field}", value, limit, "interlock", "the start code is for another session")
    return None


def budget_gone(judge: Judge, account: Account) -> Refusal | None:
    used_ms = (judge.now_ns - account.first_ns) / MS if account.first_ns is not None else 0.0
    if not used_ms < judge.rules.session_ms:
        return Refusal(
            "prescription.session_ms",
            math.ceil(used_ms),
            judge.rules.session_ms,
            "prescription",
            "this session's time is used",
        )
    if not account.charge_uc < judge.rules.session_uc:
        return Refusal(
            "prescription.session_uc",
            account.uc,
            judge.rules.session_uc,
            "prescription",
            "this session's charge is used",
        )
    return None


def out_of_order(judge: Judge, c: StimCommand) -> Refusal | None:
    """Why a command is not for this arming, at this time, in this order; a refusal here does not trip."""
    if c.kind not in ("heartbeat", "set", "pulse", "fallback", "end"):
        return Refusal("kind", c.kind, "arm, heartbeat, set, pulse, fallback, end, stop", "interlock", "unknown command")
    if judge.mode == InterlockMode.STOPPED:
        return Refusal("mode", "stopped", "armed", "interlock", "stopped until a person arms")
    if c.session != judge.session:
        return Refusal("session", c.session, judge.session, "interlock", "another session")
    if c.nonce != judge.nonce:
        return Refusal("nonce", c.nonce, "this arming's", "interlock", "of another arming")
    if c.sequence <= judge.account.sequence:
        return Refusal("sequence", c.sequence, judge.account.sequence, "interlock", "repeated or out of order")
    if c.kind in ("heartbeat", "set"):
        if c.tick <= judge.tick_number:
            return Refusal("tick", c.tick, judge.tick_number, "interlock", "the loop's tick did not advance")
        if not judge.tick_ns < c.tick_ns <= judge.now_ns:
            return Refusal("tick_ns", c.tick_ns, judge.now_ns, "interlock", "not newer than the last, or in the future")
        if c.tick_ns + LEASE_NS <= judge.now_ns:
            return Refusal("tick_ns", c.tick_ns, judge.now_ns - LEASE_NS, "interlock", "late: older than 400 ms")
    if c.kind == "set":
        return late(judge, c) or not_a_set(judge, c)
    if c.kind == "pulse":
        return late(judge, c)
    if c.kind == "end" and judge.ending:
        return Refusal("mode", judge.reason, "armed", "interlock", "already on the way down")
    return None


def late(judge: Judge, c: StimCommand) -> Refusal | None:
    if not judge.now_ns < c.expires_ns <= judge.now_ns + EXPIRES_AHEAD_NS:
        return Refusal("expires_ns", c.expires_ns, judge.now_ns, "interlock", "late, or expires more than 2 s ahead")
    return None


def not_a_set(judge: Judge, c: StimCommand) -> Refusal | None:
    if judge.ending:
        return Refusal("mode", judge.reason, "armed", "interlock", "on the way down nothing is set")
    if c.block not in (Block.SENSE, Block.STIMULATE):
        return Refusal("block", c.block, "sense, stimulate", "interlock", "unknown block")
    return None


def beyond(judge: Judge, c: StimCommand) -> Refusal | None:
    """The tightest limit that a `set` breaks; this refusal trips."""
    if c.block == Block.SENSE and c.amplitude_ma != 0.0:
        return Refusal("amplitude_ma", plain(c.amplitude_ma), 0.0, "interlock", "a sense block gives nothing")
    limit = tightest(judge)
    if not within(c.amplitude_ma, limit.value):
        reason = f"amplitude_ma {c.amplitude_ma} is not from 0 to {limit.value} mA ({limit.set_by})"
        return Refusal("amplitude_ma", plain(c.amplitude_ma), limit.value, limit.set_by, reason)
    signed_hz = judge.rules.frequency_hz
    if c.block == Block.STIMULATE and not abs(c.frequency_hz - signed_hz) <= FREQUENCY_TOLERANCE_HZ:
        reason = f"frequency_hz {c.frequency_hz} is not the signed {signed_hz} Hz"
        return Refusal("frequency_hz", plain(c.frequency_hz), signed_hz, "prescription", reason)
    return None


def not_as_signed(c: StimCommand) -> Refusal | None:
    """A pulse is as signed or not at all, under every authority: its command may name no strength of its own."""
    if c.amplitude_ma == 0.0 and c.frequency_hz == 0.0:
        return None
    return Refusal("amplitude_ma", plain(c.amplitude_ma), 0.0, "prescription", "a pulse's strength and rate are the signed ones")


def tightest(judge: Judge) -> Limit:
    """The lowest amplitude limit now in force."""
    ceiling = Limit("amplitude_ma", judge.ceiling_ma, "mA", "authority")
    return min([*judge.rules.amplitude, ceiling], key=_value)


def _value(limit: Limit) -> float:
    return limit.value
