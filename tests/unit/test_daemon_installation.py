"""A distribution that owns one of our folder names stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.installation import TOP_LEVEL_NAMES, check_names, installed_claims
from eegloop.errors import SetupError


def test_this_installation_is_alone() -> None:
    check_names()


@pytest.mark.parametrize("name", TOP_LEVEL_NAMES)
def test_a_claim_on_any_of_our_names_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match=rf"python-rival.*{name}/"):
        check_names({name: ["eegloop", "python-rival"]})


def test_our_own_claim_is_fine() -> None:
    check_names({name: ["eegloop"] for name in TOP_LEVEL_NAMES})


@pytest.mark.parametrize(("file", "text"), [("RECORD", "control/__init__.py,sha256=x,1\n"), ("RECORD", "a.py,,\ncontrol/x.py,,\n"),
                                            ("RECORD", "control.py,sha256=x,1\n"), ("top_level.txt", "a\ncontrol\n")])  # fmt: skip
def test_an_installed_rival_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str) -> None:
    info = tmp_path / "python_rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: python-rival\nVersion: 1.0\n")
    (info / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_claims()["control"] == ["python-rival"]
    with pytest.raises(SetupError, match=r"python-rival.*control/"):
        check_names()


def test_a_name_inside_another_folder_is_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "innocent-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: innocent\nVersion: 1.0\n")
    (info / "RECORD").write_text("innocent/control/x.py,,\nmycontrol/y.py,,\ncontroller.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "innocent" not in installed_claims().get("control", [])
