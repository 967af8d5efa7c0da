"""What the interlock refuses to read as a prescription: unsigned, altered, foreign, expired, wrongly signed."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control.prescription import json_object
from eegloop.stim import Prescription, PrescriptionError
from interlock.signed import read_prescription
from interlock.strict import one_object
from tests.interlock_bench import WALL_S, Signer, make_prescription, write_signed

NOW_S = float(WALL_S)
VALID = {"valid_from_s": WALL_S - 10, "valid_until_s": WALL_S + 10}


def read(folder: Path, patient: str = "virtual", device: str = "simulated", now_s: float = NOW_S) -> Prescription:
    return read_prescription(folder / "prescription.signed", folder, patient, device, now_s)


def write(folder: Path, prescription: Prescription | None = None, *signers: Signer) -> None:
    write_signed(folder, prescription or make_prescription(), list(signers) or [Signer(**VALID)], folder / "trusted.json")


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def test_a_signed_prescription_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    assert read(tmp_path) == make_prescription()


def refused(folder: Path, field: str, **where: Any) -> None:
    with pytest.raises(PrescriptionError) as error:
        read(folder, **where)
    assert str(error.value).startswith(field), str(error.value)


def test_another_person(tmp_path: Path) -> None:
    write(tmp_path)
    refused(tmp_path, "prescription.patient: 'virtual'", patient="somebody")


def test_another_device(tmp_path: Path) -> None:
    write(tmp_path, None, Signer(scope="any", **VALID))
    refused(tmp_path, "prescription.device", device="p24")


def test_expired_and_not_yet_valid(tmp_path: Path) -> None:
    write(tmp_path, make_prescription(valid_from_s=WALL_S - 5, valid_until_s=WALL_S + 5))
    refused(tmp_path, "prescription.valid_until_s", now_s=NOW_S + 6)
    refused(tmp_path, "prescription.valid_from_s", now_s=NOW_S - 6)
    refused(tmp_path, "signed.signatures[0].key (Dr A): is valid from", now_s=float("nan"))


@pytest.mark.parametrize("field", ["amplitude_ua", "session_ms", "ramp_ua_per_s", "valid_until_s", "patient"])
def test_altered_after_signing(tmp_path: Path, field: str) -> None:
    write(tmp_path)

    def alter(body: dict[str, Any]) -> None:
        payload = json.loads(base64.b64decode(body["payload"]))
        payload[field] = payload[field] + (
            1 if isinstance(payload[field], int) and field != "ramp_ua_per_s" else -1 if isinstance(payload[field], int) else "x"
        )
        body["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    change_json(tmp_path / "prescription.signed", alter)
    refused(tmp_path, "signed.signatures[0].signature")


def test_same_content_in_other_bytes_is_altered(tmp_path: Path) -> None:
    write(tmp_path)

    def respace(body: dict[str, Any]) -> None:
        body["payload"] = base64.b64encode(json.dumps(json.loads(base64.b64decode(body["payload"]))).encode()).decode()

    change_json(tmp_path / "prescription.signed", respace)
    refused(tmp_path, "signed.signatures[0].signature")


def test_signature_without_the_domain(tmp_path: Path) -> None:
    signer = Signer(**VALID)
    write(tmp_path, None, signer)
    signature = signer.private.sign(make_prescription().to_bytes()).hex()
    change_json(tmp_path / "prescription.signed", lambda b: b["signatures"][0].update(signature=signature))
    refused(tmp_path, "signed.signatures[0].signature")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda b: b.update(signatures=[]), "signed.signatures: must be a list of 1-8"),
        (lambda b: b.update(signatures=None), "signed.signatures: must be a list of 1-8"),
        (lambda b: b.update(signatures=b["signatures"] * 9), "signed.signatures: must be a list of 1-8"),
        (lambda b: b["signatures"].append(7), "signed.signatures[1]"),
        (lambda b: b["signatures"][0].update(extra=1), "signed.signatures[0]: must have exactly"),
        (lambda b: b["signatures"][0].update(key="AB" * 32), "signed.signatures[0].key: must be 64"),
        (lambda b: b["signatures"][0].update(key=5), "signed.signatures[0].key: must be 64"),
        (lambda b: b["signatures"][0].update(key="ab" * 32), "signed.signatures[0].key: abababababababab... is not among"),
        (lambda b: b["signatures"][0].update(signature="00"), "signed.signatures[0].signature: must be 128"),
        (lambda b: b.update(format="eegloop-signed-2"), "signed.format"),
        (lambda b: b.update(more=1), "signed: must be one object"),
        (lambda b: b.update(payload="%%%"), "signed.payload"),
        (lambda b: b.update(payload=None), "signed.payload"),
        (lambda b: b.update(payload="é"), "signed.payload"),
        (lambda b: b.update(payload=base64.b64encode(b"{}").decode()), "prescription."),
    ],
)
def test_malformed_file(tmp_path: Path, change: Callable[[dict[str, Any]], object], field: str) -> None:
    write(tmp_path)
    change_json(tmp_path / "prescription.signed", change)
    refused(tmp_path, field)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "signed: not JSON"),
        (b"[]", "signed: must be one object"),
        (b"\xff", "signed: not JSON"),
        (b"[" * 50_000, "signed: not JSON"),
        (b'{"format":1,"format":2}', "signed: a key appears twice"),
        (b'{"format":NaN}', "signed: NaN is not a number"),
        (b" " * 70_000, "{path}: is larger"),
    ],
)
def test_garbage(tmp_path: Path, text: bytes, reason: str) -> None:
    write(tmp_path)
    path = tmp_path / "prescription.signed"
    path.write_bytes(text)
    refused(tmp_path, reason.replace("{path}", str(path)))


def test_missing_file_and_directory(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "prescription.signed").unlink()
    refused(tmp_path, f"{tmp_path}/prescription.signed: cannot be read")
    (tmp_path / "prescription.signed").mkdir()
    refused(tmp_path, f"{tmp_path}/prescription.signed: is not a file")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"revoked": True}, "is revoked"),
        ({"role": "caregiver"}, "role 'caregiver' may not prescribe"),
        ({"valid_until_s": WALL_S - 1}, "is valid from"),
        ({"valid_from_s": WALL_S + 1}, "is valid from"),
    ],
)
def test_keys_that_may_not_sign(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    write(tmp_path, None, Signer(**{**VALID, **entry}))
    with pytest.raises(PrescriptionError, match=reason):
        read(tmp_path)


def test_a_key_for_the_simulated_stimulator_opens_no_other(tmp_path: Path) -> None:
    write(tmp_path, make_prescription(device="p24"), Signer(**VALID))
    refused(tmp_path, "signed.signatures[0].key (Dr A): may sign for 'simulated' only", device="p24")
    write(tmp_path, make_prescription(device="p24", authority="lower_only"), Signer(scope="any", **VALID))
    assert read(tmp_path, device="p24").device == "p24"


def test_above_lower_only_two_people_must_sign_for_a_real_device(tmp_path: Path) -> None:
    p = make_prescription(device="p24", signers=("Dr A",))
    one, same_person, other = (Signer(n, scope="any", **VALID) for n in ("Dr A", "Dr A", "Dr B"))
    write(tmp_path, p, one)
    refused(tmp_path, "signed.signatures: authority 'within_bounds' needs two", device="p24")
    write(tmp_path, p, one, same_person)
    refused(tmp_path, "signed.signatures: authority 'within_bounds' needs two", device="p24")
    write(tmp_path, p, one, other)
    assert read(tmp_path, device="p24") == p


def test_a_named_signer_must_have_signed(tmp_path: Path) -> None:
    write(tmp_path, make_prescription(signers=("Dr A", "Dr B")))
    refused(tmp_path, "prescription.signers: 'Dr B'")


def test_one_bad_signature_spoils_a_good_one(tmp_path: Path) -> None:
    write(tmp_path, None, Signer(**VALID), Signer("Dr B", **{**VALID, "revoked": True}))
    refused(tmp_path, "signed.signatures[1].key (Dr B): is revoked")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_keys_that_others_may_write(tmp_path: Path, mode: int) -> None:
    write(tmp_path)
    (tmp_path / "trusted.json").chmod(mode)
    refused(tmp_path, f"{tmp_path}/trusted.json: must belong to you")


def test_keys_that_belong_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    real, me = os.fstat, os.getuid()

    def somebody_elses(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[4] = me + 4711
        return os.stat_result(status)

    monkeypatch.setattr("interlock.strict.os.fstat", somebody_elses)
    refused(tmp_path, f"{tmp_path}/trusted.json: must belong to you")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda b: b.update(keys=5), "trusted.keys: must be a list"),
        (lambda b: b.update(other=5), "trusted: must be one object"),
        (lambda b: b["keys"].append(5), "trusted.keys[1]: must have exactly"),
        (lambda b: b["keys"][0].pop("revoked"), "trusted.keys[0]: must have exactly"),
        (lambda b: b["keys"][0].update(key="zz" * 32), "trusted.keys[0].key"),
        (lambda b: b["keys"][0].update(name=""), "trusted.keys[0].name"),
        (lambda b: b["keys"][0].update(name=3), "trusted.keys[0].name"),
        (lambda b: b["keys"][0].update(scope="all"), "trusted.keys[0].scope"),
        (lambda b: b["keys"][0].update(valid_from_s=1.5), "trusted.keys[0].valid_from_s"),
        (lambda b: b["keys"][0].update(valid_until_s=True), "trusted.keys[0].valid_until_s"),
        (lambda b: b["keys"][0].update(revoked=0), "trusted.keys[0].revoked"),
        (lambda b: b["keys"].append(dict(b["keys"][0])), "trusted.keys[1].key: appears twice"),
    ],
)
def test_malformed_trusted_keys(tmp_path: Path, change: Callable[[dict[str, Any]], object], field: str) -> None:
    write(tmp_path)
    change_json(tmp_path / "trusted.json", change)
    refused(tmp_path, field)


def test_replaced_field_is_no_longer_signed(tmp_path: Path) -> None:
    signer = Signer(**VALID)
    write(tmp_path, None, signer)
    stronger = replace(make_prescription(), amplitude_ua=2000).to_bytes()
    change_json(tmp_path / "prescription.signed", lambda b: b.update(payload=base64.b64encode(stronger).decode()))
    refused(tmp_path, "signed.signatures[0].signature")


def test_a_number_of_more_digits_than_can_be_read_is_refused_and_no_crash() -> None:
    """Python's own limit is 4300 digits; beyond it json raises a plain ValueError."""
    digits = b'{"keys":' + b"9" * 5000 + b"}"
    with pytest.raises(PrescriptionError, match="not JSON"):
        one_object(digits, "trusted", {"keys"})
    with pytest.raises(PrescriptionError, match="not JSON"):
        json_object(digits, "trusted", ("keys",))
    with pytest.raises(PrescriptionError, match="digits"):
        Prescription.from_bytes(digits)


@pytest.mark.parametrize(
    ("changes", "entry", "at_s", "refused"),
    [
        ({"valid_until_s": 2_000}, {}, 3_000.0, ("prescription.valid_until_s", 3_000.0, 2_000, "prescription")),
        ({"valid_from_s": 4_000}, {}, 3_000.0, ("prescription.valid_from_s", 3_000.0, 4_000, "prescription")),
        ({"patient": "other"}, {}, 3_000.0, ("prescription.patient", "other", "virtual", "seat")),
        ({"device": "mqtt"}, {"scope": "any"}, 3_000.0, ("prescription.device", "mqtt", "simulated", "seat")),
        ({}, {"revoked": True}, 3_000.0, ("signed.signatures[0].key (Dr A)", "revoked", "not revoked", "clinic")),
        ({}, {"valid_until_s": 2_500}, 3_000.0, ("signed.signatures[0].key (Dr A)", 3_000.0, "0 to 2500", "clinic")),
        ({"signers": ("Dr A", "Dr B")}, {}, 3_000.0, ("prescription.signers", "Dr A", "Dr B", "prescription")),
    ],
)  # fmt: skip
def test_a_refusal_names_field_value_limit_and_who_set_it(
    tmp_path: Path, changes: dict[str, Any], entry: dict[str, Any], at_s: float, refused: tuple[Any, ...]
) -> None:
    signer = Signer(**{"valid_from_s": 0, **entry})
    p = make_prescription(**{"valid_from_s": 1_000, "valid_until_s": 10_000, **changes})
    path = write_signed(tmp_path, p, [signer], tmp_path / "trusted.json")
    with pytest.raises(PrescriptionError) as error:
        read_prescription(path, tmp_path, "virtual", "simulated", at_s)
    assert (str(error.value).partition(": ")[0], error.value.value, error.value.limit, error.value.set_by) == refused


@pytest.mark.parametrize(("signatures", "number"), [([], 0), (None, 0), ([{}] * 9, 9)])
def test_what_nobody_signed_is_refused_by_how_many_signatures_it_has(tmp_path: Path, signatures: object, number: int) -> None:
    write(tmp_path)
    change_json(tmp_path / "prescription.signed", lambda body: body.update(signatures=signatures))
    with pytest.raises(PrescriptionError, match="unsigned") as error:
        read(tmp_path)
    assert (error.value.value, error.value.limit, error.value.set_by) == (number, "1-8", "interlock")


@pytest.mark.parametrize(("text", "found"), [(b'{"b": 1, "a": 2}', "a, b"), (b"[1]", "list"), (b"7", "int")])
def test_what_is_not_the_object_that_was_asked_for_is_named(text: bytes, found: str) -> None:
    with pytest.raises(PrescriptionError, match="signed: must be one object with exactly c, d") as error:
        one_object(text, "signed", {"c", "d"})
    assert (error.value.value, error.value.limit, error.value.set_by) == (found, "c, d", "format")
