"""Two prescriptions of a blinded trial differ in nothing but what is delivered; any other difference is refused by its field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control.prescription import demo_prescription
from control.sham_pair import check_pair
from eegloop.stim import PrescriptionError, PulseProgram
from tests.blinded_trial import pair

TMS = PulseProgram("table", "rmt", 80, 50, 1, 0, 10_000, 40, 75, 26_000, 3_000, 3_000, 15_000, 100_000, "biphasic", "normal")


@pytest.mark.parametrize(
    ("active", "sham", "says"),
    [
        ({"pulses": TMS}, {}, "active.modality"),
        ({"authority": "observe"}, {}, "active.authority"),
        ({"profile": "home", "device": "home"}, {}, "active.profile"),
        ({"controller": "shadow"}, {}, "active.controller"),
        ({"start_ua": 0}, {}, "active.start_ua"),
        ({}, {"controller": "schedule"}, "sham.controller"),
        ({}, {"amplitude_ua": 100}, "sham.amplitude_ua: 100"),
        ({}, {"session_ms": 60_000}, "sham.session_ms: 60000 must be"),
        ({}, {"ramp_ua_per_s": 50}, "sham.ramp_ua_per_s"),
        ({}, {"patient": "p2"}, "sham.patient"),
        ({}, {"settings": {"of": "schedule"}}, "sham.settings"),
    ],
)
def test_a_pair_by_which_the_arms_could_be_told_apart_is_refused_by_field(
    active: dict[str, Any], sham: dict[str, Any], says: str
) -> None:
    one, two = pair()
    with pytest.raises(PrescriptionError, match=says):
        check_pair(replace(one, **active), replace(two, **sham))


def test_the_demos_own_prescription_makes_a_pair() -> None:
    check_pair(*pair())
    assert demo_prescription("p1", 0.0).controller not in ("sham", "shadow")
