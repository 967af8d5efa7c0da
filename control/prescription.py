"""Prescriptions: the YAML a clinician writes, the canonical bytes that are signed, and who may sign what.

Signed file, format `eegloop-signed-1` (JSON):
`{"format":"eegloop-signed-1","payload":"<base64 of the canonical bytes>","signatures":[{"key":"<hex>","signature":"<hex>"}]}`;
a signature is Ed25519 over `b"eegloop prescription v1\\0" + payload`. Every signature in the file must hold and be of a
trusted key. Trusted keys (`DATA/keys/trusted.json`, 0600):
`{"keys":[{"key":"<hex>","name","role":"prescriber","scope":"simulated"|"any","valid_from_s","valid_until_s","revoked":false}]}`.
Hexadecimal is in lower case. Files are read and written by the daemon; these functions take and give text and bytes.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import yaml
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from control.bounds import check
from control.schema import FIELDS, allowed_words, near
from eegloop.stim import Authority, Prescription, PrescriptionError

DOMAIN = b"eegloop prescription v1\0"
SIGNED_FORMAT = "eegloop-signed-1"
MOST_PASSPHRASE_BYTES = 1023  # of the encryption's own
_MOST_BYTES = 65_536
_MOST_BRACKETS = 100
_DATES = ("valid_from_s", "valid_until_s")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One entry of trusted.json: whose public key (hex) this is, and what it may sign from when to when (Unix s)."""

    key: str
    name: str
    role: str
    scope: str
    valid_from_s: int
    valid_until_s: int
    revoked: bool


def parse_yaml(text: str) -> Prescription:
    """A prescription as a clinician writes it: the fields of `Prescription`, whole numbers, dates allowed for validity.

    Raises
    ------
    PrescriptionError
        Naming the line, the field, the value and what is allowed.
    """
    if len(text) > _MOST_BYTES or text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise PrescriptionError(f"prescription: too long or nested too deeply; at most {_MOST_BYTES} characters are read")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise PrescriptionError(f"prescription: not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise PrescriptionError("prescription: nested too deeply") from None
    if not isinstance(node, yaml.MappingNode):
        raise PrescriptionError("prescription: must be a list of `field: value` lines")
    lines: dict[str, int] = {}
    try:
        body = _plain(node, "", lines)
        _known(body)
        payload = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        prescription = Prescription.from_bytes(payload)
        check(prescription)
    except PrescriptionError as error:
        raise PrescriptionError(_with_line(str(error), lines)) from None
    return prescription


def _known(body: dict[str, Any]) -> None:
    """Refuse a field that does not exist, naming the one probably meant."""
    for key in body:
        if key not in FIELDS:
            raise PrescriptionError(f"prescription.{key}: unknown field{near(key)}")
    for field in fields(Prescription):
        key = field.name
        if key not in body and field.default is MISSING:
            raise PrescriptionError(
                f"prescription.{key}: missing; allowed: {allowed_words(key)} (a missing limit is zero, so nothing could be delivered)"
            )


def _plain(node: yaml.Node, path: str, lines: dict[str, int], depth: int = 0) -> Any:
    """A YAML node as dict, list, int or str; notes each field's line. At most two levels deep, so that no alias can explode."""
    if depth > 2:
        raise PrescriptionError(f"prescription.{path}: nested too deeply")
    if isinstance(node, yaml.MappingNode):
        body: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            key = f"{path}.{name}".lstrip(".")
            lines[key] = key_node.start_mark.line + 1
            if name == "?" or name in body:
                raise PrescriptionError(f"prescription.{key}: must be a name that appears once")
            body[name] = _plain(value_node, key, lines, depth + 1)
        return body
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path, lines, depth + 1) for item in node.value]
    return _scalar(node, path)


def _scalar(node: yaml.Node, path: str) -> int | str:
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise PrescriptionError(f"prescription.{path}: {node.value!r} cannot be read ({error})") from None
    finally:
        loader.dispose()
    if path in _DATES and isinstance(value, datetime.date):
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime(value.year, value.month, value.day)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())
    # YAML reads 0100 as 64, 30:00 as 1800 and 0x64 as 100: nobody who writes a prescription may have to know that.
    plain = isinstance(value, str) or re.fullmatch(r"-?(0|[1-9][0-9]*)", node.value) is not None
    if isinstance(value, bool) or not isinstance(value, int | str) or not plain:
        allowed = allowed_words(path)
        raise PrescriptionError(
            f"prescription.{path}: {node.value!r} must be a whole number in plain digits or a text in quotes"
            + (f"; allowed: {allowed}" if allowed else "")
        )
    return value


def _with_line(message: str, lines: dict[str, int]) -> str:
    found = re.match(r"prescription\.([\w.?]+?)(?=: )", message)
    line = None if found is None else lines.get(found.group(1))
    if line is None:
        return message
    field = found.group(1) if found is not None else ""
    allowed = allowed_words(field)
    unit = f" (allowed: {allowed})" if allowed and allowed not in message else ""
    return f"line {line}: {message}{unit}"


def new_key() -> bytes:
    """A new private key: 32 bytes of seed. Keep it where the bedside machine cannot read it."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def lock_key(private_key: bytes, passphrase: str) -> bytes:
    """The private key as encrypted PEM (PKCS #8), the only form for a disk, and for the clinic's only."""
    if not passphrase:
        raise PrescriptionError("private key: needs a passphrase")
    words = _typed(passphrase)[0]
    if len(words) > MOST_PASSPHRASE_BYTES:
        raise PrescriptionError(f"private key: a passphrase of {len(words)} bytes; at most {MOST_PASSPHRASE_BYTES}")
    return Ed25519PrivateKey.from_private_bytes(private_key).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(words)
    )


def _typed(passphrase: str) -> list[bytes]:
    """What a passphrase may stand for, the composed form first: one keyboard sends ä as one character, another as a and two dots."""
    try:
        return [unicodedata.normalize("NFC", passphrase).encode(), passphrase.encode()]
    except UnicodeEncodeError:
        raise PrescriptionError("private key: the passphrase holds what is no character; type it anew") from None


def unlock_key(pem: bytes, passphrase: str) -> bytes:
    """The 32-byte seed inside an encrypted PEM.

    Raises
    ------
    PrescriptionError
        If the passphrase is wrong or this is no Ed25519 key.
    """
    for words in dict.fromkeys(_typed(passphrase)):
        try:
            key = load_pem_private_key(pem, words)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if not isinstance(key, Ed25519PrivateKey):
            raise PrescriptionError("private key: must be an Ed25519 key")
        return key.private_bytes_raw()
    raise PrescriptionError("private key: wrong passphrase, or not an encrypted private key")


def public_key(private_key: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def sign(prescription: Prescription, private_keys: Sequence[bytes]) -> bytes:
    """The signed file's bytes, one signature for each 32-byte seed; refuses what `check` refuses."""
    check(prescription)
    payload = prescription.to_bytes()
    Prescription.from_bytes(payload)
    if not private_keys:
        raise PrescriptionError("signatures: at least one private key is needed")
    signatures = [
        {
            "key": public_key(seed).hex(),
            "signature": Ed25519PrivateKey.from_private_bytes(seed).sign(DOMAIN + payload).hex(),
        }
        for seed in private_keys
    ]
    body = {"format": SIGNED_FORMAT, "payload": base64.b64encode(payload).decode(), "signatures": signatures}
    return json.dumps(body, indent=1).encode() + b"\n"


def parse_trusted(text: bytes) -> tuple[TrustedKey, ...]:
    """Read trusted.json strictly.

    Raises
    ------
    PrescriptionError
        Naming the entry and the field.
    """
    body = json_object(text, "trusted keys", ("keys",))
    entries = body["keys"]
    if not isinstance(entries, list):
        raise PrescriptionError("trusted keys: `keys` must be a list")
    return tuple(_trusted(entry, number) for number, entry in enumerate(entries, start=1))


def _trusted(entry: Any, number: int) -> TrustedKey:
    where = f"trusted keys, entry {number}"
    names = {f.name for f in fields(TrustedKey)}
    if not isinstance(entry, dict) or set(entry) != names:
        raise PrescriptionError(f"{where}: must have exactly the fields {', '.join(sorted(names))}")
    if not is_hex(entry["key"], 64):
        raise PrescriptionError(f"{where}.key: must be 64 hexadecimal digits in lower case")
    if not isinstance(entry["name"], str) or not entry["name"].strip():
        raise PrescriptionError(f"{where}.name: must be a name")
    if entry["role"] != "prescriber":
        raise PrescriptionError(f"{where}.role: {entry['role']!r} must be 'prescriber'")
    if entry["scope"] not in ("simulated", "any"):
        raise PrescriptionError(f"{where}.scope: {entry['scope']!r} must be 'simulated' or 'any'")
    for field in _DATES:
        if isinstance(entry[field], bool) or not isinstance(entry[field], int):
            raise PrescriptionError(f"{where}.{field}: {entry[field]!r} must be Unix time in whole seconds")
    if not isinstance(entry["revoked"], bool):
        raise PrescriptionError(f"{where}.revoked: {entry['revoked']!r} must be true or false")
    return TrustedKey(**entry)


def trusted_bytes(keys: Sequence[TrustedKey]) -> bytes:
    """trusted.json of these keys."""
    return json.dumps({"keys": [asdict(key) for key in keys]}, indent=1).encode() + b"\n"


def signed_prescription(signed: bytes) -> Prescription:
    """What stands in a signed file. Says nothing of who signed it: `verify` does."""
    return Prescription.from_bytes(_open(signed)[0])


def signer_names(signed: bytes, trusted: Sequence[TrustedKey]) -> set[str]:
    """Of whose keys there are signatures in a signed file; whether they stand says `verify`."""
    keys = {key for key, _ in _open(signed)[1]}
    return {entry.name for entry in trusted if entry.key in keys}


def verify(signed: bytes, trusted: Sequence[TrustedKey], now_s: float, patient: str, device: str) -> Prescription:
    """The prescription inside, if it may be used here and now.

    Parameters
    ----------
    now_s : float
        Unix time, s.
    patient, device : str
        The seat's person code and stimulator kind.

    Raises
    ------
    PrescriptionError
        Naming the field, the value and what is allowed.
    """
    payload, signatures = _open(signed)
    by_key = {key.key: key for key in trusted}
    signers = [_check_signature(payload, key, signature, by_key, now_s) for key, signature in signatures]
    prescription = Prescription.from_bytes(payload)
    if prescription.to_bytes() != payload:
        raise PrescriptionError("prescription: the signed bytes are not in canonical form; sign it again")
    for signer in signers:
        if signer.scope != "any" and prescription.device != "simulated":
            raise PrescriptionError(
                f"prescription.device: {prescription.device!r}, but {signer.name}'s key signs for 'simulated' only"
            )
    people = min(len({s.key for s in signers}), len({s.name for s in signers}))
    if prescription.authority == Authority.WITHIN_BOUNDS and prescription.device != "simulated" and people < 2:
        raise PrescriptionError("prescription.authority: 'within_bounds' needs the signatures of two different people")
    if not prescription.valid_from_s <= now_s < prescription.valid_until_s:
        raise PrescriptionError(
            f"prescription.valid_until_s: it is {_date(now_s)}, the prescription is valid from "
            f"{_date(prescription.valid_from_s)} to {_date(prescription.valid_until_s)}"
        )
    if prescription.patient != patient:
        raise PrescriptionError(f"prescription.patient: {prescription.patient!r}, but this seat's person is {patient!r}")
    if prescription.device != device:
        raise PrescriptionError(f"prescription.device: {prescription.device!r}, but this seat's stimulator is {device!r}")
    check(prescription)
    return prescription


def _open(signed: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """Payload and (key, signature) pairs of a signed file, nothing checked but its form."""
    body = json_object(signed, "signed prescription", ("format", "payload", "signatures"))
    if body["format"] != SIGNED_FORMAT:
        raise PrescriptionError(f"signed prescription.format: {body['format']!r} must be {SIGNED_FORMAT!r}")
    try:
        payload = base64.b64decode(body["payload"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise PrescriptionError("signed prescription.payload: must be base64") from None
    entries = body["signatures"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= 8:
        raise PrescriptionError("signed prescription.signatures: must be a list of 1 to 8")
    pairs = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or set(entry) != {"key", "signature"}:
            raise PrescriptionError(f"signed prescription.signatures, entry {number}: must have `key` and `signature`")
        if not is_hex(entry["key"], 64) or not is_hex(entry["signature"], 128):
            raise PrescriptionError(f"signed prescription.signatures, entry {number}: must be hexadecimal in lower case")
        pairs.append((entry["key"], entry["signature"]))
    return payload, pairs


def _check_signature(payload: bytes, key: str, signature: str, by_key: dict[str, TrustedKey], now_s: float) -> TrustedKey:
    signer = by_key.get(key)
    if signer is None:
        raise PrescriptionError(f"signed prescription.signatures: key {key[:16]}... is not trusted on this machine")
    if signer.revoked:
        raise PrescriptionError(f"signed prescription.signatures: {signer.name}'s key was revoked")
    if not signer.valid_from_s <= now_s < signer.valid_until_s:
        raise PrescriptionError(
            f"signed prescription.signatures: it is {_date(now_s)}, {signer.name}'s key is valid from "
            f"{_date(signer.valid_from_s)} to {_date(signer.valid_until_s)}"
        )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), DOMAIN + payload)
    except InvalidSignature:
        raise PrescriptionError(f"signed prescription.signatures: {signer.name}'s signature does not fit these bytes") from None
    return signer


def json_object(text: bytes, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if len(text) > _MOST_BYTES:
        raise PrescriptionError(f"{what}: {len(text)} bytes; at most {_MOST_BYTES} are read")
    try:
        body = json.loads(text.decode("utf-8"), object_pairs_hook=lambda pairs: _once(pairs, what))
    except PrescriptionError:
        raise
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise PrescriptionError(f"{what}: not JSON ({error})") from None
    if not isinstance(body, dict) or set(body) != set(keys):
        raise PrescriptionError(f"{what}: must be an object with exactly the fields {', '.join(keys)}")
    return body


def _once(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise PrescriptionError(f"{what}: a field appears twice")
    return body


def is_hex(value: Any, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def _date(unix_s: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s (no date)"


def demo_prescription(patient: str, now_s: float) -> Prescription:
    """The virtual person's prescription: bifrontal tDCS on the `simulated` stimulator, authority `within_bounds`, valid a week.

    Blocks are short, so that a newcomer sees decisions within the first two minutes.
    """
    return Prescription(
        format="eegloop-prescription-1",
        id="demo",
        patient=patient,
        profile="clinic",
        device="simulated",
        device_serial="*",
        modality="tdcs",
        montage="F3 anode, F4 cathode",
        authority=Authority.WITHIN_BOUNDS.value,
        controller="dual_threshold",
        amplitude_ua=1000,
        start_ua=400,
        frequency_millihz=0,
        ramp_ua_per_s=100,
        fallback_ms=2_000,
        session_ms=1_200_000,
        session_uc=1_200_000,
        day_sessions=10,
        week_sessions=50,
        course_sessions=200,
        lockout_ms=0,
        pad_mm2=3_500,
        baseline_ms=15_000,
        sense_ms=14_000,
        stimulate_ms=20_000,
        stale_ms=10_000,
        artifact_ms=60_000,
        supervision_ms=15_000,
        valid_from_s=int(now_s) - 60,
        valid_until_s=int(now_s) + 7 * 86_400,
        signers=("demo",),
        # Current from F3 to F4 makes the virtual person's asymmetry rise (simulators/response.py).
        settings={
            "biomarker": "faa",
            "channel": "F3-F4",
            "unit": "milli",
            "low_milli": 200,
            "high_milli": 600,
            "more_moves": "up",
            "average_n": 15,
            "dwell_n": 5,
            "step_ua": 100,
            "refractory_ms": 20_000,
        },
    )
