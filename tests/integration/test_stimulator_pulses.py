"""TMS plug-ins on their emulators under the real interlock: judged pulses, the signed power, STOP and loss by the coil's own record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eegloop.launch import interlock_argv
from eegloop.stop import stop
from tests.interlock_bench import Signer, make_program, make_pulses, valid_now, write_signed
from tests.interlock_rig import SEAT, Daemon, Rig, boot_ns, wait_for

MS = 1_000_000
POWER_PERCENT = 44  # 40 % motor threshold x 110 %; of theta bursts 55 % x 80 %
SINGLE = {"motor_threshold_percent": 40, "train_millihz": 250, "train_pulses": 20, "session_pulses": 100, "day_pulses": 100}
MONOPHASIC = {**SINGLE, "waveform": "monophasic"}
THETA = {  # intermittent theta bursts, number by number as the interlock's list has them
    "protocol": "itbs", "threshold": "amt", "intensity_percent": 80, "motor_threshold_percent": 55, "burst_pulses": 3,
    "burst_millihz": 50_000, "train_millihz": 5_000, "train_pulses": 30, "trains": 20, "interval_ms": 8_000, "session_pulses": 600,
    "day_pulses": 600, "week_pulses": 4_200, "course_pulses": 21_600, "waveform": "biphasic", "current": "normal",
}  # fmt: skip


class Coil(NamedTuple):
    """A kind, what its driver calls it, the emulator's model, and the program that is signed."""

    kind: str
    serial: str
    model: str
    program: dict[str, Any]


COILS = {
    "magstim": Coil("magstim", "magstim-200", "200", MONOPHASIC),
    "magstim bistim": Coil("magstim", "magstim-bistim", "bistim", MONOPHASIC),
    "magstim rapid": Coil("magstim", "magstim-rapid", "rapid", SINGLE),
    "magventure": Coil("magventure", "001234", "x100+option", SINGLE),
    "magventure bursts": Coil("magventure", "001234", "x100+option", THETA),
}


class CoilRig(Rig):
    """Interlock and emulated TMS device; what was signed: single pulses at 0.25 Hz, or intermittent theta bursts."""

    def __init__(self, folder: Path, name: str, *stimulator: str) -> None:
        now, coil = valid_now(), COILS[name]
        program = make_program(**coil.program)
        worn = {
            "device": coil.kind,
            "device_serial": coil.serial,
            "day_sessions": 1,
            "week_sessions": 5,
            "lockout_ms": 43_200_000,
        }
        signed = make_pulses(
            program, authority="lower_only", valid_from_s=now.valid_from_s, valid_until_s=now.valid_until_s, **worn
        )
        super().__init__(folder, "--model", coil.model, *stimulator, prescription=signed, start=False)
        self.signed = write_signed(folder, signed, [Signer(scope="any")], self.layout.keys / "trusted.json")
        self.kind, self.model, self.record = coil.kind, coil.model, folder / "coil.jsonl"

    def __enter__(self) -> CoilRig:
        self.stimulator = self.start_stimulator(*self.stimulator_arguments)
        self.interlock = self.start_interlock()
        return self

    def start_stimulator(self, *arguments: str) -> subprocess.Popen[str]:
        module = [sys.executable, "-m", f"simulators.stimulators.{self.kind}", "--record", str(self.record)]
        process = self.spawn([*module, *arguments])
        assert process.stdout is not None
        self.port = process.stdout.readline().strip()
        return process

    def interlock_argv(self, **options: Any) -> list[str]:
        driver = {"port": self.port, **({"model": self.model} if self.kind == "magstim" else {})}
        return interlock_argv(
            self.layout.data, SEAT, "virtual", self.signed, stimulator=self.kind, settings=driver, state=self.state, **options
        )

    def recorded(self, *what: str) -> list[dict[str, Any]]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [event for event in map(json.loads, lines) if event["what"] in what]

    def pulses(self) -> list[dict[str, Any]]:
        """What reached the coil; a BiStim's second pulse at 0 % is none."""
        return [pulse for pulse in self.recorded("pulse") if pulse.get("power_percent", pulse.get("amplitude_percent"))]

    @property
    def burst(self) -> int:
        """Pulses of one shot, as signed."""
        return self.prescription.pulses.burst_pulses if self.prescription.pulses is not None else 0

    def faults(self) -> list[str]:
        """What the device complained of, in order, "" = of nothing any more; by the interlock's log."""
        return [event["data"]["fault"] for event in self.events() if event["event"] == "device" and "fault" in event["data"]]

    def armed(self) -> bool:
        changes = self.recorded("armed", "disarmed")
        return bool(changes) and changes[-1]["what"] == "armed"


@pytest.fixture(params=sorted(COILS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CoilRig]:
    with CoilRig(tmp_path, request.param) as rig:
        yield rig


def ready(rig: CoilRig) -> Daemon:
    """Armed, at the signed power, and long enough for a Magstim to be ready."""
    daemon = Daemon(rig)
    if (
        rig.burst > 1 or rig.model == "bistim"
    ):  # it was set to something else: refused by name until it has said that it is set as signed
        wait_for(lambda: rig.faults()[-1:] == [""])
        assert any(fault.startswith("not_as_signed") for fault in rig.faults())
    daemon.arm("has not said what one shot gives")
    at_ns = boot_ns()
    daemon.until(lambda: daemon.state["boot_ns"] > at_ns + 1_500 * MS)
    assert daemon.state["mode"] == "armed" and rig.armed() and not rig.pulses()
    return daemon


def pulse(daemon: Daemon, in_ms: int = 100) -> tuple[int, dict[str, Any]]:
    daemon.answers.clear()
    deadline_ns = boot_ns() + in_ms * MS
    daemon.send("pulse", deadline_ns=deadline_ns, expires_ns=deadline_ns + 100 * MS)
    daemon.until(lambda: daemon.answers)
    return deadline_ns, daemon.answers[-1]


def given_pulse(daemon: Daemon) -> int:
    """A pulse that was not skipped: on a busy machine one may be, never given late. Its deadline, ns."""
    for _ in range(20):
        deadline_ns, answer = pulse(daemon)
        assert answer["type"] == "pulse", answer
        if answer["outcome"] != "skipped":
            return deadline_ns
    raise AssertionError("twenty pulses were skipped")


def test_a_pulse_is_given_in_time_at_the_signed_power_and_stop_disarms(rig: CoilRig) -> None:
    daemon = ready(rig)
    deadline_ns = given_pulse(daemon)
    wait_for(rig.pulses)
    wait_for(lambda: len(rig.pulses()) == rig.burst)
    given = rig.pulses()[0]
    assert given["power_percent" if rig.kind == "magstim" else "amplitude_percent"] == POWER_PERCENT
    assert given["boot_ns"] >= deadline_ns - MS
    answered = stop(rig.layout.stop_socket(SEAT), "test", 2.0)
    assert answered["confirmed"] is True and not rig.armed()
    daemon.stopped("STOP")
    daemon.refuses_everything()
    assert len(rig.pulses()) == rig.burst
    daemon.close()


def test_a_train_of_theta_bursts_is_given_burst_by_burst(tmp_path: Path) -> None:
    """Orders 200 ms apart, each a burst that ends by itself; STOP ends it, and nothing follows."""
    with CoilRig(tmp_path, "magventure bursts") as rig:
        daemon = ready(rig)
        deadline_ns = first_ns = boot_ns() + 100 * MS
        fired_ns: list[int] = []
        while deadline_ns - first_ns <= 1_800 * MS:
            daemon.answers.clear()
            daemon.send("pulse", deadline_ns=deadline_ns, expires_ns=deadline_ns + 100 * MS)
            daemon.until(lambda: daemon.answers)
            answer = daemon.answers[-1]
            assert answer["type"] == "pulse" or answer["field"] == "deadline_ns", answer  # a busy machine: late, so not given
            fired_ns += [deadline_ns] if answer.get("outcome") in ("fired", "late") else []
            deadline_ns += 200 * MS
        daemon.until(lambda: len(rig.pulses()) == 3 * len(fired_ns))
        assert stop(rig.layout.stop_socket(SEAT), "test", 2.0)["confirmed"] is True and not rig.armed()
        given = rig.pulses()
        assert fired_ns and len(given) == 3 * len(fired_ns), (len(fired_ns), len(given))
        assert {pulse["amplitude_percent"] for pulse in given} == {POWER_PERCENT}
        for i, at_ns in enumerate(fired_ns):
            assert [round((p["boot_ns"] - given[3 * i]["boot_ns"]) / 1e6) for p in given[3 * i : 3 * i + 3]] == [0, 20, 40]
            assert given[3 * i]["boot_ns"] >= at_ns - MS
        daemon.close()


@pytest.mark.faults
def test_a_pulse_too_soon_after_another_trips_and_is_not_given(rig: CoilRig) -> None:
    daemon = ready(rig)
    given_pulse(daemon)
    _, answer = pulse(daemon, 90)  # bursts may follow after 200 ms
    assert answer["type"] == "refused" and "sooner" in answer["reason"]
    daemon.stopped("above a limit")
    wait_for(lambda: not rig.armed())
    assert 1 <= len(rig.pulses()) <= rig.burst, "the trip ends what is left of a burst too"
    daemon.close()


@pytest.mark.faults
@pytest.mark.parametrize("what", ["daemon gone", "interlock killed", "interlock frozen", "cable"])
def test_after_a_loss_nothing_fires_and_it_is_disarmed_where_the_device_can(rig: CoilRig, what: str) -> None:
    daemon = ready(rig)
    pulse(daemon)
    at_ns = boot_ns()
    daemon.send("pulse", deadline_ns=at_ns + 1_500 * MS, expires_ns=at_ns + 1_600 * MS)
    if what == "daemon gone":
        daemon.close()
    elif what == "cable":
        rig.stimulator.send_signal(signal.SIGUSR1)
    else:
        os.kill(rig.interlock.pid, signal.SIGKILL if what == "interlock killed" else signal.SIGSTOP)
    wait_for(lambda: boot_ns() > at_ns + 2_500 * MS, 5.0)
    assert all(given["boot_ns"] <= at_ns + 50 * MS for given in rig.pulses()), "only what was on the line already"
    if rig.kind == "magstim" or what == "daemon gone":
        assert not rig.armed()
        assert (rig.recorded("disarmed")[-1]["boot_ns"] - at_ns) / 1e9 <= 1.2
