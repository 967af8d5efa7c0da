"""The running interlock: a key that is revoked, files that go, and the prescription's own end, while current flows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.vouched import LOOK_AGAIN_S
from tests.interlock_bench import valid_now, write_keys
from tests.interlock_rig import Daemon, Rig, boot_ns

NOTICED_S = LOOK_AGAIN_S + 0.5
"""A look begins this long after the last one ended, and takes milliseconds."""
FALLS_S = 1.5
"""The test's prescription falls back within 1 s."""


def _revoke(rig: Rig) -> None:
    write_keys(rig.layout.keys, [{**rig.signer.entry, "revoked": True}])


def _list_gone(rig: Rig) -> None:
    (rig.layout.keys / "trusted.json").unlink()


@pytest.mark.parametrize(
    ("happens", "because"),
    [
        (_revoke, "signed.signatures[0].key (Dr A): is revoked"),
        (_list_gone, "trusted.json: cannot be read"),
    ],
)
def test_what_flows_comes_down_within_seconds(tmp_path: Path, happens: Callable[[Rig], None], because: str) -> None:
    with Rig(tmp_path) as rig:
        daemon = Daemon(rig)
        daemon.run_at(0.1, 0.1)
        happens(rig)
        at_ns = boot_ns()
        daemon.until(lambda: daemon.state["mode"] != "armed")
        assert (boot_ns() - at_ns) / 1e9 < NOTICED_S
        assert "fallback: the signature no longer counts (" in daemon.state["reason"] and because in daemon.state["reason"]
        daemon.until(lambda: daemon.state["mode"] == "stopped")
        daemon.until(lambda: daemon.state["confirmed_ma"] == 0.0)
        assert (boot_ns() - at_ns) / 1e9 < NOTICED_S + FALLS_S
        daemon.answers.clear()
        daemon.send("arm")
        daemon.until(lambda: daemon.answers)
        refused = daemon.answers[0]
        assert refused["type"] == "refused" and because in f"{refused['field']}: {refused['reason']}"
        daemon.close()


def test_the_prescriptions_end_comes_while_current_flows(tmp_path: Path) -> None:
    until_s = int(time.time()) + 4
    with Rig(tmp_path, prescription=valid_now(valid_until_s=until_s)) as rig:
        daemon = Daemon(rig)
        daemon.run_at(0.1, 0.1)
        daemon.until(lambda: "the prescription ends at" in daemon.state["reason"], timeout_s=8.0)
        assert daemon.state["mode"] == "armed" and 0.5 < until_s - time.time() < 1.5, "0.1 mA at 0.1 mA/s: a second before"
        assert time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(until_s)) in daemon.state["reason"]
        daemon.until(lambda: daemon.state["mode"] == "stopped" and daemon.state["confirmed_ma"] == 0.0)
        assert time.time() < until_s + 0.5
        daemon.close()
