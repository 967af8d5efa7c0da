"""The worked example of docs/bring-your-own-headset.md, run as it stands against a sender over TCP."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from eegloop.errors import SourceError
from eegloop.signal import Chunk, SourceNews

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bring-your-own-headset.md"
pytestmark = pytest.mark.timeout(60)


class MachineTimes:
    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    found = re.search(r"```python source\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    file = tmp_path / "example_source.py"
    file.write_text(found[1])
    spec = importlib.util.spec_from_file_location("example_source", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Headset:
    """The imaginary headset: sample k is `k % 256 k -k`; samples 300-309 are lost on the way."""

    def __init__(self) -> None:
        self.k = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        start_s, first = time.monotonic(), self.k
        try:
            while True:
                due = first + int((time.monotonic() - start_s) * 250)
                while self.k < due:
                    if not 300 <= self.k < 310:
                        writer.write(b"%d %d %d\n" % (self.k % 256, self.k, -self.k))
                    self.k += 1
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            return


async def read(items: AsyncIterator[Chunk | SourceNews], until: Callable[[list[Chunk], list[SourceNews]], bool]):
    chunks: list[Chunk] = []
    news: list[SourceNews] = []

    async def collect() -> None:
        async for item in items:
            (chunks if isinstance(item, Chunk) else news).append(item)  # type: ignore[arg-type]
            if until(chunks, news):
                return

    await asyncio.wait_for(collect(), 20.0)
    return chunks, news


async def test_it_reads_loses_and_comes_back(module: ModuleType) -> None:
    headset = Headset()
    server = await asyncio.start_server(headset.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = module.build(module.Settings(port=port, channels=("Fp1", "Fp2")), MachineTimes())
    async with server, source:
        assert source.info.channels == ("Fp1", "Fp2")
        items = source.chunks()
        chunks, _ = await read(items, lambda chunks, _: sum(c.n_samples for c in chunks) >= 500)
        values = np.concatenate([c.data_uv for c in chunks])
        index = np.concatenate([np.arange(c.first_sample, c.end_sample) for c in chunks])
        assert np.array_equal(values[:, 0] - values[0, 0], index) and np.array_equal(values[:, 1], -values[:, 0])
        assert sum(c.lost_samples for c in chunks) == 10
        headset.writers[0].transport.abort()
        chunks, news = await read(items, lambda chunks, _: sum(c.n_samples for c in chunks) >= 100)
        assert [n.kind for n in news] == ["lost", "connected"]
        assert chunks[-1].segment == 1
    server.close()


async def test_a_headset_that_is_off_is_one_line(module: ModuleType) -> None:
    source = module.build(module.Settings(port=1, channels=("Fp1",)), MachineTimes())
    with pytest.raises(SourceError, match="switch it on"):
        async with source:
            pass
    with pytest.raises(SourceError, match="not connected"):
        _ = source.info
