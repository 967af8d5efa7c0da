"""Files that grow: readable after every append and after any cut."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eegloop.errors import RecordingError
from eegloop.signal import BiomarkerColumn, Grade
from records import append, bids, tables
from records.append import PAGE_BYTES, AppendFile, MarkerFile, RowFile, read_rows, seal_of
from records.derivatives import hop_dtype
from tests.record_stream import COLUMNS, decision, hop, state, stream


def _rows(count: int, start: int = 0) -> np.ndarray:
    rows = np.zeros(count, hop_dtype(5))
    rows["hop"] = np.arange(start, start + count)
    rows["values"] = rows["hop"][:, None] * [1.0, 2.0, 3.0, np.nan, 5.0]
    return rows


def test_numpy_loads_rows_after_every_append_and_rows_without_header_update_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "hops.npy"
    file = RowFile(path, hop_dtype(5))
    assert len(np.load(path)) == 0
    for i in range(120):
        file.append_rows(_rows(1, i))
        assert np.array_equal(np.load(path)["hop"], np.arange(i + 1))
    os.write(file.fd, _rows(1, 120).tobytes()[:50])  # a crash between the rows and the header
    assert len(np.load(path, mmap_mode="r")) == len(np.load(path)) == 120
    assert np.array_equal(read_rows(path)["hop"], np.arange(120))
    assert np.isnan(np.load(path)["values"][:, 3]).all()
    file.close()


def test_rows_are_read_when_a_power_failure_left_the_header_ahead(tmp_path: Path) -> None:
    path = tmp_path / "hops.npy"
    file = RowFile(path, hop_dtype(5))
    file.append_rows(_rows(10))
    file.close()
    size = path.stat().st_size
    os.truncate(path, size - 3 * hop_dtype(5).itemsize - 7)
    assert np.array_equal(read_rows(path)["hop"], np.arange(6))


def test_a_marker_never_crosses_a_page(tmp_path: Path) -> None:
    file = MarkerFile(tmp_path / "a.vmrk")
    file.append_lines(["head\n"])
    sizes = [0]
    for i in range(900):
        line = f"Mk{i}=Comment,{'x' * (i * 37 % 190)},{i},1,0\r\n"
        file.append_lines([line])
        sizes.append(file.size)
        assert (file.size - 1) // PAGE_BYTES == (file.size - len(line)) // PAGE_BYTES
    text = (tmp_path / "a.vmrk").read_text()
    assert sum(line.startswith("Mk") for line in text.splitlines()) == 900
    assert file.size > 10 * PAGE_BYTES


def test_a_full_disk_leaves_no_half_frame_and_writing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.eeg"
    file = AppendFile(path)
    file.append(b"1" * 100)
    real = os.write

    def full(fd: int, data: bytes) -> None:
        real(fd, data[:33])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(append, "write_all", full)
        with pytest.raises(OSError, match="No space"):
            file.append(b"2" * 100)
    assert path.read_bytes() == b"1" * 100
    file.append(b"3" * 100)
    assert path.read_bytes() == b"1" * 100 + b"3" * 100
    assert file.seal() == seal_of(path)


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(append.os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    file = AppendFile(tmp_path / "a.eeg")
    file.append(bytes(range(100)))
    assert (tmp_path / "a.eeg").read_bytes() == bytes(range(100))


def test_a_seal_with_a_head_is_the_files_own(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "a.npy", hop_dtype(5))
    for i in range(5):
        file.append_rows(_rows(2, 2 * i))
    seal = file.seal()
    assert seal == seal_of(tmp_path / "a.npy", int(seal["head_bytes"]))
    assert seal["bytes"] == (tmp_path / "a.npy").stat().st_size


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    AppendFile(tmp_path / "a").close()
    with pytest.raises(FileExistsError):
        AppendFile(tmp_path / "a")


@pytest.mark.parametrize("number", range(4))
def test_a_state_comes_back_as_it_was(tmp_path: Path, number: int) -> None:
    path = tmp_path / "stim.tsv"
    path.write_bytes(tables.header(tables.STIM) + tables.stim_line(1.5, 7, state(number)).encode())
    [row] = tables.read_table(path)
    assert tables.stim_state(row) == state(number)
    assert row["tick"] == "7"


def test_a_reason_is_written_where_it_changes_and_nowhere_else() -> None:
    lines = tables.ReasonLines(COLUMNS)
    first, same = hop(1, 25, 0.1), hop(2, 50, 0.2)
    assert len(lines.lines(0.1, first).splitlines()) == len(COLUMNS)
    assert lines.lines(0.2, same) == ""
    other = replace(same, grades=np.array([0, 0, 1, 1, 0], np.uint8), reasons=("", "", "eye blink", "gap", ""))
    assert lines.lines(0.3, other) == f"0.300000\t{COLUMNS[3].name}\t{COLUMNS[3].channel}\tsuspect\tgap\n"
    named = replace(other, reasons=("", "", "line\tnoise", "gap", ""))
    assert lines.lines(0.4, named) == f"0.400000\t{COLUMNS[2].name}\t{COLUMNS[2].channel}\tsuspect\tline noise\n"
    assert lines.lines(0.5, named) == ""


def test_every_table_opens_in_pandas_wherever_its_last_line_is_cut(tmp_path: Path) -> None:
    biomarkers = tables.BiomarkerLines(COLUMNS)
    contents = {
        "stim": tables.header(tables.STIM) + "".join(tables.stim_line(i, i, state(i)) for i in range(3)).encode(),
        "decisions": tables.header(tables.DECISIONS) + tables.decision_line(1.0, decision(3, 1.0, 250)).encode() * 2,
        "biomarkers": tables.header(tables.BIOMARKERS) + biomarkers.lines(1.0, hop(1, 250, 1.0)).encode() * 2,
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.tsv"
        last_line = content[:-1].rfind(b"\n") + 1
        whole = content[:last_line].count(b"\n") - 1
        for cut in range(last_line, len(content) + 1):
            path.write_bytes(content[:cut])
            assert len(list(tables.read_table(path))) == whole + (cut == len(content))
            try:
                content[:cut].decode()
            except UnicodeDecodeError:
                continue  # inside one "µ": only a kill inside the page that ends there leaves this, and our reader takes it
            assert len(pd.read_csv(path, sep="\t", na_values="n/a")) >= whole


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"a\tb\n1\t2\n3\n4\t5\n")
    with pytest.raises(RecordingError, match=r"t\.tsv, line 3: 1 columns instead of 2"):
        list(tables.read_table(path))


def test_biomarkers_are_long_and_invalid_ones_are_na(tmp_path: Path) -> None:
    path = tmp_path / "b.tsv"
    path.write_bytes(tables.header(tables.BIOMARKERS) + tables.BiomarkerLines(COLUMNS).lines(3.0, hop(30, 750, 3.0)).encode())
    table = pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)
    assert list(table.columns) == ["onset", "biomarker", "channel", "value", "unit", "quality"]
    assert list(table.quality) == ["good", "good", "suspect", "invalid", "good"]
    assert list(table.value.isna()) == [False, False, False, True, False]
    assert list(table.channel) == ["F3", "F4", "F3", "F4", "F3-F4"]


def test_json_cells_hold_no_nan_tab_or_line_break() -> None:
    cell = tables.json_cell(
        {"a": float("nan"), "b": np.float32(1.5), "c": "x\ty\nz", "d": (1, None), "e": np.int64(3), "f": object}
    )
    assert "\t" not in cell and "\n" not in cell and "NaN" not in cell
    assert '"a":null' in cell and '"b":1.5' in cell and '"e":3' in cell


def test_sessions_are_claimed_once_and_counted_on(tmp_path: Path) -> None:
    assert [bids.take_session(tmp_path, "a") for _ in range(3)] == ["01", "02", "03"]
    (tmp_path / "sub-a" / "ses-99").mkdir()
    (tmp_path / "sub-a" / "ses-follow").mkdir()
    assert bids.take_session(tmp_path, "a") == "100"
    assert bids.take_session(tmp_path, "b") == "01"


@pytest.mark.parametrize("bad", ["", "Anna Schmidt", "a-b", "../x", "ä", "a" * 33])
def test_a_label_that_is_none_is_refused_by_name(bad: str) -> None:
    with pytest.raises(RecordingError, match="seat1, person"):
        bids.label(bad, "seat1, person")


def test_channel_names_become_unique() -> None:
    assert bids.unique_labels(("Cz", "Cz", "", "A\tB", "Cz-2")) == ("Cz", "Cz-2", "Ch3", "A B", "Cz-2-2")


def test_participants_keep_what_a_person_added(tmp_path: Path) -> None:
    bids.write_dataset(tmp_path, "one")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-one\t41\n")
    bids.write_dataset(tmp_path, "two")
    bids.write_dataset(tmp_path, "two")
    assert (tmp_path / "participants.tsv").read_text() == "participant_id\tage\nsub-one\t41\nsub-two\tn/a\n"


def test_template_positions_are_known_for_the_headsets_in_use() -> None:
    positions = bids.electrode_positions()
    for name in ("Fp1", "AF7", "TP9", "T7", "T3", "Pz", "POz", "O2", "FT7", "CP5", "nas", "lpa", "rpa"):
        assert name.lower() in positions
    x, y, z = positions["cz"]
    assert abs(x) < 0.01 and 0.1 < z < 0.16
    assert positions["c3"][0] < 0 < positions["c4"][0] and positions["oz"][1] < y < positions["fpz"][1]


def test_header_and_sidecar_follow_the_stream() -> None:
    info = stream(3, 256.0)
    assert b"SamplingInterval=3906.25\r\n" in bids.vhdr("s", info)
    sidecar = bids.eeg_json(info, "rest", 60.0, {}, 0.0)
    assert {"TaskName", "EEGReference", "SamplingFrequency", "PowerLineFrequency", "SoftwareFilters"} <= set(sidecar)
    assert sidecar["SoftwareFilters"] == "n/a" and sidecar["EEGChannelCount"] == 3


def test_a_row_of_any_values_and_names_is_what_its_cells_say_one_by_one() -> None:
    """A percent sign in a name is no form, and a state that changes from row to row is written anew."""
    columns = tuple(BiomarkerColumn(f"share%s.{i}", f"{i}%", "%", 1.0) for i in range(6))
    written = tables.BiomarkerLines(columns)
    values = np.array([1 / 3, math.nan, -0.0, math.inf, 1e-12, 123456789.123])
    for grades in ([0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0], [2, 2, 2, 2, 2, 2]):
        row = replace(hop(1, 250, 1.0), columns=columns, values=values, grades=np.array(grades, dtype=np.uint8))
        lines = written.lines(1.0, row).splitlines()
        for column, value, grade, line in zip(columns, values, grades, lines, strict=True):
            known = math.isfinite(value) and grade != Grade.INVALID
            text, quality = (f"{value:.9g}", tables.QUALITY[Grade(grade)]) if known else (tables.NA, "invalid")
            assert line == f"1.000000\t{column.name}\t{column.channel}\t{text}\t%\t{quality}"
