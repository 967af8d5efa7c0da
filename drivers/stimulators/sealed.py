"""Packets that only the paired unit and its host can have made: JSON text and its HMAC-SHA256. Not a plug-in.

Whoever carries them (bridge, broker, network) can drop or delay them, and neither read anything secret from them nor
change, repeat unseen or invent one. A symmetric key, because the interlock seals a packet every 40 ms and may not wait
2 ms: HMAC takes some 10 µs, an Ed25519 signature in plain Python 4 ms. docs/home-stimulator-protocol.md is the contract.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from eegloop.errors import DeviceError

DOMAIN = b"eegloop home v1"
KEY_BYTES = 32
LONGEST = 2048


def read_key(path: str) -> bytes:
    """The pairing key: 64 hexadecimal digits in a file that only its owner may read.

    Raises
    ------
    DeviceError
        Naming the file and what to do.
    """
    file = Path(path)
    try:
        if file.stat().st_mode & 0o077:
            raise DeviceError(f"{path}: others may read this pairing key; `chmod 600` it and pair the unit anew")
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}; name the unit's pairing key in `key_file`") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise DeviceError(f"{path}: must hold {2 * KEY_BYTES} hexadecimal digits; pair the unit anew")
    return key


def _mac(key: bytes, direction: str, unit: str, body: str) -> str:
    text = b"\0".join((DOMAIN, direction.encode(), unit.encode(), body.encode()))
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def seal(key: bytes, direction: str, unit: str, body: dict[str, Any]) -> bytes:
    """A packet: `direction` is "to" or "from" the unit, so that none can be sent back to who made it."""
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return json.dumps({"body": text, "mac": _mac(key, direction, unit, text)}, separators=(",", ":")).encode()


def unseal(key: bytes, direction: str, unit: str, packet: bytes) -> dict[str, Any] | None:
    """What a packet says; None if it is not from who holds the key, for this unit and in this direction."""
    outer = _object(packet) if len(packet) <= LONGEST else {}
    body, mac = outer.get("body"), outer.get("mac")
    if not isinstance(body, str) or not isinstance(mac, str):
        return None
    try:
        good = hmac.compare_digest(_mac(key, direction, unit, body).encode(), mac.encode())
    except UnicodeEncodeError:  # lone surrogates: JSON can write them, UTF-8 cannot
        return None
    return _object(body.encode()) or None if good else None


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
