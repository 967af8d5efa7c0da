"""Pulse Pal driver against the emulator in virtual time: frames, self-ending output, faults, bytes of any kind."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, pull_cable, run, through_faults, until

from drivers.stimulators import pulse_pal as wire
from drivers.stimulators.amplitude import Peak
from drivers.stimulators.pulse_pal import ERRORS, PulsePal, Train, all_settings, bits, custom_train, message, program
from eegloop.errors import DeviceError
from simulators.stimulators import pulse_pal as emulator
from simulators.stimulators.wire import MS

FRAMES = {
    "D548": wire.HANDSHAKE,
    "D559505954484F4E": message(89, b"PYTHON"),
    "D54A020100A0": program(2, 1, bits(2.5)),
    "D54A0201FFFF": program(2, 1, bits(10.0)),
    "D54A11010080": program(17, 1, bits(0.0)),
    "D54A040204000000": program(4, 2, wire.cycles(200e-6)),
    "D54A0A0110270000": program(10, 1, wire.cycles(0.5)),
    "D54A800102": program(128, 1, wire.MODES["gated"]),
    "D54B0300000000000000A00F00001027000066E633B33353": custom_train(1, (0.0, 0.2, 0.5), (8.0, 4.0, -3.5)),
    "D54F0400C0": message(79, b"\4", bits(5.0).to_bytes(2, "little")),
    "D5520301": message(82, b"\3\1"),
    "D54D05": message(77, b"\5"),
    "D550": wire.ABORT,
    "D551": wire.DISCONNECT,
}


@pytest.mark.parametrize("expected", FRAMES)
def test_reference_frames(expected: str) -> None:
    assert FRAMES[expected] == bytes.fromhex(expected)


@hypothesis_given(st.floats(0.0, 10.0))
def test_an_output_is_never_above_what_was_granted(volts: float) -> None:
    given_v = emulator.volts(wire.bits_below(volts))
    assert volts - 0.0006 <= given_v <= volts + 0.00005, "two steps of the DAC; the emulator tells 0.1 mV"


def test_reference_version_is_read() -> None:
    driver, line = rig()
    driver.connect()
    heard: list[bytes] = []
    line.mangle = lambda arrived: heard.append(arrived) or arrived  # type: ignore[func-returns-value]
    until(driver, line, lambda: driver.serial == "pulse_pal-21-ch1-1.0", 0.5)
    assert b"".join(heard).endswith(bytes.fromhex("4B15000000"))


@pytest.mark.parametrize(
    ("ma_per_v", "channel", "serial"), [(1, 1, "pulse_pal-21-ch1-1.0"), (0.1, 3, "pulse_pal-21-ch3-0.1"), (0.1000001, 3, "")]
)
def test_the_serial_that_is_signed_names_the_channel_and_the_factor_of_the_dose(
    ma_per_v: float, channel: int, serial: str
) -> None:
    line = VirtualLine(emulator.PulsePal(), "", 0.0)
    driver = PulsePal("virtual", ma_per_v, channel, line=line, clock=line.clock)
    driver.connect()
    until(driver, line, lambda: driver.serial != "", 0.5)
    assert driver.serial == (serial or "pulse_pal-21-ch3-0.1000001"), "the smallest other factor is another device"


def rig(fault: str = "", fault_after_s: float = 0.0) -> tuple[PulsePal, VirtualLine]:
    line = VirtualLine(emulator.PulsePal(), fault, fault_after_s)
    return PulsePal("virtual", line=line, clock=line.clock), line


def connected() -> tuple[PulsePal, VirtualLine]:
    driver, line = rig()
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.5)
    return driver, line


def given(driver: PulsePal, line: VirtualLine, amplitude_ma: float, seconds: float) -> None:
    driver.arm()
    run(driver, line, seconds, lambda: driver.output(amplitude_ma, 0.0, 400), 10)


def levels(line: VirtualLine) -> list[tuple[int, float]]:
    return [(e["boot_ns"], e["volts"]) for e in line.record if e["what"] == "level"]


def test_direct_current_in_slices_and_stop() -> None:
    driver, line = connected()
    given(driver, line, 2.0, 3.0)
    report = driver.poll()
    assert report.output_ma == 2.0 and report.armed and driver.serial == "pulse_pal-21-ch1-1.0"
    gaps_ns = [b[0] - a[0] for a, b in pairwise(levels(line)) if a[1] == 0.0]
    assert len(gaps_ns) >= 10 and max(gaps_ns) <= 50_000, "slices are parted by one cycle of 50 us at most"
    assert all(v == 0.0 or abs(v - 2.0) < 0.001 for _, v in levels(line))
    driver.zero()
    assert driver.poll().output_ma is None or line.device.output_on is False
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.1)
    assert not line.device.output_on


def test_an_amplitude_changed_follows_within_two_slices() -> None:
    driver, line = connected()
    given(driver, line, 1.0, 1.0)
    run(driver, line, 0.6, lambda: driver.output(0.5, 0.0, 400), 10)
    assert abs([v for _, v in levels(line) if v][-1] - 0.5) < 0.001


def test_it_ends_by_itself_when_nobody_renews() -> None:
    worst_s = 0.0
    for phase in range(20):
        driver, line = connected()
        given(driver, line, 2.0, 0.5 + phase * 0.01)
        left_ns = line.now_ns
        line.advance(3_000 * MS)  # host gone
        assert not line.device.output_on
        worst_s = max(worst_s, (levels(line)[-1][0] - left_ns) / 1e9)
    assert 0.3 < worst_s <= driver.stops_alone_s <= 0.41 and driver.slice_s == 0.5


def test_a_loop_found_at_connect_is_stopped() -> None:
    driver, line = rig()
    line.wire.host_sent(bytes.fromhex("D5520101D54F0200C0"), line.now_ns)
    line.advance(5 * MS)
    assert line.device.output_on
    driver.connect()
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.2)
    assert not line.device.output_on


def test_after_one_stray_byte_during_current_it_is_off_at_once_and_confirmed_though_the_judge_asks_for_zero_all_the_time() -> (
    None
):
    driver, line = connected()
    given(driver, line, 1.0, 1.0)
    line.mangle = lambda arrived: arrived + b"\xff"
    report = driver.poll()
    line.mangle = lambda arrived: arrived
    assert report.fault.startswith("wrong_answer") and report.output_ma is None

    def stopped_judge() -> None:
        driver.zero()
        assert not line.device.output_on

    run(driver, line, 0.01)
    took_s = until(driver, line, lambda: driver.poll().output_ma == 0.0, 1.5, stopped_judge)
    assert took_s > 0.5, "only after it was silent"
    assert driver.poll().fault == "", "a confirmed zero answers the doubt"
    given(driver, line, 1.0, 0.5)
    assert driver.poll().output_ma == 1.0, "armed anew it gives again"


def test_endless_or_wild_trains_are_never_sent() -> None:
    peak = Peak.of_peak(5.0, "V")
    for train in (
        Train(peak, 0.001, 0.6),
        Train(peak, 0.0, 0.1),
        Train(Peak.of_peak(10.1, "V"), 0.001, 0.1),
        Train(peak, 0.001, math.nan),
    ):
        with pytest.raises(DeviceError, match="must"):
            all_settings({1: train})
    with pytest.raises(DeviceError, match=r"Peak\.of_peak"):
        all_settings({1: Train(5.0, 0.001, 0.1)})  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="peak"):
        all_settings({1: Train(Peak.of_peak(5.0, "mA"), 0.001, 0.1)})
    assert Peak.of_peak_to_peak(4.0, "mA") == Peak.of_peak(2.0, "mA")


def test_ttl_trains_and_biphasic_pulses() -> None:
    driver, line = connected()
    driver.set_trains(
        {1: Train(Peak.of_peak(5.0, "V"), 0.001, 0.1, interval_s=0.009), 2: Train(Peak.of_peak(3.0, "V"), 0.001, 0.1, True)}
    )
    run(driver, line, 0.05)
    driver.trigger(1, 2)
    run(driver, line, 0.3)
    one = [e["volts"] for e in line.record if e["what"] == "level" and e["channel"] == 1]
    two = {round(e["volts"]) for e in line.record if e["what"] == "level" and e["channel"] == 2}
    assert len(one) == 20 and two == {3, -3, 0} and not line.device.output_on
    assert driver.poll().output_ma is None, "only an answered zero is off"
    with pytest.raises(DeviceError, match="zero"):
        driver.set_trains({})


def test_sines_are_refused_and_stop() -> None:
    driver, line = connected()
    driver.arm()
    driver.output(1.0, 10.0, 400)
    run(driver, line, 0.2)
    assert driver.trouble.startswith("no_sine") and not line.device.output_on


@pytest.mark.parametrize("after_s", [0.0, 0.5])
@pytest.mark.parametrize("fault", emulator.OWN_FAULTS)
def test_faults(fault: str, after_s: float) -> None:
    driver, line = rig(fault, after_s)
    driver.connect()

    def each(turn: int) -> None:
        if turn in (30, 200):
            driver.arm()
        driver.output(1.0, 0.0, 400)

    named = through_faults(driver, line, 4.0, 10, each)
    expected = {
        "no_answer": "no_answer",
        "late": "no_answer",
        "garbled": "wrong_answer",
        "wrong_crc": "wrong_answer",
        "unplugged": "unplugged",
    }
    assert expected.get(fault, "") in named or fault == "half_frame"
    assert all(name in ERRORS for name in named - {""})
    line.advance(1_000 * MS)  # nobody renews
    assert not line.device.output_on


@pytest.mark.parametrize("cut", range(0, 300, 3))
def test_the_cable_pulled_at_any_byte(cut: int) -> None:
    """Off by itself, but for a message cut in its middle while a train runs: that freezes a real one, and is not one USB packet."""
    driver, line = rig()

    def each(turn: int) -> None:
        if turn == 20:
            driver.arm()
        driver.output(1.0, 0.0, 400)

    pull_cable(driver, line, cut, 3.0, 10, each)
    line.advance(2_000 * MS)
    assert not line.device.output_on or line.device.frozen  # type: ignore[attr-defined]


def test_every_message_sent_while_a_train_may_run_fits_one_usb_packet() -> None:
    driver, line = connected()
    driver.arm()
    run(driver, line, 0.05)
    sizes: list[int] = []
    write = line.write

    def watched(data: bytes) -> bool:
        sizes.append(len(data))
        return write(data)

    line.write = watched  # type: ignore[method-assign]
    run(driver, line, 1.0, lambda: driver.output(1.0, 0.0, 400), 10)
    driver.close()
    assert sizes and max(sizes) <= 64


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@hypothesis_given(data=st.data())
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject) -> None:
    driver, line = rig()
    fuzz(
        data,
        driver,
        line,
        {"output": lambda: None, "trigger": lambda: driver.trigger(1)},
        lambda action: driver.output(1.0, 0.0, 400) if action == "output" else None,
    )
    line.advance(5 * MS)
    assert not line.device.output_on
