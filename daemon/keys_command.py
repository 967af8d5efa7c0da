"""`eegloop keys`: making, certifying and revoking signing keys (clinic), pairing and trusting them (bedside)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from control.keyring import certify, install, read_list
from control.prescription import TrustedKey, is_hex, lock_key, new_key, parse_trusted, public_key, trusted_bytes
from daemon.build import demo_public_key
from daemon.private_file import write_private
from daemon.sign_command import passphrase, read_json, read_text, unlocked
from eegloop.errors import SetupError
from eegloop.layout import Layout
from eegloop.stim import PrescriptionError

DAY_S = 86_400
LEAST_PASSPHRASE = 12


def make_key(name: str, out: Path, passphrase_file: Path | None) -> str:
    """A new private key, encrypted, and its public half beside it. Refused on a bedside machine's data directory."""
    for folder in out.resolve().parents:
        if (folder / "keys" / "trusted.json").exists() or (folder / "trusted.json").exists():
            raise SetupError(f"{out}: {folder} is a bedside data directory; private keys stay on the clinic's side")
    public = out.with_suffix(".pub.json")
    for path in (out, public):
        if path.exists():
            raise SetupError(f"{path}: exists; a key is never overwritten, name another file with --out")
    words = passphrase(passphrase_file, str(out), twice=True)
    if len(words.strip()) < LEAST_PASSPHRASE:
        raise SetupError(
            f"passphrase: {len(words.strip())} characters; at least {LEAST_PASSPHRASE}, blanks around them not counted"
        )
    if not name.strip():
        raise SetupError("--name: whose key is it? A blank name is none")
    seed = new_key()
    try:
        locked = lock_key(seed, words)
    except PrescriptionError as error:
        raise SetupError(f"{out}: {error}; nothing was written") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    write_private(out, locked)
    write_private(public, json.dumps({"name": name, "key": public_key(seed).hex()}, indent=1).encode() + b"\n")
    return f"Private key: {out} (encrypted; keep it on the clinic's side)\nPublic key:  {public}\n{public_key(seed).hex()}"


def certify_keys(
    public: Sequence[Path], site: Path, out: Path, scope: str, days: int, revoked: Sequence[Path], passphrase_file: Path | None
) -> str:
    """A certified list of the prescribers' keys; its number is one above that of the list it replaces (`out`, if there)."""
    now_s = int(time.time())
    entries = [_entry(path, scope, now_s, days) for path in public]
    entries += [replace(_entry(path, scope, now_s, days), revoked=True) for path in revoked]
    if len({entry.key for entry in entries}) != len(entries):
        raise SetupError("keys: the same public key is named twice")
    seed = unlocked(site, passphrase_file)
    try:
        number = 1 + (read_list(read_text(out).encode(), public_key(seed).hex(), 1).number if out.exists() else 0)
    except PrescriptionError as error:
        raise SetupError(f"{out}: the list that is there is not this site's ({error}); name another --out") from None
    try:
        write_private(out, certify(entries, number, seed))
    except PrescriptionError as error:
        raise SetupError(f"{out}: {error}") from None
    return f"Certified list number {number} of {len(entries)} keys ({len(revoked)} revoked): {out}"


def _entry(path: Path, scope: str, now_s: int, days: int) -> TrustedKey:
    try:
        name, key = (body := read_json(path))["name"], body["key"]  # type: ignore[index]
    except (KeyError, TypeError):
        raise SetupError(f"{path}: must be a public key's file as `eegloop keys new` writes it") from None
    if not isinstance(name, str) or not name or not is_hex(key, 64):
        raise SetupError(f"{path}: needs a name and a key of 64 hexadecimal digits")
    return TrustedKey(key, name, "prescriber", scope, now_s - 60, now_s + days * DAY_S, False)


def pair(site_key: str, data: Path) -> str:
    """Pin the clinic's site key on this machine, once."""
    if not is_hex(site_key, 64):
        raise SetupError("site key: must be 64 hexadecimal digits, as `eegloop keys new` printed them")
    layout = Layout.of(data)
    layout.create()
    path = layout.keys / "site.json"
    if path.exists() and _site(path)[0] != site_key:
        raise SetupError(f"{path}: this machine is paired with another clinic; an administrator removes the file to pair anew")
    if not path.exists():
        write_private(path, json.dumps({"site_key": site_key, "number": 0}).encode() + b"\n")
    return f"Paired with the site key {site_key[:16]}..."


def trust(certified: Path, data: Path) -> str:
    """Install a certified list on this machine: as it came, for the interlock, which verifies it at every reading, and as trusted.json."""
    layout = Layout.of(data)
    path, trusted_path = layout.keys / "site.json", layout.keys / "trusted.json"
    if not path.exists():
        raise SetupError(f"{path}: not paired yet; run `eegloop keys pair SITE_KEY` with the key the clinic gave you")
    pinned, number = _site(path)
    certified_path = layout.keys / "certified.json"
    try:
        text = read_text(certified).encode()
        listed = read_list(text, pinned, number + int(certified_path.exists()))
        present = parse_trusted(trusted_path.read_bytes()) if trusted_path.exists() else ()
        # The list first, which the interlock reads itself: after a crash in between it is installed again, and nothing older.
        write_private(certified_path, text)
        write_private(trusted_path, trusted_bytes(install(listed, present, demo_public_key(layout))))
        write_private(path, json.dumps({"site_key": pinned, "number": listed.number}).encode() + b"\n")
    except PrescriptionError as error:
        raise SetupError(f"{certified}: {error}") from None
    lines = [f"{key.name}: {key.scope}, {'REVOKED' if key.revoked else 'valid'}, {key.key[:16]}..." for key in listed.keys]
    return "\n".join([f"List number {listed.number} is trusted on this machine:", *lines])


def _site(path: Path) -> tuple[str, int]:
    try:
        body = json.loads(read_text(path))
        return str(body["site_key"]), int(body["number"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        raise SetupError(f"{path}: damaged; an administrator removes it and pairs this machine anew") from None
