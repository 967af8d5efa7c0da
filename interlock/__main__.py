"""The interlock's process: one seat, one stimulator, one judge. Arguments, lock, sockets, start and end.

`python -I -m interlock --data DIR --seat ID --patient CODE --prescription FILE` (from a checkout: interlock/launch.py).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from eegloop.kept import state_folder
from eegloop.layout import Layout
from eegloop.real_time import share_is_bounded
from eegloop.single import only_one
from eegloop.stim import InterlockMode, Prescription, PrescriptionError
from interlock.anchor import Anchor
from interlock.effects import SIMULATED, Refusal
from interlock.judge import Judge
from interlock.ledger import Book, load
from interlock.limits import KINDS, rules
from interlock.log import LogWriter
from interlock.loop import Loop, boot_ns
from interlock.signed import read_prescription, read_start_code
from interlock.vouched import Vouched

TAKE_OVER_S = 3.0
LOG_OPENS_S = 1.0
SWITCH_S = 0.0005
HELD = 3
MISSING = "the dose ledger is missing"
CHANGED = Refusal("prescription", "another", "the one at the start", "interlock", "it has changed; start the interlock again")
ARMED = b'"event":"armed"'
SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM, or until 10 s have passed stopped, at zero and without a daemon.

    Exit codes: 0 done, 2 wrong arguments, 3 the seat's interlock already runs, 70 internal error.
    """
    arguments = _arguments(argv)
    try:
        os.setsid()
    except PermissionError:
        pass  # already the leader of a session or group of its own
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    layout = Layout(arguments.data)
    layout.create()
    folder = layout.seat(arguments.seat)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = only_one(folder / "interlock.lock", TAKE_OVER_S if arguments.take_over else 0.0)
    if lock < 0:
        print(f"interlock: seat {arguments.seat} already has one; end it first", file=sys.stderr)
        return HELD
    module = importlib.import_module(f"drivers.stimulators.{arguments.stimulator}")
    driver = module.build(module.Settings(**arguments.settings), str(layout.stimulator_socket(arguments.seat)))
    state = arguments.state or state_folder("ledgers")
    prescription, unsigned = _prescription(arguments, layout, state)
    limits = rules(prescription, unsigned, driver.limits)
    book = _book(folder, arguments.clock_vouched)
    anchor = _anchor(prescription, folder / "ledger.log", limits.course, book, state)
    judge = Judge(limits, arguments.stimulator, driver.readback, book, boot_ns())
    judge.wire_ns = round(getattr(driver, "wire_s", 0.0) * 1e9)
    if limits.pulses is not None and hasattr(driver, "prescribe"):
        driver.prescribe(limits.pulses, judge.write_at_ns)  # a pulse has the power that was set before it, and the wire to itself
    go_first()
    log = LogWriter(folder / "interlock.log")
    ledger = LogWriter(folder / "ledger.log", anchor.move if anchor is not None else None)
    started: dict[str, Any] = {"pid": os.getpid(), "prescription": prescription.id if prescription else None}
    if (refusal := judge.rules.refusal) is not None:
        judge.reason = f"{refusal.field}: {refusal.reason}"
        started["refused"] = judge.reason
    log.put("started", started, boot_ns(), time.time())

    def rules_for(own: Any) -> Any:
        """The rules by the files as they are now: at an arm a key may have been revoked, or the prescription replaced."""
        found, refused = _prescription(arguments, layout, state)
        if found is not None and found != prescription:
            found, refused = None, CHANGED
        return rules(found, refused, own)

    def start_code() -> Any:
        try:
            return read_start_code(
                folder / "start.code", layout.keys, arguments.patient, limits.course, arguments.stimulator, time.time(), state
            )
        except PrescriptionError as error:
            return str(error)

    def look() -> Refusal | None:
        """What an arm would be told now, if there is anything that could be withdrawn."""
        return rules_for(driver.limits).refusal if judge.mode != InterlockMode.STOPPED else None

    sockets = layout.control_socket(arguments.seat), layout.stop_socket(arguments.seat)
    loop = Loop(judge, driver, log, ledger, *sockets, rules_for, start_code, Vouched(look).objection)
    loop.open(LOG_OPENS_S)
    gc.freeze()  # what the start made is never looked through again
    print(json.dumps({"type": "ready", "pid": os.getpid(), "refused": started.get("refused", "")}), flush=True)
    try:
        return loop.run()
    finally:
        os.ftruncate(lock, 0)
        os.close(lock)


def go_first() -> None:
    """Real-time priority where the user may have it, so that no other program keeps a STOP or a pulse waiting.

    The threads that write to the disk are begun after this and have it too: one of them put off while it holds the interpreter
    would keep the loop waiting. All of them sleep between events. Only where the kernel leaves others a share whatever happens:
    elsewhere a fault in here would shut the daemon, the page and every other STOP out of the processor. A start goes on without.
    """
    sys.setswitchinterval(SWITCH_S)
    if share_is_bounded():
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="interlock", description="Judges every command to one stimulator.")
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--seat", required=True, help="a-z, 0-9, - and _; 1-32 characters")
    parser.add_argument("--patient", required=True, help="code of the person on this seat")
    parser.add_argument("--prescription", type=Path, required=True, help="the signed prescription")
    parser.add_argument("--stimulator", choices=KINDS, default="simulated", help="which driver")
    parser.add_argument("--settings", type=json.loads, default={}, help="the driver's settings as JSON")
    parser.add_argument(
        "--state", type=Path, help="for tests: where the ledger's anchor and the keys' number are; the service never says it"
    )
    parser.add_argument(
        "--clock-vouched",
        action="store_true",
        help="the kernel has the wall clock as synchronized; counts beside timesyncd's mark",
    )
    parser.add_argument("--take-over", action="store_true", help="end an orphaned interlock of this seat first")
    arguments = parser.parse_args(argv)
    if not re.fullmatch(r"[a-z0-9_-]{1,32}", arguments.seat):
        parser.error(f"--seat {arguments.seat!r}: must be 1-32 of a-z, 0-9, - and _")
    return arguments


def _prescription(arguments: argparse.Namespace, layout: Layout, state: Path) -> tuple[Prescription | None, Refusal | None]:
    try:
        found = read_prescription(
            arguments.prescription, layout.keys, arguments.patient, arguments.stimulator, time.time(), state
        )
    except PrescriptionError as error:
        field, _, reason = str(error).partition(": ")
        return None, Refusal(field, error.value, error.limit, error.set_by, reason)
    return found, None


def _book(folder: Path, kernel_vouches: bool) -> Book:
    """The dose ledger.

    The wall clock counts as synchronized if timesyncd's mark is there and the kernel says so too: the mark stays when synchronization is
    switched off and the clock is set by hand, the kernel takes its word back then. A seat that has armed before and has no line in its ledger lost it: nothing may be given, however often it starts."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    book = load(folder / "ledger.log", boot_id, synchronized=kernel_vouches and SYNCHRONIZED.exists())
    if not book.digests and _armed_before(folder / "interlock.log"):
        book.fault = book.fault or MISSING
    return book


def _armed_before(log: Path) -> bool:
    try:
        return log.is_file() and ARMED in log.read_bytes()
    except OSError:
        return True  # cannot be ruled out


def _anchor(prescription: Prescription | None, ledger: Path, course: str, book: Book, state: Path) -> Anchor | None:
    """What ties the ledger to this person on this machine; none for the simulated stimulator, nor for a ledger that may not go on."""
    if prescription is None or prescription.device == SIMULATED:
        return None
    try:
        anchor = Anchor(state, prescription.patient, ledger, course)
    except (OSError, ValueError) as error:
        book.fault = book.fault or f"no anchor: {error}"
        return None
    # A ledger that is gone may be begun anew, but only under a prescription that was signed after it was.
    objection = anchor.objection(book.digests, book.given(course)[0] > 0, prescription.valid_from_s)
    if objection or book.fault not in ("", MISSING) or (book.fault and not anchor.known):
        book.fault = book.fault or objection
        anchor.close()
        return None
    book.fault = ""
    book.lost = anchor.begin(book.digests)
    return anchor


if __name__ == "__main__":
    sys.exit(main())
