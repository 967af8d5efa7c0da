"""The serial ports of this machine: what hangs on them, whether this user may open them, how late an FTDI chip delivers."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class SerialPort:
    """One serial port.

    Attributes
    ----------
    port, what : str
        Its path, and what the adapter calls itself.
    serial_number : str
        The adapter's, "" where it has none.
    may_open : bool
        This user may read and write it.
    group : str
        The group that may.
    latency_ms : int or None
        How long an FTDI chip holds bytes back before it delivers them (16 as the kernel sets it, 1 at best); None for others.
    """

    port: str
    what: str
    serial_number: str
    may_open: bool
    group: str
    latency_ms: int | None


def serial_ports() -> tuple[SerialPort, ...]:
    """Every serial port the system knows; the motherboard's that nothing is connected to are left out."""
    found = [p for p in list_ports.comports() if p.hwid != "n/a" or p.vid is not None]
    return tuple(describe(p.device, p.description, p.serial_number or "") for p in sorted(found, key=lambda p: str(p.device)))


def describe(port: str, what: str = "", serial_number: str = "", sys_folder: Path = SYS) -> SerialPort:
    """Look at one port; raises FileNotFoundError if there is none of this name."""
    group_id = Path(port).stat().st_gid
    try:
        group = grp.getgrgid(group_id).gr_name
    except KeyError:
        group = str(group_id)
    return SerialPort(port, what, serial_number, os.access(port, os.R_OK | os.W_OK), group, _latency_ms(port, sys_folder))


def _latency_ms(port: str, sys_folder: Path) -> int | None:
    """The FTDI driver's latency timer; only that driver has one."""
    name = Path(os.path.realpath(port)).name
    try:
        return int((sys_folder / "bus" / "usb-serial" / "devices" / name / "latency_timer").read_text())
    except (OSError, ValueError):
        return None


def bluetooth_adapters(sys_folder: Path = SYS) -> tuple[str, ...]:
    """Names of this machine's Bluetooth adapters (hci0, ...)."""
    folder = sys_folder / "class" / "bluetooth"
    return tuple(sorted(p.name for p in folder.iterdir() if p.name.startswith("hci"))) if folder.is_dir() else ()
