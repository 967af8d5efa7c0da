"""`eegloop verify`: recordings against their manifests, manifests against the audit trail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.audit import AuditTrail
from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from daemon.verify import verify_dataset
from eegloop.layout import Layout
from eegloop.signal import Chunk
from records.append import seal_of
from tests.record_stream import COLUMNS, SystemClock, grid_uv, hop, state, stream


def _record(data: Path, *, close: bool = True) -> None:
    layout = Layout(data)
    layout.create()
    trail = AuditTrail(layout.audit / "daemon.jsonl", SystemClock())
    writer = RecordWriter()
    recorder = SessionRecorder(
        writer, layout, "seat1", "virtual", "rest", stream(), COLUMNS, 50.0, {}, 0.0, SystemClock(), audit=trail, reserve_bytes=0
    )
    for i in range(100):
        recorder.chunk(i, Chunk(grid_uv(5 * i, 5, 8), 5 * i, i / 50, i / 50))
        recorder.biomarkers(hop(i + 1, 5 * i + 5, i / 50))
        recorder.stim(i, state(i))
    recorder.drain()
    if close:
        assert recorder.close(5)
    assert trail.close(5)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("recorded") / "data"
    _record(data)
    return data


@pytest.fixture
def data(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "data"))


def test_what_was_closed_and_left_alone_is_sound(data: Path) -> None:
    assert verify_dataset(data) == []
    assert verify_dataset(data / "recordings") == []
    assert verify_dataset(data / "audit" / "daemon.jsonl") == []


@pytest.mark.parametrize(
    "suffix",
    ["_eeg.eeg", "_eeg.vhdr", "_eeg.vmrk", "_eeg.json", "_events.tsv", "_channels.tsv", "_biomarkers.tsv", "_biomarkers.npy",
     "_decisions.tsv", "_stim.tsv", "_ticks.tsv", "_setup.json", "_biomarkers.json", "_manifest.json"],
)  # fmt: skip
@pytest.mark.parametrize("attack", ["flip first", "flip last", "cut", "grow", "remove"])
def test_every_file_is_covered(data: Path, suffix: str, attack: str) -> None:
    [path] = (data / "recordings").rglob(f"sub-*{suffix}")
    content = bytearray(path.read_bytes())
    if attack == "remove":
        path.unlink()
    else:
        if attack == "flip first":
            content[8] ^= 1
        elif attack == "flip last":
            content[-1] ^= 1
        elif attack == "cut":
            del content[-1]
        else:
            content += b"\0"
        path.write_bytes(content)
    findings = verify_dataset(data)
    assert any(f.level == "error" and path.name in f.path for f in findings), findings


def test_a_manifest_made_anew_after_a_change_is_found_by_the_chain(data: Path) -> None:
    [path] = (data / "recordings").rglob("*_eeg.eeg")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    [manifest] = (data / "recordings").rglob("*_manifest.json")
    body = json.loads(manifest.read_bytes())
    body["files"][str(path.relative_to(data / "recordings"))] = seal_of(path)
    manifest.write_text(json.dumps(body))
    [finding] = verify_dataset(data)
    assert finding.level == "error" and "audit trail" in finding.text


def test_a_removed_session_is_found(data: Path) -> None:
    shutil.rmtree(data / "recordings" / "sub-virtual")
    shutil.rmtree(data / "recordings" / "derivatives" / "eegloop" / "sub-virtual")
    assert {f.level for f in verify_dataset(data)} == {"error"}


def test_a_crash_is_said_honestly_and_is_no_error(tmp_path: Path) -> None:
    _record(tmp_path / "data", close=False)
    [finding] = verify_dataset(tmp_path / "data")
    assert finding.level == "notice" and "not closed" in finding.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', '{"files": {"../../etc/passwd": {}}}'])
def test_a_manifest_that_is_none_is_a_finding_not_a_traceback(data: Path, content: str) -> None:
    [manifest] = (data / "recordings").rglob("*_manifest.json")
    manifest.write_text(content)
    assert any(f.level == "error" for f in verify_dataset(data))


def test_nothing_there_is_one_clear_line(tmp_path: Path) -> None:
    [finding] = verify_dataset(tmp_path / "nowhere")
    assert str(finding) == f"error: {tmp_path / 'nowhere'}: there is no such file or directory"


def test_the_trail_tells_of_opening_and_closing(data: Path) -> None:
    events: Callable[[], list[str]] = lambda: [  # noqa: E731
        json.loads(line)["event"] for line in (data / "audit" / "daemon.jsonl").read_text().splitlines()
    ]
    assert events() == ["created", "recording_opened", "recording_closed"]
