"""The simulated stimulator itself: its own lease, maximum and waveform, whatever it is told."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.stimulators import simulated
from simulators.stimulators.simulated import LONGEST_LEASE_MS, MS, Device

START = 10**12


def armed(max_ma: float = 2.0) -> Device:
    device = Device(max_ma)
    device.command({"cmd": "arm"}, START)
    return device


def test_disarmed_it_gives_nothing() -> None:
    device = Device(2.0)
    device.command({"cmd": "output", "amplitude_ma": 1.0, "frequency_hz": 0.0, "lease_ms": 400}, START)
    assert device.output_ma(START) == 0.0 and not device.armed


def test_its_own_lease_ends_and_disarms() -> None:
    device = armed()
    device.command({"cmd": "output", "amplitude_ma": 1.0, "frequency_hz": 0.0, "lease_ms": 100}, START)
    device.pass_time(START + 99 * MS)
    assert device.output_ma(START + 99 * MS) == 1.0
    device.pass_time(START + 100 * MS)
    assert device.output_ma(START + 100 * MS) == 0.0 and not device.armed


def test_arming_alone_ends_too() -> None:
    device = armed()
    device.pass_time(START + LONGEST_LEASE_MS * MS)
    assert not device.armed


def test_above_its_maximum_is_a_fault_and_zero() -> None:
    device = armed(1.0)
    device.command({"cmd": "output", "amplitude_ma": 1.01, "frequency_hz": 0.0, "lease_ms": 100}, START)
    assert device.output_ma(START) == 0.0 and not device.armed and device.fault
    device.command({"cmd": "arm"}, START)
    assert not device.armed


def test_unknown_command_is_a_fault_and_zero() -> None:
    device = armed()
    device.command({"cmd": "boost"}, START)
    assert not device.armed and device.fault == "unknown command"


def test_sine_has_its_peak_and_frequency_and_runs_on_through_amplitude_changes() -> None:
    device = armed()
    device.command({"cmd": "output", "amplitude_ma": 1.0, "frequency_hz": 10.0, "lease_ms": 400}, START)
    values = [device.output_ma(START + i * MS) for i in range(100)]
    assert max(values) > 0.99 and min(values) < -0.99 and abs(values[0]) < 1e-9
    before = device.phase_rad(START + 130 * MS)
    device.command({"cmd": "output", "amplitude_ma": 0.5, "frequency_hz": 10.0, "lease_ms": 400}, START + 130 * MS)
    assert device.phase_rad(START + 130 * MS) == before
    assert math.isclose(device.output_ma(START + 125 * MS), 0.5 * math.sin(2 * math.pi * 1.25), abs_tol=1e-9)


ANY = st.one_of(st.floats(), st.integers(), st.none(), st.text(max_size=3), st.booleans())


OUTPUT = {"cmd": st.just("output"), "frequency_hz": st.sampled_from([0.0, 10.0]), "lease_ms": st.integers(0, 500)}
GOOD = st.fixed_dictionaries({**OUTPUT, "amplitude_ma": st.floats(0.0, 1.5)})
SOUND = st.one_of(st.just({"cmd": "arm"}), GOOD, GOOD, st.integers(0, 60))
STEPS = st.one_of(
    SOUND,
    st.fixed_dictionaries({"cmd": st.sampled_from(["arm", "disarm", "zero", "identify", "x"])}),
    st.fixed_dictionaries({"cmd": st.just("output"), "amplitude_ma": ANY, "frequency_hz": ANY, "lease_ms": ANY}),
    st.integers(0, 800),
)
# First what an interlock says: after the first thing that is out of range the device gives nothing any more.
COURSES = st.tuples(st.lists(SOUND, max_size=20), st.lists(STEPS, max_size=20)).map(lambda parts: [*parts[0], *parts[1]])


def test_whatever_it_is_told_it_stays_within_its_maximum_and_lease() -> None:
    given_ma: list[float] = []

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(COURSES)
    def stays(steps: list[object]) -> None:
        device, now_ns, told_ns = Device(1.5), START, START
        for step in steps:
            if isinstance(step, int):
                now_ns += step * MS
            device.pass_time(now_ns)
            if isinstance(step, dict):
                device.command(step, now_ns)
                told_ns = now_ns
            given_ma.append(device.output_ma(now_ns))
            assert abs(given_ma[-1]) <= 1.5
            if given_ma[-1] != 0.0:
                assert device.armed and now_ns < told_ns + LONGEST_LEASE_MS * MS

    stays()
    assert sum(ma != 0.0 for ma in given_ma) > 20, "hardly anything was ever given"


def test_what_a_device_says_before_its_maximum_is_not_believed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        driver = simulated.build(simulated.Settings(str(tmp_path / "s")), "")
        driver.connect()
        device, _ = listener.accept()
        report = {"type": "report", "amplitude_ma": 0.0, "boot_ns": 1, "armed": False, "fault": ""}
        device.send(json.dumps(report).encode())
        assert driver.poll().output_ma is None
        device.send(json.dumps({"type": "identity", "serial": "sim", "max_ma": 1.0}).encode())
        device.send(json.dumps({**report, "boot_ns": 2}).encode())
        assert driver.poll().output_ma == 0.0 and driver.limits[0].value == 1.0
        driver.close()
        device.close()
