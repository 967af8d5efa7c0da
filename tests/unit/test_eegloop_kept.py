"""A small file that reaches the disk in part only is not put in the place of the whole one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eegloop.kept import replace_file


def test_a_disk_that_takes_a_part_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept.json"
    replace_file(kept, b"whole")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:3]))
    with pytest.raises(OSError, match="only part"):
        replace_file(kept, b"another")
    assert kept.read_bytes() == b"whole"
