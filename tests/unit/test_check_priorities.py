"""What `eegloop check` says about the rights that keep the interlock before other programs."""

from __future__ import annotations

import os
import resource

import pytest

from daemon import check_command


@pytest.mark.parametrize(
    ("user", "nice", "rtprio", "named"),
    [
        (0, 0, 0, []),
        (1000, 40, 1, []),
        (1000, 20, 1, ["nice -15"]),
        (1000, 40, 0, ["rtprio 1"]),
        (1000, 0, 0, ["nice -15", "rtprio 1"]),
    ],
)
def test_what_this_user_may_not_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, user: int, nice: int, rtprio: int, named: list[str]
) -> None:
    limits = {resource.RLIMIT_NICE: (nice, nice), resource.RLIMIT_RTPRIO: (rtprio, rtprio)}
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    found = list(check_command._priorities())
    assert len(found) == bool(named)
    for finding in found:
        assert "skipped" in finding.text and [w for w in ("nice -15", "rtprio 1") if w in finding.do] == named
