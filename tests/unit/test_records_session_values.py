"""A session's value of what has none: phases run round and round."""

from __future__ import annotations

import math

import numpy as np

from eegloop.signal import BiomarkerColumn
from records.session_values import NO_MEDIAN, _value


def test_a_phase_has_no_median_but_its_amplitude_has() -> None:
    degrees = np.array([170.0, -170.0, 175.0, -175.0])
    angle = _value(BiomarkerColumn("phase.angle", "Pz", "deg", 0.4), degrees, 90.0)
    assert math.isnan(angle.value) and angle.reason == NO_MEDIAN
    assert _value(BiomarkerColumn("phase.amplitude", "Pz", "uV", 0.4), np.array([4.0, 6.0, 5.0]), 90.0).value == 5.0
