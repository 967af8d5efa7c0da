"""A biomarker's module that breaks its contract is named at once, before any other's values are read wrong."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.biomarkers import band_power, faa
from dsp.pipeline import Pipeline
from eegloop.line import LineSettings
from eegloop.signal import Chunk, StreamInfo

INFO = StreamInfo("test", "test", 250.0, ("F3", "F4"), ("eeg", "eeg"))


@pytest.mark.parametrize("reasons", [(), ("", ""), ("", "", "")])
def test_another_number_of_reasons_than_columns_is_an_error_that_names_the_module(
    monkeypatch: pytest.MonkeyPatch, reasons: tuple[str, ...]
) -> None:
    monkeypatch.setattr(faa.FrontalAlphaAsymmetry, "compute", lambda *_: reasons)
    pipeline = Pipeline(INFO, LineSettings(), [("faa", faa.Settings()), ("band_power", band_power.Settings())])
    noise = np.random.default_rng(1).normal(0.0, 10.0, (1_000, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=rf"dsp\.biomarkers\.faa: {len(reasons)} reasons for 1 columns"):
        pipeline.push(Chunk(noise, 0, 0.0, 4.0))
