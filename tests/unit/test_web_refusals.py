"""A request that cannot be read is refused in plain words that name the field and never repeat the value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from daemon.web.answers import FilledIn
from daemon.web.refusals import refusal

FITS: dict[str, Any] = {"form": "pads", "values": [0, None]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        *(
            ({**FITS, "values": [0, wrong]}, "values.1: must be a whole number, or null where it was not asked")
            for wrong in ("1", True, 1.0, 0.5, [0])
        ),
        ([], "the body must be a JSON object"),
        ({}, "form: is missing"),
        ({**FITS, "values": {}}, "values: must be a list"),
        ({**FITS, "values": []}, "values: must have at least 1 entries"),
        ({**FITS, "values": [0] * 41}, "values: may have at most 40 entries"),
        ({**FITS, "form": "a" * 41}, "form: may have at most 40 characters"),
        ({**FITS, "form": "A B"}, "form: has characters that are not allowed here"),
        ({**FITS, "form": 7}, "form: must be a text"),
        ({**FITS, "who": "me"}, "who: is not known here"),
    ],
)
def test_what_does_not_fit_is_refused_in_plain_words(body: object, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(FilledIn).validate_python(body)
    assert refusal(dict(refused.value.errors()[0])) == said


def test_what_fits_is_taken_as_it_is() -> None:
    assert FilledIn.model_validate(FITS).values == [0, None]
