"""Read a signed prescription and decide whether this machine, person and stimulator may use it.

The interlock's own copy of the check: it shares no code with the daemon's (control/prescription.py).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from pathlib import Path
from typing import Any

from eegloop.stim import Authority, Prescription, PrescriptionError
from interlock.ed25519 import verify
from interlock.effects import SIMULATED

DOMAIN = b"eegloop prescription v1\0"
START_DOMAIN = b"eegloop start code v1\0"
_MOST_BYTES = 65_536
_KEY_FIELDS = {"key", "name", "role", "scope", "valid_from_s", "valid_until_s", "revoked"}


def read_prescription(path: Path, trusted: Path, patient: str, device: str, now_s: float) -> Prescription:
    """The prescription in a signed file, if trusted signatures cover exactly its bytes and it is for this seat, now.

    Parameters
    ----------
    path, trusted : Path
        The signed file, and trusted.json with the public keys an administrator allowed.
    now_s : float
        Unix time, s.

    Raises
    ------
    PrescriptionError
        Naming the field, its value and what is allowed.
    """
    payload, signatures = _open(path, "eegloop-signed-1")
    prescription = Prescription.from_bytes(payload)
    keys = trusted_keys(_read(trusted, must_be_ours=True))
    signers = _signers(signatures, DOMAIN + payload, keys, device, now_s)
    if prescription.patient != patient:
        raise PrescriptionError(f"prescription.patient: {prescription.patient!r} is not this seat's person {patient!r}")
    if prescription.device != device:
        raise PrescriptionError(f"prescription.device: {prescription.device!r} is not this seat's stimulator {device!r}")
    if not prescription.valid_from_s <= now_s:
        raise PrescriptionError(
            f"prescription.valid_from_s: {prescription.valid_from_s} is in the future (now {now_s:.0f}); check the clock"
        )
    if not now_s <= prescription.valid_until_s:
        raise PrescriptionError(
            f"prescription.valid_until_s: expired at {prescription.valid_until_s} (now {now_s:.0f}); have it signed anew"
        )
    for name in prescription.signers:
        if name not in signers:
            raise PrescriptionError(f"prescription.signers: {name!r} is named but no signature is theirs")
    if prescription.authority == Authority.WITHIN_BOUNDS and device != SIMULATED and len(signers) < 2:
        raise PrescriptionError("signed.signatures: authority 'within_bounds' needs two different signers")
    return prescription


def read_start_code(path: Path, trusted: Path, patient: str, course: str, device: str, now_s: float) -> tuple[int, int]:
    """What a clinic's start code is for: `(session, dose_uc)`, the session's number in its course and the dose given before it.

    It opens exactly one session, because a session's number comes once; the ledger must have the same dose.

    Raises
    ------
    PrescriptionError
        If there is none, or it is not signed by a trusted key for this person and prescription, or has expired.
    """
    payload, signatures = _open(path, "eegloop-start-1")
    keys = trusted_keys(_read(trusted, must_be_ours=True))
    _signers(signatures, START_DOMAIN + payload, keys, device, now_s)
    code = _strict_object(payload, "start_code", {"patient", "course", "session", "dose_uc", "valid_until_s"})
    for field, mine in (("patient", patient), ("course", course)):
        if code[field] != mine:
            raise PrescriptionError(f"start_code.{field}: {code[field]!r} is not {mine!r}")
    for field in ("session", "dose_uc", "valid_until_s"):
        if isinstance(code[field], bool) or not isinstance(code[field], int) or not 0 <= code[field] < 2**53:
            raise PrescriptionError(f"start_code.{field}: {code[field]!r} must be a whole number")
    if not now_s <= code["valid_until_s"]:
        raise PrescriptionError(
            f"start_code.valid_until_s: expired at {code['valid_until_s']} (now {now_s:.0f}); ask for another"
        )
    return code["session"], code["dose_uc"]


def _open(path: Path, kind: str) -> tuple[bytes, Any]:
    """Payload and signatures of a signed file; nothing is checked but its form."""
    body = _strict_object(_read(path, must_be_ours=False), "signed", {"format", "payload", "signatures"})
    if body["format"] != kind:
        raise PrescriptionError(f"signed.format: {body['format']!r} must be {kind!r}")
    return _base64(body["payload"]), body["signatures"]


def trusted_keys(data: bytes) -> dict[str, dict[str, Any]]:
    """trusted.json by public key (lower-case hex); raises PrescriptionError if it is not exactly as documented."""
    keys = _strict_object(data, "trusted", {"keys"})["keys"]
    if not isinstance(keys, list):
        raise PrescriptionError("trusted.keys: must be a list")
    known: dict[str, dict[str, Any]] = {}
    for i, entry in enumerate(keys):
        where = f"trusted.keys[{i}]"
        if not isinstance(entry, dict) or set(entry) != _KEY_FIELDS:
            raise PrescriptionError(f"{where}: must have exactly {', '.join(sorted(_KEY_FIELDS))}")
        _hex(entry["key"], 32, f"{where}.key")
        if not isinstance(entry["name"], str) or not entry["name"]:
            raise PrescriptionError(f"{where}.name: {entry['name']!r} must be a name")
        if entry["scope"] not in ("simulated", "any"):
            raise PrescriptionError(f"{where}.scope: {entry['scope']!r} must be 'simulated' or 'any'")
        for field in ("valid_from_s", "valid_until_s"):
            if isinstance(entry[field], bool) or not isinstance(entry[field], int):
                raise PrescriptionError(f"{where}.{field}: {entry[field]!r} must be a whole number of seconds")
        if not isinstance(entry["revoked"], bool):
            raise PrescriptionError(f"{where}.revoked: {entry['revoked']!r} must be true or false")
        if entry["key"] in known:
            raise PrescriptionError(f"{where}.key: appears twice")
        known[entry["key"]] = entry
    return known


def _signers(signatures: Any, message: bytes, keys: dict[str, dict[str, Any]], device: str, now_s: float) -> set[str]:
    """Names of the people whose signatures stand; one that does not stand refuses the whole file."""
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= 8:
        raise PrescriptionError("signed.signatures: must be a list of 1-8 signatures; this prescription is unsigned")
    names: set[str] = set()
    for i, entry in enumerate(signatures):
        where = f"signed.signatures[{i}]"
        if not isinstance(entry, dict) or set(entry) != {"key", "signature"}:
            raise PrescriptionError(f"{where}: must have exactly key, signature")
        public_key = _hex(entry["key"], 32, f"{where}.key")
        signature = _hex(entry["signature"], 64, f"{where}.signature")
        key = keys.get(entry["key"])
        if key is None:
            raise PrescriptionError(f"{where}.key: {entry['key'][:16]}... is not among this machine's trusted keys")
        who = f"{where}.key ({key['name']})"
        if key["revoked"]:
            raise PrescriptionError(f"{who}: is revoked")
        if key["role"] != "prescriber":
            raise PrescriptionError(f"{who}: role {key['role']!r} may not prescribe")
        if not key["valid_from_s"] <= now_s <= key["valid_until_s"]:
            raise PrescriptionError(
                f"{who}: is valid from {key['valid_from_s']} to {key['valid_until_s']}, not now ({now_s:.0f})"
            )
        if key["scope"] != "any" and key["scope"] != device:
            raise PrescriptionError(f"{who}: may sign for {key['scope']!r} only, not for {device!r}")
        if not verify(public_key, message, signature):
            raise PrescriptionError(f"{where}.signature: does not fit; the prescription was altered or signed with another key")
        names.add(key["name"])
    return names


def _read(path: Path, must_be_ours: bool) -> bytes:
    """A small file's bytes; a file of keys must belong to this user or root and be writable by its owner only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PrescriptionError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PrescriptionError(f"{path}: is not a file")
        if must_be_ours and (status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022):
            raise PrescriptionError(f"{path}: must belong to you or root and be writable by its owner only (chmod 600)")
        data = os.read(descriptor, _MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > _MOST_BYTES:
        raise PrescriptionError(f"{path}: is larger than {_MOST_BYTES} bytes")
    return data


def _strict_object(data: bytes, name: str, exactly: set[str]) -> dict[str, Any]:
    try:
        body = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _once(pairs, name),
            parse_constant=lambda text: _no_constant(text, name),
        )
    except PrescriptionError:
        raise
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise PrescriptionError(f"{name}: not JSON ({type(error).__name__})") from None
    if not isinstance(body, dict) or set(body) != exactly:
        raise PrescriptionError(f"{name}: must be one object with exactly {', '.join(sorted(exactly))}")
    return body


def _once(pairs: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise PrescriptionError(f"{name}: a key appears twice")
    return body


def _no_constant(text: str, name: str) -> Any:
    raise PrescriptionError(f"{name}: {text} is not a number here")


def _base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error):
        raise PrescriptionError("signed.payload: must be base64 text") from None


def _hex(text: Any, n_bytes: int, where: str) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * n_bytes or set(text) - set("0123456789abcdef"):
        raise PrescriptionError(f"{where}: must be {2 * n_bytes} lower-case hexadecimal digits")
    return bytes.fromhex(text)
