"""The page's WebSocket through real processes: samples unchanged, states with growing ages, STOP past the daemon, commands."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection

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
)

HEADER = struct.Struct("<4sBBHIIQd")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    with data_directory(tmp_path_factory.mktemp("web")) as layout:
        yield layout


@pytest.fixture(scope="module")
def daemon(layout: Layout) -> Iterator[Process]:
    process = start_daemon(layout.data, "--seats", "2")
    yield process
    process.end()


@pytest.fixture(scope="module")
def web(layout: Layout, daemon: Process) -> Iterator[WebProcess]:
    process = WebProcess(layout.data)
    until(lambda: health(process)["status"] == "ok", 10, "health ok")
    yield process
    process.end()


async def test_samples_arrive_as_the_source_sent_them(web: WebProcess) -> None:
    async with page(web, demo_tokens(web)["token"]) as socket:
        welcome = await next_of(socket, "welcome")
        assert [seat["seat"] for seat in welcome["seats"]] == ["seat1", "seat2"]
        assert welcome["demo"] is True
        assert welcome["stop_token"].startswith("stop.")
        expected: int | None = None
        for _ in range(60):
            message = await next_of(socket, "chunk")
            magic, version, index, n_channels, _, n_samples, first, t0_s = HEADER.unpack_from(message)
            assert (magic, version, n_channels, n_samples) == (b"EEGC", 1, 8, 5)
            assert t0_s == pytest.approx(first / 250.0)
            if index != 0:
                continue
            samples = np.frombuffer(message, "<f4", offset=HEADER.size).reshape(n_samples, n_channels)
            assert np.array_equal(samples, (np.arange(first, first + 5)[:, None] + np.arange(8)[None, :] / 1000).astype("f4"))
            assert expected in (None, first)
            expected = first + n_samples


async def test_state_comes_at_least_twice_a_second(web: WebProcess) -> None:
    async with page(web, demo_tokens(web)["token"]) as socket:
        await next_of(socket, "state")
        started = time.monotonic()
        for _ in range(8):
            state = await next_of(socket, "state", 1.0)
        assert time.monotonic() - started < 4.0
        assert state["daemon"]["connected"] is True
        assert state["seats"][0]["output"]["confirmed_ma"] == 0.99
        assert abs(state["server_t_s"] - time.monotonic()) < 1.0
        assert (await next_of(socket, "decision"))["sentence"] == "Alpha above target: less."


@pytest.mark.parametrize(("behavior", "confirmed"), [("confirm", True), ("deny", False), ("hang up", None), ("garbage", None)])
async def test_stop_tells_what_the_device_confirmed(
    web: WebProcess, layout: Layout, behavior: str, confirmed: bool | None
) -> None:
    tokens = demo_tokens(web)
    async with StopSocket(layout.stop_socket("seat1"), behavior) as stop, page(web, tokens["token"]) as socket:
        await socket.send(json.dumps({"type": "stop", "seat": "seat1", "id": "s1"}))
        by_socket = await next_of(socket, "stop_result")
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{web.url}/api/v1/seats/seat1/stop", headers={"x-stop-token": tokens["stop_token"]})
        assert answer.status_code == 200
        assert by_socket["id"] == "s1"
        for result in (by_socket, answer.json()):
            assert result["seat"] == "seat1"
            assert result["confirmed"] is confirmed
            assert bool(result["advice"]) is (confirmed is not True)
        assert len(stop.reasons) == 2
        assert answer.json()["count"] == by_socket["count"] + 1


async def test_stop_without_an_interlock_is_unknown_and_quick(web: WebProcess) -> None:
    tokens = demo_tokens(web)
    started = time.monotonic()
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{web.url}/api/v1/seats/seat2/stop", headers={"x-stop-token": tokens["stop_token"]})
    assert time.monotonic() - started < 2.0
    assert answer.json()["confirmed"] is None
    assert "headset" in answer.json()["advice"]


async def test_stop_of_a_hanging_interlock_is_unknown_within_two_seconds(web: WebProcess, layout: Layout) -> None:
    tokens = demo_tokens(web)
    async with StopSocket(layout.stop_socket("seat1"), "silent"), httpx.AsyncClient(timeout=5) as client:
        started = time.monotonic()
        answer = await client.post(f"{web.url}/api/v1/seats/seat1/stop", headers={"x-stop-token": tokens["stop_token"]})
        assert time.monotonic() - started < 2.5
        assert answer.json()["confirmed"] is None


async def test_commands_reach_the_daemon_and_are_answered(web: WebProcess) -> None:
    async with page(web, demo_tokens(web)["token"]) as socket:
        asked = {
            "a": ("seat2", "start", True),
            "b": ("seat2", "rearm", False),
            "c": ("seat9", "start", False),
            "d": ("seat2", "raise", False),
        }
        for number, (seat, name, _) in asked.items():
            await socket.send(json.dumps({"type": "command", "seat": seat, "name": name, "id": number}))
        for _ in asked:
            result = await next_of(socket, "command_result")
            assert result["ok"] is asked[result["id"]][2], result
            assert bool(result["error"]) is not result["ok"]
        async with asyncio.timeout(3):
            while (await next_of(socket, "state"))["seats"][1]["phase"] != "baseline":
                pass


async def test_only_a_page_that_is_awake_supervises(web: WebProcess) -> None:
    """S13 end to end: daemon asks, page answers, daemon knows; a page that stays silent or answers wrongly does not count."""

    async def told(socket: ClientConnection) -> float:
        while (event := await next_of(socket, "event"))["name"] != "supervision":
            pass
        return float("inf") if event["text"] == "never" else float(event["text"])

    async with page(web, demo_tokens(web)["token"]) as socket:
        attempts: list[object] = [None, "x", "0" * 32, {}]
        for wrong in attempts:
            await next_of(socket, "challenge")
            await socket.send(json.dumps({"type": "supervise", "nonce": wrong}))
        assert await told(socket) > 1.5
        challenge = await next_of(socket, "challenge")
        await socket.send(json.dumps({"type": "supervise", "nonce": challenge["nonce"]}))
        async with asyncio.timeout(3):
            while await told(socket) > 0.9:
                pass
        await socket.send(json.dumps({"type": "supervise", "nonce": challenge["nonce"]}))  # an old nonce counts no more
        ages = [await told(socket) for _ in range(2)]
        assert ages[1] > ages[0] + 0.3


def _worst(state: dict[str, Any]) -> dict[str, Any]:
    seat: dict[str, Any] = state["seats"][0]
    return seat


async def test_a_frozen_daemon_makes_ages_grow_and_the_output_unknown(web: WebProcess, daemon: Process, layout: Layout) -> None:
    tokens = demo_tokens(web)
    async with page(web, tokens["token"]) as socket, StopSocket(layout.stop_socket("seat1")):
        await next_of(socket, "state")
        daemon.kill(signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            seen = []
            while time.monotonic() - frozen < 3.0:
                state = await next_of(socket, "state", 0.6)  # at least 2 Hz, come what may
                seen.append((time.monotonic() - frozen, _worst(state)))
            for after_s, seat in seen:
                if after_s > 1.5:
                    assert seat["output"]["confirmed_ma"] is None
                    assert seat["output"]["commanded_ma"] is None
                    assert seat["output"]["mode"] == "unknown"
                    assert seat["stream"]["status"] != "live"
                if after_s > 2.6:
                    assert seat["stream"]["status"] == "lost"
                    assert seat["phase"] == "unknown"
                    assert all(row["value"] is None for row in seat["biomarkers"])
                    assert seat["target"]["value"] is None
                    assert seat["alarms"][0]["priority"] == "high"
            ages = [seat["output"]["age_s"] for _, seat in seen]
            assert ages[-1] > 2.5
            assert ages[1:] == sorted(ages[1:])
            assert health(web)["status"] == "degraded"
            assert health(web)["seats"][0]["interlock"] == "unknown"
            # STOP does not need the daemon.
            await socket.send(json.dumps({"type": "stop", "seat": "seat1", "id": "x"}))
            assert (await next_of(socket, "stop_result"))["confirmed"] is True
            # A wish that nobody can fulfil is not left open.
            await socket.send(json.dumps({"type": "command", "seat": "seat1", "name": "start", "id": "y"}))
            assert (await next_of(socket, "command_result", 1))["ok"] is False
        finally:
            daemon.kill(signal.SIGCONT)
        async with asyncio.timeout(3):
            while _worst(await next_of(socket, "state"))["stream"]["status"] != "live":
                pass


async def test_a_page_that_does_not_read_loses_the_oldest_and_is_told(tmp_path: Path) -> None:
    """64 channels at 1 kHz: 13 MB/s of four seats, so that the kernel's buffers are full at once."""
    with data_directory(tmp_path) as layout:
        process = start_daemon(layout.data, "--seats", "4", "--channels", "64", "--rate", "2000")
        web = WebProcess(layout.data)
        try:
            tokens = demo_tokens(web)
            small = {"sock": _small_buffer_socket(web)}
            async with page(web, tokens["token"], max_queue=1, **small) as lazy, page(web, tokens["token"]) as keen:
                await next_of(lazy, "chunk")
                deadline = time.monotonic() + 3.2
                sequences: list[int] = []
                while time.monotonic() < deadline:  # the keen page is not slowed by the lazy one
                    header = HEADER.unpack_from(await next_of(keen, "chunk", 1.0))
                    if header[2] == 0:
                        sequences.append(header[4])
                assert np.all(np.diff(sequences) == 1)
                gap = await next_of(lazy, "gap", 10)
                while gap["seat"] is None:  # events were lost too
                    gap = await next_of(lazy, "gap", 10)
                assert gap["lost_samples"] == 40 * gap["lost_chunks"] > 0
                assert gap["where"] == "web"
                async with asyncio.timeout(10):  # it is back at the present, not seconds behind
                    while True:
                        state = await next_of(lazy, "state")
                        if time.monotonic() - state["server_t_s"] < 0.5:
                            break
        finally:
            web.end()
            process.end()


def _small_buffer_socket(web: WebProcess) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.connect(("127.0.0.1", web.port))
    sock.setblocking(False)
    return sock
