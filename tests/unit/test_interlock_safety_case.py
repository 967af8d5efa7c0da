"""Every test that docs/safety-case.md names exists; every code file it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "safety-case.md").read_text()


def test_named_tests_exist() -> None:
    short = dict(re.findall(r"\b([A-Z]) = `([\w/]+\.py)`", PAGE))
    named = re.findall(r"\b([A-Z])::(\w+)", PAGE)
    assert len(short) >= 10 and len(named) > 60
    whole = re.findall(r"`([\w/]+\.py)`::(\w+)", PAGE)
    missing = [f"{s}::{n}" for s, n in whole if not re.search(rf"\bdef {n}\b", (ROOT / "tests" / s).read_text())]
    missing += [f"{s}::{n}" for s, n in named if not re.search(rf"\b{n}\b", (ROOT / "tests" / short[s]).read_text())]
    assert not missing


def test_named_code_exists() -> None:
    for name in set(re.findall(r"`((?:interlock|eegloop|simulators|control|daemon|dsp)/[\w/]+\.py)", PAGE)):
        assert (ROOT / name).is_file(), name
