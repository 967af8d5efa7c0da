"""`eegloop stop`: zero through the interlock's own stop socket, without the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

from eegloop.errors import SetupError
from eegloop.layout import Layout
from eegloop.stop import stop


def stop_seats(data: Path, seat: str | None, reason: str) -> int:
    """Stop one seat or all (all too where the seat named is none of them); prints what each device confirmed.

    Returns
    -------
    int
        0 if every seat confirmed zero, 1 otherwise.

    Raises
    ------
    SetupError
        If nothing serves this data directory.
    """
    layout = Layout.of(data)
    served = sorted(layout.run.glob("*.stop"))
    sockets = [path for path in served if seat is None or path.stem == seat]
    if served and not sockets:  # a slip of the hand must not keep a STOP from anybody
        print(f"no seat {seat!r} is served here; every seat that is gets the STOP", file=sys.stderr)
        sockets = served
    if not sockets:
        raise SetupError(
            f"no interlock serves {layout.data}; if a stimulator is on, switch it off at the device. (Another directory? --data DIR)"
        )
    confirmed = True
    for path in sockets:
        answer = stop(path, reason)
        if answer.get("confirmed"):
            print(f"{path.stem}: stopped, zero output confirmed after {answer.get('after_ms', '?')} ms")
        else:
            confirmed = False
            print(f"{path.stem}: NOT CONFIRMED - take the headset off, switch the stimulator off", file=sys.stderr)
    return 0 if confirmed else 1
