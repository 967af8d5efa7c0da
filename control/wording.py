"""What may not be said to people: words that promise, diagnose or reassure beyond what is known (H29). Pure.

Everything of ours that people read is held against this list by a test; a sentence of a plug-in controller is held against it before
it is shown.
"""

from __future__ import annotations

import re
from functools import lru_cache

# A word or phrase, and why it is not said.
_CLAIMS = (
    (r"\bcures?\b|\bcured\b|\bheals?\b|\bhealing\b", "promises a cure"),
    (r"\btreats?\b|\btherapeutic\b|\btherapy\b", "calls it a treatment"),
    (r"\bproven\b(?! zero)|\bguarantee", "claims proof"),
    (r"\b(is|are|completely|perfectly|fully) safe\b|\brisk[- ]free\b|\bno risk\b|\bharmless\b", "says that it is safe"),
    (r"\bdiagnos", "diagnoses"),
    (r"\b(your|the) brain is\b|\b(healthy|normal|abnormal|depressed) (brain|mood|mind)\b", "judges a brain or a person"),
    (r"\bseizures? (detected|detection|alarm)\b|\bdetects? seizures?\b", "claims a seizure detector"),
    (r"\b(stop|skip|reduce) (taking )?(your|the) (medicine|medication|drugs?|pills?)\b", "advises on medicines"),
    (r"\byou (are|feel) (better|cured|well)\b|\bis working\b", "tells people how they are"),
    (r"\balways works\b|\bnever fails\b", "claims certainty"),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), why) for pattern, why in _CLAIMS)
WITHHELD = "The controller's own words were withheld: they claim more than is known."


def claims(text: str) -> list[str]:
    """Why a text may not be shown, with the words that say it; empty = it may."""
    return [f"{why}: {found.group(0)!r}" for pattern, why in _PATTERNS if (found := pattern.search(text))]


@lru_cache(maxsize=1024)
def sayable(text: str) -> str:
    """The text, or that it was withheld; of what is said again and again (a page, a row, the next decision) looked through once."""
    return WITHHELD if claims(text) else text
