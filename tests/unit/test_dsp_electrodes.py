"""What a label says of an electrode's place, whatever a file or headset adds to it; a pair of two scalp electrodes is no electrode."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dsp.electrodes import POSITIONS, canonical, pick
from dsp.eyes import frontal
from dsp.hop import electrode, placed
from eegloop.signal import StreamInfo


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ("fp1", "Fp1"), (" FZ ", "Fz"), ("T5", "P7"), ("EEG FP1-REF", "Fp1"), ("EEG T3-LE", "T7"), ("Fp1.", "Fp1"), ("Cz..", "Cz"),
        ("EEG.AF3", "AF3"), ("RAW_TP9", "TP9"), ("eeg:Fz", "Fz"), ("EEG O1", "O1"), ("C3-A2", "C3"), ("F4-M1", "F4"),
        ("F3 - AVG", "F3"), ("EEG T5-A1A2", "P7"), ("P4-A1+A2", "P4"), ("O1-Ref", "O1"), ("Pz-org", "Pz"),
        ("POL F3", "F3"), ("F3-LM", "F3"), ("EEG F3-Vref", "F3"), ("F3 (µV)", "F3"), ("Cz_uV", "Cz"), ("O1-linked ears", "O1"),
    ],
)  # fmt: skip
def test_dressed_names(label: str, place: str) -> None:
    assert canonical(label) == place


@pytest.mark.parametrize(
    "label",
    [
        "",
        "-",
        "EEG",
        "EEG 001",
        "E12",
        "EEG1",
        "Ch1",
        "A1-A2",
        "M1",
        "FP1-F7",
        "EEG Fpz-Cz",
        "C3-C4",
        "EOG1",
        "Ref",
        "X1",
        "F3-Pz",
        "POL E",
        "uV",
    ],
)
def test_no_electrode(label: str) -> None:
    assert canonical(label) is None


def test_every_name_of_the_table_is_itself() -> None:
    assert all(canonical(label) == label for label in POSITIONS)


def test_electrodes_of_a_dressed_montage() -> None:
    labels = ("EEG A1-REF", "C3-A1", "C3-A2", "EEG FP1-REF", "EEG FP2-REF", "EOG", "FP1-F7")
    info = StreamInfo("t", "t", 250.0, labels, ("eeg", "eeg", "eeg", "eeg", "eeg", "eog", "eeg"))
    assert [electrode(info, label) for label in ("A1", "c3", "C3-A2", "Fp2", "F7", "EOG")] == [0, 1, 2, 4, None, None]
    assert placed(info) == [(1, "C3"), (3, "Fp1"), (4, "Fp2")]
    assert frontal(info) == (3, 4)


@pytest.mark.parametrize("channels", [(), (0,), (0, 1), (3, 4, 5), (4, 3), (1, 3), (2, 2), (0, 1, 3)])
def test_channels_side_by_side_are_a_slice_and_the_others_a_copy(channels: tuple[int, ...]) -> None:
    rows = np.arange(12).reshape(6, 2)
    picked = rows[pick(channels)]
    assert picked.tolist() == [rows[i].tolist() for i in channels]
    beside = all(b == a + 1 for a, b in pairwise(channels))
    assert np.shares_memory(picked, rows) == (beside and bool(channels))
