"""Read a signed prescription and decide whether this machine, person and stimulator may use it.

The interlock's own copy of the check: it shares no code with the daemon's (control/prescription.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eegloop.stim import Authority, Prescription, PrescriptionError
from interlock.ed25519 import verified
from interlock.effects import SIMULATED, plain
from interlock.keys import Keys, known_keys
from interlock.strict import from_base64, from_hex, one_object, read, whole

DOMAIN = b"eegloop prescription v1\0"
START_DOMAIN = b"eegloop start code v1\0"


def read_prescription(path: Path, keys: Path, patient: str, device: str, now_s: float, state: Path | None = None) -> Prescription:
    """The prescription in a signed file, if trusted signatures cover exactly its bytes and it is for this seat, now.

    Parameters
    ----------
    path, keys : Path
        The signed file, and the folder with the public keys (interlock/keys.py).
    now_s : float
        Unix time, s.
    state : Path, optional
        Where the greatest number of a certified list is kept (interlock/keys.py); not used for the simulated stimulator.

    Raises
    ------
    PrescriptionError
        Naming the field, its value and what is allowed.
    """
    payload, signatures = _open(path, "eegloop-signed-1")
    prescription = Prescription.from_bytes(payload)
    signers = _signers(signatures, DOMAIN + payload, _known(keys, device, state), device, now_s)
    if prescription.patient != patient:
        raise PrescriptionError(
            f"prescription.patient: {prescription.patient!r} is not this seat's person {patient!r}",
            prescription.patient, patient, "seat",
        )  # fmt: skip
    if prescription.device != device:
        raise PrescriptionError(
            f"prescription.device: {prescription.device!r} is not this seat's stimulator {device!r}",
            prescription.device, device, "seat",
        )  # fmt: skip
    if not prescription.valid_from_s <= now_s:
        raise PrescriptionError(
            f"prescription.valid_from_s: {prescription.valid_from_s} is in the future (now {now_s:.0f}); check the clock",
            plain(now_s), prescription.valid_from_s,
        )  # fmt: skip
    if not now_s <= prescription.valid_until_s:
        raise PrescriptionError(
            f"prescription.valid_until_s: expired at {prescription.valid_until_s} (now {now_s:.0f}); have it signed anew",
            plain(now_s), prescription.valid_until_s,
        )  # fmt: skip
    for name in prescription.signers:
        if name not in signers:
            raise PrescriptionError(
                f"prescription.signers: {name!r} is named but no signature is theirs", ", ".join(sorted(signers)), name
            )
    if prescription.authority == Authority.WITHIN_BOUNDS and device != SIMULATED and len(signers) < 2:
        raise PrescriptionError(
            "signed.signatures: authority 'within_bounds' needs two different signers", len(signers), 2, "interlock"
        )
    return prescription


def read_start_code(
    path: Path, keys: Path, patient: str, course: str, device: str, now_s: float, state: Path | None = None
) -> tuple[int, int]:
    """What a clinic's start code is for: `(session, dose_uc)`, the session's number in its course and the dose given before it.

    It opens exactly one session, because a session's number comes once; the ledger must have the same dose.

    Raises
    ------
    PrescriptionError
        If there is none, or it is not signed by a trusted key for this person and prescription, or has expired.
    """
    payload, signatures = _open(path, "eegloop-start-1")
    _signers(signatures, START_DOMAIN + payload, _known(keys, device, state), device, now_s)
    code = one_object(payload, "start_code", {"patient", "course", "session", "dose_uc", "valid_until_s"})
    for field, mine in (("patient", patient), ("course", course)):
        if code[field] != mine:
            raise PrescriptionError(f"start_code.{field}: {code[field]!r} is not {mine!r}", repr(code[field])[:60], mine, "seat")
    for field in ("session", "dose_uc", "valid_until_s"):
        whole(code[field], f"start_code.{field}")
    if not now_s <= code["valid_until_s"]:
        raise PrescriptionError(
            f"start_code.valid_until_s: expired at {code['valid_until_s']} (now {now_s:.0f}); ask for another"
        )
    return code["session"], code["dose_uc"]


def _open(path: Path, kind: str) -> tuple[bytes, Any]:
    """Payload and signatures of a signed file; nothing is checked but its form."""
    body = one_object(read(path, must_be_ours=False), "signed", {"format", "payload", "signatures"})
    if body["format"] != kind:
        raise PrescriptionError(f"signed.format: {body['format']!r} must be {kind!r}", repr(body["format"])[:60], kind, "format")
    return from_base64(body["payload"], "signed.payload"), body["signatures"]


def _known(keys: Path, device: str, state: Path | None) -> Keys:
    return known_keys(keys, None if device == SIMULATED else state)


def _signers(signatures: Any, message: bytes, keys: Keys, device: str, now_s: float) -> set[str]:
    """Names of the people whose signatures stand; one that does not stand refuses the whole file."""
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= 8:
        found = len(signatures) if isinstance(signatures, list) else 0
        raise PrescriptionError(
            "signed.signatures: must be a list of 1-8 signatures; this prescription is unsigned", found, "1-8", "interlock"
        )
    names: set[str] = set()
    for i, entry in enumerate(signatures):
        where = f"signed.signatures[{i}]"
        if not isinstance(entry, dict) or set(entry) != {"key", "signature"}:
            raise PrescriptionError(f"{where}: must have exactly key, signature")
        public_key = from_hex(entry["key"], 32, f"{where}.key")
        signature = from_hex(entry["signature"], 64, f"{where}.signature")
        key = keys.get(entry["key"])
        if key is None:
            raise PrescriptionError(
                f"{where}.key: {entry['key'][:16]}... is not among this machine's trusted keys",
                entry["key"],
                "a trusted key",
                "clinic",
            )
        who = f"{where}.key ({key['name']})"
        if key["revoked"]:
            raise PrescriptionError(f"{who}: is revoked", "revoked", "not revoked", "clinic")
        if key["role"] != "prescriber":
            raise PrescriptionError(f"{who}: role {key['role']!r} may not prescribe", key["role"], "prescriber", "clinic")
        if not key["valid_from_s"] <= now_s <= key["valid_until_s"]:
            raise PrescriptionError(
                f"{who}: is valid from {key['valid_from_s']} to {key['valid_until_s']}, not now ({now_s:.0f})",
                plain(now_s), f"{key['valid_from_s']} to {key['valid_until_s']}", "clinic",
            )  # fmt: skip
        if key["scope"] != "any" and key["scope"] != device:
            raise PrescriptionError(
                f"{who}: may sign for {key['scope']!r} only, not for {device!r}, as far as the clinic has certified",
                device, key["scope"], "clinic",
            )  # fmt: skip
        if not verified(public_key, message, signature):
            raise PrescriptionError(
                f"{where}.signature: does not fit; the prescription was altered or signed with another key",
                entry["signature"][:16], "the signature of these bytes", key["name"],
            )  # fmt: skip
        names.add(key["name"])
    return names
