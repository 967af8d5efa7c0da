"""The targets of `make fuzz` on the reference's own frames and on bytes of any kind, so that they fit the parsers they fuzz."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import TARGETS, _seeds


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_the_seeds_and_any_bytes(name: str, tmp_path: Path) -> None:
    _seeds(tmp_path)
    seeds = [file.read_bytes() for file in tmp_path.iterdir()]
    assert len(seeds) > 40
    for seed in seeds:
        TARGETS[name](seed)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def any_bytes(data: bytes) -> None:
        TARGETS[name](data)

    any_bytes()
