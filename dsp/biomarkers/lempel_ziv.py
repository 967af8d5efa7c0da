"""Lempel-Ziv complexity (1976 parsing) of the median-binarized filtered signal at about 250 Hz, times log2(n) / n."""

from __future__ import annotations

from dsp.biomarkers.sites import SiteSettings, SiteValue, analysis_step, window_samples
from dsp.complexity import lempel_ziv
from dsp.hop import Hop, SampleNeed
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(SiteSettings):
    """As every site value's."""


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> SiteValue:
    n, step = window_samples(info, line, settings.window_s), analysis_step(info, line)

    def measure(hop: Hop, site: int) -> float:
        return lempel_ziv(hop.window(n)[site, ::-step][::-1])

    return SiteValue("lempel_ziv", "1", info, settings, line, SampleNeed(n), measure)
