"""The web process's one reader of the live socket, and the fan-out from it to every page and to MQTT."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from daemon.live import CHALLENGE, CHUNK, COMMAND, EVENT, FRAME, MAGIC, RESULT, SAMPLES, SEATS, STATE, SUPERVISE, VERSION, gap
from daemon.web.ages import LOST_S, grown

MAX_FRAME_BYTES = 8 * 1024 * 1024
STATE_EVERY_S = 0.4  # without a word from the daemon, pages are told at least this often (twice a second is asked for)
COMMAND_TIMEOUT_S = 5.0
MAX_COMMANDS = 64
RECONNECT_S = (0.1, 0.2, 0.4, 0.8)  # then once every 0.8 s

PAGE_QUEUE_S = 2.0
PAGE_QUEUE_BYTES = 4 * 1024 * 1024
MAX_ANSWERS = 256

logger = logging.getLogger("eegloop.web")

Listener = Callable[[dict[str, Any]], None]


class Page:
    """What waits for one page. Answers go first, then samples and events in order; the newest state has a place of its own.

    Samples and events that wait over 2 s are dropped, the oldest first, and the page is told.
    """

    def __init__(self, demo: bool, stop_token: str, names: dict[int, str]) -> None:
        self.demo = demo
        self.over = asyncio.Event()  # set when this page's right to look has ended
        self._stop_token = stop_token
        self._names = names
        self._answers: deque[str] = deque(maxlen=MAX_ANSWERS)
        self._queue: deque[tuple[float, bytes | str, int, int]] = deque()
        self._queue_bytes = 0
        self._state = ""
        self._lost: dict[int, tuple[int, int]] = {}
        self._awake = asyncio.Event()

    def welcome(self, seats: dict[str, Any]) -> None:
        """The first message: which seats there are, and the token that stops."""
        self.answer(json.dumps({**seats, "type": "welcome", "stop_token": self._stop_token}))

    def answer(self, text: str) -> None:
        """What must not wait behind samples: results, the welcome, a challenge."""
        self._answers.append(text)
        self._awake.set()

    def show(self, state: str) -> None:
        self._state = state
        self._awake.set()

    def put(self, message: bytes | str, seat_index: int = -1, n_samples: int = 0) -> None:
        """Queue a chunk (bytes) or an event (text)."""
        now_s = time.monotonic()
        self._queue.append((now_s, message, seat_index, n_samples))
        self._queue_bytes += len(message)
        while self._queue and (self._queue[0][0] < now_s - PAGE_QUEUE_S or self._queue_bytes > PAGE_QUEUE_BYTES):
            _, oldest, index, samples = self._queue.popleft()
            self._queue_bytes -= len(oldest)
            lost_messages, lost_samples = self._lost.get(index, (0, 0))
            self._lost[index] = (lost_messages + 1, lost_samples + samples)
        self._awake.set()

    async def messages(self) -> AsyncIterator[bytes | str]:
        """What to send next, for ever; cancel to end."""
        while True:
            await self._awake.wait()
            if self._answers:
                yield self._answers.popleft()
            elif self._state:
                state, self._state = self._state, ""
                yield state
            elif self._lost:
                index, (messages, samples) = self._lost.popitem()
                yield json.dumps(gap(self._names.get(index), messages, samples, "web"))
            elif self._queue:
                _, message, _, _ = self._queue.popleft()
                self._queue_bytes -= len(message)
                yield message
            else:
                self._awake.clear()


class Feed:
    """Follows the daemon over `Layout.live_socket`, reconnecting by itself, and tells pages and listeners.

    Attributes
    ----------
    pages : set of Page
    listeners : list of callable
        Each gets every state (with grown ages), event and seats object; must not block.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._state: list[dict[str, Any]] = []
        self._state_boot_ns = 0
        self._state_arrival_s = float("-inf")
        self._shown_s = float("-inf")
        self._current = False  # the newest state came over the present connection
        self._names: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self._challenge = ""  # the newest that no page has answered yet
        self._asked: dict[int, asyncio.Future[tuple[bool, str]]] = {}
        self.seats: dict[str, Any] = {"type": "seats", "demo": False, "seats": []}
        self.pages: set[Page] = set()
        self.listeners: list[Listener] = []
        self.introduced = asyncio.Event()  # the seats are known; of a demo only once it has found its headset

    def open_page(self, demo: bool, stop_token: str) -> Page:
        """A new page's queue, greeted; remove it from `pages` when it goes."""
        page = Page(demo, stop_token, self._names)
        page.welcome(self.seats)
        page.show(json.dumps(self.state()))
        self.pages.add(page)
        return page

    @property
    def connected(self) -> bool:
        return self._writer is not None

    @property
    def demo(self) -> bool:
        """True only while the daemon says that every seat is a demo seat."""
        return self.seats.get("demo") is True and bool(self.seats.get("seats"))

    @property
    def age_s(self) -> float | None:
        """Seconds since the daemon wrote its newest state; None = it never did."""
        if not self._state_boot_ns:
            return None
        written_s = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._state_boot_ns) / 1e9
        return max(written_s, time.monotonic() - self._state_arrival_s, 0.0)

    def state(self) -> dict[str, Any]:
        """Every seat as it must be shown now."""
        age_s = self.age_s
        return {
            "type": "state",
            "server_t_s": time.monotonic(),
            "daemon": {"connected": self.connected, "age_s": age_s},
            "seats": grown(self._state, age_s or 0.0, self._current),
        }

    async def run(self) -> None:
        """Read and fan out until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="live socket")
            group.create_task(self._keep_telling(), name="state ticker")

    async def command(self, seat: str, name: str, by: str, **more: object) -> tuple[bool, str]:
        """Pass a person's wish to the daemon; (ok, error). `more`: what goes with it, as docs/contracts.md section 6 says."""
        age_s = self.age_s
        if self._writer is None or not self._current or age_s is None or age_s > LOST_S:
            return False, "the service does not answer; look at its window, or start it again"
        if len(self._asked) >= MAX_COMMANDS:
            return False, "too many commands at once; try again in a few seconds"
        number = next(self._numbers)
        body = json.dumps({**more, "type": "command", "seat": seat, "name": name, "by": by, "id": number}).encode()
        future: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._writer.write(FRAME.pack(len(body), COMMAND) + body)
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                return await future
        except TimeoutError:
            return False, "the service has not answered within 5 s; look at the state before trying again"
        finally:
            self._asked.pop(number, None)

    def tell_stop(self, seat: str, by: str) -> None:
        """Tell the daemon of a STOP that goes to the interlock; nothing waits for this, and no answer is read."""
        if self._writer is not None:
            body = json.dumps({"type": "command", "seat": seat, "name": "stop", "by": by, "id": 0}).encode()
            self._writer.write(FRAME.pack(len(body), COMMAND) + body)

    def supervise(self, nonce: object, by: str) -> None:
        """Pass on a page's answer to the newest challenge; the first is enough. This process never answers by itself."""
        if self._writer is None or not self._challenge or nonce != self._challenge:
            return
        body = json.dumps({"type": "supervise", "nonce": self._challenge, "by": by}).encode()
        self._challenge = ""
        self._writer.write(FRAME.pack(len(body), SUPERVISE) + body)

    async def _follow(self) -> None:
        attempt = 0
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=1024 * 1024)
                logger.info("live socket: connected")
                attempt = 0
                await self._read(reader)
            except (OSError, asyncio.IncompleteReadError, ValueError, KeyError, TypeError) as error:
                if self._writer is not None:
                    gone = isinstance(error, (OSError, EOFError))
                    logger.warning("live socket: %s; trying again", "the daemon is gone" if gone else f"not understood ({error})")
            finally:
                self._disconnect()
            await asyncio.sleep(RECONNECT_S[min(attempt, len(RECONNECT_S) - 1)])
            attempt += 1

    def _disconnect(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        self._current = False
        for future in self._asked.values():
            if not future.done():
                future.set_result((False, "the service went away before it answered; look at the state"))
        self._tell()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            length, kind = FRAME.unpack(await reader.readexactly(FRAME.size))
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            payload = await reader.readexactly(length)
            if kind == SAMPLES:
                self._on_chunk(payload)
                continue
            body = json.loads(payload)
            if not isinstance(body, dict):
                raise ValueError(f"a frame of type {kind} that is no object")
            self._on_object(kind, body)

    def _on_chunk(self, payload: bytes) -> None:
        magic, version, index, _, _, n_samples, _, _ = CHUNK.unpack_from(payload) if len(payload) >= CHUNK.size else (b"",) * 8
        if magic != MAGIC or version != VERSION:
            raise ValueError("a chunk of another version; start the service again after an update")
        for page in self.pages:
            page.put(payload, index, n_samples)

    def _on_object(self, kind: int, body: dict[str, Any]) -> None:
        if kind == STATE:
            self._state = [seat for seat in body.get("seats", ()) if isinstance(seat, dict)]
            self._state_boot_ns = int(body["boot_ns"])
            self._current = True
            self._state_arrival_s = time.monotonic()
            self._tell()
        elif kind == EVENT:
            text = json.dumps(body)
            for page in self.pages:
                page.put(text)
            self._listen(body)
        elif kind == SEATS:
            self._on_seats(body)
        elif kind == CHALLENGE:
            self._challenge = str(body["nonce"])
            text = json.dumps(body)
            for page in self.pages:
                page.answer(text)
        elif kind == RESULT:
            future = self._asked.get(body.get("id", 0))
            if future is not None and not future.done():
                future.set_result((body.get("ok") is True, str(body.get("error", ""))))

    def _on_seats(self, body: dict[str, Any]) -> None:
        self.seats = body
        self._names.clear()
        self._names.update({seat["index"]: seat["seat"] for seat in body["seats"]})
        if body["seats"] or not self.seats.get("demo"):
            self.introduced.set()
        text = json.dumps(body)
        for page in self.pages:
            if page.demo and not self.demo:
                page.over.set()
            else:
                page.answer(text)
        self._listen(body)

    async def _keep_telling(self) -> None:
        """The ages go on growing on every page while the daemon is silent."""
        while True:
            wait_s = self._shown_s + STATE_EVERY_S - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                self._tell()

    def _tell(self) -> None:
        self._shown_s = time.monotonic()
        state = self.state()
        if self.pages:
            text = json.dumps(state)
            for page in self.pages:
                page.show(text)
        self._listen(state)

    def _listen(self, body: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener(body)
