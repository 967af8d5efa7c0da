"""MagVenture emulator against the reference's frames and rules, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from stimulator_rig import START_NS

from simulators.stimulators.magventure import MODELS, MagVenture, crc, frame, interval_index
from simulators.stimulators.wire import FAULTS, LATE_NS, MS, S, Wire

EXCHANGES = [  # host, first frame of the answer
    ("FE 01 00 00 FF", "FE 09 00 64 00 12 34 15 3C 00 00 86 FF"),
    ("FE 02 02 01 CF FF", "FE 04 01 00 00 74 16 FF"),
    ("FE 02 01 32 C6 FF", "FE 04 01 32 00 74 87 FF"),
    ("FE 02 03 01 0B FF", "FE 04 02 32 00 74 0F FF"),
    ("FE 02 02 00 91 FF", None),
    ("FE 03 01 32 28 F6 FF", None),
    ("FE 01 03 E2 FF", None),
    ("FE 09 06 00 64 00 05 00 01 00 0A 28 FF", None),
    ("FE 03 07 02 00 EB FF", None),
    ("FE 02 07 02 D2 FF", None),
    ("FE 01 04 61 FF", None),
    ("FE 08 0A 01 00 0F FF EC 00 7D 6C FF", None),
]


class Bench:
    def __init__(self, fault: str = "", model: str = "x100+option", deaf: bool = False) -> None:
        self.device = MagVenture(model, deaf)
        self.wire = Wire(self.device, fault)
        self.now_ns = START_NS

    def send(self, data: str | bytes, wait_ms: int = 30) -> bytes:
        self.wire.host_sent(bytes.fromhex(data) if isinstance(data, str) else data, self.now_ns)
        return self.wait(wait_ms)

    def wait(self, ms: int) -> bytes:
        self.now_ns += ms * MS
        return self.wire.turn(self.now_ns)

    def pulses(self) -> list[int]:
        return [e["boot_ns"] for e in self.device.events if e["what"] == "pulse"]


def test_reference_frames() -> None:
    bench = Bench()
    for sent, answer in EXCHANGES:
        heard = bench.send(sent)
        assert heard.startswith(bytes.fromhex(answer) if answer else b"\xfe\x04") or sent[6:8] == "0A", sent
    assert crc(b"123456789") == 0xA1 and bench.device.delays.hex() == "000fffec007d"


def test_reference_frames_of_status_and_configuration() -> None:
    bench = Bench()
    assert bench.send("FE 01 05 3F FF") == bytes.fromhex("FE0F0564001234153C000000006464010 08BFF".replace(" ", ""))
    assert bench.send("FE 0B 09 01 03 00 00 03 02 00 C8 00 64 B8 FF") == b""
    expected = bytes.fromhex("FE0A0900030000030250 0050C4FF".replace(" ", ""))
    assert bench.send("FE 02 09 00 B2 FF") == expected
    assert bench.send("FE 0B 09 00 00 00 00 00 00 00 00 00 00 2B FF") == expected
    assert frame(bytes.fromhex("0200001C")) == bytes.fromhex("FE040200001C39FF")


def test_it_stays_enabled_and_a_train_runs_on_without_a_host() -> None:
    bench = Bench()
    bench.send(frame(b"\x02\x01"))
    bench.send(frame(bytes([6, 0, 100, 0, 20, 0, 3, 0, 20])))
    bench.send(frame(b"\x07\x02"))
    bench.send(frame(b"\x04"))
    bench.device.host(False, bench.now_ns)
    bench.wait(60_000)
    gaps = {b - a for a, b in pairwise(bench.pulses())}
    assert len(bench.pulses()) == 60 and gaps == {S // 10, 2 * S} and bench.device.enabled
    bench.send(frame(b"\x04"))
    bench.wait(500)
    bench.send(frame(b"\x02\x00"))
    count = len(bench.pulses())
    bench.wait(5_000)
    assert len(bench.pulses()) == count < 70


def test_bursts_pairs_and_the_greatest_rate() -> None:
    bench = Bench()
    bench.send("FE 0B 09 01 03 00 00 03 02 00 C8 00 64 B8 FF")
    bench.send(frame(b"\x02\x01"))
    bench.send(frame(b"\x03"), 200)
    assert [b - a for a, b in pairwise(bench.pulses())] == [20 * MS, 20 * MS]
    slow = Bench(model="r30")
    slow.send(frame(b"\x02\x01"))
    for _ in range(10):
        slow.send(frame(b"\x03"), 10)
    assert min(b - a for a, b in pairwise(slow.pulses())) >= S // 30


def test_it_speaks_unasked() -> None:
    bench = Bench()
    bench.device.turn_knob(33)
    assert bench.send(frame(b"\x00"))[:8] == frame(bytes([1, 33, 0, 0x64]))


def test_disabled_fires_nothing_and_malformed_frames_are_dropped_or_deafen() -> None:
    bench = Bench(deaf=True)
    bench.send(frame(b"\x03"))
    assert not bench.pulses()
    assert Bench().send("55 AA FE 01 00 01 FF FE 01 00 00 FF")[:3] == b"\xfe\x09\x00"
    bench.send("FE 01 00 01 FF")
    assert bench.send("FE 01 00 00 FF") == b""


@pytest.mark.parametrize(
    ("interval_ms", "paired", "index"),
    [(100, 0, 0), (20, 0, 80), (15, 0, 90), (0.5, 0, 195), (3000, 1, 0), (20, 1, 150), (1, 1, 260)],
)
def test_interval_index(interval_ms: float, paired: int, index: int) -> None:
    assert interval_index(interval_ms, bool(paired)) == index


@pytest.mark.parametrize("model", MODELS)
def test_every_model_says_which_it_is(model: str) -> None:
    assert Bench(model=model).send(frame(b"\x00"))[3] >> 5 == MODELS[model]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    bench, good = Bench(fault), Bench().send(frame(b"\x00"))
    heard = bench.send(frame(b"\x00"))
    match fault:
        case "no_answer" | "late":
            assert heard == b"" and bench.wait(LATE_NS // MS) == (good if fault == "late" else b"")
        case "garbled" | "wrong_crc":
            assert len(heard) == len(good) and heard != good
        case "half_frame":
            assert heard == good[:6]
        case "refuses_arm" | "coil_hot":
            bench.send(frame(b"\x02\x01"))
            assert not bench.device.enabled
        case "disarms":
            bench.send(frame(b"\x02\x01"))
            assert bench.wait(600) == frame(bytes([1, 0, 0, 0x64])) and not bench.device.enabled
        case "unplugged":
            bench.wait(300)
            assert bench.send(frame(b"\x00")) == b""
        case "lies":
            bench.send(frame(b"\x01\x32"))
            assert bench.send(frame(b"\x02\x01"))[5] & 0x10 == 0 and bench.device.enabled
            bench.send(frame(b"\x03"))
            assert [e["amplitude_percent"] for e in bench.device.events if e["what"] == "pulse"] == [76]
