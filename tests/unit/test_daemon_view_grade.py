"""What the page is told of a value's grade."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.view import _grade


@pytest.mark.parametrize(("code", "word"), [(0, "good"), (1, "suspect"), (2, "n/a"), (3, "n/a"), (255, "n/a")])
def test_a_grade_that_does_not_exist_is_shown_as_none(code: int, word: str) -> None:
    assert _grade(np.uint8(code)) == word
