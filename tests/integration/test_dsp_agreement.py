"""Our numbers against independent implementations on the shared recordings: the rows of benchmarks/agreement.py meet their limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import agreement


def test_a_small_recording_agrees(shared_data: Path) -> None:
    """Powers with MNE, alpha frequency with the published one; the other packages take long to load (below)."""
    name = "muse_oddball_4ch"
    x, info = agreement.recording(shared_data, name)
    table = [
        *agreement.power_rows(name, x, info),
        *agreement.iaf_rows(name, x, info),
        *agreement.alpha_rows(name, x, info, agreement.facts_of(shared_data, name)),
    ]
    assert len(table) == 8
    for row in table:
        assert row["ok"], row


def test_an_alpha_without_a_peak_has_a_center(shared_data: Path) -> None:
    """The EPOC's alpha is a plateau from 10 to 13 Hz: no peak is claimed, and the center is where the published peak is."""
    name = "emotiv_eye_state_14ch"
    x, info = agreement.recording(shared_data, name)
    peak, center, maximum = agreement.iaf_rows(name, x, info)
    assert peak["ours"] is None
    assert maximum["ours"] is None
    assert center["ours"] is not None
    assert float(center["ours"]) <= 0.5, center


def test_a_difference_would_be_seen(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another integration rule the powers leave their limit: the comparison is no tautology."""
    x, info = agreement.recording(shared_data, "muse_oddball_4ch")
    monkeypatch.setattr(agreement, "PLAIN", agreement.PLAIN.model_copy(update={"integration": "sum"}))
    assert not next(iter(agreement.power_rows("muse_oddball_4ch", x, info)))["ok"]


@pytest.mark.long
def test_every_recording_agrees(shared_data: Path) -> None:
    table = agreement.rows(shared_data)
    assert len(table) > 50
    assert [row for row in table if not row["ok"]] == []
