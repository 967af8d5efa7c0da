"""`eegloop bench`: the speed table of DESIGN.md section 8, as far as it is measured here."""

from __future__ import annotations

import importlib
import json
import sys

from eegloop.errors import SetupError

COLUMNS = (("ours", 10), ("reference", 10), ("ratio", 7), ("goal", 6))


def bench_table(json_output: bool) -> int:
    """Print the table; 0 if every goal is met.

    Raises
    ------
    SetupError
        If this installation came without the benchmarks (they lie beside the packages in a checkout).
    """
    try:
        names = ("run", "biomarkers", "line", "clock", "headsets", "viewers")
        tables = [importlib.import_module(f"benchmarks.{name}") for name in names]
    except ModuleNotFoundError:
        raise SetupError("the benchmarks are part of a checkout, not of an installed package: run `make bench` there") from None
    sys.setswitchinterval(0.001)  # as the daemon has it
    rows = []
    for table in tables:
        if not json_output:
            print(f"measuring {table.__name__} ...", file=sys.stderr)
        rows += table.rows()
    if json_output:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print(f"{'':84} {'ours':>10} {'reference':>10} {'ratio':>7} {'goal':>6}")
        for row in rows:
            cells = [("-" if row[key] is None else str(row[key])).rjust(width) for key, width in COLUMNS]
            print(f"{row['name']:84} {' '.join(cells)} {'ok' if row['ok'] else 'MISSED'}")
    return 0 if all(row["ok"] for row in rows) else 1
