"""Who may sign: prescribers' public keys, certified by the clinic's site key, which a bedside machine pins at pairing.

Certified list, format `eegloop-keys-1` (JSON): `{"format","payload":"<base64>","site_key":"<hex>","signature":"<hex>"}`; the
payload is canonical JSON `{"keys":[as in trusted.json],"number":N}`, the signature Ed25519 over `b"eegloop keys v1\\0" + payload`.
A list replaces the one before it and has a higher number, so that an old one cannot bring a revoked key back.
Pure: files are read and written by `daemon/keys_command.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from control.prescription import TrustedKey, is_hex, json_object, parse_trusted, public_key, trusted_bytes
from eegloop.stim import PrescriptionError

DOMAIN = b"eegloop keys v1\0"
FORMAT = "eegloop-keys-1"


@dataclass(frozen=True, slots=True)
class KeyList:
    """A certified list: its number and the prescribers' keys in it."""

    number: int
    keys: tuple[TrustedKey, ...]


def certify(keys: Sequence[TrustedKey], number: int, site_key: bytes) -> bytes:
    """The certified list's bytes, signed with the site's 32-byte seed."""
    if isinstance(number, bool) or not 1 <= number < 2**53:
        raise PrescriptionError(f"keys.number: {number} must be a whole number from 1; one higher than the last list's")
    body = {"keys": json.loads(trusted_bytes(keys))["keys"], "number": number}
    payload = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    signature = Ed25519PrivateKey.from_private_bytes(site_key).sign(DOMAIN + payload)
    whole = {
        "format": FORMAT,
        "payload": base64.b64encode(payload).decode(),
        "site_key": public_key(site_key).hex(),
        "signature": signature.hex(),
    }
    read_list(json.dumps(whole).encode(), public_key(site_key).hex(), number)
    return json.dumps(whole, indent=1).encode() + b"\n"


def read_list(text: bytes, pinned: str, least_number: int) -> KeyList:
    """A certified list, if the pinned site key signed it and it is not older than one already taken.

    Parameters
    ----------
    pinned : str
        The site's public key, 64 hexadecimal digits.
    least_number : int
        The lowest number to accept.

    Raises
    ------
    PrescriptionError
        Naming the field and what is allowed.
    """
    body = json_object(text, "certified keys", ("format", "payload", "site_key", "signature"))
    if body["format"] != FORMAT:
        raise PrescriptionError(f"certified keys.format: {body['format']!r} must be {FORMAT!r}")
    if not is_hex(body["site_key"], 64) or not is_hex(body["signature"], 128):
        raise PrescriptionError("certified keys: site_key and signature must be hexadecimal in lower case")
    if body["site_key"] != pinned:
        raise PrescriptionError(
            f"certified keys.site_key: {body['site_key'][:16]}... is not the site this machine is paired with"
        )
    try:
        payload = base64.b64decode(body["payload"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise PrescriptionError("certified keys.payload: must be base64") from None
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(pinned)).verify(bytes.fromhex(body["signature"]), DOMAIN + payload)
    except InvalidSignature:
        raise PrescriptionError(
            "certified keys.signature: does not fit; the list was altered or another site signed it"
        ) from None
    inner = json_object(payload, "certified keys", ("keys", "number"))
    number = inner["number"]
    if isinstance(number, bool) or not isinstance(number, int) or number < least_number:
        raise PrescriptionError(
            f"certified keys.number: {number!r} must be at least {least_number}; ask the clinic for the newest"
        )
    return KeyList(number, parse_trusted(json.dumps({"keys": inner["keys"]}).encode()))


def counting(listed: KeyList | None, present: Sequence[TrustedKey]) -> tuple[TrustedKey, ...]:
    """Whose signatures count, as the interlock has it (`interlock/keys.py`): the certified list, and what stands in trusted.json alone
    for `simulated` only, whatever scope it gives itself.

    Parameters
    ----------
    listed : KeyList or None
        None on a machine that is not paired, or has had no list yet.
    present : sequence of TrustedKey
        trusted.json.
    """
    certified = listed.keys if listed is not None else ()
    named = {key.key for key in certified}
    return (*certified, *(replace(key, scope="simulated") for key in present if key.key not in named))


def install(listed: KeyList, present: Sequence[TrustedKey], demo: str) -> tuple[TrustedKey, ...]:
    """What trusted.json holds afterwards: the list, and of what was there only this directory's own demo key (public, hexadecimal).

    Whatever else the list leaves out is gone, whatever it signs for.
    """
    named = {key.key for key in listed.keys}
    own = [key for key in present if key.scope == "simulated" and key.key == demo and key.key not in named]
    return (*listed.keys, *own)
