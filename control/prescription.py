"""Prescriptions: YAML a clinician writes, canonical bytes that are signed, signatures checked.

Signed file, format `eegloop-signed-1` (JSON):
`{"format":"eegloop-signed-1","payload":"<base64 of the canonical bytes>","signatures":[{"key":"<hex>","signature":"<hex>"}]}`;
a signature is Ed25519 over `b"eegloop prescription v1\\0" + payload`. Trusted keys (`DATA/keys/trusted.json`):
`{"keys":[{"key":"<hex>","name","role":"prescriber","scope":"simulated"|"any","valid_from_s","valid_until_s","revoked":false}]}`.
Files are read and written by the daemon; these functions take and give bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eegloop.stim import Prescription

DOMAIN = b"eegloop prescription v1\0"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One entry of trusted.json."""

    key: str
    name: str
    role: str
    scope: str
    valid_from_s: int
    valid_until_s: int
    revoked: bool


def parse_yaml(text: str) -> Prescription:
    """A prescription as a clinician writes it.

    Raises
    ------
    PrescriptionError
        Naming the line, the field, the value and what is allowed.
    """
    raise NotImplementedError


def new_key() -> tuple[bytes, bytes]:
    """A new Ed25519 pair: (32-byte private seed, 32-byte public key)."""
    raise NotImplementedError


def public_key(private_key: bytes) -> bytes:
    """The 32-byte public key of a 32-byte private seed."""
    raise NotImplementedError


def sign(prescription: Prescription, private_keys: Sequence[bytes]) -> bytes:
    """The signed file's bytes; one signature a private seed (32 bytes each)."""
    raise NotImplementedError


def parse_trusted(text: bytes) -> tuple[TrustedKey, ...]:
    """Read trusted.json strictly; raises PrescriptionError."""
    raise NotImplementedError


def trusted_bytes(keys: Sequence[TrustedKey]) -> bytes:
    """trusted.json of these keys."""
    raise NotImplementedError


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
    raise NotImplementedError


def demo_prescription(patient: str, now_s: float) -> Prescription:
    """The virtual person's prescription: `simulated` bifrontal tDCS, authority `within_bounds`, valid a week."""
    raise NotImplementedError
