"""BrainFlow's synthetic, playback and streaming boards, run for real."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from brainflow.board_shim import BoardShim

from drivers.sources import brainflow_session
from drivers.sources.brainflow import BrainflowSource, Settings, board_names, build, describe
from eegloop.errors import SourceError
from eegloop.signal import Chunk, SideChunk, SourceNews
from simulators.brain import Brain
from simulators.settings import BrainSettings

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(90)


class MachineTimes:
    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


def source(**settings: object) -> BrainflowSource:
    return build(Settings.model_validate(settings), MachineTimes())


async def read(
    items: AsyncIterator[Chunk | SideChunk | SourceNews],
    until: Callable[[list[Chunk], list[SourceNews]], bool],
    limit_s: float = 20.0,
    sides: list[SideChunk] | None = None,
):
    chunks: list[Chunk] = []
    news: list[SourceNews] = []

    async def collect() -> None:
        async for item in items:
            if isinstance(item, SideChunk):
                if sides is not None:
                    sides.append(item)
                continue
            (chunks if isinstance(item, Chunk) else news).append(item)  # type: ignore[arg-type]
            if until(chunks, news):
                return

    await asyncio.wait_for(collect(), limit_s)
    return chunks, news


def samples(n: int) -> Callable[[list[Chunk], list[SourceNews]], bool]:
    return lambda chunks, _: sum(c.n_samples for c in chunks) >= n


async def test_synthetic_board() -> None:
    async with source(board="SYNTHETIC_BOARD") as board:
        assert board.info.channels[:3] == ("Fz", "C3", "Cz") and board.info.n_channels == 16
        chunks, news = await read(board.chunks(), samples(500))
        assert board.clock_state.lost_samples == 0
    assert news[0].kind == "connected"
    assert all(c.data_uv.dtype == np.float32 and c.data_uv.shape[1] == 16 for c in chunks)
    assert chunks[-1].end_sample == sum(c.n_samples for c in chunks)
    assert max(c.n_samples for c in chunks) <= 5
    assert all(a.end_sample == b.first_sample and b.t0_s > a.t0_s for a, b in pairwise(chunks))


@pytest.mark.parametrize("when", ["at once", "while it sends"])
async def test_whatever_ends_its_thread_ends_the_source_with_an_error_and_it_can_be_entered_again(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A failure that nobody foresaw, where BrainFlow's data are read or the board is made."""
    place, name = (brainflow_session, "_board") if when == "at once" else (brainflow_session.Session, "_delivery")
    right = getattr(place, name)

    def breaks(*arguments: object) -> None:
        raise IndexError("row 40 of 32")

    board = source(board="SYNTHETIC_BOARD")
    monkeypatch.setattr(place, name, breaks)
    with pytest.raises(SourceError, match="SYNTHETIC_BOARD: IndexError: row 40 of 32"):
        async with asyncio.timeout(15), board:
            await read(board.chunks(), samples(1), 10.0)
    monkeypatch.setattr(place, name, right)
    async with board:
        chunks, _ = await read(board.chunks(), samples(50))
    assert sum(c.n_samples for c in chunks) >= 50


async def test_playback_board_plays_a_file_exactly_and_ends(tmp_path: Path) -> None:
    """A file in BrainFlow's format, with a hole of ten packets in the counter."""
    counts = np.delete(np.arange(300), np.arange(150, 160))
    rows = np.zeros((32, len(counts)))
    rows[0] = counts % 256
    rows[1:17] = counts + np.arange(16)[:, None] * 1000.0
    rows[30] = 1.7e9 + counts / 250
    path = tmp_path / "board.csv"
    np.savetxt(path, rows.T, fmt="%.6f", delimiter="\t")
    async with source(board="PLAYBACK_FILE_BOARD", master_board="SYNTHETIC_BOARD", file=str(path)) as board:
        chunks, news = await read(board.chunks(), lambda _, news: any(n.kind == "ended" for n in news))
    data = np.concatenate([c.data_uv for c in chunks])
    assert np.array_equal(data[:, 3], rows[4, : len(data)].astype(np.float32)) and len(data) >= 289
    assert [c.lost_samples for c in chunks if c.lost_samples] == [10]
    assert news[-1].kind == "ended"


def athena_files(folder: Path, seconds: float) -> dict[str, str]:
    """A Muse S Athena's three presets in BrainFlow's format, counting up; 5 optical packets are missing."""
    files = {}
    for preset, key in enumerate(("file", "file_aux", "file_anc")):
        said = BoardShim.get_board_descr(67, preset)
        count = np.arange(round(seconds * said["sampling_rate"]))
        if preset == 2:
            count = np.delete(count, np.arange(100, 105))
        rows = np.zeros((said["num_rows"], len(count)))
        for row in range(said["num_rows"]):
            rows[row] = count + 1000 * row
        rows[said["package_num_channel"]] = count % 256
        rows[said["timestamp_channel"]] = 1.7e9 + count / said["sampling_rate"]
        if "battery_channel" in said:
            rows[said["battery_channel"]] = 12.0
        path = folder / f"{key}.csv"
        np.savetxt(path, rows.T, fmt="%.6f", delimiter="\t")
        files[key] = str(path)
    return files


async def test_every_preset_is_a_stream_of_its_own_rate(tmp_path: Path) -> None:
    """The three presets of a Muse S Athena from files: EEG 256 Hz, motion 52 Hz, optics 64 Hz, and its battery."""
    files = athena_files(tmp_path, 6.0)
    sides: list[SideChunk] = []
    async with source(board="PLAYBACK_FILE_BOARD", master_board="MUSE_S_ATHENA_BOARD", **files) as board:
        chunks, news = await read(board.chunks(), lambda _, news: any(n.kind == "ended" for n in news), sides=sides)
        states = board.side_clock_states
    assert board.info.channels == ("TP9", "AF7", "AF8", "TP10")
    by_name = {name: [s for s in sides if s.stream == name] for name in {s.stream for s in sides}}
    motion, optics = by_name["auxiliary"], by_name["ancillary"]
    assert motion[0].channels == ("accel1", "accel2", "accel3", "gyro1", "gyro2", "gyro3") and motion[0].sample_rate_hz == 52.0
    assert optics[0].channels == tuple(f"optical{i}" for i in range(1, 17)) and optics[0].sample_rate_hz == 64.0
    rows = np.concatenate([s.data for s in motion])
    assert len(rows) >= 5.5 * 52 and np.array_equal(rows[:, 0], 1000.0 + np.arange(len(rows)))
    rows = np.concatenate([s.data for s in optics])
    kept = np.delete(np.arange(6 * 64), np.arange(100, 105))
    assert np.array_equal(rows[:, 2], 3000.0 + kept[: len(rows)])
    assert states["auxiliary"].rate_hz == pytest.approx(52.0, rel=0.02)
    battery = [n for n in news if n.kind == "battery"]
    assert len(battery) == 1 and battery[0].data == {"percent": 12.0} and "charge the headset" in battery[0].text
    assert sum(c.n_samples for c in chunks) >= 5.5 * 256


async def test_contact_of_a_board_that_measures_it(tmp_path: Path) -> None:
    said = BoardShim.get_board_descr(1)
    count = np.arange(400)
    rows = np.zeros((said["num_rows"], len(count)))
    rows[said["timestamp_channel"]] = 1.7e9 + count / 200
    for i, row in enumerate(said["resistance_channels"]):
        rows[row] = 5_000.0 * (i + 1)
    np.savetxt(tmp_path / "g.csv", rows.T, fmt="%.6f", delimiter="\t")
    wanted = {"board": "PLAYBACK_FILE_BOARD", "master_board": "GANGLION_BOARD", "channels": ("Fp1", "Fp2", "O1", "O2")}
    async with source(**wanted, file=str(tmp_path / "g.csv")) as board:
        _, news = await read(board.chunks(), lambda _, news: any(n.kind == "impedance" for n in news))
    expected = {"Fp1_kohm": 5.0, "Fp2_kohm": 10.0, "O1_kohm": 15.0, "O2_kohm": 20.0, "REF_kohm": 25.0}
    assert news[-1].data == expected and "O2 20 kΩ" in news[-1].text


async def cyton(link: Path, *options: str) -> asyncio.subprocess.Process:
    """An emulated Cyton; `link` points to its terminal, as /dev/serial/by-id does."""
    board = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.cyton", *options, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert board.stdout is not None
    path = (await board.stdout.readline()).decode().strip()
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return board


async def test_cyton_on_its_true_wire_with_losses_and_its_cable_pulled(tmp_path: Path) -> None:
    """The Cyton's own protocol on a pseudo-terminal through BrainFlow's driver; the terminal closed and opened again."""
    link = tmp_path / "dongle"
    boards = [await cyton(link, "--lose", "300:40")]
    sides: list[SideChunk] = []
    try:
        async with source(board="CYTON_BOARD", serial_port=str(link), lost_after_s=0.5) as board:
            items = board.chunks()
            chunks, _ = await read(items, samples(500), sides=sides)
            assert [(c.lost_samples, c.first_sample) for c in chunks if c.lost_samples] == [(40, 340)]  # exact, by the counter
            data = np.concatenate([c.data_uv for c in chunks])
            truth = Brain(BrainSettings(sample_rate_hz=250.0, montage=board.info.channels, seed=1)).advance(340 + len(data))
            kept = np.delete(np.arange(340 + len(data)), np.arange(300, 340))[: len(data)]
            assert np.abs(data - truth[kept]).max() <= 0.0224  # one count is 0.0224 µV
            assert sides[0].channels[:3] == ("accel1", "accel2", "accel3")
            boards[0].kill()
            await boards[0].wait()
            pulled_s = time.monotonic()
            _, news = await read(items, lambda _, news: any(n.kind == "lost" for n in news))
            assert (
                time.monotonic() - pulled_s < 5.0 and news[-1].text == "The headset stopped sending. Check that its light is on."
            )
            boards.append(await cyton(link))
            again, news = await read(items, samples(100), limit_s=40.0)
        assert [n.kind for n in news if n.kind in ("lost", "restarted", "connected")] == ["restarted", "connected"]
        assert again[0].segment == chunks[-1].segment + 1 and again[0].lost_samples > 0
    finally:
        for one in boards:
            if one.returncode is None:
                one.kill()
                await one.wait()


SENDER = """
import time
from drivers.sources.brainflow_library import library
library = library()
board = library.BoardShim(-1, library.BrainFlowInputParams())
board.prepare_session()
board.add_streamer("streaming_board://225.1.1.1:16677")
board.start_stream(45000)
time.sleep(60)
"""


async def test_streaming_board_hears_a_board_in_another_process_and_again_after_its_restart() -> None:
    wanted = {"board": "STREAMING_BOARD", "master_board": "SYNTHETIC_BOARD", "ip_address": "225.1.1.1", "ip_port": 16677}
    senders = [await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, cwd=ROOT)]
    try:
        async with source(**wanted, lost_after_s=0.5) as board:
            items = board.chunks()
            chunks, _ = await read(items, samples(250))
            assert board.clock_state.lost_samples == 0
            senders[0].kill()
            await senders[0].wait()
            _, news = await read(items, lambda _, news: any(n.kind == "lost" for n in news))
            assert news[-1].text == "The headset stopped sending. Check that its light is on."
            senders.append(await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, cwd=ROOT))
            again, news = await read(items, samples(100), limit_s=40.0)
        assert [n.kind for n in news if n.kind in ("lost", "restarted", "connected", "ended")] == ["restarted", "connected"]
        assert again[0].segment == chunks[-1].segment + 1 and again[0].lost_samples > 0
    finally:
        for sender in senders:
            if sender.returncode is None:
                sender.kill()
                await sender.wait()


async def test_wrong_boards_get_one_clear_line() -> None:
    for settings, expected in (
        ({"board": "CYTN_BOARD"}, "did you mean CYTON_BOARD"),
        ({"board": "CYTON_BOARD", "serial_port": "/dev/absent"}, "serial_port"),
        ({"board": "CYTON_BOARD"}, "parameter is missing"),
        ({"board": "GANGLION_BOARD"}, "add channels: [...] with 4 names"),
        ({"board": "GANGLION_BOARD", "channels": ["A"]}, "4 EEG channels, but 1"),
        ({"board": "STREAMING_BOARD"}, "needs master_board"),
        ({"board": "PLAYBACK_FILE_BOARD", "master_board": "SYNTHETIC_BOARD", "file": "/absent"}, "cannot be opened"),
    ):
        with pytest.raises(SourceError, match="BrainFlow") as caught:
            async with source(**settings):
                pass
        assert expected in str(caught.value).replace("\\", "") and "\n" not in str(caught.value)


def test_boards_without_names_are_known() -> None:
    names = board_names()
    assert {"CYTON_BOARD", "MUSE_S_BOARD", "SYNTHETIC_BOARD"} <= set(names)
    assert describe("CYTON_BOARD")["sampling_rate"] == 250
