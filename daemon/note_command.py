"""`eegloop note`: a clinician's signed word on what a person answered, made on the clinic's side and brought to the bedside."""

from __future__ import annotations

import re
import time
from pathlib import Path

from control.clinic_note import KINDS, Note, sign_note
from control.forms import AFTER, FORMS, Answer
from control.screening import FUTURE, assess
from daemon.private_file import write_private
from daemon.sign_command import unlocked
from eegloop.errors import SetupError
from eegloop.stim import PrescriptionError

CODE = re.compile(r"[A-Za-z0-9]{1,32}")  # as a person is named in config.yaml and in the recordings
_DAY_S = 86_400.0


def named_items(kind: str, form: str) -> tuple[str, ...]:
    """What a note of this kind may name: the items under which the worst answers to this form forbid something, or raise an alert.

    "" stands for a finding without an item: what is no form, and reports after a session that are missing. `FUTURE` releases
    answers that a wrong clock dated ahead.
    """
    if form not in FORMS:
        return ("",)
    best, worst = (Answer(form, tuple(i.highest * n for i in FORMS[form].items), _DAY_S * n, "nobody") for n in (0, 1))
    found = assess((best, worst), (), _DAY_S)
    items = sorted({f.item for f in found if f.form == form and f.item and (f.alert or kind == "release")})
    return (*items, *((FUTURE,) if kind == "release" else ()), *(("",) if form == AFTER.id else ()))


def _objection(kind: str, patient: str, form: str, item: str) -> str:
    """Why this note would do nothing at the bedside, "" if it may do something."""
    if CODE.fullmatch(patient) is None:
        return f"--patient {patient[:40]!r} is no person's code: 1-32 letters and digits, as `person` in config.yaml."
    items = named_items(kind, form)
    if item in items:
        return ""
    what = f"--item {item[:40]!r} is nothing" if item else "--item is missing: this would be a note on nothing"
    can = ", ".join(filter(None, items))
    verb = "be seen" if kind == "seen" else "be released"
    return f"{what} that can {verb} in {form}; {f'give the one that the alert names: {can}' if can else 'leave it out' if items else 'there is none'}."


def write_note(kind: str, patient: str, form: str, item: str, key: Path, out: Path, passphrase_file: Path | None) -> str:
    """Sign and write; says where it goes.

    Raises
    ------
    SetupError
        Naming the field or the file.
    """
    if kind not in KINDS:
        raise SetupError(f"note {kind[:40]!r}: must be {' or '.join(KINDS)}")
    if objection := _objection(kind, patient, form, item):
        raise SetupError(objection)
    try:
        text = sign_note(Note(kind, patient, form, item, int(time.time())), unlocked(key, passphrase_file))
        write_private(out, text)
    except PrescriptionError as error:
        raise SetupError(str(error)) from None
    except OSError as error:
        raise SetupError(f"{out}: cannot be written ({error.strerror})") from None
    what = "was seen" if kind == "seen" else "no longer holds"
    return f"{out}: {form} {item} of {patient}, as answered until now, {what}.\nPut it into persons/{patient}/notes/ of the data directory."
