"""`eegloop check` and `eegloop devices` as a person runs them: what is wrong is named with what to do, and the exit code says so."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from daemon.certify import STAGES, Certificate
from daemon.check_command import port_findings
from daemon.clock import synchronized
from daemon.findings import MEND, OK
from daemon.serial_ports import SerialPort, describe

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(120)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "daemon", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100)


def config(folder: Path, **source: object) -> Path:
    body = yaml.safe_load((ROOT / "config.yaml").read_text())
    body["seats"][0]["source"] = source
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def test_the_project_s_own_configuration_needs_no_mending_and_the_loop_is_certified(tmp_path: Path) -> None:
    """Source, decision, interlock and output are really run: every command is found again in the stimulator's record."""
    for _ in range(2):  # a machine busy with other tests may rightly be refused once
        done = command("check", "--data", str(tmp_path / "data"), "--loop", "--seconds", "2.5", "--json")
        body = json.loads(done.stdout)
        if body["loop"] is not None and body["loop"]["commands_seen"] >= 0.9:
            break
    assert {"environment", "data", "clock", "ports", "config", "loop"} == {f["area"] for f in body["findings"]}
    loop = body["loop"]
    assert loop["commands"] >= 15 and loop["commands_seen"] >= 0.9
    stages = loop["delays_ms"]
    assert tuple(stages) == STAGES
    assert 0.0 < stages["source"]["median"] < 100.0 and 0.0 < stages["output"]["median"] < 100.0
    parts = sum(stages[s]["median"] for s in STAGES[:-1])
    assert stages["total"]["median"] == pytest.approx(parts, abs=max(15.0, 0.5 * parts))  # medians of parts do not quite add up
    assert [m["name"] for m in loop["modes"]][-1] == "phase-locked pulses"
    assert all(f["do"] for f in body["findings"] if f["level"] != OK)
    assert done.returncode == (0 if body["ok"] else 1) and body["ok"] == (MEND not in {f["level"] for f in body["findings"]})


@pytest.mark.parametrize(
    ("source", "says", "do"),
    [
        ({"kind": "brainflow", "board": "CYTON_BOARD"}, "CYTON_BOARD needs serial_port", "add serial_port"),
        ({"kind": "brainflow", "board": "CYTON_BOARD", "serial_port": "/dev/absent"}, "/dev/absent is not there", "plug the dongle in"),
        ({"kind": "brainflow", "board": "FREEEEG32_BOARD", "serial_port": "/dev/absent"}, "needs channels", "32 electrode names"),
        ({"kind": "brainflow", "board": "CYTN_BOARD"}, "knows no board CYTN_BOARD", "eegloop devices"),
        ({"kind": "playback", "file": "/absent.vhdr"}, "/absent.vhdr is not there", "correct file"),
        ({"kind": "lsl", "nam": "x"}, "did you mean 'name'", "correct it"),
    ],
    ids=["parameter", "port", "names", "board", "file", "key"],
)  # fmt: skip
def test_what_must_be_mended_is_named(tmp_path: Path, source: dict[str, object], says: str, do: str) -> None:
    from daemon.check_command import configuration
    from eegloop.config import load
    from eegloop.errors import ConfigError

    path = config(tmp_path, **source)
    try:
        findings = [(f.text, f.do) for f in configuration(load(path), tmp_path / "data") if f.level == MEND]
    except ConfigError as error:
        findings = [(line, "correct it in the file") for line in str(error).splitlines()]
    assert any(says in text and do in advice for text, advice in findings), findings


def test_a_wrong_configuration_ends_with_code_1_and_one_plain_line(tmp_path: Path) -> None:
    done = command(
        "check", "--config", str(config(tmp_path, kind="brainflow", board="CYTON_BOARD")), "--data", str(tmp_path / "d")
    )
    assert done.returncode == 1 and "1 to mend" in done.stdout and "Traceback" not in done.stderr
    assert "✗ config: seat seat1: CYTON_BOARD needs serial_port" in done.stdout


def test_ftdi_latency_and_permissions_of_a_port(tmp_path: Path) -> None:
    """A real terminal device; the FTDI driver's file as the kernel lays it out, in a folder of our own."""
    master, slave = pty.openpty()
    try:
        path = os.ttyname(slave)
        place = tmp_path / "bus/usb-serial/devices" / Path(path).name
        place.mkdir(parents=True)
        (place / "latency_timer").write_text("16\n")
        port = describe(path, "dongle", sys_folder=tmp_path)
        assert port.latency_ms == 16 and port.may_open
        [late] = port_findings(port, tmp_path)
        assert late.level == MEND and "latency timer is 16 ms" in late.text and "tee" in late.do and "udev" in late.do
        (place / "latency_timer").write_text("1\n")
        assert [f.level for f in port_findings(describe(path, "dongle", sys_folder=tmp_path), tmp_path)] == [OK]
        [denied] = port_findings(replace(port, latency_ms=None, may_open=False, group="dialout"), tmp_path)
        assert denied.level == MEND and "usermod -aG dialout" in denied.do
    finally:
        os.close(master)
        os.close(slave)


def test_a_port_this_user_may_not_open_is_seen() -> None:
    """Asked by a process without rights, when the tests have them."""
    master, slave = pty.openpty()
    try:
        path = os.ttyname(slave)
        Path(path).chmod(0o600)
        if os.geteuid() != 0:
            Path(path).chmod(0o000)
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            os._exit(0 if not describe(path).may_open else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        os.close(master)
        os.close(slave)


def certificate(jitter_ms: float, late_ms: float, tick_ms: float, seen: float = 1.0) -> Certificate:
    rng = np.random.default_rng(1)
    n = 300
    delays = {s: np.full(n, 5.0) for s in STAGES}
    delays["decision"][7] = tick_ms
    delays["total"] = late_ms + jitter_ms * rng.uniform(-1.0, 1.0, n)
    delays["total"][: round(n * (1 - seen))] = np.nan
    return Certificate("virtual", 30.0, n, 0, delays)


@pytest.mark.parametrize(
    ("made", "allowed"),
    [
        (certificate(2.0, 20.0, 4.0), [True, True, True]),
        (certificate(14.0, 30.0, 4.0), [True, True, False]),
        (certificate(14.0, 120.0, 4.0), [True, False, False]),
        (certificate(2.0, 20.0, 300.0), [False, False, False]),
        (certificate(2.0, 20.0, 4.0, seen=0.9), [False, False, False]),
    ],
    ids=["good", "jitter", "late", "deadline missed", "commands lost"],
)  # fmt: skip
def test_which_modes_a_pc_allows(made: Certificate, allowed: list[bool]) -> None:
    assert [m.allowed for m in made.modes()] == allowed
    if allowed == [True, True, False]:
        [phase] = [m for m in made.modes() if m.name == "phase-locked pulses"]
        assert phase.why == "jitter 14 ms (at most 5)"
    assert (next(made.findings()).level == MEND) is not allowed[0]


def test_devices_says_what_each_board_needs() -> None:
    body = json.loads(command("devices", "--json").stdout)
    boards = {b["board"]: b for b in body["brainflow_boards"]}
    assert boards["CYTON_BOARD"]["required"] == ["serial_port"]
    assert boards["GANGLION_BOARD"]["required"] == ["serial_port", "channels"]
    assert sum("channels" in b["required"] for b in boards.values()) == 35  # EEG boards without electrode names
    athena = {p["preset"]: p for p in boards["MUSE_S_ATHENA_BOARD"]["presets"]}
    assert (athena[0]["sample_rate_hz"], athena[1]["kinds"]["accel"], athena[2]["kinds"]["optical"]) == (256.0, 3, 16)
    assert all(b["needs"] for b in boards.values())
    assert boards["BRAINBIT_BOARD"]["measures_contact"] and not boards["CYTON_BOARD"]["measures_contact"]


def test_the_wall_clock_s_state_is_the_kernel_s() -> None:
    assert synchronized() in (True, False)


def test_a_port_line_is_plain() -> None:
    from daemon.devices_command import port_line

    port = SerialPort("/dev/ttyUSB0", "FT231X USB UART", "D1", may_open=False, group="dialout", latency_ms=16)
    assert (
        port_line(port) == "/dev/ttyUSB0  FT231X USB UART; FTDI, delivers every 16 ms; you may not open it (join group dialout)"
    )
