"""`eegloop bench`: the speed table of DESIGN.md section 8, as far as it is measured here."""

from __future__ import annotations

import importlib
import json

from eegloop.errors import SetupError


def bench_table(json_output: bool) -> int:
    """Print the table; 0 if every goal is met.

    Raises
    ------
    SetupError
        If this installation came without the benchmarks (they lie beside the packages in a checkout).
    """
    try:
        runner = importlib.import_module("benchmarks.run")
    except ModuleNotFoundError:
        raise SetupError("the benchmarks are part of a checkout, not of an installed package: run `make bench` there") from None
    rows = runner.rows()
    if json_output:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print(f"{'':78} {'ours':>10} {'reference':>10} {'ratio':>7} {'goal':>6}")
        for row in rows:
            print(f"{row['name']:78} {row['ours']:>10} {row['reference']:>10} {row['ratio']:>7} {row['goal']:>6} {'ok' if row['ok'] else 'MISSED'}")
    return 0 if all(row["ok"] for row in rows) else 1
