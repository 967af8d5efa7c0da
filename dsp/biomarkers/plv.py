"""Phase locking value between named pairs. Dominated by volume conduction; never across a shared noisy reference."""

from __future__ import annotations

from dsp.biomarkers.pairs import PairMeasure, PairSettings
from dsp.connectivity import phase_locking_value
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(PairSettings):
    """As every connectivity measure's."""


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> PairMeasure:
    return PairMeasure("plv", phase_locking_value, info, settings, line)
