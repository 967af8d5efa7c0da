"""Reading what somebody else wrote, strictly: small files, JSON objects with exactly these fields, base64, hexadecimal."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from pathlib import Path
from typing import Any

from eegloop.stim import PrescriptionError

_MOST_BYTES = 65_536


def read(path: Path, must_be_ours: bool) -> bytes:
    """A small file's bytes; a file of keys must belong to this user or root and be writable by its owner only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            data = os.read(descriptor, _MOST_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:  # also of the reading itself: a bad block
        raise PrescriptionError(f"{path}: cannot be read ({error.strerror})", error.strerror, "readable", "interlock") from None
    if not stat.S_ISREG(status.st_mode):
        raise PrescriptionError(f"{path}: is not a file", "no file", "a file", "interlock")
    if must_be_ours and (status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022):
        raise PrescriptionError(
            f"{path}: must belong to you or root and be writable by its owner only (chmod 600)",
            f"user {status.st_uid}, mode {status.st_mode & 0o777:o}", "your own, mode 600", "interlock",
        )  # fmt: skip
    if len(data) > _MOST_BYTES:
        raise PrescriptionError(f"{path}: is larger than {_MOST_BYTES} bytes", len(data), _MOST_BYTES, "interlock")
    return data


def one_object(data: bytes, name: str, exactly: set[str]) -> dict[str, Any]:
    """The one JSON object in `data`, which has exactly these fields, each once."""
    try:
        body = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _once(pairs, name),
            parse_constant=lambda text: _no_constant(text, name),
        )
    except PrescriptionError:
        raise
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise PrescriptionError(f"{name}: not JSON ({type(error).__name__})", type(error).__name__, "JSON", "format") from None
    if not isinstance(body, dict) or set(body) != exactly:
        fields = ", ".join(sorted(body)) if isinstance(body, dict) else type(body).__name__
        wanted = ", ".join(sorted(exactly))
        raise PrescriptionError(f"{name}: must be one object with exactly {wanted}", fields[:100], wanted, "format")
    return body


def whole(value: Any, where: str) -> int:
    """A whole number from 0 up, that every reader of JSON reads alike."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise PrescriptionError(f"{where}: {value!r} must be a whole number", repr(value)[:60], "a whole number", "format")
    return value


def from_base64(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error):
        raise PrescriptionError(f"{where}: must be base64 text", repr(text)[:60], "base64", "format") from None


def from_hex(text: Any, n_bytes: int, where: str) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * n_bytes or set(text) - set("0123456789abcdef"):
        wanted = f"{2 * n_bytes} lower-case hexadecimal digits"
        raise PrescriptionError(f"{where}: must be {wanted}", repr(text)[:60], wanted, "format")
    return bytes.fromhex(text)


def _once(pairs: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise PrescriptionError(f"{name}: a key appears twice", "twice", "once", "format")
    return body


def _no_constant(text: str, name: str) -> Any:
    raise PrescriptionError(f"{name}: {text} is not a number here", text, "a finite number", "format")
