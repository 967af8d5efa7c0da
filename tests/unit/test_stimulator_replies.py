"""Every error a stimulator's protocol can answer with, one by one: the driver names it, says what to do, and what comes out ends.

The rows follow reference/stimulators.md section by section; docs/stimulator-errors.md is the same table for people.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from stimulator_rig import VirtualLine, run

from drivers.stimulators import magstim_frames, magventure, mqtt, open_lifu, p24, pulse_pal
from drivers.stimulators.magstim import Magstim
from drivers.stimulators.magstim_frames import frame
from simulators.stimulators import magstim as magstim_emulator
from simulators.stimulators import magventure as magventure_emulator
from simulators.stimulators import open_lifu as open_lifu_emulator
from simulators.stimulators import p24 as p24_emulator
from simulators.stimulators import pulse_pal as pulse_pal_emulator

TABLE = Path(__file__).resolve().parents[2] / "docs" / "stimulator-errors.md"
ERRORS = {
    "magstim": magstim_frames.ERRORS,
    "magventure": magventure.ERRORS,
    "pulse_pal": pulse_pal.ERRORS,
    "p24": p24.ERRORS,
    "open_lifu": open_lifu.ERRORS,
    "mqtt": mqtt.ERRORS,
}


class Case(NamedTuple):
    """What the device says or is, and the name that must come of it."""

    kind: str
    what: str
    name: str
    act: Callable[[Any, VirtualLine], None]
    model: str = ""


def answer(data: bytes) -> Callable[[Any, VirtualLine], None]:
    """The next answer is this instead, once."""

    def act(_driver: Any, line: VirtualLine) -> None:
        left = [data]
        line.mangle = lambda arrived: left.pop() if arrived and left else arrived

    return act


def result(code: int) -> Callable[[Any, VirtualLine], None]:
    """P24: the next acknowledgment has this result."""

    def act(_driver: Any, line: VirtualLine) -> None:
        left = [code]

        def spoil(arrived: bytes) -> bytes:
            found = p24.Parser().feed(arrived)
            return p24.packet(found[0].number, found[0].command, bytes([left.pop()])) if found and left else arrived

        line.mangle = spoil

    return act


def kind_of(code: int) -> Callable[[Any, VirtualLine], None]:
    """open-LIFU: the next answer is a frame of this type."""

    def act(_driver: Any, line: VirtualLine) -> None:
        left = [code]

        def spoil(arrived: bytes) -> bytes:
            found = [f for f in open_lifu.Parser().feed(arrived) if f.command != open_lifu.GET_TRIGGER[1]]
            return open_lifu.frame(found[0].number, left.pop(), found[0].command) if found and left else arrived

        line.mangle = spoil

    return act


def be(**changes: Any) -> Callable[[Any, VirtualLine], None]:
    """The device is otherwise than it was."""

    def act(_driver: Any, line: VirtualLine) -> None:
        for name, value in changes.items():
            assert hasattr(line.device, name), name
            setattr(line.device, name, value)

    return act


def fault(name: str) -> Callable[[Any, VirtualLine], None]:
    def act(_driver: Any, line: VirtualLine) -> None:
        line.wire.fault = name
        line.wire.begin_fault(line.now_ns)

    return act


def refuse_a_shot(driver: Any, line: VirtualLine) -> None:
    line.device.enabled = False  # type: ignore[attr-defined]
    driver.fire()


def checked(letter: str, why: bytes) -> bytes:
    return frame(letter + why.decode("latin-1"))


def leave_a_shot_unanswered(driver: Any, line: VirtualLine) -> None:
    """It fires, and says nothing of it."""
    device: Any = line.device
    short = device._short
    device._short = lambda kind, first, second: None if kind == 2 else short(kind, first, second)
    driver.fire()


CASES = [
    Case("magstim", "`3F` alone", "not_understood", answer(b"?")),
    Case("magstim", "`<cmd> 3F crc`", "bad_data", answer(checked("J", b"?"))),
    Case("magstim", "`<cmd> 53 crc`", "conflict", answer(checked("J", b"S"))),
    Case("magstim", "another letter, a wrong check byte, an answer nobody awaits", "out_of_step", answer(b"Z\x89\x00")),
    Case("magstim", "no answer (also: wrong unlock code, a Rapid without remote control)", "no_answer", fault("no_answer")),
    Case("magstim", "status bit 3 off", "coil_missing", be(coil_present=False)),
    Case("magstim", "status bit 4", "coil_replace", be(replace_coil=True)),
    Case("magstim", "status bit 5 (bit 6: fatal)", "device_error", be(error=True, fatal=True)),
    Case("magstim", "status bit 5, and the answer to `I`", "device_error", be(error=True, error_code="C12"), "rapid"),
    Case("magstim", "status bit 7 off", "control_lost", answer(checked("J", b"\x0a050000000"))),
    Case("magstim", "`J` with a second power or an interval from a 200", "other_model", answer(checked("J", b"\x8c030000010"))),
    Case("magstim", "Rapid status bit 4 off", "supply_missing", be(supply_connected=False), "rapid"),
    Case("magstim", "Rapid status bit 5 off", "coil_not_ready", be(coil_ready=False), "rapid"),
    Case("magstim", "temperature above 40.0 °C", "coil_hot", be(temperature_tenths=[412, 240])),
    Case("magstim", "standby without being told to", "disarmed_itself", fault("disarms")),
    Case("magstim", "the port is gone", "unplugged", fault("unplugged")),
    Case("magventure", "no answer (also: its interface deaf after a broken frame)", "no_answer", fault("no_answer")),
    Case("magventure", "a frame with a wrong check byte or length", "broken_frame", fault("wrong_crc")),
    Case("magventure", "still disabled 0.5 s after enable", "refused_enable", fault("refuses_arm")),
    Case("magventure", "status bit 4 off while enabled", "disabled_itself", fault("disarms")),
    Case("magventure", "type 03 or 05 with 41 °C or more", "coil_hot", be(temperature_c=43)),
    Case("magventure", "type 02 with 0 A/µs after a shot", "not_fired", refuse_a_shot),
    Case("magventure", "no type 02 within 0.3 s of a shot", "shot_untold", leave_a_shot_unanswered),
    Case(
        "magventure", "type 01 with another amplitude, unasked", "amplitude_changed", lambda _d, line: line.device.turn_knob(80)
    ),  # type: ignore[attr-defined]
    Case("magventure", "status bits 0-3 with another mode or waveform while enabled", "settings_changed", be(waveform=0)),
    Case("magventure", "no answer to `09 00`, but to others", "no_configuration", be(_configure=lambda _data: None)),
    Case("magventure", "the port is gone", "unplugged", fault("unplugged")),
    Case("pulse_pal", "no `01` or `4B` in time (also: halted by half a message)", "no_answer", fault("no_answer")),
    Case("pulse_pal", "another byte than the one awaited", "wrong_answer", answer(b"\x07")),
    Case("pulse_pal", "a version below 20", "old_model", answer(b"\x4b\x13\x00\x00\x00")),
    Case("pulse_pal", "the port is gone", "unplugged", fault("unplugged")),
    *(
        Case("p24", f"result {code}", name, result(code))
        for code, name in ((1, "transfer"), (2, "parameter"), (3, "protocol"), (7, "not_initialized"), (8, "high_voltage"))
    ),
    Case("p24", "result 10", "electrode", result(10)),
    Case("p24", "result 11", "invalid_command", result(11)),
    Case("p24", "any other result", "device_error", result(99)),
    Case("p24", "66 general error", "transfer", answer(p24.packet(0, p24.GENERAL_ERROR, b"\x01"))),
    Case("p24", "67 unknown command", "invalid_command", answer(p24.packet(0, p24.UNKNOWN_COMMAND, b"\x0b"))),
    Case("p24", "stimulation status 0 while armed", "not_initialized", be(state=0)),
    Case("p24", "a packet with a wrong check or length", "broken_packet", fault("wrong_crc")),
    Case("p24", "no acknowledgment", "no_answer", fault("no_answer")),
    Case("p24", "the port is gone", "unplugged", fault("unplugged")),
    Case("open_lifu", "type E1", "not_acknowledged", kind_of(0xE1)),
    Case("open_lifu", "type EC", "bad_parse", kind_of(0xEC)),
    Case("open_lifu", "type ED", "bad_crc", kind_of(0xED)),
    Case("open_lifu", "type EE", "unknown_command", kind_of(0xEE)),
    Case("open_lifu", "type EF", "refused", kind_of(0xEF)),
    Case("open_lifu", "a frame with a wrong check", "broken_frame", fault("wrong_crc")),
    Case("open_lifu", "no answer", "no_answer", fault("no_answer")),
    Case("open_lifu", "high voltage on is answered, `3D` says off", "voltage_off", be(high_voltage=False)),
    Case("open_lifu", "`32` says more than 2 V beside what was set, for 5 s", "voltage_unsettled", be(volts_set=30.0)),
    Case("open_lifu", "the port is gone", "unplugged", fault("unplugged")),
]


def ready(kind: str, model: str) -> tuple[Any, VirtualLine, Callable[[], object]]:
    """The driver, armed and giving nothing yet; and what is called at each tick under a lease."""
    device: Any = {
        "magstim": lambda: magstim_emulator.Magstim(model or "200"),
        "magventure": magventure_emulator.MagVenture,
        "pulse_pal": pulse_pal_emulator.PulsePal,
        "p24": p24_emulator.P24,
        "open_lifu": open_lifu_emulator.OpenLifu,
    }[kind]()
    line = VirtualLine(device)
    build: dict[str, Callable[[], Any]] = {
        "magstim": lambda: Magstim("virtual", model or "200", line=line, clock=line.clock),
        "magventure": lambda: magventure.MagVenture("virtual", line=line, clock=line.clock),
        "pulse_pal": lambda: pulse_pal.PulsePal("virtual", line=line, clock=line.clock),
        "p24": lambda: p24.P24("virtual", line=line, clock=line.clock),
        "open_lifu": lambda: open_lifu.OpenLifu("virtual", line=line, clock=line.clock),
    }
    driver = build[kind]()
    driver.connect()
    run(driver, line, 1.0)
    if kind == "magventure":
        driver.set_amplitude(50)
    if kind == "open_lifu":
        driver.set_voltage(20.0)
        driver.set_sequence(open_lifu.Sequence(100, 40, 200))
    run(driver, line, 0.3)

    def each() -> None:
        if kind in ("pulse_pal", "p24"):
            driver.output(0.5, 10.0 if kind == "p24" else 0.0, 400)
        else:
            driver.hold(400)

    return driver, line, each


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind} {case.name} {case.what}")
def test_it_is_named_and_ends_what_comes_out(case: Case) -> None:
    driver, line, each = ready(case.kind, case.model)
    if case.name == "refused_enable":
        case.act(driver, line)
        driver.arm()
    else:
        driver.arm()
        run(driver, line, 1.5, each, 10)
        assert not driver.poll().fault, driver.poll().fault
        case.act(driver, line)
    named: list[str] = []
    for _ in range(700):
        line.advance(10_000_000)
        each()
        told = driver.poll().fault
        if told and told not in named:
            named.append(told)
        if told.startswith(f"{case.name}: "):
            break
    found = next((text for text in named if text.startswith(f"{case.name}: ")), "")
    assert found, f"told {named}"
    assert found.startswith(f"{case.name}: {ERRORS[case.kind][case.name]}")
    if case.what.endswith("`I`"):
        run(driver, line, 1.0, each)
        assert "C12" in driver.poll().fault
    driver.zero()  # as the interlock does at any fault
    pulses = len(line.pulses())
    run(driver, line, 1.0)
    assert line.wire.unplugged or not line.device.output_on
    assert len(line.pulses()) == pulses or line.wire.unplugged


def test_the_table_for_people_has_every_name_in_the_driver_s_words() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(\w+)` \| (.+?) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {(kind, name): advice for kind, _, name, advice in rows}
    assert listed == {(kind, name): advice for kind, errors in ERRORS.items() for name, advice in errors.items()}
    said = {(kind, what) for kind, what, _, _ in rows}
    for case in CASES:
        assert any(kind == case.kind and case.what in what for kind, what in said), (
            f"{case.kind}: {case.what} is not in the table"
        )
