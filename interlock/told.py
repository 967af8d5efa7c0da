"""What the daemon is told of the judge. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eegloop.stim import InterlockMode, StimState
from interlock.refusals import MS, tightest

if TYPE_CHECKING:
    from interlock.judge import Judge


def state_of(judge: Judge, now_ns: int) -> StimState:
    """The state as it goes to the daemon: what is granted, told and confirmed."""
    device = judge.device
    fresh = device.fresh(now_ns)
    return StimState(
        boot_ns=now_ns,
        mode=str(judge.mode),
        reason=judge.reason,
        session=judge.session,
        granted_ma=judge.target_ma,
        commanded_ma=judge.level_ma,
        confirmed_ma=device.output_ma if fresh else None,
        confirmed_ns=device.report_ns,
        zero_since_ns=device.zero_since_ns if fresh else 0,
        frequency_hz=judge.frequency_hz,
        ceiling_ma=tightest(judge).value,
        lease_left_ms=max(0, (judge.lease_end_ns - now_ns) // MS) if judge.mode is not InterlockMode.STOPPED else 0,
        sequence=max(0, judge.account.sequence),
        refused=judge.refused,
        refusal=judge.refusal,
        delivered_uc=judge.account.uc,
        delivered_ms=judge.account.ms,
        device=judge.kind,
        readback=device.readback,
        halts=judge.halts,
    )
