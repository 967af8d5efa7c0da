"""Whose signatures the interlock believes for a stimulator that is worn: those its own check of the site's certificate bears out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.keyring import certify
from control.prescription import TrustedKey, public_key
from eegloop.stim import Prescription, PrescriptionError
from interlock.keys import FORMAT, certified_keys, known_keys
from interlock.signed import read_prescription
from tests.interlock_bench import SITE, WALL_S, Signer, make_prescription, write_keys, write_signed

VALID = {"valid_from_s": WALL_S - 10, "valid_until_s": WALL_S + 10}
OTHER_SITE = bytes(range(1, 33))


class Machine:
    """A keys' folder as pairing and trusting leave it, and a prescription for a stimulator that is worn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "keys"
        self.folder.mkdir()
        self.state = folder / "state"
        self.signer = Signer(scope="any", **VALID)
        worn = make_prescription(device="pulse_pal", device_serial="7", authority="lower_only")
        self.signed = write_signed(self.folder, worn, [self.signer], self.folder / "trusted.json")

    def read(self) -> Prescription:
        return read_prescription(self.signed, self.folder, "virtual", "pulse_pal", float(WALL_S), self.state)

    def change(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        body = json.loads((self.folder / name).read_text())
        change(body)
        (self.folder / name).write_text(json.dumps(body))

    def list_as(self, number: int = 1, site: bytes = SITE, **entry: Any) -> None:
        listed = [TrustedKey(**{**self.signer.entry, **entry})]
        (self.folder / "certified.json").write_bytes(certify(listed, number, site))

    def refuses(self, words: str) -> None:
        with pytest.raises(PrescriptionError, match=words):
            self.read()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_certified_key_signs_for_a_stimulator_that_is_worn(machine: Machine) -> None:
    assert machine.read().device == "pulse_pal"


def test_a_key_that_nobody_certified_signs_for_the_simulated_one_only(machine: Machine) -> None:
    """Whoever may write trusted.json as this user puts in a key of their own; without the site's signature it opens nothing worn."""
    intruder = Signer("Dr A", scope="any", **VALID)
    machine.change("trusted.json", lambda body: body["keys"].append(intruder.entry))
    payload = make_prescription(device="pulse_pal", device_serial="7", authority="lower_only").to_bytes()
    body = {
        "format": "eegloop-signed-1",
        "payload": base64.b64encode(payload).decode(),
        "signatures": [intruder.sign(payload)],
    }
    machine.signed.write_text(json.dumps(body))
    machine.refuses("may sign for 'simulated' only, not for 'pulse_pal', as far as the clinic has certified")
    assert known_keys(machine.folder)[intruder.key]["scope"] == "simulated"
    assert known_keys(machine.folder)[machine.signer.key]["scope"] == "any"


def test_a_machine_that_is_not_paired_has_no_certified_key(machine: Machine) -> None:
    (machine.folder / "site.json").unlink()
    assert certified_keys(machine.folder) == {}
    machine.refuses("may sign for 'simulated' only")


def test_paired_and_without_a_list_yet_nothing_is_certified(machine: Machine) -> None:
    machine.change("site.json", lambda body: body.update(number=0))
    assert machine.signer.key in certified_keys(machine.folder)  # between two steps of the first `trust`
    (machine.folder / "certified.json").unlink()
    assert certified_keys(machine.folder) == {}
    machine.refuses("may sign for 'simulated' only")


def test_a_list_that_is_gone_is_no_empty_one(machine: Machine) -> None:
    (machine.folder / "certified.json").unlink()
    machine.refuses("certified: list number 1 is gone; give `eegloop keys trust` the clinic's list once more")


def test_another_sites_list_is_refused(machine: Machine) -> None:
    machine.list_as(site=OTHER_SITE)
    machine.refuses(r"certified\.signature: is not the site's")
    machine.change(
        "certified.json", lambda body: body.update(site_key=public_key(SITE).hex())
    )  # what it says of itself is nothing
    machine.refuses(r"certified\.signature: is not the site's")


def test_an_altered_list_is_refused(machine: Machine) -> None:
    body = json.loads((machine.folder / "certified.json").read_text())
    payload = base64.b64decode(body["payload"])
    for i in range(0, len(payload), 7):
        altered = payload[:i] + bytes([payload[i] ^ 1]) + payload[i + 1 :]
        machine.change("certified.json", lambda b, a=altered: b.update(payload=base64.b64encode(a).decode()))  # type: ignore[misc]
        machine.refuses(r"certified\.signature")


def test_an_older_list_does_not_bring_a_revoked_key_back(machine: Machine) -> None:
    older = (machine.folder / "certified.json").read_bytes()
    machine.list_as(number=2, revoked=True)
    machine.refuses("is revoked")
    machine.change("site.json", lambda body: body.update(number=2))
    machine.refuses("is revoked")
    (machine.folder / "certified.json").write_bytes(older)
    machine.refuses(r"certified\.number: 1 is older than 2")
    machine.list_as(number=3)
    assert machine.read().device == "pulse_pal"


def test_a_keys_folder_restored_as_a_whole_does_not_bring_a_revoked_key_back(machine: Machine) -> None:
    """The number that the machine had lies beside the list too, so a backup of the folder has both; what was used is kept elsewhere."""
    assert machine.read().device == "pulse_pal"
    backup = {path: path.read_bytes() for path in machine.folder.iterdir()}
    machine.list_as(number=2, revoked=True)
    machine.change("site.json", lambda body: body.update(number=2))
    machine.refuses("is revoked")
    for path, data in backup.items():
        path.write_bytes(data)
    machine.refuses(r"certified\.number: 1 is older than 2, which was used on this machine")
    machine.list_as(number=3)
    assert machine.read().device == "pulse_pal"


@pytest.mark.parametrize("damage", [b"two\n", b"\xff" * 20])
def test_a_number_that_cannot_be_read_is_refused(machine: Machine, damage: bytes) -> None:
    assert machine.read().device == "pulse_pal"
    (kept,) = machine.state.iterdir()
    kept.write_bytes(damage)
    machine.refuses("cannot be kept")
    kept.unlink()
    kept.mkdir()
    machine.refuses("cannot be kept")


def test_the_simulated_stimulator_keeps_no_number(machine: Machine) -> None:
    worn = make_prescription(device="simulated", authority="lower_only")
    signed = write_signed(machine.folder, worn, [machine.signer], machine.folder / "trusted.json")
    read_prescription(signed, machine.folder, "virtual", "simulated", float(WALL_S), machine.state)
    assert not machine.state.exists()


def test_the_list_counts_before_what_trusted_json_says_of_the_same_key(machine: Machine) -> None:
    machine.list_as(revoked=True)
    assert not json.loads((machine.folder / "trusted.json").read_text())["keys"][0]["revoked"]
    machine.refuses("is revoked")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"valid_until_s": WALL_S - 1}, "is valid from"),
        ({"valid_from_s": WALL_S + 1}, "is valid from"),
        ({"scope": "simulated"}, "may sign for 'simulated' only"),
    ],
)
def test_scope_and_validity_are_the_lists(machine: Machine, entry: dict[str, Any], words: str) -> None:
    machine.list_as(**entry)
    machine.refuses(words)


def test_the_role_is_the_lists(machine: Machine) -> None:
    """The clinic's own command certifies prescribers only; the interlock does not rely on it."""
    body = json.loads((machine.folder / "certified.json").read_text())
    listed = json.loads(base64.b64decode(body["payload"]))
    listed["keys"][0]["role"] = "caregiver"
    sign_list(machine.folder, listed)
    machine.refuses("role 'caregiver' may not prescribe")


def sign_list(folder: Path, listed: object, domain: bytes = b"eegloop keys v1\0", **changes: Any) -> None:
    """A list of any content, signed by the site."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    payload = json.dumps(listed).encode()
    signature = Ed25519PrivateKey.from_private_bytes(SITE).sign(domain + payload).hex()
    body = {"format": FORMAT, "payload": base64.b64encode(payload).decode(), "site_key": public_key(SITE).hex()}
    (folder / "certified.json").write_text(json.dumps({**body, "signature": signature, **changes}))


def test_what_else_the_site_signed_is_no_list(machine: Machine) -> None:
    listed = {"keys": [machine.signer.entry], "number": 1}
    sign_list(machine.folder, listed)
    assert machine.read().device == "pulse_pal"
    sign_list(machine.folder, listed, domain=b"eegloop prescription v1\0")
    machine.refuses(r"certified\.signature")


@pytest.mark.parametrize(
    ("listed", "changes", "words"),
    [
        ({"keys": [], "number": 1}, {"format": "eegloop-keys-2"}, r"certified\.format: 'eegloop-keys-2'"),
        ({"keys": [], "number": 1}, {"payload": "?"}, r"certified\.payload: must be base64"),
        ({"keys": [], "number": 1}, {"signature": "00"}, r"certified\.signature: must be 128"),
        ({"keys": [], "number": 1}, {"more": 1}, "certified: must be one object"),
        ({"keys": []}, {}, "certified: must be one object"),
        ({"keys": [], "number": True}, {}, r"certified\.number: True must be a whole number"),
        ({"keys": [], "number": 1.0}, {}, r"certified\.number: 1.0 must be a whole number"),
        ({"keys": [], "number": -1}, {}, r"certified\.number: -1 must be a whole number"),
        ({"keys": [], "number": 2**53}, {}, r"certified\.number: \d+ must be a whole number"),
        ({"keys": {}, "number": 1}, {}, r"certified\.keys: must be a list"),
        ({"keys": [{}], "number": 1}, {}, r"certified\.keys\[0\]: must have exactly"),
    ],
)
def test_a_malformed_list(machine: Machine, listed: object, changes: dict[str, Any], words: str) -> None:
    sign_list(machine.folder, listed, **changes)
    machine.refuses(words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"site_key": "00"}, r"site\.site_key: must be 64"),
        ({"number": "1"}, r"site\.number: '1' must be a whole number"),
        ({"more": 1}, "site: must be one object"),
    ],
)
def test_a_malformed_pin(machine: Machine, change: dict[str, Any], words: str) -> None:
    machine.change("site.json", lambda body: body.update(change))
    machine.refuses(words)


@pytest.mark.parametrize("name", ["site.json", "certified.json", "trusted.json"])
def test_files_that_others_may_write(machine: Machine, name: str) -> None:
    (machine.folder / name).chmod(0o620)
    machine.refuses(f"{name}: must belong to you")


def test_the_highest_number_that_every_reader_reads_alike_is_one(tmp_path: Path) -> None:
    signer = Signer(scope="any", **VALID)
    write_keys(tmp_path, [signer.entry], number=2**53 - 1)
    assert list(certified_keys(tmp_path)) == [signer.key]
