"""The interlock's command line, for whoever starts it; imports nothing of the interlock."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path


def interlock_argv(
    data: Path,
    seat: str,
    patient: str,
    prescription: Path,
    stimulator: str = "simulated",
    settings: Mapping[str, object] | None = None,
    take_over: bool = False,
    state: Path | None = None,
    clock_vouched: bool = False,
) -> list[str]:
    """What to execute, best in a session of its own (`start_new_session=True`).

    Parameters
    ----------
    patient : str
        The seat's person code; a prescription for anybody else is refused.
    prescription : Path
        The signed file (`eegloop-signed-1`).
    stimulator : str
        Module of `drivers/stimulators`.
    settings : mapping, optional
        That driver's settings, JSON-ready.
    take_over : bool
        The caller holds the data directory's lock, so an interlock that still runs on this seat is an orphan:
        it is sent SIGTERM (= STOP and leave) and waited for, at most 3 s.
    state : Path, optional
        For tests only, no configuration reaches it: where the dose ledger's anchor is, instead of in the user's home.
    clock_vouched : bool
        The kernel has the wall clock as synchronized. The interlock believes it only where it finds the same itself; false takes that away.
    """
    root = Path(__file__).resolve().parents[1]
    argv = [sys.executable, "-I", "-S", str(root / "interlock" / "launch.py")]
    serial = importlib.util.find_spec("serial")
    if serial is not None and serial.origin is not None:
        argv += ["--path", str(Path(serial.origin).parents[1])]
    argv += ["--data", str(data), "--seat", seat, "--patient", patient, "--prescription", str(prescription)]
    argv += ["--stimulator", stimulator, "--settings", json.dumps(dict(settings or {}))]
    argv += ["--state", str(state)] if state is not None else []
    argv += ["--clock-vouched"] if clock_vouched else []
    return [*argv, "--take-over"] if take_over else argv
