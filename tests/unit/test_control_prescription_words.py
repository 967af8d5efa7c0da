"""What a prescription's reader says, word by word, and what it takes exactly at its limits."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from control.prescription import (
    _MOST_BYTES,
    TrustedKey,
    _with_line,
    demo_prescription,
    json_object,
    parse_yaml,
    public_key,
    sign,
    signed_prescription,
    trusted_bytes,
    verify,
)
from control.schema import allowed_words
from eegloop.stim import Prescription, PrescriptionError

NOW_S = 1_800_000_000
SEED = bytes(range(32))


def key(**changes: object) -> TrustedKey:
    entry = TrustedKey(public_key(SEED).hex(), "Dr. A", "prescriber", "any", 0, 2**40, False)
    return dataclasses.replace(entry, **changes)  # type: ignore[arg-type]


def demo() -> Prescription:
    return demo_prescription("virtual", float(NOW_S))


def opened(signer: TrustedKey) -> Prescription:
    return verify(sign(demo(), [SEED]), [signer], float(NOW_S), "virtual", "simulated")


def test_what_was_signed_can_be_looked_at_without_a_key() -> None:
    assert signed_prescription(sign(demo(), [SEED])) == demo()


def test_files_are_written_one_field_a_line() -> None:
    for written in (sign(demo(), [SEED]), trusted_bytes([key()])):
        assert written == json.dumps(json.loads(written), indent=1).encode() + b"\n"


def test_a_key_is_good_from_its_first_second_to_before_its_last() -> None:
    assert opened(key(valid_from_s=NOW_S)) == demo()
    with pytest.raises(PrescriptionError):
        opened(key(valid_until_s=NOW_S))


def test_from_when_to_when_a_key_was_good_is_said_as_dates() -> None:
    with pytest.raises(PrescriptionError) as error:
        opened(key(valid_from_s=NOW_S + 86_400, valid_until_s=2**60))
    assert str(error.value) == (
        "signed prescription.signatures: it is 2027-01-15 08:00 UTC, Dr. A's key is valid from "
        f"2027-01-16 08:00 UTC to {2**60} s (no date)"
    )


def test_as_many_bytes_as_are_read_and_not_one_more() -> None:
    text = b'{"a":1' + b" " * (_MOST_BYTES - 7) + b"}"
    assert json_object(text, "it", ("a",)) == {"a": 1}
    with pytest.raises(PrescriptionError, match=f"it: {_MOST_BYTES + 1} bytes"):
        json_object(text + b" ", "it", ("a",))
    with pytest.raises(PrescriptionError, match="must be a list of"):
        parse_yaml("a".ljust(_MOST_BYTES))
    with pytest.raises(PrescriptionError, match="too long"):
        parse_yaml("a".ljust(_MOST_BYTES + 1))


def test_eight_may_sign_and_not_nine() -> None:
    seeds = [bytes([n]) * 32 for n in range(9)]
    assert signed_prescription(sign(demo(), seeds[:8])) == demo()
    with pytest.raises(PrescriptionError, match="1 to 8"):
        signed_prescription(sign(demo(), seeds))


@pytest.mark.parametrize("nested", ["signers: [[[A]]]", "settings: {a: {b: {c: 1}}}", "settings: {a: [[1]]}"])
def test_nesting_is_counted_downward_in_lists_and_fields(nested: str) -> None:
    with pytest.raises(PrescriptionError, match="nested too deeply"):
        parse_yaml(nested)


def test_a_date_without_a_zone_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.loads(demo().to_bytes())
    text = "\n".join(f"{name}: {json.dumps(value)}" for name, value in body.items() if name not in ("valid_from_s", "pulses"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_yaml(text + "\nvalid_from_s: 2026-01-01\n").valid_from_s == 1_767_225_600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_line_is_said_where_it_is_known_and_what_is_allowed_once() -> None:
    allowed = allowed_words("profile")
    assert allowed
    assert _with_line("prescription: not one", {"profile": 3}) == "prescription: not one"
    assert _with_line("prescription.profile: 'x' is none", {}) == "prescription.profile: 'x' is none"
    said = _with_line("prescription.profile: 'x' is none", {"profile": 3})
    assert said == f"line 3: prescription.profile: 'x' is none (allowed: {allowed})"
    assert _with_line(f"prescription.profile: not {allowed}", {"profile": 3}) == f"line 3: prescription.profile: not {allowed}"
    assert _with_line("prescription.nothing: unknown", {"nothing": 1}) == "line 1: prescription.nothing: unknown"
