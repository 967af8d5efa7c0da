"""Commands given nonsense: one plain line that names what is wrong, a code that is not 0, and nothing else."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon import __main__ as command_line
from daemon import check_command, stop_command
from eegloop.config import load
from eegloop.errors import ConfigError
from eegloop.layout import Layout

ROOT = Path(__file__).resolve().parents[2]


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """What the command says on standard error; it must end with code 1 and one line."""
    monkeypatch.setattr("sys.argv", ["eegloop", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith("eegloop: "), line
    return line


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "binary"
    path.write_bytes(bytes(range(128, 256)) * 4)
    return path


def test_files_that_are_no_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    deep, long = tmp_path / "deep.json", tmp_path / "long.json"
    deep.write_text("[" * 200_000)
    long.write_text('{"name": ' + "1" * 6000 + "}")
    words = tmp_path / "words"
    words.write_text("long enough for a test\n")
    for path in (deep, long):
        line = said(
            capsys, monkeypatch, "keys", "certify", path, "--site", tmp_path / "site.pem", "--out", tmp_path / "o.json",
            "--passphrase-file", words,
        )  # fmt: skip
        assert path.name in line and "JSON" in line


def test_paths_that_cannot_be(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, binary: Path) -> None:
    for arguments in (
        ("keys", "pair", "ab" * 32, "--data", binary),
        ("study", "quick", "--out", binary, "--no-sample", "--interpreted"),
    ):
        assert str(binary) in said(capsys, monkeypatch, *arguments)


def test_a_record_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in said(capsys, monkeypatch, "verify", tmp_path / "nothing")


def test_check_names_a_file_in_the_folders_place(binary: Path) -> None:
    answer = CliRunner().invoke(command_line.app, ["check", "--data", str(binary)])
    assert answer.exit_code == 1 and "is a file" in answer.stdout


def test_a_seat_that_is_none_stops_them_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "data")
    layout.create()
    asked: list[str] = []

    def stopped(path: Path, reason: str) -> dict[str, object]:
        asked.append(path.stem)
        return {"confirmed": True, "after_ms": 1}

    monkeypatch.setattr(stop_command, "stop", stopped)
    with socket.socket(socket.AF_UNIX) as a, socket.socket(socket.AF_UNIX) as b:
        for name, one in (("one", a), ("two", b)):
            one.bind(str(layout.stop_socket(name)))
        assert stop_command.stop_seats(layout.data, "../../one", "test") == 0
        assert sorted(asked) == ["one", "two"] and "no seat '../../one'" in capsys.readouterr().err
        asked.clear()
        assert stop_command.stop_seats(layout.data, "two", "test") == 0
        assert asked == ["two"]


def test_a_label_may_not_turn_or_hide_what_stands_beside_it(tmp_path: Path) -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    for label in ('"V\\u202eperson"', '"V\\u0000"', '"a\\nb"'):
        path = tmp_path / "config.yaml"
        path.write_text(text.replace("label: Virtual person", f"label: {label} "), encoding="utf-8")
        with pytest.raises(ConfigError, match="printable"):
            load(path)


def test_what_cannot_be_read_is_said_without_pythons_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, binary: Path
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, why in ((tmp_path, "is a directory"), (binary, "not a text file"), (loop, "too many levels of symbolic links")):
        for arguments in (("contact", "--config", path), ("sign", path)):
            line = said(capsys, monkeypatch, *arguments)
            assert f"{path}: cannot be read ({why}); name another file" in line
    assert str(loop) in said(capsys, monkeypatch, "keys", "pair", "ab" * 32, "--data", loop)


def test_a_full_disk_names_the_file_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("daemon.build.os.fsync", full)
    line = said(capsys, monkeypatch, "keys", "pair", "ab" * 32, "--data", tmp_path / "data")
    assert str(tmp_path / "data" / "keys" / "site.json") in line and "free some space there" in line
    assert list((tmp_path / "data" / "keys").iterdir()) == [], "no half of it is left"


def test_what_is_no_trail_is_not_called_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, binary: Path
) -> None:
    assert "neither an audit trail" in said(capsys, monkeypatch, "verify", binary)
    assert "no such file" in said(capsys, monkeypatch, "report", tmp_path / "nothing")
    assert "no recordings here" in said(capsys, monkeypatch, "report", tmp_path)
    assert "must be seen or release" in said(
        capsys, monkeypatch, "note", "bogus", "--patient", "p1", "--form", "phq9", "--key", binary, "--out", binary
    )


def test_a_clock_before_eegloop_was_written_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def named() -> bool:
        return any("before eegloop was written" in finding.text for finding in check_command.clocks())

    assert not named()
    monkeypatch.setattr("daemon.check_command.time.time", lambda: 1000.0)
    assert named()


def test_emulators_are_listed() -> None:
    answer = CliRunner().invoke(command_line.app, ["simulate", "stimulator", "--help"])
    assert answer.exit_code == 0 and "magstim" in answer.stdout and "wire" not in answer.stdout
