"""Makes the compiled copy that `eegloop study` runs in: `make study-compiled`. Needs a C compiler; how and why is said in docs/study.md.

A copy of every package is made, as it is, in a folder of its own; beside the files named in `daemon.study.compiled.MODULES` lies what
mypyc and the C compiler made of them (benchmarks/written_out.py), and Python takes that first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from benchmarks.written_out import REPLACED, REPLACED_MODULE, written_out
from daemon.study.compiled import FOLDER, MADE, MODULES, ROOT, START, TREE, fingerprint, sources

WRITTEN = "written"
_MYPY = """[mypy]
explicit_package_bases = True
follow_imports = silent
ignore_missing_imports = True
plugins = pydantic.mypy
[mypy-scipy.*,mne.*,brainflow.*,serial.*]
follow_imports = skip
"""
_START = '''"""Runs eegloop's commands in this folder's copy of the sources."""

import runpy

runpy.run_module("daemon", run_name="__main__", alter_sys=True)
'''


def compiler() -> str:
    """The C compiler that would be used, "" if there is none."""
    return shutil.which(os.environ.get("CC", "cc").split()[0]) or ""


def write(folder: Path) -> list[str]:
    """Write both copies into `folder`, in place of what is there; the files to compile, relative to the one that is written out."""
    shutil.rmtree(folder, ignore_errors=True)
    written, tree = folder / WRITTEN, folder / TREE
    for path in sources():
        for base in (written, tree):
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, base / path)
    files = [name.replace(".", "/") + ".py" for name in MODULES]
    for file in files:
        (written / file).write_text(written_out((ROOT / file).read_text(encoding="utf-8")), encoding="utf-8")
    files.append(REPLACED_MODULE.replace(".", "/") + ".py")
    (written / files[-1]).write_text(REPLACED, encoding="utf-8")
    (written / "mypy.ini").write_text(_MYPY, encoding="utf-8")
    (tree / START).write_text(_START, encoding="utf-8")
    return files


def make(folder: Path, opt_level: str) -> None:
    """Make the copy in `folder`: it fits once all of it is there."""
    of = fingerprint()
    files = write(folder)
    os.chdir(folder / WRITTEN)
    from mypyc.build import mypycify
    from setuptools import setup

    options = ["--config-file", "mypy.ini", "--cache-dir", str(folder / "mypy")]
    extensions = mypycify([*options, *files], opt_level=opt_level, debug_level="0", target_dir="c", group_name="study")
    for extension in extensions:
        extension.extra_compile_args.append("-ffp-contract=off")  # a product and a sum are rounded one by one, as Python does
    setup(
        name="study",
        ext_modules=extensions,
        script_args=["-q", "build_ext", "--build-lib", str(folder / TREE), "--build-temp", "o"],
    )
    (folder / MADE).write_text(json.dumps({"of": of}), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=FOLDER)
    parser.add_argument("--opt-level", default="2", help="Of the C compiler.")
    options = parser.parse_args()
    if not compiler():
        print(
            "study-compiled: there is no C compiler (cc); `eegloop study` works without, only slower. On Debian: apt install gcc"
        )
        return 1
    begun = time.monotonic()
    make(options.into.resolve(), options.opt_level)
    print(f"Made in {time.monotonic() - begun:.0f} s: {options.into}. `eegloop study` uses it until a source file changes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
