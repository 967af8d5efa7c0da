"""How long each device goes on by itself when its host is gone: what the drivers declare, measured on the emulators' records."""

from __future__ import annotations

import math

import pytest
from stimulator_rig import START_NS, frames

from drivers.stimulators import magstim, magventure, mqtt, open_lifu, p24, pulse_pal
from drivers.stimulators.p24 import Point, mid_level, packet
from simulators.stimulators import home_unit
from simulators.stimulators import magstim as magstim_emulator
from simulators.stimulators import magventure as magventure_emulator
from simulators.stimulators import open_lifu as open_lifu_emulator
from simulators.stimulators import p24 as p24_emulator
from simulators.stimulators import pulse_pal as pulse_pal_emulator
from simulators.stimulators.wire import MS, EmulatedDevice, Wire

HOUR_NS = 3_600_000 * MS
SOME_NS = 20_000 * MS


def left_alone(device: EmulatedDevice, *sent: bytes, alone_ns: int) -> tuple[Wire, int]:
    """The device after its host said this, 30 ms apart, and went; and when it went."""
    wire, now_ns = Wire(device), START_NS
    device.host(True, now_ns)
    for data in sent:
        wire.host_sent(data, now_ns)
        now_ns += 30 * MS
        wire.turn(now_ns)
    went_ns = now_ns - 30 * MS
    wire.turn(now_ns + alone_ns)
    return wire, went_ns


def test_magstim_disarms_after_a_second() -> None:
    device = magstim_emulator.Magstim()
    sent = [data for _, data in frames("H> 51 40 6E\nH> 45 42 78")]
    _, went_ns = left_alone(device, *sent, alone_ns=SOME_NS)
    (end,) = [event for event in device.events if event["what"] == "disarmed"]
    assert 0.99 < (end["boot_ns"] - went_ns) / 1e9 <= magstim.STOPS_ALONE_S and not device.output_on


def test_p24_gives_its_pattern_for_two_seconds() -> None:
    device = p24_emulator.P24()
    pattern = mid_level({1: (0, 20.0, (Point(200, 2.0), Point(200, -2.0)))})
    _, went_ns = left_alone(device, packet(1, p24.ML_INIT, b"\1"), packet(2, p24.ML_UPDATE, pattern), alone_ns=SOME_NS)
    last_ns = max(event["boot_ns"] for event in device.events if event["what"] == "pulse")
    assert 1.95 < (last_ns - went_ns) / 1e9 <= p24.STOPS_ALONE_S and not device.output_on


def test_the_home_unit_ends_within_its_lease() -> None:
    unit = home_unit.HomeUnit("HOME-0001", bytes(32), "life")
    unit.report(START_NS)
    unit.armed, unit.lease_end_ns, unit.set_ma = True, START_NS + home_unit.LEASE_NS, 1.0
    times = [START_NS + ms * MS for ms in range(1000)]
    on = []
    for now_ns in times:
        unit.pass_time(now_ns)
        on.append(unit.output_on)
    last_s = max(now_ns for now_ns, flows in zip(times, on, strict=True) if flows) / 1e9 - START_NS / 1e9
    assert 0.39 < last_s <= mqtt.STOPS_ALONE_S


@pytest.mark.parametrize(
    ("device", "sent", "declared", "alone_ns"),
    [
        (magventure_emulator.MagVenture(), (magventure.ENABLE,), magventure.STOPS_ALONE_S, HOUR_NS),
        (pulse_pal_emulator.PulsePal(), (bytes.fromhex("D54F0400C0"),), pulse_pal.DEVICE_ALONE_S, HOUR_NS),
        (pulse_pal_emulator.PulsePal(), (bytes.fromhex("D5520301"),), pulse_pal.DEVICE_ALONE_S, SOME_NS),
        (
            open_lifu_emulator.OpenLifu(),
            (
                open_lifu.frame(
                    1,
                    *open_lifu.SET_TRIGGER,
                    data=b'{"TriggerFrequencyHz":10,"TriggerPulseCount":5,"TriggerPulseWidthUsec":10,"TriggerMode":1}',
                ),
                open_lifu.frame(2, *open_lifu.HV_ON),
                open_lifu.frame(3, *open_lifu.START_TRIGGER),
            ),
            open_lifu.STOPS_ALONE_S,
            SOME_NS,
        ),
    ],
    ids=["magventure enabled", "pulse_pal held", "pulse_pal loop", "open_lifu continuous"],
)
def test_for_ever(device: EmulatedDevice, sent: tuple[bytes, ...], declared: float, alone_ns: int) -> None:
    left_alone(device, *sent, alone_ns=alone_ns)
    assert device.output_on and declared == math.inf


def test_an_enabled_magventure_fires_nothing_by_itself() -> None:
    device = magventure_emulator.MagVenture()
    left_alone(device, magventure.ENABLE, magventure.FIRE, alone_ns=HOUR_NS)
    assert len([event for event in device.events if event["what"] == "pulse"]) == 1
