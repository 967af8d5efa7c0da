"""Tokens and one-time links without a process: what opens, what does not, and for how long."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.web.access import SESSION_LIFETIME_S, Tokens, create_link, redeem_link
from eegloop.errors import SetupError
from eegloop.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.keys.mkdir(parents=True, mode=0o700)
    return layout


@pytest.mark.parametrize("kind", ["page", "demo", "stop"])
def test_a_token_is_known_again_by_another_process_with_the_same_key(layout: Layout, kind: str) -> None:
    token = Tokens(layout).mint(kind)
    session = Tokens(layout).check(token)
    assert session is not None and session.kind == kind


def test_tokens_differ_and_hold_enough_chance(layout: Layout) -> None:
    tokens = Tokens(layout)
    numbers = {tokens.mint("page").split(".")[2] for _ in range(200)}
    assert len(numbers) == 200
    assert all(len(number) == 22 for number in numbers)  # 16 bytes, 128 bit


def test_sessions_end_after_a_day_and_stop_tokens_never(layout: Layout) -> None:
    now_s = 1_000_000.0
    tokens = Tokens(layout, wall_s=lambda: now_s)
    page, stop = tokens.mint("page"), tokens.mint("stop")
    now_s += SESSION_LIFETIME_S - 1
    assert tokens.check(page) is not None
    now_s += 2
    assert tokens.check(page) is None
    now_s += 1e9
    assert tokens.check(stop) is not None


def test_no_single_changed_character_passes(layout: Layout) -> None:
    tokens = Tokens(layout)
    token = tokens.mint("page")
    for i, character in enumerate(token):
        for other in "0aA.-":
            if other != character:
                assert tokens.check(token[:i] + other + token[i + 1 :]) is None
    assert tokens.check("stop" + token[4:]) is None
    for wrong in (
        token.upper(),
        token + " ",
        " " + token,
        token.replace(".", ".."),
        "",
        "page...",
        None,
        5,
        b"x",
        "é" * 100,
        "٣" * 120,
    ):
        assert tokens.check(wrong) is None


def test_a_deleted_key_ends_every_token(layout: Layout) -> None:
    token = Tokens(layout).mint("stop")
    (layout.keys / "web.key").unlink()
    assert Tokens(layout).check(token) is None


def test_a_key_that_others_can_read_or_that_is_damaged_is_refused(layout: Layout) -> None:
    key = layout.keys / "web.key"
    Tokens(layout)
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(SetupError, match="nobody else"):
        Tokens(layout)
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(SetupError, match="damaged"):
        Tokens(layout)
    key.unlink()
    key.symlink_to("/dev/zero")
    with pytest.raises(SetupError):
        Tokens(layout)


def test_a_link_is_redeemed_once_and_only_its_hash_is_kept(layout: Layout) -> None:
    secret = create_link(layout)
    (file,) = (layout.keys / "links").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.name + file.read_text()
    assert not redeem_link(layout, secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    assert redeem_link(layout, secret)
    assert not redeem_link(layout, secret)
    assert not list((layout.keys / "links").iterdir())


@pytest.mark.parametrize(("age_s", "opens"), [(299.0, True), (301.0, False), (-5.0, False)])
def test_a_link_lives_five_minutes_of_boot_time(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, age_s: float, opens: bool
) -> None:
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    secret = create_link(layout)
    monkeypatch.setattr("daemon.web.access.time.clock_gettime_ns", lambda clock: now_ns + int(age_s * 1e9) + 10**7)
    assert redeem_link(layout, secret) is opens


def test_a_link_of_an_earlier_boot_is_over(layout: Layout) -> None:
    secret = create_link(layout)
    (file,) = (layout.keys / "links").iterdir()
    file.write_text("0e1a " + file.read_text().split()[1])
    assert not redeem_link(layout, secret)


def test_old_links_make_way_and_strange_files_do_not_matter(layout: Layout) -> None:
    secrets = [create_link(layout) for _ in range(25)]
    (layout.keys / "links" / "notes.txt").write_text("mine")
    assert redeem_link(layout, secrets[-1])
    assert not redeem_link(layout, secrets[0])
    assert (layout.keys / "links" / "notes.txt").exists()


def test_two_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    code = (
        "import sys; from pathlib import Path; from eegloop.layout import Layout; from daemon.web.access import Tokens;"
        "print(Tokens(Layout(Path(sys.argv[1]))).mint('page'))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    minted = [process.communicate()[0].strip() for process in running]
    tokens = Tokens(Layout(tmp_path))
    assert all(tokens.check(token) for token in minted)
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["web.key"]
