"""Debiased squared weighted phase lag index between named pairs (Vinck 2011); around zero, and below it, without coupling."""

from __future__ import annotations

from dsp.biomarkers.pairs import PairMeasure, PairSettings
from dsp.connectivity import debiased_wpli
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(PairSettings):
    """As every connectivity measure's."""


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> PairMeasure:
    return PairMeasure("debiased_wpli", debiased_wpli, info, settings, line)
