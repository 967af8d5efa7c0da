"""Whose signatures count on this machine, read anew for each note: as the interlock has it (`interlock/keys.py`)."""

from __future__ import annotations

from pathlib import Path

from control.keyring import counting, read_list
from control.prescription import TrustedKey, is_hex, json_object, parse_trusted
from eegloop.stim import PrescriptionError


def trusted_now(folder: Path) -> tuple[TrustedKey, ...]:
    """The certified list of a paired machine, and trusted.json for `simulated`.

    Parameters
    ----------
    folder : Path
        `Layout.keys`.

    Raises
    ------
    PrescriptionError
        If it cannot be said: a file is missing, damaged, older than one that was here, or another site's. Then nobody's count.
    """
    try:
        listed = None
        site = folder / "site.json"
        if site.exists():
            body = json_object(site.read_bytes(), "site", ("site_key", "number"))
            number = body["number"]
            if not is_hex(body["site_key"], 64) or isinstance(number, bool) or not isinstance(number, int):
                raise PrescriptionError(f"{site}: damaged; an administrator removes it and pairs this machine anew")
            if number > 0 or (folder / "certified.json").exists():
                listed = read_list((folder / "certified.json").read_bytes(), body["site_key"], number)
        return counting(listed, parse_trusted((folder / "trusted.json").read_bytes()))
    except OSError as error:
        raise PrescriptionError(f"keys: {error.filename} cannot be read ({error.strerror})") from None
