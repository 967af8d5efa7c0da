"""The interlock's two files that are started as programs, each by its own path."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "interlock"


@pytest.mark.parametrize("file", ["__main__.py", "launch.py"])
def test_without_arguments_it_says_what_it_needs(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [file])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / file), run_name="__main__")
    assert ended.value.code == 2 and "--prescription" in capsys.readouterr().err
