"""Clinic notes: a clinician's signed word on what a person answered: "seen" (an alert was taken) or "release" (it holds no longer).

Like a start code a note is a small signed file that anybody may bring to the bedside and nobody but the clinic can make. It names the
person, the form, the item and until when answers count, so that a later answer is not covered by it. A person at home cannot release
themselves. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from control.forms import FORMS
from control.prescription import TrustedKey, is_hex, json_object, public_key
from control.questions import MEASURE, PLACEMENT, RECORD
from control.screening import Release
from eegloop.stim import PrescriptionError

DOMAIN = b"eegloop clinic note v1\0"
FORMAT = "eegloop-note-1"
KINDS = ("seen", "release")
_FORMS = (*FORMS, MEASURE, PLACEMENT, RECORD)
_FIELDS = ("form", "item", "kind", "patient", "t_s")


@dataclass(frozen=True, slots=True)
class Note:
    """`t_s` (Unix s): answers up to then; "" as `item` where the finding has none."""

    kind: str
    patient: str
    form: str
    item: str
    t_s: int


def _checked(note: Note) -> Note:
    if note.kind not in KINDS:
        raise PrescriptionError(f"note.kind: {note.kind!r} must be one of {', '.join(KINDS)}")
    if note.form not in _FORMS:
        raise PrescriptionError(f"note.form: {note.form!r} must be one of {', '.join(_FORMS)}")
    if not isinstance(note.item, str) or len(note.item) > 40:
        raise PrescriptionError(f"note.item: {note.item!r} must be the finding's item, as the alert names it")
    if not isinstance(note.patient, str) or not note.patient:
        raise PrescriptionError(f"note.patient: {note.patient!r} must be the person's code")
    if isinstance(note.t_s, bool) or not isinstance(note.t_s, int) or not 0 <= note.t_s < 2**40:
        raise PrescriptionError(f"note.t_s: {note.t_s!r} must be Unix time in whole seconds")
    return note


def sign_note(note: Note, private_key: bytes) -> bytes:
    """The file's bytes, signed with a 32-byte seed."""
    payload = json.dumps(asdict(_checked(note)), sort_keys=True, separators=(",", ":")).encode()
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(DOMAIN + payload).hex()
    body = {"format": FORMAT, "payload": base64.b64encode(payload).decode(), "key": public_key(private_key).hex()}
    return json.dumps({**body, "signature": signature}, indent=1).encode() + b"\n"


def read_note(text: bytes, trusted: Sequence[TrustedKey], patient: str, device: str, now_s: float) -> tuple[str, Release]:
    """Kind and content of a note, if a trusted key signed it for this person.

    Parameters
    ----------
    patient, device : str
        The seat's person code and stimulator kind; a key whose scope is "simulated" speaks for the device `simulated` only.
    now_s : float
        Unix time, s.

    Raises
    ------
    PrescriptionError
        Naming the field and what is allowed.
    """
    body = json_object(text, "note", ("format", "payload", "key", "signature"))
    if body["format"] != FORMAT or not is_hex(body["key"], 64) or not is_hex(body["signature"], 128):
        raise PrescriptionError(f"note.format: must be {FORMAT!r}, with key and signature in hexadecimal")
    signer = next((key for key in trusted if key.key == body["key"]), None)
    if signer is None or signer.revoked or not signer.valid_from_s <= now_s < signer.valid_until_s:
        raise PrescriptionError(f"note.key: {body['key'][:16]}... is not trusted on this machine now")
    if signer.scope != "any" and device != "simulated":
        raise PrescriptionError(f"note.key: {signer.name}'s key signs for 'simulated' only")
    try:
        payload = base64.b64decode(body["payload"], validate=True)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.key)).verify(bytes.fromhex(body["signature"]), DOMAIN + payload)
    except (binascii.Error, TypeError, ValueError, InvalidSignature):
        raise PrescriptionError(f"note.signature: {signer.name}'s signature does not fit these bytes") from None
    note = _checked(Note(**json_object(payload, "note", _FIELDS)))
    if note.patient != patient:
        raise PrescriptionError(f"note.patient: {note.patient!r}, but this seat's person is {patient!r}")
    if note.t_s > now_s:
        raise PrescriptionError("note.t_s: lies in the future; check the clocks")
    return note.kind, Release(note.form, note.item, float(note.t_s), signer.name)
