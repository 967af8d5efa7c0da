"""Prescriptions: what is written, what is signed, and every way to be refused."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from control.prescription import (
    DOMAIN,
    TrustedKey,
    demo_prescription,
    lock_key,
    new_key,
    parse_trusted,
    parse_yaml,
    public_key,
    sign,
    signer_names,
    trusted_bytes,
    unlock_key,
    verify,
)
from eegloop.plugins import find
from eegloop.stim import Prescription, PrescriptionError
from interlock.limits import first_breach

NOW_S = 1_800_000_000.0
EXAMPLES = sorted((Path(__file__).parents[2] / "control" / "examples").glob("*.yaml"))
DEEP = "".join(" " * n + "a:\n" for n in range(340))
ANN, BOB = bytes(range(32)), bytes(range(1, 33))


def key(seed: bytes = ANN, **changes: Any) -> TrustedKey:
    entry = TrustedKey(public_key(seed).hex(), f"Dr. {seed[0]}", "prescriber", "any", 0, 2**40, False)
    return dataclasses.replace(entry, **changes)


def demo(**changes: Any) -> Prescription:
    return dataclasses.replace(demo_prescription("virtual", NOW_S), **changes)


def real(**changes: Any) -> Prescription:
    settings = {"biomarker": "relative_power.alpha", "channel": "F3"}
    worn = {"ramp_ua_per_s": 33, "session_uc": 3_600_000, "day_sessions": 1, "week_sessions": 5, "lockout_ms": 43_200_000}
    return demo(device="pulse_pal", device_serial="123", settings=settings, **{**worn, **changes})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_examples_can_be_signed_and_used(path: Path) -> None:
    prescription = parse_yaml(path.read_text(encoding="utf-8"))
    now_s = prescription.valid_from_s + 1.0
    assert verify(sign(prescription, [ANN]), [key()], now_s, prescription.patient, prescription.device) == prescription
    assert prescription.valid_from_s == 1_767_225_600, "2026-01-01 is midnight UTC"


def test_there_are_examples() -> None:
    assert {p.stem for p in EXAMPLES} >= {
        "bifrontal_tdcs", "frontal_alpha_tacs", "left_dlpfc_itbs", "left_dlpfc_10hz", "pulse_pal_gated", "trough_of_alpha_pulses",
    }  # fmt: skip


def test_canonical_bytes_survive_yaml_and_signing() -> None:
    prescription = demo()
    body = {**dataclasses.asdict(prescription), "signers": list(prescription.signers)}
    assert body.pop("pulses") is None
    assert parse_yaml(yaml.safe_dump(body)).to_bytes() == prescription.to_bytes()
    inside = json.loads(sign(prescription, [ANN]))
    assert base64.b64decode(inside["payload"]) == prescription.to_bytes()
    assert DOMAIN == b"eegloop prescription v1\0"


def test_pulses_may_be_signed_for_the_clinic_only() -> None:
    program = {
        "protocol": "table",
        "threshold": "rmt",
        "intensity_percent": 110,
        "motor_threshold_percent": 50,
        "burst_pulses": 1,
    }
    program |= {"burst_millihz": 0, "train_millihz": 10_000, "train_pulses": 20, "trains": 30, "interval_ms": 5_000}
    program |= {"session_pulses": 600, "day_pulses": 600, "week_pulses": 3_000, "course_pulses": 20_000}
    program |= {"waveform": "monophasic", "current": "reverse"}
    body = {**json.loads(demo().to_bytes()), "modality": "tms", "amplitude_ua": 0, "start_ua": 0, "pulses": program}
    signed = parse_yaml(yaml.safe_dump(body))
    assert signed.pulses is not None and json.loads(signed.to_bytes())["pulses"] == program
    with pytest.raises(PrescriptionError, match="never given at home"):
        parse_yaml(yaml.safe_dump({**body, "profile": "home"}))


def test_dates_may_carry_a_time_and_a_zone() -> None:
    text = EXAMPLES[0].read_text(encoding="utf-8")
    assert parse_yaml(text.replace("2026-01-01", "2026-01-01 12:00:00")).valid_from_s == 1_767_225_600 + 43_200
    assert parse_yaml(text.replace("2026-01-01", "2026-01-01T12:00:00+02:00")).valid_from_s == 1_767_225_600 + 36_000
    assert parse_yaml(text.replace("2026-01-01", "5")).valid_from_s == 5


@pytest.mark.parametrize(
    ("find", "put", "says"),
    [
        ("step_ua: 100", "step_ua: 500", "settings.step_ua: 500"),
        ("amplitude_ua: 2000", "amplitude_ua: 02000", "amplitude_ua: '02000' must be a whole number in plain digits"),
        ("session_ms: 1800000", "session_ms: 30:00", "session_ms: '30:00' must be a whole number in plain digits"),
        ("ramp_ua_per_s: 66", "ramp_ua_per_s: 0x42", "ramp_ua_per_s: '0x42' must be a whole number in plain digits"),
        ("amplitude_ua: 2000", "amplitude_ua: 2_000", "amplitude_ua: '2_000' must be a whole number in plain digits"),
        ("dwell_n: 3", "dwell_n: many", "settings.dwell_n: 'many'"),
        ("dwell_n: 3", "dwel_n: 3", "settings.dwel_n: unknown"),
        ("dwell_n: 3", "dwell_n: 2.5", "settings.dwell_n: '2.5' must be a whole number"),
        ("  biomarker: relative_power.alpha\n", "", "settings.biomarker: missing"),
        ("low_milli: 900", "low_milli: 1100", "settings.low_milli: 1100"),
        ("stale_ms: 10000", "stale_ms: 99999", "stale_ms: 99999"),
        ("authority: lower_only", "authority: raise", "authority: 'raise'"),
        ("pad_mm2: 3500", "pad_mm2: 2400", "pad_mm2: 2400"),
        ("profile: home", "profile: home\nprofile: clinic", "profile: must be a name that appears once"),
        ("profile: home", "[1]: home", "must be a name"),
        ("modality: tdcs", "modality: yes", "modality: 'yes'"),
        ("valid_from_s: 2026-01-01", "valid_from_s: 2026-13-01", "valid_from_s: '2026-13-01'"),
        ("id: example", "id: 2026-01-01 #", "id: '2026-01-01'"),
        ("id: example", "id: !!binary x #", "id:"),
        ("id: example", "id: !thing x #", "id: 'x' cannot be read"),
        ("controller: dual_threshold", "controller: dual_treshold", "did you mean 'dual_threshold'"),
        ("amplitude_ua: 2000", "amplitude_ua: 2001", "amplitude_ua: 2001 is above 2000"),
        ("signers: [Dr. Example]", "signers: []", "signers"),
        ("frequency_millihz: 0", "frequency_millihz: 10", "frequency_millihz: 10 does not fit"),
    ],
)
def test_errors_name_line_field_value_and_what_is_allowed(find: str, put: str, says: str) -> None:
    text = EXAMPLES[0].read_text(encoding="utf-8")
    assert find in text
    with pytest.raises(PrescriptionError) as error:
        parse_yaml(text.replace(find, put, 1))
    assert says in str(error.value)
    if "missing" not in says:
        line = next(
            i
            for i, row in enumerate(text.replace(find, put, 1).splitlines(), 1)
            if row.strip().startswith(put.strip().splitlines()[-1])
        )
        assert str(error.value).startswith(f"line {line}: ")


@pytest.mark.parametrize("text", ["", "- 1", "just words", "a: [", "a: &x [*x]", "\x00", "{" * 5000, "x" * 70_000, DEEP])
def test_files_that_are_no_prescription(text: str) -> None:
    with pytest.raises(PrescriptionError, match="prescription"):
        parse_yaml(text)


def test_a_stack_that_is_nearly_full_ends_in_the_same_line() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 120)
    try:
        with pytest.raises(PrescriptionError, match="nested too deeply"):
            parse_yaml(DEEP)
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modality": "tacs", "frequency_millihz": 400}, "frequency_millihz: 400 must be from 500"),
        (
            {"modality": "tacs", "frequency_millihz": 10_000, "profile": "home", "amplitude_ua": 1001},
            "amplitude_ua: 1001 is above 1000",
        ),
        ({"device": "pulse_pal"}, "device_serial"),
        ({"frequency_millihz": 1}, "frequency_millihz: 1 must be 0 for tdcs"),
        ({"controller": "magic"}, "controller"),
    ],
)
def test_bounds(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PrescriptionError, match=says):
        sign(demo(**changes), [ANN])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session_ms", 1_800_001),
        ("session_uc", 3_600_001),
        ("day_sessions", 2),
        ("week_sessions", 6),
        ("lockout_ms", 43_199_999),
        ("pad_mm2", 2_499),
    ],
)
@pytest.mark.parametrize("profile", ["home", "clinic"])
def test_bounds_of_what_is_worn_bind_on_a_real_stimulator(profile: str, field: str, value: int) -> None:
    worn = real(profile=profile, authority="lower_only")
    sign(worn, [ANN])
    with pytest.raises(PrescriptionError, match=rf"{field}: {value} must be .*profile '{profile}'"):
        sign(dataclasses.replace(worn, **{field: value}), [ANN])


@pytest.mark.parametrize(
    ("modality", "amplitude_ua", "most", "least_s"),
    [("tdcs", 2_000, 66, 30), ("tdcs", 1_999, 66, 30), ("tdcs", 29, 1, 30), ("tacs", 1_000, 100, 10), ("tacs", 500, 50, 10)],
)
@pytest.mark.parametrize("profile", ["home", "clinic"])
def test_a_planned_ramp_on_a_person_takes_as_long_as_the_reference_says(
    profile: str, modality: str, amplitude_ua: int, most: int, least_s: int
) -> None:
    """reference/safety.md section 1: 30 s (tACS 10-30 s), beside at most 0.1 mA/s."""
    wave = {"modality": modality, "frequency_millihz": 10_000 if modality == "tacs" else 0}
    worn = real(profile=profile, authority="lower_only", amplitude_ua=amplitude_ua, start_ua=20, ramp_ua_per_s=most, **wave)
    sign(worn, [ANN])
    if most < 100:
        too_quick = dataclasses.replace(worn, ramp_ua_per_s=most + 1)
        words = rf"ramp_ua_per_s: {most + 1} reaches .* mA in less than {least_s} s; at most {most} does not \({modality} on a person\)"
        with pytest.raises(PrescriptionError, match=words):
            sign(too_quick, [ANN])
        sign(dataclasses.replace(too_quick, device="simulated", device_serial="*"), [ANN])


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\u2066", "\x7f", "\u00ad", "\n", "\ufeff", "\u2028"])
@pytest.mark.parametrize("field", ["id", "patient", "device_serial", "montage", "signers", "settings.biomarker", "settings.key"])
def test_what_is_read_at_the_desk_is_what_is_signed(field: str, hidden: str) -> None:
    """A character that nobody sees makes p001 of another person's code, or turns the text after it around."""
    text = f"p0{hidden}01"
    changed: dict[str, Any] = {field: text}
    if field == "signers":
        changed = {"signers": ("Dr. Ann", text)}
    if field.startswith("settings."):
        changed = {"settings": {**real().settings, **({"biomarker": text} if field.endswith("biomarker") else {text: 1})}}
    with pytest.raises(PrescriptionError, match=r"cannot be seen") as refused_for:
        sign(dataclasses.replace(real(authority="lower_only"), **changed), [ANN])
    assert str(refused_for.value).isascii() and str(refused_for.value).isprintable(), "nor does the message carry it on"
    spoken: dict[str, Any] = {
        "id": "Übung Nr. 3",
        "patient": "p001",
        "montage": "F3 Anode, F4 Kathode – 35 cm²",
        "signers": ("Dr. Łukasz Ωνάσης",),
    }
    sign(dataclasses.replace(real(authority="lower_only"), **spoken), [ANN])


def test_nothing_ramps_where_nothing_is_given() -> None:
    sign(real(profile="home", authority="observe", amplitude_ua=0, start_ua=0, ramp_ua_per_s=100), [ANN])


def test_at_home_nobody_signs_that_the_loop_may_raise() -> None:
    with pytest.raises(PrescriptionError, match=r"authority: 'within_bounds'.*'home'"):
        sign(real(profile="home"), [ANN, BOB])
    sign(real(profile="home", authority="observe"), [ANN])


def test_the_demo_follows_what_the_virtual_brain_and_the_line_have() -> None:
    settings = demo().settings
    assert (settings["biomarker"], settings["channel"], settings["more_moves"]) == ("faa", "F3-F4", "up")


def test_short_refractory_times_are_for_the_simulated_stimulator() -> None:
    with pytest.raises(PrescriptionError, match="refractory_ms: 20000 must be at least 60000"):
        sign(dataclasses.replace(real(), settings=demo().settings), [ANN])
    sign(real(), [ANN])


def test_signing_needs_a_key_and_a_sound_prescription() -> None:
    with pytest.raises(PrescriptionError, match="at least one"):
        sign(demo(), [])
    with pytest.raises(PrescriptionError, match="stale_ms"):
        sign(demo(stale_ms=1), [ANN])


def test_keys_are_random_seeds() -> None:
    one, other = new_key(), new_key()
    assert len(one) == 32 and one != other and len(public_key(one)) == 32
    # RFC 8032, section 7.1, test 1
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert public_key(seed).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_private_keys_are_kept_under_a_passphrase() -> None:
    locked = lock_key(ANN, "correct horse")
    assert locked.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") and ANN not in locked
    assert unlock_key(locked, "correct horse") == ANN
    other = ec.generate_private_key(ec.SECP256R1())
    not_ours = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse"))
    bare = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem, passphrase in ((locked, "wrong"), (locked, ""), (b"x", "correct horse"), (not_ours, "correct horse"), (bare, "x")):
        with pytest.raises(PrescriptionError, match="private key"):
            unlock_key(pem, passphrase)
    with pytest.raises(PrescriptionError, match="passphrase"):
        lock_key(ANN, "")
    assert unlock_key(lock_key(ANN, "x" * 1023), "x" * 1023) == ANN
    with pytest.raises(PrescriptionError, match="a passphrase of 1024 bytes; at most 1023"):
        lock_key(ANN, "x" * 1024)


def test_a_passphrase_is_kept_in_its_composed_form() -> None:
    """One keyboard sends an umlaut as one character, another as two: any program opens what either has locked by the composed one."""
    locked = lock_key(ANN, "a\u0308" * 8)
    assert load_pem_private_key(locked, ("\u00e4" * 8).encode()).private_bytes_raw() == ANN  # type: ignore[union-attr]


def refused(
    says: str,
    signed: bytes | None = None,
    keys: Any = None,
    now_s: float = NOW_S,
    patient: str = "virtual",
    device: str = "simulated",
) -> None:
    with pytest.raises(PrescriptionError, match=says):
        verify(signed or sign(demo(), [ANN]), keys if keys is not None else [key()], now_s, patient, device)


def test_a_trusted_signature_opens_it() -> None:
    assert verify(sign(demo(), [ANN]), [key(BOB), key()], NOW_S, "virtual", "simulated") == demo()
    assert verify(sign(demo(), [ANN]), [key(scope="simulated")], NOW_S, "virtual", "simulated") == demo()


def test_who_may_not_sign() -> None:
    refused("not trusted", keys=[])
    refused("not trusted", keys=[key(BOB)])
    refused("not trusted", signed=sign(demo(), [ANN, BOB]))
    refused("revoked", keys=[key(revoked=True)])
    refused("key is valid from", keys=[key(valid_until_s=int(NOW_S))])
    refused("key is valid from", keys=[key(valid_from_s=int(NOW_S) + 1)])
    refused(
        "signs for 'simulated' only",
        signed=sign(real(authority="lower_only"), [ANN]),
        keys=[key(scope="simulated")],
        device="pulse_pal",
    )


def test_whose_signatures_a_file_has() -> None:
    both = [key(name="Ann"), key(BOB, name="Bo")]
    assert signer_names(sign(demo(), [ANN]), both) == {"Ann"}
    assert signer_names(sign(demo(), [BOB, ANN]), both) == {"Ann", "Bo"}
    assert signer_names(sign(demo(), [ANN]), both[1:]) == set()


def test_two_people_sign_above_lower_only_on_a_real_stimulator() -> None:
    both = [key(), key(BOB)]
    assert verify(sign(real(), [ANN, BOB]), both, NOW_S, "virtual", "pulse_pal") == real()
    refused("two different", signed=sign(real(), [ANN]), keys=both, device="pulse_pal")
    refused("two different", signed=sign(real(), [ANN, ANN]), keys=both, device="pulse_pal")
    refused("two different", signed=sign(real(), [ANN, BOB]), keys=[key(), key(BOB, name="Dr. 0")], device="pulse_pal")
    lower = real(authority="lower_only")
    assert verify(sign(lower, [ANN]), both, NOW_S, "virtual", "pulse_pal") == lower


def test_when_and_for_whom() -> None:
    refused("valid_until_s", now_s=NOW_S + 7 * 86_400)
    refused("valid_until_s", now_s=NOW_S - 61)
    for now_s in (NOW_S - 60, NOW_S + 7 * 86_400 - 1):
        assert verify(sign(demo(), [ANN]), [key()], now_s, "virtual", "simulated") == demo()
    refused("patient", patient="other")
    refused("this seat's stimulator", device="magstim")


def test_a_time_that_is_no_number_opens_nothing() -> None:
    for now_s in (float("nan"), float("inf"), -1e30):
        refused("valid from", now_s=now_s)


def edit(change: Callable[[dict[str, Any]], Any]) -> bytes:
    body = json.loads(sign(demo(), [ANN]))
    change(body)
    return json.dumps(body).encode()


def test_every_flipped_bit_of_payload_and_signature_is_found() -> None:
    body = json.loads(sign(demo(), [ANN]))
    payload = base64.b64decode(body["payload"])
    for position in range(0, len(payload), 97):
        broken = bytearray(payload)
        broken[position] ^= 1
        refused("does not fit", edit(lambda b, p=bytes(broken): b.update(payload=base64.b64encode(p).decode())))
    signature = body["signatures"][0]["signature"]
    for position in range(0, 128, 7):
        digit = "0" if signature[position] != "0" else "1"
        other = signature[:position] + digit + signature[position + 1 :]
        refused("does not fit", edit(lambda b, s=other: b["signatures"][0].update(signature=s)))


def test_a_signature_for_another_purpose_does_not_count() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    bare = Ed25519PrivateKey.from_private_bytes(ANN).sign(demo().to_bytes()).hex()
    refused("does not fit", edit(lambda b: b["signatures"][0].update(signature=bare)))


def test_signed_bytes_must_be_canonical() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    payload = json.dumps(json.loads(demo().to_bytes()), indent=1).encode()
    signature = Ed25519PrivateKey.from_private_bytes(ANN).sign(DOMAIN + payload).hex()

    def swap(body: dict[str, Any]) -> None:
        body.update(payload=base64.b64encode(payload).decode())
        body["signatures"][0]["signature"] = signature

    refused("canonical", edit(swap))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.update(format="x"), "format: 'x'"),
        (lambda b: b.update(extra=1), "exactly the fields"),
        (lambda b: b.pop("payload"), "exactly the fields"),
        (lambda b: b.update(payload="%"), "base64"),
        (lambda b: b.update(payload=7), "base64"),
        (lambda b: b.update(payload="é"), "base64"),
        (lambda b: b.update(signatures=[]), "1 to 8"),
        (lambda b: b.update(signatures={}), "1 to 8"),
        (lambda b: b.update(signatures=[1]), "entry 1"),
        (lambda b: b.update(signatures=b["signatures"] * 9), "1 to 8"),
        (lambda b: b["signatures"][0].update(key="AB" * 32), "hexadecimal"),
        (lambda b: b["signatures"][0].update(signature="0"), "hexadecimal"),
    ],
)
def test_files_that_are_not_signed_prescriptions(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    refused(says, edit(change))


@pytest.mark.parametrize("signed", [b"x", b"[]", b"\xff", b'{"a":1,"a":2}', b" " * 70_000, b"[" * 50_000])
def test_bytes_that_are_nothing(signed: bytes) -> None:
    refused("signed prescription", signed)


def test_trusted_keys_go_round() -> None:
    keys = (key(), key(BOB, revoked=True, scope="simulated"))
    assert parse_trusted(trusted_bytes(keys)) == keys


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "00"), ("key", None), ("name", ""), ("name", 3), ("role", "patient"), ("scope", "all"), ("scope", []),
        ("valid_from_s", 1.5), ("valid_until_s", True), ("revoked", 0), ("colour", "red"),
    ],
)  # fmt: skip
def test_trusted_keys_are_read_strictly(field: str, value: Any) -> None:
    entry = {**dataclasses.asdict(key()), field: value}
    with pytest.raises(PrescriptionError, match=r"entry 1.*" + field if field != "colour" else "entry 1"):
        parse_trusted(json.dumps({"keys": [entry]}).encode())
    with pytest.raises(PrescriptionError):
        parse_trusted(b'{"keys": 1}')
    with pytest.raises(PrescriptionError):
        parse_trusted(b'{"keys": [1]}')


def test_the_demo_is_short_gentle_and_simulated() -> None:
    prescription = demo_prescription("virtual", NOW_S)
    assert (prescription.device, prescription.start_ua, prescription.amplitude_ua) == ("simulated", 400, 1000)
    assert prescription.ramp_ua_per_s <= 100 and prescription.session_ms == 1_200_000
    assert Prescription.from_bytes(prescription.to_bytes()) == prescription


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_interlock_would_arm_each_example_on_the_device_that_it_names(path: Path) -> None:
    prescription = parse_yaml(path.read_text(encoding="utf-8"))
    assert first_breach(prescription, find("stimulator", prescription.device).LIMITS) is None
