"""Who got what in a blinded trial: drawn once, kept in a hash chain of its own, never changed, shown to nobody but by `eegloop unblind`.

The chain is `store/allocations.jsonl`, an audit trail like the others (`daemon/audit.py`); the service writes its head into
`audit/daemon.jsonl`, so that a line cannot be taken back unseen. Events: `allocated` (trial, person, arm, block), `renewed` (the
person's two prescriptions were signed anew; the arm stays), `unblinded` (who looked, and why). The two signed prescriptions lie beside it, under
`store/trials/TRIAL/PERSON/`. Everything there is for this user only (0700, 0600): whoever has this user's account can read the arm, and
nobody else (docs/blinding.md).
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.prescription import signed_prescription, signer_names, verify
from control.sham_pair import check_pair
from daemon.audit import AuditTrail, Head, lines_of, read_chain, read_head, verify_chain
from daemon.private_file import write_private
from daemon.trusted_keys import trusted_now
from eegloop.errors import RecordingError, SetupError, plain
from eegloop.layout import Layout
from eegloop.ports import Clock
from eegloop.stim import Prescription, PrescriptionError

ACTIVE, SHAM = "active", "sham"
ARMS = (ACTIVE, SHAM)
BLOCK_SIZES = (4, 6)
"""Persons in a block, drawn for each: with one known size the last of a block could be guessed from those before."""
TRIAL = re.compile(r"[a-z0-9_\-]{1,32}")
PERSON = re.compile(r"[A-Za-z0-9]{1,32}")
Below = Callable[[int], int]  # a random whole number from 0 to below this


@dataclass(frozen=True, slots=True)
class Place:
    """One person's place in a trial's blocks; `size` persons share the block, half of them in each arm."""

    block: int
    size: int
    arm: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A person's two signed files, verified now, and which of them this person's stimulator is given."""

    trial: str
    arm: str
    active: Prescription
    signed: bytes  # of the person's own arm


def draw(before: Iterable[Place], below: Below = secrets.randbelow) -> Place:
    """The next person's place: permuted blocks, each arm equally often in a block.

    Parameters
    ----------
    before : iterable of Place
        The trial's earlier persons, in their order.
    """
    places = list(before)
    block, size = (places[-1].block, places[-1].size) if places else (-1, 0)
    taken = [place.arm for place in places if place.block == block]
    if len(taken) == size:
        block, size, taken = block + 1, BLOCK_SIZES[below(len(BLOCK_SIZES))], []
    arm = ACTIVE if below(size - len(taken)) < size // 2 - taken.count(ACTIVE) else SHAM
    return Place(block, size, arm)


def chain_path(layout: Layout) -> Path:
    """Where allocations are kept."""
    return layout.store / "allocations.jsonl"


def kept(layout: Layout) -> list[dict[str, Any]]:
    """Every line of the chain.

    Raises
    ------
    SetupError
        If it is not as it was written, or is not there though something was allocated: drawing again would change people's arms.
    """
    path = chain_path(layout)
    seen, head = _anchored(layout), read_head(path)  # before the lines: another command may add one meanwhile
    least = max(seen.count, head.count if head is not None else 0, int(any((layout.store / "trials").glob("*/*"))))
    lines = _sound(path)
    if len(lines) < least or (seen.count and lines[seen.count - 1]["hash"] != seen.hash):
        raise SetupError(
            f"{path}: it is not the one that was written before ({len(lines)} of at least {least} lines fit). Do not allocate "
            "again, that would change people's arms: put the newest backup of the folder back, or ask the trial's statistician"
        )
    return lines


def _anchored(layout: Layout) -> Head:
    """What the audit trail saw of the chain last, with its folder's name, so that a data directory may be moved; 0 lines if nothing."""
    trail, here = layout.audit / "daemon.jsonl", chain_path(layout).parts[-2:]
    seen = Head(0, "")
    for line in lines_of(trail, "anchor") if trail.exists() else ():
        if Path(str(line["data"].get("path", ""))).parts[-2:] == here:
            seen = Head(int(line["data"]["count"]), str(line["data"]["hash"]))
    return seen


def allocate(layout: Layout, trial: str, person: str, files: dict[str, Path], who: str, clock: Clock) -> str:
    """Draw a person's arm and keep it, or take newly signed prescriptions under the arm that was drawn before; says no arm.

    Parameters
    ----------
    files : dict
        The signed prescription of each of `ARMS`.

    Raises
    ------
    SetupError
        If a name, a file or the chain cannot be used; nothing is allocated then.
    """
    _named(trial, person)
    _named_person_of_staff(who)
    layout.create()
    read = {arm: _bytes(files[arm]) for arm in ARMS}
    try:
        found = {arm: _payload(read[arm], f"{arm}: {files[arm]}") for arm in ARMS}
        check_pair(*found.values())
        for arm in ARMS:
            _verified(read[arm], arm, layout, clock.wall_s(), person, found[arm].device)
    except PrescriptionError as error:
        raise SetupError(f"trial {trial}, person {person}: {error}; nothing was allocated") from None
    with _Writing(layout, clock) as chain:
        place = _place_of(chain.lines, trial, person)
        folder = _folder(layout, trial, person)
        for each in (folder.parents[1], folder.parent, folder):
            each.mkdir(exist_ok=True, mode=0o700)
        digests = {arm: hashlib.sha256(read[arm]).hexdigest() for arm in ARMS}
        for arm in ARMS:  # named by their content: a file of an earlier pair is never written over
            write_private(folder / f"{digests[arm]}.json", read[arm])
        said = {"trial": trial, "person": person, "files": digests, "by": who}
        if place is None:
            place = draw(_places(chain.lines, trial))
            chain.append("allocated", {**said, "arm": place.arm, "block": place.block, "size": place.size})
            return (
                f"{person} is allocated in trial {trial}. The arm is shown to nobody.\n"
                f"In config.yaml: `person: {person}`, `trial: {trial}` and `prescription: null`."
            )
        chain.append("renewed", said)
        return f"{person} was allocated in trial {trial} before and stays in the same arm; the newly signed prescriptions count from the next start on."


def pair_of(layout: Layout, trial: str, person: str, device: str, now_s: float) -> Pair:
    """What the service needs of a blinded person; both prescriptions are verified in both arms, so that a refusal tells none.

    Raises
    ------
    SetupError
        If nobody was allocated so, or a file or the chain is not sound.
    PrescriptionError
        If one of the two may not be used here and now.
    """
    _named(trial, person)
    lines = kept(layout)
    place = _place_of(lines, trial, person)
    if place is None:
        raise SetupError(f"trial {trial}: {person} is not allocated yet; `eegloop allocate` does that (docs/blinding.md)")
    newest = [line for line in _of(lines, trial, person) if line["event"] in ("allocated", "renewed")][-1]["data"]["files"]
    read = {}
    for arm in ARMS:
        try:
            read[arm] = _bytes(_folder(layout, trial, person) / f"{newest[arm]}.json")
        except SetupError as error:
            raise SetupError(f"{error}; allocate the same two prescriptions again, the arm stays") from None
        if hashlib.sha256(read[arm]).hexdigest() != newest[arm]:
            raise SetupError(
                f"trial {trial}, person {person}: a prescription is not the one that was allocated; allocate it again"
            )
    active, sham = (_verified(read[arm], arm, layout, now_s, person, device) for arm in ARMS)
    check_pair(active, sham)
    return Pair(trial, place.arm, active, read[place.arm])


def unblind(layout: Layout, trial: str, person: str, who: str, reason: str, clock: Clock) -> str:
    """The arm, once it is durably written who looked and why.

    Raises
    ------
    SetupError
        If a name or the reason is missing, nobody was allocated so, or it cannot be written down: then the arm is not told.
    """
    _named(trial, person)
    _named_person_of_staff(who)
    if not reason.strip():
        raise SetupError("unblind: --reason is empty; say why this person's arm must be known")
    path = chain_path(layout)
    if not kept(layout):  # nothing is made where nothing is: another directory may be meant
        raise SetupError(f"{path}: nobody was allocated here; name the service's data directory with --data")
    with _Writing(layout, clock) as chain:
        place = _place_of(chain.lines, trial, person)
        if place is None:
            raise SetupError(f"trial {trial}: {person} is not allocated in {path}; check --trial, --person and --data")
        chain.append("unblinded", {"trial": trial, "person": person, "by": who, "reason": reason[:1000]})
    what = "each session's current is the signed program's" if place.arm == ACTIVE else "no session has any current"
    return f"{person} is in the {place.arm.upper()} arm of trial {trial}: {what}.\nThis look is written down: {who}, {reason}"


class Levels:
    """The lowest level that the program of one blinded person has been at, over restarts of the service: under `lower_only` it never rises
    in a course, and in a sham arm no ledger of the interlock knows it. Written in both arms alike.

    Raises
    ------
    RecordingError
        If the file is damaged, or written by another service.
    """

    def __init__(self, layout: Layout, trial: str, person: str, program: Prescription, clock: Clock) -> None:
        path = _folder(layout, trial, person) / "levels.jsonl"
        self._course = hashlib.sha256(program.to_bytes()).hexdigest()
        self._trail = AuditTrail(path, clock)
        found = [line["data"] for line in _sound(path) if line["event"] == "lowered"]
        self.lowest_ma = min((float(data["level_ma"]) for data in found if data["course"] == self._course), default=math.inf)

    def lowered(self, level_ma: float) -> None:
        """Remember a level; written beside the loop, soon."""
        self._trail.append("lowered", {"course": self._course, "level_ma": level_ma})

    def close(self) -> None:
        """Written and closed."""
        self._trail.close()


class _Writing:
    """The chain while one command writes it: nobody else does meanwhile. What was appended is durable, or the command fails."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self._layout = layout
        self._path = chain_path(layout)
        self._clock = clock

    def __enter__(self) -> _Writing:
        kept(self._layout)  # before anything is made: one that is gone is not begun anew
        try:
            self._trail = AuditTrail(self._path, self._clock)
        except OSError as error:
            raise SetupError(f"{self._path}: cannot be written ({plain(error)}); nothing was done") from None
        except RecordingError:
            raise SetupError(
                f"{self._path}: another eegloop is writing it (`allocate` or `unblind`); wait until that is done. Nothing was done"
            ) from None
        if not self._trail.flush(5.0):  # a chain that is new has its first line
            message = self._trail.message or "the disk does not answer"
            self._trail.close()
            raise SetupError(f"{self._path}: {message}; nothing was done")
        try:
            self.lines = kept(self._layout)
        except SetupError:
            self._trail.close()
            raise
        return self

    def append(self, event: str, data: dict[str, Any]) -> None:
        before = self._trail.head.count
        self._trail.append(event, data)
        self._trail.flush(5.0)
        if self._trail.head.count != before + 1:
            raise SetupError(f"{self._path}: {self._trail.message or 'the disk does not answer'}; nothing was done")

    def __exit__(self, *error: object) -> None:
        self._trail.close()


def _sound(path: Path) -> list[dict[str, Any]]:
    """Every line of the chain; SetupError if it is not as it was written."""
    if not path.exists():
        return []
    wrong = [finding for finding in verify_chain(path) if finding.level == "error"]
    if wrong:
        raise SetupError(
            f"{wrong[0]}. Allocations that were changed count for nobody; keep the file as evidence and tell the trial's statistician"
        )
    return list(read_chain(path))


def _of(lines: list[dict[str, Any]], trial: str, person: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["data"].get("trial") == trial and line["data"].get("person") == person]


def _place(data: dict[str, Any]) -> Place:
    return Place(int(data["block"]), int(data["size"]), str(data["arm"]))


def _places(lines: list[dict[str, Any]], trial: str) -> list[Place]:
    return [_place(line["data"]) for line in lines if line["event"] == "allocated" and line["data"]["trial"] == trial]


def _place_of(lines: list[dict[str, Any]], trial: str, person: str) -> Place | None:
    return next((_place(line["data"]) for line in _of(lines, trial, person) if line["event"] == "allocated"), None)


def _folder(layout: Layout, trial: str, person: str) -> Path:
    return layout.store / "trials" / trial / person


def _named(trial: str, person: str) -> None:
    if TRIAL.fullmatch(trial) is None:
        raise SetupError(f"trial {trial[:40]!r}: must be 1-32 of a-z, 0-9, - and _")
    if PERSON.fullmatch(person) is None:
        raise SetupError(f"person {person[:40]!r}: must be a person's code as in config.yaml, 1-32 letters and digits")


def _named_person_of_staff(who: str) -> None:
    if not who.strip() or not who.isprintable() or len(who) > 80:
        raise SetupError("--who: must be the name of whoever does this, 1-80 printable characters")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({plain(error)})") from None


def _payload(signed: bytes, name: str) -> Prescription:
    try:
        return signed_prescription(signed)
    except PrescriptionError as error:
        raise PrescriptionError(f"{name}: {error}; name the file that `eegloop sign` wrote") from None


def _verified(signed: bytes, arm: str, layout: Layout, now_s: float, person: str, device: str) -> Prescription:
    """As the service and the interlock verify one: the interlock will see one of the two only, and what it refuses must not tell which."""
    try:
        trusted = trusted_now(layout.keys)
        prescription = verify(signed, trusted, now_s, person, device)
        for name in prescription.signers:
            if name not in signer_names(signed, trusted):
                raise PrescriptionError(f"prescription.signers: {name!r} is named but no signature is theirs")
    except PrescriptionError as error:
        raise PrescriptionError(f"{arm}: {error}") from None
    return prescription
