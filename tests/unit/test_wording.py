"""Nothing that people read promises, diagnoses or reassures beyond what is known, and what is uncertain says so (H29)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from control.estimate import spread
from control.forms import FORMS
from control.wording import WITHHELD, claims, sayable

ROOT = Path(__file__).parents[2]
SPEAKING = ("control", "daemon", "interlock", "eegloop")


def python_texts() -> list[tuple[str, str]]:
    """Every text constant of the parts that speak to people (docstrings apart), where it stands."""
    found = []
    for folder in SPEAKING:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name == "wording.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            docs = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node.value))
    return found


def page_texts() -> list[tuple[str, str]]:
    """The page's source without its comments: what is between tags and quotes, and a little more."""
    found = []
    for path in sorted((ROOT / "dashboard" / "src").rglob("*.ts*")):
        text = re.sub(r"/\*.*?\*/", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for number, line in enumerate(text.splitlines(), 1):
            found.append((f"{path.relative_to(ROOT)}:{number}", line.split("//", 1)[0]))
    return found


def test_nothing_of_ours_claims_more_than_is_known() -> None:
    texts = python_texts() + page_texts()
    assert len(texts) > 2_000
    said = [f"{where}: {claim}" for where, text in texts for claim in claims(text)]
    assert said == []


@pytest.mark.parametrize(
    "text",
    [
        "This cures depression.",
        "The treatment is safe for you.",
        "Your brain is healthy now.",
        "No seizure detected.",
        "You can stop taking your medicine.",
        "You are better than last week.",
        "Guaranteed to help.",
        "A normal brain.",
        "Diagnosis: none.",
        "It always works.",
    ],
)
def test_what_would_be_too_much_is_found_and_withheld(text: str) -> None:
    assert claims(text) and sayable(text) == WITHHELD


def test_plain_words_pass() -> None:
    for text in (
        "Alpha is below its band, so the amplitude stays at 0.40 mA.",
        "Zero confirmed.",
        "Ever a seizure, or epilepsy?",
    ):
        assert sayable(text) == text
    assert all(claims(item.text) == [] for form in FORMS.values() for item in form.items)


def test_the_page_says_on_every_view_that_it_is_no_advice() -> None:
    """One banner, in the head that every signed-in view shares."""
    banner = (ROOT / "dashboard/src/view/status.tsx").read_text(encoding="utf-8")
    assert "Research use only" in banner and "do not change your medicines because of it" in banner
    assert (ROOT / "dashboard/src/app.tsx").read_text(encoding="utf-8").count("<Banner />") == 2


def test_an_estimate_carries_its_spread_or_that_it_is_unknown() -> None:
    assert spread((1.0, 2.0)) is None
    assert spread((1.0, 1.0, 1.0)) == 0.0
    assert spread((0.0, 1.0, 2.0, 3.0, 4.0)) == pytest.approx(1.4826)
