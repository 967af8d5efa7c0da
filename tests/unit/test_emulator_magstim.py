"""Magstim emulator against the reference's frames and rules, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from stimulator_rig import START_NS, frames, talk

from simulators.stimulators.magstim import BAUD, Magstim, crc
from simulators.stimulators.wire import FAULTS, LATE_NS, MS, S, Wire, byte_ns

FRAMES_200 = """
H> 51 40 6E              take control
D> 51 89 25              standby, coil present, remote
H> 46 40 79              temperatures
D> 46 89 32 34 30 32 34 30 04
H> 40 30 35 30 2A        power 50 %
D> 40 89 36
H> 45 48 72              fire while in standby
D> 45 53 67              refused
H> 45 42 78              arm
D> 45 89 31              state before the command
H> 51 40 6E
D> 51 8A 24              armed
"""
FRAMES_RAPID = """
H> 4E 44 6D              version
D> 4E 56 39 2E 30 2E 30 00 66
H> 5C 40 63              settings
D> 5C 89 38 30 33 30 30 30 30 30 30 30 30 30 31 30 30 30 30 30 30 31 30 1D
H> 5B 30 30 31 30 E3     rTMS mode
D> 5B 89 30 EB
H> 78 40 47              system status: rTMS mode now
"""


def host(text: str) -> bytes:
    body = text.encode("latin-1")
    return body + bytes([crc(body)])


class Bench:
    """A device, a wire and a clock."""

    def __init__(self, fault: str = "", **device: object) -> None:
        self.device = Magstim(**device)  # type: ignore[arg-type]
        self.wire = Wire(self.device, fault)
        self.now_ns = START_NS

    def send(self, text: str, wait_ms: int = 30) -> bytes:
        return self.send_bytes(host(text), wait_ms)

    def send_bytes(self, data: bytes, wait_ms: int = 30) -> bytes:
        self.wire.host_sent(data, self.now_ns)
        return self.wait(wait_ms)

    def wait(self, ms: int) -> bytes:
        self.now_ns += ms * MS
        return self.wire.turn(self.now_ns)

    def keep(self, ms: int) -> bytes:
        """Wait with keep-alives."""
        answer = b""
        for _ in range(0, ms, 250):
            answer = self.send("Q@", 250)
        return answer

    def events(self, what: str) -> list[dict[str, object]]:
        return [event for event in self.device.events if event["what"] == what]


def armed(**device: object) -> Bench:
    bench = Bench(**device)
    bench.send("Q@")
    bench.send("EB")
    bench.keep(1250)
    return bench


def test_reference_frames_of_a_200() -> None:
    bench, expected = Bench(), frames(FRAMES_200)
    for (side, sent), (_, answer) in zip(expected[::2], expected[1::2], strict=True):
        assert side == "H" and bench.send_bytes(sent) == answer
    bench.keep(1000)
    assert bench.send_bytes(bytes.fromhex("51406E")) == bytes.fromhex("518C22")  # ready
    assert bench.send_bytes(bytes.fromhex("454872")) == bytes.fromhex("458C2E")  # fire
    assert bench.send_bytes(bytes.fromhex("454179")) == bytes.fromhex("458A30")  # disarm, armed before
    assert bench.send_bytes(bytes.fromhex("52406D")) == bytes.fromhex("5209A4")  # release
    assert bench.events("pulse")[0]["power_percent"] == 50


def test_reference_frames_of_a_bistim() -> None:
    bench = Bench(model="bistim")
    assert bench.send_bytes(bytes.fromhex("51406E")) == bytes.fromhex("518925")
    assert bench.send_bytes(bytes.fromhex("4A4075")) == bytes.fromhex("4A8930333030333030313075")
    for sent in ("4130363028", "4330313 02B".replace(" ", ""), "594066", "5A4065"):
        answer = bench.send_bytes(bytes.fromhex(sent))
        assert answer[0] == int(sent[:2], 16) and answer[1] == 0x89 and len(answer) == 3
    assert (bench.device.power_b, bench.device.interval) == (60, 10)


def test_reference_frames_of_a_rapid() -> None:
    bench = Bench(model="rapid")
    bench.send("Q@")
    expected = frames(FRAMES_RAPID)
    for (_, sent), (_, answer) in zip(expected[:-1:2], expected[1:-1:2], strict=True):
        assert bench.send_bytes(sent) == answer
    assert bench.send_bytes(expected[-1][1])[:3] == bytes.fromhex("788930")
    for sent, length in (("4230313030FC", 4), ("443030303230C9", 4), ("5B30303230E2", 4), ("6E30353030CC", 4), ("49 40 76", 6)):
        answer = bench.send_bytes(bytes.fromhex(sent.replace(" ", "")))
        assert len(answer) == length and answer[1] == 0x89, sent
    assert bench.device.rate_tenths == 100 and bench.device.pulses == 20 and bench.device.duration_tenths == 20
    assert bench.send_bytes(bytes.fromhex("6F4050")) == host("o\x890500")  # 7 bytes on v9
    single = Bench(model="rapid")
    single.send("Q@")
    assert single.send_bytes(bytes.fromhex("784047")) == bytes.fromhex("7889380000C6")
    assert single.send_bytes(bytes.fromhex("5E4061")) == host("^\x89\x38") and single.device.enhanced
    assert single.send_bytes(bytes.fromhex("5F4060"))[:3] == b"_\x89\x39" and not single.device.enhanced
    assert single.send_bytes(bytes.fromhex("62405D")) == host("b\x89")


def test_the_reference_s_unlock_code() -> None:
    sent = bytes.fromhex("51313233342D31323334353637382D39614C")
    bench = Bench(model="rapid", unlock="1234-12345678-9a")
    assert bench.send("Q@") == b"" and bench.send("Q1234-12345678-9b") == b""
    assert bench.send_bytes(sent) == bytes.fromhex("518925")


def test_errors() -> None:
    bench = Bench()
    assert bench.send_bytes(b"\x00") == b"?"
    assert bench.send_bytes(b"Q@\x00") == host("Q?")
    assert bench.send("@050") == host("@S")  # no remote control
    bench.send("Q@")
    assert bench.send("@05x") == bytes.fromhex("403F80")
    assert bench.send("@101") == host("@S")
    assert bench.send("EZ") == host("E?")
    assert Bench(model="rapid").send("@050") == b""  # a Rapid says nothing to a host without control
    assert Bench(model="rapid").send("J@")[:1] == b"?"


def test_bytes_take_their_time() -> None:
    byte = byte_ns(BAUD)
    wire = Wire(Magstim())
    wire.host_sent(host("Q@"), START_NS)
    assert wire.turn(START_NS + 4 * byte - 1) == b"" and wire.turn(START_NS + 4 * byte) == b"Q"
    assert wire.turn(START_NS + 6 * byte) == b"\x89\x25"


def test_keep_alive_lapses_one_second_after_the_last_valid_command() -> None:
    bench = armed()
    last_ns = bench.now_ns - 250 * MS + 3 * byte_ns(BAUD)
    bench.send_bytes(b"\x00\x00")  # not understood: does not count
    bench.wait(1500)
    (event,) = bench.events("disarmed")
    assert event["why"] == "keep-alive lapsed" and event["boot_ns"] == last_ns + S
    assert not bench.device.remote and bench.send("J@")[1] == 0x09


def test_sixty_seconds_without_a_shot_disarm() -> None:
    bench = armed()
    bench.keep(60_000)
    assert bench.events("disarmed")[0]["why"] == "not fired for 60 s"


@pytest.mark.parametrize(("power", "pause_s"), [(49, 2), (50, 3), (79, 3), (80, 4)])
def test_shots_of_a_200_keep_their_distance(power: int, pause_s: int) -> None:
    bench = armed()
    bench.send(f"@{power:03d}")
    for _ in range(100):
        bench.send("Q@", 20)  # a refused shot keeps nothing alive
        bench.send("EH", 80)
    times = [event["boot_ns"] for event in bench.events("pulse")]
    gaps = [(b - a) / 1e9 for a, b in pairwise(times)]  # type: ignore[operator]
    assert len(times) >= 2 and min(gaps) >= pause_s and max(gaps) < pause_s + 0.11


def test_a_bistim_gives_pairs() -> None:
    bench = armed(model="bistim")
    for text in ("A060", "C025", "EH"):
        bench.send(text, 100)
    first, second = bench.events("pulse")
    assert (first["power_percent"], second["power_percent"]) == (30, 60)
    assert second["boot_ns"] - first["boot_ns"] == 25 * MS  # type: ignore[operator]


def rapid_train(power: int, tenths_hz: int, pulses: int, **device: object) -> Bench:
    bench = Bench(model="rapid", **device)
    bench.send("Q@")
    for text in (f"@{power:03d}", "[0010", f"B{tenths_hz:04d}", f"D{pulses:05d}", "[0020"):
        bench.send(text)
    bench.send("EB")
    bench.keep(1250)
    return bench


def test_a_rapid_train_its_lock_and_its_end_without_keep_alive() -> None:
    bench = rapid_train(40, 100, 15)
    assert bench.send("EH")[1] == 0x8C
    bench.keep(500)
    assert bench.send("@010") == host("@S")
    bench.keep(2000)
    times = [event["boot_ns"] for event in bench.events("pulse")]
    assert len(times) == 15 and {b - a for a, b in pairwise(times)} == {100 * MS}  # type: ignore[operator]
    lone = rapid_train(40, 100, 20)
    asked_ns = lone.now_ns + 3 * byte_ns(BAUD)
    lone.send("EH")
    lone.wait(5000)
    last_ns = max(event["boot_ns"] for event in lone.events("pulse"))  # type: ignore[type-var]
    assert len(lone.events("pulse")) == 11 and last_ns <= asked_ns + S  # type: ignore[operator]


def test_a_train_above_the_power_table_is_not_fired() -> None:
    bench = rapid_train(100, 160, 5)
    assert bench.send("EH") == host("ES") and not bench.events("pulse")


@pytest.mark.parametrize(("software", "length"), [((5, 0, 0), 21), ((7, 1, 0), 22), ((9, 0, 0), 24)])
def test_lengths_follow_the_software_version(software: tuple[int, ...], length: int) -> None:
    bench = Bench(model="rapid", software=software)
    assert len(bench.send("\\@")) == length
    bench.send("Q@")
    assert bench.send("[010" if software < (9,) else "[0010")[0] == ord("[")


def test_half_a_command_is_forgotten() -> None:
    bench = Bench()
    bench.send_bytes(b"@05", 1100)
    assert bench.send("Q@") == bytes.fromhex("518925")


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    good = Bench()
    bench = Bench(fault)
    expected, heard = good.send("Q@"), bench.send("Q@")
    match fault:
        case "no_answer" | "late":
            assert heard == b""
            assert bench.wait(LATE_NS // MS) == (expected if fault == "late" else b"")
        case "garbled":
            assert heard != expected and len(heard) == 3
        case "wrong_crc":
            assert heard[:2] == expected[:2] and heard[2] != expected[2]
        case "half_frame":
            assert heard == expected[:1]
        case "refuses_arm" | "coil_hot":
            assert bench.send("EB") == host("ES") and not bench.device.armed
        case "disarms":
            bench.send("EB")
            bench.keep(750)
            assert bench.events("disarmed")[0]["why"] == "by itself"
        case "unplugged":
            bench.wait(250)
            assert bench.wire.unplugged and bench.send("Q@") == b""
        case "lies":
            bench.send("EB")
            assert bench.keep(1500)[1] & 7 == 1 and bench.device.armed
            bench.send("EH")
            assert bench.events("pulse")[0]["power_percent"] == 46


def test_a_bare_device_answers_out_of_the_box() -> None:
    assert talk(Magstim(), host("F@"))[:2] == b"F\x09"
