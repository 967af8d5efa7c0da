"""The home unit's bridge: its broker password is private, in its file and on the wire."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from drivers.stimulators.mqtt_bridge import make_client, password_of

ROOT = Path(__file__).resolve().parents[2]


def password_file(folder: Path, mode: int = 0o600) -> str:
    file = folder / "password"
    file.write_text("geheim\n")
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_password_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ValueError, match="chmod 600"):
        password_of(password_file(tmp_path, mode), "mqtts://127.0.0.1")


@pytest.mark.parametrize("host", ["broker.home", "192.168.1.5", "localhost.evil", "0.0.0.0", "[fe80::1]"])
def test_a_password_never_goes_over_the_network_unencrypted(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match=r"unencrypted.*mqtts://") as error:
        password_of(password_file(tmp_path), f"mqtt://{host}")
    assert "geheim" not in str(error.value)
    assert password_of(password_file(tmp_path), f"mqtts://{host}") == "geheim"
    assert password_of("", f"mqtt://{host}") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_on_this_machine_it_may_be_plain(tmp_path: Path, host: str) -> None:
    assert password_of(password_file(tmp_path), f"mqtt://{host}") == "geheim"


async def test_the_client_is_not_made_with_one() -> None:
    files = {"password_file": "/password", "ca_file": "", "client_cert_file": "", "client_key_file": ""}
    arguments = Namespace(broker="mqtt://broker.home", username="", unit="H1", **files)
    with pytest.raises(ValueError, match="unencrypted"):
        make_client(arguments)


def test_the_process_ends_with_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    given = ["--socket", str(tmp_path / "s"), "--unit", "H1", "--password-file", password_file(tmp_path, 0o644)]
    command = [sys.executable, "-m", "drivers.stimulators.mqtt_bridge", *given]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2 and "chmod 600" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
