"""Readers against MNE and NumPy on files made here: exact float32 µV, gaps, markers, one clear line for what cannot be read."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import mne
import numpy as np
import pytest

from drivers.sources.files import Gap, Recording, open_recording
from eegloop.errors import SourceError

LABELS = ("Fp1", "Cz", "EOG1", "O2")


def brainvision(
    folder: Path, data: np.ndarray, name: str = "r", rate: float = 250.0, extra: str = "", channels: str = ""
) -> Path:
    """Write (n, n_channels) float32 as our recorder does: no number of samples in the header."""
    channels = channels or "".join(f"Ch{i + 1}={label},,1,µV\n" for i, label in enumerate(LABELS[: data.shape[1]]))
    (folder / f"{name}.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={name}.eeg\nMarkerFile={name}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n{extra}"
        f"NumberOfChannels={data.shape[1]}\nSamplingInterval={1e6 / rate!r}\n[Binary Infos]\n"
        f"BinaryFormat={'INT_16' if data.dtype == np.int16 else 'IEEE_FLOAT_32'}\n[Channel Infos]\n{channels}",
        encoding="utf-8",
    )
    (folder / f"{name}.vmrk").write_text(
        f"Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={name}.eeg\n[Marker Infos]\n"
        "Mk1=New Segment,,1,1,0,20260506070809123456\nMk2=Comment,eyes\\1 closed,11,5,0\n",
        encoding="utf-8",
    )
    data.tofile(folder / f"{name}.eeg")
    return folder / f"{name}.vhdr"


def everything(recording: Recording) -> np.ndarray:
    return recording.read(0, recording.n_samples)


@pytest.fixture
def signal() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 30, (2500, 4)).astype(np.float32)


def test_brainvision_float32_is_exact_and_lazy(tmp_path: Path, signal: np.ndarray) -> None:
    recording = open_recording(brainvision(tmp_path, signal))
    assert np.array_equal(everything(recording), signal)
    assert recording.info.channels == LABELS
    assert recording.info.kinds == ("eeg", "eeg", "eog", "eeg")
    assert recording.info.sample_rate_hz == 250.0
    assert [(m.sample, m.text, m.duration_samples) for m in recording.markers] == [(10, "eyes, closed", 5)]
    assert recording.start_wall_s == pytest.approx(1778051289.123456)
    by_mne = mne.io.read_raw_brainvision(tmp_path / "r.vhdr", preload=True, verbose="error").get_data().T * 1e6
    assert np.array_equal(everything(recording), by_mne.astype(np.float32))


def test_brainvision_int16_resolution_and_units_equal_mne(tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(-30000, 30000, (1000, 3), dtype=np.int16)
    path = brainvision(tmp_path, raw, channels="Ch1=Fp1,,0.1,µV\nCh2=Cz,,0.5,uV\nCh3=O2,,0.001,mV\n")
    by_mne = mne.io.read_raw_brainvision(path, preload=True, verbose="error").get_data().T * 1e6
    np.testing.assert_array_max_ulp(everything(open_recording(path)), by_mne.astype(np.float32), maxulp=1)


def test_brainvision_vectorized_falls_back_to_mne(tmp_path: Path, signal: np.ndarray) -> None:
    path = brainvision(tmp_path, signal)
    path.write_text(path.read_text(encoding="utf-8").replace("MULTIPLEXED", "VECTORIZED"), encoding="utf-8")
    np.ascontiguousarray(signal.T).tofile(tmp_path / "r.eeg")
    assert np.array_equal(everything(open_recording(path)), signal)


def test_brainvision_still_being_written(tmp_path: Path, signal: np.ndarray) -> None:
    path = brainvision(tmp_path, signal)
    with (tmp_path / "r.eeg").open("ab") as file:
        file.write(b"\0" * 7)  # half a sample
        file.flush()
        with (tmp_path / "r.vmrk").open("a") as markers:
            markers.write("Mk3=Stimu")  # half a marker
        recording = open_recording(path)
    assert len(recording.markers) == 1
    assert recording.n_samples == len(signal)
    assert recording.notes == ("r.eeg: its last 7 bytes are no whole sample and are left out",)
    with (tmp_path / "r.eeg").open("ab") as file:
        file.write(b"\0" * 9)
    assert open_recording(path).n_samples == len(signal) + 1
    assert np.array_equal(everything(recording), signal)  # the earlier view stays valid


def test_bids_channel_types_win(tmp_path: Path, signal: np.ndarray) -> None:
    path = brainvision(tmp_path, signal, name="sub-1_task-rest_eeg")
    table = "name\ttype\tunits\nFp1\tEEG\tµV\nCz\tEMG\tµV\nEOG1\tEEG\tµV\nO2\tTRIG\tV\n"
    (tmp_path / "sub-1_task-rest_channels.tsv").write_text(table, encoding="utf-8")
    assert open_recording(path).info.kinds == ("eeg", "emg", "eeg", "misc")


def test_nan_rows_become_lost_samples_and_partial_nan_passes(tmp_path: Path, signal: np.ndarray) -> None:
    signal[0:3] = np.nan  # at the start
    signal[20:31] = np.nan  # across chunks
    signal[100, 1] = np.nan  # one channel only
    signal[-2:] = np.nan
    chunks = [c for _, c in open_recording(brainvision(tmp_path, signal)).chunks(5)]
    grid = np.full_like(signal, np.nan)
    end = 0
    for chunk in chunks:
        assert chunk.first_sample == end + chunk.lost_samples
        assert chunk.n_samples <= 5
        assert chunk.t0_s == chunk.first_sample / 250.0
        grid[chunk.first_sample : chunk.end_sample] = chunk.data_uv
        end = chunk.end_sample
    assert np.array_equal(grid, signal, equal_nan=True)
    assert [c.lost_samples for c in chunks if c.lost_samples] == [3, 11]
    assert np.isnan(np.concatenate([c.data_uv for c in chunks])).sum() == 1


def test_edf_bdf_and_fif_equal_mne(tmp_path: Path, signal: np.ndarray) -> None:
    info = mne.create_info(list(LABELS), 250.0, ["eeg", "eeg", "eog", "misc"])
    raw = mne.io.RawArray(signal.T * 1e-6, info, verbose="error")
    raw.set_annotations(mne.Annotations([2.0], [0.5], ["blink"]))
    raw.save(tmp_path / "r_eeg.fif", verbose="error")
    mne.export.export_raw(tmp_path / "r.edf", raw, verbose="error")
    mne.export.export_raw(tmp_path / "r.bdf", raw, verbose="error")
    for path, reader, volts in (
        (tmp_path / "r_eeg.fif", mne.io.read_raw_fif, [1e6, 1e6, 1e6, 1.0]),
        # MNE writes no unit for "misc", and reads what has none as volts: here it stays as the file has it
        (tmp_path / "r.edf", mne.io.read_raw_edf, [1e6, 1e6, 1e6, 1.0]),
        (tmp_path / "r.bdf", mne.io.read_raw_bdf, [1e6, 1e6, 1e6, 1.0]),
    ):
        by_mne = reader(path, preload=True, verbose="error").get_data().T * np.array(volts)
        recording = open_recording(path)
        assert np.array_equal(everything(recording), by_mne.astype(np.float32)), path
        assert np.array_equal(recording.read(700, 731), by_mne[700:731].astype(np.float32))
        assert [(m.sample, m.text) for m in recording.markers] == [(500, "blink")], path


def openbci(path: Path, counts: np.ndarray, stamps_ms: np.ndarray, values: np.ndarray) -> Path:
    rows = "".join(
        f"{c}, {', '.join(f'{v:.2f}' for v in row)}, {int(t)},0, 12:00:00.000\n"
        for c, t, row in zip(counts, stamps_ms, values, strict=True)
    )
    names = ", ".join(f"EXG Channel {i}" for i in range(values.shape[1]))
    path.write_text(
        f"%OpenBCI Raw EXG Data\n%Number of channels = {values.shape[1]}\n%Sample Rate = 250 Hz\n"
        f"%Board = OpenBCI_GUI$BoardCytonSerial\nSample Index, {names}, Timestamp, Marker Channel, Timestamp (Formatted)\n{rows}"
    )
    return path


def test_openbci_gaps_by_counter_and_whole_turns_by_time(tmp_path: Path) -> None:
    keep = np.ones(3000, bool)
    keep[500:503] = keep[1000 : 1000 + 256 + 10] = keep[2000:2512] = False  # 3; a turn and 10; exactly two turns
    index = np.flatnonzero(keep)
    values = np.random.default_rng(3).normal(0, 1000, (len(index), 8)).round(2)
    recording = open_recording(openbci(tmp_path / "o.txt", index % 256, 1_557_936_053_000 + index * 4, values))
    assert np.array_equal(everything(recording), values.astype(np.float32))
    assert recording.info.channels == ("Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2")
    expected = {500: 3, 1000: 266, 2000: 512}
    assert {int(index[g.sample - 1]) + 1: g.lost_samples for g in recording.gaps} == expected
    placed = [i for _, c in recording.chunks(5) for i in range(c.first_sample, c.end_sample)]
    assert np.array_equal(placed, index)


@pytest.mark.parametrize(
    ("end", "start_s"), [("12:00:00.000, 1557936053000", 1_557_936_053.0), ("12:00:00.000", None), ("0.00", None)]
)
def test_openbci_of_the_gui_before_5_names_no_columns(tmp_path: Path, end: str, start_s: float | None) -> None:
    values = np.random.default_rng(3).normal(0, 1000, (600, 8)).round(2)
    keep = [i for i in range(600) if i not in (300, 301)]
    rows = "".join(f"{i % 256}, {', '.join(f'{v:.2f}' for v in values[i])}, 0.01, 0.02, 0.99, {end}\n" for i in keep)
    path = tmp_path / "old.txt"
    path.write_text(
        "%OpenBCI Raw EEG Data\n%Number of channels = 8\n%Sample Rate = 250.0 Hz\n%First Column = SampleIndex\n"
        f"%Last Column = Timestamp \n%Other Columns = EEG data in microvolts followed by Accel Data (in G) interleaved with Aux Data\n{rows}"
    )
    recording = open_recording(path)
    assert np.array_equal(everything(recording), values[keep].astype(np.float32))
    assert (recording.info.sample_rate_hz, recording.info.channels[:2], recording.start_wall_s) == (
        250.0,
        ("Fp1", "Fp2"),
        start_s,
    )
    assert recording.gaps == (Gap(300, 2),)
    assert "default montage" in recording.notes[0]


def test_a_counter_that_ends_at_200_loses_nothing_when_it_begins_anew(tmp_path: Path) -> None:
    index = np.delete(np.arange(3000), slice(1500, 1507))
    recording = open_recording(openbci(tmp_path / "g.txt", index % 201, 1_557_936_053_000 + index * 4, np.ones((len(index), 8))))
    assert recording.gaps == (Gap(1500, 7),)


def test_a_counter_of_odd_numbers_loses_nothing_when_it_begins_anew(tmp_path: Path) -> None:
    index = np.arange(3000)
    recording = open_recording(
        openbci(tmp_path / "d.txt", (2 * index + 1) % 256, 1_557_936_053_000 + index * 8, np.ones((3000, 16)))
    )
    assert recording.gaps == ()


def test_muse_csv_gap_markers_and_incomplete_last_line(tmp_path: Path) -> None:
    stamps = 1.5e9 + np.arange(600) / 256
    stamps[300:] += 12 / 256
    rows = "".join(f"{t:.4f},{i}.5,2,3,4,5,{1 if i == 77 else 0}\n" for i, t in enumerate(stamps))
    path = tmp_path / "m.csv"
    path.write_text("timestamps,TP9,AF7,AF8,TP10,Right AUX,Marker\n" + rows + "1500000005.0,1.")
    recording = open_recording(path)
    assert recording.n_samples == 600
    assert recording.gaps == (Gap(300, 12),)
    assert [(m.sample, m.text) for m in recording.markers] == [(77, "1")]
    assert recording.info.kinds == ("eeg", "eeg", "eeg", "eeg", "misc")
    assert recording.notes == ("m.csv: its last line is incomplete and is left out",)
    assert np.array_equal(everything(recording)[:, 0], np.arange(600, dtype=np.float32) + np.float32(0.5))


def test_npz(tmp_path: Path, signal: np.ndarray) -> None:
    np.savez(tmp_path / "z.npz", data_uv=signal.T, ch_names=np.array(["A", "A", "EOG1", "O2"]), sfreq=250.0)
    recording = open_recording(tmp_path / "z.npz")
    assert np.array_equal(everything(recording), signal)
    assert recording.info.channels == ("A", "A-2", "EOG1", "O2")


def _bad_files(folder: Path, signal: np.ndarray) -> list[tuple[Path, str]]:
    info = mne.create_info(list(LABELS), 250.0, "eeg")
    raw = mne.io.RawArray(signal.T * 1e-6, info, verbose="error")
    mne.export.export_raw(folder / "whole.edf", raw, verbose="error")
    raw.save(folder / "whole_eeg.fif", verbose="error")
    edf, fif = (folder / "whole.edf").read_bytes(), (folder / "whole_eeg.fif").read_bytes()
    junk = np.random.default_rng(0).bytes(4000)
    cases: list[tuple[str, bytes, str]] = [
        ("cut.edf", edf[: len(edf) // 2], "cut short"),
        ("cut_eeg.fif", fif[: len(fif) // 2], "damaged"),
        ("liar.edf", edf[:252] + b"9999" + edf[256:], "damaged"),
        ("binary.txt", b"\0" + junk, "no text recording"),
        ("other.txt", b"hello, world\n1,2\n", "first line"),
        ("header.csv", b"timestamps,TP9\n", "no samples"),
        ("words.csv", b"timestamps,TP9\n1.0,2\n1.0039,two\n1.0078,3\n", ":3:"),
        ("slow.csv", b"timestamps,TP9\n" + b"".join(b"%d,1\n" % i for i in range(9)), "1.0 Hz"),
        ("what.docx", junk, "unknown kind"),
        ("text.vhdr", b"no brain vision here\n", "no BrainVision header"),
        ("binary.vhdr", b"\0" * 100, "is binary"),
        ("none.npz", junk, "NPZ"),
    ]
    cases += [(f"junk{s}", junk, "") for s in (".edf", ".bdf", "_eeg.fif", ".xdf", ".xdfz", ".txt", ".csv", ".npz", ".vhdr")]
    cases += [(f"empty{s}", b"", "empty") for s in (".edf", ".bdf", "_eeg.fif", ".xdf", ".txt", ".csv", ".npz", ".vhdr")]
    cases.append(("cut.xdf", b"XDF:" + struct.pack("<BIH", 4, 500, 2) + b"<info>", ""))
    cases.append(("text.fif.gz", gzip.compress(b"not fif"), ""))
    made = []
    for name, content, expected in cases:
        (folder / name).write_bytes(content)
        made.append((folder / name, expected))
    made += [(folder / "absent.vhdr", "no such file"), (folder, "is a folder")]
    np.savez(folder / "keys.npz", data=np.zeros(3))
    np.savez(folder / "shape.npz", data_uv=np.zeros((3, 5)), ch_names=np.array(["A"]), sfreq=1.0)
    made += [(folder / "keys.npz", "'data_uv'"), (folder / "shape.npz", "shape")]
    promised = brainvision(folder, signal, name="promised", extra="DataPoints=99999\n")
    alone = brainvision(folder, signal, name="alone")
    (folder / "alone.eeg").unlink()
    return [*made, (promised, "cut short"), (alone, "no such file")]


def test_every_bad_file_gets_one_clear_line(tmp_path: Path, signal: np.ndarray) -> None:
    for path, expected in _bad_files(tmp_path, signal):
        with pytest.raises(SourceError) as caught:
            open_recording(path)
        text = str(caught.value)
        assert "\n" not in text and len(text) < 500, path
        assert expected in text, (path, text)
        assert str(path.name.split(".")[0]) in text, (path, text)


def test_huge_files_cost_nothing_to_open(tmp_path: Path) -> None:
    """A sparse 40 GB recording opens at once and reads anywhere; a huge text is refused by its size."""
    path = brainvision(tmp_path, np.zeros((1, 4), np.float32))
    os.truncate(tmp_path / "r.eeg", 40 << 30)
    recording = open_recording(path)
    assert recording.n_samples == (40 << 30) // 16
    assert np.array_equal(recording.read(recording.n_samples - 3, recording.n_samples), np.zeros((3, 4), np.float32))
    (tmp_path / "big.csv").write_bytes(b"timestamps,TP9\n")
    os.truncate(tmp_path / "big.csv", 3 << 30)
    with pytest.raises(SourceError, match="too much"):
        open_recording(tmp_path / "big.csv")


def test_a_header_cannot_point_outside_its_folder(tmp_path: Path, signal: np.ndarray) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = brainvision(inside, signal)
    (tmp_path / "secret.eeg").write_bytes(b"\0" * 160)
    path.write_text(path.read_text(encoding="utf-8").replace("DataFile=r.eeg", "DataFile=../secret.eeg"), encoding="utf-8")
    with pytest.raises(SourceError, match=r"inside.*secret\.eeg: no such file"):
        open_recording(path)


def test_shared_recordings_are_exact(shared_data: Path) -> None:
    import csv

    for name in ("resting_ec_alpha_6ch.vhdr", "attention_blinks_32ch.vhdr"):
        by_mne = mne.io.read_raw_brainvision(shared_data / name, preload=True, verbose="error").get_data().T * 1e6
        assert np.array_equal(everything(open_recording(shared_data / name)), by_mne.astype(np.float32))
    text = open_recording(shared_data / "cyton_eo_ec_blinks_jaw_8ch_openbci_gui.txt")
    with np.load(shared_data / "cyton_eo_ec_blinks_jaw_8ch.npz") as z:
        assert np.array_equal(everything(text), z["data_uv"].T)
        assert text.gaps == ()
    with (shared_data / "muse_oddball_4ch.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    muse = np.array([[float(v) for v in row[1:6]] for row in rows]).astype(np.float32)
    assert np.array_equal(everything(open_recording(shared_data / "muse_oddball_4ch.csv")), muse)


def test_shared_xdf_equals_pyxdf(shared_data: Path) -> None:
    import pyxdf

    for name in ("muse_lsl_4streams_17s.xdf", "muse_lsl_4streams_9s.xdf"):
        streams, _ = pyxdf.load_xdf(shared_data / "extras" / name)
        eeg = next(s for s in streams if s["info"]["type"] == ["EEG"])
        recording = open_recording(shared_data / "extras" / name)
        assert np.array_equal(everything(recording), eeg["time_series"].astype(np.float32))
        assert recording.stamps_s is not None and np.array_equal(recording.stamps_s, eeg["time_stamps"])
        assert recording.info.channels == ("TP9", "AF7", "AF8", "TP10", "AUX_RIGHT")
        assert recording.info.source_id.startswith("Muse_")


def xdf(path: Path, stamps_s: np.ndarray, offsets: list[tuple[float, float]]) -> Path:
    """The smallest XDF: one EEG stream of two channels (k and -k µV), its stamps and clock offsets, chunk by chunk."""

    def chunk(tag: int, content: bytes) -> bytes:
        return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content

    stream = struct.pack("<I", 1)
    channel = "<channel><label>{}</label><type>EEG</type><unit>microvolts</unit></channel>"
    header = (
        "<?xml version='1.0'?><info><name>x</name><type>EEG</type><channel_count>2</channel_count><nominal_srate>100</nominal_srate>"
        "<channel_format>float32</channel_format><source_id>s</source_id><hostname>h</hostname><desc><channels>"
        + channel.format("Fp1") + channel.format("Cz") + "</channels></desc></info>"
    )  # fmt: skip
    samples = b"".join(
        b"\x08" + struct.pack("<dff", stamp, k, -k) for k, stamp in enumerate(stamps_s.tolist())
    )  # fmt: skip
    body = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>") + chunk(2, stream + header.encode())
    for collected_s, offset_s in offsets:
        body += chunk(4, stream + struct.pack("<dd", collected_s, offset_s))
    body += chunk(3, stream + b"\x04" + struct.pack("<I", len(stamps_s)) + samples)
    footer = f"<?xml version='1.0'?><info><sample_count>{len(stamps_s)}</sample_count></info>"
    path.write_bytes(body + chunk(6, stream + footer.encode()))
    return path


def test_xdf_clock_segments_are_new_segments_and_holes_are_gaps(tmp_path: Path) -> None:
    """A sender whose clock starts anew after 60 s (its offset jumps with it), and a hole of 2 s in the second half."""
    first = 1000.0 + np.arange(6000) / 100
    second = 5.0 + np.concatenate([np.arange(2000), np.arange(2200, 6000)]) / 100
    offsets = [(1000.0 + 5 * i, 0.0) for i in range(12)] + [(5.0 + 5 * i, 1060.0) for i in range(12)]
    recording = open_recording(xdf(tmp_path / "r.xdf", np.concatenate([first, second]), offsets))
    assert recording.info.channels == ("Fp1", "Cz") and recording.n_samples == 11_800
    gaps = {gap.sample: gap for gap in recording.gaps}
    assert gaps[6000].restart and gaps[8000].lost_samples == 200 and not gaps[8000].restart
    chunks = [chunk for _, chunk in recording.chunks(50)]
    values = np.concatenate([chunk.data_uv for chunk in chunks])
    assert np.array_equal(values[:, 0], np.arange(11_800)) and np.array_equal(values[:, 1], -values[:, 0])
    assert {chunk.segment for chunk in chunks} == {0, 1}
    assert sum(chunk.lost_samples for chunk in chunks) == 200 + gaps[6000].lost_samples
