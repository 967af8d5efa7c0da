"""The web process as its supervisor sees it: port, settings, ends, and what happens when daemon, parent or web die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from daemon.web.access import create_link
from tests.integration.web_rig import (
    ROOT,
    Process,
    StopSocket,
    WebProcess,
    data_directory,
    demo_tokens,
    health,
    next_of,
    page,
    start_daemon,
    until,
    until_closed,
)


def _check_page(web: WebProcess) -> None:
    """It is served, or says that it was not built; nothing inline, which the policy would block."""
    built = (ROOT / "daemon/web/static/index.html").exists()
    answer = httpx.get(web.url)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert built or "was not built" in answer.text
    assert "<script>" not in answer.text and "style=" not in answer.text
    assert httpx.get(web.url, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert httpx.head(f"{web.url}/index.html").status_code == 200


def _check_link(web: WebProcess, secret: str) -> None:
    redeemed = httpx.post(f"{web.url}/api/v1/link/redeem", json={"secret": secret}, headers=web.own)
    assert redeemed.status_code == 200
    headers = {"authorization": f"Bearer {redeemed.json()['token']}"}
    assert httpx.get(f"{web.url}/api/v1/state", headers=headers).json()["seats"] == []


def test_without_a_daemon_it_serves_on_a_free_port_and_leaves_ctrl_c_to_its_supervisor(tmp_path: Path) -> None:
    with data_directory(tmp_path) as layout, socket.create_server(("127.0.0.1", 0)) as taken:
        asked = taken.getsockname()[1]
        web = WebProcess(layout.data, asked)
        try:
            assert web.asked == asked != web.port
            assert f"port {asked} is taken" in web.errors()
            assert health(web)["status"] == "degraded"  # no daemon: it serves all the same
            addresses = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"}
            assert f"0100007F:{web.port:04X}" in addresses
            assert f"00000000:{web.port:04X}" not in addresses
            _check_page(web)
            _check_link(web, create_link(layout))  # by another process, as `eegloop link` does
            for name in (
                signal.SIGINT,
                signal.SIGHUP,
                signal.SIGINT,
            ):  # Ctrl-C and a closed terminal are the supervisor's to judge
                web.kill(name)
            assert health(web)["version"]
            assert web.popen.poll() is None
        finally:
            web.end()


async def test_it_ends_within_a_second_with_pages_open_and_comes_back_to_them(tmp_path: Path) -> None:
    """SIGTERM with an open page, a half request and a hanging STOP; the next process takes the same port and the same tokens."""
    with data_directory(tmp_path) as layout:
        daemon = start_daemon(layout.data)
        web = WebProcess(layout.data)
        again: WebProcess | None = None
        try:
            tokens = demo_tokens(web)
            half = socket.create_connection(("127.0.0.1", web.port))
            half.sendall(b"GET / HTT")
            async with StopSocket(layout.stop_socket("seat1"), "silent"), page(web, tokens["token"]) as open_page:
                await next_of(open_page, "state")
                await open_page.send(json.dumps({"type": "stop", "seat": "seat1", "id": "s"}))
                started = time.monotonic()
                web.kill(signal.SIGTERM)
                code, _ = await until_closed(open_page)
                assert code in (1012, 1006)
                assert await asyncio.to_thread(web.popen.wait, 5) == 0
                assert time.monotonic() - started < 1.0
                assert "Traceback" not in web.errors()
            half.close()
            again = WebProcess(layout.data, web.port)
            assert again.port == web.port
            async with page(again, tokens["token"]) as same_page:
                await next_of(same_page, "state", 3.0)
            async with StopSocket(layout.stop_socket("seat1")), httpx.AsyncClient() as client:
                answer = await client.post(f"{again.url}/api/v1/seats/seat1/stop", headers={"x-stop-token": tokens["stop_token"]})
                assert answer.json()["confirmed"] is True
        finally:
            daemon.end()
            web.end()
            if again is not None:
                again.end()


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_started_by_a_person_it_ends_on_any_of_them_without_a_traceback(tmp_path: Path, name: signal.Signals) -> None:
    with data_directory(tmp_path) as layout:
        web = Process("-m", "daemon.web", "--data", str(layout.data), "--port", "0", stdin=b"", keep_stdin=False)
        try:
            assert json.loads(web.line())["port"] > 1024
            web.kill(name)
            assert web.popen.wait(3) == 0
            assert web.errors() == ""
        finally:
            web.end()


def test_it_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    """The supervisor here is a small Python process that starts the web process and is then killed with -9."""
    script = """
import os, subprocess, sys, json
child = subprocess.Popen([sys.executable, "-m", "daemon.web", "--data", sys.argv[1], "--port", "0"], stdin=subprocess.PIPE)
child.stdin.write(json.dumps({"parent_pid": os.getpid()}).encode() + b"\\n")
child.stdin.flush()
print(child.pid, flush=True)
child.wait()
"""
    with data_directory(tmp_path) as layout:
        supervisor = Process("-c", script, str(layout.data))
        try:
            said = [json.loads(supervisor.line()) for _ in range(2)]
            pid = next(item for item in said if isinstance(item, int))
            os.kill(pid, 0)
            supervisor.kill(signal.SIGKILL)
            started = time.monotonic()

            def gone() -> bool:
                status = Path(f"/proc/{pid}/stat")
                return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"

            until(gone, 3, "the web process is gone")
            assert time.monotonic() - started < 1.5
        finally:
            supervisor.end()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"not json\n", "JSON"),
        (b'{"web": {"host": "0.0.0.0"}}\n', "web.host"),
        (b'{"web": {"hosts": []}}\n', "web.hosts"),
        (b'{"mqtt": {"broker": "mqtt://user:geheim@b"}}\n', "mqtt.broker"),
        (b'{"mqtt": {"site": "a/b"}}\n', "mqtt.site"),
    ],
)
def test_wrong_settings_end_it_with_one_line(tmp_path: Path, line: bytes, named: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "daemon.web", "--data", str(tmp_path / "d"), "--port", "0"],
        input=line,
        capture_output=True,
        cwd=ROOT,
        timeout=20,
        check=False,
    )
    assert result.returncode == 1
    error = result.stderr.decode()
    assert named in error and error.count("\n") == 1
    assert "geheim" not in error
    assert result.stdout == b""


def test_an_open_key_file_stops_the_start(tmp_path: Path) -> None:
    with data_directory(tmp_path) as layout:
        key = layout.keys / "web.key"
        key.write_bytes(b"k" * 32)
        key.chmod(0o644)
        result = subprocess.run(
            [sys.executable, "-m", "daemon.web", "--data", str(layout.data), "--port", "0"],
            input=b"{}\n",
            capture_output=True,
            cwd=ROOT,
            timeout=20,
            check=False,
        )
        assert result.returncode == 1
        assert b"web.key" in result.stderr and b"Traceback" not in result.stderr


async def test_it_follows_a_daemon_that_is_killed_and_started_again(tmp_path: Path) -> None:
    """Live again within 3 s of the daemon's return, with the page's socket open all the time."""
    with data_directory(tmp_path) as layout:
        daemon = start_daemon(layout.data)
        web = WebProcess(layout.data)
        try:
            async with page(web, demo_tokens(web)["token"]) as socket:
                await next_of(socket, "chunk")
                while not (await next_of(socket, "state"))["seats"]:
                    pass
                daemon.kill(signal.SIGKILL)
                killed = time.monotonic()
                async with asyncio.timeout(2):
                    while (state := await next_of(socket, "state", 0.6))["daemon"]["connected"]:
                        pass
                assert time.monotonic() - killed < 1.0
                assert state["seats"][0]["output"]["confirmed_ma"] is None
                assert state["seats"][0]["stream"]["status"] == "lost"
                daemon.end()
                daemon = await asyncio.to_thread(start_daemon, layout.data)
                async with asyncio.timeout(3):
                    while (await next_of(socket, "state"))["seats"][0]["stream"]["status"] != "live":
                        pass
                    await next_of(socket, "chunk")
        finally:
            web.end()
            daemon.end()
