"""Whose signatures count on this machine: those the clinic certified, and this directory's own, which sign for `simulated` only.

Three files in the data directory's `keys/`, each writable by its owner only: `site.json`, `{"site_key","number"}`, the site key that was
pinned at pairing and the number of the newest list; `certified.json`, that list as the clinic's site key signed it (format
`eegloop-keys-1`, control/keyring.py); `trusted.json`, which the daemon reads. The certified list is verified here at every reading. A key
that stands in `trusted.json` alone, whatever scope it gives itself, signs for `simulated`, which nobody wears.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Any

from eegloop.stim import PrescriptionError
from interlock.ed25519 import verified
from interlock.effects import SIMULATED
from interlock.strict import from_base64, from_hex, one_object, read, whole

DOMAIN = b"eegloop keys v1\0"
FORMAT = "eegloop-keys-1"
_NUMBER_BYTES = 20
_FIELDS = {"key", "name", "role", "scope", "valid_from_s", "valid_until_s", "revoked"}

Keys = dict[str, dict[str, Any]]


def known_keys(folder: Path, state: Path | None = None) -> Keys:
    """Entries by public key (lower-case hex); PrescriptionError naming what is wrong with any of the three files.

    A key on the certified list is as that list says, revoked too, whatever `trusted.json` says of it. `state`: see `certified_keys`.
    """
    body = one_object(read(folder / "trusted.json", must_be_ours=True), "trusted", {"keys"})
    own = {key: {**entry, "scope": SIMULATED} for key, entry in _entries(body["keys"], "trusted").items()}
    return own | certified_keys(folder, state)


def certified_keys(folder: Path, state: Path | None = None) -> Keys:
    """The newest certified list; nothing on a machine that is not paired, or has had no list yet.

    `state`: the folder outside the data directory (interlock/anchor.py) where the greatest number of this site's lists that was ever
    used is kept, so that a `keys` folder restored as a whole brings no revoked key back. None = for the simulated stimulator.
    """
    if not (folder / "site.json").exists():
        return {}
    site = one_object(read(folder / "site.json", must_be_ours=True), "site", {"site_key", "number"})
    pinned = from_hex(site["site_key"], 32, "site.site_key")
    least = whole(site["number"], "site.number")
    if not (folder / "certified.json").exists():
        if least > 0:
            raise PrescriptionError(
                f"certified: list number {least} is gone; give `eegloop keys trust` the clinic's list once more"
            )
        return {}
    text = read(folder / "certified.json", must_be_ours=True)
    body = one_object(text, "certified", {"format", "payload", "site_key", "signature"})
    if body["format"] != FORMAT:
        raise PrescriptionError(f"certified.format: {body['format']!r} must be {FORMAT!r}")
    payload = from_base64(body["payload"], "certified.payload")
    if not verified(pinned, DOMAIN + payload, from_hex(body["signature"], 64, "certified.signature")):
        raise PrescriptionError(
            "certified.signature: is not the site's that this machine is paired with, or the list was altered",
            str(body["signature"])[:16], "the site's signature", "clinic",
        )  # fmt: skip
    listed = one_object(payload, "certified", {"keys", "number"})
    number = whole(listed["number"], "certified.number")
    if not number >= least:
        older = f"certified.number: {number} is older than {least}, which this machine had; have it trusted anew"
        raise PrescriptionError(older, number, least, "clinic")
    entries = _entries(listed["keys"], "certified")
    if state is not None:
        _go_on_from(state, pinned, number)
    return entries


def _go_on_from(state: Path, site_key: bytes, number: int) -> None:
    """Keep `number` as this site's greatest; PrescriptionError if a greater one was used on this machine before, or it cannot be kept."""
    path = state / f"site-{hashlib.sha256(site_key).hexdigest()[:32]}.number"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # another seat's interlock, for as long as one line is written
            kept = _number(os.read(file, _NUMBER_BYTES + 1))
            if number > kept:
                os.pwrite(file, b"%0*d\n" % (_NUMBER_BYTES - 1, number), 0)
                os.fsync(file)
        finally:
            os.close(file)
    except (OSError, ValueError) as error:
        raise PrescriptionError(
            f"certified.number: the newest list's number cannot be kept in {path} ({error}); see to it"
        ) from None
    if number < kept:
        raise PrescriptionError(
            f"certified.number: {number} is older than {kept}, which was used on this machine; give `eegloop keys trust` the newest list",
            number, kept, "clinic",
        )  # fmt: skip


def _number(text: bytes) -> int:
    """What was kept; ValueError if it is not whole: the beginning of a number is a smaller one, and would bring a revoked key back."""
    if len(text) not in (0, _NUMBER_BYTES):
        raise ValueError("it is cut or damaged")
    return int(text or b"0")


def _entries(keys: Any, name: str) -> Keys:
    """A list of keys by public key; PrescriptionError if it is not exactly as documented."""
    if not isinstance(keys, list):
        raise PrescriptionError(f"{name}.keys: must be a list")
    known: Keys = {}
    for i, entry in enumerate(keys):
        where = f"{name}.keys[{i}]"
        if not isinstance(entry, dict) or set(entry) != _FIELDS:
            raise PrescriptionError(f"{where}: must have exactly {', '.join(sorted(_FIELDS))}")
        from_hex(entry["key"], 32, f"{where}.key")
        if not isinstance(entry["name"], str) or not entry["name"].strip():
            raise PrescriptionError(f"{where}.name: {entry['name']!r} must be a name")
        if entry["scope"] not in (SIMULATED, "any"):
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
