"""P24 emulator against the reference's frames and its keep-alive, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from stimulator_rig import START_NS

from simulators.stimulators.p24 import P24, packet
from simulators.stimulators.wire import FAULTS, LATE_NS, MS, S, Wire

INIT = "F0 81 55 81 58 81 26 81 6B 10 1E 01 0F"
UPDATE = "F0 81 55 81 49 81 CD 81 BC 14 20 01 23 00 50 0C 85 50 00 06 44 B0 00 0C 84 10 00 0F"
CURRENT = "F0 81 55 81 58 81 35 81 31 18 24 04 0F"
STOP = "F0 81 55 81 59 81 DE 81 3A 28 22 0F"
EXCHANGES = [
    (INIT, "F0 81 55 81 58 81 05 81 7B 10 1F 00 0F"),
    (UPDATE, packet(5, 33, b"\0").hex()),
    (CURRENT, "F0 81 55 81 46 81 B0 81 72 18 25 00 04 01 00 00 00 00 0F"),
    (STOP, "F0 81 55 81 58 81 29 81 87 28 23 00 0F"),
    ("F0 81 55 81 59 81 AA 81 2B 08 34 0F", packet(2, 53, b"\0P24EMU0001").hex()),
]


class Bench:
    def __init__(self, fault: str = "") -> None:
        self.device = P24()
        self.wire = Wire(self.device, fault)
        self.now_ns = START_NS

    def send(self, data: str | bytes, wait_ms: int = 5) -> bytes:
        self.wire.host_sent(bytes.fromhex(data) if isinstance(data, str) else data, self.now_ns)
        return self.wait(wait_ms)

    def wait(self, ms: int) -> bytes:
        self.now_ns += ms * MS
        return self.wire.turn(self.now_ns)

    def pulses(self) -> list[dict[str, object]]:
        return [e for e in self.device.events if e["what"] == "pulse"]


def test_reference_frames() -> None:
    bench = Bench()
    for sent, answer in EXCHANGES:
        assert bench.send(sent) == bytes.fromhex(answer), sent


def test_a_frame_with_its_end_byte_inside() -> None:
    bench = Bench()
    bench.send(packet(1, 0, b"\0"))
    sent = "F0 81 55 81 46 81 38 81 0F 30 02 81 A5 FF 81 A5 00 00 0F"
    assert bench.send(sent) == packet(12, 3, bytes([2, 0x13, 0]))  # understood; -150 mA is more than it gives


def test_a_pattern_its_ramp_and_its_keep_alive() -> None:
    bench = Bench()
    bench.send(INIT)
    bench.send(UPDATE)
    started_ns = bench.pulses()[0]["boot_ns"]
    bench.wait(10_000)
    pulses = bench.pulses()
    peaks = [pulse["points"][0][1] for pulse in pulses]  # type: ignore[index]
    assert peaks[:4] == [5.0, 10.0, 15.0, 20.0] and set(peaks[4:]) == {20.0}
    assert {b["boot_ns"] - a["boot_ns"] for a, b in pairwise(pulses)} == {20 * MS}  # type: ignore[operator]
    assert len(pulses) == 100 and bench.device.events[-1] == {
        "boot_ns": started_ns + 2 * S,
        "what": "disarmed",
        "why": "keep-alive lapsed",
    }  # type: ignore[operator]
    kept = Bench()
    kept.send(INIT)
    kept.send(UPDATE)
    for _ in range(4):
        kept.wait(1_500)
        kept.send(CURRENT)
    assert kept.device.output_on


def test_errors() -> None:
    bench = Bench()
    assert bench.send(UPDATE) == packet(5, 33, b"\7")
    assert bench.send(packet(9, 200)) == packet(9, 67, b"\x0b")
    assert bench.send(UPDATE.replace("BC 14", "BD 14")) == packet(0, 66, b"\1")
    assert bench.send("00 11 0F") == b""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    bench = Bench(fault)
    good, heard = bytes.fromhex(EXCHANGES[0][1]), bench.send(INIT)
    match fault:
        case "no_answer" | "late":
            assert heard == b"" and bench.wait(LATE_NS // MS) == (good if fault == "late" else b"")
        case "garbled" | "wrong_crc":
            assert len(heard) == len(good) and heard != good
        case "half_frame":
            assert heard == good[:6]
        case "refuses_arm" | "coil_hot":
            assert bench.send(UPDATE) == packet(5, 33, bytes([8 if fault == "refuses_arm" else 10]))
        case "disarms":
            bench.send(UPDATE, 1_000)
            assert bench.device.events[-1]["why"] == "by itself"
        case "unplugged":
            bench.wait(300)
            assert bench.send(INIT) == b""
        case "lies":
            bench.send(UPDATE, 100)
            assert bench.send(packet(7, 62))[-4:-1] == b"\0\2\6" and bench.pulses()[-1]["points"][0][1] == 30.0  # type: ignore[index]
