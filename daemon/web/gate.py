"""What every request passes first: Host (DNS rebinding), Origin on writes and WebSockets, body size, headers for the browser.

STOP passes without any of it (DESIGN.md S2): its token is all it needs.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 4096
MAX_HEADER_BYTES = 16 * 1024
BODY_TIMEOUT_S = 5.0
STOP_PATH = re.compile(r"/api/v1/seats/[^/]*/stop")

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; worker-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
)


class Gate:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    app : ASGI application
    hosts : frozenset of str
        `name:port` as a browser writes it in Host; also the only origins, as `http://name:port`.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = self._host(scope)
        sending = _locked_down(send, host)
        if scope["method"] == "POST" and STOP_PATH.fullmatch(scope["path"]):
            await self._app(scope, _no_body, sending)
            return
        if host is None:
            await _refuse(sending, 421, "this address is not one of allowed_hosts in config.yaml")
            return
        if sum(len(key) + len(value) for key, value in scope["headers"]) > MAX_HEADER_BYTES:
            await _refuse(sending, 431, f"a request's headers may be {MAX_HEADER_BYTES} bytes")
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not _same_origin(scope, host):
            await _refuse(sending, 403, "a write needs the page's own Origin")
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_body(scope, receive)
        except TimeoutError:
            await _refuse(sending, 408, "the request's body did not arrive within 5 s")
            return
        if body is None:
            await _refuse(sending, 413, f"a request's body may be {MAX_BODY_BYTES} bytes")
            return
        await self._app(scope, _replay(body, receive), sending)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = self._host(scope)
        if host is None or not _same_origin(scope, host):
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": "foreign Host or Origin"})
            return
        await self._app(scope, receive, send)

    def _host(self, scope: Scope) -> str | None:
        hosts = _values(scope, b"host")
        return hosts[0] if len(hosts) == 1 and hosts[0] in self._hosts else None


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _same_origin(scope: Scope, host: str) -> bool:
    return _values(scope, b"origin") == [f"http://{host}"]


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None if it is too long (by its own word or in fact)."""
    for length in _values(scope, b"content-length"):
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return None
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _locked_down(send: Send, host: str | None) -> Send:
    """Add the headers to every answer. `connect-src` names the socket: not every browser counts ws: as 'self'."""
    policy = f"{_POLICY} ws://{host}" if host else _POLICY
    extra = [(key.encode(), value.encode()) for key, value in {**_HEADERS, "content-security-policy": policy}.items()]

    async def locked_down(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
            if not any(key == b"cache-control" for key, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*headers, *extra]}
        await send(message)

    return locked_down


async def _refuse(send: Send, status: int, why: str) -> None:
    body: dict[str, Any] = {"detail": why}
    payload = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
