"""P24 driver against the emulator in virtual time: frames, single pulses, faults, bytes of any kind."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, pull_cable, run, talk, through_faults, until

from drivers.stimulators import p24 as wire
from drivers.stimulators.amplitude import Peak
from drivers.stimulators.p24 import ERRORS, P24, Answer, Parser, Point, biphasic, low_level, mid_level, packet
from eegloop.errors import DeviceError
from simulators.stimulators import p24 as emulator
from simulators.stimulators.wire import FAULTS, MS

PATTERN = (Point(200, 20.0), Point(100, 0.0), Point(200, -20.0))
FRAMES = {
    "F0 81 55 81 58 81 26 81 6B 10 1E 01 0F": packet(4, wire.ML_INIT, b"\1"),
    "F0 81 55 81 49 81 CD 81 BC 14 20 01 23 00 50 0C 85 50 00 06 44 B0 00 0C 84 10 00 0F": packet(
        5, wire.ML_UPDATE, mid_level({1: (3, 20.0, PATTERN)})
    ),
    "F0 81 55 81 58 81 35 81 31 18 24 04 0F": packet(6, wire.ML_CURRENT, b"\4"),
    "F0 81 55 81 59 81 DE 81 3A 28 22 0F": packet(10, wire.ML_STOP),
    "F0 81 55 81 59 81 AA 81 2B 08 34 0F": packet(2, wire.DEVICE_ID),
    "F0 81 55 81 46 81 38 81 0F 30 02 81 A5 FF 81 A5 00 00 0F": packet(12, wire.LL_PULSE, bytes.fromhex("F0FFF00000")),
}
ANSWERS = {
    "F0 81 55 81 58 81 05 81 7B 10 1F 00 0F": Answer(4, 31, b"\0"),
    "F0 81 55 81 46 81 B0 81 72 18 25 00 04 01 00 00 00 00 0F": Answer(6, 37, bytes.fromhex("00040100000000")),
    "F0 81 55 81 58 81 29 81 87 28 23 00 0F": Answer(10, 35, b"\0"),
    "F0 81 55 81 46 81 38 81 0F 30 02 81 A5 FF 81 A5 00 00 0F": Answer(12, 2, bytes.fromhex("F0FFF00000")),
}


@pytest.mark.parametrize("expected", FRAMES)
def test_reference_frames(expected: str) -> None:
    assert FRAMES[expected] == bytes.fromhex(expected)


@pytest.mark.parametrize("size", range(1, 20))
def test_reference_answers_however_they_are_cut(size: int) -> None:
    data = b"".join(bytes.fromhex(text) for text in ANSWERS)
    parser = Parser()
    found = [answer for i in range(0, len(data), size) for answer in parser.feed(data[i : i + size])]
    assert found == list(ANSWERS.values()) and parser.broken == 0


@given(st.integers(0, 63), st.integers(0, 1023), st.binary(max_size=80))
def test_every_packet_goes_there_and_back_and_both_sides_frame_alike(number: int, command: int, data: bytes) -> None:
    sent = packet(number, command, data)
    assert Parser().feed(sent) == [Answer(number, command, data)] and sent == emulator.packet(number, command, data)
    assert talk(emulator.P24(), packet(number, 200, data)) == packet(number, wire.UNKNOWN_COMMAND, b"\x0b")


def test_amplitudes_are_peaks_and_pulses_are_balanced() -> None:
    points = biphasic(Peak.of_peak_to_peak(4.9, "mA"), 200)
    assert points == (Point(200, 2.0), Point(200, -2.0))
    for bad in (1.0, Peak.of_peak(131.0, "mA"), Peak.of_peak(1.0, "V")):
        with pytest.raises(DeviceError, match="peak"):
            biphasic(bad, 200)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="must"):
        low_level(9, points)
    with pytest.raises(DeviceError, match="must"):
        Point(9, 1.0).to_bytes()


def rig(fault: str = "", fault_after_s: float = 0.0) -> tuple[P24, VirtualLine]:
    line = VirtualLine(emulator.P24(), fault, fault_after_s)
    return P24("virtual", line=line, clock=line.clock), line


def connected() -> tuple[P24, VirtualLine]:
    driver, line = rig()
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0 and bool(driver.serial), 0.3)
    return driver, line


def test_pulses_one_by_one_and_stop() -> None:
    driver, line = connected()
    assert driver.serial == "P24EMU0001"
    driver.arm()
    run(driver, line, 2.0, lambda: driver.output(2.2, 10.0, 400), 10)
    assert driver.poll().output_ma == 2.0 and 18 <= len(line.pulses()) <= 20
    assert {tuple(map(tuple, pulse["points"])) for pulse in line.pulses()} == {((200, 2.0), (200, -2.0))}
    driver.zero()
    count = len(line.pulses())
    assert driver.poll().output_ma is None
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.1)
    run(driver, line, 1.0)
    assert len(line.pulses()) == count


def test_nothing_goes_on_without_the_host() -> None:
    driver, line = connected()
    driver.arm()
    run(driver, line, 1.0, lambda: driver.output(2.0, 40.0, 400), 10)
    left_ns = line.now_ns
    line.advance(5_000 * MS)
    assert line.pulses()[-1]["boot_ns"] - left_ns < driver.slice_s * 1e9 and not line.device.output_on


def test_a_pattern_left_running_is_stopped_at_connect_and_alone_it_lasts_two_seconds() -> None:
    driver, line = rig()
    for command, data in ((wire.ML_INIT, b"\1"), (wire.ML_UPDATE, mid_level({1: (0, 20.0, PATTERN)}))):
        line.wire.host_sent(packet(1, command, data), line.now_ns)
    line.advance(100 * MS)
    assert line.device.output_on
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.3)
    assert not line.device.output_on and driver.stops_alone_s == emulator.KEEP_ALIVE_NS / 1e9


def test_more_than_it_gives_is_refused_and_stops() -> None:
    driver, line = connected()
    driver.arm()
    run(driver, line, 0.1)
    driver.output(4.1, 10.0, 400)
    run(driver, line, 0.1)
    assert driver.trouble.startswith("out_of_range") and not line.pulses()


@pytest.mark.parametrize("after_s", [0.0, 0.5])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, after_s: float) -> None:
    driver, line = rig(fault, after_s)
    driver.connect()

    def each(turn: int) -> None:
        if turn in (20, 300):
            driver.arm()
        driver.output(1.0, 10.0, 400)

    named = through_faults(driver, line, 6.0, 10, each)
    expected = {
        "no_answer": {"no_answer"},
        "late": {"no_answer"},
        "garbled": {"broken_packet", "no_answer"},
        "wrong_crc": {"broken_packet"},
        "half_frame": {"broken_packet", "no_answer"},
        "refuses_arm": {"high_voltage"},
        "coil_hot": {"electrode"},
        "unplugged": {"unplugged"},
    }.get(fault, {""})
    assert expected & named and all(name in ERRORS for name in named - {""})
    line.advance(100 * MS)
    assert not line.device.output_on


@pytest.mark.parametrize("cut", range(0, 300, 4))
def test_the_cable_pulled_at_any_byte(cut: int) -> None:
    driver, line = rig()

    def each(turn: int) -> None:
        if turn == 20:
            driver.arm()
        driver.output(1.0, 10.0, 400)

    gone_ns = pull_cable(driver, line, cut, 6.0, 10, each)
    line.advance(3_000 * MS)
    assert not line.device.output_on and all(pulse["boot_ns"] <= gone_ns + 10 * MS for pulse in line.pulses())


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject) -> None:
    driver, line = rig()
    for command, payload in ((wire.ML_INIT, b"\1"), (wire.ML_UPDATE, mid_level({1: (0, 20.0, PATTERN)}))):
        line.wire.host_sent(packet(1, command, payload), line.now_ns)  # somebody left a pattern running
    line.advance(3 * MS)
    fuzz(
        data,
        driver,
        line,
        {"output": lambda: None},
        lambda action: driver.output(1.0, 40.0, 400) if action == "output" else None,
    )
    line.advance(20 * MS)
    assert not line.device.output_on


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=20)))
def test_the_parser_takes_any_bytes_and_then_still_finds_a_packet(pieces: list[bytes]) -> None:
    parser = Parser()
    for piece in pieces:
        parser.feed(piece)
    assert Answer(4, 31, b"\0") in parser.feed(b"\0\x0f" + packet(4, 31, b"\0"))
