"""A bedside data directory with its clock and its clinic, for the tests of kept answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from control.clinic_note import Note, sign_note
from control.forms import FORMS
from control.keyring import certify
from control.prescription import TrustedKey, demo_prescription, new_key, public_key, trusted_bytes
from control.screening import Level
from daemon.answers import AnswerBook

START_S = 1_800_000_000.0
LOCKOUT_S = 43_200.0


class Clock:
    def __init__(self) -> None:
        self.s = START_S
        self.wrong_s = 0.0

    def set_wrong(self, wrong_s: float) -> None:
        """The wall clock only: what counts from the machine's start goes on."""
        self.s, self.wrong_s = self.s + wrong_s - self.wrong_s, wrong_s

    def wall_s(self) -> float:
        return self.s

    def lsl_s(self) -> float:
        return self.s - START_S

    def boot_ns(self) -> int:
        return round((self.s - self.wrong_s - START_S + 100.0) * 1e9)


class Desk:
    """A bedside data directory: books are opened and closed on it, and the clinic's key is trusted there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.key, self.digest = folder, Clock(), new_key(), "as at first"
        self.keys, self.site = folder / "keys", new_key()
        self.keys.mkdir()
        self.doctor = TrustedKey(public_key(self.key).hex(), "Dr. Bo", "prescriber", "any", 0, 2**39, False)
        self.trust(1, self.doctor)
        self.signed = replace(
            demo_prescription("p1", START_S), device="home", lockout_ms=round(LOCKOUT_S * 1000), day_sessions=1, week_sessions=5
        )
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.book = self.open()

    def trust(self, number: int, *listed: TrustedKey, alone: tuple[TrustedKey, ...] = ()) -> None:
        """The clinic's list of that number, and what somebody put into trusted.json beside it."""
        (self.keys / "site.json").write_text(json.dumps({"site_key": public_key(self.site).hex(), "number": number}))
        (self.keys / "certified.json").write_bytes(certify(listed, number, self.site))
        (self.keys / "trusted.json").write_bytes(trusted_bytes((*listed, *alone)))

    def open(self, remembers: bool = True) -> AnswerBook:
        measure, state = (self.digest, "0.1.0"), self.folder / "state"
        self.book = AnswerBook(self.folder / "p1", "p1", self.signed, self.keys, self.clock, remembers, measure, state)
        return self.book

    def again(self) -> None:
        """The service is ended and started."""
        assert self.book.close()
        self.open()

    def all_well(self) -> None:
        for form in self.book.look("screen", None).due:
            self.book.answer(form, [0] * len(FORMS[form].items), "Ann")

    def session(self, minutes: float = 20.0) -> None:
        self.book.output(True)
        self.clock.s += 60.0 * minutes
        self.book.output(False)
        self.book.close_session()

    def found(self, phase: str = "screen") -> set[tuple[Level, str, str]]:
        found = self.book.look(phase, None)
        self.book.told(lambda event, body: self.said.append((event, body)))
        return {(f.level, f.form, f.item) for f in found.findings}

    def note(self, kind: str, form: str, item: str, key: bytes | None = None, patient: str = "p1") -> None:
        text = sign_note(Note(kind, patient, form, item, int(self.clock.s)), key or self.key)
        (self.folder / "p1" / "notes" / f"{len(list((self.folder / 'p1' / 'notes').iterdir()))}.json").write_bytes(text)
        self.clock.s += 5.0
