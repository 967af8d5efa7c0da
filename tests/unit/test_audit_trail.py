"""The audit trail: durable, chained, and every attack on it found."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon import audit
from daemon.audit import AuditTrail, Finding, canonical, head_path, read_chain, read_head, verify, verify_chain
from eegloop.errors import RecordingError
from tests.record_stream import SystemClock


def _trail(path: Path, count: int = 20) -> Path:
    trail = AuditTrail(path, SystemClock())
    for i in range(count):
        trail.append("decision", {"number": i, "granted_ma": i / 10, "sentence": "Alpha is 7.3 µV²"})
    assert trail.close(5)
    return path


def _errors(findings: list[Finding]) -> str:
    return "\n".join(f.text for f in findings if f.level == "error")


def _until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until, "waited 10 s in vain"
        time.sleep(0.005)


def test_the_format_is_the_contract(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl", 3)
    previous = "0" * 64
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4
    for n, line in enumerate(lines):
        body = json.loads(line)
        assert set(body) == {"n", "boot_ns", "wall_s", "event", "data", "prev", "hash"}
        assert body["n"] == n and body["prev"] == previous
        digest = body.pop("hash")
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert hashlib.sha256(text.encode()).hexdigest() == digest
        previous = digest
    assert json.loads(head_path(path).read_bytes()) == {"count": 4, "hash": previous}
    assert path.stat().st_mode & 0o077 == 0 and head_path(path).stat().st_mode & 0o077 == 0


def test_an_untouched_chain_has_no_findings_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = _trail(_trail(tmp_path / "daemon.jsonl"))
    assert verify(path) == []
    assert len(list(read_chain(path))) == 41
    assert [line["event"] for line in read_chain(path)].count("created") == 1


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl", 2)
    content = path.read_bytes()
    for at in range(len(content)):
        for mask in (0x01, 0x20):
            changed = bytearray(content)
            changed[at] ^= mask
            path.write_bytes(changed)
            assert _errors(verify_chain(path)), f"byte {at} ^ {mask:#x}"


def test_every_cut_tail_is_found(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl", 3)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert _errors(verify_chain(path)), length
        with pytest.raises(RecordingError, match="eegloop verify"):
            AuditTrail(path, SystemClock())


@pytest.mark.parametrize("attack", ["remove", "double", "swap", "behead"])
def test_lines_removed_doubled_or_moved_are_found(tmp_path: Path, attack: str) -> None:
    path = _trail(tmp_path / "daemon.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "remove": lines[:5] + lines[6:],
        "double": lines[:6] + lines[5:],
        "swap": [*lines[:5], lines[6], lines[5], *lines[7:]],
        "behead": lines[3:],
    }[attack]
    path.write_bytes(b"".join(changed))
    assert _errors(verify_chain(path))


def test_a_changed_line_with_its_own_hash_made_anew_is_found(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    body = json.loads(lines[7])
    body["data"]["granted_ma"] = 0.1
    del body["hash"]
    body["hash"] = hashlib.sha256(canonical(body)).hexdigest()
    lines[7] = canonical(body) + b"\n"
    path.write_bytes(b"".join(lines))
    [finding] = verify_chain(path)
    assert finding.line == 9 and "does not follow" in finding.text


def _rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """What an attacker with the code can do: change a line, make all hashes after it anew, and the head too."""
    previous, count, out = "0" * 64, 0, []
    for line in list(read_chain(path)):
        change(line)
        raw, previous = audit.chain_line(count, line["boot_ns"], line["wall_s"], line["event"], line["data"], previous)
        out.append(raw)
        count += 1
    path.write_bytes(b"".join(out))
    head_path(path).write_bytes(canonical({"count": count, "hash": previous}))


def test_a_chain_rewritten_with_its_head_is_found_by_the_other_chains_anchor(tmp_path: Path) -> None:
    first = _trail(tmp_path / "daemon" / "daemon.jsonl")
    other = AuditTrail(tmp_path / "interlock" / "interlock.jsonl", SystemClock())
    other.anchor(first)
    assert other.close(5)
    assert verify(first, other.path) == []

    def lie(line: dict[str, object]) -> None:
        if line["n"] == 7:
            line["data"] = {"granted_ma": 0.0}

    _rewrite(first, lie)
    assert verify_chain(first) == [], "alone, a chain rewritten with its head looks sound"
    assert "swapped or rewritten" in _errors(verify(first, other.path))


def test_a_tail_cut_together_with_the_head_is_found_by_the_anchor(tmp_path: Path) -> None:
    first = _trail(tmp_path / "daemon" / "daemon.jsonl")
    other = AuditTrail(tmp_path / "interlock" / "interlock.jsonl", SystemClock())
    other.anchor(first)
    assert other.close(5)
    lines = list(read_chain(first))[:10]
    first.write_bytes(b"".join(first.read_bytes().splitlines(keepends=True)[:10]))
    head_path(first).write_bytes(canonical({"count": 10, "hash": lines[-1]["hash"]}))
    assert "cut off or swapped" in _errors(verify(first, other.path))


def test_a_swapped_file_is_found(tmp_path: Path) -> None:
    mine, foreign = _trail(tmp_path / "a" / "daemon.jsonl"), _trail(tmp_path / "b" / "daemon.jsonl")
    shutil.copy(foreign, mine)
    assert "swapped or rewritten" in _errors(verify(mine))
    renamed = tmp_path / "c.jsonl"
    shutil.copy(foreign, renamed)
    shutil.copy(head_path(foreign), head_path(renamed))
    assert "another name" in _errors(verify(renamed))


def test_a_missing_head_is_found_and_refused(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl")
    head_path(path).unlink()
    assert "head" in _errors(verify(path))
    with pytest.raises(RecordingError):
        AuditTrail(path, SystemClock())


def test_a_line_torn_by_a_crash_is_said_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl", 3)
    with path.open("ab") as file:
        file.write(b'{"boot_ns":12,"data":{"x":')
    [finding] = verify_chain(path)
    assert finding.level == "notice" and "crash" in finding.text
    _trail(path, 1)
    assert verify_chain(path) == []
    assert [line["event"] for line in read_chain(path)][-2:] == ["torn_line_removed", "decision"]


def test_a_head_one_batch_behind_is_what_a_crash_leaves(tmp_path: Path) -> None:
    path = _trail(tmp_path / "daemon.jsonl", 3)
    head = head_path(path).read_bytes()
    _trail(path, 3)
    head_path(path).write_bytes(head)
    assert verify_chain(path) == []
    _trail(path, 1)
    assert verify_chain(path) == []


def test_two_writers_cannot_share_a_chain(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "daemon.jsonl", SystemClock())
    with pytest.raises(RecordingError, match="another eegloop"):
        AuditTrail(trail.path, SystemClock())
    assert trail.close(5)


def test_a_full_disk_is_an_alarm_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "RETRY_S", 0.02)
    trail = AuditTrail(tmp_path / "daemon.jsonl", SystemClock())
    real = os.write

    def full(fd: int, data: bytes) -> None:
        real(fd, data[:11])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert trail.flush(5)
    with monkeypatch.context() as patch:
        patch.setattr(audit, "write_all", full)
        for i in range(5):
            trail.append("decision", {"number": i})
        _until(lambda: not trail.ok)
        assert "No space left" in trail.message
    _until(lambda: trail.ok)
    assert trail.close(5)
    assert verify_chain(trail.path) == []
    assert [line["data"].get("number") for line in read_chain(trail.path)] == [None, 0, 1, 2, 3, 4]


def test_numbers_that_json_cannot_say_do_not_break_the_chain(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "daemon.jsonl", SystemClock())
    trail.append("decision", {"nan": float("nan"), "inf": float("inf"), "text": "\ud800 \x00 µ", "object": Path("x")})
    assert trail.close(5)
    assert verify_chain(trail.path) == []
    assert list(read_chain(trail.path))[-1]["data"]["nan"] is None


def test_appending_is_durable_before_flush_returns(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "daemon.jsonl", SystemClock())
    for i in range(10):
        trail.append("armed", {"number": i})
        assert trail.flush(5)
        head = read_head(trail.path)
        assert head is not None and head == trail.head and head.count == i + 2
    assert trail.close(5)


@pytest.mark.parametrize("n_bytes", [0, 100])
def test_a_trail_that_is_cut_in_place_while_it_is_written_is_not_ok(tmp_path: Path, n_bytes: int) -> None:
    """S6: the same file under the same name, but shorter: what is appended would leave a hole."""
    path = tmp_path / "daemon.jsonl"
    trail = AuditTrail(path, SystemClock())
    assert trail.flush(5) and trail.ok and path.stat().st_size > 100
    os.truncate(path, n_bytes)
    _until(lambda: not trail.ok)
    assert "changed while" in trail.message and "verify" in trail.message
    trail.append("decision", {})
    trail.close(0.1)
    assert path.stat().st_size == n_bytes


def test_a_trail_that_is_removed_while_it_is_written_is_not_ok(tmp_path: Path) -> None:
    """S6: also while nothing is to be written; no line follows into a file without a name."""
    trail = AuditTrail(tmp_path / "daemon.jsonl", SystemClock())
    assert trail.flush(5) and trail.ok
    (tmp_path / "daemon.jsonl").unlink()
    _until(lambda: not trail.ok)
    assert "removed while" in trail.message
    trail.close(0.1)
