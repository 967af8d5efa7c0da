"""Serves the virtual brain as a headset over LSL: `python -m simulators.board --seat seat1 --data ./data`.

Everything heavy is imported inside `main`, after the signals are taken over: Ctrl-C at any moment ends without a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from pathlib import Path

EXAMPLE = """examples:
  python -m simulators.board --seat seat1 --data ./data
  python -m simulators.board --seat seat1 --data ./data --patient inverted --fault loss:share=0.3 --fault freeze:at_s=20,for_s=10
  echo nan:channel=F3,for_s=5 | python -m simulators.board --seat seat1 --data ./data --listen
  python -m simulators.board --seat seat1 --data ./data --set individual_alpha_hz=9.2 --set eyes=closed
"""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="simulators.board",
        description="A virtual brain under a virtual headset, as a real LSL stream. Research use only.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seat", required=True, help="seat whose stimulator acts on this brain")
    parser.add_argument("--data", required=True, type=Path, help="data directory of the service")
    parser.add_argument("--name", help="LSL stream name (default: eegloop-board-SEAT)")
    parser.add_argument("--source-id", help="LSL source id (default: made from seat and data directory)")
    parser.add_argument("--channels", help="electrodes, separated by commas or spaces (default: Fp1 Fp2 F3 F4 P3 P4 O1 O2)")
    parser.add_argument("--rate", type=float, help="sample rate in Hz (default: 250)")
    parser.add_argument("--seed", type=int, help="same seed, same samples (default: 1)")
    parser.add_argument("--patient", default="responder", help="named virtual patient (default: responder)")
    parser.add_argument("--eyes", choices=("open", "closed", "alternating"), help="default: the patient's")
    parser.add_argument("--anode", help="electrode where positive current enters (default: F3)")
    parser.add_argument("--cathode", help="electrode where it leaves (default: F4)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of simulators/settings.py; may be repeated"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:KEY=VALUE,...]", help="a fault of simulators/faults.py"
    )
    parser.add_argument(
        "--listen",
        action="store_true",
        help="each line on standard input names the faults from then on (separated by spaces; empty = none)",
    )
    parser.add_argument("--truth", type=Path, metavar="FILE.npz", help="write hidden states of the last 10 minutes there on exit")
    return parser.parse_args(argv)


def _changes(arguments: argparse.Namespace) -> dict[str, object]:
    """Settings named on the command line, by `BrainSettings` field."""
    named = {
        "montage": tuple(arguments.channels.replace(",", " ").split()) if arguments.channels else None,
        "sample_rate_hz": arguments.rate,
        "seed": arguments.seed,
        "eyes": arguments.eyes,
        "anode": arguments.anode,
        "cathode": arguments.cathode,
    }
    changes: dict[str, object] = {key: value for key, value in named.items() if value is not None}
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r}: must be KEY=VALUE")
        try:
            changes[key] = json.loads(value)
        except json.JSONDecodeError:
            changes[key] = value
    return changes


class Lines:
    """Whole lines from standard input, without waiting for them."""

    def __init__(self) -> None:
        os.set_blocking(0, False)
        self._part = b""

    def take(self) -> list[str]:
        try:
            self._part += os.read(0, 65_536)
        except BlockingIOError:
            return []
        *lines, self._part = self._part.split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT, SIGHUP or the end of the parent process; exit code 0, or 2 with one line of what is wrong."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: told.append(received))
    started_by = os.getppid()
    arguments = _arguments(argv)

    from pydantic import ValidationError

    from eegloop.errors import EegloopError
    from eegloop.layout import Layout
    from simulators.brain import Brain
    from simulators.faults import Faults, parse
    from simulators.headset import Field, Headset
    from simulators.patients import find_patient

    heard = Lines() if arguments.listen else None

    def ended() -> bool:
        for line in heard.take() if heard is not None else ():
            try:
                headset.switch_faults(line.split())
                print(f"faults: {line or 'none'}", flush=True)
            except ValueError as error:
                print(f"simulators.board: {error}", file=sys.stderr, flush=True)
        return bool(told) or os.getppid() != started_by

    try:
        if not re.fullmatch(r"[a-z0-9_-]{1,32}", arguments.seat):
            raise ValueError(f"--seat {arguments.seat!r}: must be 1-32 of a-z, 0-9, - and _")
        patient = find_patient(arguments.patient)
        settings = patient.settings(**_changes(arguments))
        faults = Faults([parse(text) for text in (*patient.faults, *arguments.fault)], settings.montage)
        layout = Layout(arguments.data)
        layout.create()
        field = Field(layout.field_socket(arguments.seat))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        print(f"simulators.board: {where}: {first['msg']} (found {first['input']!r})", file=sys.stderr)
        return 2
    except (ValueError, OSError, EegloopError) as error:
        print(f"simulators.board: {error}", file=sys.stderr)
        return 2
    name = arguments.name or f"eegloop-board-{arguments.seat}"
    try:
        headset = Headset(
            Brain(settings),
            name=name,
            source_id=arguments.source_id or f"eegloop-{layout.run.name}-{arguments.seat}",
            faults=faults,
            field=field,
            truth=arguments.truth,
        )
        print(f"LSL stream {name} ready", flush=True)
        headset.run(ended)
    finally:
        field.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # all is written and closed; joining liblsl's threads and taking the interpreter apart would only make the end late
    os._exit(code)
