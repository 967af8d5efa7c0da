"""`eegloop verify`: recordings and audit trails against their hash chains."""

from __future__ import annotations

from pathlib import Path

from daemon.clock import MachineClock
from daemon.trail_anchors import seen
from daemon.verify import TRAILS, dataset_of, verify_dataset
from eegloop.errors import SetupError
from eegloop.layout import Layout


def say_seen(path: Path, who: str) -> int:
    """Write into a data directory's audit trail that somebody has looked at what differs: the alarm ends with the next start."""
    trail = Layout(path).audit / "daemon.jsonl"
    if who.strip() and not trail.exists():
        raise SetupError(f"{trail}: does not exist; --seen is of a data directory: name that (it holds audit and recordings)")
    found = seen(trail, who, MachineClock())
    print(f"Seen by {who.strip()}: {found}. It stays in the trail; the alarm ends with the next start.")
    return 0


def verify_path(path: Path) -> int:
    """Print every finding; 1 if anything was changed, cut, swapped or removed."""
    if not path.exists():
        raise SetupError(f"{path}: does not exist; name a recording, a session's folder or a data directory")
    if path.is_file() and path.suffix not in TRAILS and dataset_of(path) is None:
        raise SetupError(f"{path}: neither an audit trail ({', '.join(TRAILS)}) nor part of a data directory's recordings")
    findings = verify_dataset(path)
    for finding in findings:
        print(finding)
    errors = sum(finding.level == "error" for finding in findings)
    if not findings:
        print(f"{path}: everything is as it was written")
    elif not errors:
        print(f"{path}: nothing was changed; {len(findings)} places cannot be vouched for (see above)")
    else:
        print(f"{path}: {errors} places were changed, cut, swapped or removed")
    return 1 if errors else 0
