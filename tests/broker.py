"""A mosquitto of our own, plain or with TLS and certificates made here, for every test that needs a broker."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import ipaddress
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from daemon.processes import NICE_INTERLOCK, prefer

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (apt-get install mosquitto)")


class Authority:
    """A certificate authority in a folder: `ca.pem`, and whatever it is asked to certify."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {folder.name}")])
        self._certificate = self._certify(self._name, self._key.public_key(), True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, address: str = "127.0.0.1", mode: int = 0o600) -> tuple[Path, Path]:
        """Files of a certificate for this machine's `address` and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._certify(subject, key.public_key(), False, address)
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode)
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        key_file.chmod(mode)
        return cert_file, key_file

    def _certify(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, authority: bool, address: str = "127.0.0.1"
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


class Broker:
    """A mosquitto on a free port of 127.0.0.1; with `authority` also on `tls_port`, for clients with a certificate of that authority."""

    def __init__(self, folder: Path, authority: Authority | None = None) -> None:
        self.port = _free_port()
        self.address = f"mqtt://127.0.0.1:{self.port}"
        config = f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\nset_tcp_nodelay true\n"
        if authority is not None:
            self.tls_port = _free_port()
            self.tls_address = f"mqtts://127.0.0.1:{self.tls_port}"
            cert, key = authority.issue("broker")
            config = f"user {getpass.getuser()}\n{config}"  # else it leaves root before it reads its key
            config += f"listener {self.tls_port} 127.0.0.1\ncafile {authority.file}\ncertfile {cert}\nkeyfile {key}\n"
            config += "require_certificate true\nuse_identity_as_username true\n"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(config)
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # It stands for another machine: a session of its own, or all that runs beside this test would share its processor time.
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], start_new_session=True, **quiet)
        prefer(self.process.pid, NICE_INTERLOCK)
        deadline = time.monotonic() + 10.0
        while not self._answers():
            assert time.monotonic() < deadline and self.process.poll() is None, "mosquitto does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
            return True
        return False

    def kill(self, name: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(name)
        if name in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(5)

    def end(self) -> None:
        """Whatever was done to it."""
        with contextlib.suppress(ProcessLookupError):
            self.kill(signal.SIGCONT)
            self.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
