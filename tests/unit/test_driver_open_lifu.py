"""open-LIFU driver against the emulator in virtual time: frames, self-ending sequences, faults, bytes of any kind."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, pull_cable, run, through_faults, until

from drivers.stimulators import open_lifu_frames as wire
from drivers.stimulators.open_lifu import ERRORS, OpenLifu
from drivers.stimulators.open_lifu_frames import Frame, Parser, Sequence, frame
from eegloop.errors import DeviceError
from simulators.stimulators import open_lifu as emulator
from simulators.stimulators.wire import FAULTS, MS

FRAMES = {
    "AA 00 01 E2 00 00 00 00 00 89 27 DD": frame(1, *wire.PING),
    "AA 00 05 EA 06 00 00 00 00 88 26 DD": frame(5, *wire.TEMPERATURE),
    "AA 00 0A EA 15 00 00 00 00 E8 47 DD": frame(10, *wire.START_TRIGGER),
    "AA 00 0C EA 16 00 00 00 00 A7 B0 DD": frame(12, *wire.STOP_TRIGGER),
    "AA 00 02 EB 31 00 00 00 04 41 48 00 00 4A EE DD": frame(2, *wire.SET_HV, data=struct.pack(">f", 12.5)),
    "AA 00 04 EB 33 00 00 00 00 5A 5E DD": frame(4, *wire.HV_ON),
    "AA 00 05 EB 3D 00 00 00 00 2D 97 DD": frame(5, *wire.HV_IS_ON),
}
ANSWERS = {
    "AA 00 01 E3 00 00 00 00 00 CC 87 DD": Frame(1, 0xE3, 0, 0, 0, b""),
    "AA 00 05 E3 06 00 00 00 04 00 00 FC 41 CE DC DD": Frame(5, 0xE3, 6, 0, 0, struct.pack("<f", 31.5)),
    "AA 00 05 E3 3D 00 01 00 00 17 E5 DD": Frame(5, 0xE3, 0x3D, 0, 1, b""),
}
SEQUENCE = Sequence(100, 40, 200)


@pytest.mark.parametrize("expected", FRAMES)
def test_reference_frames(expected: str) -> None:
    assert FRAMES[expected] == bytes.fromhex(expected)


@pytest.mark.parametrize("size", range(1, 20))
def test_reference_answers_however_they_are_cut(size: int) -> None:
    data = b"".join(bytes.fromhex(text) for text in ANSWERS)
    parser = Parser()
    assert [f for i in range(0, len(data), size) for f in parser.feed(data[i : i + size])] == list(ANSWERS.values())


@pytest.mark.parametrize(
    "sequence",
    [
        Sequence(100, 51, 200),
        Sequence(100, 5, 10_000),
        Sequence(0, 5, 1),
        Sequence(100, 5, 1, 2, 1000),
        Sequence(10, 1, 1, 2, 600_000),
        Sequence(1.5, 1, 1),
    ],  # type: ignore[arg-type]
)
def test_sequences_that_are_never_sent(sequence: Sequence) -> None:
    with pytest.raises(DeviceError, match="must"):
        sequence.to_json()


def rig(fault: str = "", fault_after_s: float = 0.0) -> tuple[OpenLifu, VirtualLine]:
    line = VirtualLine(emulator.OpenLifu(), fault, fault_after_s)
    return OpenLifu("virtual", line=line, clock=line.clock), line


def ready() -> tuple[OpenLifu, VirtualLine, Callable[[], None]]:
    driver, line = rig()
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0 and bool(driver.serial), 0.3)
    driver.set_voltage(20.0)
    driver.set_sequence(SEQUENCE)
    run(driver, line, 0.2)

    def hold() -> None:
        driver.hold(400)

    driver.arm()
    until(driver, line, lambda: driver.ready, 1.0, hold)
    return driver, line, hold


def test_a_sequence_and_stop_inside_it() -> None:
    driver, line, hold = ready()
    driver.fire()
    assert driver.poll().output_ma is None
    run(driver, line, 0.6, hold)
    assert len(line.pulses()) == 40 and {pulse["volts"] for pulse in line.pulses()} == {20.0} and driver.temperature_c == 31.5
    until(driver, line, lambda: driver.ready, 0.2, hold)
    driver.fire()
    run(driver, line, 0.1, hold)
    driver.zero()
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.1)
    assert len(line.pulses()) < 55 and not line.device.output_on
    with pytest.raises(DeviceError, match="not fired"):
        driver.fire()


def test_alone_only_the_sequence_under_way_is_finished() -> None:
    driver, line, _hold = ready()
    driver.fire()
    left_ns = line.now_ns
    line.advance(10_000 * MS)
    assert (line.pulses()[-1]["boot_ns"] - left_ns) / 1e9 <= driver.slice_s and not line.device.output_on


def test_a_continuous_trigger_found_at_connect_is_stopped() -> None:
    driver, line = rig()
    body = b'{"TriggerFrequencyHz":10,"TriggerPulseCount":5,"TriggerPulseWidthUsec":10,"TriggerMode":1}'
    for sent in (frame(1, *wire.SET_TRIGGER, data=body), frame(2, *wire.HV_ON), frame(3, *wire.START_TRIGGER)):
        line.wire.host_sent(sent, line.now_ns)
    line.advance(20 * MS)
    assert line.device.output_on
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.3)
    assert not line.device.output_on


@pytest.mark.parametrize("after_s", [0.0, 0.8])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, after_s: float) -> None:
    driver, line = rig(fault, after_s)
    driver.connect()

    def each(turn: int) -> None:
        if turn == 40 and line.is_open:
            driver.set_voltage(20.0)
            driver.set_sequence(SEQUENCE)
        if turn == 80:
            driver.arm()
        driver.hold(400)
        if driver.ready:
            driver.fire()

    named = through_faults(driver, line, 6.0, 5, each, may_lie=fault == "lies")
    expected = {
        "no_answer": {"no_answer"},
        "late": {"no_answer"},
        "garbled": {"broken_frame", "no_answer"},
        "wrong_crc": {"broken_frame"},
        "half_frame": {"broken_frame", "no_answer"},
        "refuses_arm": {"refused"},
        "coil_hot": {"nothing_started"},
        "unplugged": {"unplugged"},
        "lies": {"voltage_off"},
    }.get(fault, {""})
    assert expected & named and all(name in ERRORS for name in named - {""}), named
    line.advance(1_000 * MS)
    assert not line.device.output_on


@pytest.mark.parametrize("cut", range(0, 700, 9))
def test_the_cable_pulled_at_any_byte(cut: int) -> None:
    driver, line = rig()

    def each(turn: int) -> None:
        if turn == 40 and line.is_open:
            driver.set_voltage(20.0)
            driver.set_sequence(SEQUENCE)
        if turn == 80:
            driver.arm()
        driver.hold(400)
        if driver.ready:
            driver.fire()

    pull_cable(driver, line, cut, 6.0, 5, each)
    line.advance(600 * MS)
    assert not line.device.output_on


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject) -> None:
    driver, line = rig()
    actions = {
        "volts": lambda: driver.set_voltage(20.0),
        "set": lambda: driver.set_sequence(SEQUENCE),
        "fire": driver.fire,
    }
    fuzz(data, driver, line, actions, lambda _action: driver.hold(400))
    line.advance(20 * MS)
    assert not line.device.output_on


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=20)))
def test_the_parser_takes_any_bytes_and_then_still_finds_a_frame(pieces: list[bytes]) -> None:
    parser = Parser()
    for piece in pieces:
        parser.feed(piece)
    sent = frame(7, 0xE3, 1, data=b"x")
    assert Frame(7, 0xE3, 1, 0, 0, b"x") in parser.feed(b"\0" * 2100 + sent)
