"""open-LIFU emulator against the reference's frames and rules, in virtual time."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from stimulator_rig import START_NS

from simulators.stimulators.open_lifu import OpenLifu, crc, frame
from simulators.stimulators.wire import FAULTS, LATE_NS, MS, Wire

EXCHANGES = [
    ("AA 00 01 E2 00 00 00 00 00 89 27 DD", "AA 00 01 E3 00 00 00 00 00 CC 87 DD"),
    ("AA 00 05 EA 06 00 00 00 00 88 26 DD", "AA 00 05 E3 06 00 00 00 04 00 00 FC 41 CE DC DD"),
    ("AA 00 02 EB 31 00 00 00 04 41 48 00 00 4A EE DD", frame(2, 0xE3, 0x31).hex()),
    ("AA 00 04 EB 33 00 00 00 00 5A 5E DD", frame(4, 0xE3, 0x33).hex()),
    ("AA 00 05 EB 3D 00 00 00 00 2D 97 DD", "AA 00 05 E3 3D 00 01 00 00 17 E5 DD"),
    ("AA 00 0A EA 15 00 00 00 00 E8 47 DD", frame(10, 0xEF, 0x15).hex()),  # not configured
    ("AA 00 0C EA 16 00 00 00 00 A7 B0 DD", frame(12, 0xE3, 0x16).hex()),
]


class Bench:
    def __init__(self, fault: str = "", **device: object) -> None:
        self.device = OpenLifu(**device)  # type: ignore[arg-type]
        self.wire = Wire(self.device, fault)
        self.now_ns = START_NS

    def send(self, data: str | bytes, wait_ms: int = 5) -> bytes:
        self.wire.host_sent(bytes.fromhex(data) if isinstance(data, str) else data, self.now_ns)
        return self.wait(wait_ms)

    def wait(self, ms: int) -> bytes:
        self.now_ns += ms * MS
        return self.wire.turn(self.now_ns)

    def configure(self, **values: object) -> bytes:
        body = {
            "TriggerFrequencyHz": "10.0",
            "TriggerPulseCount": 5,
            "TriggerPulseWidthUsec": 100,
            "TriggerPulseTrainCount": 1,
        } | values
        return self.send(frame(3, 0xEA, 0x13, data=json.dumps(body).encode()))

    def pulses(self) -> list[dict[str, object]]:
        return [e for e in self.device.events if e["what"] == "pulse"]


def test_reference_frames() -> None:
    bench = Bench()
    for sent, answer in EXCHANGES:
        assert bench.send(sent) == bytes.fromhex(answer), sent
    assert crc(b"123456789") == 0x29B1 and bench.device.volts_set == 12.5


def test_a_sequence_ends_and_continuous_goes_on_without_a_host() -> None:
    bench = Bench()
    bench.send(EXCHANGES[2][0])
    bench.send(EXCHANGES[3][0])
    told = json.loads(bench.configure(TriggerPulseTrainInterval=1_000_000, TriggerPulseTrainCount=2)[9:-3])
    assert told["TriggerFrequencyHz"] == 10 and told["TriggerStatus"] == "STOPPED"
    bench.send(frame(4, 0xEA, 0x15))
    assert json.loads(bench.send(frame(5, 0xEA, 0x14))[9:-3])["TriggerStatus"] == "RUNNING"
    bench.wait(5_000)
    times = [pulse["boot_ns"] for pulse in bench.pulses()]
    assert len(times) == 10 and {b - a for a, b in pairwise(times)} == {100 * MS, 600 * MS}  # type: ignore[operator]
    assert {pulse["volts"] for pulse in bench.pulses()} == {12.5}
    bench.configure(TriggerMode=1)
    bench.send(frame(6, 0xEA, 0x15))
    bench.device.host(False, bench.now_ns)
    bench.wait(60_000)
    assert len(bench.pulses()) > 600 and bench.device.output_on
    bench.configure()
    assert not bench.device.running  # setting stops


def test_the_newer_console_switches_off_when_its_port_closes() -> None:
    for interlock in (False, True):
        bench = Bench(model="console", interlock=interlock)
        bench.send(EXCHANGES[3][0])
        bench.device.host(False, bench.now_ns)
        assert bench.device.high_voltage != interlock
        assert bench.send(frame(1, 0xEA, 0x15))[3] == 0xEE


def test_refusals_and_broken_frames() -> None:
    bench = Bench()
    bench.configure(TriggerPulseWidthUsec=100_000)
    assert bench.send(frame(1, 0xEA, 0x15))[3] == 0xEF
    bench.configure(TriggerPulseTrainInterval=1000)
    assert bench.send(frame(1, 0xEA, 0x15))[3] == 0xEF
    assert bench.configure(TriggerFrequencyHz=0)[3] == 0xEF and bench.send(frame(1, 0xEB, 0x31, data=b"12"))[3] == 0xEF
    assert bench.send(EXCHANGES[0][0].replace("89", "88"))[3] == 0xED
    assert bench.send(EXCHANGES[0][0][:-2] + "DE")[3] == 0xEC
    assert bench.send(frame(1, 0xE2, 0x77))[3] == 0xEE
    assert bench.send(b"\xaa\x00\x01", 600) == b"" and bench.send(EXCHANGES[0][0])[3] == 0xE3


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    bench = Bench(fault)
    good, heard = bytes.fromhex(EXCHANGES[0][1]), bench.send(EXCHANGES[0][0])
    bench.device.high_voltage, bench.device.volts_set = True, 10.0
    match fault:
        case "no_answer" | "late":
            assert heard == b"" and bench.wait(LATE_NS // MS) == (good if fault == "late" else b"")
        case "garbled" | "wrong_crc":
            assert len(heard) == len(good) and heard != good
        case "half_frame":
            assert heard == good[:6]
        case "refuses_arm" | "coil_hot":
            bench.configure()
            answer = bench.send(frame(4, 0xEA, 0x15))
            assert answer[3] == (0xEF if fault == "refuses_arm" else 0xE3) and not bench.device.running
        case "disarms":
            bench.configure()
            bench.send(frame(4, 0xEA, 0x15), 1_000)
            assert bench.device.events[-1]["why"] == "by itself"
        case "unplugged":
            bench.wait(300)
            assert bench.send(EXCHANGES[0][0]) == b""
        case "lies":
            bench.configure()
            bench.send(frame(4, 0xEA, 0x15))
            assert b"STOPPED" in bench.send(frame(5, 0xEA, 0x14)) and bench.pulses()[0]["volts"] == 15.0
