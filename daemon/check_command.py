"""`eegloop check`: the doctor. Every finding says what was found and, where something must be mended, what to do about it."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from control.prescription import parse_trusted, verify
from daemon.allocation import pair_of
from daemon.certify import certify
from daemon.clock import synchronized
from daemon.findings import MEND, NOTE, OK, Finding
from daemon.installation import check_names
from daemon.processes import NICE_INTERLOCK
from daemon.pulse_spacing import too_often
from daemon.serial_ports import SYS, SerialPort, bluetooth_adapters, describe, serial_ports
from drivers.sources.brainflow import boards
from drivers.sources.lsl_network import configure
from eegloop.config import Config, Seat, load
from eegloop.errors import ConfigError, EegloopError, SetupError
from eegloop.layout import Layout
from eegloop.real_time import share_is_bounded
from eegloop.stim import PrescriptionError

LIBRARIES = ("numpy", "scipy.signal", "mne", "pylsl", "brainflow", "serial", "cryptography", "fastapi")
FREE_BYTES = 1 << 30  # an evening of 32 channels at 500 Hz is about 0.7 GB
LATENCY_MS = 1
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies")
WRITTEN_S = 1_735_689_600  # 1 January 2025: no clock that is right says less
CLOCKS_APART_S = 1e-3
SLEEPS = 40


def check(config_path: Path, data: Path, loop_s: float | None, seat: str | None, json_output: bool) -> int:
    """Look at this machine and its configuration; with `loop_s` certify the loop for so many seconds.

    Returns
    -------
    int
        0 if nothing must be mended, 1 otherwise.
    """
    findings: list[Finding] = []

    def add(found: Iterator[Finding]) -> None:
        for finding in found:
            findings.append(finding)
            if not json_output:
                _say(finding)

    configure("machine" if seat is None else "site")
    add(environment())
    add(data_directory(data))
    add(clocks())
    add(ports(serial_ports()))
    config = None
    try:
        config = load(config_path)
    except ConfigError as error:
        add(Finding("config", MEND, line, "correct it in the file") for line in str(error).splitlines())
    if config is not None:
        add(configuration(config, data))
    certificate = None
    if loop_s is not None:
        progress = None if json_output else lambda text: print(text, end="\r", flush=True, file=sys.stderr)
        try:
            certificate = certify(loop_s, _chosen(config, seat), progress)
            add(iter(certificate.findings()))
        except EegloopError as error:
            add(iter([Finding("loop", MEND, str(error), "mend this, then certify again")]))
        if certificate is not None and not json_output:
            print(certificate.table())
    mend = sum(f.level == MEND for f in findings)
    if json_output:
        body = {"ok": not mend, "findings": [asdict(f) for f in findings], "loop": certificate.to_dict() if certificate else None}
        print(json.dumps(body, allow_nan=False))
    else:
        print("Nothing must be mended." if not mend else f"{mend} to mend (marked ✗ above).")
    return 1 if mend else 0


def _say(finding: Finding) -> None:
    mark = {OK: "✓", NOTE: "·", MEND: "✗"}[finding.level]
    print(f"{mark} {finding.area}: {finding.text}")
    if finding.do:
        print(f"    → {finding.do}")


def _chosen(config: Config | None, seat: str | None) -> Seat | None:
    """The seat whose headset is certified; None = a virtual headset."""
    if seat is None:
        return None
    if config is None:
        raise ConfigError(f"--seat {seat}: config.yaml must be mended first")
    for one in config.seats:
        if one.id == seat:
            return one
    raise ConfigError(f"--seat {seat}: there is no such seat; there are: {', '.join(s.id for s in config.seats)}")


# ---------------------------------------------------------------------- this installation


def environment() -> Iterator[Finding]:
    """Our package names, the libraries with native parts, processors, priorities."""
    yield Finding("environment", OK, f"Python {platform.python_version()} on {platform.system()} {platform.release()}")
    if platform.system() != "Linux":
        yield Finding(
            "environment", MEND, f"{platform.system()} has no CLOCK_BOOTTIME", "run eegloop on Linux; it is tested there only"
        )
    try:
        check_names()
    except EegloopError as error:
        yield Finding("environment", MEND, str(error), "give eegloop an environment of its own (make setup)")
    broken = []
    for name in LIBRARIES:
        try:
            import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            broken.append(name)
            yield Finding("environment", MEND, f"{name} cannot be loaded ({error})", "run make setup again")
    if not broken:
        yield Finding("environment", OK, f"all libraries load ({', '.join(n.partition('.')[0] for n in LIBRARIES)})")
    yield from _processors()


def _processors() -> Iterator[Finding]:
    n = len(os.sched_getaffinity(0))
    load_1 = os.getloadavg()[0]
    if n < 2:
        yield Finding(
            "environment", NOTE, "one processor only", "certify with `eegloop check --loop` before a session; two are better"
        )
    elif load_1 > n:
        yield Finding("environment", NOTE, f"busy: load {load_1:.1f} on {n} processors", "end other programs before a session")
    else:
        yield Finding("environment", OK, f"{n} processors, load {load_1:.1f}")
    yield from _priorities()


def _priorities() -> Iterator[Finding]:
    if not share_is_bounded():
        yield Finding(
            "environment", NOTE,
            "the kernel would not take the processor back from a real-time program, so the interlock does without that priority: "
            "under load a lease may lapse (to zero) or a pulse be skipped",
            "set the kernel's own values again: sysctl kernel.sched_rt_period_us=1000000 kernel.sched_rt_runtime_us=950000",
        )  # fmt: skip
    if os.geteuid() == 0:
        return
    missing = []
    if resource.getrlimit(resource.RLIMIT_NICE)[0] < 20 - NICE_INTERLOCK:
        missing.append(f"{_user()} - nice {NICE_INTERLOCK}")
    if resource.getrlimit(resource.RLIMIT_RTPRIO)[0] < 1:
        missing.append(f"{_user()} - rtprio 1")
    if missing:
        yield Finding(
            "environment", NOTE,
            "this user may not put the interlock before other programs: under load a lease may lapse (to zero) or a pulse be skipped",
            f"add the line {' and the line '.join(map(repr, missing))} to /etc/security/limits.conf and sign in again",
        )  # fmt: skip


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())


def data_directory(data: Path) -> Iterator[Finding]:
    """Where the service writes: is it ours, private, and is there room?"""
    folder = at = Path(os.path.realpath(data))
    if folder.is_symlink():
        yield Finding("data", MEND, f"{folder} is a link that leads nowhere", "remove it, or choose another --data")
        return
    while not at.exists():
        at = at.parent
    if not at.is_dir():
        yield Finding("data", MEND, f"{at} is a file", "choose a folder as --data")
        return
    if not os.access(at, os.W_OK):
        yield Finding("data", MEND, f"{folder} cannot be written", "choose another --data, or give this user the folder")
        return
    free = shutil.disk_usage(at).free
    if free < FREE_BYTES:
        yield Finding(
            "data", MEND, f"{free / 1e9:.1f} GB free under {folder}", "free at least 1 GB: no recording, no stimulation"
        )
    else:
        yield Finding("data", OK, f"{folder}: {free / 1e9:.0f} GB free")
    if folder.exists() and folder.stat().st_mode & 0o077:
        yield Finding("data", NOTE, f"{folder} is open to other users", f"chmod 700 {folder} (eegloop does so when it starts)")


# ---------------------------------------------------------------------- time


def clocks(sys_folder: Path = SYS) -> Iterator[Finding]:
    """The three clocks agree, the wall clock is synchronized, sleeping wakes in time."""
    import pylsl

    apart_s = min(abs(pylsl.local_clock() - time.monotonic()) for _ in range(5))
    if apart_s > CLOCKS_APART_S:
        yield Finding(
            "clock", MEND, f"liblsl's clock and CLOCK_MONOTONIC are {apart_s * 1000:.1f} ms apart",
            "set PYLSL_LIB to the liblsl that eegloop installed; another one is in use",
        )  # fmt: skip
    source = _text(sys_folder / "devices/system/clocksource/clocksource0/current_clocksource")
    if source in SLOW_CLOCKS:
        yield Finding("clock", NOTE, f"the kernel reads time from {source}, which is slow", "update the firmware; tsc is better")
    if time.time() < WRITTEN_S:
        yield Finding(
            "clock", MEND, f"this computer's clock says {time.strftime('%d %B %Y')}, which is before eegloop was written",
            "set the date; else no prescription is valid and every dose is counted on the wrong day",
        )  # fmt: skip
    if not synchronized():
        yield Finding(
            "clock", NOTE, "the wall clock is not synchronized: times of day in recordings and the dose's days may be wrong",
            "switch time synchronization on (timedatectl set-ntp true); a loop does not depend on it",
        )  # fmt: skip
    else:
        yield Finding("clock", OK, "the wall clock is synchronized")
    late_ms = sorted(_oversleep_ms() for _ in range(SLEEPS))
    text = f"a sleep of 1 ms ends {late_ms[SLEEPS // 2]:.2f} ms late (worst of {SLEEPS}: {late_ms[-1]:.1f} ms)"
    if late_ms[-1] > 50.0:
        yield Finding("clock", NOTE, text, "end other programs; certify this PC with `eegloop check --loop`")
    else:
        yield Finding("clock", OK, text)


def _oversleep_ms() -> float:
    began = time.perf_counter()
    time.sleep(0.001)
    return (time.perf_counter() - began) * 1000 - 1.0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


# ---------------------------------------------------------------------- ports


def ports(found: tuple[SerialPort, ...], sys_folder: Path = SYS) -> Iterator[Finding]:
    """Serial ports: may this user open them, and does an FTDI chip hold bytes back?"""
    if not found:
        yield Finding("ports", OK, "no serial port (a headset over LSL or Bluetooth needs none)")
    for port in found:
        yield from port_findings(port, sys_folder)
    adapters = bluetooth_adapters(sys_folder)
    yield Finding("ports", OK, f"Bluetooth: {', '.join(adapters) or 'no adapter'}")


def port_findings(port: SerialPort, sys_folder: Path = SYS) -> Iterator[Finding]:
    """What is wrong with one port, or that nothing is."""
    name = Path(port.port).name
    if not port.may_open:
        yield Finding(
            "ports", MEND, f"{port.port} ({port.what}): this user may not open it",
            f"sudo usermod -aG {port.group} {_user()}, then sign out and in again",
        )  # fmt: skip
    if port.latency_ms is not None and port.latency_ms > LATENCY_MS:
        file = sys_folder / "bus/usb-serial/devices" / name / "latency_timer"
        rule = 'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"'
        yield Finding(
            "ports", MEND, f"{port.port}: its FTDI latency timer is {port.latency_ms} ms, so samples come in bursts that late",
            f"echo 1 | sudo tee {file} (for good: a file in /etc/udev/rules.d with {rule})",
        )  # fmt: skip
    if port.may_open and (port.latency_ms is None or port.latency_ms <= LATENCY_MS):
        yield Finding("ports", OK, f"{port.port} ({port.what})")


# ---------------------------------------------------------------------- configuration


def configuration(config: Config, data: Path) -> Iterator[Finding]:
    """Each seat: its source can be reached in principle, its prescription holds."""
    yield Finding("config", OK, f"{config.path}: {len(config.seats)} seat{'s' if len(config.seats) > 1 else ''}")
    for seat in config.seats:
        look: dict[str, Callable[[Seat], Iterator[Finding]]] = {"lsl": _lsl, "brainflow": _brainflow, "playback": _playback}
        if seat.source.kind in look:
            yield from look[seat.source.kind](seat)
        yield from _prescription(seat, Layout.of(data))


def _lsl(seat: Seat) -> Iterator[Finding]:
    settings = seat.source.settings
    if settings.name is None and settings.source_id is None and settings.predicate is None:
        yield Finding(
            "config", NOTE, f"seat {seat.id}: takes whatever stream of type {settings.type} there is",
            "add name: or source_id: (eegloop devices lists the streams)",
        )  # fmt: skip
    if settings.host is None and (seat.prescription is not None or seat.trial is not None):
        yield Finding(
            "config", MEND, f"seat {seat.id}: LSL is not authenticated, and this seat takes its stream from any computer",
            f"add host: to its source, e.g. host: {socket.gethostname()} if the headset's program runs on this machine",
        )  # fmt: skip


def _brainflow(seat: Seat) -> Iterator[Finding]:
    settings = seat.source.settings
    known = {b.board: b for b in boards()}
    board = known.get(settings.board)
    if board is None:
        yield Finding("config", MEND, f"seat {seat.id}: BrainFlow knows no board {settings.board}", "eegloop devices lists all")
        return
    for key in board.required:
        if not getattr(settings, key):
            yield Finding(
                "config", MEND, f"seat {seat.id}: {board.board} needs {key}", f"add {key}: to its source ({board.needs})"
            )
    if settings.serial_port:
        try:
            yield from port_findings(describe(settings.serial_port, board.board))
        except FileNotFoundError:
            yield Finding(
                "config", MEND, f"seat {seat.id}: {settings.serial_port} is not there",
                "plug the dongle in, or correct serial_port (eegloop devices lists the ports)",
            )  # fmt: skip
    if board.needs.startswith("Bluetooth") and not bluetooth_adapters():
        yield Finding(
            "config",
            MEND,
            f"seat {seat.id}: {board.board} needs Bluetooth, and there is no adapter",
            "switch one on or plug one in",
        )


def _playback(seat: Seat) -> Iterator[Finding]:
    if not Path(seat.source.settings.file).exists():
        yield Finding("config", MEND, f"seat {seat.id}: {seat.source.settings.file} is not there", "correct file: in its source")


def _prescription(seat: Seat, layout: Layout) -> Iterator[Finding]:
    if seat.trial is not None:
        yield _allocated(seat, seat.trial, layout)
        return
    if seat.prescription is None:
        yield Finding("config", OK, f"seat {seat.id}: no prescription, so it watches and delivers nothing")
        return
    try:
        trusted = parse_trusted((layout.keys / "trusted.json").read_bytes())
        signed = verify(Path(seat.prescription).read_bytes(), trusted, time.time(), seat.person, seat.stimulator.kind)
        why, what_to_do = too_often(signed, seat.line, {choice.kind: choice.settings for choice in seat.biomarkers})
    except OSError as error:
        yield Finding(
            "config",
            MEND,
            f"seat {seat.id}: {error.filename}: {error.strerror}",
            "name the signed prescription, and --data its keys",
        )
    except PrescriptionError as error:
        yield Finding("config", MEND, f"seat {seat.id}: {seat.prescription}: {error}", "have it signed anew")
    else:
        days = (signed.valid_until_s - time.time()) / 86_400
        yield Finding(
            "config", OK, f"seat {seat.id}: prescription {signed.id} ({signed.authority}) holds for {days:.1f} days more"
        )
        if why:
            yield Finding("config", NOTE, f"seat {seat.id}: prescription {signed.id}: {why}", what_to_do)


def _allocated(seat: Seat, trial: str, layout: Layout) -> Finding:
    """Of a blinded trial: both prescriptions hold; which is used is told to nobody."""
    try:
        pair = pair_of(layout, trial, seat.person, seat.stimulator.kind, time.time())
    except (SetupError, PrescriptionError) as error:
        return Finding("config", MEND, f"seat {seat.id}: {error}", "allocate the person, or have both prescriptions signed anew")
    days = (pair.active.valid_until_s - time.time()) / 86_400
    return Finding("config", OK, f"seat {seat.id}: blinded trial {trial}; both prescriptions hold for {days:.1f} days more")
