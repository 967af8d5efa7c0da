"""What is remembered of deliveries: enough to know a repeat, and no more than a second of it."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.sources.repeats import LEAST, REMEMBERED, REMEMBERED_S, Repeats
from eegloop.signal import F32, F64


def delivery(start: int, n: int) -> tuple[F32, F64]:
    stamps = np.arange(start, start + n) / 250.0
    return (stamps[:, np.newaxis] * np.ones(4)).astype(np.float32), stamps


@pytest.mark.parametrize("n", [1, 5, 25, 250, 500])
def test_a_delivery_of_the_last_second_is_known_again_and_older_ones_go(n: int) -> None:
    repeats = Repeats()
    for i in range(200):
        data, stamps = repeats.fresh(*delivery(i * n, n))
        assert len(data) == len(stamps) == n
    kept = len(repeats._recent)
    assert kept <= min(REMEMBERED, max(LEAST, REMEMBERED_S * 250 / n + 2))
    back = min(kept - 1, int(REMEMBERED_S * 250 / n))  # so many deliveries ago: it must still be known
    data, stamps = repeats.fresh(*delivery((199 - back) * n, n))
    assert len(data) == len(stamps) == 0 and repeats.found == n
    assert len(repeats.fresh(*delivery(200 * n, n))[0]) == n
