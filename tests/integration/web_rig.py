"""What the tests of the web process share: it and a small daemon as real processes, a stop socket, and a page's client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

from eegloop.layout import Layout

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 20.0


class Process:
    """A real process of ours; its lines of standard output come by `line()`, its standard error by `errors()` after the end."""

    def __init__(self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None, keep_stdin: bool = True) -> None:
        self._stderr_path = Path(f"/tmp/eegloop-test-{os.getpid()}-{time.monotonic_ns()}.err")
        with self._stderr_path.open("wb") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        assert self.popen.stdin is not None
        self.popen.stdin.write(stdin)
        self.popen.stdin.flush()
        if not keep_stdin:
            self.popen.stdin.close()
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line)

    def line(self, timeout_s: float = START_TIMEOUT_S) -> bytes:
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no line within {timeout_s} s; it said: {self.errors()}") from None

    def errors(self) -> str:
        return self._stderr_path.read_text(errors="replace")

    def kill(self, name: signal.Signals) -> None:
        self.popen.send_signal(name)

    def end(self) -> None:
        """Make sure that it is gone, whatever state it is in."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.send_signal(signal.SIGCONT)
        self.popen.wait(10)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._stderr_path.unlink(missing_ok=True)


class WebProcess(Process):
    """`python -m daemon.web` as the supervisor starts it."""

    def __init__(self, data: Path, port: int = 0, settings: dict[str, Any] | None = None) -> None:
        body = {"parent_pid": os.getpid(), **(settings or {})}
        super().__init__("-m", "daemon.web", "--data", str(data), "--port", str(port), stdin=json.dumps(body).encode() + b"\n")
        said = json.loads(self.line())
        self.port: int = said["port"]
        self.asked: int = said["asked"]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.own = {"origin": self.url}


def start_daemon(data: Path, *options: str) -> Process:
    process = Process("-m", "tests.integration.live_daemon", "--data", str(data), *options)
    assert process.line() == b"ready\n"
    return process


@contextlib.contextmanager
def data_directory(path: Path) -> Iterator[Layout]:
    """A layout whose runtime directory is removed at the end."""
    layout = Layout(path / "data")
    layout.create()
    try:
        yield layout
    finally:
        shutil.rmtree(layout.run, ignore_errors=True)


def until(true: Callable[[], Any], timeout_s: float = 5.0, what: str = "condition") -> Any:
    """Wait for a condition with a deadline; what it returned."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {timeout_s} s")


def health(web: WebProcess) -> dict[str, Any]:
    response = httpx.get(f"{web.url}/api/v1/health", timeout=5)
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def demo_tokens(web: WebProcess) -> dict[str, str]:
    def ask() -> dict[str, str] | None:
        response = httpx.post(f"{web.url}/api/v1/demo/session", headers=web.own, timeout=5)
        body: dict[str, str] = response.json()
        return body if response.status_code == 200 else None

    result: dict[str, str] = until(ask, 10, "demo session")
    return result


@contextlib.asynccontextmanager
async def page(web: WebProcess, token: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """A page's WebSocket after its hello."""
    async with connect(
        f"ws://{web.host}/api/v1/live", origin=websockets.Origin(web.url), max_size=None, close_timeout=0.2, **options
    ) as socket:
        await socket.send(json.dumps({"type": "hello", "token": token}))
        yield socket


async def next_of(socket: ClientConnection, kind: str, timeout_s: float = 5.0) -> Any:
    """The next message of a type ("chunk" = binary); others are skipped."""
    async with asyncio.timeout(timeout_s):
        async for message in socket:
            if isinstance(message, bytes):
                if kind == "chunk":
                    return message
            else:
                body = json.loads(message)
                if body["type"] == kind:
                    return body
    raise AssertionError(f"the socket closed before a {kind}")


async def until_closed(socket: ClientConnection, timeout_s: float = 5.0) -> tuple[int | None, list[str]]:
    """The code with which the server closes this socket, and the texts that came before."""
    texts = []
    with contextlib.suppress(websockets.ConnectionClosed):
        async with asyncio.timeout(timeout_s):
            while True:
                message = await socket.recv()
                if isinstance(message, str):
                    texts.append(message)
    return socket.close_code, texts


class StopSocket:
    """An interlock's stop socket (docs/contracts.md section 3). `behavior`: "confirm", "deny", "silent", "hang up", "garbage"."""

    def __init__(self, path: Path, behavior: str = "confirm") -> None:
        self.path = path
        self.behavior = behavior
        self.reasons: list[str] = []
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> StopSocket:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        self.path.chmod(0o600)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reasons.append((await reader.readline()).decode().strip())

        def say(**body: Any) -> None:
            writer.write(json.dumps(body).encode() + b"\n")

        if self.behavior == "garbage":
            writer.write(b"\x00\xff not json\n")
        elif self.behavior != "hang up":
            say(type="stopping", boot_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            if self.behavior == "confirm":
                say(type="stopped", confirmed=True, output_ma=0.0, after_ms=12)
            elif self.behavior == "deny":
                say(type="stopped", confirmed=False, output_ma=0.7, after_ms=1000, advice="take the headset off")
            else:
                await reader.read()
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
