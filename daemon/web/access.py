"""Who may look and ask: page tokens, stop-only tokens and one-time links. Standard library only (`eegloop link` uses it too)."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eegloop.errors import SetupError
from eegloop.layout import Layout

LINK_LIFETIME_S = 300.0
SESSION_LIFETIME_S = 24 * 3600.0
SECRET_BYTES = 32  # 256 bit, more than the 128 asked for
MAX_LINKS = 20  # open at one time; the oldest make way

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_TOKEN = re.compile(r"(page|demo|stop)\.([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([0-9a-f]{64})")
_LINK_FILE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Session:
    """What a token opens. `kind`: "page" (link redeemed), "demo" (while every seat is a demo), "stop" (STOP, nothing else)."""

    kind: str
    id: str


class Tokens:
    """Tokens that outlive a restart of the web process: each carries its own proof under a key kept in a 0600 file.

    Parameters
    ----------
    layout : Layout
        The key is `keys/web.key`; deleting it ends every session.
    wall_s : callable
        Unix time, s.

    Raises
    ------
    SetupError
        If the key file cannot be read or is open to others.
    """

    def __init__(self, layout: Layout, wall_s: Callable[[], float] = time.time) -> None:
        self._key = _key(layout.keys / "web.key")
        self._wall_s = wall_s

    def mint(self, kind: str) -> str:
        """A new token of 128 random bits and a 256-bit proof."""
        body = f"{kind}.{int(self._wall_s())}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._proof(body)}"

    def check(self, token: object) -> Session | None:
        """The session of a token, None if it is forged, foreign or over. Stop-only tokens are never over."""
        match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
        if match is None:
            return None
        kind, issued_s, number, proof = match.groups()
        if not hmac.compare_digest(proof, self._proof(f"{kind}.{issued_s}.{number}")):
            return None
        if kind != "stop" and self._wall_s() - int(issued_s) > SESSION_LIFETIME_S:
            return None
        return Session(kind, number[:8])

    def _proof(self, body: str) -> str:
        return hmac.new(self._key, b"eegloop web token\0" + body.encode(), hashlib.sha256).hexdigest()


def create_link(layout: Layout) -> str:
    """A new one-time secret, for `http://127.0.0.1:PORT/#link=SECRET`. Only its hash is kept (0600); it lives 5 minutes.

    Called by the supervisor after the web process said its port, and by `eegloop link`.
    """
    folder = _links(layout)
    _purge(folder, keep=MAX_LINKS - 1)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    _write_private(folder / _digest(secret), f"{_boot_id()} {time.clock_gettime_ns(time.CLOCK_BOOTTIME)}\n".encode())
    return secret


def address_file(layout: Layout) -> Path:
    """Where the running service's address stands."""
    return layout.run / "address"


def sign_in_link(layout: Layout) -> str:
    """A new one-time sign-in link of the service that runs on this data directory.

    Raises
    ------
    SetupError
        If none runs.
    """
    try:
        address = address_file(layout).read_text()
    except OSError:
        raise SetupError(f"no eegloop runs on {layout.data}; start it with `eegloop run`") from None
    return f"{address}/#link={create_link(layout)}"


def redeem_link(layout: Layout, secret: object) -> bool:
    """True exactly once per secret, within its five minutes."""
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        return False
    folder = _links(layout)
    _purge(folder, keep=MAX_LINKS)
    digest = _digest(secret)
    found = None
    for path in folder.iterdir():
        if hmac.compare_digest(path.name, digest):
            found = path
    if found is None:
        return False
    try:
        found.unlink()  # who removes it has redeemed it, also against another process
    except FileNotFoundError:
        return False
    return True


def _purge(folder: Path, keep: int) -> None:
    """Remove links that are over, of an earlier boot, or more than there may be."""
    open_links = []
    for path in folder.iterdir():
        if not _LINK_FILE.fullmatch(path.name):
            continue
        age_s = _link_age_s(path)
        if 0.0 <= age_s <= LINK_LIFETIME_S:
            open_links.append((age_s, path))
        else:
            path.unlink(missing_ok=True)
    for _, path in sorted(open_links)[keep:]:
        path.unlink(missing_ok=True)


def _link_age_s(path: Path) -> float:
    """Seconds since the link was made; infinite if that cannot be told. Boot time: no clock setting lengthens a life."""
    try:
        boot_id, created_ns = path.read_text().split()
        if boot_id == _boot_id():
            return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(created_ns)) / 1e9
    except (OSError, ValueError):
        pass
    return float("inf")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _digest(secret: str) -> str:
    return hashlib.sha256(b"eegloop link\0" + secret.encode()).hexdigest()


def _links(layout: Layout) -> Path:
    folder = layout.keys / "links"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _key(path: Path) -> bytes:
    for _ in range(2):
        try:
            status = path.lstat()
        except FileNotFoundError:
            try:
                _write_private(path, secrets.token_bytes(SECRET_BYTES))
            except FileExistsError:  # another process was faster: read its key
                pass
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise SetupError(f"{path}: must be yours and nobody else's to read; delete it and start again (pages sign in anew)")
        key = path.read_bytes()
        if len(key) != SECRET_BYTES:
            raise SetupError(f"{path}: is damaged; delete it and start again (pages sign in anew)")
        return key
    raise SetupError(f"{path}: cannot be made; is the data directory writable?")


def _write_private(path: Path, content: bytes) -> None:
    """Write a new 0600 file in one step: nobody ever sees it half-written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
