"""Permutation entropy of the filtered signal at about 250 Hz: how evenly its ordinal patterns are used, 0-1."""

from __future__ import annotations

import math

from pydantic import Field

from dsp.biomarkers.sites import SiteSettings, SiteValue, analysis_step, window_samples
from dsp.complexity import permutation_entropy
from dsp.hop import Hop, SampleNeed
from eegloop.line import LineSettings
from eegloop.signal import StreamInfo


class Settings(SiteSettings):
    """Order and delay of the patterns; a value is divided by its maximum, log2(order!)."""

    order: int = Field(3, ge=2, le=7, description="samples in a pattern, 2-7")
    delay: int = Field(1, ge=1, le=100, description="samples (at about 250 Hz) between two of them, 1-100")


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> SiteValue:
    n, step = window_samples(info, line, settings.window_s), analysis_step(info, line)
    largest = math.log2(math.factorial(settings.order))

    def measure(hop: Hop, site: int) -> float:
        return permutation_entropy(hop.window(n)[site, ::-step][::-1], settings.order, settings.delay) / largest

    return SiteValue("permutation_entropy", "1", info, settings, line, SampleNeed(n), measure)
