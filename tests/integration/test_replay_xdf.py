"""`eegloop replay` of an XDF that holds two headsets, a motion sensor and markers: the one that is named, as from a file of its own."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from running_service import seat_config, write_config

from daemon.replay import replay_recording
from eegloop.errors import SourceError

CAP = ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2")
BAND = ("TP9", "AF7", "AF8", "TP10")
SECONDS = 12


def chunk(tag: int, content: bytes) -> bytes:
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def header(number: int, name: str, kind: str, labels: tuple[str, ...], rate_hz: float, format_: str = "float32") -> bytes:
    channels = "".join(f"<channel><label>{label}</label><type>{kind}</type><unit>microvolts</unit></channel>" for label in labels)
    text = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>{kind}</type><channel_count>{len(labels)}</channel_count>"
        f"<nominal_srate>{rate_hz:g}</nominal_srate><channel_format>{format_}</channel_format><source_id>s{number}</source_id>"
        f"<hostname>h</hostname><desc><channels>{channels}</channels></desc></info>"
    )
    return chunk(2, struct.pack("<I", number) + text.encode())


def second(number: int, x: np.ndarray, from_s: float, rate_hz: float) -> bytes:
    """A chunk of samples (n, channels), their stamps rising from `from_s` on."""
    body = b"".join(b"\x08" + struct.pack("<d", from_s + k / rate_hz) + row.astype("<f4").tobytes() for k, row in enumerate(x))
    return chunk(3, struct.pack("<I", number) + b"\x04" + struct.pack("<I", len(x)) + body)


@pytest.fixture
def several(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """An XDF with the headsets "cap" (250 Hz) and "band" (256 Hz), second by second in turns, and each one's samples (n, channels)."""
    rng = np.random.default_rng(5)
    streams = {"cap": (CAP, "EEG", 250), "band": (BAND, "EEG", 256), "motion": (("X", "Y", "Z"), "ACC", 50)}
    data = {name: 10 * rng.standard_normal((SECONDS * rate, len(labels))) for name, (labels, _, rate) in streams.items()}
    body = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
    for number, (name, (labels, kind, rate)) in enumerate(streams.items(), 1):
        body += header(number, name, kind, labels, rate)
    body += header(9, "marks", "Markers", ("mark",), 0.0, "string")
    for at in range(SECONDS):
        for number, (name, (_, _, rate)) in enumerate(streams.items(), 1):
            body += second(number, data[name][at * rate : (at + 1) * rate], 1000.0 + at + 0.003 * number, rate)
    body += chunk(3, struct.pack("<I", 9) + b"\x04" + struct.pack("<IBdB", 1, 8, 1006.0, 4) + struct.pack("<I", 2) + b"go")
    path = tmp_path / "several.xdf"
    path.write_bytes(body)
    return path, data


def test_the_named_one_of_two_headsets_is_replayed_as_from_a_file_of_its_own(
    several: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    path, data = several
    config = write_config(tmp_path / "config.yaml", [seat_config("seat1", {"kind": "lsl"}, biomarkers=[{"kind": "band_power"}])])
    with pytest.raises(SourceError, match=r"several EEG streams.*cap \(EEG, 250 Hz\), band \(EEG, 256 Hz\).*--stream"):
        replay_recording(path, tmp_path / "none", config, None, None, config, progress=False)
    for name, labels, rate in (("cap", CAP, 250.0), ("band", BAND, 256.0)):
        alone = tmp_path / f"{name}.npz"
        np.savez(alone, data_uv=data[name].T.astype(np.float32), ch_names=np.array(labels), sfreq=rate)
        values = []
        for file, stream in ((path, name), (alone, None)):
            out = tmp_path / f"{file.stem}-{name}"
            summary = replay_recording(file, out, config, None, None, config, progress=False, stream=stream)
            assert summary["seconds"] == pytest.approx(SECONDS)
            values.append(np.load(next(Path(summary["folder"]).glob("*_biomarkers.npy")))["values"])
        assert np.isfinite(values[0]).any()
        np.testing.assert_array_equal(values[0], values[1])
