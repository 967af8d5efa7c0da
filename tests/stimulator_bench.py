"""One script for every stimulator kind on its emulator in virtual time: connect, arm, ramp, adjust, STOP, disconnect, and what goes wrong.

A `Bench` is a driver, its emulator and a wire between them; `Host` does with it what the interlock does, ticks and trips included.
What is judged is the emulator's record, never what the driver says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from home_way import Way
from interlock_bench import make_program
from stimulator_rig import VirtualLine

from drivers.stimulators.magstim import FIRE_S, PULSE, Magstim
from drivers.stimulators.magventure import MagVenture
from drivers.stimulators.open_lifu import OpenLifu, Sequence
from drivers.stimulators.p24 import P24
from drivers.stimulators.pulse_pal import PulsePal
from drivers.stimulators.pulse_port import PulsePort
from eegloop.stim import DeviceReport
from interlock.judge import ARM_WITHIN_NS
from interlock.refusals import SILENT_NS
from simulators.stimulators import magstim, magventure, open_lifu, p24, pulse_pal
from simulators.stimulators.home_unit import wrong_mac
from simulators.stimulators.wire import MS, spoilt

TICK_MS = 10
LEASE_MS = 400
THETA = {"burst_pulses": 3, "burst_millihz": 50_000, "train_millihz": 5_000, "train_pulses": 30}


@dataclass(slots=True)
class Bench:
    """One kind.

    Attributes
    ----------
    driver : Any
        The port of the interlock.
    now_ns, advance_ms, fault, cable, gone : callable
        Virtual time; begin a fault; pull the cable; the host's process ends (its port closes, nothing more is said).
    give : callable
        Called at each tick under a lease with the share of `full` that is granted.
    samples : callable
        The emulator's record as (ns, amount), nonzero where something comes out; the last entry is now.
    full : float
        The most that may come out: mA, % of output or V.
    alone_s : float
        How long something may still come out once host or cable is gone.
    """

    driver: Any
    now_ns: Callable[[], int]
    advance_ms: Callable[[int], None]
    fault: Callable[[str], None]
    cable: Callable[[], None]
    gone: Callable[[], None]
    give: Callable[[float], None]
    ready: Callable[[], bool]
    samples: Callable[[], list[tuple[int, float]]]
    on: Callable[[], bool]
    full: float
    alone_s: float

    def last_ns(self) -> int:
        return max((t for t, amount in self.samples() if amount != 0.0), default=0)

    def most(self) -> float:
        return max((abs(amount) for _, amount in self.samples()), default=0.0)


def _serial(driver: Any, line: VirtualLine, samples: Callable[[], list[tuple[int, float]]], **own: Any) -> Bench:
    def fault(name: str) -> None:
        line.wire.fault = name
        line.wire.begin_fault(line.now_ns)

    def cable() -> None:
        fault("unplugged")

    given = {
        "driver": driver,
        "now_ns": line.clock,
        "advance_ms": lambda ms: line.advance(ms * MS),
        "fault": fault,
        "cable": cable,
    }
    return Bench(**{**given, "gone": line.close, "samples": samples, "on": lambda: line.device.output_on, **own})


def _pulse_pal(_folder: Path) -> Bench:
    line = VirtualLine(pulse_pal.PulsePal())
    driver = PulsePal("virtual", 0.5, 1, line=line, clock=line.clock)

    def samples() -> list[tuple[int, float]]:
        found, level_ma = [(0, 0.0)], 0.0
        for event in line.record:
            if event["what"] == "level" and event["channel"] == 1:
                after_ma = round(event["volts"] * 0.5, 3)
                found += [(event["boot_ns"], level_ma), (event["boot_ns"], after_ma)]
                level_ma = after_ma
        return [*found, (line.now_ns, level_ma)]

    return _serial(
        driver, line, samples, full=0.4, alone_s=0.41,
        give=lambda share: driver.output(0.4 * share, 0.0, LEASE_MS), ready=lambda: driver.poll().armed,
    )  # fmt: skip


def _pulses(line: VirtualLine, amount: Callable[[dict[str, Any]], float]) -> Callable[[], list[tuple[int, float]]]:
    return lambda: [(event["boot_ns"], amount(event)) for event in line.record if event["what"] == "pulse"]


def _coil(
    coil: Any, line: VirtualLine, power: Callable[[], int | None], set_power: Callable[[int], None], **program: Any
) -> Bench:
    port = PulsePort(coil, power, set_power, FIRE_S)
    port.prescribe(make_program(motor_threshold_percent=40, **program))  # 110 % of 40 % is 44 %

    def give(share: float) -> None:
        port.output(0.0, 0.0, LEASE_MS)
        if share > 0.0 and coil.ready:
            port.fire()

    amount = _pulses(line, lambda event: float(event.get("power_percent", event.get("amplitude_percent"))))
    # What was on the line already is given; a burst that has begun ends by itself.
    alone_s = 0.01 + 0.02 * (program.get("burst_pulses", 1) - 1)
    return _serial(port, line, amount, full=44.0, alone_s=alone_s, give=give, ready=lambda: coil.ready)


def _magstim(model: str) -> Callable[[Path], Bench]:
    def bench(_folder: Path) -> Bench:
        line = VirtualLine(magstim.Magstim(model))
        coil = Magstim("virtual", model, line=line, clock=line.clock)
        return _coil(coil, line, lambda: coil.power_percent, coil.set_power, waveform=PULSE[model])

    return bench


def _magventure(**program: int) -> Callable[[Path], Bench]:
    def bench(_folder: Path) -> Bench:
        line = VirtualLine(magventure.MagVenture())
        coil = MagVenture("virtual", line=line, clock=line.clock)
        return _coil(coil, line, lambda: coil.amplitude_percent, coil.set_amplitude, **program)

    return bench


def _p24(_folder: Path) -> Bench:
    line = VirtualLine(p24.P24())
    driver = P24("virtual", line=line, clock=line.clock)
    amount = _pulses(line, lambda event: max(abs(ma) for _, ma in event["points"]))
    return _serial(
        driver, line, amount, full=2.0, alone_s=0.01,
        give=lambda share: driver.output(2.0 * share, 20.0, LEASE_MS), ready=lambda: driver.poll().armed,
    )  # fmt: skip


def _open_lifu(_folder: Path) -> Bench:
    line = VirtualLine(open_lifu.OpenLifu())
    driver = OpenLifu("virtual", line=line, clock=line.clock)

    def give(share: float) -> None:
        driver.hold(LEASE_MS)
        if share > 0.0 and driver.ready:
            driver.fire()

    def ready() -> bool:
        """At rest it is told what `fire` gives: 20 V, 40 pulses in 0.4 s."""
        if driver.serial and driver.voltage_v is None:
            driver.set_voltage(20.0)
            driver.set_sequence(Sequence(100, 40, 200))
        return driver.ready

    amount = _pulses(line, lambda event: float(event["volts"]))
    return _serial(driver, line, amount, full=20.0, alone_s=0.41, give=give, ready=ready)


def _home_unit(folder: Path) -> Bench:
    way = Way(folder)

    def fault(name: str) -> None:
        if name == "unplugged":
            way.cut()
        elif name == "no_answer":
            way.mangle = lambda packet: []
        elif name == "late":
            kept: list[bytes] = []
            way.mangle = lambda packet: kept.append(packet) or ([kept.pop(0)] if len(kept) > 37 else [])  # 1.5 s
        elif name in ("garbled", "wrong_crc", "half_frame"):
            way.mangle = lambda packet: [spoilt(packet, name, wrong_mac)]
        else:
            way.unit.fault = name

    def give(share: float) -> None:
        """The unit takes no jumps: the interlock's ramp is 0.1 mA a second, here faster."""
        way.driver.output(min(0.4 * share, way.unit.set_ma + 0.004), 0.0, LEASE_MS)

    return Bench(
        way.driver, lambda: way.now_ns, lambda ms: [way.advance(5) for _ in range(ms // 5)] and None, fault,
        way.cut, way.cut, give, lambda: way.driver.poll().armed,
        lambda: way.samples, lambda: way.unit.output_on, 0.4, 0.41,
    )  # fmt: skip


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "mqtt": _home_unit,
    "pulse_pal": _pulse_pal,
    "magstim 200": _magstim("200"),
    "magstim bistim": _magstim("bistim"),
    "magstim rapid": _magstim("rapid"),
    "magventure": _magventure(),
    "magventure bursts": _magventure(**THETA),
    "p24": _p24,
    "open_lifu": _open_lifu,
}


class Host:
    """What the interlock does with a driver: a tick every 10 ms, and zero for good once something is wrong."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.share = 0.0
        self.armed_ns = 0
        self.armed = self.tripped = self.was_armed = self.lied_to = False
        self.faults: set[str] = set()
        self.report = DeviceReport(None, 0, connected=False, armed=False)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Ticks until something holds; True if it did."""
        for _ in range(round(seconds * 1000 / TICK_MS)):
            self.tick()
            if until():
                return True
        return False

    def tick(self) -> None:
        bench = self.bench
        bench.advance_ms(TICK_MS)
        self.report = report = bench.driver.poll()
        off = report.output_ma == 0.0 and not report.armed and report.t_ns > self.armed_ns  # older ones tell of before
        assert self.lied_to or not (off and bench.on()), "it says off while something comes out"
        if report.fault:
            self.faults.add(report.fault.partition(":")[0])
        if self.armed and not self.tripped:
            silent = bench.now_ns() - report.t_ns > SILENT_NS
            late = bench.now_ns() - self.armed_ns > ARM_WITHIN_NS
            disarmed = not report.armed and (self.was_armed or late)
            self.was_armed = report.armed
            if report.fault or not report.connected or silent or disarmed:
                self.trip()
                self.faults.add(report.fault or ("silent" if silent else "disarmed" if disarmed else "gone"))
            else:
                bench.give(self.share)

    def arm(self) -> None:
        self.bench.driver.arm()
        self.armed, self.armed_ns = True, self.bench.now_ns()

    def trip(self) -> None:
        self.tripped, self.armed, self.share = True, False, 0.0
        self.bench.driver.zero()
        self.bench.driver.disarm()
