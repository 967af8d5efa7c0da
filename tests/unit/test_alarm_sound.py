"""The machine's own alarm: which alarms sound, how often, through what, and that a bad player costs nothing else."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon import alarm_sound
from daemon.alarm_sound import EVERY_S, QUIETER_AFTER_S, QUIETER_EVERY_S, AlarmSound

HIGH = ("stopped", "high")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Now:
    s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; what is put there is all the players there are."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.01)


def player(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def test_only_what_must_be_heard_sounds(players: Path, tmp_path: Path) -> None:
    now, terminal = Now(), Terminal()
    sound = AlarmSound(tmp_path, now, terminal)
    assert not sound.update([("stream", "technical"), ("recording", "medium")])
    assert terminal.getvalue() == ""
    for heard in (HIGH, ("fallback", "medium"), ("supervision", "medium")):
        assert sound.update([heard])
        assert not sound.update([])
    assert terminal.getvalue() == "\a\a\a"


def test_it_repeats_and_grows_rarer_but_never_ends_while_the_alarm_stands(players: Path, tmp_path: Path) -> None:
    now = Now()
    sound = AlarmSound(tmp_path, now, Terminal())
    times = []
    while now.s < 100.0 + QUIETER_AFTER_S + 3 * QUIETER_EVERY_S:
        if sound.update([HIGH]):
            times.append(now.s - 100.0)
        now.s += 0.5
    gaps = [b - a for a, b in itertools.pairwise(times)]
    early = [gap for start, gap in zip(times, gaps, strict=False) if start + gap < QUIETER_AFTER_S]
    assert times[0] == 0.0 and set(early) == {EVERY_S}
    assert gaps[-1] == QUIETER_EVERY_S


async def test_a_player_is_given_a_tone_that_is_one(players: Path, tmp_path: Path) -> None:
    player(players, "aplay", f'echo "$@" >> {tmp_path}/played')
    sound = AlarmSound(tmp_path, Now(), io.StringIO())
    assert sound.ways == ("aplay",)
    assert sound.update([HIGH])
    await until(lambda: (tmp_path / "played").exists() and (tmp_path / "played").read_text())
    assert (tmp_path / "played").read_text().split() == ["-q", str(tmp_path / "alarm.wav")]
    with wave.open(str(tmp_path / "alarm.wav")) as tone:
        seconds = tone.getnframes() / tone.getframerate()
        loudest = max(abs(int.from_bytes(pair, "little", signed=True)) for pair in _pairs(tone.readframes(tone.getnframes())))
    assert 0.4 < seconds < 1.0 and loudest > 15_000


def _pairs(data: bytes) -> list[bytes]:
    return [data[i : i + 2] for i in range(0, len(data), 2)]


async def test_a_player_that_hangs_is_ended_and_not_started_twice(
    players: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm_sound, "EVERY_S", 0.3)
    player(players, "paplay", f"echo $$ >> {tmp_path}/pids; exec {os.path.realpath('/bin/sleep')} 60")
    now = Now()
    sound = AlarmSound(tmp_path, now, io.StringIO())
    assert sound.update([HIGH])
    now.s += 1.0
    assert sound.update([HIGH])  # the first still plays: no second one
    await until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    [pid] = (tmp_path / "pids").read_text().split()
    await until(lambda: not Path(f"/proc/{pid}/exe").exists())


async def test_without_any_player_and_terminal_it_says_so(players: Path, tmp_path: Path) -> None:
    sound = AlarmSound(tmp_path, Now(), io.StringIO())
    assert sound.ways == ()
    assert sound.update([HIGH])  # nothing to hear, and nothing breaks
