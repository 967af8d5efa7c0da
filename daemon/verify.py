"""`eegloop verify`: do the recordings and the audit trail still say what they said when they were written?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daemon.audit import Finding, read_chain, verify
from daemon.chain_anchor import differs
from daemon.trail_anchors import DIFFERS, outside
from records import bids
from records.append import seal_of

TRAILS = (".jsonl", ".log")


def dataset_of(path: Path) -> Path | None:
    """The BIDS dataset that a file lies in."""
    return next((folder for folder in path.parents if (folder / "dataset_description.json").exists()), None)


def verify_dataset(path: Path, state: Path | None = None) -> list[Finding]:
    """Check a data directory (chains and recordings), a BIDS dataset of recordings, or a single chain file.

    `state`: where the audit trail's own anchor is kept, instead of in the user's state directory.

    Findings of level "error" mean that something was changed, cut, swapped or removed; "notice" that something cannot be
    vouched for (a recording that was never closed). None at all: everything is as it was written.
    """
    if path.is_file() and path.suffix in TRAILS:
        return verify(path)
    if (
        path.is_file() and (root := dataset_of(path)) is not None
    ):  # one recording: what is said of it, and of the chains that vouch for it
        found = verify_dataset(root, state)
        return [
            f
            for f in found
            if not Path(f.path).is_relative_to(root) or Path(f.path).name.startswith(path.name.rpartition("_")[0])
        ]
    if not path.is_dir():
        return [Finding("error", str(path), None, "there is no such file or directory")]
    root = path if (path / "dataset_description.json").exists() else path / "recordings"
    data = root.parent
    chains = [
        *sorted((data / "audit").glob("*.jsonl")), *sorted((data / "seats").glob("*/interlock.log")),
        *sorted((data / "persons").glob("*/answers.jsonl")), *sorted((data / "store").rglob("*.jsonl")),
    ]  # fmt: skip
    findings = verify(*chains)
    findings += _verify_trail(data / "audit" / "daemon.jsonl", state)
    if not chains:
        findings.append(Finding("notice", str(data), None, "no audit trail here: manifests are not vouched for by a chain"))
    if root.is_dir():
        findings += _verify_recordings(root, list(_recording_events(chains)) if chains else None)
    return findings


def _verify_trail(path: Path, state: Path | None) -> list[Finding]:
    """The audit trail against what is kept of it outside, and what it says itself of one before it."""
    kept = outside(path, state).read()
    digests, findings = [], []
    for number, line in enumerate(read_chain(path), start=1):
        digests.append(str(line["hash"]))
        if line["event"] == DIFFERS:
            text = f"the trail before this line is not the one that was written last ({line['data'].get('text')})"
            findings.append(Finding("notice", str(path), number, text))
    if objection := differs(kept, len(digests), digests.__getitem__):
        findings.append(Finding("error", str(path), None, objection))
    return findings


def _recording_events(chains: list[Path]) -> Iterator[dict[str, Any]]:
    for chain in chains:
        for line in read_chain(chain):
            if line["event"] in ("recording_opened", "recording_closed"):
                yield line


def _verify_recordings(root: Path, events: list[dict[str, Any]] | None) -> list[Finding]:
    findings: list[Finding] = []
    chained: dict[str, dict[str, Any]] = {}
    for line in events or []:
        data = line["data"]
        if line["event"] == "recording_closed":
            chained[data["manifest"]["path"]] = data["manifest"]
        elif not (root / data["path"]).exists():
            text = "this recording is in the audit trail, but its header is gone"
            findings.append(Finding("error", str(root / data["path"]), None, text))
    manifests = {str(p.relative_to(root)): p for p in sorted((root / bids.DERIVATIVES).glob("sub-*/ses-*/eeg/*_manifest.json"))}
    for name, expected in chained.items():
        if name not in manifests:
            findings.append(Finding("error", str(root / name), None, "this manifest is in the audit trail, but it is gone"))
        elif seal_of(manifests[name])["sha256"] != expected["sha256"]:
            findings.append(
                Finding("error", str(root / name), None, "this manifest is not the one in the audit trail: it was changed")
            )
    for name, path in manifests.items():
        if events is not None and name not in chained:
            findings.append(Finding("error", str(path), None, "this manifest is not in the audit trail: it was added or swapped"))
        findings += _verify_manifest(root, path)
    for header in sorted(root.glob("sub-*/ses-*/eeg/*_eeg.vhdr")):
        stem = header.name.removesuffix("_eeg.vhdr")
        manifest = bids.DERIVATIVES / header.parent.relative_to(root) / f"{stem}_manifest.json"
        if str(manifest) not in manifests:
            text = "not closed (still being written, or cut short by a crash or a full disk): readable, but not vouched for"
            findings.append(Finding("notice", str(header), None, text))
    return findings


def _verify_manifest(root: Path, path: Path) -> list[Finding]:
    findings: list[Finding] = []
    try:
        files: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["files"]
        for name, expected in files.items():
            file = root / name
            if not file.resolve().is_relative_to(root.resolve()):
                findings.append(Finding("error", str(path), None, f"names a file outside the dataset: {name}"))
            elif not file.exists():
                findings.append(Finding("error", str(file), None, "was recorded, but is gone"))
            elif (size := file.stat().st_size) != expected["bytes"]:
                findings.append(Finding("error", str(file), None, f"has {size} bytes, was closed with {expected['bytes']}"))
            elif seal_of(file, expected["head_bytes"]) != expected:
                findings.append(Finding("error", str(file), None, "its content was changed after closing"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings.append(Finding("error", str(path), None, f"cannot be read as a manifest ({error})"))
    return findings
