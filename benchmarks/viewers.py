"""Chunk arrival → command sent to the interlock, with and without twenty viewers, recording on, MQTT on where a broker is installed.

    python -m benchmarks.viewers [--viewers 20] [--seconds 6] [--json]

The whole service runs as `eegloop demo` does, on a prescription that listens for long, so that it decides once a second; every
decision's row in `_decisions.tsv` holds its delay. Spans with and without viewers alternate, and medians of the spans are compared.
The viewers are one process at nice 19: they take every frame and draw nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from control.prescription import demo_prescription, sign
from daemon import build
from eegloop.layout import Layout

SPANS = 5
GOAL_RATIO = 1.5
GOAL_MS = 2.0 + 20.0  # and one chunk of the virtual headset
START_S = 90.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def broker(folder: Path) -> Iterator[str | None]:
    """A mosquitto of our own, by its URL; None where none is installed."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    port = _free_port()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([program, "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def service(folder: Path, broker_url: str | None) -> Iterator[tuple[str, Layout]]:
    """The demo on a signed prescription that senses for ten minutes; its address and its files."""
    layout = Layout(folder / "data")
    layout.create()
    now_s = time.time()
    listening = replace(demo_prescription("virtual", now_s), baseline_ms=5_000, stimulate_ms=5_000, sense_ms=600_000)
    signed = folder / "listening.json"
    signed.write_bytes(sign(listening, [build.demo_key(layout, now_s)]))
    root = Path(__file__).resolve().parent.parent
    body = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    body["seats"][0]["prescription"] = str(signed)
    body["mqtt"]["broker"] = broker_url
    configuration = folder / "config.yaml"
    configuration.write_text(yaml.safe_dump(body), encoding="utf-8")
    port = _free_port()
    command = [sys.executable, "-m", "daemon", "demo", "--config", str(configuration), "--data", str(layout.data)]
    process = subprocess.Popen([*command, "--port", str(port), "--no-browser"], stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "eegloop is live" in line:
                break
        yield f"http://127.0.0.1:{port}", layout
    finally:
        process.terminate()
        process.wait(15)
        shutil.rmtree(layout.run, ignore_errors=True)


def watch(address: str, viewers: int) -> None:
    """Twenty pages that take everything and draw nothing, until this process is ended."""
    from websockets.asyncio.client import connect

    os.nice(19)
    asked = urllib.request.Request(f"{address}/api/v1/demo/session", method="POST", headers={"origin": address})

    tokens = []
    for _ in range(viewers):
        with urllib.request.urlopen(asked) as answer:
            tokens.append(json.load(answer)["token"])

    waiting = set(tokens)

    async def page(token: str) -> None:
        url = address.replace("http", "ws", 1) + "/api/v1/live"
        async with connect(url, origin=address, max_size=None, compression=None) as live:  # type: ignore[arg-type]
            await live.send(json.dumps({"type": "hello", "token": token}))
            async for _ in live:
                if token in waiting:
                    waiting.remove(token)
                    if not waiting:
                        print("watching", flush=True)

    async def all_pages() -> None:
        await asyncio.gather(*map(page, tokens))

    asyncio.run(all_pages())


def delays_ms(layout: Layout) -> list[float]:
    """Every decision's delay so far."""
    found = sorted(layout.recordings.glob("derivatives/eegloop/sub-*/ses-*/eeg/*_decisions.tsv"))
    if not found:
        return []
    header, *rows = found[-1].read_text(encoding="utf-8").splitlines()
    at = header.split("\t").index("latency_ms")
    return [float(row.split("\t")[at]) for row in rows if row.split("\t")[at] != "n/a"]


def measure(viewers: int, seconds: float) -> tuple[list[list[float]], list[list[float]], bool]:
    """Delays of each span without and with viewers, ms; whether MQTT was on."""
    alone: list[list[float]] = []
    watched: list[list[float]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker_url = stack.enter_context(broker(folder))
        address, layout = stack.enter_context(service(folder, broker_url))
        until_s = time.monotonic() + START_S
        while len(delays_ms(layout)) < 5:
            if time.monotonic() > until_s:
                raise RuntimeError(f"no decisions within {START_S:g} s; see {layout.data / 'eegloop.log'}")
            time.sleep(0.5)
        for _ in range(SPANS):
            for spans, crowd in ((alone, 0), (watched, viewers)):
                pages = _pages(address, crowd)
                before = len(delays_ms(layout))
                time.sleep(seconds)
                spans.append(delays_ms(layout)[before:])
                if len(spans[-1]) < 0.5 * seconds:
                    raise RuntimeError(f"{len(spans[-1])} decisions in {seconds:g} s; see {layout.data / 'eegloop.log'}")
                if pages is not None:
                    if pages.poll() is not None:
                        raise RuntimeError("the viewers ended by themselves")
                    pages.kill()
                    pages.wait()
    return alone, watched, broker_url is not None


def _pages(address: str, viewers: int) -> subprocess.Popen[str] | None:
    if not viewers:
        return None
    command = [sys.executable, "-m", "benchmarks.viewers", "--watch", address, "--viewers", str(viewers)]
    pages = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert pages.stdout is not None
    if pages.stdout.readline().strip() != "watching":
        pages.kill()
        pages.wait()
        raise RuntimeError(f"{viewers} viewers could not connect to {address}")
    return pages


def rows(viewers: int = 20, seconds: float = 6.0) -> list[dict[str, str | float | bool | None]]:
    """The table's rows: 99th percentile without and with viewers, median with against without."""
    alone, watched, mqtt = measure(viewers, seconds)
    table: list[dict[str, str | float | bool | None]] = []
    for who, spans in (("no viewer", alone), (f"{viewers} viewers", watched)):
        delays = [x for span in spans for x in span]
        p99_ms = float(np.percentile(delays, 99))
        table.append(
            {
                "name": f"chunk arrival → command, {who}, MQTT {'on' if mqtt else 'not installed'}: 99 % of {len(delays)}, ms",
                "ours": round(p99_ms, 2),
                "reference": GOAL_MS,
                "ratio": round(p99_ms / GOAL_MS, 3),
                "goal": 1.0,
                "ok": p99_ms <= GOAL_MS,
            }
        )
    with_ms, without_ms = (statistics.median(map(statistics.median, spans)) for spans in (watched, alone))
    table.append(
        {
            "name": f"chunk arrival → command, median of {SPANS} spans' medians with {viewers} viewers and without, ms",
            "ours": round(with_ms, 2),
            "reference": round(without_ms, 2),
            "ratio": round(with_ms / without_ms, 3),
            "goal": GOAL_RATIO,
            "ok": with_ms <= GOAL_RATIO * without_ms,
        }
    )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description="How long a command waits, with and without viewers.")
    parser.add_argument("--viewers", type=int, default=20, help="pages that watch (default: 20)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a span (default: 6)")
    parser.add_argument("--json", action="store_true", help="print the row as JSON")
    parser.add_argument("--watch", metavar="ADDRESS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watch:
        watch(arguments.watch, arguments.viewers)
        return 0
    table = rows(arguments.viewers, arguments.seconds)
    if arguments.json:
        print(json.dumps(table, ensure_ascii=False))
    else:
        for row in table:
            print(f"{row['name']}: {row['ours']} ({row['reference']}; ratio {row['ratio']}, goal {row['goal']})")
    return 0 if all(row["ok"] for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
