"""One WebSocket per page: a token within two seconds, then samples and states out, STOP and commands in."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from daemon.web.access import Session, Tokens
from daemon.web.feed import Feed, Page
from daemon.web.stop import StopLine

HELLO_TIMEOUT_S = 2.0
MAX_MESSAGE_BYTES = 4096
MAX_PAGES = 64
MAX_STRANGERS = 32  # sockets that have not yet shown a token
MAX_WAITING = 32  # answers one page may wait for at a time

BAD_MESSAGE, NO_TOKEN, TOO_MANY = 4400, 4401, 4429

logger = logging.getLogger("eegloop.web")


class Sockets:
    """Every open page."""

    def __init__(self, tokens: Tokens, feed: Feed, stops: StopLine) -> None:
        self._tokens = tokens
        self._feed = feed
        self._stops = stops
        self._strangers: dict[WebSocket, asyncio.Event] = {}

    def may_look(self, session: Session) -> bool:
        """Stop tokens open nothing; a demo's token opens demo seats only."""
        return session.kind == "page" or (session.kind == "demo" and self._feed.demo)

    async def serve(self, socket: WebSocket) -> None:
        """From the handshake (Host and Origin are checked already) to the end."""
        session = await self._greet(socket)
        if session is None:
            return
        if len(self._feed.pages) >= MAX_PAGES:
            await socket.close(TOO_MANY, f"{MAX_PAGES} pages are open already")
            return
        page = self._feed.open_page(session.kind == "demo", self._tokens.mint("stop"))
        try:
            await self._converse(socket, page, session)
        finally:
            self._feed.pages.discard(page)

    async def _greet(self, socket: WebSocket) -> Session | None:
        """The session of the token in the first message. When too many strangers wait, the oldest is sent away."""
        crowded_out = asyncio.Event()
        self._strangers[socket] = crowded_out
        if len(self._strangers) > MAX_STRANGERS:
            next(iter(self._strangers.values())).set()
            self._strangers.pop(next(iter(self._strangers)))
        try:
            await socket.accept()
            hello = asyncio.ensure_future(self._hello(socket))
            crowd = asyncio.ensure_future(crowded_out.wait())
            done, waiting = await asyncio.wait({hello, crowd}, timeout=HELLO_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            session = hello.result() if hello in done else None
            if session is None:
                await socket.close(NO_TOKEN, "the first message must carry a valid token, within 2 s")
            return session
        except (WebSocketDisconnect, RuntimeError):
            return None
        finally:
            self._strangers.pop(socket, None)

    async def _hello(self, socket: WebSocket) -> Session | None:
        message = _parse(await _receive(socket))
        if message is None or message.get("type") != "hello":
            return None
        session = self._tokens.check(message.get("token"))
        if session is not None and session.kind == "demo":
            await self._feed.introduced.wait()
        return session if session is not None and self.may_look(session) else None

    async def _converse(self, socket: WebSocket, page: Page, session: Session) -> None:
        """Send, receive, and end all together when either side ends."""
        tasks = {
            asyncio.create_task(_pump(socket, page), name="page out"),
            asyncio.create_task(self._listen(socket, page, session), name="page in"),
            asyncio.create_task(page.over.wait(), name="page over"),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is not None and not isinstance(task.exception(), (WebSocketDisconnect, RuntimeError)):
                    logger.error("a page's connection failed: %r", task.exception())
            if page.over.is_set() and socket.application_state is WebSocketState.CONNECTED:
                await socket.close(NO_TOKEN, "this is no demo any more")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, socket: WebSocket, page: Page, session: Session) -> None:
        """STOP never waits behind a command, nor behind another STOP."""
        asked: set[asyncio.Task[None]] = set()
        while True:
            message = _parse(await _receive(socket))
            kind = message.get("type") if message is not None else None
            work: Coroutine[Any, Any, None] | None = None
            if message is not None and kind == "stop":
                work = self._stop(message, page, session)
            elif message is not None and kind == "command" and len(asked) < MAX_WAITING:
                work = self._command(message, page, session)
            elif message is not None and kind == "supervise":
                self._feed.supervise(message.get("nonce"), f"{session.kind} {session.id}")
            elif kind == "command" and message is not None:
                page.answer(_result("command_result", message, {"ok": False, "error": "too many commands at once"}))
            else:
                await socket.close(BAD_MESSAGE, "not understood: send JSON of type stop, command or supervise")
                return
            if work is not None:
                task = asyncio.create_task(work, name=f"page {kind}")
                asked.add(task)
                task.add_done_callback(asked.discard)

    async def _stop(self, message: dict[str, Any], page: Page, session: Session) -> None:
        result = await self._stops.stop(message.get("seat"), f"STOP on the page ({session.kind} {session.id})")
        page.answer(_result("stop_result", message, result))

    async def _command(self, message: dict[str, Any], page: Page, session: Session) -> None:
        seat, name = (str(message.get(key))[:32] for key in ("seat", "name"))
        ok, error = await self._feed.command(seat, name, f"{session.kind} {session.id}")
        page.answer(_result("command_result", message, {"ok": ok, "error": error}))


async def _pump(socket: WebSocket, page: Page) -> None:
    async for message in page.messages():
        if isinstance(message, bytes):
            await socket.send_bytes(message)
        else:
            await socket.send_text(message)


async def _receive(socket: WebSocket) -> str:
    """The next text; binary counts as empty."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    return message.get("text") or ""


def _parse(text: str) -> dict[str, Any] | None:
    if len(text) > MAX_MESSAGE_BYTES:
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _result(kind: str, message: dict[str, Any], result: dict[str, Any]) -> str:
    number = message.get("id")
    return json.dumps({**result, "type": kind, "id": number if isinstance(number, (str, int)) else None})
