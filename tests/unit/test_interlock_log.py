"""The interlock's audit log: a changed byte, a cut tail, a swapped or missing file, a full and a stalled disk."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.log import STALLED_NS, Chain, LogWriter, read_head, seal
from tests.interlock_bench import check_chain, wait_until
from tests.interlock_rig import wait_for


def write(path: Path, n: int = 5) -> None:
    chain = Chain(path)
    for i in range(n):
        chain.append("event", {"i": i, "text": "µA"}, 1000 + i, 1.5 + i)
    chain.close()


def problem(path: Path) -> str:
    return check_chain(path.read_bytes(), read_head(path.with_name(path.name + ".head")))


def test_lines_are_as_documented(tmp_path: Path) -> None:
    write(tmp_path / "log")
    prev = "0" * 64
    for i, line in enumerate((tmp_path / "log").read_text().splitlines()):
        body = json.loads(line)
        assert set(body) == {"n", "boot_ns", "wall_s", "event", "data", "prev", "hash"}
        assert body["n"] == i and body["prev"] == prev
        digest = body.pop("hash")
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(canonical.encode()).hexdigest() == digest
        prev = digest
    assert problem(tmp_path / "log") == ""
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    write(tmp_path / "log", 3)
    write(tmp_path / "log", 3)
    assert problem(tmp_path / "log") == "" and len((tmp_path / "log").read_bytes().splitlines()) == 6


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_changed_byte_is_found(data: st.DataObject) -> None:
    lines, prev = [], "0" * 64
    for i in range(4):
        prev, line = seal(i, i, 0.5, "e", {"x": i}, prev)
        lines.append(line)
    whole = b"".join(lines)
    head = (3, prev)
    assert check_chain(whole, head) == ""
    where = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda b: b != whole[where]))
    assert check_chain(whole[:where] + bytes([other]) + whole[where + 1 :], head) != ""
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert check_chain(whole[:cut], head) != ""
    i, j = data.draw(st.sampled_from([(0, 1), (1, 2), (2, 3), (0, 3)]))
    swapped = list(lines)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert check_chain(b"".join(swapped), head) != ""
    assert check_chain(b"".join(lines[:i] + lines[i + 1 :]), head) != ""


def test_a_chain_written_anew_does_not_fit_the_head(tmp_path: Path) -> None:
    write(tmp_path / "log", 4)
    head = read_head(tmp_path / "log.head")
    (tmp_path / "other").mkdir()
    chain = Chain(tmp_path / "other" / "log")
    for i in range(4):
        chain.append("forged", {"i": i}, i, 0.0)
    chain.close()
    assert "is not the line" in check_chain((tmp_path / "other" / "log").read_bytes(), head)


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b'{"n":0}\n', b"null\n", b"\xff\n"])
def test_foreign_lines_are_found(tmp_path: Path, line: bytes) -> None:
    write(tmp_path / "log", 2)
    with (tmp_path / "log").open("ab") as file:
        file.write(line)
    assert problem(tmp_path / "log") != ""


def test_a_head_behind_is_a_crash_and_fine(tmp_path: Path) -> None:
    write(tmp_path / "log", 2)
    head = (tmp_path / "log.head").read_bytes()
    write(tmp_path / "log", 2)
    (tmp_path / "log.head").write_bytes(head)
    assert problem(tmp_path / "log") == ""
    write(tmp_path / "log", 1)
    assert problem(tmp_path / "log") == "" and read_head(tmp_path / "log.head")[0] == 4  # type: ignore[index]


def cut(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def write_anew(path: Path) -> None:
    """As many lines, each whole and following the one before; only the head is still the old one's."""
    other = path.with_name("other")
    chain = Chain(other)
    for i in range(5):
        chain.append("forged", {"i": i}, i, 0.0)
    chain.close()
    path.write_bytes(other.read_bytes())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut, "cut or changed"),
        (write_anew, "cut or changed"),
        (flip, "changed after"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.unlink(), "is empty"),
        (lambda path: path.with_name("log.head").unlink(), "head is missing"),
        (lambda path: path.with_name("log.head").write_text("half"), "head is missing"),
    ],
)
def test_a_damaged_log_is_not_gone_on_with(tmp_path: Path, spoil: Any, reason: str) -> None:
    write(tmp_path / "log")
    spoil(tmp_path / "log")
    with pytest.raises(ValueError, match=reason):
        Chain(tmp_path / "log")


def test_a_torn_line_is_removed_and_named(tmp_path: Path) -> None:
    write(tmp_path / "log", 2)
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"n":2')
    chain = Chain(tmp_path / "log")
    assert chain.torn.startswith("6 bytes, sha256 ")
    chain.append("next", {}, 1, 1.0)
    chain.close()
    assert problem(tmp_path / "log") == ""


def test_a_failed_write_leaves_nothing_and_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "log", 2)
    before = (tmp_path / "log").read_bytes()
    chain = Chain(tmp_path / "log")
    real = os.write
    monkeypatch.setattr("interlock.log.os.write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(OSError, match="only part"):
        chain.append("x", {}, 1, 1.0)
    assert (tmp_path / "log").read_bytes() == before
    monkeypatch.undo()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interlock.log.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        chain.append("x", {}, 1, 1.0)
    assert (tmp_path / "log").read_bytes() == before
    monkeypatch.undo()
    chain.append("x", {}, 1, 1.0)
    chain.close()
    assert problem(tmp_path / "log") == ""


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_writer_writes_in_order_and_closes(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "log")
    for i in range(20):
        log.put("e", {"i": i}, now_ns(), 0.0)
    log.close(5.0)
    assert [json.loads(x)["data"]["i"] for x in (tmp_path / "log").read_text().splitlines()] == list(range(20))
    assert log.fault(now_ns()) == "" and problem(tmp_path / "log") == ""


def test_closing_wakes_the_thread_and_does_not_wait_for_its_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.log.LOOK_S", 60.0)
    before = set(threading.enumerate())
    log = LogWriter(tmp_path / "log")
    log.put("e", {}, now_ns(), 0.0)
    wait_for(lambda: log.fault(now_ns()) == "")
    log.close(5.0)
    assert set(threading.enumerate()) <= before


def test_a_stalled_fsync_delays_nobody_and_is_a_fault_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogWriter(tmp_path / "log")
    assert log.fault(now_ns()) != "", "not writable before it was written"
    log.put("e", {"i": -1}, now_ns(), 0.0)
    wait_for(lambda: log.fault(now_ns()) == "")
    real, gate = os.fsync, threading.Event()

    def stalled(fd: int) -> None:
        gate.wait(10)
        real(fd)

    monkeypatch.setattr("interlock.log.os.fsync", stalled)
    started = time.monotonic()
    at_ns = now_ns()
    for i in range(100):
        log.put("e", {"i": i}, at_ns, 0.0)
    assert time.monotonic() - started < 0.1
    assert log.fault(at_ns + STALLED_NS) == ""
    assert "for 1 s" in log.fault(at_ns + STALLED_NS + 1)
    gate.set()
    wait_for(lambda: log.fault(at_ns + 2 * STALLED_NS) == "")
    log.close(5.0)
    assert problem(tmp_path / "log") == "" and len((tmp_path / "log").read_bytes().splitlines()) == 101


def test_writer_says_what_is_wrong_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "log"
    log = LogWriter(path)
    log.put("e", {}, now_ns(), 0.0)
    wait_for(lambda: "No such file" in log.fault(now_ns()))
    path.parent.mkdir()
    wait_for(lambda: log.fault(now_ns()) == "")
    log.close(5.0)
    assert problem(path) == ""


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_no_reader_could_take_is_a_fault_and_writes_nothing(tmp_path: Path, number: float) -> None:
    """JSON has no word for it: a line that holds one could not be read by others, so nothing goes on while it waits."""
    write(tmp_path / "log", 2)
    before = (tmp_path / "log").read_bytes()
    log = LogWriter(tmp_path / "log")
    log.put("report", {"output_ma": number}, now_ns(), 0.0)
    wait_for(lambda: "not JSON compliant" in log.fault(now_ns()))
    log.close(5.0)
    assert log.written == 0 and (tmp_path / "log").read_bytes() == before


def test_writer_refuses_a_damaged_log(tmp_path: Path) -> None:
    write(tmp_path / "log")
    cut(tmp_path / "log")
    log = LogWriter(tmp_path / "log")
    wait_for(lambda: "cut or changed" in log.fault(now_ns()))
    log.close(5.0)


def test_writer_names_a_torn_line(tmp_path: Path) -> None:
    write(tmp_path / "log", 1)
    with (tmp_path / "log").open("ab") as file:
        file.write(b"torn")
    log = LogWriter(tmp_path / "log")
    log.close(5.0)
    assert json.loads((tmp_path / "log").read_text().splitlines()[1])["event"] == "torn_tail"


def test_what_is_wrong_is_said_with_the_line(tmp_path: Path) -> None:
    write(tmp_path / "log", 4)
    whole, head = (tmp_path / "log").read_bytes(), read_head(tmp_path / "log.head")
    lines = whole.splitlines(keepends=True)
    assert check_chain(b"".join(lines[:2]), head) == "the tail is cut: 2 lines are missing"
    assert check_chain(b"".join([lines[0], *lines[2:]]), head) == "line 2: does not follow the line before"
    assert check_chain(b"".join(lines[1:]), head) == "line 1: does not follow the line before"
    assert check_chain(whole.replace(b'"i":1', b'"i":7'), head) == "line 2: changed after it was written"
    assert check_chain(lines[0] + b"[]\n", None) == "line 2: not a line of the log"


def test_a_line_with_its_right_hash_but_in_other_bytes_is_changed(tmp_path: Path) -> None:
    write(tmp_path / "log", 1)
    line = (tmp_path / "log").read_bytes()
    assert check_chain(line.replace(b'"n":0', b'"n": 0'), None) == "line 1: changed after it was written"


def test_a_log_that_nothing_was_written_to_is_a_fault(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "log")
    assert not chain.written and chain.head == (-1, "0" * 64)
    chain.close()
    writer = LogWriter(tmp_path / "log")
    writer.close(1.0)
    assert writer.fault(0) == "nothing is written yet"


def test_a_new_logs_name_is_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "log", 1)
    assert synced == [str(tmp_path), str(tmp_path / "log")]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(5):
        write(tmp_path / f"log{i}", 2)
    (tmp_path / "log0.head").write_text(f"{9:020d} {'0' * 64}\n")
    for _ in range(5):
        with pytest.raises(ValueError, match="tail was cut"):
            Chain(tmp_path / "log0")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_log_that_is_removed_or_replaced_while_it_is_written_is_a_fault_and_stays_one(tmp_path: Path) -> None:
    """S6: what is appended to a file without a name is no audit trail, whatever the disk says to it."""
    for other in (None, b"another file"):
        path = tmp_path / f"{other is None}.log"
        writer = LogWriter(path)
        writer.put("a", {}, time.clock_gettime_ns(time.CLOCK_BOOTTIME), 0.0)
        wait_until(lambda writer=writer: writer.fault(0) == "")  # type: ignore[misc]
        if other is None:
            path.unlink()
        else:
            (tmp_path / "other").write_bytes(other)
            (tmp_path / "other").replace(path)
        wait_until(lambda writer=writer: "removed while" in writer.fault(0))  # type: ignore[misc]
        writer.put("b", {}, 1, 0.0)
        writer.close(1.0)
        assert writer.written == 1 and "removed while" in writer.fault(0)
        assert (not path.exists()) if other is None else path.read_bytes() == other
