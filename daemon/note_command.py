"""`eegloop note`: a clinician's signed word on what a person answered, made on the clinic's side and brought to the bedside."""

from __future__ import annotations

import time
from pathlib import Path

from control.clinic_note import Note, sign_note
from daemon.build import write_private
from daemon.sign_command import unlocked
from eegloop.errors import SetupError
from eegloop.stim import PrescriptionError


def write_note(kind: str, patient: str, form: str, item: str, key: Path, out: Path, passphrase_file: Path | None) -> str:
    """Sign and write; says where it goes.

    Raises
    ------
    SetupError
        Naming the field or the file.
    """
    try:
        text = sign_note(Note(kind, patient, form, item, int(time.time())), unlocked(key, passphrase_file))
        write_private(out, text)
    except PrescriptionError as error:
        raise SetupError(str(error)) from None
    except OSError as error:
        raise SetupError(f"{out}: cannot be written ({error.strerror})") from None
    what = "was seen" if kind == "seen" else "no longer holds"
    return f"{out}: {form} {item} of {patient}, as answered until now, {what}.\nPut it into persons/{patient}/notes/ of the data directory."
