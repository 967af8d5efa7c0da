"""How a driver hears a line of frames: cut by its parser, and silent for a while whenever something did not fit. Not a plug-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from drivers.stimulators.serial_line import Line

Frame = TypeVar("Frame")


class FrameParser(Protocol[Frame]):
    """Cuts a stream into frames; `broken` counts what was none."""

    broken: int

    def feed(self, data: bytes) -> list[Frame]: ...
    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Heard(Generic[Frame]):
    """What one look at the line brought: the line is gone, is being left in quiet, that quiet is just over, or frames."""

    gone: bool = False
    quiet: bool = False
    again: bool = False
    broken: bool = False
    frames: list[Frame] = field(default_factory=list)


class FramedLine(Generic[Frame]):
    """One line and its parser.

    Parameters
    ----------
    quiet_ns : int
        How long nothing may arrive after a doubt before the device is asked anew.
    """

    def __init__(self, line: Line, parser: FrameParser[Frame], quiet_ns: int, clock: Callable[[], int]) -> None:
        self._line, self._parser, self._quiet_ns, self._clock = line, parser, quiet_ns, clock
        self._quiet_until_ns = 0

    @property
    def quiet(self) -> bool:
        """True while what arrives is thrown away and no answer is awaited."""
        return self._quiet_until_ns != 0

    def hush(self) -> None:
        """Something did not fit: throw away what arrives until it is quiet."""
        self._parser.clear()
        self._quiet_until_ns = self._clock() + self._quiet_ns

    def clear(self) -> None:
        """A new connection."""
        self._parser.clear()
        self._quiet_until_ns = 0

    def hear(self) -> Heard[Frame]:
        """Never waits."""
        now_ns = self._clock()
        data = self._line.read()
        if data is None:
            return Heard(gone=True)
        if self._quiet_until_ns:
            if data:
                self._quiet_until_ns = now_ns + self._quiet_ns
            elif now_ns >= self._quiet_until_ns:
                self.clear()
                return Heard(quiet=True, again=True)
            return Heard(quiet=True)
        broken = self._parser.broken
        frames = self._parser.feed(data)
        return Heard(broken=self._parser.broken != broken, frames=frames)
