"""Daemon-side fan-out: every chunk, state and event goes to the web process over the live socket; a slow viewer loses the oldest.

Frames are those of docs/contracts.md section 6. Nothing here can block or slow the loop: writes go to a
non-blocking socket, and what it does not take waits in a queue that holds two seconds and drops its oldest.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import secrets
import socket
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from eegloop.errors import SetupError

if TYPE_CHECKING:  # numpy stays out of the web process, which reads the constants below
    from eegloop.signal import Chunk
    from eegloop.stim import LoopState

FRAME = struct.Struct("<IB")  # payload length, type
CHUNK = struct.Struct("<4sBBHIIQd")  # magic, version, seat index, n_channels, sequence, n_samples, first_sample, t0_s
MAGIC = b"EEGC"
VERSION = 1

STATE, SAMPLES, EVENT, SEATS, RESULT, CHALLENGE = 1, 2, 3, 4, 5, 6  # daemon -> web
COMMAND, SUPERVISE = 16, 17  # web -> daemon

COMMANDS = ("start", "screened", "answer", "end", "rearm", "stop")
EVENTS = ("event", "decision", "alarm")

QUEUE_S = 2.0  # what waits longer for a slow reader is dropped
QUEUE_BYTES = 16 * 1024 * 1024  # bound in memory when data come faster than in real time
WRITE_BUFFER_BYTES = 64 * 1024  # beyond this the queue takes over; the kernel's share is bounded by SO_SNDBUF
MAX_CONNECTIONS = 4  # one web process, and a successor while it starts
MAX_COMMAND_BYTES = 16 * 1024
MAX_COMMANDS = 32

logger = logging.getLogger("eegloop.live")


@dataclass(frozen=True, slots=True)
class SeatInfo:
    """What a page must know of a seat before its first chunk; `index` is the chunk header's seat index (0-255)."""

    seat: str
    index: int
    label: str
    channels: tuple[str, ...]
    kinds: tuple[str, ...]
    sample_rate_hz: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "seat": self.seat,
            "index": self.index,
            "label": self.label,
            "channels": list(self.channels),
            "kinds": list(self.kinds),
            "sample_rate_hz": self.sample_rate_hz,
        }


@dataclass(frozen=True, slots=True)
class LiveCommand:
    """A person's wish from a page: `name` is one of COMMANDS. `answer(ok, error)` reports back once.

    `form` and `values` (one whole number a question, None where it was not asked) go with "answer": a form that was filled in.
    """

    seat: str
    name: str
    by: str
    answer: Callable[[bool, str], None]
    form: str = ""
    values: tuple[int | None, ...] = ()


class LiveServer:
    """The live socket (0600, this user only). `async with LiveServer(path) as live:`; call everything from the loop's thread.

    Parameters
    ----------
    path : Path
        `Layout.live_socket`.

    Attributes
    ----------
    commands : asyncio.Queue of LiveCommand
        What pages asked for, at most 32 waiting; more are answered with a refusal at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands: asyncio.Queue[LiveCommand] = asyncio.Queue(MAX_COMMANDS)
        self._connections: list[_Connection] = []
        self._server: asyncio.AbstractServer | None = None
        self._seats: dict[int, SeatInfo] = {}
        self._seats_frame = b""
        self._sequences: dict[int, int] = {}
        self._challenges: dict[str, int] = {}  # nonce: when it was drawn, CLOCK_BOOTTIME ns; the newest two
        self._supervised_ns = 0

    async def __aenter__(self) -> LiveServer:
        _remove_stale(self.path)
        loop = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        umask = os.umask(0o177)
        try:
            listener.bind(str(self.path))
        except OSError as error:
            listener.close()
            raise SetupError(f"{self.path}: the live socket cannot be made ({error.strerror}); choose another --data") from None
        finally:
            os.umask(umask)
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listener)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()
        self.path.unlink(missing_ok=True)

    @property
    def n_connections(self) -> int:
        """Web processes now connected; 0 makes every `publish_*` return at once."""
        return len(self._connections)

    def publish_seats(self, seats: Sequence[SeatInfo], demo: bool) -> None:
        """Say which seats there are; also sent to every web process that connects later. `demo`: every seat is a demo seat."""
        self._seats = {seat.index: seat for seat in seats}
        self._seats_frame = _json_frame(SEATS, {"type": "seats", "demo": demo, "seats": [seat.to_dict() for seat in seats]})
        for connection in self._connections:
            connection.send_slot(SEATS, self._seats_frame)

    def publish_chunk(self, seat_index: int, chunk: Chunk) -> None:
        """Pass samples on as the source sent them (float32 µV, sample by sample)."""
        if not self._connections:
            return
        sequence = self._sequences.get(seat_index, 0)
        self._sequences[seat_index] = (sequence + 1) & 0xFFFFFFFF
        n_samples, n_channels = chunk.data_uv.shape
        data = chunk.data_uv.tobytes()
        frame = (
            FRAME.pack(CHUNK.size + len(data), SAMPLES)
            + CHUNK.pack(MAGIC, VERSION, seat_index, n_channels, sequence, n_samples, chunk.first_sample, chunk.t0_s)
            + data
        )
        for connection in self._connections:
            connection.send_queued(frame, seat_index, n_samples)

    def publish_state(self, states: Sequence[LoopState]) -> None:
        """Send the state of every seat (4 Hz); a reader that lags gets the newest only."""
        if not self._connections:
            return
        seats = [{name: getattr(state, name) for name in state.__slots__} for state in states]
        frame = _json_frame(STATE, {"type": "state", "boot_ns": _boot_ns(), "seats": seats})
        for connection in self._connections:
            connection.send_slot(STATE, frame)

    def publish_event(self, kind: str, seat: str, **fields: Any) -> None:
        """Send an "event" (name, text), "decision" (as `LoopState.decision`) or "alarm" (as one of `LoopState.alarms`)."""
        if kind not in EVENTS:
            raise ValueError(f"kind: {kind!r} must be one of {', '.join(EVENTS)}")
        if not self._connections:
            return
        frame = _json_frame(EVENT, {**fields, "type": kind, "seat": seat})
        for connection in self._connections:
            connection.send_queued(frame, -1, 0)

    def challenge(self) -> None:
        """Ask whether somebody's page is awake (DESIGN.md S13: every 2 s). Nobody can answer before it is asked."""
        nonce = secrets.token_hex(16)
        self._challenges[nonce] = _boot_ns()
        if len(self._challenges) > 2:
            del self._challenges[next(iter(self._challenges))]
        frame = _json_frame(CHALLENGE, {"type": "challenge", "nonce": nonce})
        for connection in self._connections:
            connection.send_slot(CHALLENGE, frame)

    @property
    def supervision_age_s(self) -> float | None:
        """Seconds since the newest challenge that a page has answered was *asked*; None = no page ever answered."""
        return (_boot_ns() - self._supervised_ns) / 1e9 if self._supervised_ns else None

    def seat_name(self, index: int) -> str | None:
        """The id of the seat with this index; None for what belongs to no seat."""
        seat = self._seats.get(index)
        return seat.seat if seat else None

    def opened(self, connection: _Connection) -> bool:
        """A web process has connected; False refuses it."""
        if len(self._connections) >= MAX_CONNECTIONS:
            logger.warning("live socket: more than %d web processes; refused", MAX_CONNECTIONS)
            return False
        self._connections.append(connection)
        if self._seats_frame:
            connection.send_slot(SEATS, self._seats_frame)
        return True

    def closed(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)

    def answered(self, payload: bytes) -> None:
        """A page's answer to a challenge; old, repeated and invented ones count for nothing."""
        try:
            nonce = str(json.loads(payload)["nonce"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        self._supervised_ns = max(self._supervised_ns, self._challenges.pop(nonce, 0))

    def received(self, connection: _Connection, payload: bytes) -> None:
        """One command frame; what cannot be understood is answered, never raised."""
        try:
            body = json.loads(payload)
            seat, name, by = (str(body[key]) for key in ("seat", "name", "by"))
            number = int(body["id"])
            form, values = str(body.get("form", "")), body.get("values", [])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            logger.warning("live socket: a command that is no command; ignored")
            return

        def answer(ok: bool, error: str) -> None:
            connection.send_queued(_json_frame(RESULT, {"type": "command_result", "id": number, "ok": ok, "error": error}), -1, 0)

        known = {info.seat for info in self._seats.values()}
        if seat not in known:
            answer(False, f"no seat {seat[:40]!r} here")
        elif name not in COMMANDS:
            answer(False, f"{name[:40]!r} is no command; there are: {', '.join(COMMANDS)}")
        elif not isinstance(values, list) or not all(value is None or type(value) is int for value in values):
            answer(False, f"{form[:40]}: the answers must be a list of whole numbers")
        else:
            try:
                self.commands.put_nowait(LiveCommand(seat, name, by[:80], answer, form[:40], tuple(values)))
            except asyncio.QueueFull:
                answer(False, "the daemon is busy with earlier commands; try again in a few seconds")


@dataclass(frozen=True, slots=True)
class _Waiting:
    since_s: float
    frame: bytes
    seat_index: int
    n_samples: int


class _Connection(asyncio.Protocol):
    """One web process: writes at once while it reads, else queues two seconds and drops the oldest."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._queue: deque[_Waiting] = deque()
        self._queue_bytes = 0
        self._slots: dict[int, bytes] = {}
        self._lost: dict[int, tuple[int, int]] = {}
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = self._transport.get_extra_info("socket")
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            logger.warning("live socket: user %d refused", uid)
            self._transport.abort()
            return
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WRITE_BUFFER_BYTES)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if not self._server.opened(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self)
        self._transport = None
        self._queue.clear()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        """The reader is back: first say what was lost, then the queue, then the newest seats and state."""
        self._paused = False
        for index, (messages, samples) in self._lost.items():
            self._write(_json_frame(EVENT, gap(self._server.seat_name(index), messages, samples, "daemon")))
        self._lost.clear()
        while self._queue and not self._paused:
            waiting = self._queue.popleft()
            self._queue_bytes -= len(waiting.frame)
            self._write(waiting.frame)
        while self._slots and not self._paused:
            self._write(self._slots.pop(max(self._slots)))  # seats before state

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= FRAME.size:
            length, kind = FRAME.unpack_from(self._received)
            if length > MAX_COMMAND_BYTES or kind not in (COMMAND, SUPERVISE):
                logger.warning("live socket: frame of type %d and %d bytes is not understood; connection closed", kind, length)
                self.close()
                return
            if len(self._received) < FRAME.size + length:
                return
            payload = bytes(self._received[FRAME.size : FRAME.size + length])
            del self._received[: FRAME.size + length]
            if kind == COMMAND:
                self._server.received(self, payload)
            else:
                self._server.answered(payload)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._server.closed(self)

    def send_slot(self, kind: int, frame: bytes) -> None:
        """Send now, or keep as the newest of its type."""
        if self._paused:
            self._slots[kind] = frame
        else:
            self._write(frame)

    def send_queued(self, frame: bytes, seat_index: int, n_samples: int) -> None:
        """Send now, or queue; `seat_index` -1 and `n_samples` 0 for what is no chunk."""
        if not self._paused:
            self._write(frame)
            return
        now_s = time.monotonic()
        self._queue.append(_Waiting(now_s, frame, seat_index, n_samples))
        self._queue_bytes += len(frame)
        while self._queue and (self._queue[0].since_s < now_s - QUEUE_S or self._queue_bytes > QUEUE_BYTES):
            oldest = self._queue.popleft()
            self._queue_bytes -= len(oldest.frame)
            messages, samples = self._lost.get(oldest.seat_index, (0, 0))
            self._lost[oldest.seat_index] = (messages + 1, samples + oldest.n_samples)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)


def gap(seat: str | None, messages: int, samples: int, where: str) -> dict[str, Any]:
    """What a viewer is told when it was too slow; seat None: these were events. `where` is "daemon" or "web"."""
    chunks, events = (0, messages) if seat is None else (messages, 0)
    return {"type": "gap", "seat": seat, "lost_chunks": chunks, "lost_samples": samples, "lost_events": events, "where": where}


def _boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _json_frame(kind: int, body: dict[str, Any]) -> bytes:
    try:
        payload = json.dumps(body, separators=(",", ":"), allow_nan=False, default=_plain).encode()
    except ValueError:
        payload = json.dumps(_without_nan(body), separators=(",", ":"), allow_nan=False, default=_plain).encode()
    return FRAME.pack(len(payload), kind) + payload


def _plain(value: Any) -> Any:
    """NumPy scalars as plain numbers; anything else as text: a viewer's frame never fails the loop."""
    return _without_nan(value.item()) if hasattr(value, "item") else str(value)


def _without_nan(value: Any) -> Any:
    """The same with null for each NaN or infinity: an unknown number is null on every border."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


def _remove_stale(path: Path) -> None:
    """Remove a socket that a killed daemon left behind; refuse when its owner lives."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise SetupError(f"{path}: is in the way and no socket; move it away and start again")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:  # its queue is full: somebody holds it, though not answering
            pass
    raise SetupError(f"{path}: another daemon serves this data directory; stop it or choose another --data")
