"""Exactly at each limit, and exactly what is kept: what mutants of readers, tables and log showed to be unwatched."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from eegloop import kept
from eegloop.stim import Limit, PrescriptionError, StimCommand
from interlock import keys, limits, log
from interlock.ed25519 import _P, _decode
from interlock.limits import device_amplitude_ma, first_breach, rules
from interlock.log import STALLED_NS, Chain, LogWriter, read_head
from interlock.pulses import first_pulse_breach
from interlock.strict import read
from interlock.wire import PacketError, read_command
from tests.interlock_bench import DEVICE, make_prescription, make_program, make_pulses, wait_until

S = 1_000_000_000


def milliamperes(*values: float) -> tuple[Limit, ...]:
    return tuple(Limit("amplitude_ma", value, "mA", "device") for value in values)


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_the_lowest_limit_that_a_device_states_counts() -> None:
    assert device_amplitude_ma(()) == 0.0
    assert device_amplitude_ma(milliamperes(0.5)) == 0.5
    assert device_amplitude_ma(milliamperes(2.0, 1.0)) == 1.0
    assert device_amplitude_ma(milliamperes(2.0, -1.0)) == 0.0


def test_micro_and_milliseconds_become_the_judges_units() -> None:
    made = rules(make_prescription(authority="lower_only", start_ua=1000, ramp_ua_per_s=100, fallback_ms=1000), None, DEVICE)
    assert (made.ceiling_ma, made.ramp_ma_per_s, made.fallback_s) == (1.0, 0.1, 1.0)
    assert [limit.value for limit in made.amplitude] == [1.5, 2.0, limits.HARD["tdcs", "home"].amplitude_ua / 1000]


def test_current_that_ends_by_itself_within_exactly_a_second_may_be_worn(monkeypatch: pytest.MonkeyPatch) -> None:
    often = {"day_sessions": 1, "week_sessions": 5, "course_sessions": 30, "lockout_ms": 86_400_000}
    worn = make_prescription(device="pulse_pal", device_serial="7", authority="lower_only", **often)
    monkeypatch.setitem(limits.ALONE_MS, "pulse_pal", limits.MOST_ALONE_MS)
    assert first_breach(worn, DEVICE) is None
    monkeypatch.setitem(limits.ALONE_MS, "pulse_pal", limits.MOST_ALONE_MS + 1.0)
    breach = first_breach(worn, DEVICE)
    assert breach is not None and (breach.field, breach.value, breach.limit) == ("prescription.device", 1_001.0, 1_000.0)


def test_a_pulse_may_be_as_strong_as_the_weakest_limit_that_the_device_states() -> None:
    program = make_program(intensity_percent=110, motor_threshold_percent=50)
    for stated, limit in (((55.0,), None), ((54.9, 80.0), 54.9), ((), 0)):
        device = tuple(Limit("intensity_percent", value, "%", "device") for value in stated)
        breach = first_pulse_breach(make_pulses(program), device)
        assert (None if breach is None else breach.limit) == limit


# ---- the wire, keys and points ---------------------------------------------------------------------------------------


def test_texts_and_numbers_of_exactly_the_greatest_size_are_read() -> None:
    command = StimCommand("set", 3, "s" * 64, "n" * 64, 2**63 - 1, 4, 2**63 - 1, "b" * 20, 0.5, 10.0, "r" * 400)
    assert read_command(command.to_json()) == command
    for changes in ({"session": "s" * 65}, {"expires_ns": 2**63}):
        body = {"kind": "set", **changes}
        with pytest.raises(PacketError):
            read_command(str(body).replace("'", '"').encode())


def test_exactly_the_encodings_of_points_are_points() -> None:
    """By Euler's criterion: y is on the curve if x² = (y² - 1) / (d y² + 1) is a square."""
    d = -121665 * pow(121666, -1, _P) % _P
    for y in range(2, 60):
        x_squared = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
        square = pow(x_squared, (_P - 1) // 2, _P) == 1
        assert (_decode(y.to_bytes(32, "little")) is not None) == square, y


def test_a_file_of_keys_that_others_may_run_is_ours_still(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    path.write_bytes(b"{}")
    for mode, allowed in ((0o600, True), (0o755, True), (0o620, False), (0o602, False)):
        path.chmod(mode)
        if allowed:
            assert read(path, must_be_ours=True) == b"{}"
        else:
            with pytest.raises(PrescriptionError, match="writable by its owner only"):
                read(path, must_be_ours=True)


def test_the_greatest_number_of_a_site_is_kept_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "there" / "is" / "none"
    locks, synced = [], []
    flock, fsync = fcntl.flock, os.fsync
    monkeypatch.setattr(fcntl, "flock", lambda file, how: (locks.append(how), flock(file, how)))
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.pread(file, 64, 0)), fsync(file)))
    keys._go_on_from(state, b"site", 5)
    assert locks == [fcntl.LOCK_EX] and [int(text) for text in synced] == [5]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for _ in range(2):
        with pytest.raises(PrescriptionError, match="4 is older than 5"):
            keys._go_on_from(state, b"site", 4)
    keys._go_on_from(state, b"site", 5)
    assert len(synced) == 1, "an arm that brings no new list writes nothing and waits for no disk"
    keys._go_on_from(state, b"other site", 1)
    path = next(path for path in state.iterdir() if path.read_text() == f"{5:019d}\n")
    for cut in [*(path.read_bytes()[:n] for n in range(1, 20)), path.read_bytes() + b"0", b"x" * 20]:
        path.write_bytes(cut)
        with pytest.raises(PrescriptionError, match=r"cannot be kept"):
            keys._go_on_from(state, b"site", 4)
        assert path.read_bytes() == cut


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_two_lines_without_their_head_are_refused_one_is_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for n in range(2):
        chain = Chain(path)
        chain.append("event", {}, n, 0.0)
        chain.close()
        (tmp_path / "x.log.head").unlink()
    with pytest.raises(ValueError, match="head is missing"):
        Chain(path)


@pytest.mark.parametrize("half", ["7 abc\n", "x " + "0" * 64, "", "7"])
def test_half_a_head_is_none(tmp_path: Path, half: str) -> None:
    path = tmp_path / "head"
    path.write_text(half)
    assert read_head(path) is None


def test_the_line_that_waits_longest_says_whether_the_disk_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path / "x.log")
    writer.put("first", {}, 0, 0.0)
    wait_until(lambda: writer.written == 1 and not writer.fault(0))
    go_on = threading.Event()
    monkeypatch.setattr(log.os, "fsync", lambda _file: go_on.wait(20))
    writer.put("second", {}, 1 * S, 0.0)
    writer.put("third", {}, 2 * S, 0.0)
    assert writer.fault(1 * S + STALLED_NS) == ""
    assert writer.fault(1 * S + STALLED_NS + 1) == "the disk has not taken a line for 1 s"
    go_on.set()
    wait_until(lambda: writer.written == 3)
    writer.close(1.0)


def test_a_writer_opens_its_file_once_and_sleeps_when_nothing_waits(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    writer = LogWriter(path)
    for n in range(5):
        writer.put("event", {}, n, 0.0)
        wait_until(lambda: writer.written == n + 1)  # noqa: B023 - asked for at once
    assert sum(entry.resolve() == path.resolve() for entry in Path("/proc/self/fd").iterdir()) == 1
    before_s = time.thread_time() + time.process_time()
    time.sleep(0.3)
    assert time.thread_time() + time.process_time() - before_s < 0.05, "it turned without anything to do"
    assert writer._thread.daemon, "a disk that never answers does not keep the process from ending"
    writer.close(1.0)
    assert not writer._thread.is_alive()


# ---- what outlives a data directory ----------------------------------------------------------------------------------


def test_a_small_file_is_replaced_whole_synced_before_its_name_and_the_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"an older and longer one")
    (tmp_path / "a.new").write_bytes(b"left by a crash, and longer than what comes next")
    steps: list[tuple[str, bytes]] = []
    fsync = os.fsync

    def synced(file: int) -> None:
        steps.append((Path(f"/proc/self/fd/{file}").readlink().name, path.read_bytes()))
        fsync(file)

    monkeypatch.setattr(kept.os, "fsync", synced)
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept.replace_file(path, b"new")
    assert path.read_bytes() == b"new" and not (tmp_path / "a.new").exists()
    assert steps == [("a.new", b"an older and longer one"), (tmp_path.name, b"new")]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_small_file_that_is_new_is_the_owners_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        kept.replace_file(tmp_path / "a.json", b"new")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
