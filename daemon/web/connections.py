"""Bounds on connections, so that nobody who merely connects can keep a STOP out."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_CONNECTIONS = 256
REQUEST_TIMEOUT_S = 5.0  # from the first byte, or from connecting, to the end of the request
SEND_BUFFER_BYTES = 128 * 1024  # the kernel's share of what a slow page has not taken yet

logger = logging.getLogger("eegloop.web")


class BoundedHttp(H11Protocol):
    """HTTP/1.1 whose unfinished requests end after 5 s, and make room, the oldest first, when all places are taken."""

    unfinished: dict[BoundedHttp, None] = {}  # noqa: RUF012 - one process, one server: ordered by age

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._begin()
        while len(self.connections) > MAX_CONNECTIONS and self.unfinished:
            next(iter(self.unfinished))._abandon("all places are taken")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            self._end()  # a WebSocket now
        elif self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            self._end()
        elif self._deadline is None:
            self._begin()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._end()
        self.unfinished[self] = None
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._abandon, "no request within 5 s")

    def _end(self) -> None:
        self.unfinished.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abandon(self, why: str) -> None:
        logger.debug("connection closed: %s", why)
        self._end()
        self.connections.discard(self)
        self.transport.abort()


class QuickClosingWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that does not wait long for a peer which never says goodbye."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = 1.0
