"""`eegloop report`: a person's newest session against the person's own earlier ones, with uncertainty. No diagnosis."""

from __future__ import annotations

import json
import math
from pathlib import Path

from eegloop.errors import RecordingError
from eegloop.layout import Layout
from records.progress import TOO_FEW, Change, Progress, progress, read_cohort, sessions_of
from records.session import RecordedSession

HEADS = ("biomarker", "channel", "value", "unit", "clean s", "z [95 %]", "p", "said")
NUMBERS = (2, 4, 5, 6)
WORDS = {
    "changed_up": "higher than usual",
    "changed_down": "lower than usual",
    "no_reliable_change": "no reliable change",
    "too_few_sessions": TOO_FEW,
    "no_spread": "the earlier sessions are all alike; are they copies of one?",
    "no_value": "no value",
}


def report(target: Path, person: str | None, cohort: Path | None, json_output: bool) -> int:
    """Print the comparison.

    Parameters
    ----------
    target : Path
        A data directory (with `person`: that person's newest session is taken) or a session's .vhdr.

    Raises
    ------
    RecordingError
        If there is no such session, or it or the cohort's table cannot be read.
    """
    known = read_cohort(cohort) if cohort is not None else {}
    if target.is_dir():
        root = Layout(target).recordings if Layout(target).recordings.is_dir() else target
        people = sorted(path.name.removeprefix("sub-") for path in root.glob("sub-*"))
        if person is None and len(people) == 1:
            person = people[0]
        if not people:
            raise RecordingError(f"{root}: no recordings here; name a data directory that has some")
        if person is None:
            raise RecordingError(f"{target}: name a person with --person; there are: {', '.join(people) or 'none'}")
        sessions = sessions_of(root, person)
        if not sessions:
            raise RecordingError(f"{root}: no session of {person!r}; there are: {', '.join(people) or 'none'}")
        header, others = sessions[-1], sessions[:-1]
    else:
        header = target.with_suffix(".vhdr")
        if not header.is_file():
            raise RecordingError(f"{header}: no such file; name a data directory, a folder of recordings or a session's .vhdr")
        subject = RecordedSession(header).entities.subject
        every = sessions_of(header.resolve().parents[3], subject)
        others = [path for path in every if path < header.resolve()]
    found = progress(header, others, known)
    if json_output:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        _show(found)
    return 0


def _show(found: Progress) -> None:
    print(f"{found.session.name}: against {len(found.baseline)} earlier sessions of the same person")
    for path, reason in found.left_out:
        print(f"  not compared: {path.name}: {reason}")
    rows = [HEADS, *(_cells(change) for change in found.changes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS) - 1)]
    for row in rows:
        cells = [text.rjust(n) if i in NUMBERS else text.ljust(n) for i, (text, n) in enumerate(zip(row, widths, strict=False))]
        print("  ".join([*cells, row[-1]]))
    compared = sum(math.isfinite(change.own.p) for change in found.changes)
    if compared:
        print(
            f"{compared} values were compared: about {0.05 * compared:.0f} of them look changed by chance alone. Powers are compared\n"
            "by their logarithm. Eyes, time of day, sleep and medicine must be alike; a recording does not know them."
        )
    print("Research use only: a change says nothing about an illness or a treatment by itself.")


def _cells(change: Change) -> tuple[str, ...]:
    now, own = change.now, change.own
    value = f"{now.value:.4g}" if math.isfinite(now.value) else "-"
    z = f"{own.z:+.1f} [{own.z_low:+.1f}, {own.z_high:+.1f}]" if math.isfinite(own.z) else "-"
    p = f"{own.p:.3f}" if math.isfinite(own.p) else "-"
    said = now.reason or WORDS[own.verdict]
    if change.reliable is not None and change.cohort is not None and math.isfinite(change.reliable.index):
        said += f"; index {change.reliable.index:+.1f} ({WORDS[change.reliable.verdict]}, {change.cohort.source})"
    return now.name, now.channel, value, now.unit, f"{now.clean_s:.0f}", z, p, said
