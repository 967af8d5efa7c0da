"""Start codes: the clinic's word that one home session may begin. The interlock checks them (`interlock/signed.py: read_start_code`).

A code names the session's number in its course and the dose given before it, so it opens that session only and only where the
ledger agrees. It lies in the seat's folder as `start.code`; anybody may bring it, nobody but the clinic can make it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eegloop.stim import PrescriptionError

START_DOMAIN = b"eegloop start code v1\0"
START_FORMAT = "eegloop-start-1"


def sign_start_code(
    private_keys: Sequence[bytes], patient: str, course: str, session: int, dose_uc: int, valid_until_s: int
) -> bytes:
    """The file's bytes.

    Parameters
    ----------
    private_keys : sequence of bytes
        32-byte seeds of keys that the bedside machine trusts.
    course : str
        The first 32 hexadecimal digits of the SHA-256 of the prescription's canonical bytes.
    session : int
        From 1 up: the number this session will have in its course.
    dose_uc : int
        Charge given before it under this prescription, µC, as the interlock's ledger says.
    valid_until_s : int
        Unix time, s.

    Raises
    ------
    PrescriptionError
        If a number is below its range or no key is given.
    """
    for name, value, least in (("session", session, 1), ("dose_uc", dose_uc, 0), ("valid_until_s", valid_until_s, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise PrescriptionError(f"start code.{name}: {value!r} must be a whole number from {least} up")
    if not private_keys:
        raise PrescriptionError("start code: at least one private key is needed")
    body = {"patient": patient, "course": course, "session": session, "dose_uc": dose_uc, "valid_until_s": valid_until_s}
    payload = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    keys = [Ed25519PrivateKey.from_private_bytes(seed) for seed in private_keys]
    signatures = [
        {"key": key.public_key().public_bytes_raw().hex(), "signature": key.sign(START_DOMAIN + payload).hex()} for key in keys
    ]
    signed = {"format": START_FORMAT, "payload": base64.b64encode(payload).decode(), "signatures": signatures}
    return json.dumps(signed, indent=1).encode() + b"\n"
