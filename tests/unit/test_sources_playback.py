"""A file as a live stream: exact, in time, with its gaps and markers, and an end."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.sources.playback import Settings, build
from eegloop.errors import SourceError
from eegloop.signal import Chunk, SourceNews


class MachineTimes:
    def boot_ns(self) -> int:
        return time.monotonic_ns()

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Path, np.ndarray]:
    data = np.random.default_rng(0).normal(0, 20, (200, 2)).astype(np.float32)
    data[50:60] = np.nan
    data.tofile(tmp_path / "r.eeg")
    (tmp_path / "r.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=r.eeg\nMarkerFile=r.vmrk\n"
        "DataFormat=BINARY\n"
        "DataOrientation=MULTIPLEXED\nNumberOfChannels=2\nSamplingInterval=4000\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n"
        "[Channel Infos]\nCh1=Fp1,,1,uV\nCh2=Cz,,1,uV\n"
    )
    (tmp_path / "r.vmrk").write_text("[Marker Infos]\nMk1=Comment,hello,101,1,0\n")
    return tmp_path / "r.vhdr", data


async def play(**settings: object) -> tuple[list[Chunk], list[SourceNews]]:
    chunks: list[Chunk] = []
    news: list[SourceNews] = []
    async with build(Settings.model_validate(settings), MachineTimes()) as source:
        async for item in source.chunks():
            if isinstance(item, Chunk):
                chunks.append(item)
            else:
                news.append(item)
            if len(chunks) > 100:
                break
    return chunks, news


@pytest.mark.parametrize("speed", [0.0, 1.0, 20.0])
async def test_samples_gaps_markers_and_end(recording: tuple[Path, np.ndarray], speed: float) -> None:
    path, data = recording
    began = time.monotonic()
    chunks, news = await play(file=str(path), speed=speed)
    took = time.monotonic() - began
    assert np.array_equal(np.concatenate([c.data_uv for c in chunks]), data[~np.isnan(data[:, 0])])
    assert [(c.first_sample, c.lost_samples) for c in chunks if c.lost_samples] == [(60, 10)]
    assert max(c.n_samples for c in chunks) == 5
    assert [n.kind for n in news] == ["marker", "ended"]
    assert news[0].text == "hello" and news[0].t_s == pytest.approx(chunks[0].t0_s + 100 / 250)
    assert np.allclose([c.t0_s - chunks[0].t0_s for c in chunks], [c.first_sample / 250 for c in chunks], atol=1e-9)
    if speed == 1.0:
        assert took >= 0.79
        assert all(c.arrival_s >= c.t0_s + c.n_samples / 250 for c in chunks)


async def test_loop_is_a_new_segment(recording: tuple[Path, np.ndarray]) -> None:
    chunks, _ = await play(file=str(recording[0]), speed=0.0, loop=True)
    second = next(c for c in chunks if c.segment == 1)
    assert second.first_sample == 200 and second.lost_samples == 0
    assert np.array_equal(second.data_uv, chunks[0].data_uv)


async def test_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        await play(file=str(tmp_path / "absent.vhdr"))
    for wrong in ({"file": "x", "speed": 0.05}, {"file": "x", "speed": -1.0}, {"file": ""}, {"file": "x", "sped": 1}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)
