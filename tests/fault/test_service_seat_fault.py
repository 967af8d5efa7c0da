"""An error nobody foresaw in one seat ends that seat's stimulation and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
from service_rig import RunningService, boot_ns, wait_for

from tests.running_service import PageClient

BREAK = """
import pathlib, sys
import daemon.loop
whole_step = daemon.loop.Line.step
flag = pathlib.Path(sys.argv[5]).parent / "break-now"
def step(line, tick):
    if flag.exists() and line.info.name.endswith("seat1"):
        flag.unlink()
        raise ZeroDivisionError("planted")
    return whole_step(line, tick)
daemon.loop.Line.step = step
"""


def test_an_error_in_one_seat_leaves_the_other_alone(tmp_path: Path) -> None:
    with RunningService(tmp_path, before=BREAK, seats=2) as service:
        service.until_stimulating(90.0)
        url = f"http://127.0.0.1:{service.port}"
        tokens = httpx.post(f"{url}/api/v1/demo/session", headers={"origin": url}, timeout=5.0).json()
        page = PageClient(url, tokens)
        wait_for(lambda: page.seat("seat1"), 10, "the page to be shown the seat")
        fault_ns = boot_ns()
        (tmp_path / "break-now").touch()
        assert service.zero_after_ms(fault_ns, "seat1") <= 1000.0
        wait_for(lambda: service.phase("seat2") in ("ramp_up", "on"), 10, "the other seat to go on")
        assert all(ma > 0.0 for t, ma in service.samples("seat2") if t > fault_ns)
        wait_for(lambda: service.health()["seats"][0]["stream"] == "live", 20, "the broken seat to be seen again")
        wait_for(lambda: service.phase("seat1") == "stopped", 10, "the broken seat to say stopped")
        assert not service.nonzero_since(fault_ns + 1_000_000_000, "seat1")
        assert "ZeroDivisionError" in (service.layout.data / "eegloop.log").read_text()
        said = [one for state in page.states for one in state["seats"] if one["seat"] == "seat1"]
        assert any("an internal error (ZeroDivisionError)" in one["phase_reason"] for one in said), "the page says why"
        shown = wait_for(lambda: (one := page.seat("seat1"))["phase"] == "stopped" and one, 5, "the page to say stopped")
        assert shown["phase_reason"] == (
            "Stopped: an internal error (ZeroDivisionError); eegloop.log has the details. A person must re-arm."
        ), "and goes on saying it"
        assert page.open and all(len(text["seats"]) == 2 for text in page.texts if text["type"] == "seats"), "no seat vanishes"
        page.close()
