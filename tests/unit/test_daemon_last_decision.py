"""A seat whose line ended: the dose goes on in the interlock, so what was decided last stays, with its age."""

from __future__ import annotations

from pathlib import Path

from daemon.asking import Asking
from daemon.audit import AuditTrail
from daemon.clock import MachineClock
from daemon.interlock_link import InterlockLink
from daemon.live import LiveServer
from daemon.loop import Decision, Line
from daemon.seat import SeatLoop
from daemon.view import loop_state
from eegloop.plugins import find
from eegloop.ports import Snapshot
from eegloop.signal import StreamInfo
from eegloop.stim import StimRequest, Verdict
from tests.unit.test_control_seat import rows


def no_line(info: StreamInfo) -> Line:
    raise AssertionError("no headset comes here")


async def test_the_last_decision_is_shown_with_its_age_after_the_line_has_ended(tmp_path: Path) -> None:
    clock = MachineClock()
    audit, live = AuditTrail(tmp_path / "audit.jsonl", clock), LiveServer(tmp_path / "live.sock")
    module = find("source", "lsl")
    seat = SeatLoop(
        "one", 0, "One", False, module.build(module.Settings(name="nobody"), clock), no_line, lambda info, line: None,
        InterlockLink(tmp_path / "interlock.sock", clock), audit, live, clock, Asking("one", None, (), False, audit, live, clock),
    )  # fmt: skip
    assert loop_state(seat, clock).decision == {}
    snapshot = Snapshot(1.0, rows(0.4, 1, 1.0), 0.4, 0.0, 1.0, 0.0, None, 0.2, 0.01)
    verdict = Verdict(StimRequest(0.5, 10.0, False, "Alpha is low: 0.10 mA more."), 0.5, 10.0, (), "Granted.")
    seat.vitals.decision = Decision(7, 1.0, 250, 1, {}, snapshot, verdict, "on")
    seat.vitals.samples = 500
    seat.vitals.decision_at_s = clock.lsl_s() - 1_025.0
    seat.fail("an internal error")
    shown = loop_state(seat, clock).decision
    assert shown["sentence"] == "Alpha is low: 0.10 mA more." and 1_025.0 <= shown["age_s"] < 1_035.0
    assert seat.vitals.message == "Stopped: an internal error." and seat.vitals.samples == 0
    assert audit.close(1.0)
