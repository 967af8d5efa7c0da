"""The web process: `python -m daemon.web --data DIR`, settings as one line of JSON on standard input.

It says `{"port": N, "asked": N}` on standard output once it serves, logs to standard error, and ends within a
second of SIGTERM, or of its supervisor's death.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import errno
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eegloop.errors import EegloopError
from eegloop.layout import Layout

SETTINGS_TIMEOUT_S = 5.0
MAX_SETTINGS_BYTES = 64 * 1024
ORPHAN_CHECK_S = 0.5
END_WITHIN_S = 0.8
PR_SET_PDEATHSIG = 1

logger = logging.getLogger("eegloop.web")


if TYPE_CHECKING:
    from daemon.web.settings import Handover


def main() -> int:
    """Serve until told to end; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until it is known who decides about Ctrl-C; no traceback before
    arguments = _arguments()
    logging.basicConfig(level=logging.WARNING, format="web: %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a stranger's broken requests must not fill the log
    _end_with_parent()
    try:
        if arguments.supervised:
            _load()
        handover = _read_settings(arguments.supervised)
        asked = handover.web.port if arguments.supervised else arguments.port
        if handover.parent_pid is not None:
            # The supervisor decides the order of ending on Ctrl-C: stimulation first, pages last.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        layout = Layout(arguments.data)
        layout.create()
        listener = _bind(handover.web.host, asked)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(layout, handover, listener, asked))
    except (EegloopError, PermissionError) as error:
        print(f"web: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(layout: Layout, handover: Handover, listener: socket.socket, asked: int) -> None:
    # Imported here, so that a person's wrong arguments and settings are told without FastAPI's second.
    import uvicorn

    from daemon.mqtt import MqttLink
    from daemon.web.access import Tokens
    from daemon.web.app import Site, build_app
    from daemon.web.assets import read_assets
    from daemon.web.connections import BoundedHttp, QuickClosingWebSocket
    from daemon.web.feed import Feed
    from daemon.web.gate import Gate
    from daemon.web.socket import MAX_MESSAGE_BYTES, Sockets
    from daemon.web.stop import StopLine

    class Server(uvicorn.Server):
        """uvicorn without its signal handling: this process has its own."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    port = listener.getsockname()[1]
    tokens = Tokens(layout)
    feed = Feed(layout.live_socket)
    stops = StopLine(layout, feed.tell_stop)
    mqtt = MqttLink(handover.mqtt, stops.stop)
    feed.listeners.append(mqtt.take)
    assets = read_assets(Path(__file__).parent / "static")
    site = Site(layout, tokens, feed, stops, Sockets(tokens, feed, stops), assets, lambda: mqtt.status)
    hosts = frozenset(f"{name}:{port}" for name in handover.web.allowed_hosts)
    config = uvicorn.Config(
        Gate(build_app(site), hosts),
        http=BoundedHttp,
        ws=QuickClosingWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=5.0,
        ws_ping_timeout=5.0,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=16 * 1024,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, *((signal.SIGINT, signal.SIGHUP) if handover.parent_pid is None else ())):
        loop.add_signal_handler(name, ended.set)
    tasks = [
        asyncio.create_task(feed.run(), name="feed"),
        asyncio.create_task(mqtt.run(), name="mqtt"),
        asyncio.create_task(server.serve(sockets=[listener]), name="http"),
        asyncio.create_task(_watch_parent(handover.parent_pid, ended), name="parent"),
    ]
    for task in tasks:
        task.add_done_callback(lambda done: ended.set() if done.cancelled() or done.exception() or done is tasks[2] else None)
    listener_ready = asyncio.create_task(_announce(server, port, asked))
    await ended.wait()
    # Nothing here may outlast the second: a thread may hang in a connect to a broker that is not there.
    loop.call_later(END_WITHIN_S, os._exit, 0)
    failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is not None]
    for task in failed:
        logger.error("the task %s failed", task.get_name(), exc_info=task.exception())
    server.should_exit = True
    for task in (listener_ready, *(task for task in tasks if task.get_name() != "http")):
        task.cancel()
    await asyncio.gather(listener_ready, *tasks, return_exceptions=True)
    sys.stderr.flush()
    os._exit(1 if failed else 0)


async def _announce(server: object, port: int, asked: int) -> None:
    while not getattr(server, "started"):  # noqa: B009, ASYNC110 - uvicorn says so by this attribute only
        await asyncio.sleep(0.005)
    if asked not in (0, port):
        logger.warning("port %d is taken; serving on %d", asked, port)
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"port": port, "asked": asked}), flush=True)


async def _watch_parent(parent_pid: int | None, ended: asyncio.Event) -> None:
    """Where the kernel does not tell (the thread that started us may outlive nobody): ask twice a second."""
    while parent_pid is None or os.getppid() == parent_pid:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(ORPHAN_CHECK_S)
    ended.set()


def _load() -> None:
    """What serving needs, while the supervisor still reads its configuration."""
    for name in ("uvicorn", "daemon.mqtt", "daemon.web.app", "daemon.web.connections", "daemon.web.stop", "daemon.web.settings"):
        importlib.import_module(name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m daemon.web",
        description="The page, HTTP, WebSocket and MQTT of eegloop; started by `eegloop run`.",
        epilog="example: echo '{\"web\": {}}' | python -m daemon.web --data ./data --port 8765",
    )
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--port", type=int, default=8765, help="TCP port on 127.0.0.1; another free one if it is in use; 0 = any")
    parser.add_argument(
        "--supervised", action="store_true", help="wait for the settings line, which names the port, and end without it"
    )
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535:
        parser.error(f"--port: {arguments.port} must be from 0 to 65535")
    return arguments


def _read_settings(supervised: bool) -> Handover:
    """The first line of standard input; a terminal there, or nothing within 5 s, means the defaults.

    A supervisor may take its time, and must have said something: it has none for us if its own start failed.
    """
    from daemon.web.settings import Handover

    if sys.stdin is None or sys.stdin.isatty():
        return Handover()
    descriptor = sys.stdin.fileno()
    line = b""
    while b"\n" not in line and len(line) <= MAX_SETTINGS_BYTES:
        ready, _, _ = select.select([descriptor], [], [], None if supervised else SETTINGS_TIMEOUT_S)
        part = os.read(descriptor, 4096) if ready else b""
        if not part:
            break
        line += part
    if supervised and not line:
        os._exit(0)
    return Handover.from_line(line.partition(b"\n")[0])


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket on this port, or on any free one if it is taken."""
    for candidate in (port, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(512)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or candidate == 0:
                raise EegloopError(f"{host}:{candidate}: cannot be served on ({error.strerror}); choose another --port") from None
        else:
            listener.setblocking(False)
            return listener
    raise AssertionError("unreachable")


def _end_with_parent() -> None:
    """SIGTERM when the process that started this one dies (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
