"""How a Magstim is talked to: commands in order, each answer for the one it belongs to, silence after a doubt. Not a plug-in.

The protocol numbers nothing, so an answer can be taken for another's. Whenever one is missing, early, broken or not the one awaited, the
driver says "disarm", then nothing for longer than the device's keep-alive, and throws away what arrives meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from drivers.stimulators.magstim_frames import OutOfStep, Reply, frame, read_reply
from drivers.stimulators.serial_line import TimedLine

MS = 1_000_000
ANSWER_NS = 300 * MS
SILENCE_NS = 1_300 * MS
QUESTION_BYTES = 3 + 24  # the longest, a Rapid's settings, with its answer


class Talk:
    """Commands under way on one line.

    Attributes
    ----------
    todo : deque of bytes
        Commands that wait for their turn.
    asked_ns : int
        When the last command was sent.
    version : int
        Software of the device; how long some answers are depends on it.
    """

    def __init__(self, line: TimedLine, version: int, clock: Callable[[], int]) -> None:
        self.todo: deque[bytes] = deque()
        self.asked_ns = 0
        self.version = version
        self._line, self._clock = line, clock
        self._buffer = bytearray()
        self._pending: deque[tuple[bytes, int]] = deque()
        self._silent_until_ns = 0

    @property
    def silent(self) -> bool:
        return self._clock() < self._silent_until_ns

    @property
    def free(self) -> bool:
        """Whether a question may go out: none is under way, and its answer is over before the next shot is to be written."""
        return not self._pending and not self.silent and self._line.fileno() >= 0 and self._line.clear_for(QUESTION_BYTES)

    def forget(self) -> None:
        """A new connection, or none."""
        self._buffer.clear()
        self._pending.clear()
        self.todo.clear()
        self._silent_until_ns = 0

    def send(self, command: bytes, awaited: bool = True) -> None:
        now_ns = self._clock()
        if not self._line.write(command):
            return  # gone or blocked: poll finds out; a device that hears nothing disarms by itself
        if awaited:
            self._pending.append((command, now_ns))
        self.asked_ns = now_ns

    def still_silent(self, data: bytes) -> bool:
        """While it is silent what arrives is thrown away, and is not taken for silence."""
        now_ns = self._clock()
        if self.silent and data:
            self._silent_until_ns = max(self._silent_until_ns, now_ns + ANSWER_NS)
        return self.silent

    def wakes(self) -> bool:
        """True once, when a silence is over."""
        woken, self._silent_until_ns = self._silent_until_ns != 0, 0
        return woken

    def answers(self, data: bytes) -> Iterator[tuple[Reply, bytes, int]]:
        """What has arrived: the answer, its command, and when that was sent, ns. Raises OutOfStep."""
        self._buffer += data
        while self._buffer:
            if not self._pending:
                raise OutOfStep("nobody asked")
            command, sent_ns = self._pending[0]
            reply = read_reply(bytes(self._buffer), command, self.version)
            if reply is None:
                return
            del self._buffer[: reply.length]
            self._pending.popleft()
            yield reply, command, sent_ns

    @property
    def overdue(self) -> bool:
        return bool(self._pending) and self._clock() - self._pending[0][1] > ANSWER_NS

    def hush(self) -> None:
        """Disarm, then be silent until the device has disarmed by itself."""
        self.forget()
        self._line.write(frame("EA"))
        self._silent_until_ns = self._clock() + SILENCE_NS
