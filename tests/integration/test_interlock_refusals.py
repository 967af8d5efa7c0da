"""Real processes: what is not signed, above a limit or no number is refused through the wire, and what the device does wrong stops."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from eegloop.stop import ADVICE, stop
from tests.integration.test_interlock_processes import rig
from tests.interlock_bench import Signer, valid_now, write_signed
from tests.interlock_rig import SEAT, WITHIN_S, Daemon, Rig, boot_ns, refused_to_arm, wait_for

__all__ = ["rig"]


# ---- prescriptions -------------------------------------------------------------------------------------------------------


def test_an_altered_prescription_cannot_be_armed_but_stop_works(tmp_path: Path) -> None:
    with Rig(tmp_path, start=False) as rig:
        body = json.loads(rig.signed.read_text())
        body["signatures"][0]["signature"] = "00" * 64
        rig.signed.write_text(json.dumps(body))
        rig.start_stimulator()
        rig.start_interlock()
        refused_to_arm(rig, "signed.signatures[0].signature")
        assert stop(rig.layout.stop_socket(SEAT), "x")["confirmed"] is True


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amplitude_ua": 2001}, "prescription.amplitude_ua"),
        ({"patient": "other"}, "prescription.patient"),
        ({"device": "p24", "device_serial": "7"}, "prescription.device"),
        ({"pad_mm2": 1000}, "prescription.pad_mm2"),
    ],
)
def test_a_prescription_that_is_not_for_this_cannot_be_armed(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with Rig(tmp_path, prescription=valid_now(**changes), start=False) as rig:
        write_signed(tmp_path, rig.prescription, [Signer(scope="any")], rig.layout.keys / "trusted.json")
        rig.start_stimulator()
        rig.start_interlock()
        refused_to_arm(rig, field)


def test_the_devices_own_maximum_counts(tmp_path: Path) -> None:
    with Rig(tmp_path, "--max-ma", "1.0") as rig:
        refused_to_arm(rig, "prescription.amplitude_ua")


# ---- limits through the wire ---------------------------------------------------------------------------------------------


def test_a_set_above_the_limit_trips_through_the_wire(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    fault_ns = boot_ns()
    daemon.send("set", amplitude_ma=1.6)
    daemon.stopped("above a limit")
    assert [a["set_by"] for a in daemon.answers if a["field"] == "amplitude_ma"] == ["prescription"]
    assert rig.after_s(fault_ns) < 0.3
    daemon.close()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN"])
def test_numbers_that_are_none_trip_or_are_refused(rig: Rig, number: str) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    packet = daemon.command("set", amplitude_ma=0.123456).to_json().replace(b"0.123456", number.encode())
    daemon.socket.send(packet)
    daemon.stopped("above a limit")
    daemon.close()


def test_garbage_on_the_control_socket_is_refused_and_ten_of_it_stop(rig: Rig) -> None:
    daemon = Daemon(rig)
    daemon.run_at(1.0, 0.03)
    garbage = [b"\x00", b"{", b"[]", b"null", b'{"kind":7}', b'{"kind":"set","amplitude_ma":"1"}', b"x" * 16_000]
    for packet in [*garbage, b"{}", b'{"kind":"heartbeat","sequence":1.5}']:
        daemon.socket.send(packet)
        daemon.until(lambda: daemon.answers)
        assert daemon.answers.pop()["type"] == "refused"
        assert daemon.state["mode"] == "armed"
    daemon.socket.send(b"x" * 20_000)
    daemon.stopped("ten commands were refused")
    daemon.close()


def test_alternating_current_flows_with_its_frequency(tmp_path: Path) -> None:
    p = valid_now(modality="tacs", frequency_millihz=5_000, amplitude_ua=1000, start_ua=1000)
    with Rig(tmp_path, prescription=p) as rig:
        daemon = Daemon(rig)
        daemon.arm()
        daemon.send("set", amplitude_ma=0.1, frequency_hz=5.0)
        daemon.until(lambda: daemon.state["confirmed_ma"] == 0.1)
        since_ns = boot_ns()
        daemon.until(lambda: boot_ns() > since_ns + 1_000_000_000)
        daemon.send("end")
        daemon.stopped("session ended")
        values = [ma for t, ma in rig.samples() if since_ns <= t <= since_ns + 1_000_000_000]
        assert max(values) == pytest.approx(0.1, abs=0.002) and min(values) == pytest.approx(-0.1, abs=0.002)
        crossings = sum(a < 0 <= b for a, b in pairwise(values))
        assert 4 <= crossings <= 6
        assert max(abs(ma) for _, ma in rig.samples()) <= 0.1
        daemon.close()


# ---- the device's faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "because"),
    [
        ("silent", "silent"),
        ("late", "silent"),
        ("garbled", "silent"),
        ("wrong_readback", "instead of"),
        ("disarms", "disarmed itself"),
        ("unplugged", "unplugged"),
    ],
)
def test_device_fault_while_stimulating(tmp_path: Path, fault: str, because: str) -> None:
    with Rig(tmp_path, "--fault", fault, "--fault-after-s", "0.8") as rig:
        daemon = Daemon(rig)
        daemon.run_at(1.0, 0.03)
        armed_ns = next(t for t, ma in rig.samples() if ma != 0.0)
        daemon.stopped(because)
        assert rig.after_s(armed_ns + 800_000_000) < WITHIN_S
        answer = stop(rig.layout.stop_socket(SEAT), "and now")
        assert answer["confirmed"] is (fault in ("wrong_readback", "disarms", "late")), answer
        daemon.close()


def test_device_that_refuses_to_arm(tmp_path: Path) -> None:
    with Rig(tmp_path, "--fault", "refuses_arm") as rig:
        daemon = Daemon(rig)
        daemon.arm()
        daemon.send("set", amplitude_ma=1.0)
        daemon.stopped("did not arm")
        assert rig.last_nonzero_ns() == 0
        daemon.close()


def test_stuck_device_is_reported_as_not_confirmed(tmp_path: Path) -> None:
    with Rig(tmp_path, "--fault", "stuck", "--fault-after-s", "0.8") as rig:
        daemon = Daemon(rig)
        daemon.run_at(1.0, 0.07)
        daemon.until(lambda: (daemon.state["confirmed_ma"] or 1.0) < daemon.state["commanded_ma"] - 0.01, 8.0)
        answer = stop(rig.layout.stop_socket(SEAT), "help")
        assert answer["confirmed"] is False and answer["output_ma"] > 0.05 and answer["advice"] == ADVICE
        daemon.stopped("STOP")
        assert daemon.state["zero_since_ns"] == 0 and daemon.state["confirmed_ma"] > 0.05
        wait_for(lambda: "stop_not_confirmed" in rig.event_names())
        daemon.close()


def test_device_that_comes_later_or_again(tmp_path: Path) -> None:
    with Rig(tmp_path, start=False) as rig:
        rig.start_interlock()
        daemon = Daemon(rig)
        daemon.send("arm")
        daemon.until(lambda: daemon.answers)
        assert daemon.answers.pop()["field"] == "device" and daemon.state["confirmed_ma"] is None
        first = rig.start_stimulator()
        daemon.run_at(1.0, 0.03)
        fault_ns = boot_ns()
        first.kill()
        daemon.stopped("unplugged")
        assert daemon.state["confirmed_ma"] is None and daemon.state["zero_since_ns"] == 0
        assert rig.last_nonzero_ns() < fault_ns + 10**9
        rig.start_stimulator()
        daemon.until(lambda: daemon.state["zero_since_ns"])
        assert daemon.state["mode"] == "stopped"
        daemon.close()
