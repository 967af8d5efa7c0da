"""Magstim driver against the emulator in virtual time: state, limits, faults, and bytes of any kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stimulator_rig import VirtualLine, fuzz, pull_cable, run, through_faults, until

from drivers.stimulators.magstim import Magstim
from drivers.stimulators.magstim_frames import ERRORS, OutOfStep, frame, read_reply
from drivers.stimulators.magstim_talk import ANSWER_NS, SILENCE_NS
from drivers.stimulators.magstim_trains import TRAIN_HZ, least_wait_s, most_on_time_s, most_train_hz, pulse_energy_j
from eegloop.errors import DeviceError
from simulators.stimulators import magstim as emulator
from simulators.stimulators.wire import FAULTS, MS

COMMANDS_TEXT = """51406E 4A4075 464079 403035302A 454872 454278 454179 52406D 4130363028 433031302B 594066 5A4065 4E446D 5C4063
5B30303130E3 4230313030FC 443030303230C9 5B30303230E2 784047 6E30353030CC 5E4061 5F4060 62405D 494076 6F4050
51313233342D31323334353637382D39614C"""
COMMANDS = COMMANDS_TEXT.split()
REPLIES = [
    ("Q@", "518925", "standby", ""),
    ("J@", "4A8930333030333030313075", "standby", "030030010"),
    ("F@", "468932343032343004", "standby", "240240"),
    ("@050", "408936", "standby", ""),
    ("EB", "458931", "standby", ""),
    ("Q@", "518A24", "armed", ""),
    ("Q@", "518C22", "ready", ""),
    ("EH", "458C2E", "ready", ""),
    ("R@", "5209A4", "standby", ""),
    ("\\@", "5C89383033303030303030303030313030303030303130" + "1D", "standby", "03000000000100000010"),
    ("[0010", "5B8930EB", "standby", ""),
    ("x@", "7889380000C6", "standby", "\0\0"),
]


def rig(fault: str = "", fault_after_s: float = 0.0, **device: object) -> tuple[Magstim, VirtualLine]:
    line = VirtualLine(emulator.Magstim(**device), fault, fault_after_s)  # type: ignore[arg-type]
    return Magstim("virtual", str(device.get("model", "200")), line=line, clock=line.clock), line


def connected(**device: object) -> tuple[Magstim, VirtualLine]:
    driver, line = rig(**device)
    driver.connect()
    until(driver, line, lambda: driver.power_percent is not None and driver.temperature_c is not None, 2.0)
    return driver, line


def ready(**device: object) -> tuple[Magstim, VirtualLine, Callable[[], None]]:
    driver, line = connected(**device)

    def hold() -> None:
        driver.hold(400)

    driver.arm()
    until(driver, line, lambda: driver.ready, 2.0, hold)
    return driver, line, hold


@pytest.mark.parametrize("sent", COMMANDS)
def test_reference_commands_are_framed_alike(sent: str) -> None:
    data = bytes.fromhex(sent)
    assert frame(data[:-1].decode("latin-1")) == data


@pytest.mark.parametrize(("command", "answer", "state", "text"), REPLIES)
def test_reference_answers_are_read(command: str, answer: str, state: str, text: str) -> None:
    reply = read_reply(bytes.fromhex(answer) + b"rest", frame(command))
    assert reply is not None and reply.status is not None
    assert (reply.status.state, reply.text, reply.length) == (state, text, len(answer) // 2)


def test_reference_version_and_refusals_are_read() -> None:
    version = read_reply(bytes.fromhex("4E56392E302E300066"), frame("ND"))
    assert version is not None and version.text == "V9.0.0"
    for answer, command, name in (("455367", "EH", "conflict"), ("403F80", "@05x", "bad_data"), ("3F", "J@", "not_understood")):
        reply = read_reply(bytes.fromhex(answer), frame(command))
        assert reply is not None and reply.refusal == name and ERRORS[name]


@pytest.mark.parametrize(("command", "answer"), [(c, a) for c, a, _, _ in REPLIES])
def test_an_answer_cut_anywhere_waits_and_a_flipped_bit_never_passes(command: str, answer: str) -> None:
    data = bytes.fromhex(answer)
    for i in range(len(data)):
        assert read_reply(data[:i], frame(command)) is None
    for i in range(1, 8 * len(data)):
        bad = bytearray(data)
        bad[i // 8] ^= 1 << i % 8
        try:
            reply = read_reply(bytes(bad), frame(command))
        except OutOfStep:
            continue
        assert reply is None or reply.refusal


def test_arm_fire_disarm_and_what_it_believes_meanwhile() -> None:
    driver, line, hold = ready()
    assert driver.poll().output_ma is None and driver.poll().armed
    driver.fire()
    run(driver, line, 0.3, hold)
    (pulse,) = line.pulses()
    assert pulse["power_percent"] == 30
    with pytest.raises(DeviceError, match="not fired"):
        driver.fire()
    until(driver, line, lambda: driver.ready, 3.0, hold)
    assert (line.now_ns - pulse["boot_ns"]) / 1e9 >= 1.95
    driver.zero()
    assert driver.poll().output_ma is None, "not off before the device said so"
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.2)
    assert not line.device.output_on


def test_no_lease_no_keep_alive() -> None:
    driver, line, _hold = ready()
    started_ns = line.now_ns
    until(driver, line, lambda: not line.device.output_on, 0.5)
    assert (line.now_ns - started_ns) / 1e9 <= 0.42
    frozen, line, _hold = ready()
    line.advance(1_100 * MS)  # the host does nothing at all
    assert not line.device.output_on and frozen.stops_alone_s == 1.01


def test_an_armed_device_found_at_connect_is_disarmed_first() -> None:
    driver, line = rig()
    for text in ("Q@", "EB"):
        line.wire.host_sent(frame(text), line.now_ns)
    line.advance(30 * MS)
    assert line.device.output_on
    driver.connect()
    assert driver.poll().output_ma is None
    until(driver, line, lambda: driver.poll().output_ma == 0.0, 0.3)
    assert not line.device.output_on


def test_armed_at_its_own_screen_is_not_off() -> None:
    driver, line = connected()
    assert driver.poll().output_ma == 0.0
    line.device.armed = True  # type: ignore[attr-defined]
    line.device._armed_ns = line.device._idle_ns = line.device._alive_ns = line.now_ns  # type: ignore[attr-defined]
    until(driver, line, lambda: driver.poll().output_ma is None, 0.6)


def test_power_settles_before_a_shot_and_is_read_back() -> None:
    driver, line, hold = ready()
    driver.set_power(20)
    with pytest.raises(DeviceError, match="not confirmed"):
        driver.fire()
    until(driver, line, lambda: driver.power_percent == 20, 0.2, hold)
    with pytest.raises(DeviceError, match="left"):
        driver.fire()
    assert until(driver, line, lambda: driver.ready, 2.0, hold) > 0.9


def test_a_rapid_train() -> None:
    driver, line = connected(model="rapid")
    driver.set_power(40)
    until(driver, line, lambda: driver.power_percent == 40, 0.5)
    driver.set_train(10.0, 20)
    with pytest.raises(DeviceError, match="at most"):
        driver.set_train(37.0, 6000)
    run(driver, line, 0.5)
    driver.arm()

    def hold() -> None:
        driver.hold(400)

    until(driver, line, lambda: driver.ready, 2.0, hold)
    driver.fire()
    run(driver, line, 3.5, hold)
    assert len(line.pulses()) == 20
    until(driver, line, lambda: driver.ready, 2.0, hold)
    driver.fire()
    run(driver, line, 0.5, hold)
    driver.zero()
    run(driver, line, 1.0)
    assert 24 <= len(line.pulses()) <= 27, "STOP inside a train ends it"


@pytest.mark.parametrize(
    "call", [lambda d: d.set_power(101), lambda d: d.set_power(50.0), lambda d: d.set_train(10.0, 5), lambda d: d.set_pair(1, 1)]
)
def test_what_it_refuses(call: Callable[[Magstim], None]) -> None:
    driver, _line = connected()
    with pytest.raises(DeviceError, match=r"magstim: .*(must|only)"):
        call(driver)


def test_power_tables() -> None:
    for (mains_v, kind), rows in TRAIN_HZ.items():
        assert rows[-1][0] == 100 and most_train_hz(101, mains_v, kind) == 0
        rates = [most_train_hz(p, mains_v, kind) for p in range(101)]
        assert rates == sorted(rates, reverse=True)
        assert all(
            rate <= [hz for power, hz in emulator.TRAIN_HZ[mains_v, kind] if power <= p][-1] for p, rate in enumerate(rates)
        )
    assert most_train_hz(33) == 41 and most_train_hz(100, 240, 2) == 41
    for power, joules in ((30, 22.7), (50, 63.0), (80, 161.2), (100, 252.0)):
        assert abs(pulse_energy_j(power) - joules) < 0.25
    assert least_wait_s(30, 1.0, 5) == 0.5 and abs(most_on_time_s(100, 15.0) - 63_000 / (15 * 252.0)) < 1e-9


@pytest.mark.parametrize("after_s", [0.0, 1.0])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_end_disarmed_and_named(fault: str, after_s: float) -> None:
    driver, line = rig(fault, after_s)
    driver.connect()

    def each(turn: int) -> None:
        if turn % 100 == 20:
            driver.arm()
        driver.hold(400)

    named = through_faults(driver, line, 6.0, 5, each, may_lie=fault == "lies")
    expected = {
        "no_answer": {"no_answer"},
        "late": {"no_answer"},
        "garbled": {"out_of_step"},
        "wrong_crc": {"out_of_step"},
        "half_frame": {"no_answer", "out_of_step"},
        "refuses_arm": {"conflict"},
        "disarms": {"disarmed_itself"},
        "coil_hot": {"coil_hot"},
        "unplugged": {"unplugged"},
        "lies": set(),
    }[fault]
    if fault == "half_frame":
        assert expected & named
    elif (fault, after_s) != ("refuses_arm", 1.0):  # by then it is armed, and stays so
        assert expected <= named
    driver.close()
    line.advance(1_200 * MS)
    assert not line.device.output_on or fault == "lies"


@pytest.mark.parametrize("cut", range(80))
def test_the_cable_pulled_at_any_byte(cut: int) -> None:
    driver, line = rig()

    def each(turn: int) -> None:
        if turn == 40:
            driver.arm()
        driver.hold(400)

    pull_cable(driver, line, cut, 5.0, 5, each)
    line.advance(1_100 * MS)
    assert not line.device.output_on


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_never_crash_it_and_never_make_it_believe_off_while_on(data: st.DataObject) -> None:
    """Noise is inserted, bytes are lost, halves arrive late; the device's own armed state is the truth."""
    driver, line = rig(model=data.draw(st.sampled_from(emulator.MODELS)))
    actions = {"hold": lambda: None, "fire": driver.fire, "power": lambda: driver.set_power(30)}
    fuzz(data, driver, line, actions, lambda _action: driver.hold(400))
    line.advance(1_100 * MS)
    assert not line.device.output_on


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([bytes.fromhex(c) for c in COMMANDS]), st.sampled_from([5, 7, 9, 10]))
def test_the_parser_takes_any_bytes(data: bytes, command: bytes, version: int) -> None:
    try:
        reply = read_reply(data, command, version)
    except OutOfStep:
        return
    assert reply is None or 0 < reply.length <= len(data)


def test_silence_after_doubt_outlasts_the_device_s_keep_alive() -> None:
    assert SILENCE_NS > emulator.KEEP_ALIVE_NS + ANSWER_NS - 1 and len(ERRORS) >= 10


def test_a_bistim_under_the_name_of_a_200_is_another_shot() -> None:
    device = emulator.Magstim(model="bistim")
    line = VirtualLine(device, "", 0.0)
    driver = Magstim("virtual", "200", line=line, clock=line.clock)
    driver.connect()
    until(driver, line, lambda: driver.power_percent is not None, 2.0)
    assert device.power_b > 0 and driver.shape is not None and driver.shape.burst_pulses == 0
    device.power_b = 0  # its interval gives it away still
    until(driver, line, lambda: driver.power_b_percent == 0, 3.0)
    assert driver.shape is not None and driver.shape.burst_pulses == 0
    assert driver.trouble.startswith("other_model: it tells of a second unit or an interval, so it is a BiStim")


def test_both_pulses_of_a_bistim_at_once_are_seen_in_its_interval_before_its_mode_is_asked_for() -> None:
    device = emulator.Magstim(model="bistim")
    driver, line = Magstim("virtual", "bistim", line=(line := VirtualLine(device)), clock=line.clock), line
    driver.connect()
    device.power_b, device.system_mode = 0, b"2"
    until(driver, line, lambda: driver.shape is not None and driver.shape.burst_pulses == 1, 3.0)
    device.interval = 0
    until(driver, line, lambda: driver.shape is not None and driver.shape.burst_pulses == 0, 3.0)
    assert driver.mode == "2"
