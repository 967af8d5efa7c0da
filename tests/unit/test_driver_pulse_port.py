"""TMS drivers as the interlock uses them, on their emulators in virtual time: signed power, one pulse an order, what counts as off."""

from __future__ import annotations

import os
import pty
import tty
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, run, until

from drivers.stimulators.magstim import FIRE_S, MODELS, PULSE, Magstim
from drivers.stimulators.magventure import MagVenture
from drivers.stimulators.pulse_port import PulsePort
from drivers.stimulators.serial_line import SerialLine, TimedLine, boot_ns
from eegloop.stim import CURRENTS, WAVEFORMS, DeviceReport
from simulators.stimulators import magstim as magstim_emulator
from simulators.stimulators import magventure as magventure_emulator
from simulators.stimulators.wire import MS, EmulatedDevice
from tests.interlock_bench import make_program

KINDS = ("magstim", "magventure")


THETA = {"burst_pulses": 3, "burst_millihz": 50_000, "train_millihz": 5_000, "train_pulses": 30}


def rig(
    kind: str, prescribed: bool = True, device: EmulatedDevice | None = None, **program: Any
) -> tuple[PulsePort, VirtualLine]:
    line = VirtualLine(device or (magstim_emulator.Magstim() if kind == "magstim" else magventure_emulator.MagVenture()))
    if kind == "magstim":
        magstim = Magstim("virtual", getattr(device, "model", "200"), line=line, clock=line.clock)
        port = PulsePort(magstim, lambda: magstim.power_percent, magstim.set_power, FIRE_S)
        program = {"waveform": PULSE[magstim.model], **program}
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


def fire(port: PulsePort, line: VirtualLine) -> None:
    """As the loop does: when the wire is free."""
    line.advance(max(0, port.free_ns - line.now_ns))
    port.fire()


def held(port: PulsePort, line: VirtualLine, seconds: float) -> None:
    run(port, line, seconds, lambda: port.output(0.0, 0.0, 400), 10)


def test_one_pulse_an_order_at_the_signed_power_rounded_down(kind: str) -> None:
    port, line = rig(kind)
    assert port.poll().output_ma == 0.0 and not port.poll().armed and port.serial
    port.arm()
    held(port, line, 2.0)
    report = port.poll()
    assert (report.output_ma, report.armed, report.fault) == (0.0, True, "")
    fire(port, line)
    held(port, line, 0.5)
    (pulse,) = line.pulses()
    assert pulse.get("power_percent", pulse.get("amplitude_percent")) == 45
    port.zero()
    assert port.poll().output_ma is None, "off is what the device says afterwards"
    until(port, line, lambda: port.poll().output_ma == 0.0 and not port.poll().armed, 0.3)
    assert not line.device.output_on


def test_a_pulse_that_cannot_be_given_now_is_a_fault_and_never_given_later(kind: str) -> None:
    port, line = rig(kind)
    fire(port, line)
    assert port.poll().fault.startswith("not_given")
    run(port, line, 0.2)
    assert not port.poll().fault and not line.pulses(), "told, and over: it is off"
    port.arm()
    held(port, line, 2.0)
    assert not port.poll().fault
    fire(port, line)
    fire(port, line)
    held(port, line, 6.0)
    assert port.poll().fault.startswith("not_given") and len(line.pulses()) == 1


@pytest.mark.parametrize("before", ["set at the panel", "connected again"])
def test_a_stimulator_that_has_the_signed_power_already_fires(kind: str, before: str) -> None:
    device = magstim_emulator.Magstim() if kind == "magstim" else magventure_emulator.MagVenture()
    if before == "set at the panel":
        if isinstance(device, magstim_emulator.Magstim):
            device.power_a = 45
        else:
            device.amplitude = [45, 45]
    port, line = rig(kind, device=device)
    if before == "connected again":
        port.close()
        line.advance(2_000 * MS)
        port.connect()
        run(port, line, 1.5)
    port.arm()
    held(port, line, 2.0)
    fire(port, line)
    held(port, line, 0.5)
    assert not port.poll().fault
    (pulse,) = line.pulses()
    assert pulse.get("power_percent", pulse.get("amplitude_percent")) == 45


def test_before_a_pulse_nothing_is_asked_and_it_reaches_the_coil_when_the_interlock_counts_it(kind: str) -> None:
    """Questions under way hold a pulse up on the wire, up to 3 ms: the record of the coil is compared, to the microsecond."""
    port, line = rig(kind)
    waits: list[int | None] = [None]
    port.coil.line.shot_at_ns = lambda: waits[0]
    port.arm()
    held(port, line, 2.0)
    wire_ns = (3 if kind == "magstim" else 6) * line.device.byte_ns
    byte_before = line.device.byte_ns
    for i in range(40):
        write_ns = line.now_ns + (2_013 if kind == "magstim" else 113) * MS + i * 3 * MS + 7
        waits[0] = write_ns
        while line.now_ns + MS < write_ns:  # towards the pulse the interlock asks it every millisecond, whatever is due
            line.advance(MS if write_ns - line.now_ns < 200 * MS else 10 * MS)
            port.output(0.0, 0.0, 400)
            port.poll()
        line.advance(write_ns - line.now_ns)
        waits[0] = None
        assert port.free_ns <= write_ns, "the wire is free"
        port.fire()
        held(port, line, 0.05)
        report = port.poll()
        assert report.armed and not report.fault
        assert (
            line.pulses()[-1]["boot_ns"] - write_ns == pytest.approx(wire_ns, abs=byte_before // 100)
            and len(line.pulses()) == i + 1
        )


def test_a_pulse_behind_other_bytes_is_a_fault_and_none_is_given(kind: str) -> None:
    """Ordered at once after a question, without the wait of the interlock's loop."""
    port, line = rig(kind)
    port.arm()
    held(port, line, 4.0)
    sent = port.free_ns
    while port.free_ns == sent:
        line.advance(MS)
        port.output(0.0, 0.0, 400)
        port.poll()
    assert port.free_ns - line.now_ns > MS
    port.fire()
    held(port, line, 1.0)
    assert "ms late, behind other bytes on the line" in port.poll().fault and not line.pulses()


def test_another_power_gives_nothing() -> None:
    port, line = rig("magventure")
    port.arm()
    held(port, line, 2.0)
    line.device.turn_knob(80)  # type: ignore[attr-defined]
    held(port, line, 0.05)
    fire(port, line)
    held(port, line, 0.5)
    assert not line.pulses() and port.poll().fault


def test_without_a_lease_it_disarms(kind: str) -> None:
    port, line = rig(kind)
    port.arm()
    held(port, line, 2.0)
    assert until(port, line, lambda: not line.device.output_on, 0.6) <= 0.45


def test_without_a_program_it_is_never_armed(kind: str) -> None:
    port, line = rig(kind, prescribed=False)
    assert port.poll().fault.startswith("no_program")
    port.arm()
    held(port, line, 1.0)
    assert not line.device.output_on


@pytest.mark.parametrize("model", MODELS)
def test_a_magstim_gives_no_bursts(model: str) -> None:
    port, line = rig("magstim", device=magstim_emulator.Magstim(model), **THETA, waveform="biphasic")
    assert port.poll().fault.startswith("cannot_give: magstim: 3 pulses a shot")
    port.arm()
    held(port, line, 1.0)
    assert not line.device.output_on


@pytest.mark.parametrize("left_in", ["pair", "trains", "enhanced", "twin", "power", "burst of 5"])
def test_whatever_a_shot_was_left_to_be_it_is_one_pulse_at_the_signed_power(left_in: str) -> None:
    """A second pulse at another power, a train, a burst: nobody signed it, and the driver must not fire it."""
    kind = "magstim" if left_in in ("pair", "trains", "enhanced") else "magventure"
    port, line = rig(kind, device=set_otherwise(left_in))
    assert not port.poll().fault
    port.arm()
    held(port, line, 2.5)
    fire(port, line)
    held(port, line, 1.5)
    given = [pulse.get("power_percent", pulse.get("amplitude_percent")) for pulse in line.pulses()]
    assert [percent for percent in given if percent] == [45], given


def set_otherwise(how: str) -> magstim_emulator.Magstim | magventure_emulator.MagVenture:
    """A device as somebody left it at its screen."""
    if how == "pair":
        return magstim_emulator.Magstim("bistim")  # both at 30 %, 10 ms apart
    if how in ("trains", "enhanced"):
        rapid = magstim_emulator.Magstim("rapid")
        rapid.train_mode, rapid.rate_tenths, rapid.pulses, rapid.duration_tenths = how == "trains", 100, 20, 20
        rapid.enhanced = how == "enhanced"
        return rapid
    magventure = magventure_emulator.MagVenture()
    magventure.mode = {"twin": magventure_emulator.TWIN, "power": 1}.get(how, 0)
    if how == "burst of 5":
        magventure.waveform, magventure.burst_pulses = magventure_emulator.BURST, 5
    return magventure


@pytest.mark.parametrize("left_in", ["monophasic", "half_sine", "reverse"])
def test_a_magventure_is_brought_to_the_signed_waveform_and_direction(left_in: str) -> None:
    device = magventure_emulator.MagVenture()
    device.waveform = {"monophasic": 0, "half_sine": 2}.get(left_in, 1)
    device.direction = int(left_in == "reverse")
    port, line = rig("magventure", device=device)
    assert (device.waveform, device.direction) == (1, 0) and not port.poll().fault
    assert port.poll().shot == make_program().shot
    port.arm()
    held(port, line, 1.0)
    fire(port, line)
    held(port, line, 0.5)
    assert len(line.pulses()) == 1


@pytest.mark.parametrize("waveform", ["monophasic", "half_sine", "biphasic"])
@pytest.mark.parametrize("current", ["normal", "reverse"])
def test_a_magventure_is_set_to_whatever_was_signed(waveform: str, current: str) -> None:
    port, line = rig("magventure", waveform=waveform, current=current)
    device = line.device
    assert isinstance(device, magventure_emulator.MagVenture)
    assert (device.waveform, device.direction) == (WAVEFORMS.index(waveform), CURRENTS.index(current))
    assert not port.poll().fault and port.poll().shot == make_program(waveform=waveform, current=current).shot


@pytest.mark.parametrize("change", ["waveform", "direction", "mode"])
def test_another_waveform_direction_or_mode_is_refused_by_name_and_never_fired(change: str) -> None:
    """A device that cannot be set otherwise (its settings are dropped), and one changed at its panel while armed."""
    device = magventure_emulator.MagVenture()
    setattr(device, change, 0 if change == "waveform" else 1)
    configure = device._configure
    device._configure = lambda data: configure(data) if data[0] == 0 else None  # type: ignore[method-assign]
    port, line = rig("magventure", device=device)
    named = {"waveform": "1 monophasic pulse", "direction": "current reverse", "mode": "2 biphasic pulse"}[change]
    assert port.poll().fault.startswith("not_as_signed") and named in port.poll().fault
    port.arm()
    held(port, line, 1.0)
    assert not device.enabled
    setattr(device, change, 1 if change == "waveform" else 0)
    run(port, line, 3.0)
    port.arm()
    held(port, line, 1.0)
    assert not port.poll().fault and device.enabled
    setattr(device, change, 0 if change == "waveform" else 1)
    held(port, line, 0.5)
    now = {"waveform": "settings_changed", "direction": "not_as_signed", "mode": "settings_changed"}[change]
    assert port.poll().fault.startswith(now) and (named in port.poll().fault or "(now " in port.poll().fault)
    fire(port, line)
    held(port, line, 0.3)
    assert not line.pulses()


@pytest.mark.parametrize("change", ["waveform", "direction", "mode", "burst_pulses", "power"])
@pytest.mark.parametrize("when", ["at rest", "armed"])
def test_a_change_at_the_panel_is_named_not_fought_and_over_when_it_is_set_back(change: str, when: str) -> None:
    port, line = rig("magventure", **(THETA if change == "burst_pulses" else {}))
    device = line.device
    assert isinstance(device, magventure_emulator.MagVenture)
    run(port, line, 2.0)
    changed = {"waveform": 0, "direction": 1, "mode": 1, "burst_pulses": 5, "power": 80}[change]
    if when == "armed":
        port.arm()
        held(port, line, 1.0)
        assert port.poll().armed and not port.poll().fault
    before = 45 if change == "power" else getattr(device, change)

    def turn(value: int) -> None:
        if change == "power":
            device.turn_knob(value)
        else:
            setattr(device, change, value)

    turn(changed)
    held(port, line, 0.5)
    if when == "armed":
        assert port.poll().fault.partition(":")[0] in ("settings_changed", "amplitude_changed", "not_as_signed")
        port.zero()  # as the judge does, who trips
    run(port, line, 6.0)
    assert (device.amplitude[0] if change == "power" else getattr(device, change)) == changed, "nobody set it back"
    fault = port.poll().fault
    assert fault.partition(":")[0] in ("not_as_signed", "amplitude_changed") and "set it" in fault
    port.arm()
    held(port, line, 0.5)
    assert not device.enabled
    port.zero()
    turn(before)
    run(port, line, 3.0)
    assert not port.poll().fault
    port.arm()
    held(port, line, 1.0)
    fire(port, line)
    held(port, line, 0.5)
    assert line.pulses() and {pulse["amplitude_percent"] for pulse in line.pulses()} == {45}


def test_the_power_of_a_magstim_changed_at_its_screen_while_armed_ends_it() -> None:
    port, line = rig("magstim")
    port.arm()
    held(port, line, 2.0)
    assert port.poll().armed and not port.poll().fault
    line.device.power_a = 80  # type: ignore[attr-defined]
    held(port, line, 0.3)
    assert port.poll().fault.startswith("not_as_signed: its power is 80 %, signed is 45 %")


@pytest.mark.parametrize("when", ["never", "at rest", "armed"])
def test_a_magventure_that_does_not_tell_its_configuration_is_named_and_never_armed(when: str) -> None:
    device = magventure_emulator.MagVenture()
    configure = device._configure
    if when == "never":
        device._configure = lambda data: None  # type: ignore[method-assign]
    port, line = rig("magventure", device=device)
    run(port, line, 2.0)
    if when == "armed":
        port.arm()
        held(port, line, 1.0)
        assert device.enabled and not port.poll().fault
    device._configure = lambda data: None  # type: ignore[method-assign]
    held(port, line, 3.0)
    fault = port.poll().fault
    assert (
        fault.startswith("no_configuration: the stimulator answers, but not what its waveform")
        and "switch it off and on" in fault
    )
    assert port.poll().shot is None and port.poll().output_ma == 0.0 and not device.enabled
    port.arm()
    held(port, line, 0.4)
    assert not device.enabled
    port.zero()
    device._configure = configure  # type: ignore[method-assign]
    run(port, line, 3.0)
    assert not port.poll().fault and port.poll().shot == make_program().shot


def test_a_configuration_that_comes_late_is_not_taken_for_the_answer_to_a_later_question() -> None:
    """It is of a moment when the panel may have been set otherwise."""
    device = magventure_emulator.MagVenture()
    configure, late = device._configure, list[tuple[int, bytes]]()
    port, line = rig("magventure", device=device)
    run(port, line, 2.0)
    assert port.poll().shot == make_program().shot
    device._configure = lambda data: late.append((line.clock(), data))  # type: ignore[method-assign]
    until(port, line, lambda: port.poll().fault.startswith("no_configuration"), 3.0)
    for _ in range(120):
        run(port, line, 0.05)
        while late and line.clock() - late[0][0] > 400 * MS:
            configure(late.pop(0)[1])
        assert port.poll().fault.startswith("no_configuration") and port.poll().shot is None
    port.arm()
    run(port, line, 0.5)
    assert not device.enabled


@pytest.mark.parametrize("event", ["disarmed by itself", "garbage", "silence"])
def test_after_what_has_passed_it_can_be_armed_again(kind: str, event: str) -> None:
    """A fault is told, then over when it says that it is off: else nothing but another start would ever arm it again."""
    port, line = rig(kind)
    port.arm()
    held(port, line, 2.0)
    if event == "disarmed by itself":
        for disarm in ("_disarm", "_disable"):
            getattr(line.device, disarm, lambda *_: None)(line.now_ns, "test")
    elif event == "garbage":
        line.device.say(b"\xfe\x01\x00\x11\x22")
    else:
        line.device.fault = "no_answer"
    held(port, line, 0.8)
    named = port.poll().fault.partition(":")[0]
    assert named in ("disarmed_itself", "disabled_itself", "out_of_step", "broken_frame", "no_answer"), named
    port.zero()
    line.device.fault = ""
    run(port, line, 6.0)
    assert port.poll().output_ma == 0.0 and not port.poll().fault
    port.arm()
    held(port, line, 2.0)
    assert port.poll().armed and not port.poll().fault
    fire(port, line)
    held(port, line, 0.3)
    assert len(line.pulses()) == 1


def test_a_configuration_that_contradicts_the_frames_is_not_believed() -> None:
    port, line = rig("magventure")
    line.device._configure = lambda data: line.device.say(  # type: ignore[attr-defined]
        magventure_emulator.frame(bytes([9, 0, 3, 0, 0, 0, 2, 80, 0, 80]))
    )
    run(port, line, 3.0)
    assert port.poll().shot is None
    port.arm()
    held(port, line, 1.0)
    fire(port, line)
    held(port, line, 0.3)
    assert not line.pulses()


@pytest.mark.parametrize(("model", "waveform"), [("200", "biphasic"), ("bistim", "half_sine"), ("rapid", "monophasic")])
def test_a_waveform_that_a_magstim_has_not_is_refused_by_name(model: str, waveform: str) -> None:
    port, line = rig("magstim", device=magstim_emulator.Magstim(model), waveform=waveform)
    assert port.poll().fault.startswith(
        f"cannot_give: magstim: {waveform}, current normal: this model gives {PULSE[model]} pulses"
    )
    port.arm()
    held(port, line, 1.5)
    assert not line.device.output_on


def test_theta_bursts_of_a_magventure_are_three_pulses_an_order_every_200_ms() -> None:
    port, line = rig("magventure", **THETA)
    assert not port.poll().fault
    port.arm()
    held(port, line, 0.5)
    for _ in range(10):
        fire(port, line)
        held(port, line, 0.2)
    times_ms = [(pulse["boot_ns"] - line.pulses()[0]["boot_ns"]) / 1e6 for pulse in line.pulses()]
    assert times_ms[::3] == pytest.approx([200 * i for i in range(10)], abs=30)
    assert [t - times_ms[i // 3 * 3] for i, t in enumerate(times_ms)] == pytest.approx([0, 20, 40] * 10)
    port.zero()
    until(port, line, lambda: port.poll().output_ma == 0.0 and not port.poll().armed, 0.3)
    n = len(line.pulses())
    run(port, line, 1.0)
    assert len(line.pulses()) == n


def test_another_burst_set_at_the_panel_is_never_fired() -> None:
    port, line = rig("magventure", **THETA)
    device = line.device
    assert isinstance(device, magventure_emulator.MagVenture)
    assert device.burst_pulses == 3 and not port.poll().fault, "set once, when it was connected to"
    device.burst_pulses = 5  # who sets it later means it: no fight over the panel
    run(port, line, 3.0)
    assert port.poll().fault.startswith(
        "not_as_signed: one shot gives 5 biphasic pulse(s) at 50 Hz, current normal, signed is 3 "
    )
    port.arm()
    held(port, line, 1.0)
    fire(port, line)
    held(port, line, 0.5)
    assert not line.pulses()


@pytest.mark.parametrize("since_read_s", [0.1, 0.6, 1.1, 1.6])
def test_a_burst_changed_at_the_panel_just_before_the_arm_is_never_fired(since_read_s: float) -> None:
    """At rest the burst is read every 2 s: what was read then is not what counts after the arm."""
    port, line = rig("magventure", **THETA)
    run(port, line, 4.0 + since_read_s)
    line.device.burst_pulses = 5  # type: ignore[attr-defined]
    port.arm()
    held(port, line, 1.0)
    fire(port, line)
    held(port, line, 0.5)
    assert not line.pulses() and "5 biphasic pulse(s)" in port.poll().fault


def test_nothing_is_fired_before_the_burst_was_read_again_after_the_arm() -> None:
    port, line = rig("magventure", **THETA)
    run(port, line, 4.0)
    port.arm()
    fire(port, line)
    held(port, line, 0.5)
    assert not line.pulses() and "not known yet" in port.poll().fault


def test_a_burst_changed_at_the_panel_while_armed_is_a_fault_before_the_next_shot_but_one() -> None:
    """What stays: a shot between the change and the next reading, 0.25 s and an answer later."""
    port, line = rig("magventure", **THETA)
    run(port, line, 4.0)
    port.arm()
    held(port, line, 2.0)
    assert port.poll().armed and not port.poll().fault
    line.device.burst_pulses = 5  # type: ignore[attr-defined]
    held(port, line, 0.5)
    assert port.poll().fault.startswith("not_as_signed: one shot gives 5")
    for _ in range(3):
        fire(port, line)
        held(port, line, 0.2)
    assert not line.pulses()


def test_a_magventure_that_stops_telling_its_burst_while_armed_is_disabled() -> None:
    port, line = rig("magventure", **THETA)
    run(port, line, 4.0)
    port.arm()
    held(port, line, 2.0)
    line.device._configure = lambda data: None  # type: ignore[attr-defined]
    held(port, line, 1.0)
    assert port.poll().fault and not line.device.output_on


@pytest.mark.parametrize("mode", [b"1", b"3", b"Q", b"R", b"S", b"T", b"?"])
@pytest.mark.parametrize("when", ["at rest", "before", "armed"])
def test_a_bistim_that_discharges_both_at_once_or_waits_for_another_is_never_fired(mode: bytes, when: str) -> None:
    """At the same setting its output is another: it is set at its screen only, so it is refused until somebody sets it back."""
    device = magstim_emulator.Magstim("bistim")
    device.system_mode = mode if when == "at rest" else b"2"
    port, line = rig("magstim", device=device)
    run(port, line, 2.0)
    device.system_mode = mode if when == "before" else device.system_mode
    port.arm()
    held(port, line, 2.0)
    if when == "armed":
        assert port.poll().armed and not port.poll().fault and port.coil.ready  # type: ignore[attr-defined]
        device.system_mode = mode
        held(port, line, 0.7)
    assert port.poll().fault.startswith("not_as_signed: one shot gives 0 monophasic")
    fire(port, line)
    held(port, line, 1.0)
    assert not line.pulses()


@pytest.mark.parametrize("when", ["before", "armed"])
@pytest.mark.parametrize("model", ["bistim", "rapid"])
def test_what_is_changed_at_a_magstims_screen_around_the_arm_is_never_fired(model: str, when: str) -> None:
    device = magstim_emulator.Magstim(model)
    port, line = rig("magstim", device=device)
    run(port, line, 4.0)

    def change() -> None:
        device.power_b = 45 if model == "bistim" else 0
        device.train_mode, device.rate_tenths, device.pulses, device.duration_tenths = model == "rapid", 100, 20, 20

    if when == "before":
        change()
    port.arm()
    held(port, line, 1.5)
    if when == "armed":
        assert port.poll().armed and not port.poll().fault
        change()
        held(port, line, 0.5)
    assert port.poll().fault.startswith("not_as_signed")
    fire(port, line)
    held(port, line, 1.0)
    assert not line.pulses()


def is_off(report: DeviceReport) -> bool:
    return report.output_ma == 0.0 and not report.armed


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject, kind: str) -> None:
    port, line = rig(kind)
    fuzz(data, port, line, {"fire": port.fire}, lambda _action: port.output(0.0, 0.0, 400), is_off)


def test_what_the_system_does_not_take_holds_a_shot_up_too() -> None:
    """A port whose other end does not read: the bytes wait here, and count from now on, however long they have waited."""
    far, near = pty.openpty()
    try:
        tty.setraw(near)
        line = TimedLine(SerialLine(os.ttyname(near), 38400, "none"), 38400, boot_ns)
        line.open()
        assert line.behind_ns == 0 and line.unsent() == 0
        while line.unsent() == 0:
            assert line.write(bytes(1000))
        waiting = line.unsent()
        line._free_ns = 0  # long ago, as if the line had been stuck for a while
        assert line.behind_ns == pytest.approx(waiting * 10 * 1e9 / 38400, rel=0.01)
        line.shot_at_ns = lambda: boot_ns() + 10 * MS
        assert not line.clear_for(10)
        line.close()
    finally:
        os.close(far)
        os.close(near)
