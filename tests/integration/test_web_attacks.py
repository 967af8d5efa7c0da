"""Attacks on the web process: each way in that must stay shut, and STOP, which must stay open through all of them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from daemon.web.access import Tokens, create_link
from eegloop.layout import Layout
from tests.integration.web_rig import (
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


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    with data_directory(tmp_path_factory.mktemp("web")) as layout:
        yield layout


@pytest.fixture(scope="module")
def daemon(layout: Layout) -> Iterator[Process]:
    """Seats that are no demo: a link is the only way in."""
    process = start_daemon(layout.data, "--real")
    yield process
    process.end()


@pytest.fixture(scope="module")
def web(layout: Layout, daemon: Process) -> Iterator[WebProcess]:
    process = WebProcess(layout.data)
    until(lambda: health(process)["status"] == "ok", 10, "health ok")
    yield process
    process.end()


def redeem(web: WebProcess, secret: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{web.url}/api/v1/link/redeem", json={"secret": secret}, headers=headers or web.own, timeout=5)


def state(web: WebProcess, **options: Any) -> httpx.Response:
    return httpx.get(f"{web.url}/api/v1/state", **options)


@pytest.fixture(scope="module")
def tokens(web: WebProcess, layout: Layout) -> dict[str, str]:
    response = redeem(web, create_link(layout))
    assert response.status_code == 200
    body: dict[str, str] = response.json()
    return body


async def closed_with(web: WebProcess, first: str | bytes | None, origin: str | None = None, path: str = "") -> int:
    """The close code a socket gets after this first message (None: silence)."""
    async with connect(
        f"ws://{web.host}/api/v1/live{path}", origin=websockets.Origin(origin or web.url), close_timeout=0.5
    ) as stranger:
        if first is not None:
            await stranger.send(first)
        code, told = await until_closed(stranger)
    assert told == [] and code is not None
    return code


# ---- a foreign site in the same browser -------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}"]
)
@pytest.mark.parametrize("path", ["/", "/api/v1/health", "/api/v1/state", "/api/v1/openapi.json"])
def test_a_rebound_name_is_refused(web: WebProcess, host: str, path: str) -> None:
    response = httpx.get(web.url + path, headers={"host": host.format(port=web.port)})
    assert response.status_code == 421
    assert "seat" not in response.text


def test_a_rebound_name_cannot_redeem_even_with_its_own_origin(web: WebProcess, layout: Layout) -> None:
    evil = f"evil.example:{web.port}"
    secret = create_link(layout)
    assert redeem(web, secret, host=evil, origin=f"http://{evil}").status_code == 421
    assert redeem(web, secret).status_code == 200


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://localhost:{port}"]
)
def test_a_write_with_a_foreign_origin_is_refused(web: WebProcess, layout: Layout, origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin.format(port=web.port)}
    response = httpx.post(f"{web.url}/api/v1/link/redeem", json={"secret": create_link(layout)}, headers=headers)
    assert response.status_code == 403
    assert httpx.post(f"{web.url}/api/v1/demo/session", headers=headers).status_code == 403


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1", "http://localhost:{port}"])
async def test_a_socket_with_a_foreign_origin_is_refused(web: WebProcess, tokens: dict[str, str], origin: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(f"ws://{web.host}/api/v1/live", origin=websockets.Origin(origin.format(port=web.port))):
            pass
    assert refused.value.response.status_code == 403


async def test_a_socket_without_origin_or_with_a_foreign_host_is_refused(web: WebProcess) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with connect(f"ws://{web.host}/api/v1/live"):
            pass
    # A rebound name: the browser sends the foreign name as Host and as Origin.
    evil = f"evil.example:{web.port}"
    with pytest.raises(websockets.InvalidStatus):
        async with connect(
            f"ws://{evil}/api/v1/live", host="127.0.0.1", port=web.port, origin=websockets.Origin(f"http://{evil}")
        ):
            pass


def test_no_answer_lets_another_origin_read_or_frame_it(web: WebProcess) -> None:
    for path in ("/", "/api/v1/health", "/api/v1/state", "/nothing", "/api/v1/openapi.json"):
        headers = httpx.get(web.url + path, headers={"origin": "http://evil.example"}).headers
        assert not [name for name in headers if name.startswith("access-control")]
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "set-cookie" not in headers
    preflight = httpx.options(f"{web.url}/api/v1/link/redeem", headers={"origin": "http://evil.example"})
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


# ---- no token, or the wrong one ---------------------------------------------------------------


async def test_silence_is_closed_after_two_seconds(web: WebProcess) -> None:
    started = time.monotonic()
    assert await closed_with(web, None) == 4401
    assert 1.8 < time.monotonic() - started < 3.5


async def test_a_token_in_the_address_or_a_cookie_opens_nothing(web: WebProcess, tokens: dict[str, str]) -> None:
    token = tokens["token"]
    assert await closed_with(web, json.dumps({"type": "hello"}), path=f"?token={token}") == 4401
    async with connect(
        f"ws://{web.host}/api/v1/live",
        origin=websockets.Origin(web.url),
        additional_headers={"cookie": f"token={token}", "authorization": f"Bearer {token}"},
    ) as stranger:
        await stranger.send('{"type":"hello"}')
        assert await until_closed(stranger) == (4401, [])
    for options in ({"params": {"token": token}}, {"headers": {"cookie": f"token={token}"}}):
        assert state(web, **options).status_code == 401
    good = state(web, headers={"authorization": f"Bearer {token}"})
    assert good.status_code == 200 and good.json()["seats"][0]["seat"] == "seat1"


async def test_wrong_first_messages_open_nothing(web: WebProcess, tokens: dict[str, str], layout: Layout) -> None:
    kind, issued, number, proof = tokens["token"].split(".")
    foreign = hmac.new(b"\0" * 32, f"{kind}.{issued}.{number}".encode(), hashlib.sha256).hexdigest()
    old = Tokens(layout, wall_s=lambda: time.time() - 25 * 3600).mint("page")
    wrong: list[object] = [
        None,
        1,
        "",
        "x",
        tokens["stop_token"],
        f"{kind}.{issued}.{number}.{foreign}",
        f"{kind}.{int(issued) + 1}.{number}.{proof}",
        f"page.{issued}.{number}.{proof[:-1]}",
        old,
        Tokens(layout).mint("demo"),
        tokens["token"] + "\n",
        ["x"],
        {"a": 1},
    ]
    first = [json.dumps({"type": "hello", "token": token}) for token in wrong]
    first += ["", "not json", "[]", "null", '{"type":"stop","seat":"seat1"}', "[" * 4000, tokens["token"]]
    codes = await asyncio.gather(*(closed_with(web, message) for message in first), closed_with(web, b"\x00\x01"))
    assert set(codes) == {4401}
    for token in wrong:
        if isinstance(token, str) and token and token.isprintable():
            assert state(web, headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_a_demo_session_is_refused_beside_a_real_seat(web: WebProcess) -> None:
    response = httpx.post(f"{web.url}/api/v1/demo/session", headers=web.own)
    assert response.status_code == 403


async def test_demo_pages_are_sent_away_when_a_real_seat_appears(tmp_path: Path) -> None:
    with data_directory(tmp_path) as layout:
        demo = start_daemon(layout.data)
        web = WebProcess(layout.data)
        real: Process | None = None
        try:
            token = demo_tokens(web)["token"]
            async with page(web, token) as socket:
                await next_of(socket, "state")
                demo.end()
                real = start_daemon(layout.data, "--real")
                code, told = await until_closed(socket)
                assert code == 4401
                assert not any('"type": "seats"' in text for text in told)  # it saw nothing of the real seats
            assert await closed_with(web, json.dumps({"type": "hello", "token": token})) == 4401
        finally:
            web.end()
            demo.end()
            if real is not None:
                real.end()


# ---- the one-time link ------------------------------------------------------------------------


def test_a_link_opens_once(web: WebProcess, layout: Layout) -> None:
    secret = create_link(layout)
    assert len(secret) >= 43  # 256 bit
    assert redeem(web, secret).status_code == 200
    again = redeem(web, secret)
    assert again.status_code == 401
    assert secret not in again.text


async def test_a_link_redeemed_by_many_at_once_opens_once(web: WebProcess, layout: Layout) -> None:
    secret = create_link(layout)
    async with httpx.AsyncClient() as client:
        url = f"{web.url}/api/v1/link/redeem"
        answers = await asyncio.gather(*(client.post(url, json={"secret": secret}, headers=web.own) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19


def test_a_link_is_over_after_five_minutes(web: WebProcess, layout: Layout) -> None:
    before = set((layout.keys / "links").iterdir())
    secret = create_link(layout)
    (file,) = set((layout.keys / "links").iterdir()) - before
    boot_id, created_ns = file.read_text().split()
    file.write_text(f"{boot_id} {int(created_ns) - 301 * 10**9}\n")
    assert redeem(web, secret).status_code == 401
    assert not file.exists()


def test_wrong_secrets_are_refused_in_one_line_without_an_echo(web: WebProcess) -> None:
    for secret in ("x" * 43, "", "../../web.key", "a" * 201, 5, None, ["x"], {"x": 1}):
        response = httpx.post(f"{web.url}/api/v1/link/redeem", json={"secret": secret}, headers=web.own)
        assert response.status_code in (401, 422)
        assert "x" * 43 not in response.text and "a" * 201 not in response.text
    assert httpx.post(f"{web.url}/api/v1/link/redeem", content=b"{", headers=web.own).status_code == 422


def test_secrets_stand_in_no_log_argv_environment_or_open_file(web: WebProcess, layout: Layout, tokens: dict[str, str]) -> None:
    secret = create_link(layout)
    assert redeem(web, secret).status_code == 200
    httpx.get(f"{web.url}/?link={secret}&token={tokens['token']}")
    httpx.get(f"{web.url}/api/v1/state?token={tokens['token']}")
    process = Path(f"/proc/{web.popen.pid}")
    seen = web.errors() + (process / "cmdline").read_text() + (process / "environ").read_text()
    for value in (secret, tokens["token"], tokens["stop_token"]):
        assert value not in seen
    for file in layout.data.rglob("*"):
        if file.is_file():
            assert file.stat().st_mode & 0o077 == 0, file
            assert secret.encode() not in file.read_bytes()
    assert layout.data.stat().st_mode & 0o077 == 0
    assert layout.live_socket.stat().st_mode & 0o777 == 0o600


# ---- names, files, sizes ----------------------------------------------------------------------


def test_health_names_no_person(web: WebProcess) -> None:
    response = httpx.get(f"{web.url}/api/v1/health")
    assert "Ada" not in response.text and "label" not in response.text
    assert set(response.json()) == {"status", "version", "uptime_s", "daemon", "seats", "mqtt"}


@pytest.mark.parametrize(
    "path",
    [
        "/../__main__.py",
        "/..%2f__main__.py",
        "/%2e%2e/access.py",
        "/assets/..%5c..%5caccess.py",
        "//etc/passwd",
        "/%00",
        "/static/../app.py",
        "/....//app.py",
        "/index.html/../../app.py",
        "/schemas/state.json",
    ],
)
def test_paths_out_of_the_static_folder_find_nothing(web: WebProcess, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    assert response.status in (400, 404)
    assert b"import" not in body and b"root:" not in body
    connection.close()


def test_long_bodies_and_headers_are_refused(web: WebProcess) -> None:
    url = f"{web.url}/api/v1/link/redeem"
    assert httpx.post(url, content=b"x" * 5000, headers=web.own).status_code == 413
    assert httpx.post(url, content=(b"x" * 1000 for _ in range(10)), headers=web.own).status_code == 413  # no length given
    for n_bytes in (17_000, 100_000, 3_000_000):
        try:
            assert httpx.get(web.url, headers={"x-long": "y" * n_bytes}).status_code in (400, 431)
        except httpx.TransportError:
            assert n_bytes >= 100_000  # closed before the client had sent it all
    assert health(web)["status"] == "ok"


@pytest.mark.parametrize("after_hello", [False, True])
async def test_a_long_message_closes_the_socket(web: WebProcess, tokens: dict[str, str], after_hello: bool) -> None:
    async with connect(f"ws://{web.host}/api/v1/live", origin=websockets.Origin(web.url), close_timeout=0.5) as stranger:
        if after_hello:
            await stranger.send(json.dumps({"type": "hello", "token": tokens["token"]}))
            await next_of(stranger, "welcome")
        await stranger.send("x" * 5000)
        assert (await until_closed(stranger))[0] == 1009


async def test_nonsense_after_the_hello_closes_only_this_page(web: WebProcess, tokens: dict[str, str]) -> None:
    async with page(web, tokens["token"]) as good, page(web, tokens["token"]) as bad:
        await next_of(bad, "state")
        await bad.send("nonsense")
        assert (await until_closed(bad))[0] == 4400
        await next_of(good, "state", 1.0)


# ---- STOP stays open --------------------------------------------------------------------------


async def test_stop_needs_its_token_and_nothing_else(web: WebProcess, layout: Layout, tokens: dict[str, str]) -> None:
    url = f"{web.url}/api/v1/seats/seat1/stop"
    years_old = Tokens(layout, wall_s=lambda: 1_000_000_000.0).mint("stop")
    async with StopSocket(layout.stop_socket("seat1")) as stop, httpx.AsyncClient() as client:
        for token in (tokens["stop_token"], years_old):
            for headers in ({}, {"origin": "http://evil.example"}, {"host": "evil.example"}, {"content-type": "text/plain"}):
                answer = await client.post(url, headers={**headers, "x-stop-token": token})
                assert answer.status_code == 200 and answer.json()["confirmed"] is True
        answer = await client.post(url, headers={"x-stop-token": tokens["stop_token"]}, content=b"z" * 100_000)
        assert answer.json()["confirmed"] is True
        assert len(stop.reasons) == 9
        for wrong in ("", "stop.1.x.y", tokens["stop_token"][:-1] + "x"):
            assert (await client.post(url, headers={"x-stop-token": wrong})).status_code == 401
        assert len(stop.reasons) == 9


async def test_a_hundred_stops_at_once_are_all_answered(web: WebProcess, layout: Layout, tokens: dict[str, str]) -> None:
    async with StopSocket(layout.stop_socket("seat1")) as stop, httpx.AsyncClient(timeout=10) as client:
        headers = {"x-stop-token": tokens["stop_token"]}
        before = (await client.post(f"{web.url}/api/v1/seats/seat1/stop", headers=headers)).json()["count"]
        answers = await asyncio.gather(*(client.post(f"{web.url}/api/v1/seats/seat1/stop", headers=headers) for _ in range(100)))
        assert all(answer.json()["confirmed"] is True for answer in answers)
        assert sorted(answer.json()["count"] for answer in answers) == list(range(before + 1, before + 101))
        assert stop.reasons


@pytest.mark.parametrize("seat", ["..%2f..%2fx", "nobody", "SEAT1", "a" * 33, "seat1%00"])
async def test_stop_for_no_seat_reaches_nothing_and_says_unknown(web: WebProcess, tokens: dict[str, str], seat: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{web.url}/api/v1/seats/{seat}/stop", headers={"x-stop-token": tokens["stop_token"], **web.own}
        )
    assert answer.status_code in (200, 404, 405)
    if answer.status_code == 200:
        assert answer.json()["confirmed"] is None


async def test_stop_gets_through_a_flood_of_connections(web: WebProcess, layout: Layout, tokens: dict[str, str]) -> None:
    """400 connections that send half a request, half a body or nothing hold fewer places than there are, and not for long."""
    halves = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x",
        f"POST /api/v1/link/redeem HTTP/1.1\r\nHost: {web.host}\r\nOrigin: {web.url}\r\n".encode(),
    ]
    halves[2] += b"Content-Length: 4000\r\n\r\nx"
    flood: list[socket.socket] = []
    try:
        for number in range(400):
            sock = socket.create_connection(("127.0.0.1", web.port), timeout=2)
            sock.sendall(halves[number % 3])
            flood.append(sock)
        async with StopSocket(layout.stop_socket("seat1")), httpx.AsyncClient(timeout=2) as client:
            started = time.monotonic()
            answer = await client.post(f"{web.url}/api/v1/seats/seat1/stop", headers={"x-stop-token": tokens["stop_token"]})
            assert answer.json()["confirmed"] is True
            assert time.monotonic() - started < 1.0
        n_open = len(list(Path(f"/proc/{web.popen.pid}/fd").iterdir()))
        assert n_open < 256 + 40
        until(lambda: len(list(Path(f"/proc/{web.popen.pid}/fd").iterdir())) < 40, 8, "places freed after 5 s")
    finally:
        for sock in flood:
            sock.close()


async def test_strangers_on_sockets_are_bounded(web: WebProcess, tokens: dict[str, str]) -> None:
    """Of 60 sockets without a token the oldest are sent away at once; a page with one still gets in."""
    strangers = [
        await connect(f"ws://{web.host}/api/v1/live", origin=websockets.Origin(web.url), close_timeout=0.1) for _ in range(60)
    ]
    async with page(web, tokens["token"]) as socket:
        await next_of(socket, "welcome", 1.5)
    assert sum(stranger.close_code == 4401 for stranger in strangers) >= 20
    await asyncio.gather(*(stranger.close() for stranger in strangers))
