"""The same script on every driver and emulator, with faults at every step; S1 to S3 judged on the emulator's own record.

connect -> arm -> ramp -> steady -> adjust -> STOP -> disconnect. The kinds that the interlock arms go through it once more as real
processes (tests/integration/test_stimulator_plugins.py, test_stimulator_pulses.py, test_stimulator_home.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stimulator_bench import BENCHES, Bench, Host

from eegloop import plugins
from simulators.stimulators.wire import FAULTS

ELSEWHERE = {
    "simulated": "its emulator is a process only: every step and fault in tests/integration/test_stimulator_plugins.py",
    "lsl_markers": "nothing is read back and nothing is armed: tests/integration/test_stimulator_markers.py",
}
STEPS = ("connected", "armed", "ramping", "steady", "adjusted")
LOSSES = ("cable", "host gone", "host frozen")
STOP_S = 0.3
# What these devices do not tell, by their protocols: it is in the record only, and in docs/devices.md. A P24 and an open-LIFU have
# nothing to disarm between two patterns that end by themselves.
UNSEEN = {
    ("pulse_pal", "lies"), ("pulse_pal", "disarms"), ("pulse_pal", "refuses_arm"), ("pulse_pal", "coil_hot"), ("pulse_pal", "wrong_crc"),
    ("p24", "disarms"), ("open_lifu", "disarms"),
}  # fmt: skip


def test_every_kind_is_on_the_bench() -> None:
    assert {name.partition(" ")[0] for name in BENCHES} | set(ELSEWHERE) == set(plugins.kinds("stimulator"))


def go_to(host: Host, step: str) -> None:
    """Up to this step; each must be reached."""
    bench = host.bench
    if "HomeUnit" not in type(bench.driver).__name__:  # that one comes connected
        bench.driver.connect()
    assert host.run(3.0, lambda: host.report.output_ma == 0.0 and bool(bench.driver.serial)), "no confirmed zero"
    host.run(1.0, lambda: bench.ready())  # what is set at rest
    if step == "connected":
        return
    host.faults.clear()  # what it said before it was set as signed
    host.arm()
    assert host.run(3.0, bench.ready), f"not armed: {host.report}"
    if step == "armed":
        return
    for tick in range(50):
        host.share = (tick + 1) / 50
        host.tick()
    if step == "ramping":
        return
    assert host.run(4.0, lambda: bench.most() > 0.0), "nothing came out"
    host.run(1.0)
    if step == "steady":
        return
    host.share = 0.5
    host.run(1.0)


def stop(host: Host) -> float:
    """STOP, and s until the last of the output in the record."""
    at_ns = host.bench.now_ns()
    host.trip()
    host.run(1.0)
    return max(0.0, (host.bench.last_ns() - at_ns) / 1e9)


def check(bench: Bench, lying: bool = False) -> None:
    assert bench.most() <= bench.full * (1.5 if lying else 1.0) + (1.0 if lying else 0.001), "more came out than was granted"


def through(name: str, folder: Path, step: str, what: str) -> None:
    """One run of the script with one thing that goes wrong at one step."""
    bench = BENCHES[name](folder)
    host = Host(bench)
    go_to(host, step)
    assert not host.tripped, host.faults
    at_ns = bench.now_ns()
    if what == "cable":
        bench.cable()
    elif what == "host gone":
        bench.gone()
        bench.advance_ms(3_000)  # nobody calls the driver any more
    elif what == "host frozen":
        bench.advance_ms(3_000)
    else:
        host.lied_to = what == "lies"
        bench.fault(what)
        if step == "connected":  # whoever arms it now gets nothing, or what was granted
            host.arm()
            host.share = 1.0
    if what in LOSSES:
        bench.advance_ms(2_000)
        lost_s = max(0.0, (bench.last_ns() - at_ns) / 1e9)
        assert lost_s <= bench.alone_s, f"goes on for {lost_s:.2f} s alone"
        host.run(0.1)
    else:
        host.run(1.5)
        if host.tripped:
            assert (bench.last_ns() - at_ns) / 1e9 <= 1.0, "the fault was told, and something still came out"
    noticed = host.tripped or not host.report.connected
    assert what in ("host gone", "host frozen") or noticed or not told(name, step, what), f"{what} was not told"
    after_s = stop(host)
    assert after_s <= STOP_S or what == "lies", f"{after_s:.2f} s from STOP to the last of the output"
    check(bench, what == "lies")
    last_ns = bench.last_ns()
    bench.driver.close()
    bench.advance_ms(2_000)
    assert bench.last_ns() == last_ns, "something came out after the end"


def told(name: str, step: str, what: str) -> bool:
    """The device tells of this fault at this step."""
    if what == "refuses_arm" and step != "connected" and name != "p24":
        return False  # it is armed already
    if step == "armed" and name in ("p24", "open_lifu") and what in ("coil_hot", "refuses_arm"):
        return False  # told when something is asked for
    return (name, what) not in UNSEEN and what != "lies"


@pytest.mark.parametrize("name", BENCHES)
def test_from_connect_to_disconnect(name: str, tmp_path: Path) -> None:
    bench = BENCHES[name](tmp_path)
    host = Host(bench)
    go_to(host, "adjusted")
    assert not host.faults - {""} and not host.tripped, host.faults
    assert stop(host) <= STOP_S
    assert host.run(1.0, lambda: host.report.output_ma == 0.0 and not host.report.armed), "zero and disarmed is not confirmed"
    last_ns = bench.last_ns()
    assert last_ns
    host.run(1.0)
    bench.driver.close()
    bench.advance_ms(3_000)
    assert bench.last_ns() == last_ns and not bench.on(), "STOP latches, and so does the end"
    check(bench)


@pytest.mark.parametrize("what", (*LOSSES, *FAULTS))
@pytest.mark.parametrize("name", BENCHES)
def test_what_goes_wrong_while_it_gives(name: str, what: str, tmp_path: Path) -> None:
    through(name, tmp_path, "steady", what)


@pytest.mark.long
@pytest.mark.parametrize("step", [step for step in STEPS if step != "steady"])
@pytest.mark.parametrize("what", (*LOSSES, *FAULTS))
@pytest.mark.parametrize("name", BENCHES)
def test_what_goes_wrong_at_every_other_step(name: str, what: str, step: str, tmp_path: Path) -> None:
    through(name, tmp_path, step, what)
