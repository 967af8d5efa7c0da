"""What is read from disk and wire, to the last byte: what mutants of the readers showed to be unwatched."""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control.prescription import TrustedKey, json_object, parse_yaml, verify
from eegloop.stim import PrescriptionError
from interlock import ed25519, strict
from interlock.anchor import Anchor
from interlock.ledger import DAY_S, Book, Session
from interlock.limits import rules
from interlock.log import Chain, LogWriter
from interlock.pulses import PROTOCOLS, _listed, first_pulse_breach, train_ms
from interlock.signed import read_prescription
from interlock.wire import read_command
from tests.interlock_bench import (
    DEVICE,
    PULSES,
    START_NS,
    WALL_S,
    Signer,
    make_prescription,
    make_program,
    make_pulses,
    wait_until,
    write_signed,
)

P = 2**255 - 19


# ---- the daemon's reading --------------------------------------------------------------------------------------------


def test_a_signed_prescription_outside_the_research_envelope_is_refused_by_the_daemon_too() -> None:
    """`sign` would not sign it; who signs these bytes by other means gets no further."""
    private = Ed25519PrivateKey.generate()
    key = private.public_key().public_bytes_raw().hex()
    trusted = [TrustedKey(key, "Dr A", "prescriber", "any", WALL_S - 10, WALL_S + 10, False)]
    inside = make_prescription(profile="clinic", settings={"biomarker": "faa"})
    for prescription, refused in ((inside, ""), (replace(inside, amplitude_ua=4_000), "amplitude_ua")):
        payload = prescription.to_bytes()
        signature = private.sign(b"eegloop prescription v1\0" + payload).hex()
        body = {"format": "eegloop-signed-1", "payload": base64.b64encode(payload).decode()}
        signed = json.dumps({**body, "signatures": [{"key": key, "signature": signature}]}).encode()
        if refused:
            with pytest.raises(PrescriptionError, match=rf"prescription\.{refused}: 4000 is above 2000"):
                verify(signed, trusted, WALL_S, "virtual", "simulated")
        else:
            assert verify(signed, trusted, WALL_S, "virtual", "simulated") == prescription


def test_a_field_that_appears_twice_is_refused_by_both_readers() -> None:
    for text in (b'{"keys":1,"keys":1}', b'{"keys":{"a":1,"a":1}}'):
        with pytest.raises(PrescriptionError, match="appears twice"):
            json_object(text, "trusted", ("keys",))
        with pytest.raises(PrescriptionError, match="appears twice"):
            strict.one_object(text, "trusted", {"keys"})


def test_brackets_of_both_kinds_are_counted_together() -> None:
    with pytest.raises(PrescriptionError, match="nested too deeply; at most"):
        parse_yaml("x: '" + "[" * 60 + "{" * 60 + "'")
    with pytest.raises(PrescriptionError, match=r"prescription\.x: unknown field"):
        parse_yaml("x: '" + "[" * 60 + "{" * 40 + "'")


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PrescriptionError, match="is not a file"):
        strict.read(tmp_path / "pipe", must_be_ours=False)


def test_roots_file_is_as_good_as_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep the pin from programs that run as this user, an administrator gives it to root."""
    path = tmp_path / "site.json"
    path.write_bytes(b"x")
    path.chmod(0o644)
    real = os.fstat
    monkeypatch.setattr(strict.os, "getuid", lambda: 4711)
    for owner, allowed in ((0, True), (4711, True), (1, False), (4712, False)):
        monkeypatch.setattr(strict.os, "fstat", lambda d, o=owner: os.stat_result([*list(real(d))[:4], o, *list(real(d))[5:]]))
        if allowed:
            assert strict.read(path, must_be_ours=True) == b"x"
        else:
            with pytest.raises(PrescriptionError, match="must belong to you or root"):
                strict.read(path, must_be_ours=True)
            assert strict.read(path, must_be_ours=False) == b"x"


@pytest.mark.parametrize(("size", "allowed"), [(65_536, True), (65_537, False)])
def test_a_file_may_be_so_large(tmp_path: Path, size: int, allowed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    if allowed:
        assert len(strict.read(path, must_be_ours=False)) == size
    else:
        with pytest.raises(PrescriptionError, match="is larger than 65536 bytes"):
            strict.read(path, must_be_ours=False)


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o666)
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(PrescriptionError):
            strict.read(path, must_be_ours=True)
        strict.read(path, must_be_ours=False)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("value", [0, 1, 2**53 - 1])
def test_whole_numbers(value: int) -> None:
    assert strict.whole(value, "x") == value


@pytest.mark.parametrize("value", [-1, 2**53, True, False, 1.0, "1", None])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(PrescriptionError, match=r"^x: .* must be a whole number$"):
        strict.whole(value, "x")


def test_as_many_as_eight_may_sign(tmp_path: Path) -> None:
    valid = {"valid_from_s": WALL_S - 10, "valid_until_s": WALL_S + 10}
    signers = [Signer(f"Dr {letter}", **valid) for letter in "ABCDEFGHI"]
    for n in (1, 8, 9):
        path = write_signed(tmp_path, make_prescription(), signers[:n], tmp_path / "trusted.json")
        if n <= 8:
            assert read_prescription(path, tmp_path, "virtual", "simulated", WALL_S).id == "course-1"
        else:
            with pytest.raises(PrescriptionError, match="a list of 1-8 signatures"):
                read_prescription(path, tmp_path, "virtual", "simulated", WALL_S)


@pytest.mark.parametrize("at_s", [WALL_S - 1000, WALL_S + 1_000_000])
def test_valid_from_the_first_second_to_the_last(tmp_path: Path, at_s: int) -> None:
    signer = Signer(valid_from_s=at_s, valid_until_s=at_s)
    path = write_signed(tmp_path, make_prescription(), [signer], tmp_path / "trusted.json")
    assert read_prescription(path, tmp_path, "virtual", "simulated", at_s).id == "course-1"


# ---- the signature check ---------------------------------------------------------------------------------------------


def test_a_point_has_one_encoding() -> None:
    """Numbers from P up name points a second time, as does a sign on the point that has none (RFC 8032, 5.1.3)."""
    decoded = [k for k in range(19) if ed25519._decode(k.to_bytes(32, "little")) is not None]
    assert 1 in decoded and len(decoded) > 5
    for k in range(19):
        assert ed25519._decode((P + k).to_bytes(32, "little")) is None
    assert ed25519._decode((1 | 1 << 255).to_bytes(32, "little")) is None
    assert ed25519._decode((P - 1 | 1 << 255).to_bytes(32, "little")) is None


# ---- ledger and log --------------------------------------------------------------------------------------------------


def test_pulses_of_a_week_and_a_day_ago_are_free() -> None:
    program = make_program(session_pulses=600, day_pulses=600, week_pulses=700, course_pulses=20_000)
    limits = rules(make_pulses(program), None, PULSES)
    book = Book("boot-1", True)
    entry = {"session": "a", "course": limits.course, "n": 500, "boot_id": "boot-1", "synchronized": True}
    book.apply("pulses", entry, START_NS, WALL_S)

    def left(s: float) -> tuple[int, int, str]:
        return book.pulses_left(program, limits, "b", START_NS + round(s * 1e9), WALL_S + s)

    assert left(0.0) == (0, 100, "day_pulses") and left(DAY_S - 1) == (0, 100, "day_pulses")
    assert left(DAY_S) == (0, 200, "week_pulses") and left(7 * DAY_S - 1) == (0, 200, "week_pulses")
    assert left(7 * DAY_S) == (0, 600, "day_pulses")
    assert book.pulses_left(program, limits, "a", START_NS, WALL_S) == (500, 100, "day_pulses")


def test_a_session_begins_with_nothing() -> None:
    session = Session("course", 5.0)
    assert (session.first_s, session.last_s, session.uc, session.ms, session.pulses) == (5.0, 5.0, 0.0, 0.0, 0)


def test_a_crash_between_the_first_line_and_its_head_is_none(tmp_path: Path) -> None:
    path = tmp_path / "log"
    chain = Chain(path)
    chain.append("first", {}, 1, 1.0)
    chain.close()
    (tmp_path / "log.head").unlink()
    chain = Chain(path)
    assert chain.head[0] == 0
    chain.append("second", {}, 2, 2.0)
    chain.close()
    (tmp_path / "log.head").unlink()
    with pytest.raises(ValueError, match="head is missing"):
        Chain(path)


def test_files_of_the_ledger_are_the_owners_alone_and_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    anchor = Anchor(tmp_path / "state", "virtual", tmp_path / "ledger.log", "course")
    anchor.move(3, "f" * 64)
    folder = tmp_path / "state"
    assert [Path(name).name for name in synced] == [next(folder.glob("*.json")).with_suffix(".new").name, "state"]
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    anchor.close()
    body = json.loads(next(folder.glob("*.json")).read_text())
    assert (body["n"], body["hash"], body["ledger"]) == (3, "f" * 64, str((tmp_path / "ledger.log").resolve()))
    writer = LogWriter(tmp_path / "log")
    writer.put("first", {}, 1, 1.0)
    wait_until(lambda: writer.written == 1)
    writer.close(1.0)
    for name in ("log", "log.head"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


# ---- the wire and the table ------------------------------------------------------------------------------------------


def test_each_field_keeps_its_type() -> None:
    command = read_command(b'{"kind":"set","sequence":7,"tick":8,"tick_ns":9,"expires_ns":10,"halts":11,"amplitude_ma":1}')
    assert [type(v) for v in (command.sequence, command.tick, command.tick_ns, command.expires_ns, command.halts)] == [int] * 5
    assert type(command.amplitude_ma) is float
    assert read_command(b'{"kind":"stop","reason":5}').reason == ""
    assert read_command(b'{"kind":"stop","reason":"' + b"x" * 500 + b'"}').reason == "x" * 400


def test_a_listed_protocol_is_made_of_its_numbers() -> None:
    for protocol in PROTOCOLS.values():
        p = protocol.program
        day = p.day_pulses // p.session_pulses
        burst, train = (p.burst_pulses, p.burst_millihz), (p.train_millihz, p.train_pulses, p.trains, p.interval_ms)
        assert _listed(p.threshold, p.intensity_percent, burst, train, day, p.course_pulses) == p
        assert (p.protocol, p.motor_threshold_percent, p.session_pulses) == ("", 0, p.train_pulses * p.trains)
        assert p.week_pulses == 7 * p.day_pulses == 7 * day * p.session_pulses


def test_a_train_that_is_too_long_is_said_in_milliseconds() -> None:
    breach = first_pulse_breach(make_pulses(make_program(train_pulses=40)), PULSES)
    assert breach is not None and breach.reason == f"above the train table: {train_ms(make_program(train_pulses=40))} ms"
    breach = first_pulse_breach(make_pulses(make_program(session_pulses=3_001)), PULSES)
    assert breach is None or breach.reason == "above the interlock's hard limit"


def test_a_device_that_may_give_nothing_gives_nothing() -> None:
    none = (replace(DEVICE[0], value=0.0),)
    assert rules(make_prescription(), None, none).amplitude_ma == 0.0
