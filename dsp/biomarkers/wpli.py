"""Weighted phase lag index between named pairs. Biased upward with few epochs: see debiased_wpli."""

from __future__ import annotations

from dsp.biomarkers.pairs import PairMeasure, PairSettings
from dsp.connectivity import weighted_phase_lag_index
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(PairSettings):
    """As every connectivity measure's."""


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> PairMeasure:
    return PairMeasure("wpli", weighted_phase_lag_index, info, settings, line)
