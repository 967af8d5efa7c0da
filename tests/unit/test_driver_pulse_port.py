"""TMS drivers as the interlock uses them, on their emulators in virtual time: signed power, one pulse an order, what counts as off."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, run, until

from drivers.stimulators.magstim import FIRE_S, Magstim
from drivers.stimulators.magventure import MagVenture
from drivers.stimulators.pulse_port import PulsePort
from eegloop.stim import DeviceReport
from simulators.stimulators import magstim as magstim_emulator
from simulators.stimulators import magventure as magventure_emulator
from tests.interlock_bench import make_program

KINDS = ("magstim", "magventure")


def rig(kind: str, prescribed: bool = True, **program: int) -> tuple[PulsePort, VirtualLine]:
    line = VirtualLine(magstim_emulator.Magstim() if kind == "magstim" else magventure_emulator.MagVenture())
    if kind == "magstim":
        magstim = Magstim("virtual", line=line, clock=line.clock)
        port = PulsePort(magstim, lambda: magstim.power_percent, magstim.set_power, FIRE_S)
    else:
        magventure = MagVenture("virtual", line=line, clock=line.clock)
        port = PulsePort(magventure, lambda: magventure.amplitude_percent, magventure.set_amplitude, 0.002)
    if prescribed:
        port.prescribe(make_program(motor_threshold_percent=41, **program))  # 110 % of 41 % is 45.1 %
    port.connect()
    run(port, line, 1.5)
    return port, line


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def held(port: PulsePort, line: VirtualLine, seconds: float) -> None:
    run(port, line, seconds, lambda: port.output(0.0, 0.0, 400), 10)


def test_one_pulse_an_order_at_the_signed_power_rounded_down(kind: str) -> None:
    port, line = rig(kind)
    assert port.poll().output_ma == 0.0 and not port.poll().armed and port.serial
    port.arm()
    held(port, line, 2.0)
    report = port.poll()
    assert (report.output_ma, report.armed, report.fault) == (0.0, True, "")
    port.fire()
    held(port, line, 0.5)
    (pulse,) = line.pulses()
    assert pulse.get("power_percent", pulse.get("amplitude_percent")) == 45
    port.zero()
    assert port.poll().output_ma is None, "off is what the device says afterwards"
    until(port, line, lambda: port.poll().output_ma == 0.0 and not port.poll().armed, 0.3)
    assert not line.device.output_on


def test_a_pulse_that_cannot_be_given_now_is_a_fault_and_never_given_later(kind: str) -> None:
    port, line = rig(kind)
    port.fire()
    run(port, line, 0.2)
    assert port.poll().fault.startswith("not_given") and not line.pulses()
    port.arm()
    held(port, line, 2.0)
    assert not port.poll().fault
    port.fire()
    port.fire()
    held(port, line, 6.0)
    assert port.poll().fault.startswith("not_given") and len(line.pulses()) == 1


def test_another_power_gives_nothing() -> None:
    port, line = rig("magventure")
    port.arm()
    held(port, line, 2.0)
    line.device.turn_knob(80)  # type: ignore[attr-defined]
    held(port, line, 0.05)
    port.fire()
    held(port, line, 0.5)
    assert not line.pulses() and port.poll().fault


def test_without_a_lease_it_disarms(kind: str) -> None:
    port, line = rig(kind)
    port.arm()
    held(port, line, 2.0)
    assert until(port, line, lambda: not line.device.output_on, 0.6) <= 0.45


@pytest.mark.parametrize(("prescribed", "burst", "word"), [(False, 1, "no_program"), (True, 3, "no_bursts")])
def test_what_it_does_not_give_is_never_armed(kind: str, prescribed: bool, burst: int, word: str) -> None:
    port, line = rig(kind, prescribed, burst_pulses=burst)
    assert port.poll().fault.startswith(word)
    port.arm()
    held(port, line, 1.0)
    assert not line.device.output_on


def is_off(report: DeviceReport) -> bool:
    return report.output_ma == 0.0 and not report.armed


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject, kind: str) -> None:
    port, line = rig(kind)
    fuzz(data, port, line, {"fire": port.fire}, lambda _action: port.output(0.0, 0.0, 400), is_off)
