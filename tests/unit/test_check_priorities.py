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
    monkeypatch.setattr(check_command, "share_is_bounded", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    found = list(check_command._priorities())
    assert len(found) == bool(named)
    for finding in found:
        assert "skipped" in finding.text and [w for w in ("nice -15", "rtprio 1") if w in finding.do] == named


@pytest.mark.parametrize("user", [0, 1000])
def test_a_kernel_that_bounds_no_real_time_program_is_named_with_its_own_values(
    monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(check_command, "share_is_bounded", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (40, 40))
    (found,) = check_command._priorities()
    assert (
        "does without" in found.text and "sysctl kernel.sched_rt_period_us=1000000 kernel.sched_rt_runtime_us=950000" in found.do
    )
