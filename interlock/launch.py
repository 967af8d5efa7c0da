"""Start the interlock from a checkout or an installation: `python -I -S .../interlock/launch.py [--path DIR] --data ...`.

`-I` ignores PYTHONPATH, the user's site directory and the current one; `-S` runs no .pth file. So this script, found
by its full path, is what puts our own directory (and with `--path` the one that holds pyserial) behind the standard
library on `sys.path`.
"""

from __future__ import annotations

import sys
from pathlib import Path


def start() -> int:
    """Extend the path, then run the interlock with the remaining arguments."""
    arguments = sys.argv[1:]
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    while arguments[:1] == ["--path"]:
        sys.path.append(arguments[1])
        arguments = arguments[2:]
    from interlock.__main__ import main

    return main(arguments)


if __name__ == "__main__":
    sys.exit(start())
