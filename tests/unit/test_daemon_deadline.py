"""S3, the daemon's half: a tick that was worked off too late renews no lease and asks for nothing but the way down."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control.session import Effects
from daemon.asking import Asking
from daemon.audit import AuditTrail
from daemon.clock import MachineClock
from daemon.interlock_link import InterlockLink
from daemon.live import LiveServer
from daemon.loop import Line, Outcome
from daemon.seat import SeatLoop
from eegloop.plugins import find


class Told(InterlockLink):
    """What would be sent, instead of sending it."""

    def __init__(self, path: Path, clock: MachineClock) -> None:
        super().__init__(path, clock)
        self._nonce = "drawn"
        self.kinds: list[str] = []

    def _send(self, kind: str, **fields: Any) -> bool:
        self.kinds.append(kind)
        return True


@pytest.mark.parametrize("late", [False, True])
async def test_a_late_tick_renews_no_lease(tmp_path: Path, late: bool) -> None:
    clock = MachineClock()
    audit, live = AuditTrail(tmp_path / "audit.jsonl", clock), LiveServer(tmp_path / "live.sock")
    module, link = find("source", "lsl"), Told(tmp_path / "interlock.sock", clock)
    seat = SeatLoop(
        "one", 0, "One", False, module.build(module.Settings(name="nobody"), clock), lambda info: pytest.fail("no headset"),
        lambda info, line: None, link, audit, live, clock, Asking("one", None, (), False, audit, live, clock),
    )  # fmt: skip
    line = cast(
        Line,
        SimpleNamespace(effects=Effects(heartbeat=True), session=SimpleNamespace(halts_seen=0, used_s=0.0), boot_to_lsl_s=0.0),
    )
    made_ns = clock.boot_ns() - (260_000_000 if late else 0)
    seat._command(line, Outcome((), (), (), ()), made_ns)
    assert link.kinds == ([] if late else ["heartbeat"])
    link.kinds.clear()
    wanted = ("set", "stop", "fallback", "end", "arm")
    seat._command(line, Outcome((), (), tuple(Effects(command=kind, block="stimulate") for kind in wanted), ()), made_ns)
    assert link.kinds == (["stop", "fallback", "end"] if late else list(wanted))
    assert audit.close(1.0)
