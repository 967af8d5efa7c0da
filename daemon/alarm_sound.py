"""The machine itself sounds the alarm (S13): a tone through whatever player there is, and the terminal's bell.

A page may be closed, asleep or mute; the machine beside the person still makes itself heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import struct
import sys
import wave
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TextIO

PLAYERS = (("pw-play",), ("paplay",), ("aplay", "-q"), ("afplay",))
AUDIBLE = frozenset({"fallback", "supervision"})  # beside every alarm of priority "high"
EVERY_S = 3.0
QUIETER_AFTER_S, QUIETER_EVERY_S = 120.0, 30.0  # an alarm that nobody clears must not be switched off for its noise
FLICKER_S = 60.0  # gone for less than this, it is the same alarm
RATE_HZ = 8_000
TONES_HZ = (880.0, 660.0, 880.0)
TONE_S, PAUSE_S = 0.15, 0.05


def write_tone(path: Path) -> None:
    """Three short tones as a mono 16-bit WAV file."""
    samples: list[int] = []
    for tone_hz in TONES_HZ:
        n = round(TONE_S * RATE_HZ)
        for i in range(n):
            fade = min(1.0, i / 80, (n - i) / 80)  # without clicks
            samples.append(round(20_000 * fade * math.sin(2 * math.pi * tone_hz * i / RATE_HZ)))
        samples += [0] * round(PAUSE_S * RATE_HZ)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def find_player() -> tuple[str, ...] | None:
    """The first sound player of this machine, with its arguments; None if there is none."""
    return next(((found, *rest) for name, *rest in PLAYERS if (found := shutil.which(name))), None)


class AlarmSound:
    """Sounds while an audible alarm stands; `update` is called a few times a second and never waits."""

    def __init__(self, folder: Path, now_s: Callable[[], float], terminal: TextIO = sys.stderr) -> None:
        self._file = folder / "alarm.wav"
        self._now_s = now_s
        self._terminal = terminal
        self._player = find_player()
        self._since_s: float | None = None
        self._heard_s: dict[str, float] = {}  # when each audible alarm last stood
        self._sounded_s = -math.inf
        self._playing: asyncio.Task[None] | None = None
        if self._player is not None:
            write_tone(self._file)

    @property
    def ways(self) -> tuple[str, ...]:
        """How this machine can make itself heard: a player's name, "terminal bell"; empty = it cannot."""
        ways = (Path(self._player[0]).name,) if self._player is not None else ()
        return (*ways, "terminal bell") if self._terminal.isatty() else ways

    def update(self, alarms: Collection[tuple[str, str]]) -> bool:
        """Every alarm that stands now as (id, priority); True if it sounds now."""
        now_s = self._now_s()
        audible = [name for name, priority in alarms if priority == "high" or name in AUDIBLE]
        self._heard_s = {name: at_s for name, at_s in self._heard_s.items() if now_s - at_s <= FLICKER_S}
        new = any(name not in self._heard_s for name in audible)
        self._heard_s |= dict.fromkeys(audible, now_s)
        if not audible:
            return False
        if new or self._since_s is None:  # what flickers is no new alarm: it does not begin anew each time
            self._since_s, self._sounded_s = now_s, -math.inf
        every_s = EVERY_S if now_s - self._since_s < QUIETER_AFTER_S else QUIETER_EVERY_S
        if now_s - self._sounded_s < every_s:
            return False
        self._sounded_s = now_s
        if self._terminal.isatty():
            with contextlib.suppress(OSError):
                self._terminal.write("\a")
                self._terminal.flush()
        if self._player is not None and (self._playing is None or self._playing.done()):
            self._playing = asyncio.create_task(_play((*self._player, str(self._file))), name="alarm sound")
        return True


async def _play(command: tuple[str, ...]) -> None:
    """One tone; a player that hangs or fails costs its sound and nothing else."""
    try:
        player = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(player.wait(), EVERY_S)
    finally:
        if player.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                player.kill()
