"""Every spelling of a volt we know, and those we must not guess."""

from __future__ import annotations

import pytest

from drivers.sources.units import channel_kind, microvolts_per


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        (("V", "v", "volt", "Volts", " volts "), 1e6),
        (("mV", "mv", "millivolt", "millivolts", "-3"), 1e3),
        (("µV", "μV", "uV", "uv", "UV", "microvolts", "Microvolt", "micro-volts", "microV", "-6"), 1.0),
        (("nV", "nanovolts", "-9"), 1e-3),
        (("", "MV", "0", "g", "counts", "dBV", "kV", "m/s", "mVolt2", "µ"), None),
    ],
)
def test_units(units: tuple[str, ...], factor: float | None) -> None:
    assert [microvolts_per(u) for u in units] == [factor] * len(units)


def test_kinds() -> None:
    kinds = [channel_kind(c) for c in ("Fp1", "EOG2", "HEOGL", "EMG1", "AUX_RIGHT", "Right AUX", "Status", "A1", "TP9")]
    assert kinds == ["eeg", "eog", "eog", "emg", "misc", "misc", "misc", "eeg", "eeg"]
    dressed = ("EEG FP1-REF", "EEG EKG1-REF", "EEG LOC-REF", "EEG 001", "PHOTIC-REF", "DC01", "EXG Channel 0", "Location")
    assert [channel_kind(c) for c in dressed] == ["eeg", "misc", "eog", "eeg", "misc", "misc", "eeg", "eeg"]
    epoc = ("EEG.AF3", "EEG.Counter", "EEG.Interpolated", "CQ_AF3", "EQ.O1", "MOT.AccX", "POW.AF3.Theta", "RAW_CQ")
    assert [channel_kind(c) for c in epoc] == ["eeg"] + ["misc"] * 7
    assert channel_kind("Fp1", "EOG") == "eog"
    assert channel_kind("X", "ACC") == "misc"
    assert channel_kind("X", "", stream_is_eeg=False) == "misc"
