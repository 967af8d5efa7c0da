"""`eegloop sign`: a prescription written in YAML is checked, turned into canonical bytes and signed, on the clinic's side."""

from __future__ import annotations

import getpass
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from control.bounds import RAMP_S
from control.prescription import parse_yaml, public_key, sign, signed_prescription, unlock_key
from control.schema import FIELDS, near
from control.start_code import sign_start_code
from daemon.private_file import write_private
from daemon.pulse_spacing import too_often
from eegloop.errors import SetupError, plain
from eegloop.line import LineSettings
from eegloop.plugins import find, kinds
from eegloop.stim import Authority, Limit, Prescription, PrescriptionError
from interlock.limits import first_breach


def read_text(path: Path) -> str:
    """A small text file; SetupError naming it if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path}: cannot be read ({plain(error)}); name another file") from None


def read_json(path: Path) -> object:
    """A small JSON file; SetupError naming it if it is none (absurdly deep and absurdly long numbers included)."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError):
        raise SetupError(f"{path}: is not readable as JSON; get the file anew from whoever made it") from None


def passphrase(path: Path | None, what: str, twice: bool = False) -> str:
    """From a file's first line, else asked at the terminal without showing it."""
    if path is not None:
        return read_text(path).split("\n", 1)[0]
    if not sys.stdin.isatty():
        raise SetupError(f"{what}: no terminal to ask for the passphrase; name a file with --passphrase-file")
    first = getpass.getpass(f"Passphrase of {what}: ")
    if twice and getpass.getpass("Once more: ") != first:
        raise SetupError(f"{what}: the two passphrases differ; nothing was written")
    return first


def unlocked(path: Path, passphrase_file: Path | None) -> bytes:
    """The private key in an encrypted file."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({plain(error)}); name another file") from None
    try:
        return unlock_key(pem, passphrase(passphrase_file, str(path)))
    except PrescriptionError as error:
        raise SetupError(f"{path}: {error}") from None


def name_beside(key_file: Path) -> str:
    """Whose key this is, by the public file beside it (`ann.pem` and `ann.pub.json`); "" if there is none."""
    public = key_file.with_suffix(".pub.json")
    if not public.exists():
        return ""
    body = read_json(public)
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise SetupError(f"{public}: must be a public key's file as `eegloop keys new` writes it; remove it if it is none")
    return str(body["name"])


def sign_file(source: Path, keys: Sequence[Path], out: Path | None, passphrase_files: Sequence[Path]) -> str:
    """Check, sign and write; returns what was done in a few lines.

    Raises
    ------
    SetupError
        Naming the file, line, field, value and what is allowed; nothing is written then.
    """
    try:
        prescription = parse_yaml(read_text(source))
        _armable(prescription)
        told = "\n".join((summary(prescription), *_warnings(prescription)))
    except PrescriptionError as error:
        raise SetupError(f"{source}: {error}") from None
    if not keys:
        return f"{told}\nValid. Not signed: name a private key with --key."
    seeds = _seeds(keys, passphrase_files)
    _enough(prescription, seeds, [name_beside(path) for path in keys])
    target = out or source.with_suffix(".json")
    if target.resolve() == source.resolve():
        raise SetupError(f"{target}: would overwrite what was written by hand; name another file with --out")
    write_private(target, sign(prescription, seeds))
    signers = ", ".join(public_key(seed).hex()[:16] + "..." for seed in seeds)
    return f"{told}\nSigned with {signers}: {target}"


def _armable(prescription: Prescription) -> None:
    """Refuse at the clinic's desk what the interlock would refuse at the bedside: its own tables, trains of pulses among them."""
    breach = first_breach(prescription, _device_limits(prescription.device))
    if breach is not None:
        raise PrescriptionError(f"{breach.field}: {breach.value}, but {breach.limit} ({breach.set_by}): {breach.reason}")


def _device_limits(kind: str) -> tuple[Limit, ...]:
    """What stimulators of this kind can give at most; the one that is really there says its own limits when it is connected."""
    known = kinds("stimulator")
    if kind not in known:
        raise PrescriptionError(
            f"prescription.device: {kind!r} is no stimulator; there are {', '.join(known)}{near(kind, list(known))}"
        )
    limits: tuple[Limit, ...] = find("stimulator", kind).LIMITS
    return limits


def _warnings(prescription: Prescription) -> list[str]:
    """What may be signed and is not as it usually is, or will not work as it is meant. Nothing that is unsafe: that is refused."""
    p = prescription
    why, what_to_do = too_often(p, LineSettings(), {})  # the seat's own line is not known here
    warnings = [f"Warning: {why}; {what_to_do}."] if why else []
    takes_s, usual_s = p.amplitude_ua / p.ramp_ua_per_s, float(RAMP_S.get(p.modality, 0))
    if takes_s < usual_s:  # on a stimulator that nobody wears: on a person it is refused (control/bounds.py)
        warnings.append(
            f"Warning: ramp_ua_per_s {p.ramp_ua_per_s} reaches {p.amplitude_ma:g} mA in {takes_s:.0f} s; on a person {p.modality} must "
            f"take at least {usual_s:.0f} s, and {p.amplitude_ua // usual_s:.0f} would."
        )
    return warnings


def start_code_file(
    source: Path,
    session: int,
    dose_uc: int,
    hours: float,
    keys: Sequence[Path],
    out: Path | None,
    passphrase_files: Sequence[Path],
) -> str:
    """The code that opens one home session of a signed prescription; returns what was done.

    Parameters
    ----------
    source : Path
        The signed prescription, as the bedside machine has it.
    session : int
        The number this session will have in its course, from 1 up.
    dose_uc : int
        Charge given under this prescription so far, µC: the interlock compares it with its own ledger.
    hours : float
        How long from now the session may begin with it, h.

    Raises
    ------
    SetupError
        Naming what is wrong; nothing is written then.
    """
    if not keys:
        raise SetupError("--start-code: only the clinic can make one; name a private key with --key")
    seeds = _seeds(keys, passphrase_files)
    until_s = int(time.time() + hours * 3600)
    try:
        prescription = signed_prescription(read_text(source).encode())
        course = hashlib.sha256(prescription.to_bytes()).hexdigest()[:32]
        if prescription.profile != "home" or prescription.device == "simulated":
            raise SetupError(
                f"{source}: needs no start code; only profile 'home' on a stimulator that is worn does "
                f"(this is {prescription.profile!r}, {prescription.device!r})"
            )
        if not 1 <= session <= prescription.course_sessions:
            raise SetupError(f"--start-code: session {session}; this course has sessions 1 to {prescription.course_sessions}")
        code = sign_start_code(seeds, prescription.patient, course, session, dose_uc, until_s)
    except PrescriptionError as error:
        raise SetupError(f"{source}: {error}") from None
    target = out or source.with_name("start.code")
    if target.resolve() == source.resolve():
        raise SetupError(f"{target}: would overwrite the prescription; name another file with --out")
    write_private(target, code)
    return (
        f"Session {session} of {prescription.id} for {prescription.patient} on {prescription.device}, {dose_uc} µC given before it.\n"
        f"It may begin within {hours:g} h. Start code: {target}; put it into the bedside machine's data directory as seats/SEAT/start.code"
    )


def _seeds(keys: Sequence[Path], passphrase_files: Sequence[Path]) -> list[bytes]:
    """The private keys, each with its own passphrase."""
    if passphrase_files and len(passphrase_files) != len(keys):
        raise SetupError(
            f"--passphrase-file: {len(passphrase_files)} given for {len(keys)} keys; one for each --key, in the same order"
        )
    files: list[Path | None] = [*passphrase_files] or [None] * len(keys)
    return [unlocked(path, file) for path, file in zip(keys, files, strict=True)]


def _enough(prescription: Prescription, seeds: Sequence[bytes], names: Sequence[str]) -> None:
    """Who signs is who the prescription says, and they are enough for its authority."""
    different = len({public_key(seed) for seed in seeds})
    if different != len(seeds):
        raise SetupError("--key: the same key is named twice; two signatures must be of two different people")
    if prescription.authority == Authority.WITHIN_BOUNDS and prescription.device != "simulated" and different < 2:
        raise SetupError("authority: 'within_bounds' on a real stimulator needs two different signers; give --key twice")
    if all(names):
        for signer in prescription.signers:
            if signer not in names:
                raise SetupError(
                    f"signers: {signer!r} is named in the prescription, but the keys are of {', '.join(names)}; sign with that person's key, or correct `signers`"
                )


def summary(prescription: Prescription) -> str:
    """What is about to be signed, in the units a clinician thinks in."""
    p = prescription
    wave = "direct current" if p.frequency_millihz == 0 else f"{p.frequency_hz:g} Hz, peak of the sine (half of peak-to-peak)"
    return "\n".join(
        (
            f"{p.id}: {p.modality} for {p.patient} on {p.device} ({p.device_serial}), {p.montage}, profile {p.profile}",
            f"at most {p.amplitude_ma:g} mA ({wave}), starts with {p.start_ua / 1000:g} mA, ramps {p.ramp_ua_per_s / 1000:g} mA/s",
            f"a session: {p.session_ms / 60_000:g} min, {p.session_uc / 1e6:g} C; {p.day_sessions} a day, {p.week_sessions} a week,"
            f" {p.course_sessions} in all, {p.lockout_ms / 3_600_000:g} h apart",
            f"authority {p.authority}, controller {p.controller}: "
            + ", ".join(f"{key} {value}" for key, value in p.settings.items()),
        )
    )


def fields_text() -> str:
    """The schema, one field a line."""
    width = max(len(name) for name in FIELDS)
    return "\n".join(f"{name:{width}}  {field.unit:8}  {field.allowed}: {field.about}" for name, field in FIELDS.items())
