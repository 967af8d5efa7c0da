"""Private files are written whole or not at all, and never through a file that somebody else has laid there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from control.prescription import parse_trusted
from daemon.build import demo_key, demo_public_key
from daemon.private_file import write_private
from eegloop.layout import Layout


def test_it_never_writes_through_what_lies_where_the_draft_would_be(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "demo.key.part").symlink_to(victim)
    write_private(folder / "demo.key", b"secret")
    assert victim.read_bytes() == b"untouched"
    assert (folder / "demo.key").read_bytes() == b"secret" and not (folder / "demo.key").is_symlink()


def test_it_replaces_a_file_and_leaves_only_that_one_readable_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["trusted.json"]


def test_the_demos_own_key_is_known_by_its_file(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    layout.create()
    assert demo_public_key(layout) == ""
    demo_key(layout, 1_000.0)
    (trusted,) = parse_trusted((layout.keys / "trusted.json").read_bytes())
    assert demo_public_key(layout) == trusted.key


def test_what_cannot_be_put_in_place_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_private(tmp_path / "taken", b"secret")
    assert [found.name for found in tmp_path.iterdir()] == ["taken"]
