"""Files that do not say their unit, or say it in another spelling: taken for what it is, asked for, and never for volts."""

from __future__ import annotations

import struct
from pathlib import Path

import mne
import numpy as np
import pytest

from daemon.replay import _only_recording
from drivers.sources.files import open_recording
from eegloop.errors import RecordingError, SourceError

LABELS = ("Fp1", "Cz", "O2")


def edf(path: Path, units: tuple[str, ...], labels: tuple[str, ...] = LABELS) -> tuple[Path, np.ndarray]:
    """Four seconds at 100 Hz, written in µV, with these words as physical dimensions; and its values as MNE reads them, µV."""
    signal = np.random.default_rng(3).normal(0, 30, (len(labels), 400))
    raw = mne.io.RawArray(signal * 1e-6, mne.create_info(list(labels), 100.0, "eeg"), verbose="error")
    mne.export.export_raw(path, raw, verbose="error", overwrite=True)
    values = mne.io.read_raw_edf(path, preload=True, verbose="error").get_data().T * 1e6
    data = bytearray(path.read_bytes())
    n = int(data[252:256])
    for i, unit in enumerate(units):
        at = 256 + 96 * n + 8 * i
        data[at : at + 8] = unit.encode("latin-1").ljust(8)
    path.write_bytes(bytes(data))
    return path, values


@pytest.mark.parametrize(("unit", "times"), [("uV", 1.0), ("UV", 1.0), ("microV", 1.0), ("nV", 1e-3), ("V", 1e6)])
def test_every_spelling_of_a_voltage_is_read_as_such(tmp_path: Path, unit: str, times: float) -> None:
    path, values = edf(tmp_path / "r.edf", (unit,) * 3)
    recording = open_recording(path)
    np.testing.assert_allclose(recording.read(0, 400), values * times, rtol=1e-6)
    assert recording.info.kinds == ("eeg",) * 3


def test_an_edf_without_units_is_asked_for_them_and_not_taken_for_volts(tmp_path: Path) -> None:
    path, values = edf(tmp_path / "r.edf", ("",) * 3)
    with pytest.raises(SourceError, match=r"channel Fp1 has no unit; name it with `unit` \(replay: --unit µV\)"):
        open_recording(path)
    np.testing.assert_allclose(open_recording(path, unit="uV").read(0, 400), values, rtol=1e-6)
    with pytest.raises(SourceError, match="unit 'furlong': must be V, mV, µV or nV"):
        open_recording(path, unit="furlong")


def test_a_signal_without_a_voltage_beside_others_that_have_one_is_no_eeg(tmp_path: Path) -> None:
    path, values = edf(tmp_path / "r.edf", ("uV", "", "mmHg"))
    recording = open_recording(path)
    assert recording.info.kinds == ("eeg", "misc", "misc")
    np.testing.assert_allclose(recording.read(0, 400)[:, 0], values[:, 0], rtol=1e-6)


def xdf(path: Path, unit: str) -> Path:
    """One EEG stream of one channel whose values are 0, 1, 2 ... in `unit`."""

    def chunk(tag: int, content: bytes) -> bytes:
        return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content

    stream = struct.pack("<I", 1)
    header = (
        "<?xml version='1.0'?><info><name>x</name><type>EEG</type><channel_count>1</channel_count><nominal_srate>100</nominal_srate>"
        "<channel_format>float32</channel_format><desc><channels><channel><label>Cz</label>"
        f"<unit>{unit}</unit></channel></channels></desc></info>"
    )
    rows = b"".join(b"\x08" + struct.pack("<df", 10 + k / 100, k) for k in range(200))
    body = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>") + chunk(2, stream + header.encode())
    body += chunk(3, stream + b"\x04" + struct.pack("<I", 200) + rows) + chunk(6, stream + b"<?xml version='1.0'?><info></info>")
    path.write_bytes(body)
    return path


def test_an_xdf_without_a_unit_is_asked_for_it_and_its_own_goes_first(tmp_path: Path) -> None:
    silent, in_mv = xdf(tmp_path / "silent.xdf", ""), xdf(tmp_path / "mv.xdf", "millivolts")
    with pytest.raises(SourceError, match="channel Cz has no unit; name it"):
        open_recording(silent)
    assert open_recording(silent, unit="µV").read(150, 151)[0, 0] == 150
    assert open_recording(in_mv, unit="µV").read(150, 151)[0, 0] == 150_000


def test_a_folder_with_one_recording_is_that_recording(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    with pytest.raises(RecordingError, match=r"name one recording; this folder holds 0 \(none\)"):
        _only_recording(tmp_path)
    path, _ = edf(folder / "sub-01_task-rest_eeg.edf", ("uV",) * 3)
    assert _only_recording(tmp_path) == path
    assert _only_recording(path) == path
    edf(folder / "sub-01_task-walk_eeg.edf", ("uV",) * 3)
    with pytest.raises(RecordingError, match="this folder holds 2 "):
        _only_recording(tmp_path)
