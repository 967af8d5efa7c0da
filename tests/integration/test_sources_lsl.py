"""Our LSL inlet against real outlets in processes of their own: exact samples, exact choice, nothing silently replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.sources.lsl import LslSource, Settings, build
from eegloop.errors import SourceError
from eegloop.signal import Chunk, SourceNews

pytestmark = pytest.mark.timeout(90)
ROOT = Path(__file__).resolve().parents[2]

# A sender: sample k holds k on channel 0 and k + c on channel c, in the stream's unit. One JSON object of options.
OUTLET = """
import json, sys, time, numpy as np, pylsl
o = dict(type="EEG", n=4, rate=250.0, chunk=5, unit="microvolts", factor=1.0, format="float32")
o.update(source_id="s1", labels=None, nan=0, twice=0, swap=0, step_at=0, step_s=0.0)
o.update(json.loads(sys.argv[1]))
info = pylsl.StreamInfo(o["name"], o["type"], o["n"], o["rate"], o["format"], o["source_id"])
channels = info.desc().append_child("channels")
for i in range(o["n"]):
    channel = channels.append_child("channel")
    channel.append_child_value("label", (o["labels"] or ["Fp1", "EOG1", "Cz", "AUX"])[i % 4])
    channel.append_child_value("type", o["type"])
    if i < o.get("contact", 0):
        channel.append_child_value("impedance", str(5.0 + i))
    if o["unit"] is not None:
        channel.append_child_value("unit", o["unit"])
info.desc().append_child("reference").append_child_value("label", "A1")
acquisition = info.desc().append_child("acquisition")
acquisition.append_child_value("manufacturer", "eegloop tests")
acquisition.append_child_value("full_scale", "187500")
outlet = pylsl.StreamOutlet(info)
print("ready", flush=True)
k, start, held = 0, pylsl.local_clock(), None
while True:
    k += o["chunk"]
    due = start + k / o["rate"]
    time.sleep(max(0.0, due - pylsl.local_clock()))
    if pylsl.local_clock() - due > 1.0:  # we were stopped: what a headset had to say meanwhile is gone
        k += int((pylsl.local_clock() - due) * o["rate"])
        due = start + k / o["rate"]
    rows = np.arange(k - o["chunk"], k)[:, None] + np.arange(o["n"])[None, :]
    data = rows * o["factor"]
    if o["nan"]:
        data = np.where(rows % o["nan"] == 0, np.nan, data)
    data, number = data.astype(o["format"].replace("double64", "float64")), k // o["chunk"]
    stamp = due + (o["step_s"] if o["step_at"] and k >= o["step_at"] else 0.0)
    if o["swap"] and number > 1000 and number % o["swap"] == 0:
        held = (data, stamp)
        continue
    outlet.push_chunk(data, stamp)
    if held is not None:
        outlet.push_chunk(*held)
        held = None
    if o["twice"] and number % o["twice"] == 0:
        outlet.push_chunk(data, stamp)
"""


class MonotonicClock:
    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(**options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", OUTLET, json.dumps(options)], stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ready(*senders: subprocess.Popen[str]) -> None:
    for sender in senders:
        assert sender.stdout is not None and sender.stdout.readline() == "ready\n"


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


def source(**settings: object) -> LslSource:
    return build(Settings.model_validate({"wait_s": 20.0, **settings}), MonotonicClock())


async def read(
    items: AsyncIterator[Chunk | SourceNews], until: Callable[[list[Chunk], list[SourceNews]], bool], limit_s: float = 20.0
):
    chunks: list[Chunk] = []
    news: list[SourceNews] = []

    async def collect() -> None:
        async for item in items:
            (chunks if isinstance(item, Chunk) else news).append(item)  # type: ignore[arg-type]
            if until(chunks, news):
                return

    try:
        await asyncio.wait_for(collect(), limit_s)
    except TimeoutError:
        pytest.fail(f"not within {limit_s} s; chunks {len(chunks)}, news {news}")
    return chunks, news


def samples(n: int) -> Callable[[list[Chunk], list[SourceNews]], bool]:
    return lambda chunks, _: sum(c.n_samples for c in chunks) >= n


def consecutive(chunks: list[Chunk]) -> None:
    end = chunks[0].first_sample - chunks[0].lost_samples
    for chunk in chunks:
        assert chunk.data_uv.dtype == np.float32
        assert chunk.first_sample == end + chunk.lost_samples
        end = chunk.end_sample


async def test_samples_are_exact_and_the_header_is_read(start: Start, name: str) -> None:
    start(name=name, unit="V", factor=1e-6, format="double64")
    async with source(name=name) as inlet:
        assert inlet.info.channels == ("Fp1", "EOG1", "Cz", "AUX")
        assert inlet.info.kinds == ("eeg", "eog", "eeg", "misc")
        assert (inlet.info.reference, inlet.info.manufacturer, inlet.info.full_scale_uv) == ("A1", "eegloop tests", 187500.0)
        chunks, news = await read(inlet.chunks(), samples(500))
    consecutive(chunks)
    data = np.concatenate([c.data_uv for c in chunks])
    first = round(float(data[0, 0]))
    assert np.array_equal(data[:, 0], np.arange(first, first + len(data), dtype=np.float32))
    assert np.array_equal(data[:, 2], data[:, 0] + 2)
    assert np.allclose(data[:, 3], (data[:, 0] + 3) * 1e-6)  # AUX is no voltage: passed on as it came
    assert max(c.n_samples for c in chunks) <= 8
    assert news[0].kind == "connected"
    gaps = np.diff([c.t0_s for c in chunks]) - np.array([c.n_samples for c in chunks[:-1]]) / 250
    assert np.abs(gaps).max() < 0.004


async def test_units_and_nan(start: Start, name: str) -> None:
    start(name=f"{name}-nv", unit="nanovolts", factor=1000.0, nan=50)
    start(name=f"{name}-none", unit=None)
    async with source(name=f"{name}-nv") as inlet:
        chunks, _ = await read(inlet.chunks(), samples(200))
    data = np.concatenate([c.data_uv for c in chunks])
    index = np.arange(len(data)) + chunks[0].first_sample
    base = np.round(data[~np.isnan(data[:, 0])][0, 0] - index[~np.isnan(data[:, 0])][0])
    assert np.isnan(data[:, 0]).sum() >= 3
    assert np.array_equal(data[:, 0], np.where((index + base) % 50 == 0, np.nan, index + base).astype(np.float32), equal_nan=True)
    with pytest.raises(SourceError, match=r"channel Fp1 has no unit; set unit:"):
        async with source(name=f"{name}-none"):
            pass
    async with source(name=f"{name}-none", unit="mV") as inlet:
        chunks, _ = await read(inlet.chunks(), samples(20))
    assert np.all(chunks[0].data_uv[:, 0] % 1000 == 0)


async def test_the_stream_is_chosen_exactly(start: Start, name: str) -> None:
    eeg = start(name=name, source_id="twin", type="EEG")
    acc = start(name=name, source_id="twin", type="ACC", n=3, rate=52.0, chunk=1)  # as muse-lsl: one source_id for all
    ready(eeg, acc, start(name=f"{name}-b", source_id=f"{name}-id"))
    async with source(name=name) as inlet:
        assert inlet.info.sample_rate_hz == 250.0 and inlet.header.type == "EEG"
    with pytest.raises(SourceError) as several:
        async with source(name=name, type=None):
            pass
    assert "2 streams match" in str(several.value) and "type ACC" in str(several.value) and "type EEG" in str(several.value)
    async with source(source_id=f"{name}-id") as inlet:
        assert inlet.info.name == f"{name}-b"
    async with source(predicate=f"name='{name}' and type='EEG'") as inlet:
        assert inlet.info.name == name
    began = time.monotonic()
    with pytest.raises(SourceError) as none:
        async with source(name=f"{name}-absent", wait_s=1.5):
            pass
    assert time.monotonic() - began < 10
    assert "no stream matches" in str(none.value) and f"{name}-b" in str(none.value)


async def test_a_killed_sender_comes_back_as_a_new_segment_with_its_hole(start: Start, name: str) -> None:
    first = start(name=name)
    async with source(name=name) as inlet:
        items = inlet.chunks()
        before, _ = await read(items, samples(250))
        first.kill()
        first.wait()
        last, lost = await read(items, lambda _, news: any(n.kind == "lost" for n in news))
        before += last  # what was under way
        assert lost[-1].text == "The headset stopped sending. Check that its light is on."
        start(name=name)
        after, news = await read(items, samples(250))
    assert [n.kind for n in news][-2:] == ["restarted", "connected"]
    consecutive(after)
    hole = after[0]
    assert hole.segment == before[-1].segment + 1
    expected = (hole.t0_s - before[-1].t0_s) * 250 - before[-1].n_samples
    assert hole.lost_samples > 0 and abs(hole.lost_samples - expected) <= 15  # the old grid is known to within its first second
    assert float(after[0].data_uv[0, 0]) < 3000  # the new sender counts from 0: these are its samples


async def test_a_sender_that_changed_is_not_taken_back(start: Start, name: str) -> None:
    first = start(name=name)
    async with source(name=name) as inlet:
        items = inlet.chunks()
        await read(items, samples(50))
        first.kill()
        first.wait()
        other = start(name=name, source_id=f"{name}-other")  # the same name and shape, but nobody's own source_id: never taken
        ready(other)
        await read(items, lambda _, news: any(n.kind == "lost" for n in news))
        waiting = asyncio.ensure_future(anext(items))
        taken, _ = await asyncio.wait({waiting}, timeout=3.0)
        assert not taken
        other.kill()
        other.wait()
        changed = start(name=name, labels=["Fp2", "EOG1", "Cz", "AUX"])
        warning = await asyncio.wait_for(waiting, 20.0)
        assert isinstance(warning, SourceNews) and "came back different" in warning.text and "Fp2" in warning.text
        changed.kill()
        changed.wait()
        start(name=name)
        chunks, _ = await read(items, samples(20), limit_s=40)
    assert chunks[0].segment == 1


async def test_senders_that_repeat_and_whose_clock_is_set(start: Start, name: str) -> None:
    """Samples that come twice are left out; a clock set an hour off, either way, is a new segment with nothing lost."""
    senders = [
        start(name=f"{name}-twice", twice=3),
        start(name=f"{name}-ahead", step_at=800, step_s=3600.0),
        start(name=f"{name}-back", step_at=800, step_s=-3600.0),
    ]
    ready(*senders)

    async def listen(which: str) -> tuple[list[Chunk], LslSource]:
        async with source(name=f"{name}-{which}", wait_s=60.0) as inlet:
            wanted = lambda chunks, _: bool(chunks) and float(chunks[-1].data_uv[-1, 0]) >= 1300  # noqa: E731
            chunks, _ = await read(inlet.chunks(), wanted, limit_s=40.0)
        return chunks, inlet

    (twice, repeated), (ahead, _), (back, _) = await asyncio.gather(*(listen(which) for which in ("twice", "ahead", "back")))
    for chunks in (twice, ahead, back):
        values = np.concatenate([c.data_uv[:, 0] for c in chunks])
        assert np.array_equal(np.diff(values), np.ones(len(values) - 1)) and not any(c.lost_samples for c in chunks)
        consecutive(chunks)
        assert all(-0.05 < c.arrival_s - c.t0_s < 2.0 for c in chunks)  # this machine's time, whatever the sender says
    assert repeated.clock_state.duplicates > 200 and {c.segment for c in twice} == {0}
    assert {c.segment for c in ahead} == {c.segment for c in back} == {0, 1}


MARKERS = """
import sys, time, pylsl
info = pylsl.StreamInfo(sys.argv[1], "Markers", 1, 0, "string", "m1")
outlet = pylsl.StreamOutlet(info)
print("ready", flush=True)
k = 0
while True:
    outlet.push_sample([f"press {k}"], pylsl.local_clock())
    k += 1
    time.sleep(0.1)
"""


async def test_markers_of_another_stream_and_contact_from_the_header(start: Start, name: str) -> None:
    command = [sys.executable, "-c", MARKERS, f"{name}-m"]
    senders = [await asyncio.to_thread(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))]
    start(name=name, contact=2)
    try:
        async with source(name=name, markers=f"{name}-m") as inlet:
            items = inlet.chunks()
            marked = lambda _, news: sum(n.kind == "marker" for n in news) >= 5  # noqa: E731
            _, news = await read(items, marked)
            contact = next(n for n in news if n.kind == "impedance")
            assert contact.data == {"Fp1_kohm": 5.0, "EOG1_kohm": 6.0} and "Fp1 5 kΩ" in contact.text
            marks = [n for n in news if n.kind == "marker"]
            first = int(marks[0].text.removeprefix("press "))
            assert [n.text for n in marks] == [f"press {first + i}" for i in range(len(marks))]
            assert all(0.0 <= time.monotonic() - n.t_s < 20.0 for n in marks) and marks[0].data == {"kind": f"{name}-m"}
            senders[0].kill()
            _, news = await read(items, lambda _, news: any("is gone" in n.text for n in news))
            assert not any(n.kind == "lost" for n in news)  # the EEG goes on
            senders.append(await asyncio.to_thread(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
            chunks, _ = await read(items, lambda _, news: any(n.kind == "marker" for n in news), limit_s=30.0)
            assert chunks and all(c.segment == 0 for c in chunks)
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()
            assert sender.stdout is not None
            sender.stdout.close()


async def test_a_frozen_sender_is_noticed_and_its_gap_counted(start: Start, name: str) -> None:
    sender = start(name=name)
    async with source(name=name, lost_after_s=0.5) as inlet:
        items = inlet.chunks()
        before, _ = await read(items, samples(300))
        os.kill(sender.pid, signal.SIGSTOP)
        _, news = await read(items, lambda _, news: any(n.kind == "lost" for n in news))
        assert time.monotonic() - float(news[-1].data["last_sample_s"]) < 5
        await asyncio.sleep(1.0)  # a stand-still longer than any burst
        os.kill(sender.pid, signal.SIGCONT)
        chunks, news = await read(items, samples(300))
    assert news[0].kind == "connected"
    chunks = [*before, *chunks]
    consecutive(chunks)
    lost = sum(c.lost_samples for c in chunks)
    values = np.concatenate([c.data_uv[:, 0] for c in chunks])
    missing = int(np.diff(values).max()) - 1
    assert lost == missing >= 250
    assert {c.segment for c in chunks} == {0}


PLAYER = """
import sys, time
from mne_lsl.player import PlayerLSL
player = PlayerLSL(sys.argv[1], chunk_size=10, name=sys.argv[2], source_id="player")
player.start()
print("ready", flush=True)
time.sleep(60)
"""


async def test_a_recording_through_the_mne_lsl_player(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(5).normal(0, 40, (5000, 3)).astype(np.float32)
    data.tofile(tmp_path / "p.eeg")
    (tmp_path / "p.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\nDataFile=p.eeg\n"
        "DataFormat=BINARY\n"
        "DataOrientation=MULTIPLEXED\nNumberOfChannels=3\nSamplingInterval=4000\n\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n"
        "[Channel Infos]\nCh1=Fp1,,1,µV\nCh2=Cz,,1,µV\nCh3=O2,,1,µV\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-c", PLAYER, str(tmp_path / "p.vhdr"), name]
    player = await asyncio.to_thread(
        lambda: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    )
    try:
        assert player.stdout is not None
        while player.stdout.readline() not in ("ready\n", ""):
            pass
        async with source(name=name) as inlet:
            assert inlet.info.channels == ("Fp1", "Cz", "O2")
            chunks, _ = await read(inlet.chunks(), samples(500))
    finally:
        player.kill()
        player.wait()
        assert player.stdout is not None
        player.stdout.close()
    got = np.concatenate([c.data_uv for c in chunks])
    at = int(np.flatnonzero((data == got[0]).all(axis=1))[0])
    assert np.array_equal(got, np.take(data, np.arange(at, at + len(got)), axis=0, mode="wrap"))
    assert sum(c.lost_samples for c in chunks) == 0


def test_on_this_machine_alone_every_one_of_several_senders_is_seen(tmp_path: Path, name: str) -> None:
    """Of outlets that share the machine only one hears what is sent to its loopback address; each process as it comes, unconfigured."""
    environment = {k: v for k, v in os.environ.items() if k != "LSLAPICFG"} | {"HOME": str(tmp_path)}
    send = (
        "import pylsl, sys, time\n"
        "made = [pylsl.StreamOutlet(pylsl.StreamInfo(sys.argv[1] + str(i), 'EEG', 1, 250, 'float32', 'alike')) for i in range(4)]\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    look = (
        "import sys; from drivers.sources.lsl_network import configure; assert configure('machine')\n"
        "from drivers.sources.lsl_inlet import list_streams\n"
        "print(sorted({s.name for s in list_streams(3.0) if s.name.startswith(sys.argv[1])}))"
    )
    asked: dict[str, Any] = {"env": environment, "cwd": ROOT, "text": True, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", send, name], stdin=subprocess.PIPE, **asked) as sender:
        try:
            assert sender.stdout is not None and sender.stdout.readline() == "ready\n"
            found = subprocess.run([sys.executable, "-c", look, name], check=True, timeout=30, **asked)
            assert found.stdout.strip() == str([f"{name}{i}" for i in range(4)])
        finally:
            sender.kill()
