"""Whatever a controller answers is weighed or held: no kind of garbage raises the dose, ends the line or spoils a file (H9-H11, S8)."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from control.envelope import Standing, limit
from control.request import MOST_REASON, understood
from eegloop.stim import StimRequest
from tests.interlock_bench import DEVICE, make_prescription

STANDING = Standing(present_ma=0.4, block_ma=0.4, ceiling_ma=0.4, left_s=600.0, left_uc=1e6)
NO_NUMBERS: tuple[Any, ...] = (True, False, "1.0", b"1", None, 1j, [1.0], {}, np.array([1.0]), Decimal(1), object())


def granted(answer: Any) -> float:
    verdict = limit(answer, make_prescription(authority="lower_only"), STANDING, DEVICE)
    assert math.isfinite(verdict.amplitude_ma) and verdict.amplitude_ma <= 0.4
    assert type(verdict.amplitude_ma) is float and type(verdict.request.hold) is bool
    return verdict.amplitude_ma


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda v: type(v).__name__)
def test_what_is_no_number_holds_and_says_so(value: Any) -> None:
    for field in ("amplitude_ma", "frequency_hz", "trigger_s"):
        if value is None and field == "trigger_s":
            continue
        answer = StimRequest(**{"amplitude_ma": 0.1, "frequency_hz": 0.0, "hold": False, "reason": "x", field: value})
        read = understood(answer)
        assert read.hold and math.isnan(read.amplitude_ma) and read.trigger_s is None
        assert f"`{field}` is no number" in read.reason and granted(answer) == 0.4


@pytest.mark.parametrize(
    ("value", "ma"), [(math.nan, 0.4), (math.inf, 0.4), (-math.inf, 0.4), (10**400, 0.4), (1e308, 0.4), (-1e308, 0.0), (0, 0.0),
                      (np.float32(0.125), 0.125), (np.float64(0.2), 0.2), (np.int64(0), 0.0), (Fraction(1, 8), 0.125)],
)  # fmt: skip
def test_a_number_of_whatever_kind_is_weighed_as_one(value: Any, ma: float) -> None:
    assert granted(StimRequest(value, 0.0, False, "x")) == ma


@pytest.mark.parametrize("answer", [None, 0.5, "hold", (0.1, 0.0, False, "x"), SimpleNamespace(amplitude_ma=9.0), StimRequest])
def test_what_is_no_request_holds(answer: Any) -> None:
    assert "no request" in understood(answer).reason and granted(answer) == 0.4


@pytest.mark.parametrize("hold", [None, 0, 1, "no", np.True_])
def test_a_hold_that_is_neither_true_nor_false_is_one(hold: Any) -> None:
    assert understood(StimRequest(0.1, 0.0, hold, "x")).hold and granted(StimRequest(0.1, 0.0, hold, "x")) == 0.4


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("lowered: ä", "lowered: ä"),
        ("\ud800 half", "? half"),
        ("x" * 10_000, "x" * MOST_REASON),
        (None, "a NoneType"),
        (7, "a int"),
    ],
)
def test_a_reason_is_text_that_every_file_takes(reason: Any, said: str) -> None:
    read = understood(StimRequest(0.1, 0.0, False, reason))
    assert said in read.reason and read.reason.encode("utf-8") and len(read.reason) <= MOST_REASON
    assert (read.amplitude_ma, read.hold) == (0.1, False)


def test_a_good_request_is_taken_as_it_is() -> None:
    answer = StimRequest(0.3, 10.0, False, "The alpha share is above its band.", 12.5)
    assert understood(answer) is answer
