"""Imaginary part of coherency between named pairs: blind to what two electrodes see at the same instant."""

from __future__ import annotations

from dsp.biomarkers.pairs import PairMeasure, PairSettings
from dsp.connectivity import imaginary_coherence
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(PairSettings):
    """As every connectivity measure's."""


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> PairMeasure:
    return PairMeasure("imaginary_coherence", imaginary_coherence, info, settings, line)
