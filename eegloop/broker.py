"""How an MQTT broker may be spoken to: its address, and that nothing secret crosses a network in the clear."""

from __future__ import annotations

import ipaddress
import ssl
import stat
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

TLS_PORT, PLAIN_PORT = 8883, 1883


def address(broker: str) -> SplitResult:
    """A broker's address in parts.

    Raises
    ------
    ValueError
        Saying what it must look like; a password inside it is not repeated.
    """
    try:
        parts = urlsplit(broker)
        port = parts.port
    except ValueError:
        raise ValueError("the port must be a number from 1 to 65535") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
        raise ValueError("must look like mqtt://127.0.0.1:1883 or mqtts://user@broker:8883")
    if parts.password is not None:
        raise ValueError("must hold no password; put it into a 0600 file and name that as password_file")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must end after the port")
    return parts


def is_this_machine(host: str) -> bool:
    """True for a loopback address or `localhost`; any other name may be somewhere else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_the_clear(broker: str) -> str:
    """Why no password may be sent to this address, "" = it may: TLS, or a broker on this machine."""
    parts = address(broker)
    if parts.scheme == "mqtts" or is_this_machine(parts.hostname or ""):
        return ""
    return f"a password for {parts.hostname} would go over the network unencrypted; use mqtts://, or a broker on this machine"


def secret(file: str, name: str) -> Path:
    """A file of ours that nobody else may read.

    Raises
    ------
    ValueError, OSError
        If others may, or it is not there.
    """
    path = Path(file)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"{name}: {file}: is open to others; run chmod 600 on it")
    return path


def tls_context(broker: str, ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext | None:
    """What an address needs to be reached encrypted, None for mqtt://. The broker's name is always checked.

    Parameters
    ----------
    ca_file : str or None
        PEM file of the broker's authority, None = the system's.
    cert_file, key_file : str or None
        This machine's own certificate and key, for a broker that asks for one; the key's file must be ours alone.

    Raises
    ------
    ValueError
        Naming the file that cannot be used.
    """
    if address(broker).scheme != "mqtts":
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file: {ca_file}: cannot be used ({error.strerror or error}); name a PEM file") from None
    if cert_file:
        try:
            own_key = str(secret(key_file, "client_key_file")) if key_file else None
            context.load_cert_chain(cert_file, own_key)
        except (OSError, ssl.SSLError) as error:
            why = f"cannot be used ({error.strerror or error}); name a PEM certificate and its own unencrypted key"
            raise ValueError(f"client_cert_file: {cert_file}: {why}") from None
    return context
