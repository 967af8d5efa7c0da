"""What makes a seat's numbers, as one digest: pinned when a course begins, so that an update in its middle does not pass unseen (H25)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import dsp
from eegloop import __version__
from eegloop.config import Seat
from eegloop.stim import Prescription


def of(seat: Seat, prescription: Prescription) -> tuple[str, str]:
    """Digest and version. The code that measures, the line's and the biomarkers' settings; not the target, which is signed."""
    digest = hashlib.sha256()
    for path in sorted(Path(next(iter(dsp.__path__))).rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    settings = {
        "line": seat.line.model_dump(mode="json"),
        "biomarkers": [{"kind": b.kind, **b.settings.model_dump(mode="json")} for b in seat.biomarkers],
        "controller": prescription.controller,
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest(), __version__
