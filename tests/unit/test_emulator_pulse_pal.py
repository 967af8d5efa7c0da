"""Pulse Pal emulator against the reference's frames, its waveforms and its bad habits, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from stimulator_rig import START_NS, frames

from simulators.stimulators.pulse_pal import CYCLE_NS, OWN_FAULTS, PulsePal, Settings, volts
from simulators.stimulators.wire import LATE_NS, MS, S, Wire

FRAMES = """
H> D5 48                                   handshake
D> 4B 15 00 00 00                          version 21
H> D5 4A 02 01 00 A0                       ch1 phase1 voltage +2.5 V
D> 01
H> D5 4A 02 01 FF FF                       ch1 +10 V
D> 01
H> D5 4A 11 01 00 80                       ch1 rest 0 V
D> 01
H> D5 4A 04 02 04 00 00 00                 ch2 phase1 duration 200 us
D> 01
H> D5 4A 0A 01 10 27 00 00                 ch1 train 0.5 s
D> 01
H> D5 4A 80 01 02                          trigger channel 1 gated
D> 01
H> D5 4B 03 00 00 00 00 00 00 00 A0 0F 00 00 10 27 00 00 66 E6 33 B3 33 53
D> 01
H> D5 4F 04 00 C0                          ch4 hold +5 V
D> 01
H> D5 52 03 01                             ch3 loop on
D> 01
"""
SILENT = ["D559505954484F4E", "D54D05", "D550", "D551"]


class Bench:
    def __init__(self, fault: str = "") -> None:
        self.device = PulsePal()
        self.wire = Wire(self.device, fault)
        self.now_ns = START_NS

    def send(self, text: str, wait_ms: float = 5) -> bytes:
        self.wire.host_sent(bytes.fromhex(text), self.now_ns)
        return self.wait(wait_ms)

    def wait(self, ms: float) -> bytes:
        self.now_ns += round(ms * MS)
        return self.wire.turn(self.now_ns)

    def levels(self, channel: int) -> list[tuple[int, float]]:
        return [(e["boot_ns"], e["volts"]) for e in self.device.events if e["what"] == "level" and e["channel"] == channel]


def test_reference_frames() -> None:
    bench, expected = Bench(), frames(FRAMES)
    for (_, sent), (_, answer) in zip(expected[::2], expected[1::2], strict=True):
        assert bench.send(sent.hex()) == answer, sent.hex()
    for text in SILENT:
        assert bench.send(text) == b""
    assert bench.device.custom[0].times == (0, 4000, 10_000)
    assert [round(volts(b), 2) for b in bench.device.custom[0].bits] == [8.0, 4.0, -3.5]
    assert round(bench.levels(4)[0][1], 1) == 5.0 and not bench.device.output_on  # disconnect stopped it


def test_a_firmware_train_has_its_widths_and_ends() -> None:
    bench = Bench()
    bench.send("D5 4A 0A 02 C8 00 00 00")  # channel 2: train of 10 ms; 100 us pulses every 1.1 ms
    bench.send("D5 4D 02", 100)
    levels = bench.levels(2)
    up = [t for t, v in levels if v > 4.9]
    assert len(up) == 10 and {b - a for a, b in pairwise(up)} == {22 * CYCLE_NS}
    assert levels[1][0] - levels[0][0] == 2 * CYCLE_NS and levels[-1][1] == 0.0 and not bench.device.output_on


def test_biphasic_pulses_and_bursts() -> None:
    bench = Bench()
    for code, value in ((4, 10), (5, 4), (6, 10), (7, 76), (8, 200), (9, 800), (10, 2000)):
        bench.send(f"D5 4A {code:02X} 01 {value.to_bytes(4, 'little').hex()}")
    bench.send("D5 4A 01 01 01")
    bench.send("D5 4D 01", 200)
    signs = [round(v) for _, v in bench.levels(1)]
    assert signs[:4] == [5, 0, -5, 0] and signs.count(5) == 4  # two bursts of two pulses
    assert bench.levels(1)[8][0] - bench.levels(1)[0][0] == 1000 * CYCLE_NS


def test_custom_trains_and_their_loop() -> None:
    bench = Bench()
    bench.send("D5 4B 03 00 00 00 00 00 00 00 A0 0F 00 00 10 27 00 00 66 E6 33 B3 33 53")
    bench.send("D5 4A 0E 01 01")
    bench.send("D5 4D 01", 2000)
    assert [round(v, 1) for _, v in bench.levels(1)] == [8.0, 0.0, 4.0, 0.0, -3.5, 0.0]
    bench.send("D5 4A 10 01 01")
    bench.send("D5 4D 01", 2000)
    assert len(bench.levels(1)) > 10 and not bench.device.output_on


def test_loops_and_held_voltages_go_on_for_ever_and_abort_leaves_what_is_held() -> None:
    bench = Bench()
    bench.send("D5 52 01 01")
    bench.send("D5 4F 02 00 C0")
    bench.device.host(False, bench.now_ns)
    bench.wait(5_000)
    assert bench.levels(1)[-1][0] > bench.now_ns - 2 * MS and bench.device.output_on
    bench.send("D5 50", 100)
    assert bench.levels(1)[-1][1] == 0.0 and bench.levels(2)[-1][1] > 4.9 and bench.device.output_on
    bench.send("D5 51")
    assert not bench.device.output_on


def test_a_trigger_during_a_train_starts_another_after_it() -> None:
    bench = Bench()
    bench.send("D5 4A 0A 01 D0 07 00 00")  # 100 ms
    bench.send("D5 4D 01", 50)
    bench.send("D5 4D 01", 400)
    times = [t for t, v in bench.levels(1) if v > 0]
    assert 195 * MS < times[-1] - times[0] < 201 * MS


def test_half_a_message_freezes_the_outputs_until_the_joystick_is_pressed() -> None:
    bench = Bench()
    bench.send("D5 4F 01 00 C0")
    bench.send("D5 4A 02", 600)
    assert bench.device.frozen and bench.send("D5 48") == b"" and bench.device.output_on
    bench.device.press_joystick(bench.now_ns)
    assert not bench.device.output_on and bench.send("D5 48")[:1] == b"K"


def test_everything_at_once_and_the_card() -> None:
    bench = Bench()
    settings = Settings()
    settings.channels[2].train, settings.channels[1].phase1_bits, settings.channels[3].biphasic = 777, 60_000, 1
    assert bench.send("D5 49" + settings.to_bytes().hex()) == b"\x01"
    assert bench.device.settings.to_bytes() == settings.to_bytes() and len(settings.to_bytes()) == 178
    assert bench.send("D5 5A 01 03 61 62 63") == b""
    bench.send("D5 4A 0A 03 10 27 00 00")
    assert bench.send("D5 5A 02 03 61 62 63") == settings.to_bytes() == bench.send("D5 55")


def test_bytes_that_are_no_message_are_dropped() -> None:
    assert Bench().send("59 50 00 FF D5 48") == bytes.fromhex("4B15000000")


@pytest.mark.parametrize("fault", OWN_FAULTS)
def test_faults(fault: str) -> None:
    bench = Bench(fault)
    heard = bench.send("D5 48")
    match fault:
        case "no_answer" | "late":
            assert heard == b"" and (bench.wait(LATE_NS / MS + 1) != b"") == (fault == "late")
        case "garbled" | "wrong_crc":
            assert len(heard) == 5 and heard[:1] != b"K"
        case "half_frame":
            assert heard == bytes.fromhex("4B15")
        case "refuses_arm":
            bench.send("D5 4D 0F", 100)
            assert not bench.levels(1)
        case "disarms":
            bench.send("D5 4D 01", 2000)
            assert bench.levels(1)[-1][0] < START_NS + S / 4
        case "unplugged":
            bench.wait(300)
            assert bench.send("D5 48") == b"" and bench.wire.unplugged
        case "lies":
            bench.send("D5 4D 01", 10)
            assert round(bench.levels(1)[0][1], 1) == 7.5
