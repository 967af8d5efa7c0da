"""MagVenture driver against the emulator in virtual time: frames, lease, faults, bytes of any kind."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, pull_cable, run, through_faults, until

from drivers.stimulators import magventure_frames as wire
from drivers.stimulators.magventure import ERRORS, MagVenture
from drivers.stimulators.magventure_frames import Parser, Status, crc, frame, interval_ms
from eegloop.errors import DeviceError
from simulators.stimulators import magventure as emulator
from simulators.stimulators.wire import FAULTS, MS

COMMANDS = {
    "FE010000FF": wire.STATUS,
    "FE020201CFFF": wire.ENABLE,
    "FE020132C6FF": wire.amplitude_frame(50),
    "FE03013228F6FF": wire.amplitude_frame(50, 40),
    "FE0203010BFF": wire.FIRE,
    "FE0103E2FF": frame(3),
    "FE0906006400050001000A28FF": wire.train_frame(10.0, 5, 1, 1.0),
    "FE03070200EBFF": frame(7, 2, 0),
    "FE020702D2FF": wire.page_frame(2),
    "FE010461FF": wire.START_TRAIN,
    "FE01053FFF": wire.EXTENDED,
    "FE0B090103000003 0200C80064B8FF".replace(" ", ""): wire.configuration_frame(3, 0, 0, 3, 3, 20.0, 1.0),
    "FE0B090000000000000000 00002BFF".replace(" ", ""): frame(9, *bytes(10)),
    "FE020900B2FF": wire.READ_CONFIGURATION,
    "FE080A01000FFFEC007D6CFF": wire.delays_frame(1.5, -2.0, 125),
    "FE02020091FF": wire.DISABLE,
}
ANSWERS = {
    "FE090064001234153C000086FF": Status("standard", "biphasic", False, "X100+Option"),
    "FE040100007416FF": Status("standard", "biphasic", True, "X100+Option"),
    "FE040132007487FF": Status("standard", "biphasic", True, "X100+Option"),
    "FE04023200740FFF": Status("standard", "biphasic", True, "X100+Option"),
    "FE040200001C39FF": Status("standard", "biphasic_burst", True, "R30"),
    "FE0F0564001234153C000000006464 01008BFF".replace(" ", ""): Status("standard", "biphasic", False, "X100+Option"),
}


@pytest.mark.parametrize("expected", COMMANDS)
def test_reference_commands(expected: str) -> None:
    assert COMMANDS[expected] == bytes.fromhex(expected)


@pytest.mark.parametrize("answer", ANSWERS)
def test_reference_answers(answer: str) -> None:
    (payload,) = Parser().feed(bytes.fromhex(answer))
    assert Status.from_byte(payload[1] if payload[0] in (0, 5) else payload[3]) == ANSWERS[answer]


def test_frames_are_cut_by_length_not_by_their_end_byte() -> None:
    data = bytes.fromhex("FE080A01000FFFEC007D6CFF" + "FE0A090003000003025000 50C4FF".replace(" ", ""))
    for size in range(1, len(data)):
        parser = Parser()
        found = [p for i in range(0, len(data), size) for p in parser.feed(data[i : i + size])]
        assert [p.hex() for p in found] == ["0a01000fffec007d", "09000300000302500050"] and parser.broken == 0
    assert interval_ms(0x50, False) == 20.0 and crc(b"123456789") == 0xA1


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_go_there_and_back(paired: bool) -> None:
    for index in range(261 if paired else 196):
        assert emulator.interval_index(interval_ms(index, paired), paired) == index
    with pytest.raises(DeviceError, match="no such interval"):
        interval_ms(300, paired)


def rig(fault: str = "", fault_after_s: float = 0.0, model: str = "x100+option") -> tuple[MagVenture, VirtualLine]:
    line = VirtualLine(emulator.MagVenture(model), fault, fault_after_s)
    return MagVenture("virtual", line=line, clock=line.clock), line


def ready(model: str = "x100+option") -> tuple[MagVenture, VirtualLine, Callable[[], None]]:
    driver, line = rig(model=model)
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.5)

    def hold() -> None:
        driver.hold(400)

    driver.set_amplitude(50)
    driver.arm()
    until(driver, line, lambda: driver.ready, 1.0, hold)
    return driver, line, hold


def test_enable_fire_disable_and_what_it_believes_meanwhile() -> None:
    driver, line, hold = ready()
    assert driver.poll().output_ma is None and driver.serial == "001234" and driver.stops_alone_s == math.inf
    driver.fire()
    run(driver, line, 0.1, hold)
    assert len(line.pulses()) == 1 and driver.didt_a_per_us == 50
    driver.zero()
    assert driver.poll().output_ma is None
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.2)
    assert not line.device.output_on
    with pytest.raises(DeviceError, match="not fired"):
        driver.fire()


def test_no_lease_disables_while_the_line_is_there() -> None:
    driver, line, _hold = ready()
    assert until(driver, line, lambda: not line.device.output_on, 0.5) <= 0.42


def test_only_trains_that_end_by_themselves() -> None:
    driver, line, hold = ready()
    with pytest.raises(DeviceError, match="must end by itself"):
        driver.set_train(10.0, 50)
    driver.set_train(20.0, 10)
    run(driver, line, 0.1, hold)
    driver.start_train()
    left_ns = line.now_ns
    line.advance(5_000 * MS)  # host gone: still enabled, but nothing fires
    assert line.device.output_on and len(line.pulses()) == 10
    assert (line.pulses()[-1]["boot_ns"] - left_ns) / 1e9 <= driver.slice_s
    driver.poll()
    run(driver, line, 3.5)
    assert not line.device.output_on


def test_the_front_panel_is_heard() -> None:
    driver, line, hold = ready()
    line.device.turn_knob(80)  # type: ignore[attr-defined]
    run(driver, line, 0.05, hold)
    assert not driver.ready and driver.trouble.startswith("amplitude_changed")
    driver.set_amplitude(50)
    until(driver, line, lambda: driver.ready, 0.2, hold)


def test_found_enabled_is_disabled_first() -> None:
    driver, line = rig()
    line.wire.host_sent(wire.ENABLE, line.now_ns)
    line.advance(30 * MS)
    driver.connect()
    assert line.device.output_on and driver.poll().output_ma is None
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.3)
    assert not line.device.output_on


@pytest.mark.parametrize("after_s", [0.0, 1.0])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, after_s: float) -> None:
    driver, line = rig(fault, after_s)
    driver.connect()

    def each(turn: int) -> None:
        if turn % 400 == 40:
            driver.arm()
        driver.hold(400)

    named = through_faults(driver, line, 8.0, 5, each, may_lie=fault == "lies")
    expected = {
        "no_answer": {"no_answer"},
        "late": {"no_answer"},
        "garbled": {"broken_frame"},
        "wrong_crc": {"broken_frame"},
        "half_frame": {"no_answer", "broken_frame"},
        "refuses_arm": {"refused_enable"},
        "disarms": {"disabled_itself"},
        "coil_hot": {"coil_hot"},
        "unplugged": {"unplugged"},
        "lies": {"refused_enable"},
    }[fault]
    assert expected & named or (fault, after_s) == ("refuses_arm", 1.0)
    assert all(name in ERRORS for name in named - {""})
    driver.close()
    line.advance(100 * MS)
    assert not line.device.output_on or fault == "unplugged"


@pytest.mark.parametrize("cut", range(0, 140, 2))
def test_the_cable_pulled_at_any_byte(cut: int) -> None:
    """Nothing fires after it; that the device stays enabled is the device's nature, and said."""
    driver, line = rig()

    def each(turn: int) -> None:
        if turn == 40:
            driver.set_amplitude(50)
            driver.arm()
        driver.hold(400)
        if driver.ready:
            driver.fire()

    gone_ns = pull_cable(driver, line, cut, 7.5, 5, each)
    assert "panel" in driver.poll().fault
    line.advance(3_000 * MS)
    in_flight_ns = 10 * MS  # bytes that were under way on the line when it was cut
    assert all(pulse["boot_ns"] <= gone_ns + in_flight_ns for pulse in line.pulses())


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject) -> None:
    driver, line = rig(model=data.draw(st.sampled_from(list(emulator.MODELS))))
    actions = {
        "fire": driver.fire,
        "set": lambda: driver.set_amplitude(40),
        "train": driver.start_train,
        "knob": lambda: line.device.turn_knob(60),  # type: ignore[attr-defined]
    }
    fuzz(data, driver, line, actions, lambda _action: driver.hold(400))
    line.advance(50 * MS)
    assert not line.device.output_on


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=20)))
def test_the_parser_takes_any_bytes_and_then_still_finds_a_frame(pieces: list[bytes]) -> None:
    parser = Parser()
    for piece in pieces:
        parser.feed(piece)
    assert bytes([1, 50, 0, 0x74]) in parser.feed(b"\0" * 40 + frame(1, 50, 0, 0x74))
