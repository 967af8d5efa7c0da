"""The daemon's end of an interlock in a blinded session: what the program decides goes out as far as the person's arm has it, and what the
session hears says no more than both arms may (`control/would_be.py`). The same object in both arms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from control.would_be import END, FALLBACK, TOO_LATE, WouldBe, go_down, halt, hear, take_level
from daemon.interlock_link import InterlockLink
from eegloop.ports import Clock


class BlindedLink(InterlockLink):
    """An `InterlockLink` whose `state` and `take` are what both arms may be told.

    STOP, fallback and end go out at once in both arms. A sham arm's interlock has nothing to ramp and is stopped at once; the session hears
    of the program's way down until that is at zero.

    Parameters
    ----------
    lowered : callable
        Told each time the program's ceiling of the course has fallen, mA.
    """

    def __init__(self, path: Path, clock: Clock, would: WouldBe, lowered: Callable[[float], None]) -> None:
        super().__init__(path, clock)
        self._would = would
        self._lowered = lowered

    @property
    def sequence(self) -> int:
        """0: the arms count differently on the way down."""
        return 0

    def take_refusals(self) -> tuple[dict[str, Any], ...]:
        """Without those of commands that crossed a stop on the way: the interlock's own log has them."""
        return tuple(refusal for refusal in super().take_refusals() if refusal["reason"] != TOO_LATE)

    def arm(self, session: str, halts: int) -> bool:
        """The interlock is told of its own STOPs and trips only."""
        return super().arm(session, halts - self._would.faults)

    def set(self, tick: int, tick_ns: int, block: str, amplitude_ma: float, frequency_hz: float) -> bool:
        given_ma = amplitude_ma if self._would.delivers else 0.0
        if not super().set(tick, tick_ns, block, given_ma, frequency_hz):
            return False
        before_ma = self._would.ceiling_ma
        self._would = take_level(self._would, block, amplitude_ma, self._clock.boot_ns())
        if self._would.ceiling_ma < before_ma:
            self._lowered(self._would.ceiling_ma)
        return True

    def fallback(self, reason: str) -> bool:
        self._would = go_down(self._would, FALLBACK, self._clock.boot_ns())
        return self._last(super().fallback(reason))

    def end(self) -> bool:
        self._would = go_down(self._would, END, self._clock.boot_ns())
        return self._last(super().end())

    def stop(self, reason: str) -> bool:
        self._would = halt(self._would)
        return super().stop(reason)

    def _last(self, sent: bool) -> bool:
        """A sham arm's interlock, which has nothing to ramp, is stopped by this, and would refuse a heartbeat that follows before it has said so."""
        if sent and not self._would.delivers:
            self._nonce = ""
        return sent

    def _accept(self, packet: dict[str, Any]) -> None:
        super()._accept(packet)
        if packet.get("type") == "state" and self.state is not None:
            self._would, told = hear(self._would, self.state)
            self.state = self._fresh[-1] = told
